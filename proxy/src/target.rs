//! One target as the workers see it: its open requests, and whether it takes new ones.
//!
//! A target lives through all tables that name it, so its counts survive an
//! edit. It does not know its pool, and it does not connect.
//!
//! Invariant (drain): a worker counts itself in and only then looks whether the
//! target is draining; the drainer sets draining and only then sums the counts.
//! Both are sequentially consistent, so one of them always sees the other:
//! a sum of zero after draining was set means that nobody is inside or comes.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering::Relaxed, Ordering::SeqCst};

use cutover_wire::proxy::Drained;
use tokio::sync::Notify;

/// Consecutive connect failures after which a target is passed over. One may be
/// chance and two a burst; three is what nginx's and envoy's users settle on.
const FAILURES_TO_EJECT: u32 = 3;

/// How long a target is passed over before a request tries it again.
const EJECTED_MS: u64 = 5_000;

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

/// The open counts of one worker, alone on its cache lines (two, because
/// processors fetch lines in pairs).
#[derive(Debug, Default)]
#[repr(align(128))]
struct Lane {
    requests: AtomicU32,
    streams: AtomicU32,
    tunnels: AtomicU32,
}

impl Lane {
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
pub(crate) struct Target {
    number: u64,
    address: SocketAddr,
    draining: AtomicBool,
    lanes: Box<[Lane]>,
    emptied: Notify,
    failures: AtomicU32,
    ejected_until: AtomicU64,
}

impl Target {
    /// A target without requests; `number` is unique in the process.
    pub(crate) fn new(number: u64, address: SocketAddr, workers: usize) -> Self {
        Self {
            number,
            address,
            draining: AtomicBool::new(false),
            lanes: (0..workers).map(|_| Lane::default()).collect(),
            emptied: Notify::new(),
            failures: AtomicU32::new(0),
            ejected_until: AtomicU64::new(0),
        }
    }

    /// The name by which workers keep connections to it.
    pub(crate) fn number(&self) -> u64 {
        self.number
    }

    /// Where it listens.
    pub(crate) fn address(&self) -> SocketAddr {
        self.address
    }

    /// Whether it takes no new request.
    pub(crate) fn is_draining(&self) -> bool {
        self.draining.load(SeqCst)
    }

    /// Stops or allows new requests.
    pub(crate) fn set_draining(&self, draining: bool) {
        self.draining.store(draining, SeqCst);
    }

    /// Counts a request in, unless the target drains.
    pub(crate) fn acquire(self: &Arc<Self>, worker: usize) -> Option<Hold> {
        self.lanes[worker].requests.fetch_add(1, SeqCst);
        let hold = Hold {
            target: Arc::clone(self),
            worker,
            kind: Kind::Request,
        };
        // Dropping the hold counts it out again and wakes the drainer.
        (!self.draining.load(SeqCst)).then_some(hold)
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
        }
    }

    /// Resolves when the last open request of a draining target has left.
    pub(crate) async fn emptied(&self) {
        loop {
            let mut left = std::pin::pin!(self.emptied.notified());
            left.as_mut().enable();
            if self.open().is_empty() {
                return;
            }
            left.await;
        }
    }

    /// Whether it is passed over at `now`, in milliseconds of the worker's clock.
    pub(crate) fn is_ejected(&self, now: u64) -> bool {
        let until = self.ejected_until.load(Relaxed);
        until != 0 && now < until
    }

    /// A connection was made.
    pub(crate) fn connected(&self) {
        if self.failures.load(Relaxed) != 0 {
            self.failures.store(0, Relaxed);
            self.ejected_until.store(0, Relaxed);
        }
    }

    /// No connection could be made.
    pub(crate) fn unreachable(&self, now: u64) {
        if self.failures.fetch_add(1, Relaxed) + 1 >= FAILURES_TO_EJECT {
            self.ejected_until.store(now + EJECTED_MS, Relaxed);
        }
    }
}

/// One open request of a target; dropping it counts it out.
#[derive(Debug)]
pub(crate) struct Hold {
    target: Arc<Target>,
    worker: usize,
    kind: Kind,
}

impl Hold {
    /// The target that is held.
    pub(crate) fn target(&self) -> &Arc<Target> {
        &self.target
    }

    /// Moves the request to another count, without a moment in none.
    pub(crate) fn become_kind(&mut self, kind: Kind) {
        let lane = &self.target.lanes[self.worker];
        lane.count(kind).fetch_add(1, SeqCst);
        lane.count(self.kind).fetch_sub(1, SeqCst);
        self.kind = kind;
    }
}

impl Drop for Hold {
    fn drop(&mut self) {
        let lane = &self.target.lanes[self.worker];
        lane.count(self.kind).fetch_sub(1, SeqCst);
        if self.target.draining.load(SeqCst) {
            self.target.emptied.notify_waiters();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn target() -> Arc<Target> {
        Arc::new(Target::new(1, "127.0.0.1:1".parse().unwrap(), 2))
    }

    #[test]
    fn a_draining_target_is_not_acquired() {
        let target = target();
        let hold = target.acquire(0).unwrap();
        target.set_draining(true);
        assert!(target.acquire(1).is_none());
        assert_eq!(target.open().requests, 1);
        drop(hold);
        assert!(target.open().is_empty());
        target.set_draining(false);
        assert!(target.acquire(1).is_some());
    }

    #[test]
    fn a_request_that_becomes_a_stream_stands_in_one_count() {
        let target = target();
        let mut hold = target.acquire(1).unwrap();
        hold.become_kind(Kind::Stream);
        let open = target.open();
        assert_eq!((open.requests, open.streams, open.tunnels), (0, 1, 0));
        drop(hold);
        assert!(target.open().is_empty());
    }

    #[test]
    fn nobody_is_inside_once_a_drain_saw_zero() {
        // Two workers acquire as fast as they can while the drainer sets and sums.
        for _ in 0..200 {
            let target = target();
            let closed = Arc::new(AtomicBool::new(false));
            std::thread::scope(|scope| {
                for worker in 0..2 {
                    let (target, closed) = (Arc::clone(&target), Arc::clone(&closed));
                    scope.spawn(move || {
                        while let Some(hold) = target.acquire(worker) {
                            assert!(!closed.load(SeqCst), "inside after the drain saw zero");
                            drop(hold);
                        }
                    });
                }
                target.set_draining(true);
                while !target.open().is_empty() {
                    std::hint::spin_loop();
                }
                closed.store(true, SeqCst);
            });
        }
    }

    #[test]
    fn three_failures_eject_and_one_connection_brings_back() {
        let target = target();
        target.unreachable(10);
        target.unreachable(10);
        assert!(!target.is_ejected(10));
        target.unreachable(10);
        assert!(target.is_ejected(10));
        assert!(!target.is_ejected(10 + EJECTED_MS));
        target.connected();
        assert!(!target.is_ejected(10));
    }
}
