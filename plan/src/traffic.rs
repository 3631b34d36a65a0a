//! Who gets the new requests of an app.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

use serde::{Deserialize, Serialize};

use crate::id::{ReleaseNumber, Replica};
use crate::spec::Weight;

/// Who gets the new requests of an app: the shares of its releases. Weights
/// sum to the whole, or there is no share and nobody gets any.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Traffic {
    /// What each release gets.
    #[serde(with = "listed_shares")]
    pub shares: BTreeMap<ReleaseNumber, Share>,
    /// The release that the app's rules send their clients to, whatever the weights.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub chosen: Option<ReleaseNumber>,
}

/// What one release gets.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Share {
    /// How much.
    pub weight: Weight,
    /// The containers that get it.
    pub replicas: Replicas,
}

/// Containers of one release.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Replicas {
    /// Whatever there is of it.
    All,
    /// These.
    Only(BTreeSet<Replica>),
}

impl Replicas {
    /// The first so many.
    pub fn first(count: u16) -> Self {
        Self::Only((0..count).map(Replica).collect())
    }

    /// Whether a replica is among them.
    pub fn contains(&self, replica: Replica) -> bool {
        match self {
            Self::All => true,
            Self::Only(these) => these.contains(&replica),
        }
    }

    /// For a sentence about `release`: `v2`, or `v2 (replicas 0 and 1)`.
    pub fn of(&self, release: ReleaseNumber) -> String {
        match self {
            Self::All => release.to_string(),
            Self::Only(these) => match these.len() {
                1 if these.contains(&Replica(0)) => release.to_string(),
                1 => format!("{release} (replica {})", listed(these)),
                _ => format!("{release} (replicas {})", listed(these)),
            },
        }
    }
}

fn listed(these: &BTreeSet<Replica>) -> String {
    let words: Vec<_> = these.iter().map(ToString::to_string).collect();
    words.join(", ")
}

impl Traffic {
    /// Nobody gets requests: the app has no route.
    pub fn none() -> Self {
        Self::default()
    }

    /// All requests to all that there is of one release.
    pub fn all_to(release: ReleaseNumber) -> Self {
        Self::of([(release, Weight::FULL, Replicas::All)])
    }

    /// The shares of two releases, of which `new` has `weight`.
    pub fn split(old: ReleaseNumber, new: ReleaseNumber, weight: Weight) -> Self {
        Self::of([
            (old, weight.rest(), Replicas::All),
            (new, weight, Replicas::All),
        ])
    }

    /// These shares; a release without weight has none.
    pub fn of(shares: impl IntoIterator<Item = (ReleaseNumber, Weight, Replicas)>) -> Self {
        let shares = shares.into_iter().filter(|(_, weight, _)| weight.0 > 0);
        Self {
            shares: shares
                .map(|(release, weight, replicas)| (release, Share { weight, replicas }))
                .collect(),
            chosen: None,
        }
    }

    /// The same, with the clients of the app's rules at `release`.
    #[must_use]
    pub fn with_chosen(mut self, release: ReleaseNumber) -> Self {
        self.chosen = Some(release);
        self
    }

    /// The release that has all requests.
    pub fn sole(&self) -> Option<ReleaseNumber> {
        match (self.chosen, self.shares.len()) {
            (None, 1) => self.shares.keys().next().copied(),
            _ => None,
        }
    }

    /// Whether some client can get to a release.
    pub fn reaches(&self, release: ReleaseNumber) -> bool {
        self.shares.contains_key(&release) || self.chosen == Some(release)
    }

    /// Every release that some client can get to.
    pub fn releases(&self) -> BTreeSet<ReleaseNumber> {
        self.shares.keys().copied().chain(self.chosen).collect()
    }

    /// How much a release gets.
    pub fn weight_of(&self, release: ReleaseNumber) -> Weight {
        self.shares
            .get(&release)
            .map_or(Weight(0), |share| share.weight)
    }

    /// Whether a container gets requests.
    pub fn includes(&self, release: ReleaseNumber, replica: Replica) -> bool {
        match self.shares.get(&release) {
            Some(share) => share.replicas.contains(replica),
            None => self.chosen == Some(release),
        }
    }

    /// Whether the same releases have the same shares, whichever their containers.
    pub fn is_as(&self, other: &Self) -> bool {
        let weights = |all: &Self| -> Vec<_> {
            let shares = all.shares.iter();
            shares
                .map(|(release, share)| (*release, share.weight))
                .collect()
        };
        self.chosen == other.chosen && weights(self) == weights(other)
    }

    /// Whether the weights are whole: they sum to all, or there is none.
    pub fn is_whole(&self) -> bool {
        let sum: u32 = self
            .shares
            .values()
            .map(|share| u32::from(share.weight.0))
            .sum();
        sum == u32::from(Weight::FULL.0) || (self.shares.is_empty() && self.chosen.is_none())
    }
}

/// A list, because the keys of a map are texts in JSON, and a number that was
/// written as a text is not read back everywhere.
mod listed_shares {
    use std::collections::BTreeMap;

    use serde::{Deserialize, Deserializer, Serialize, Serializer};

    use super::Share;
    use crate::id::ReleaseNumber;

    #[derive(Serialize, Deserialize)]
    struct Listed<S> {
        release: ReleaseNumber,
        #[serde(flatten)]
        share: S,
    }

    pub(super) fn serialize<S: Serializer>(
        shares: &BTreeMap<ReleaseNumber, Share>,
        to: S,
    ) -> Result<S::Ok, S::Error> {
        to.collect_seq(shares.iter().map(|(release, share)| Listed {
            release: *release,
            share,
        }))
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(
        from: D,
    ) -> Result<BTreeMap<ReleaseNumber, Share>, D::Error> {
        let listed = Vec::<Listed<Share>>::deserialize(from)?;
        let pair = |one: Listed<Share>| (one.release, one.share);
        Ok(listed.into_iter().map(pair).collect())
    }
}

impl fmt::Display for Traffic {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Some(release) = self.sole() {
            return write!(f, "{release}");
        }
        if self.shares.is_empty() && self.chosen.is_none() {
            return f.write_str("nobody");
        }
        let share = |(release, share): (&ReleaseNumber, &Share)| {
            format!("{} to {}", share.weight, share.replicas.of(*release))
        };
        let mut words: Vec<_> = self.shares.iter().map(share).collect();
        if let Some(release) = self.chosen {
            words.push(format!("clients of the rules to {release}"));
        }
        f.write_str(&words.join(", "))
    }
}
