//! What was counted of the copies of one app, in one lane for each worker.
//!
//! Like the counters of a pool it is written in lanes and merged by its reader.
//! Only the number of copies under way is one count for all workers, because it
//! is a bound; no request without a copy touches it.

use std::sync::atomic::{AtomicU32, AtomicU64, Ordering::Relaxed};

use cutover_wire::statistics::{Histogram, MirrorStatistics};
use http::StatusCode;

use crate::counters::{add, add_one};

#[derive(Debug)]
#[repr(align(128))]
struct Lane {
    copied: AtomicU64,
    dropped: AtomicU64,
    failed: AtomicU64,
    same_status: AtomicU64,
    other_status: AtomicU64,
    server_errors: AtomicU64,
    primary_server_errors: AtomicU64,
    same_body: AtomicU64,
    other_body: AtomicU64,
    latency: Box<[AtomicU64]>,
    latency_micros: AtomicU64,
    primary_latency: Box<[AtomicU64]>,
    primary_latency_micros: AtomicU64,
}

fn buckets() -> Box<[AtomicU64]> {
    (0..Histogram::BUCKETS).map(|_| AtomicU64::new(0)).collect()
}

impl Lane {
    fn new() -> Self {
        Self {
            copied: AtomicU64::new(0),
            dropped: AtomicU64::new(0),
            failed: AtomicU64::new(0),
            same_status: AtomicU64::new(0),
            other_status: AtomicU64::new(0),
            server_errors: AtomicU64::new(0),
            primary_server_errors: AtomicU64::new(0),
            same_body: AtomicU64::new(0),
            other_body: AtomicU64::new(0),
            latency: buckets(),
            latency_micros: AtomicU64::new(0),
            primary_latency: buckets(),
            primary_latency_micros: AtomicU64::new(0),
        }
    }
}

/// See the module.
#[derive(Debug)]
pub(crate) struct Comparison {
    under_way: AtomicU32,
    lanes: Box<[Lane]>,
}

impl Comparison {
    /// Counters at zero.
    pub(crate) fn new(workers: usize) -> Self {
        Self {
            under_way: AtomicU32::new(0),
            lanes: (0..workers).map(|_| Lane::new()).collect(),
        }
    }

    /// Takes a place among the copies under way, if there are fewer than these.
    pub(super) fn enter(&self, most: u32) -> bool {
        let before = self.under_way.fetch_add(1, Relaxed);
        if before >= most {
            self.under_way.fetch_sub(1, Relaxed);
        }
        before < most
    }

    /// Gives the place back.
    pub(super) fn leave(&self) {
        self.under_way.fetch_sub(1, Relaxed);
    }

    /// A copy is sent.
    pub(super) fn copied(&self, worker: usize) {
        add_one(&self.lanes[worker].copied);
    }

    /// A copy is not sent, because too many are.
    pub(super) fn dropped(&self, worker: usize) {
        add_one(&self.lanes[worker].dropped);
    }

    /// A copy got no whole answer.
    pub(super) fn failed(&self, worker: usize) {
        add_one(&self.lanes[worker].failed);
    }

    /// Both answers have a head: the status, and the microseconds that it took.
    pub(super) fn heads(
        &self,
        worker: usize,
        (primary, primary_micros): (StatusCode, u64),
        (copy, copy_micros): (StatusCode, u64),
    ) {
        let lane = &self.lanes[worker];
        add_one(if primary == copy {
            &lane.same_status
        } else {
            &lane.other_status
        });
        if copy.is_server_error() {
            add_one(&lane.server_errors);
        }
        if primary.is_server_error() {
            add_one(&lane.primary_server_errors);
        }
        let bucket = |micros| usize::from(Histogram::bucket_of(micros));
        add_one(&lane.primary_latency[bucket(primary_micros)]);
        add_one(&lane.latency[bucket(copy_micros)]);
        add(&lane.primary_latency_micros, primary_micros);
        add(&lane.latency_micros, copy_micros);
    }

    /// Both answers have a body.
    pub(super) fn bodies(&self, worker: usize, same: bool) {
        let lane = &self.lanes[worker];
        add_one(if same {
            &lane.same_body
        } else {
            &lane.other_body
        });
    }

    /// All lanes together.
    pub(crate) fn read(&self) -> MirrorStatistics {
        let mut sum = MirrorStatistics::default();
        for lane in &self.lanes {
            sum.copied += lane.copied.load(Relaxed);
            sum.dropped += lane.dropped.load(Relaxed);
            sum.failed += lane.failed.load(Relaxed);
            sum.same_status += lane.same_status.load(Relaxed);
            sum.other_status += lane.other_status.load(Relaxed);
            sum.server_errors += lane.server_errors.load(Relaxed);
            sum.primary_server_errors += lane.primary_server_errors.load(Relaxed);
            sum.same_body += lane.same_body.load(Relaxed);
            sum.other_body += lane.other_body.load(Relaxed);
            sum.latency_micros += lane.latency_micros.load(Relaxed);
            sum.primary_latency_micros += lane.primary_latency_micros.load(Relaxed);
            let pairs = lane.latency.iter().zip(&lane.primary_latency);
            for (bucket, (copy, primary)) in (0..).zip(pairs) {
                sum.latency.add(bucket, copy.load(Relaxed));
                sum.primary_latency.add(bucket, primary.load(Relaxed));
            }
        }
        sum
    }
}
