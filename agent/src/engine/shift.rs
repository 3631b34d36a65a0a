//! Dividing users among releases, and stopping what they left.

use std::collections::BTreeSet;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use cutover_plan::event::{Failure, FailureClass, Finding};
use cutover_plan::id::{ReleaseNumber, Replica};
use cutover_plan::traffic::{Replicas, Traffic as Shares};
use cutover_wire::table::{Maintenance, Route, Split};

use super::route::{self, Parts};
use super::side;
use super::steps::{FIRST_PAUSE, Steps};
use crate::containers::{Container, Containers, HealthAnswer};
use crate::traffic::Traffic;

/// How long one try of the way back may take before another road is taken.
const BACK_PATIENCE: Duration = Duration::from_secs(5);

/// How long the release that users go back to may take to answer: most programs
/// start within it, and a bad release is not borne longer.
const READY_PATIENCE: Duration = Duration::from_secs(10);

impl<C: Containers, T: Traffic, R: Send + Sync + 'static> Steps<C, T, R> {
    /// Divides new requests by `to`. On the way back users are on a bad release,
    /// so whatever refuses is asked again until the deadline, and where the
    /// engine does not say what runs, the addresses in force are taken.
    pub(super) async fn shift(
        &self,
        to: &Shares,
        from: &Shares,
        back: bool,
    ) -> Result<Finding, Failure> {
        let left: BTreeSet<_> = from.releases();
        let left: BTreeSet<_> = left.difference(&to.releases()).copied().collect();
        if !back {
            return self.try_shift(to, &left).await;
        }
        // Whatever comes of it: the rest of the step's time is for the shift itself.
        let _ = tokio::time::timeout(READY_PATIENCE, self.await_answers(to)).await;
        let mut pause = FIRST_PAUSE;
        loop {
            let tried = tokio::time::timeout(BACK_PATIENCE, self.try_shift(to, &left)).await;
            let trouble = match tried {
                Ok(Ok(finding)) => return Ok(finding),
                Ok(Err(failure)) => failure.reason,
                Err(_) => "the engine or the proxy does not answer".to_owned(),
            };
            if let Some(to) = to.sole()
                && self.is_blind().await
                && let Ok(Some(finding)) =
                    tokio::time::timeout(BACK_PATIENCE, self.shift_to_known(to)).await
            {
                return Ok(finding);
            }
            self.pause(&mut pause, trouble).await;
        }
    }

    /// Nobody is better off at a release that does not answer yet, as when the engine
    /// has just started all containers anew: it gets a while to do so.
    async fn await_answers(&self, to: &Shares) {
        let check = self.spec.health.check();
        loop {
            let listed = self.drivers.containers.list(self.lease.app());
            let Ok(Ok(containers)) = tokio::time::timeout(BACK_PATIENCE, listed).await else {
                return;
            };
            let mut answering = BTreeSet::new();
            for container in containers.iter().filter(|one| to.reaches(one.release)) {
                if self.ask(container, &check).await == HealthAnswer::Good {
                    answering.insert(container.release);
                }
            }
            if answering == to.releases() {
                return;
            }
            tokio::time::sleep(FIRST_PAUSE).await;
        }
    }

    /// Whether the engine does not say what runs.
    async fn is_blind(&self) -> bool {
        let listed = self.drivers.containers.list(self.lease.app());
        let listed = tokio::time::timeout(BACK_PATIENCE, listed).await;
        !matches!(listed, Ok(Ok(_)))
    }

    /// Sends new requests to a release whose pool is in the table already.
    async fn shift_to_known(&self, to: ReleaseNumber) -> Option<Finding> {
        let pool = to.to_string();
        let change = |now: Option<&Route>| {
            let mut route = now?.clone();
            if route
                .pools
                .get(&pool)
                .is_some_and(|there| !there.targets.is_empty())
            {
                route.serving = Split::all_to(&pool);
                route.rules.clear();
                route.park = None;
            }
            Some(route)
        };
        let traffic = &*self.drivers.traffic;
        let put = route::put(&self.lease, traffic, change).await.ok()?;
        let table = traffic.table().await.ok()?;
        let route = table.apps.get(self.lease.app().as_str())?;
        let text = format!(
            "routing table {}, by the addresses in force",
            put.generation()
        );
        let goes_on = route.park.is_none() && route.serving.sole() == Some(&pool);
        goes_on.then_some(Finding::Note { text })
    }

    /// Divides new requests by `to`, and proves that each of these releases runs first.
    async fn try_shift(
        &self,
        to: &Shares,
        beside: &BTreeSet<ReleaseNumber>,
    ) -> Result<Finding, Failure> {
        let containers = match to.releases().is_empty() {
            true => Vec::new(),
            false => self.containers().await?,
        };
        let parts = Parts {
            spec: &self.spec,
            containers: &containers,
            to,
            beside,
        };
        if let Err(release) = parts.route(None) {
            let reason = format!("{release} has no running container to send requests to");
            let log = self.log_of(&containers, release).await;
            return Err(Failure::new(FailureClass::Release, reason).log(log));
        }
        let text = self
            .change_route(|now| parts.route(now).unwrap_or_else(|_| now.cloned()))
            .await?;
        Ok(Finding::Note { text })
    }

    /// Changes the app's part of the table; tells which one is in force.
    pub(super) async fn change_route(
        &self,
        change: impl Fn(Option<&Route>) -> Option<Route>,
    ) -> Result<String, Failure> {
        let traffic = &*self.drivers.traffic;
        let put = self
            .ask_traffic(|| route::put(&self.lease, traffic, &change))
            .await?;
        Ok(format!("routing table {}", put.generation()))
    }

    /// Stops containers. They must not serve: that is looked up in the proxy,
    /// not believed, and while the proxy does not answer nothing is stopped.
    pub(super) async fn retire(
        &self,
        release: ReleaseNumber,
        replicas: &Replicas,
        grace: Duration,
    ) -> Result<Finding, Failure> {
        let pool = release.to_string();
        let serves = AtomicBool::new(false);
        let without = |now: Option<&Route>| {
            // An older table may have said so.
            serves.store(false, Ordering::Relaxed);
            let mut route = now?.clone();
            // Whoever holds all requests sends none. The pool stays, because it is who
            // serves; its targets go: when they start again, they are elsewhere.
            let held = route.park.is_some() && route.is_served_by(&pool);
            // One that is closed to users is there for its preview alone.
            let open = route.maintenance == Maintenance::Off;
            let served = open && route.is_served_by(&pool) && !held;
            if let Some(left) = route.pools.get_mut(&pool) {
                let before = left.targets.len();
                left.targets.retain(|target| !names(replicas, &target.id));
                if served && left.targets.len() < before {
                    serves.store(true, Ordering::Relaxed);
                    return now.cloned();
                }
                if left.targets.is_empty() && !held {
                    route.pools.remove(&pool);
                }
            }
            if !route.pools.contains_key(&pool) {
                side::forget(&mut route, &pool);
            }
            (open || !route.pools.is_empty()).then_some(route)
        };
        self.change_route(without).await?;
        if serves.into_inner() {
            let reason = format!("{release} was not stopped: the proxy still sends requests to it");
            return Err(Failure::new(FailureClass::Host, reason));
        }
        let containers = self.containers().await?;
        let meant = |one: &&Container| one.release == release && replicas.contains(one.replica);
        let mut removed = 0;
        for container in containers.iter().filter(meant) {
            self.ask_containers(|| self.drivers.containers.remove(container, grace))
                .await?;
            removed += 1;
        }
        let text = match removed {
            0 => "no container was left".to_owned(),
            1 => "1 container removed".to_owned(),
            more => format!("{more} containers removed"),
        };
        Ok(Finding::Note { text })
    }
}

/// Whether a target of the table is one of these: a container's name ends in
/// its number.
fn names(replicas: &Replicas, target: &str) -> bool {
    let number = target.rsplit_once('-').and_then(|(_, n)| n.parse().ok());
    match number {
        Some(number) => replicas.contains(Replica(number)),
        None => *replicas == Replicas::All,
    }
}
