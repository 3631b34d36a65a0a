//! Who is inside a target: the counts that a drain waits for.
//!
//! It wakes nobody; it tells its caller when somebody who waits has to look
//! again. Its atomics come from the parent module, so that `tests/loom.rs` can
//! put this very file over modelled ones and try every interleaving.
//!
//! ```text
//!  worker                         drainer
//!  count += 1     ─────┐   ┌───── draining = true
//!  draining?           └─╳─┘      sum of counts?
//!    no:  inside         └──────────▶ 0: nobody is inside or comes
//!    yes: count -= 1, wake            else: wait to be woken, sum again
//! ```
//!
//! Invariant: each side writes first and reads then, sequentially consistent, so
//! at least one of them sees the other. A weaker order on any of the four lets
//! both miss: the drain ends and a request is inside.
//! Invariant: who leaves counts out first and looks at draining then, for the
//! same reason: either the drainer sees it gone or it sees that somebody waits.

use std::sync::atomic::Ordering::{Relaxed, SeqCst};

use cutover_wire::proxy::Drained;

use super::atomic::{AtomicBool, AtomicU32};

/// What a request has become, which decides in which count it stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    /// An answer that is expected to end soon.
    Request,
    /// A streamed answer, such as server-sent events.
    Stream,
    /// An upgraded connection.
    Tunnel,
}

/// What became of a request that wanted in.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[must_use]
pub(crate) enum Entry {
    /// It is inside, and has to leave.
    Inside,
    /// It is not. It was counted for a moment, so who waits has to be woken.
    Refused,
}

/// Whether somebody may wait for who left.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[must_use]
pub(crate) enum Exit {
    /// Nobody waits.
    Unseen,
    /// A drain is going on, so who waits has to be woken.
    Awaited,
}

/// The open counts of one worker, alone on its cache lines (two, because
/// processors fetch lines in pairs).
#[derive(Debug)]
#[repr(align(128))]
struct Lane {
    requests: AtomicU32,
    streams: AtomicU32,
    tunnels: AtomicU32,
}

impl Lane {
    fn new() -> Self {
        Self {
            requests: AtomicU32::new(0),
            streams: AtomicU32::new(0),
            tunnels: AtomicU32::new(0),
        }
    }

    fn count(&self, kind: Kind) -> &AtomicU32 {
        match kind {
            Kind::Request => &self.requests,
            Kind::Stream => &self.streams,
            Kind::Tunnel => &self.tunnels,
        }
    }
}

/// See the module.
#[derive(Debug)]
pub(crate) struct Occupancy {
    draining: AtomicBool,
    lanes: Box<[Lane]>,
}

impl Occupancy {
    /// Nobody inside, and not draining.
    pub(crate) fn new(workers: usize) -> Self {
        Self {
            draining: AtomicBool::new(false),
            lanes: (0..workers).map(|_| Lane::new()).collect(),
        }
    }

    /// Whether no new request is taken.
    pub(crate) fn is_draining(&self) -> bool {
        self.draining.load(SeqCst)
    }

    /// Stops or allows new requests.
    pub(crate) fn set_draining(&self, draining: bool) {
        self.draining.store(draining, SeqCst);
    }

    /// Counts a request in, unless a drain is going on.
    pub(crate) fn enter(&self, worker: usize) -> Entry {
        let requests = &self.lanes[worker].requests;
        requests.fetch_add(1, SeqCst);
        if !self.draining.load(SeqCst) {
            return Entry::Inside;
        }
        requests.fetch_sub(1, SeqCst);
        Entry::Refused
    }

    /// Moves a request to another count, without a moment in none.
    pub(crate) fn change(&self, worker: usize, from: Kind, to: Kind) {
        let lane = &self.lanes[worker];
        lane.count(to).fetch_add(1, SeqCst);
        lane.count(from).fetch_sub(1, SeqCst);
    }

    /// Counts a request out.
    pub(crate) fn leave(&self, worker: usize, kind: Kind) -> Exit {
        self.lanes[worker].count(kind).fetch_sub(1, SeqCst);
        if self.draining.load(SeqCst) {
            Exit::Awaited
        } else {
            Exit::Unseen
        }
    }

    /// The requests of one worker that are open now; the measure of its load.
    pub(crate) fn load(&self, worker: usize) -> u32 {
        self.lanes[worker].requests.load(Relaxed)
    }

    /// What is open now.
    pub(crate) fn open(&self) -> Drained {
        let sum = |kind| {
            let counts = self.lanes.iter().map(|lane| lane.count(kind).load(SeqCst));
            counts.map(u64::from).sum()
        };
        Drained {
            // Read before the kinds that a request may become, so that one that
            // moves in between is counted twice rather than not at all.
            requests: sum(Kind::Request),
            streams: sum(Kind::Stream),
            tunnels: sum(Kind::Tunnel),
            ..Drained::default()
        }
    }
}
