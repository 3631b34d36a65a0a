//! The coarse time of one worker: milliseconds since the process began.
//!
//! Deadlines of connections are compared with it once in each tick, so a
//! request sets a deadline by two stores and no timer. It does not measure
//! latencies: those are counted from a real clock.

use std::cell::Cell;
use std::time::{Duration, Instant};

/// How often the time moves on; no deadline is more exact than this.
pub(crate) const TICK: Duration = Duration::from_millis(50);

/// See the module.
#[derive(Debug)]
pub(crate) struct Clock {
    began: Instant,
    now: Cell<u64>,
}

impl Clock {
    /// A clock that counts from `began`, which all workers share.
    pub(crate) fn new(began: Instant) -> Self {
        Self {
            began,
            now: Cell::new(millis(began.elapsed())),
        }
    }

    /// The time of the last tick.
    pub(crate) fn now(&self) -> u64 {
        self.now.get()
    }

    /// Moves the time on.
    pub(crate) fn tick(&self) {
        self.now.set(millis(self.began.elapsed()));
    }
}

/// A duration in whole milliseconds, rounded up: a bound is never shorter than told.
pub(crate) fn millis(duration: Duration) -> u64 {
    u64::try_from(duration.as_nanos().div_ceil(1_000_000)).unwrap_or(u64::MAX)
}
