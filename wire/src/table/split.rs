//! How the requests of an app are divided among its pools.
//!
//! In JSON a split is the name of the pool that gets everything, or the weight
//! of each pool: `"v1"`, or `{"v1": 9500, "v2": 500}`. The first is how tables
//! were written before there were weights.

use std::collections::BTreeMap;

use cutover_plan::spec::Weight;
use serde::{Deserialize, Deserializer, Serialize, Serializer};

use super::fault::{Faults, shown};

/// The sum of the weights of a split: a weight is in hundredths of a percent,
/// so a thousandth of the requests can be told apart from none.
pub const WHOLE: u16 = Weight::FULL.0;

/// The weight of each pool that gets a share; they add up to [`WHOLE`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Split(BTreeMap<String, Weight>);

impl Split {
    /// Everything to one pool.
    pub fn all_to(pool: impl Into<String>) -> Self {
        Self(BTreeMap::from([(pool.into(), Weight::FULL)]))
    }

    /// These weights, which [`super::Table::problems`] checks.
    pub fn of(weights: BTreeMap<String, Weight>) -> Self {
        Self(weights)
    }

    /// The pool that gets everything, if one does.
    pub fn sole(&self) -> Option<&str> {
        let (pool, weight) = self.0.first_key_value()?;
        (self.0.len() == 1 && *weight == Weight::FULL).then_some(pool)
    }

    /// The pools and their weights, by name.
    pub fn weights(&self) -> impl Iterator<Item = (&str, Weight)> {
        self.0.iter().map(|(pool, weight)| (pool.as_str(), *weight))
    }

    /// Whether the pool has a share.
    pub fn gives_to(&self, pool: &str) -> bool {
        self.0.get(pool).is_some_and(|weight| weight.0 > 0)
    }

    pub(super) fn check(&self, place: &str, faults: &mut Faults) {
        for (pool, weight) in self.weights() {
            if weight.0 == 0 {
                let fault = format!("the pool {} has a weight of 0: leave it out", shown(pool));
                faults.add(place, fault);
            }
        }
        let sum: u64 = self.weights().map(|(_, weight)| u64::from(weight.0)).sum();
        if sum != u64::from(WHOLE) {
            faults.add(place, format!("the weights add up to {sum}, not {WHOLE}"));
        }
    }
}

impl Serialize for Split {
    fn serialize<S: Serializer>(&self, to: S) -> Result<S::Ok, S::Error> {
        match self.sole() {
            Some(pool) => to.serialize_str(pool),
            None => self.0.serialize(to),
        }
    }
}

impl<'de> Deserialize<'de> for Split {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        #[derive(Deserialize)]
        #[serde(untagged)]
        enum Form {
            Sole(String),
            Weights(BTreeMap<String, Weight>),
        }
        Ok(match Form::deserialize(from)? {
            Form::Sole(pool) => Self::all_to(pool),
            Form::Weights(weights) => Self(weights),
        })
    }
}
