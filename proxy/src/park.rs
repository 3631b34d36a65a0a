//! The requests of one app that are held while it has nobody to answer them.
//!
//! A lot lives through all tables that name its app. It holds places, not
//! requests: whoever waits keeps its own request, so a client that leaves takes
//! everything with it. It routes nothing, and asks no table; whoever is let go
//! looks at the table again.
//!
//! ```text
//!             park                release              queue empty
//!   Empty ──────────▶ Holding ──────────▶ Releasing ──────────▶ Empty
//!     ▲                 │  ▲     park        │
//!     │ release, nobody │  └─────────────────┘
//!     └─────────────────┘
//! ```
//!
//! Invariant: they are let go in the order in which they came, also who was let
//! go and has to wait once more; while anybody waits, who comes waits behind.
//! Invariant: the bounds refuse requests of a parked app and of no other.
//! Invariant: count and bytes of a place are free as soon as it is let go, too
//! old, or dropped.
//! Invariant: while somebody waits and no table parks, a ramp is running.

use std::collections::BTreeMap;
use std::future::poll_fn;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use cutover_wire::statistics::ParkStatistics;
use cutover_wire::table::Park;
use tokio::time::{Instant, sleep, timeout_at};

/// What is let go at once at first: a new release has hardly a warm connection,
/// and this is what the smallest server (two threads, a short queue) takes.
const FIRST_BATCH: usize = 16;

/// The time from one batch to the next: many answers of a small app take no
/// longer, and with it doubling from 16 empties the largest lot within 60 ms.
const STEP: Duration = Duration::from_millis(5);

/// The longest that a refused client is told to stay away: a deploy in place
/// takes some ten seconds, and longer would lose users for nothing.
const MAX_RETRY_AFTER_S: u64 = 30;

/// How many are let go in a step of the ramp; steps count from 0.
fn batch(step: u32) -> usize {
    FIRST_BATCH.saturating_mul(2_usize.saturating_pow(step))
}

/// When a client that could not be held may try again, in seconds: after the
/// time that the app may stay parked, which is over by then at the latest.
pub(crate) fn retry_after(bounds: &Park) -> u64 {
    bounds.max_age_ms.div_ceil(1000).clamp(1, MAX_RETRY_AFTER_S)
}

/// A request that is not held, because a bound is reached.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Full {
    /// Seconds after which the client may try again.
    pub(crate) retry_after: u64,
}

/// How a wait ended.
#[derive(Debug)]
pub(crate) enum Waited {
    /// The request may look at the table again. It keeps its place in the
    /// order: if it has to wait once more, it waits with this.
    Released(Place),
    /// It was held as long as the table allows, or as the process goes on.
    Aged {
        /// Seconds after which the client may try again.
        retry_after: u64,
    },
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Phase {
    Empty,
    Holding,
    /// With the number of the ramp, so that one that was stopped ends itself.
    Releasing(u64),
}

#[derive(Debug)]
struct Waiting {
    bytes: u64,
    /// Whom to wake; none before its first look.
    waker: Option<Waker>,
}

#[derive(Debug)]
struct State {
    phase: Phase,
    /// Whether the process ends, and nobody is held any more.
    closed: bool,
    /// Those of the last table that parked: they hold until the lot is empty.
    bounds: Park,
    /// Who waits, by number of arrival.
    queue: BTreeMap<u64, Waiting>,
    next: u64,
    ramps: u64,
    /// What is counted; what waits now is the queue's length.
    counts: ParkStatistics,
}

/// See the module.
#[derive(Debug)]
pub(crate) struct Lot {
    /// Whether requests have to go through it; a copy of the phase for those
    /// who pass by and must not lock.
    open: AtomicBool,
    state: Mutex<State>,
}

impl Default for Lot {
    /// A lot that holds nobody.
    fn default() -> Self {
        Self::new()
    }
}

impl Lot {
    /// A lot that holds nobody.
    pub(crate) fn new() -> Self {
        Self {
            open: AtomicBool::new(false),
            state: Mutex::new(State {
                phase: Phase::Empty,
                closed: false,
                bounds: Park {
                    max_requests: 0,
                    max_bytes: 0,
                    max_age_ms: 0,
                },
                queue: BTreeMap::new(),
                next: 0,
                ramps: 0,
                counts: ParkStatistics::default(),
            }),
        }
    }

