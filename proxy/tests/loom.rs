//! Tries every interleaving of a target's counts, on memory as weak as the
//! language allows.
//!
//! It takes the file that the product counts with and puts other atomics under
//! it. Loom knows no sequentially consistent access, only the fence, and takes
//! such an access for a weaker one. So it is told one as compilers make one: a
//! fence after each write, or a fence before each read. Either is right alone,
//! and each sees what the other hides: a weakened read loses its fence in the
//! second only, a weakened write in the first only. Each model runs in both.

#[expect(dead_code, reason = "the product reads more of it than a model has to")]
#[path = "../src/target/occupancy.rs"]
mod occupancy;

use std::cell::Cell;
use std::sync::Arc;

use loom::cell::UnsafeCell;
use loom::sync::Notify;
use loom::thread;

use occupancy::{Entry, Exit, Kind, Occupancy};

/// Where the fence of a sequentially consistent access stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Fence {
    AfterWrites,
    BeforeReads,
}

thread_local! {
    /// Loom runs all threads of a model on the one that began it.
    static FENCE: Cell<Fence> = const { Cell::new(Fence::AfterWrites) };
}

/// What `occupancy` counts with here.
mod atomic {
    use std::sync::atomic::Ordering::{self, AcqRel, Acquire, Release, SeqCst};

    use loom::sync::atomic;

    use super::{FENCE, Fence};

    fn fence(at: Fence, order: Ordering) {
        if order == SeqCst && FENCE.get() == at {
            atomic::fence(SeqCst);
        }
    }

    /// The order that is left of an access when its fence stands alone.
    fn plain(order: Ordering, weaker: Ordering) -> Ordering {
        if order == SeqCst { weaker } else { order }
    }

    #[derive(Debug)]
    pub(super) struct AtomicBool(atomic::AtomicBool);

    impl AtomicBool {
        pub(super) fn new(value: bool) -> Self {
            Self(atomic::AtomicBool::new(value))
        }

        pub(super) fn load(&self, order: Ordering) -> bool {
            fence(Fence::BeforeReads, order);
            self.0.load(plain(order, Acquire))
        }

        pub(super) fn store(&self, value: bool, order: Ordering) {
            self.0.store(value, plain(order, Release));
            fence(Fence::AfterWrites, order);
        }
    }

    #[derive(Debug)]
    pub(super) struct AtomicU32(atomic::AtomicU32);

    impl AtomicU32 {
        pub(super) fn new(value: u32) -> Self {
            Self(atomic::AtomicU32::new(value))
        }

        pub(super) fn load(&self, order: Ordering) -> u32 {
            fence(Fence::BeforeReads, order);
            self.0.load(plain(order, Acquire))
        }

        pub(super) fn fetch_add(&self, value: u32, order: Ordering) -> u32 {
            let before = self.0.fetch_add(value, plain(order, AcqRel));
            fence(Fence::AfterWrites, order);
            before
        }

        pub(super) fn fetch_sub(&self, value: u32, order: Ordering) -> u32 {
            let before = self.0.fetch_sub(value, plain(order, AcqRel));
            fence(Fence::AfterWrites, order);
            before
        }
    }
}

/// A target as its users see it: the counts, the bell of those who wait, and
/// the container, which whoever is inside reads and the end of a drain writes.
/// Loom fails when one is not ordered before the other.
struct Modelled {
    occupancy: Occupancy,
    emptied: Notify,
    container: UnsafeCell<()>,
}

impl Modelled {
    #[expect(
        clippy::arc_with_non_send_sync,
        reason = "loom's threads take it to different threads of the model, which are one thread"
    )]
    fn new(workers: usize) -> Arc<Self> {
        Arc::new(Self {
            occupancy: Occupancy::new(workers),
            emptied: Notify::new(),
            container: UnsafeCell::new(()),
        })
    }

    /// What a request does, if it gets in; `kinds` are what it becomes on its way.
    fn request(&self, worker: usize, kinds: &[Kind]) -> Entry {
        let entry = self.occupancy.enter(worker);
        if entry == Entry::Refused {
            self.emptied.notify();
            return entry;
        }
        let mut now = Kind::Request;
        for &kind in kinds {
            self.occupancy.change(worker, now, kind);
            now = kind;
        }
        self.container.with(|_| ());
        if self.occupancy.leave(worker, now) == Exit::Awaited {
            self.emptied.notify();
        }
        entry
    }

    /// Waits until nobody is inside a draining target.
    fn emptied(&self) {
        while !self.occupancy.open().is_empty() {
            self.emptied.wait();
        }
    }

    fn stop_container(&self) {
        self.container.with_mut(|_| ());
    }
}

/// Runs a model in both translations. Loom finds a deadlock by itself.
fn check(model: fn()) {
    for fence in [Fence::AfterWrites, Fence::BeforeReads] {
        let mut builder = loom::model::Builder::new();
        // Two switches against a thread's will find every mistake that was
        // planted; a third one takes five times as long and finds no more.
        builder.preemption_bound = Some(2);
        builder.check(move || {
            FENCE.set(fence);
            model();
        });
    }
}

#[test]
fn nobody_is_inside_or_comes_once_a_drain_saw_zero() {
    check(|| {
        let target = Modelled::new(2);
        let workers = [0, 1].map(|worker| {
            let target = Arc::clone(&target);
            thread::spawn(move || target.request(worker, &[]))
        });
        target.occupancy.set_draining(true);
        if target.occupancy.open().is_empty() {
            target.stop_container();
            assert_eq!(target.occupancy.enter(0), Entry::Refused);
        }
        for worker in workers {
            let _ = worker.join().unwrap();
        }
    });
}

#[test]
fn the_last_one_out_wakes_the_drain() {
    check(|| {
        let target = Modelled::new(2);
        let workers = [0, 1].map(|worker| {
            let target = Arc::clone(&target);
            thread::spawn(move || target.request(worker, &[]))
        });
        target.occupancy.set_draining(true);
        target.emptied();
        target.stop_container();
        for worker in workers {
            let _ = worker.join().unwrap();
        }
    });
}

#[test]
fn a_request_that_changes_its_kind_is_never_missed() {
    check(|| {
        let target = Modelled::new(1);
        let worker = {
            let target = Arc::clone(&target);
            thread::spawn(move || target.request(0, &[Kind::Tunnel]))
        };
        let other = {
            let target = Arc::clone(&target);
            thread::spawn(move || target.request(0, &[Kind::Stream]))
        };
        target.occupancy.set_draining(true);
        target.emptied();
        target.stop_container();
        let _ = (worker.join().unwrap(), other.join().unwrap());
    });
}

#[test]
fn a_drain_that_is_taken_back_lets_in_and_the_next_one_waits_for_it() {
    check(|| {
        let target = Modelled::new(1);
        let worker = {
            let target = Arc::clone(&target);
            thread::spawn(move || {
                let first = target.request(0, &[]);
                (first, target.request(0, &[]))
            })
        };
        target.occupancy.set_draining(true);
        target.occupancy.set_draining(false);
        assert_eq!(target.request(0, &[]), Entry::Inside);
        target.occupancy.set_draining(true);
        target.emptied();
        target.stop_container();
        let _ = worker.join().unwrap();
        assert!(target.occupancy.open().is_empty());
    });
}
