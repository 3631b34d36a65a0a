//! Looking at the world before a plan is made.

use std::collections::BTreeMap;

use cutover_plan::event::{Failure, FailureClass};
use cutover_plan::id::ReleaseNumber;
use cutover_plan::observed::{Condition, Observed, ObservedContainer};
use cutover_plan::release::{KnownRelease, Release, Releases, Standing};
use cutover_plan::spec::AppSpec;

use super::Engine;
use crate::containers::{Container, ContainerState, Containers, HealthAnswer};
use crate::journal::Record;
use crate::traffic::Traffic;

impl<C: Containers, T: Traffic, R: Record> Engine<C, T, R> {
    /// Everything a plan depends on.
    pub(super) async fn observe(&self) -> Result<Observed, Failure> {
        let listed = self.drivers.containers.list(self.lease.app()).await;
        let listed = listed.map_err(|error| {
            let failure = Failure::new(FailureClass::Host, error.reason);
            match error.hint {
                Some(hint) => failure.hint(hint),
                None => failure,
            }
        })?;
        let mut containers = Vec::new();
        for container in listed {
            let condition = self.condition(&container).await;
            containers.push(ObservedContainer {
                id: container.id,
                release: container.release,
                slot: container.slot,
                condition,
            });
        }
        Ok(Observed {
            releases: self.releases.clone(),
            containers,
        })
    }

    async fn condition(&self, container: &Container) -> Condition {
        if !matches!(container.state, ContainerState::Running { .. }) {
            return Condition::Stopped;
        }
        let health = &self.spec.health;
        let host = host_of(&self.spec);
        let containers = &self.drivers.containers;
        match containers
            .ask(container, &health.path, host, health.timeout)
            .await
        {
            Ok(HealthAnswer::Good) => Condition::Healthy,
            Ok(HealthAnswer::Bad(_)) | Err(_) => Condition::Unhealthy,
        }
    }

    /// Where the journal is new but the app is live (it was lost, or moved
    /// aside because it was damaged), learns from the proxy and the labels of
    /// the containers what serves, so that the next deploy takes over from it.
    pub(super) async fn adopt(&mut self) {
        if self.releases.last.is_some() {
            return;
        }
        let app = self.lease.app();
        let Ok(table) = self.drivers.traffic.table().await else {
            return;
        };
        let Ok(containers) = self.drivers.containers.list(app).await else {
            return;
        };
        let route = table.apps.get(app.as_str());
        let serving = containers.iter().find(|container| {
            route.is_some_and(|route| route.serving == container.release.to_string())
        });
        let Some(serving) = serving.map(|container| container.release) else {
            return;
        };
        tracing::warn!(%app, %serving, "the journal is new, but the app is live: going on from it");
        self.releases = adopted(&containers, serving);
    }
}

fn adopted(containers: &[Container], serving: ReleaseNumber) -> Releases {
    let known: BTreeMap<_, _> = containers
        .iter()
        .map(|container| {
            let release = Release {
                number: container.release,
                image: container.image.clone(),
                // Unknown: the next deploy is a new release in any case.
                fingerprint: String::new(),
                commit: None,
            };
            (
                container.release,
                KnownRelease {
                    release,
                    standing: Standing::Unproven,
                },
            )
        })
        .collect();
    let last = known.keys().last().copied();
    Releases {
        known,
        last,
        serving: Some(serving),
        standby: None,
    }
}

/// The host that health questions and front-door probes ask for.
pub(super) fn host_of(spec: &AppSpec) -> &str {
    let named = spec
        .domains
        .iter()
        .find(|domain| *domain != cutover_wire::table::ANY_HOST);
    named.map_or("localhost", String::as_str)
}
