//! The targets of one release, and how they share its requests.

use std::collections::BTreeSet;
use std::net::SocketAddr;

use serde::{Deserialize, Serialize};

use super::ability::{Ability, Need};
use super::fault::{Faults, shown};
use super::health::ActiveHealth;

/// Targets of one pool.
pub(super) const MAX_TARGETS: usize = 100;

/// Bytes of the id of a target; names of containers are shorter.
const MAX_ID: usize = 200;

/// The targets of one release.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Pool {
    /// The containers of the release.
    pub targets: Vec<Target>,
    /// How they share its requests.
    #[serde(default, skip_serializing_if = "is_default")]
    pub balance: Balance,
    /// What is spoken to them.
    #[serde(default, skip_serializing_if = "is_default")]
    pub protocol: Protocol,
    /// How they are asked for their health; none asks nothing, and a target
    /// that refuses connections is passed over all the same.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub health: Option<ActiveHealth>,
}

/// One address that answers requests.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Target {
    /// The name it keeps through all tables, unique in its app.
    pub id: String,
    /// Where it listens.
    pub address: SocketAddr,
}

/// How the targets of a pool share its requests.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Balance {
    /// To the one with the fewest open requests, in turn among equals.
    #[default]
    LeastRequests,
    /// To each in turn.
    RoundRobin,
}

/// What is spoken to a target.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Protocol {
    /// HTTP/1.1.
    #[default]
    Http1,
    /// HTTP/2 without TLS, known beforehand.
    H2c,
}

/// Whether a part of the table says what it would mean left out.
pub(super) fn is_default<T: Default + PartialEq>(part: &T) -> bool {
    *part == T::default()
}

impl Pool {
    /// A pool of these targets, with nothing special about it.
    pub fn of(targets: Vec<Target>) -> Self {
        Self {
            targets,
            ..Self::default()
        }
    }

    /// `ids` are those of the app's pools before this one.
    pub(super) fn check<'a>(
        &'a self,
        place: &str,
        ids: &mut BTreeSet<&'a str>,
        faults: &mut Faults,
    ) {
        faults.at_most(place, "targets", self.targets.len(), MAX_TARGETS);
        for target in &self.targets {
            let id = target.id.as_str();
            if id.is_empty() || id.len() > MAX_ID || !ids.insert(id) {
                let id = shown(id);
                let fault =
                    format!("the target id {id:?} is empty, used twice or over {MAX_ID} bytes");
                faults.add(place, fault);
            }
            if target.address.port() == 0 || target.address.ip().is_unspecified() {
                let fault = format!("{} is no address to connect to", target.address);
                faults.add(place, fault);
            }
        }
        if let Some(health) = &self.health {
            health.check(&format!("{place}.health"), faults);
        }
    }

    pub(super) fn needs(&self, place: &str, need: &mut Need<'_>) {
        let in_turn = self.balance == Balance::RoundRobin;
        need(in_turn, Ability::RoundRobin, &format!("{place}.balance"));
        let h2c = self.protocol == Protocol::H2c;
        need(h2c, Ability::H2c, &format!("{place}.protocol"));
        let health = self.health.is_some();
        need(health, Ability::ActiveHealth, &format!("{place}.health"));
    }
}
