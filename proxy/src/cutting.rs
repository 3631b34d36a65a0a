//! When the drain of a target ends its long answers.
//!
//! Requests are waited for; streams and tunnels may never end by themselves, so
//! a drain can say from when on they are ended, and over how long they are
//! spread: clients that are all cut at once all come back at once.

use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

use crate::target::Kind;

/// Not at all.
const NEVER: u64 = u64::MAX;

/// See the module. Times are in milliseconds of the workers' clock.
#[derive(Debug)]
pub(crate) struct Cutting {
    streams_at: AtomicU64,
    tunnels_at: AtomicU64,
    spread_ms: AtomicU64,
    streams: AtomicU64,
    tunnels: AtomicU64,
}

impl Default for Cutting {
    fn default() -> Self {
        Self {
            streams_at: AtomicU64::new(NEVER),
            tunnels_at: AtomicU64::new(NEVER),
            spread_ms: AtomicU64::new(0),
            streams: AtomicU64::new(0),
            tunnels: AtomicU64::new(0),
        }
    }
}

impl Cutting {
    /// From when on streams and tunnels are ended, and over how long.
    pub(crate) fn begin(&self, streams_at: Option<u64>, tunnels_at: Option<u64>, spread_ms: u64) {
        self.spread_ms.store(spread_ms, Relaxed);
        self.streams_at.store(streams_at.unwrap_or(NEVER), Relaxed);
        self.tunnels_at.store(tunnels_at.unwrap_or(NEVER), Relaxed);
    }

    /// Nothing more is ended.
    pub(crate) fn end(&self) {
        self.begin(None, None, 0);
    }

    /// Whether a client's long answer is to be ended at `now`; `number` tells the
    /// clients apart.
    pub(crate) fn reaches(&self, kind: Kind, number: u64, now: u64) -> bool {
        let at = match kind {
            Kind::Request => NEVER,
            Kind::Stream => self.streams_at.load(Relaxed),
            Kind::Tunnel => self.tunnels_at.load(Relaxed),
        };
        if now < at {
            return false;
        }
        // Numbers follow each other; multiplied so, they are spread evenly.
        let spread = self.spread_ms.load(Relaxed).saturating_add(1);
        now - at >= number.wrapping_mul(0x9E37_79B9_7F4A_7C15) % spread
    }

    /// One was ended.
    pub(crate) fn ended(&self, kind: Kind) {
        match kind {
            Kind::Request => {}
            Kind::Stream => _ = self.streams.fetch_add(1, Relaxed),
            Kind::Tunnel => _ = self.tunnels.fetch_add(1, Relaxed),
        }
    }

    /// How many streams and tunnels were ended, ever.
    pub(crate) fn count(&self) -> (u64, u64) {
        (self.streams.load(Relaxed), self.tunnels.load(Relaxed))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn long_answers_are_ended_from_their_time_on_spread_evenly() {
        let cutting = Cutting::default();
        assert!(!cutting.reaches(Kind::Tunnel, 1, 1_000_000));
        cutting.begin(Some(500), Some(1_000), 1_000);
        let reached = |kind, now| {
            (0..1_000)
                .filter(|&n| cutting.reaches(kind, n, now))
                .count()
        };
        assert_eq!(reached(Kind::Request, 9_000), 0);
        assert_eq!(reached(Kind::Stream, 499), 0);
        assert_eq!(reached(Kind::Tunnel, 999), 0);
        assert!((450..550).contains(&reached(Kind::Tunnel, 1_500)));
        assert_eq!(reached(Kind::Tunnel, 2_000), 1_000);
        cutting.end();
        assert_eq!(reached(Kind::Tunnel, 2_000), 0);
    }
}