    /// Whether a request has to ask for a place. It may be a moment late, but a
    /// worker that sees a table that parks sees this too.
    pub(crate) fn is_open(&self) -> bool {
        self.open.load(Relaxed)
    }

    /// Holds requests from now on, and those that wait already. To be called
    /// before a table that parks is in force.
    pub(crate) fn park(&self, bounds: &Park) {
        let mut state = self.lock();
        state.bounds = bounds.clone();
        self.turn(&mut state, Phase::Holding);
    }

    /// Lets requests go, in the order in which they came, few at first. To be
    /// called on the main runtime after a table that does not park is in force,
    /// or none with the app.
    pub(crate) fn release(self: &Arc<Self>) {
        let ramp = {
            let mut state = self.lock();
            match state.phase {
                Phase::Empty | Phase::Releasing(_) => return,
                Phase::Holding if state.queue.is_empty() => {
                    self.turn(&mut state, Phase::Empty);
                    return;
                }
                Phase::Holding => {}
            }
            state.ramps += 1;
            let ramp = state.ramps;
            self.turn(&mut state, Phase::Releasing(ramp));
            ramp
        };
        tokio::spawn(Arc::clone(self).climb(ramp));
    }

    /// Turns away who waits, and who comes while a table parks: the process ends.
    pub(crate) fn close(&self) {
        let wakers: Vec<Waker> = {
            let mut state = self.lock();
            state.closed = true;
            let waiting = state.queue.values_mut();
            waiting.filter_map(|waiting| waiting.waker.take()).collect()
        };
        wakers.into_iter().for_each(Waker::wake);
    }

    /// Takes a place behind all who wait, for a request that holds these bytes.
    pub(crate) fn enter(self: &Arc<Self>, bytes: u64) -> Result<Place, Full> {
        let mut state = self.lock();
        // Where it is empty, the last one has left since the request looked.
        let held = state.phase != Phase::Empty;
        // Of an app that serves again nobody is refused: who comes waits for the end of
        // the ramp, some milliseconds, and there are no more of them than connections.
        if state.phase == Phase::Holding && state.is_full(bytes) {
            state.counts.overflowed += 1;
            let retry_after = retry_after(&state.bounds);
            return Err(Full { retry_after });
        }
        let mut place = Place {
            lot: Arc::clone(self),
            number: state.next,
            bytes,
            deadline: None,
            waits: false,
        };
        state.next += 1;
        if held {
            place.join(&mut state);
        }
        Ok(place)
    }

    /// What is held and what was counted.
    pub(crate) fn read(&self) -> ParkStatistics {
        let state = self.lock();
        ParkStatistics {
            waiting: state.queue.len() as u64,
            ..state.counts
        }
    }

    /// Lets batch after batch go, until nobody waits or the ramp is stopped.
    async fn climb(self: Arc<Self>, ramp: u64) {
        for step in 0.. {
            let wakers = {
                let mut state = self.lock();
                if state.phase != Phase::Releasing(ramp) {
                    return;
                }
                let wakers = state.let_go(batch(step));
                if state.queue.is_empty() {
                    self.turn(&mut state, Phase::Empty);
                }
                wakers
            };
            wakers.into_iter().for_each(Waker::wake);
            sleep(STEP).await;
        }
    }

    /// The flag follows the phase under the lock.
    fn turn(&self, state: &mut State, phase: Phase) {
        state.phase = phase;
        self.open.store(phase != Phase::Empty, Relaxed);
    }

    /// Whoever panicked left no half-done change: each is one step under the lock.
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn poll(&self, number: u64, cx: &Context<'_>) -> Poll<()> {
        let mut state = self.lock();
        let turned_away = state.closed && state.phase == Phase::Holding;
        let waiting = state.queue.get_mut(&number);
        let waiting = waiting.filter(|_| !turned_away);
        let Some(waiting) = waiting else {
            return Poll::Ready(());
        };
        let before = waiting.waker.replace(cx.waker().clone());
        // What hangs on a waker may have a place here, so it ends without the lock.
        drop(state);
        drop(before);
        Poll::Pending
    }

