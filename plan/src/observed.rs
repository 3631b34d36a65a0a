//! The world as it was seen when a plan was asked for. It may have changed
//! since, and parts of it may not have been seen at all: the steps look again.

use std::collections::BTreeSet;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::id::{ReleaseNumber, Replica, Slot};
use crate::release::Releases;
use crate::spec::Bytes;
use crate::traffic::Traffic;

/// What the agent saw of an app just before it planned.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Observed {
    /// The releases the journal knows.
    pub releases: Releases,
    /// Every container on the host that is this app's.
    pub containers: Vec<ObservedContainer>,
    /// Who gets requests by the proxy's table; none where it did not answer.
    pub traffic: Option<Traffic>,
    /// Free disk where the engine keeps images; none where it is not known.
    pub disk: Option<Bytes>,
    /// Free memory of the host; none where it is not known.
    pub memory: Option<Bytes>,
    /// How long ago it was seen.
    pub age: Duration,
}

/// The age from which a plan says that it was made of an old look.
pub const STALE: Duration = Duration::from_secs(30);

/// One container of the app.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ObservedContainer {
    /// The engine's id of it.
    pub id: String,
    /// The release it runs.
    pub release: ReleaseNumber,
    /// Which of the release's containers it is.
    pub replica: Replica,
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

    /// Whether some container of the release runs, well or not.
    pub fn runs(&self, release: ReleaseNumber) -> bool {
        let mut of_release = self.containers.iter().filter(|c| c.release == release);
        of_release.any(|c| c.condition != Condition::Stopped)
    }

    /// The slot that a release runs in.
    pub fn slot_of(&self, release: ReleaseNumber) -> Option<Slot> {
        let mut of_release = self.containers.iter().filter(|c| c.release == release);
        of_release.next().map(|c| c.slot)
    }

    /// The containers of a release, by number.
    pub fn replicas_of(&self, release: ReleaseNumber) -> BTreeSet<Replica> {
        let of_release = self.containers.iter().filter(|c| c.release == release);
        of_release.map(|c| c.replica).collect()
    }

    /// The containers of a release that could answer now, by number.
    pub fn healthy_replicas_of(&self, release: ReleaseNumber) -> BTreeSet<Replica> {
        let mut all = self.replicas_of(release);
        all.retain(|replica| {
            let mut these = self.containers.iter();
            these.any(|c| {
                (c.release, c.replica) == (release, *replica) && c.condition == Condition::Healthy
            })
        });
        all
    }

    /// The same without the containers of the release that serves to which no user
    /// gets, and these: a change of their number that failed left them behind. They
    /// are no part of the release, whatever they answer, and go first.
    pub fn without_idle(&self) -> (Self, BTreeSet<Replica>) {
        let traffic = &self.releases.traffic;
        let is_idle = |one: &ObservedContainer| {
            traffic.sole() == Some(one.release) && !traffic.includes(one.release, one.replica)
        };
        let mut seen = self.clone();
        let idle = seen.containers.extract_if(.., |one| is_idle(one));
        let idle = idle.map(|one| one.replica).collect();
        (seen, idle)
    }

    /// Every release that has a container on the host, each once, lowest first.
    pub fn present(&self) -> Vec<ReleaseNumber> {
        let mut numbers: Vec<_> = self.containers.iter().map(|c| c.release).collect();
        numbers.sort_unstable();
        numbers.dedup();
        numbers
    }
}
