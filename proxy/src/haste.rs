//! Whether a client is too slow to be waited for.
//!
//! A body has a reserve of time. It runs down only while the client holds the
//! body up, and each byte that moves fills it up a little: a client that keeps
//! the lowest rate never runs out, one that stands still or trickles does. Time
//! in which the target holds the body up costs the client nothing.
//!
//! What a client takes of an answer is seen when the kernel has room for more, some
//! tens of kilobytes at once (see `socket`), and each time the reserve is filled at
//! most. So the rate bounds uploads and streams of HTTP/2 exactly; a reader over
//! TCP must take those kilobytes within the reserve.

use std::cell::Cell;
use std::rc::Rc;

use crate::client::Patience;

/// Not at all.
const NEVER: u64 = u64::MAX;

/// See the module.
#[derive(Debug)]
pub(crate) struct Haste {
    patience: Rc<Patience>,
    left_ms: Cell<u64>,
    waiting_since: Cell<u64>,
}

impl Haste {
    /// A full reserve.
    pub(crate) fn new(patience: Rc<Patience>) -> Self {
        Self {
            left_ms: Cell::new(patience.reserve_ms),
            waiting_since: Cell::new(NEVER),
            patience,
        }
    }

    /// What it goes by.
    pub(crate) fn patience(&self) -> &Rc<Patience> {
        &self.patience
    }

    /// A new body begins.
    pub(crate) fn begin(&self) {
        self.left_ms.set(self.patience.reserve_ms);
        self.waiting_since.set(NEVER);
    }

    /// From now on the client is waited for.
    pub(crate) fn waits(&self, now: u64) {
        if !self.is_waiting() {
            self.waiting_since.set(now);
        }
    }

    /// The client is not waited for any more.
    pub(crate) fn goes_on(&self, now: u64) {
        let since = self.waiting_since.replace(NEVER);
        let waited = now.saturating_sub(since);
        self.left_ms.set(self.left_ms.get().saturating_sub(waited));
    }

    /// Bytes moved.
    pub(crate) fn moved(&self, bytes: u64, now: u64) {
        let (rate, full) = (self.patience.min_rate, self.patience.reserve_ms);
        let waits = self.is_waiting();
        if rate == 0 || self.left_ms.get() == full && !waits {
            return;
        }
        self.goes_on(now);
        let earned = bytes.saturating_mul(1_000) / rate;
        self.left_ms
            .set(self.left_ms.get().saturating_add(earned).min(full));
        if waits {
            self.waits(now);
        }
    }

    /// Whether the reserve is used up.
    pub(crate) fn is_too_slow(&self, now: u64) -> bool {
        let waited = now.saturating_sub(self.waiting_since.get());
        self.patience.min_rate > 0 && self.is_waiting() && waited >= self.left_ms.get()
    }

    fn is_waiting(&self) -> bool {
        self.waiting_since.get() != NEVER
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Half a minute, and so many bytes in a second.
    fn haste(min_rate: u64) -> Haste {
        Haste::new(Rc::new(Patience {
            head_ms: 1,
            idle_ms: 1,
            min_rate,
            reserve_ms: 30_000,
        }))
    }

    /// Moves `bytes` in each of 1,000 seconds, and tells in which the client was too slow.
    fn check(rate: u64, bytes: u64, expected: Option<u64>) {
        let haste = haste(rate);
        haste.waits(0);
        let slow = (1..=1_000).find(|second| {
            let slow = haste.is_too_slow(second * 1_000);
            haste.moved(bytes, second * 1_000);
            slow
        });
        assert_eq!(
            slow, expected,
            "{bytes} bytes a second where {rate} are asked for"
        );
    }

    #[test]
    fn who_keeps_the_rate_is_waited_for_and_who_does_not_is_cut() {
        check(100, 100, None);
        check(100, 50, Some(59));
        check(100, 0, Some(30));
        check(0, 0, None);
    }

    #[test]
    fn time_in_which_the_client_is_not_waited_for_costs_nothing() {
        let haste = haste(100);
        haste.waits(0);
        haste.goes_on(20_000);
        assert!(!haste.is_too_slow(1_000_000));
        haste.waits(1_000_000);
        assert!(!haste.is_too_slow(1_009_999));
        assert!(haste.is_too_slow(1_010_000));
        haste.begin();
        haste.waits(2_000_000);
        assert!(!haste.is_too_slow(2_029_999));
    }
}
