//! Moving users from one release to another, and stopping what they left.

use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use cutover_plan::ability::Ability;
use cutover_plan::event::{Failure, FailureClass, Finding};
use cutover_plan::id::{ReleaseNumber, Replica};
use cutover_plan::traffic::{Replicas, Traffic as Shares};
use cutover_wire::table::{Route, Split};

use super::route;
use super::steps::{FIRST_PAUSE, Steps, beyond};
use crate::containers::{Container, Containers};
use crate::traffic::Traffic;

/// How long one try of the way back may take before another road is taken.
const BACK_PATIENCE: Duration = Duration::from_secs(5);

impl<C: Containers, T: Traffic, R: Send + Sync + 'static> Steps<C, T, R> {
    /// Sends new requests to `to`. On the way back users are on a bad release,
    /// so whatever refuses is asked again until the deadline, and where the
    /// engine does not say what runs, the addresses in force are taken.
    pub(super) async fn shift(
        &self,
        to: &Shares,
        from: &Shares,
        back: bool,
    ) -> Result<Finding, Failure> {
        let sole = match to.sole() {
            // The table has one pool that gets requests, with all of its containers.
            Some(sole) if *to == Shares::all_to(sole) => Some(sole),
            None if *to == Shares::none() => None,
            Some(_) | None => return Err(beyond(Ability::Weights)),
        };
        let left = from.releases().into_iter().find(|one| Some(*one) != sole);
        if !back {
            return self.try_shift(sole, left).await;
        }
        let mut pause = FIRST_PAUSE;
        loop {
            let tried = tokio::time::timeout(BACK_PATIENCE, self.try_shift(sole, left)).await;
            let trouble = match tried {
                Ok(Ok(finding)) => return Ok(finding),
                Ok(Err(failure)) => failure.reason,
                Err(_) => "the engine or the proxy does not answer".to_owned(),
            };
            if let Some(to) = sole
                && let Ok(Some(finding)) =
                    tokio::time::timeout(BACK_PATIENCE, self.shift_to_known(to)).await
            {
                return Ok(finding);
            }
            self.pause(&mut pause, trouble).await;
        }
    }

    /// Sends new requests to a release whose pool is in the table already.
    async fn shift_to_known(&self, to: ReleaseNumber) -> Option<Finding> {
        let pool = to.to_string();
        let change = |now: Option<&Route>| {
            let mut route = now?.clone();
            if route.pools.contains_key(&pool) {
                route.serving = Split::all_to(&pool);
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
        (route.serving.sole() == Some(&pool)).then_some(Finding::Note { text })
    }

    /// Sends new requests to `to`, and proves that it runs first.
    async fn try_shift(
        &self,
        to: Option<ReleaseNumber>,
        from: Option<ReleaseNumber>,
    ) -> Result<Finding, Failure> {
        let wanted = match to {
            None => None,
            Some(to) => {
                let containers = self.containers().await?;
                let Some(route) = route::route(&self.spec, &containers, to, from) else {
                    let reason = format!("{to} has no running container to send requests to");
                    let log = self.log_of(&containers, to).await;
                    return Err(Failure::new(FailureClass::Release, reason).log(log));
                };
                Some(route)
            }
        };
        let traffic = &*self.drivers.traffic;
        let put = self
            .ask_traffic(|| route::put(&self.lease, traffic, |_| wanted.clone()))
            .await?;
        let text = format!("routing table {}", put.generation());
        Ok(Finding::Note { text })
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
            let mut route = now?.clone();
            let served = route.is_served_by(&pool);
            if let Some(left) = route.pools.get_mut(&pool) {
                let before = left.targets.len();
                left.targets.retain(|target| !names(replicas, &target.id));
                if served && left.targets.len() < before {
                    serves.store(true, Ordering::Relaxed);
                    return now.cloned();
                }
                if left.targets.is_empty() {
                    route.pools.remove(&pool);
                }
            }
            Some(route)
        };
        let traffic = &*self.drivers.traffic;
        self.ask_traffic(|| route::put(&self.lease, traffic, without))
            .await?;
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
