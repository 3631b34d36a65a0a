//! The world as it was seen when a plan was asked for.

use serde::{Deserialize, Serialize};

use crate::id::{ReleaseNumber, Slot};
use crate::release::Releases;

/// What the agent saw of an app just before it planned.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Observed {
    /// The releases the journal knows.
    pub releases: Releases,
    /// Every container on the host that is this app's.
    pub containers: Vec<ObservedContainer>,
}

/// One container of the app.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ObservedContainer {
    /// The engine's id of it.
    pub id: String,
    /// The release it runs.
    pub release: ReleaseNumber,
    /// The slot it is in.
    pub slot: Slot,
    /// Whether it could answer a request now.
    pub condition: Condition,
}

/// Whether a container could answer a request.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Condition {
    /// It runs and its health answer was good.
    Healthy,
    /// It runs and its health answer was bad or did not come.
    Unhealthy,
    /// It does not run.
    Stopped,
}

impl Observed {
    /// Whether some container of the release could answer now.
    pub fn is_healthy(&self, release: ReleaseNumber) -> bool {
        let mut of_release = self.containers.iter().filter(|c| c.release == release);
        of_release.any(|c| c.condition == Condition::Healthy)
    }

    /// The slot that a release runs in.
    pub fn slot_of(&self, release: ReleaseNumber) -> Option<Slot> {
        let mut of_release = self.containers.iter().filter(|c| c.release == release);
        of_release.next().map(|c| c.slot)
    }

    /// Every release that has a container on the host, each once, lowest first.
    pub fn present(&self) -> Vec<ReleaseNumber> {
        let mut numbers: Vec<_> = self.containers.iter().map(|c| c.release).collect();
        numbers.sort_unstable();
        numbers.dedup();
        numbers
    }
}
