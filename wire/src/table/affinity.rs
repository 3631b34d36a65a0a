//! Which client is sent to the same pool again.

use serde::{Deserialize, Serialize};

use super::fault::{Faults, is_token, shown};

/// A cookie lives from a second to a month: a deploy is over long before.
const TTL_MS: (u64, u64) = (1_000, 30 * 24 * 3600 * 1000);

/// How a client is known again, and what a new split means for it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Affinity {
    /// By what a client is known.
    pub by: Client,
    /// Who moves when the weights change.
    #[serde(default)]
    pub moves: Moves,
}

/// By what a client is known.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
pub enum Client {
    /// By a cookie that the proxy sets.
    Cookie {
        /// Its name.
        name: String,
        /// How long it lives.
        ttl_ms: u64,
    },
    /// By a header that the client or a proxy before us sends.
    Header {
        /// Its name, in lower case.
        name: String,
    },
    /// By its address.
    Address {},
}

/// Who follows a change of weights.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Moves {
    /// As many clients as the new weights ask for.
    #[default]
    Everybody,
    /// Clients that come for the first time; the others stay while their pool has targets.
    NewSessions,
}

impl Affinity {
    pub(super) fn check(&self, place: &str, faults: &mut Faults) {
        match &self.by {
            Client::Cookie { name, ttl_ms } => {
                if !is_token(name) {
                    faults.add(place, format!("{:?} is no name of a cookie", shown(name)));
                }
                let (least, most) = TTL_MS;
                faults.within(&format!("{place}.ttl_ms"), *ttl_ms, least, most);
            }
            Client::Header { name } => check_header(name, place, faults),
            Client::Address {} => {}
        }
        let remembers = matches!(self.by, Client::Cookie { .. });
        if self.moves == Moves::NewSessions && !remembers {
            let fault = "only a cookie tells a client that came before from a new one";
            faults.add(&format!("{place}.moves"), fault);
        }
    }
}

/// The name of a header as it stands in the table.
pub(super) fn check_header(name: &str, place: &str, faults: &mut Faults) {
    if !is_token(name) || name.bytes().any(|b| b.is_ascii_uppercase()) {
        let fault = format!("{:?} is no lower-case name of a header", shown(name));
        faults.add(place, fault);
    }
}
