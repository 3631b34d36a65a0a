//! What was counted for one pool, in one lane for each worker.
//!
//! A lane is written by its worker alone, so counting is a load and a store
//! without a lock prefix; a reader merges the lanes and may be a moment late.

use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

use cutover_wire::statistics::{Histogram, PoolStatistics};

use crate::target::Kind;

/// How a request ended. Each ends in exactly one of these.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Outcome {
    /// A whole answer below 400.
    Succeeded,
    /// A whole answer from 400 to 499.
    ClientError,
    /// A whole answer of 500 and above.
    ServerError,
    /// No whole answer of the target.
    Failed,
    /// The client left first, or broke its own request.
    Abandoned,
}

impl Outcome {
    /// The outcome of a whole answer.
    pub(crate) fn of(status: http::StatusCode) -> Self {
        match status.as_u16() {
            0..400 => Self::Succeeded,
            400..500 => Self::ClientError,
            _ => Self::ServerError,
        }
    }
}

#[derive(Debug)]
#[repr(align(128))]
struct Lane {
    outcomes: [AtomicU64; 5],
    retries: AtomicU64,
    /// How many came in and went out, by kind; the difference is open.
    entered: [AtomicU64; 3],
    left: [AtomicU64; 3],
    latency: Box<[AtomicU64]>,
    latency_micros: AtomicU64,
}

impl Lane {
    fn new() -> Self {
        Self {
            outcomes: Default::default(),
            retries: AtomicU64::new(0),
            entered: Default::default(),
            left: Default::default(),
            latency: (0..Histogram::BUCKETS).map(|_| AtomicU64::new(0)).collect(),
            latency_micros: AtomicU64::new(0),
        }
    }
}

/// See the module.
#[derive(Debug)]
pub(crate) struct Counters {
    lanes: Box<[Lane]>,
}

/// Adds to a count that this thread alone writes.
pub(crate) fn add(count: &AtomicU64, more: u64) {
    count.store(count.load(Relaxed).wrapping_add(more), Relaxed);
}

/// Counts where only this thread writes.
pub(crate) fn add_one(count: &AtomicU64) {
    add(count, 1);
}

impl Counters {
    /// Counters at zero.
    pub(crate) fn new(workers: usize) -> Self {
        Self {
            lanes: (0..workers).map(|_| Lane::new()).collect(),
        }
    }

    /// A request came in.
    pub(crate) fn entered(&self, worker: usize, kind: Kind) {
        add_one(&self.lanes[worker].entered[kind as usize]);
    }

    /// The requests that came in at one worker: what decides whose turn it is.
    pub(crate) fn turn(&self, worker: usize) -> usize {
        let entered = &self.lanes[worker].entered[Kind::Request as usize];
        usize::try_from(entered.load(Relaxed)).unwrap_or(usize::MAX)
    }

    /// A request went out, or became another kind.
    pub(crate) fn left(&self, worker: usize, kind: Kind) {
        add_one(&self.lanes[worker].left[kind as usize]);
    }

    /// A request ended.
    pub(crate) fn ended(&self, worker: usize, outcome: Outcome) {
        add_one(&self.lanes[worker].outcomes[outcome as usize]);
    }

    /// A request is sent once more.
    pub(crate) fn retried(&self, worker: usize) {
        add_one(&self.lanes[worker].retries);
    }

    /// The head of an answer came.
    pub(crate) fn answered(&self, worker: usize, micros: u64) {
        let bucket = usize::from(Histogram::bucket_of(micros));
        let lane = &self.lanes[worker];
        add_one(&lane.latency[bucket]);
        add(&lane.latency_micros, micros);
    }

    /// All lanes together.
    pub(crate) fn read(&self) -> PoolStatistics {
        let mut sum = PoolStatistics::default();
        for lane in &self.lanes {
            let outcome = |outcome| lane.outcomes[outcome as usize].load(Relaxed);
            let open = |kind| {
                // Read first, so that one that leaves in between is still counted.
                let left = lane.left[kind as usize].load(Relaxed);
                lane.entered[kind as usize]
                    .load(Relaxed)
                    .saturating_sub(left)
            };
            sum.succeeded += outcome(Outcome::Succeeded);
            sum.client_errors += outcome(Outcome::ClientError);
            sum.server_errors += outcome(Outcome::ServerError);
            sum.failed += outcome(Outcome::Failed);
            sum.abandoned += outcome(Outcome::Abandoned);
            sum.retries += lane.retries.load(Relaxed);
            sum.requests_open += open(Kind::Request);
            sum.streams_open += open(Kind::Stream);
            sum.tunnels_open += open(Kind::Tunnel);
            sum.latency_micros += lane.latency_micros.load(Relaxed);
            for (bucket, count) in (0..).zip(&lane.latency) {
                sum.latency.add(bucket, count.load(Relaxed));
            }
        }
        sum
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lanes_are_merged_on_read() {
        let counters = Counters::new(2);
        for worker in 0..2 {
            counters.entered(worker, Kind::Request);
            counters.answered(worker, 1_000);
        }
        counters.left(0, Kind::Request);
        counters.ended(0, Outcome::of(http::StatusCode::OK));
        counters.ended(1, Outcome::of(http::StatusCode::NOT_FOUND));
        counters.ended(1, Outcome::of(http::StatusCode::BAD_GATEWAY));
        let told = counters.read();
        assert_eq!(
            (told.succeeded, told.client_errors, told.server_errors),
            (1, 1, 1)
        );
        assert_eq!((told.requests_open, told.finished()), (1, 3));
        assert_eq!((told.latency.count(), told.latency_micros), (2, 2_000));
        assert!(told.latency.quantile(500) >= Some(1_000));
    }
}
