//! What the proxy counted, per pool, since it started.
//!
//! All figures only grow, so a reader takes differences; they begin at zero
//! with each proxy process, whose `instance` tells a reader to begin anew.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

/// All counts of one proxy process.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Statistics {
    /// The process that counted; see [`crate::proxy::Status::instance`].
    pub instance: String,
    /// The counts of each pool, by app and pool name.
    pub apps: BTreeMap<String, BTreeMap<String, PoolStatistics>>,
}

/// The counts of one pool. Each request ends in exactly one of the five outcomes.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct PoolStatistics {
    /// Answers of the target below 400.
    pub succeeded: u64,
    /// Answers of the target from 400 to 499.
    pub client_errors: u64,
    /// Answers of the target of 500 and above.
    pub server_errors: u64,
    /// Requests that got no whole answer of the target: refused, reset, timed out.
    pub failed: u64,
    /// Requests whose client left first.
    pub abandoned: u64,
    /// Repeats of a request that had reached no target.
    pub retries: u64,
    /// Requests inside now, streams and tunnels not counted.
    pub requests_open: u64,
    /// Streamed answers (server-sent events) inside now.
    pub streams_open: u64,
    /// Upgraded connections (WebSocket) inside now.
    pub tunnels_open: u64,
    /// Time from the whole head of the request to the head of the answer.
    pub latency: Histogram,
}

impl PoolStatistics {
    /// Requests that ended, those of clients that left first not counted.
    pub fn finished(&self) -> u64 {
        self.succeeded + self.client_errors + self.server_errors + self.failed
    }

    /// Adds the counts of another time; what is open now is the other's.
    pub fn merge(&mut self, later: &Self) {
        self.succeeded += later.succeeded;
        self.client_errors += later.client_errors;
        self.server_errors += later.server_errors;
        self.failed += later.failed;
        self.abandoned += later.abandoned;
        self.retries += later.retries;
        self.requests_open = later.requests_open;
        self.streams_open = later.streams_open;
        self.tunnels_open = later.tunnels_open;
        self.latency.merge(&later.latency);
    }

    /// What was counted since `earlier`, which the same process must have told.
    pub fn since(&self, earlier: &Self) -> Self {
        Self {
            succeeded: self.succeeded.saturating_sub(earlier.succeeded),
            client_errors: self.client_errors.saturating_sub(earlier.client_errors),
            server_errors: self.server_errors.saturating_sub(earlier.server_errors),
            failed: self.failed.saturating_sub(earlier.failed),
            abandoned: self.abandoned.saturating_sub(earlier.abandoned),
            retries: self.retries.saturating_sub(earlier.retries),
            requests_open: self.requests_open,
            streams_open: self.streams_open,
            tunnels_open: self.tunnels_open,
            latency: self.latency.since(&earlier.latency),
        }
    }
}

/// A latency histogram of microseconds: eight buckets to each power of two, so
/// a quantile is at most 12.5 % above the truth. Merging adds the counts.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Histogram {
    /// The count of each bucket that is not empty.
    buckets: BTreeMap<u16, u64>,
}

/// Buckets of one power of two, as a power of two.
const SUB_BITS: u32 = 3;
const SUB: u64 = 1 << SUB_BITS;

impl Histogram {
    /// The number of buckets; an array of this length can be counted into by [`Histogram::bucket_of`].
    pub const BUCKETS: usize = (64 - SUB_BITS as usize + 1) * SUB as usize;

    /// The bucket of a duration in microseconds.
    pub fn bucket_of(micros: u64) -> u16 {
        if micros < SUB {
            return micros as u16;
        }
        let power = 63 - micros.leading_zeros();
        let sub = (micros >> (power - SUB_BITS)) & (SUB - 1);
        (u64::from(power - SUB_BITS + 1) * SUB + sub) as u16
    }

    /// The largest duration that falls in a bucket.
    pub fn upper_bound(bucket: u16) -> u64 {
        let bucket = u64::from(bucket);
        if bucket < SUB {
            return bucket;
        }
        let power = bucket / SUB - 1;
        let low = u128::from(SUB + bucket % SUB + 1) << power;
        u64::try_from(low - 1).unwrap_or(u64::MAX)
    }

    /// Counts one duration.
    pub fn record(&mut self, micros: u64) {
        self.add(Self::bucket_of(micros), 1);
    }

    /// Counts `count` durations of one bucket.
    pub fn add(&mut self, bucket: u16, count: u64) {
        if count > 0 && usize::from(bucket) < Self::BUCKETS {
            *self.buckets.entry(bucket).or_default() += count;
        }
    }

    /// Adds all counts of another histogram.
    pub fn merge(&mut self, other: &Self) {
        for (&bucket, &count) in &other.buckets {
            self.add(bucket, count);
        }
    }

    /// What was counted since `earlier`.
    pub fn since(&self, earlier: &Self) -> Self {
        let mut difference = Self::default();
        for (&bucket, &count) in &self.buckets {
            let before = earlier.buckets.get(&bucket).copied().unwrap_or(0);
            difference.add(bucket, count.saturating_sub(before));
        }
        difference
    }

    /// How many durations were counted.
    pub fn count(&self) -> u64 {
        self.buckets.values().sum()
    }

    /// The duration in microseconds that `per_mille` of the counted ones do not
    /// exceed; none where nothing was counted.
    pub fn quantile(&self, per_mille: u64) -> Option<u64> {
        let rank = (u128::from(self.count()) * u128::from(per_mille)).div_ceil(1000);
        let rank = rank.max(1);
        let mut seen = 0_u128;
        for (&bucket, &count) in &self.buckets {
            seen += u128::from(count);
            if seen >= rank {
                return Some(Self::upper_bound(bucket));
            }
        }
        None
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn quantiles_of_nothing_are_none() {
        assert_eq!(Histogram::default().quantile(990), None);
    }

    proptest! {
        #[test]
        fn a_bucket_holds_its_value_within_an_eighth(micros in any::<u64>()) {
            let bucket = Histogram::bucket_of(micros);
            prop_assert!(usize::from(bucket) < Histogram::BUCKETS);
            let upper = Histogram::upper_bound(bucket);
            prop_assert!(upper >= micros);
            prop_assert!(upper - micros <= micros / 8);
            if bucket > 0 {
                prop_assert!(Histogram::upper_bound(bucket - 1) < micros);
            }
        }

        #[test]
        fn merging_equals_counting_together(
            left in prop::collection::vec(any::<u64>(), 0..50),
            right in prop::collection::vec(any::<u64>(), 0..50),
        ) {
            let count = |values: &[u64]| {
                let mut histogram = Histogram::default();
                values.iter().for_each(|&v| histogram.record(v));
                histogram
            };
            let mut merged = count(&left);
            merged.merge(&count(&right));
            let together = count(&[left.clone(), right.clone()].concat());
            prop_assert_eq!(&merged, &together);
            prop_assert_eq!(together.since(&count(&left)), count(&right));
        }

        #[test]
        fn a_quantile_is_an_eighth_above_the_sorted_value_at_most(
            mut values in prop::collection::vec(0_u64..10_000_000, 1..200),
            per_mille in 1_u64..=1000,
        ) {
            let mut histogram = Histogram::default();
            values.iter().for_each(|&v| histogram.record(v));
            values.sort_unstable();
            let rank = (values.len() as u64 * per_mille).div_ceil(1000).max(1) as usize;
            let exact = values[rank - 1];
            let told = histogram.quantile(per_mille).unwrap();
            prop_assert!(told >= exact && told - exact <= exact / 8);
        }
    }
}
