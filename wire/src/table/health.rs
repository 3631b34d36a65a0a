//! Questions that the proxy itself asks targets, so that it passes over a sick one.
//!
//! It is no gate: which release may serve is decided before it is in the table.

use serde::{Deserialize, Serialize};

use super::fault::Faults;
use super::route::check_path;

/// Not more often than ten times a second, not more rarely than each hour.
const INTERVAL_MS: (u64, u64) = (100, 3_600_000);
/// Answers in a row before a target is taken for well or sick.
const MAX_IN_A_ROW: u32 = 100;

/// How the targets of a pool are asked whether they are well.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ActiveHealth {
    /// The path of the question; an answer of 200 to 399 is a good one.
    pub path: String,
    /// From one question to the next.
    pub interval_ms: u64,
    /// How long an answer may take; not longer than the interval.
    pub timeout_ms: u64,
    /// Good answers in a row that make a sick target well.
    pub healthy_after: u32,
    /// Bad answers in a row that make a well target sick.
    pub unhealthy_after: u32,
}

impl ActiveHealth {
    pub(super) fn check(&self, place: &str, faults: &mut Faults) {
        check_path(&self.path, &format!("{place}.path"), faults);
        let (least, most) = INTERVAL_MS;
        let at = |name: &str| format!("{place}.{name}");
        faults.within(&at("interval_ms"), self.interval_ms, least, most);
        let most = self.interval_ms.max(1);
        faults.within(&at("timeout_ms"), self.timeout_ms, 1, most);
        let (well, sick) = (self.healthy_after, self.unhealthy_after);
        faults.within(&at("healthy_after"), well, 1, MAX_IN_A_ROW);
        faults.within(&at("unhealthy_after"), sick, 1, MAX_IN_A_ROW);
    }
}
