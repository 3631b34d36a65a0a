//! The pools that have a weight, and whose turn it is.
//!
//! Without a key a request is drawn: a pool gets as many of the 10,000 lots as
//! its weight says. With a key it is the key's own wait for each pool that
//! decides: a number drawn from the key and the pool, exponentially distributed
//! like the wait for a bus, divided by the pool's weight. The shortest wait wins.
//!
//! Invariant (monotone): while the weight of a pool only rises and those of the
//! others only fall, no key leaves it. Only waits for that pool get shorter.
//! Invariant: as long as the others keep their proportions (two pools always
//! do) a key moves to the risen pool or not at all. More is not possible: that
//! three pools would give and take exactly one another's keys, whatever the
//! change, contradicts itself, because each pool's keys would then have to
//! depend on its own weight alone.
//! Invariant: of two pools each gets exactly its weight. The part that the one
//! wait has in the sum of both is spread evenly from 0 to 1, and the pool of
//! that wait wins where the part is below its weight.

use std::cmp::Ordering;
use std::sync::Arc;

use super::hash;
use super::pool::Pool;

/// See the module.
#[derive(Debug, Default)]
pub(super) struct Shares(Vec<Share>);

#[derive(Debug)]
struct Share {
    pool: Arc<Pool>,
    weight: u16,
    seed: u64,
}

impl Shares {
    /// The shares of an app's pools, which come with their names.
    pub(super) fn of<'a>(
        app: &str,
        pools: impl IntoIterator<Item = (&'a str, Arc<Pool>, u16)>,
    ) -> Self {
        let app = hash::of(app.as_bytes());
        let share = |(name, pool, weight): (&str, _, _)| Share {
            pool,
            weight,
            seed: hash::with(app, hash::of(name.as_bytes())),
        };
        let pools = pools.into_iter().map(share);
        Self(pools.filter(|share| share.weight > 0).collect())
    }

    /// The pool that gets everything, if one does.
    pub(super) fn sole(&self) -> Option<&Arc<Pool>> {
        match self.0.as_slice() {
            [only] => Some(&only.pool),
            _ => None,
        }
    }

    /// The pool of a request without a key; none of `excluding`.
    pub(super) fn drawn(&self, random: u64, excluding: &[&Pool]) -> Option<&Arc<Pool>> {
        let left = || self.left(excluding);
        // Most often 10,000; less where a pool is left out.
        let sum: u64 = left().map(|share| u64::from(share.weight)).sum();
        let mut lot = ((u128::from(random) * u128::from(sum)) >> 64) as u64;
        let drawn = left().find(|share| match lot.checked_sub(share.weight.into()) {
            Some(rest) => {
                lot = rest;
                false
            }
            None => true,
        });
        drawn.map(|share| &share.pool)
    }

    /// The pool of a client that is known by `key`; none of `excluding`.
    pub(super) fn of_key(&self, key: u64, excluding: &[&Pool]) -> Option<&Arc<Pool>> {
        self.soonest(excluding, |share| wait(hash::with(key, share.seed)))
    }

    fn soonest(&self, excluding: &[&Pool], wait: impl Fn(&Share) -> f64) -> Option<&Arc<Pool>> {
        if let Some(sole) = self.sole()
            && excluding.is_empty()
        {
            return Some(sole);
        }
        let waits = self
            .left(excluding)
            .map(|share| (share, wait(share) / f64::from(share.weight)));
        let soonest = waits.min_by(|(_, a), (_, b)| a.partial_cmp(b).unwrap_or(Ordering::Equal));
        soonest.map(|(share, _)| &share.pool)
    }

    fn left(&self, excluding: &[&Pool]) -> impl Iterator<Item = &Share> {
        let out = move |share: &&Share| !super::is_among(&share.pool, excluding);
        self.0.iter().filter(out)
    }
}

/// An exponentially distributed number from an evenly distributed one.
fn wait(random: u64) -> f64 {
    // The 53 bits that a float can tell apart, from just above 0 to 1.
    const STEPS: f64 = (1_u64 << 53) as f64;
    let even = ((random >> 11) + 1) as f64 / STEPS;
    -even.ln()
}

#[cfg(test)]
mod tests {
    use super::super::pool::tests::pool;
    use super::*;
    use cutover_wire::table::WHOLE;
    use proptest::prelude::*;

    const NAMES: [&str; 4] = ["v1", "v2", "v3", "v4"];

    /// The same pools at other weights.
    fn shares(pools: &[Arc<Pool>], weights: &[u16]) -> Shares {
        let pools = NAMES.iter().zip(pools).zip(weights);
        Shares::of(
            "shop",
            pools.map(|((name, pool), weight)| (*name, Arc::clone(pool), *weight)),
        )
    }

    fn pools() -> Vec<Arc<Pool>> {
        NAMES.iter().map(|name| Arc::new(pool(name, 1))).collect()
    }

    fn place(pools: &[Arc<Pool>], chosen: Option<&Arc<Pool>>) -> usize {
        let chosen = chosen.unwrap();
        pools
            .iter()
            .position(|pool| Arc::ptr_eq(pool, chosen))
            .unwrap()
    }

    fn counts(number: u64, of: impl Fn(u64) -> usize) -> [u64; 4] {
        let mut counts = [0; 4];
        (0..number).for_each(|key| counts[of(key)] += 1);
        counts
    }

