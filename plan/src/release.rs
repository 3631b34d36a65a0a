//! Releases of an app, and what is known of them: the fold of its deploys.

use std::collections::BTreeMap;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use crate::id::{ImageReference, ReleaseNumber};
use crate::traffic::Traffic;

/// What a release is: an image and the run spec it was started with.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Release {
    /// Its number.
    pub number: ReleaseNumber,
    /// Its image.
    pub image: ImageReference,
    /// A digest of everything else that its containers were given. Two releases
    /// of the same image and fingerprint are the same program.
    pub fingerprint: String,
    /// The commit it was built of, as the call told: where its deployment is shown.
    pub commit: Option<String>,
}

/// What its time in service showed of a release.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Standing {
    /// It has not been watched to the end.
    Unproven,
    /// It was watched to the end and was good: a rollback may go to it.
    Proven,
    /// It was taken back, by the watch or by a person: no rollback goes to it.
    Rejected,
}

/// A release with what is known of it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct KnownRelease {
    /// What it is.
    pub release: Release,
    /// What its time in service showed.
    pub standing: Standing,
}

/// The releases of an app and which of them has the traffic.
///
/// Folded from the events of its deploys, see [`crate::history`].
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Releases {
    /// Every release that is remembered, by number.
    pub known: BTreeMap<ReleaseNumber, KnownRelease>,
    /// The highest number ever given.
    pub last: Option<ReleaseNumber>,
    /// The release that serves: the one that all new requests go to, or where
    /// they are split, the one that had them before.
    pub serving: Option<ReleaseNumber>,
    /// Who gets new requests.
    #[serde(default)]
    pub traffic: Traffic,
    /// The release that is kept warm beside it.
    pub standby: Option<ReleaseNumber>,
    /// Until when it is; none is until the next deploy needs its place.
    #[serde(default)]
    pub standby_until: Option<Timestamp>,
}

/// How many releases an app remembers: the history a person scrolls through.
pub const MAX_KNOWN: usize = 50;

impl Releases {
    /// The number that the next new release gets.
    pub fn next_number(&self) -> ReleaseNumber {
        self.last.unwrap_or(ReleaseNumber(0)).next()
    }

    /// A release by its number.
    pub fn find(&self, number: ReleaseNumber) -> Option<&KnownRelease> {
        self.known.get(&number)
    }

    /// The release that a rollback goes to: the newest proven one before the
    /// serving one. Going by number is what keeps a rollback from being rolled
    /// back: the release that was left has a higher number.
    pub fn rollback_target(&self) -> Option<&Release> {
        let serving = self.serving?;
        let older = self.known.range(..serving).rev();
        let mut proven = older.filter(|(_, known)| known.standing == Standing::Proven);
        proven.next().map(|(_, known)| &known.release)
    }

    pub(crate) fn learn(&mut self, release: &Release) {
        self.last = self.last.max(Some(release.number));
        self.known
            .entry(release.number)
            .or_insert_with(|| KnownRelease {
                release: release.clone(),
                standing: Standing::Unproven,
            });
        while self.known.len() > MAX_KNOWN {
            // Also the one that a rollback goes to: many deploys that failed
            // since must not make it forgotten.
            let needed = [
                self.serving,
                self.standby,
                Some(release.number),
                self.rollback_target().map(|target| target.number),
            ];
            let oldest = self
                .known
                .keys()
                .find(|number| !needed.contains(&Some(**number)));
            match oldest.copied() {
                Some(number) => self.known.remove(&number),
                None => break,
            };
        }
    }

    pub(crate) fn judge(&mut self, number: ReleaseNumber, standing: Standing) {
        if let Some(known) = self.known.get_mut(&number) {
            known.standing = standing;
        }
    }
}
