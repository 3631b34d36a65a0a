//! The bounds of client connections, before it is known which app they are for.

use serde::{Deserialize, Serialize};

use super::ability::{Ability, Need};
use super::fault::Faults;
use super::limits::MAX_TIMEOUT_MS;

/// The most connections that one address may be given: more than a proxy takes in all.
const MAX_PER_ADDRESS: u32 = 1_000_000;

/// The bounds of client connections. They stand beside the routes and not in
/// them: which app a request is for is known when its head is whole.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Connections {
    /// How long a client may take for the head of a request; none leaves it to
    /// the proxy's own option.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub head_ms: Option<u64>,
    /// How many connections one address may have; none means no bound.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub per_address: Option<u32>,
}

impl Connections {
    /// Whether nothing is bounded here.
    pub(super) fn is_default(&self) -> bool {
        *self == Self::default()
    }

    pub(super) fn check(&self, faults: &mut Faults) {
        if let Some(millis) = self.head_ms {
            faults.within("connections.head_ms", millis, 1, MAX_TIMEOUT_MS);
        }
        if let Some(count) = self.per_address {
            faults.within("connections.per_address", count, 1, MAX_PER_ADDRESS);
        }
    }

    pub(super) fn needs(&self, need: &mut Need<'_>) {
        let head = self.head_ms.is_some();
        need(head, Ability::HeadTimeout, "connections.head_ms");
        let cap = self.per_address.is_some();
        need(cap, Ability::ConnectionCap, "connections.per_address");
    }
}