    #[test]
    fn each_pool_is_drawn_exactly_by_its_weight() {
        let pools = pools();
        let check = |weights: &[u16], excluding: &[&Pool], expected: [u64; 4]| {
            let shares = shares(&pools, weights);
            let sum: u64 = expected.iter().sum();
            let lot = |lot: u64| ((u128::from(lot) << 64) / u128::from(sum) + 1) as u64;
            let drawn = counts(sum, |n| place(&pools, shares.drawn(lot(n), excluding)));
            assert_eq!(drawn, expected, "{weights:?}");
        };
        check(&[10_000], &[], [10_000, 0, 0, 0]);
        check(&[9_999, 1], &[], [9_999, 1, 0, 0]);
        check(&[2_500, 0, 7_499, 1], &[], [2_500, 0, 7_499, 1]);
        check(&[2_500, 7_500], &[&pools[1]], [2_500, 0, 0, 0]);
        check(&[5_000, 3_000, 2_000], &[&pools[0]], [0, 3_000, 2_000, 0]);
        let shares = shares(&pools, &[9_000, 1_000]);
        assert!(shares.drawn(u64::MAX, &[&pools[0], &pools[1]]).is_none());
        assert_eq!(place(&pools, shares.drawn(u64::MAX, &[])), 1);
        assert_eq!(place(&pools, shares.drawn(0, &[])), 0);
    }

    #[test]
    fn of_two_pools_each_gets_as_many_buckets_as_its_weight_says() {
        let pools = pools();
        for weight in [1, 2, 500, 1_000, 3_333, 5_000, 9_999] {
            let shares = shares(&pools, &[WHOLE - weight, weight]);
            let taken = counts(WHOLE.into(), |bucket| {
                let part = (bucket as f64 + 0.5) / f64::from(WHOLE);
                let wait = |share: &Share| match Arc::ptr_eq(&share.pool, &pools[1]) {
                    true => part,
                    false => 1.0 - part,
                };
                place(&pools, shares.soonest(&[], wait))
            });
            assert_eq!(taken, [(WHOLE - weight).into(), weight.into(), 0, 0]);
        }
    }

    #[test]
    fn keys_in_a_row_are_spread_by_the_weights() {
        let pools = pools();
        let check = |keys: u64, weights: &[u16], percent: [u64; 4], slack: u64| {
            let shares = shares(&pools, weights);
            let key = |n: u64| hash::of(format!("u{}", n + 1).as_bytes());
            let found = counts(keys, |n| place(&pools, shares.of_key(key(n), &[])));
            for (count, percent) in found.iter().zip(percent) {
                let expected = keys * percent / 100;
                assert!(
                    count.abs_diff(expected) <= slack,
                    "{found:?} of {weights:?}"
                );
            }
        };
        // Three standard deviations of chance: 9 of 100, 150 of 10,000.
        check(100, &[9_000, 1_000], [90, 10, 0, 0], 9);
        check(10_000, &[9_000, 1_000], [90, 10, 0, 0], 90);
        check(10_000, &[5_000, 5_000], [50, 50, 0, 0], 150);
        check(10_000, &[2_000, 3_000, 1_000, 4_000], [20, 30, 10, 40], 150);
        check(10_000, &[0, 0, 0, 10_000], [0, 0, 0, 100], 0);
    }

    proptest! {
        /// Weights that rise for one pool and fall for the others, each by what it likes.
        #[test]
        fn nobody_leaves_a_pool_that_only_rises(
            before in prop::collection::vec(1_u16..2_500, 2..=4),
            risen in 0_usize..4,
            change in prop::collection::vec(0_u16..2_500, 4),
            keys in prop::collection::vec(any::<u64>(), 200),
        ) {
            let (pools, risen) = (pools(), risen % before.len());
            let mut after = before.clone();
            for (place, weight) in after.iter_mut().enumerate() {
                *weight = match place == risen {
                    true => *weight + change[place],
                    false => weight.saturating_sub(change[place]),
                };
            }
            let (old, new) = (shares(&pools, &before), shares(&pools, &after));
            for key in keys {
                let from = place(&pools, old.of_key(key, &[]));
                let to = place(&pools, new.of_key(key, &[]));
                prop_assert!(from != risen || to == risen, "{before:?} {after:?}");
                // Two pools have always kept their proportions to each other.
                prop_assert!(before.len() > 2 || to == from || to == risen);
            }
        }

        /// One pool rises and the others keep their proportions.
        #[test]
        fn a_rising_weight_moves_clients_only_to_itself(
            parts in prop::collection::vec(1_u16..20, 3),
            pools_left in 1_usize..=3,
            steps in prop::collection::btree_set(0_u16..100, 2..6),
            keys in prop::collection::vec(any::<u64>(), 200),
        ) {
            let pools = pools();
            let parts = &parts[..pools_left];
            let mut last: Option<Shares> = None;
            for step in steps {
                let mut weights: Vec<u16> = parts.iter().map(|part| part * (100 - step)).collect();
                weights.push(step * 30);
                let next = shares(&pools, &weights);
                for &key in last.iter().flat_map(|_| &keys) {
                    let old = last.as_ref().unwrap().of_key(key, &[]);
                    let (from, to) = (place(&pools, old), place(&pools, next.of_key(key, &[])));
                    prop_assert!(to == from || to == pools_left, "{from} to {to} by {weights:?}");
                }
                last = Some(next);
            }
        }

        /// Whoever's pool has no target goes elsewhere, and nobody else moves.
        #[test]
        fn leaving_out_a_pool_moves_only_its_own_clients(
            weights in prop::collection::vec(1_u16..2_500, 2..=4),
            out in 0_usize..4,
            keys in prop::collection::vec(any::<u64>(), 200),
        ) {
            let (pools, out) = (pools(), out % weights.len());
            let shares = shares(&pools, &weights);
            for key in keys {
                let from = place(&pools, shares.of_key(key, &[]));
                let to = place(&pools, shares.of_key(key, &[&pools[out]]));
                prop_assert!(to != out && (from == out || to == from));
            }
        }
    }
}