    /// Takes one out of the queue, if it is there.
    fn quit(&self, state: &mut State, number: u64) -> Option<Waiting> {
        let waiting = state.queue.remove(&number)?;
        state.counts.bytes = state.counts.bytes.saturating_sub(waiting.bytes);
        if state.queue.is_empty() && matches!(state.phase, Phase::Releasing(_)) {
            self.turn(state, Phase::Empty);
        }
        Some(waiting)
    }
}

impl State {
    fn is_full(&self, bytes: u64) -> bool {
        let count = self.queue.len() as u64;
        let held = self.counts.bytes.saturating_add(bytes);
        let bounds = &self.bounds;
        self.closed || count >= u64::from(bounds.max_requests) || held > bounds.max_bytes
    }

    /// Takes the first ones out, and says whom to wake.
    fn let_go(&mut self, count: usize) -> Vec<Waker> {
        let mut wakers = Vec::with_capacity(count.min(self.queue.len()));
        for _ in 0..count {
            let Some((_, waiting)) = self.queue.pop_first() else {
                break;
            };
            self.counts.bytes = self.counts.bytes.saturating_sub(waiting.bytes);
            wakers.extend(waiting.waker);
        }
        wakers
    }
}

/// The place of one request in the order; dropping it frees it.
#[derive(Debug)]
pub(crate) struct Place {
    lot: Arc<Lot>,
    /// When it came, among all.
    number: u64,
    bytes: u64,
    /// When it is too old; none until it was in the queue.
    deadline: Option<Instant>,
    /// Whether it has still to be let go.
    waits: bool,
}

impl Place {
    /// Whether it is a place in this lot: a host may have come to another app, and
    /// an app may have left and come back.
    pub(crate) fn is_in(&self, lot: &Arc<Lot>) -> bool {
        Arc::ptr_eq(&self.lot, lot)
    }

    /// Waits until the request may look at the table again, or is too old. Its
    /// age counts from when it was held first, however often it waits.
    pub(crate) async fn wait(mut self) -> Waited {
        if !self.waits {
            self.join_again();
        }
        let Some(deadline) = self.deadline else {
            return Waited::Released(self);
        };
        let (lot, number) = (&self.lot, self.number);
        let _ = timeout_at(deadline, poll_fn(|cx| lot.poll(number, cx))).await;
        self.end()
    }

    /// Stands in the queue where its number says.
    fn join(&mut self, state: &mut State) {
        let age = Duration::from_millis(state.bounds.max_age_ms);
        self.deadline.get_or_insert_with(|| Instant::now() + age);
        self.waits = true;
        let (bytes, waker) = (self.bytes, None);
        state.queue.insert(self.number, Waiting { bytes, waker });
        state.counts.bytes = state.counts.bytes.saturating_add(bytes);
    }

    /// The table parks again since it was let go: it waits where it waited. It
    /// was within the bounds once, so they are not asked again.
    fn join_again(&mut self) {
        let lot = Arc::clone(&self.lot);
        let mut state = lot.lock();
        if state.phase != Phase::Empty {
            self.join(&mut state);
        }
    }

    /// Ends the wait: it was let go, or it waits still and its time is over.
    fn end(mut self) -> Waited {
        let lot = Arc::clone(&self.lot);
        let mut state = lot.lock();
        self.waits = false;
        let waiting = lot.quit(&mut state, self.number);
        if waiting.is_none() {
            drop(state);
            return Waited::Released(self);
        }
        state.counts.timed_out += 1;
        let retry_after = retry_after(&state.bounds);
        drop(state);
        // It has been counted, so its drop has nothing to say.
        self.deadline = None;
        Waited::Aged { retry_after }
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        if self.deadline.is_none() {
            return;
        }
        let lot = Arc::clone(&self.lot);
        let mut state = lot.lock();
        let waiting = lot.quit(&mut state, self.number);
        match waiting {
            Some(_) => state.counts.left += 1,
            None => state.counts.released += 1,
        }
        drop(state);
        drop(waiting);
    }
}

#[cfg(test)]
mod tests;
