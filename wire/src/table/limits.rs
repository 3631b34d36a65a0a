//! The bounds of one request of an app.

use serde::{Deserialize, Serialize};

use super::fault::Faults;

/// The longest timeout: a day, like the longest drain. What stands still
/// longer has been forgotten.
pub(super) const MAX_TIMEOUT_MS: u64 = 24 * 3600 * 1000;

/// The bounds of one request.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Limits {
    /// How long a connection to a target may take, all tries together.
    pub connect_ms: u64,
    /// How long a target may take from the whole request to the head of its answer.
    pub response_ms: u64,
    /// How long a body or tunnel may stand still in both directions.
    pub idle_ms: u64,
    /// The largest request body in bytes; none means no bound.
    pub max_body: Option<u64>,
}

impl Default for Limits {
    /// A minute is what browsers and load balancers wait; idle streams get an
    /// hour, because server-sent events and WebSockets are silent for long.
    fn default() -> Self {
        Self {
            connect_ms: 5_000,
            response_ms: 60_000,
            idle_ms: 3_600_000,
            max_body: None,
        }
    }
}

impl Limits {
    pub(super) fn check(&self, place: &str, faults: &mut Faults) {
        let timeouts = [
            ("connect_ms", self.connect_ms),
            ("response_ms", self.response_ms),
            ("idle_ms", self.idle_ms),
        ];
        for (name, millis) in timeouts {
            let place = format!("{place}.{name}");
            if millis == 0 {
                faults.add(&place, "a timeout of 0 refuses every request");
            } else {
                faults.within(&place, millis, 1, MAX_TIMEOUT_MS);
            }
        }
    }
}
