//! Requests that wait while an app has nobody to answer them.

use serde::{Deserialize, Serialize};

use super::fault::Faults;

/// Requests that may wait in one app.
const MAX_REQUESTS: u32 = 100_000;
/// Bytes of their bodies: a gibibyte, which a small host has.
const MAX_BYTES: u64 = 1 << 30;
/// Ten minutes; no client waits longer.
const MAX_AGE_MS: u64 = 600_000;

/// While it stands in the table, requests of the app are held. The table that
/// takes it away lets them go on. What is over a bound is refused with a 503.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Park {
    /// Requests that are held at once.
    pub max_requests: u32,
    /// Bytes of their bodies that are held at once, all requests together.
    pub max_bytes: u64,
    /// How long one is held.
    pub max_age_ms: u64,
}

impl Park {
    pub(super) fn check(&self, place: &str, faults: &mut Faults) {
        let at = |name: &str| format!("{place}.{name}");
        let requests = self.max_requests;
        faults.within(&at("max_requests"), requests, 1, MAX_REQUESTS);
        faults.within(&at("max_bytes"), self.max_bytes, 1, MAX_BYTES);
        faults.within(&at("max_age_ms"), self.max_age_ms, 1, MAX_AGE_MS);
    }
}
