//! Looking at the world before a plan is made.

use std::time::Duration;

use cutover_plan::event::{Failure, FailureClass};
use cutover_plan::history;
use cutover_plan::id::ReleaseNumber;
use cutover_plan::observed::{Condition, Observed, ObservedContainer};
use cutover_plan::release::{KnownRelease, Release, Releases, Standing};
use cutover_plan::spec::AppSpec;
use cutover_plan::traffic::Traffic as Shares;

use tokio::time::Instant;

use super::steps::failure_of;
use super::{Engine, Look, route};
use crate::containers::{
    Container, ContainerError, ContainerErrorKind, ContainerState, Containers, HealthAnswer,
};
use crate::journal::Record;
use crate::traffic::Traffic;

/// Questions that a container may leave unanswered before it counts as broken:
/// whether there is a way back to it hangs on this.
const QUESTIONS: u32 = 3;
/// The longest pause between two of them.
const LONGEST_PAUSE: Duration = Duration::from_secs(1);

impl<C: Containers, T: Traffic, R: Record> Look<C, T, R> {
    /// Everything a plan depends on.
    pub(super) async fn observe(&self, patience: Duration) -> Result<Observed, Failure> {
        let listed = self.list(patience).await.map_err(failure_of)?;
        let mut containers = Vec::new();
        for container in listed {
            let condition = self.condition(&container).await;
            containers.push(ObservedContainer {
                id: container.id,
                release: container.release,
                replica: container.replica,
                slot: container.slot,
                condition,
            });
        }
        let table = self.drivers.traffic.table().await.ok();
        let traffic = table.and_then(|table| route::traffic(table.apps.get(self.app.as_str())));
        // The table does not tell some containers of a release from all of them.
        let known = &self.releases.traffic;
        let traffic = traffic.map(|told| match told.is_as(known) {
            true => known.clone(),
            false => told,
        });
        // What is not known stands in no plan's way: preflight looks again.
        let room = self.drivers.containers.room().await.unwrap_or_default();
        Ok(Observed {
            releases: self.releases.clone(),
            containers,
            traffic,
            disk: room.disk,
            memory: room.memory,
            age: Duration::ZERO,
        })
    }

    /// An engine that is being restarted is asked again for a while.
    async fn list(&self, patience: Duration) -> Result<Vec<Container>, ContainerError> {
        let begun = Instant::now();
        loop {
            match self.drivers.containers.list(&self.app).await {
                Err(error)
                    if error.kind == ContainerErrorKind::Unavailable
                        && begun.elapsed() < patience =>
                {
                    tokio::time::sleep(LONGEST_PAUSE).await;
                }
                listed => return listed,
            }
        }
    }

    pub(super) async fn condition(&self, container: &Container) -> Condition {
        if !matches!(container.state, ContainerState::Running { .. }) {
            return Condition::Stopped;
        }
        let check = self.spec.health.check();
        let host = host_of(&self.spec);
        let containers = &self.drivers.containers;
        for question in 1..=QUESTIONS {
            let asked = containers.ask(container, &check, host);
            if matches!(asked.await, Ok(HealthAnswer::Good)) {
                return Condition::Healthy;
            }
            if question < QUESTIONS {
                tokio::time::sleep(check.interval.min(LONGEST_PAUSE)).await;
            }
        }
        Condition::Unhealthy
    }
}

impl<C: Containers, T: Traffic, R: Record> Engine<C, T, R> {
    /// Where the journal knows of no release that serves, but the app is live
    /// (the journal was lost, or moved aside because it was damaged; or a first
    /// shift was done and not heard of), learns from the proxy and the labels
    /// of the containers what serves, so that the next deploy takes over from it.
    pub(super) async fn adopt(&mut self) -> Result<(), Failure> {
        if self.releases.serving.is_some() {
            return Ok(());
        }
        let app = self.lease.app();
        let table = self.drivers.traffic.table().await.map_err(|error| {
            Failure::new(FailureClass::Host, error.to_string())
                .hint("see that cutover-proxy runs on the host, then deploy again")
        })?;
        let Some(route) = table.apps.get(app.as_str()) else {
            return Ok(());
        };
        let containers = self.drivers.containers.list(app).await;
        let containers = containers.map_err(failure_of)?;
        let Some(traffic) = route::traffic(Some(route)) else {
            return Ok(());
        };
        let runs = |release: &ReleaseNumber| containers.iter().any(|one| one.release == *release);
        if traffic.releases().is_empty() || !traffic.releases().iter().all(runs) {
            return Ok(());
        }
        tracing::warn!(%app, %traffic, "the journal knows of no release, but the app is live: going on from it");
        adopt(&mut self.releases, &containers, traffic);
        Ok(())
    }
}

fn adopt(releases: &mut Releases, containers: &[Container], traffic: Shares) {
    for container in containers {
        let number = container.release;
        releases
            .known
            .entry(number)
            .or_insert_with(|| KnownRelease {
                release: Release {
                    number,
                    image: container.image.clone(),
                    // Unknown: the next deploy is a new release in any case.
                    fingerprint: String::new(),
                    commit: None,
                },
                standing: Standing::Unproven,
            });
        releases.last = releases.last.max(Some(number));
    }
    history::shifted(releases, &traffic);
}

/// The host that health questions and front-door probes ask for.
pub(super) fn host_of(spec: &AppSpec) -> &str {
    let named = spec
        .domains
        .iter()
        .find(|domain| *domain != cutover_wire::table::ANY_HOST);
    named.map_or("localhost", String::as_str)
}
