//! Durations in buckets that can be added up.

use std::collections::BTreeMap;

use serde::{Deserialize, Deserializer, Serialize};

/// A latency histogram of microseconds: eight buckets to each power of two, so
/// a quantile is at most 12.5 % above the truth. Merging adds the counts.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
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
            let counted = self.buckets.entry(bucket).or_default();
            *counted = counted.saturating_add(count);
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
        let counts = self.buckets.values();
        counts.fold(0, |sum, &count| sum.saturating_add(count))
    }

    /// How many of the counted durations were surely above a bound in
    /// microseconds. The bucket of the bound itself is left out, so the error is
    /// on the low side: one that did not exceed the bound is never among them,
    /// one that exceeded it by at most an eighth may be missing.
    pub fn above(&self, micros: u64) -> u64 {
        let surely = self.buckets.range(Self::bucket_of(micros) + 1..);
        surely.fold(0, |sum, (_, &count)| sum.saturating_add(count))
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

impl<'de> Deserialize<'de> for Histogram {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        let mut histogram = Self::default();
        for (bucket, count) in BTreeMap::<u16, u64>::deserialize(from)? {
            if usize::from(bucket) >= Self::BUCKETS {
                let limit = Self::BUCKETS;
                let fault = format!("there is no bucket {bucket}, they end before {limit}");
                return Err(serde::de::Error::custom(fault));
            }
            histogram.add(bucket, count);
        }
        Ok(histogram)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn counted(values: &[u64]) -> Histogram {
        let mut histogram = Histogram::default();
        values.iter().for_each(|&value| histogram.record(value));
        histogram
    }

    fn merged(left: &Histogram, right: &Histogram) -> Histogram {
        let mut both = left.clone();
        both.merge(right);
        both
    }

    /// Histograms of any counts, those that no counter reaches too.
    fn any_histogram() -> impl Strategy<Value = Histogram> {
        let bucket = 0..Histogram::BUCKETS as u16;
        prop::collection::vec((bucket, prop_oneof![0_u64..1000, any::<u64>()]), 0..20).prop_map(
            |counts| {
                let mut histogram = Histogram::default();
                for (bucket, count) in counts {
                    histogram.add(bucket, count);
                }
                histogram
            },
        )
    }

    #[test]
    fn a_histogram_with_a_bucket_that_does_not_exist_is_refused() {
        let last = Histogram::BUCKETS - 1;
        let read = |bucket: usize| {
            serde_json::from_str::<Histogram>(&format!(r#"{{"3":2,"4":0,"{bucket}":1}}"#))
        };
        let histogram = read(last).unwrap();
        assert_eq!(histogram.quantile(1000), Some(u64::MAX));
        assert_eq!(histogram, merged(&counted(&[3, 3]), &counted(&[u64::MAX])));
        assert!(read(last + 1).is_err());
    }

    #[test]
    fn above_leaves_out_the_bucket_of_the_bound() {
        let histogram = counted(&[5, 100, 103, 104, 111, 112, u64::MAX]);
        let check =
            |bound: u64, expected: u64| assert_eq!(histogram.above(bound), expected, "{bound}");
        // From 96 a bucket has eight values: 96 to 103, 104 to 111.
        check(0, 7);
        check(5, 6);
        check(95, 6);
        check(96, 4);
        check(103, 4);
        check(104, 2);
        check(111, 2);
        check(u64::MAX - 1, 0);
        check(u64::MAX, 0);
    }

    #[test]
    fn quantiles_of_nothing_are_none() {
        assert_eq!(Histogram::default().quantile(990), None);
    }

    proptest! {
        #[test]
        fn merging_has_no_order_and_since_undoes_it(
            a in any_histogram(),
            b in any_histogram(),
            c in any_histogram(),
            left in prop::collection::vec(any::<u64>(), 0..50),
            right in prop::collection::vec(any::<u64>(), 0..50),
        ) {
            prop_assert_eq!(merged(&a, &b), merged(&b, &a));
            prop_assert_eq!(merged(&merged(&a, &b), &c), merged(&a, &merged(&b, &c)));
            prop_assert_eq!(merged(&a, &Histogram::default()), a.clone());
            prop_assert_eq!(a.since(&a), Histogram::default());
            let json = serde_json::to_string(&a).unwrap();
            prop_assert_eq!(serde_json::from_str::<Histogram>(&json).unwrap(), a);
            let (left, right) = (counted(&left), counted(&right));
            prop_assert_eq!(merged(&left, &right).since(&left), right);
        }

        #[test]
        fn quantiles_do_not_fall(histogram in any_histogram(), one in 0_u64..=1000, other in 0_u64..=1000) {
            let (low, high) = (one.min(other), one.max(other));
            prop_assert!(histogram.quantile(low) <= histogram.quantile(high));
        }

        #[test]
        fn above_counts_none_too_many_and_misses_an_eighth_at_most(
            values in prop::collection::vec(prop_oneof![0_u64..2000, any::<u64>()], 0..100),
            bound in prop_oneof![0_u64..2000, any::<u64>()],
        ) {
            let told = counted(&values).above(bound);
            let over = |limit: u64| values.iter().filter(|&&value| value > limit).count() as u64;
            prop_assert!(told <= over(bound));
            prop_assert!(told >= over(bound.saturating_add(bound / 8)));
        }

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
