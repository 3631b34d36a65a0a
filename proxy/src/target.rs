//! One target as the workers see it: its open requests, and whether it takes new ones.
//!
//! A target lives through all tables that name it, so its counts survive an
//! edit. It does not know its pool, and it does not connect.
//!
//! Invariant (drain): a sum of zero after draining was set means that nobody is
//! inside or comes. `occupancy` says why, and `tests/loom.rs` checks it.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering::Relaxed};

use cutover_wire::proxy::Drained;
use cutover_wire::statistics::TargetStatistics;
use tokio::sync::Notify;

use crate::counters::add;
use crate::cutting::Cutting;
mod occupancy;

pub(crate) use occupancy::Kind;
use occupancy::{Entry, Exit, Occupancy};

/// What `occupancy` counts with; its model check puts others here.
mod atomic {
    pub(super) use std::sync::atomic::{AtomicBool, AtomicU32};
}

/// Consecutive connect failures after which a target is passed over. One may be
/// chance and two a burst; three is what nginx's and envoy's users settle on.
const FAILURES_TO_EJECT: u32 = 3;

/// How long a target is passed over before a request tries it again.
const EJECTED_MS: u64 = 5_000;

/// All requests of one worker that were ever counted in, alone on its cache lines.
#[derive(Debug, Default)]
#[repr(align(128))]
struct Total(AtomicU64);

/// See the module.
#[derive(Debug)]
pub(crate) struct Target {
    number: u64,
    address: SocketAddr,
    occupancy: Occupancy,
    totals: Box<[Total]>,
    emptied: Notify,
    failures: AtomicU32,
    all_failures: AtomicU64,
    ejected_until: AtomicU64,
    cutting: Cutting,
    sick: AtomicBool,
}

impl Target {
    /// A target without requests; `number` is unique in the process.
    pub(crate) fn new(number: u64, address: SocketAddr, workers: usize) -> Self {
        Self {
            number,
            address,
            occupancy: Occupancy::new(workers),
            totals: (0..workers).map(|_| Total::default()).collect(),
            emptied: Notify::new(),
            failures: AtomicU32::new(0),
            all_failures: AtomicU64::new(0),
            ejected_until: AtomicU64::new(0),
            cutting: Cutting::default(),
            sick: AtomicBool::new(false),
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
        self.occupancy.is_draining()
    }

    /// Stops or allows new requests.
    pub(crate) fn set_draining(&self, draining: bool) {
        let ends = !draining && self.is_draining();
        // A cut that is no drain's ends with the process.
        if ends {
            self.cutting.end();
        }
        self.occupancy.set_draining(draining);
        if ends {
            self.emptied.notify_waiters();
        }
    }

    /// When its long answers are ended.
    pub(crate) fn cutting(&self) -> &Cutting {
        &self.cutting
    }

    /// Counts a request in, unless the target drains.
    pub(crate) fn acquire(self: &Arc<Self>, worker: usize) -> Option<Hold> {
        match self.occupancy.enter(worker) {
            Entry::Inside => {
                add(&self.totals[worker].0, 1);
                Some(Hold {
                    target: Arc::clone(self),
                    worker,
                    kind: Kind::Request,
                    inside: true,
                })
            }
            Entry::Refused => {
                self.emptied.notify_waiters();
                None
            }
        }
    }

    /// The requests of one worker that are open now; the measure of its load.
    pub(crate) fn load(&self, worker: usize) -> u32 {
        self.occupancy.load(worker)
    }

    /// What is open now.
    pub(crate) fn open(&self) -> Drained {
        self.occupancy.open()
    }

    /// Its figures at `now`, in milliseconds of the workers' clocks.
    pub(crate) fn statistics(&self, now: u64) -> TargetStatistics {
        let open = self.open();
        let totals = self.totals.iter().map(|total| total.0.load(Relaxed));
        TargetStatistics {
            requests: totals.sum(),
            connect_failures: self.all_failures.load(Relaxed),
            requests_open: open.requests,
            streams_open: open.streams,
            tunnels_open: open.tunnels,
            draining: self.is_draining(),
            ejected: self.is_ejected(now),
            sick: self.is_sick(),
        }
    }

    /// Resolves when the last open request of a draining target has left, or it
    /// takes requests again.
    pub(crate) async fn drained(&self) {
        loop {
            let mut left = std::pin::pin!(self.emptied.notified());
            left.as_mut().enable();
            if self.open().is_empty() || !self.is_draining() {
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
        self.all_failures.fetch_add(1, Relaxed);
        if self.failures.fetch_add(1, Relaxed) + 1 >= FAILURES_TO_EJECT {
            self.ejected_until.store(now + EJECTED_MS, Relaxed);
        }
    }

    /// Whether its own answers say that it is unwell. It is passed over like an
    /// ejected one, and like that one it serves where there is no other.
    pub(crate) fn is_sick(&self) -> bool {
        self.sick.load(Relaxed)
    }

    /// What the questions about its health came to.
    pub(crate) fn set_sick(&self, sick: bool) {
        self.sick.store(sick, Relaxed);
    }
}

/// One open request of a target; dropping it counts it out.
#[derive(Debug)]
pub(crate) struct Hold {
    target: Arc<Target>,
    worker: usize,
    kind: Kind,
    inside: bool,
}

impl Hold {
    /// The target that is held.
    pub(crate) fn target(&self) -> &Arc<Target> {
        &self.target
    }

    /// Moves the request to another count, without a moment in none.
    pub(crate) fn become_kind(&mut self, kind: Kind) {
        self.target.occupancy.change(self.worker, self.kind, kind);
        self.kind = kind;
    }

    /// Whether it is still counted in.
    pub(crate) fn is_inside(&self) -> bool {
        self.inside
    }

    /// Counts the request out before its end: it waits for another target.
    pub(crate) fn leave(&mut self) {
        if !std::mem::take(&mut self.inside) {
            return;
        }
        if self.target.occupancy.leave(self.worker, self.kind) == Exit::Awaited {
            self.target.emptied.notify_waiters();
        }
    }
}

impl Drop for Hold {
    fn drop(&mut self) {
        self.leave();
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::Ordering::SeqCst;

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
    fn only_requests_that_it_took_are_in_its_total() {
        let target = target();
        drop(target.acquire(0));
        drop(target.acquire(1));
        target.set_draining(true);
        drop(target.acquire(0));
        target.unreachable(10);
        let told = target.statistics(10);
        assert_eq!((told.requests, told.requests_open), (2, 0));
        assert_eq!((told.draining, told.ejected), (true, false));
        assert_eq!(told.connect_failures, 1);
        target.unreachable(10);
        target.unreachable(10);
        assert!(target.statistics(10).ejected);
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
