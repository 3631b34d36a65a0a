//! How long a target keeps an idle connection, as far as it was told or seen.
//!
//! A look at a connection is true for the moment of the look only: the target may
//! close it while a request is on its way. So what must not be lost goes on one
//! only well within the time that the target was seen to keep one.

use std::time::Duration;

/// How long a target must have been seen to keep an idle connection before one
/// carries what must not be sent twice. A busy host may pause us for some
/// milliseconds before the first byte goes out.
pub(super) const KEPT_MIN: Duration = Duration::from_millis(50);

/// What is never gone below when a target is seen to close sooner.
const BOUND_MIN: Duration = Duration::from_millis(100);

/// What was learned of one target.
#[derive(Debug)]
pub(super) struct Patience {
    longest: Duration,
    bound: Duration,
    kept: Duration,
}

impl Patience {
    /// Nothing is known yet; no connection is to be idle for longer than `longest`.
    pub(super) fn new(longest: Duration) -> Self {
        Self {
            longest,
            bound: longest,
            kept: Duration::ZERO,
        }
    }

    /// Whether nothing was learned that is worth keeping.
    pub(super) fn is_blank(&self) -> bool {
        self.bound == self.longest && self.kept.is_zero()
    }

    /// How long an idle connection is used again at most.
    pub(super) fn bound(&self) -> Duration {
        self.bound
    }

    /// Whether the target closes so soon, as far as is known, that each connection
    /// is to be looked at.
    pub(super) fn is_short(&self) -> bool {
        self.kept < KEPT_MIN
    }

    /// Whether the target will not end a connection of this age just now.
    pub(super) fn is_safe(&self, age: Duration) -> bool {
        self.kept >= KEPT_MIN && age <= self.kept / 2
    }

    /// A connection of this age was found alive.
    pub(super) fn survived(&mut self, age: Duration) {
        self.kept = self.kept.max(age);
    }

    /// A connection of this age was found ended.
    pub(super) fn ended(&mut self, age: Duration) {
        self.learn(age / 2);
        self.kept = self.kept.min(age);
    }

    /// The target said how long it keeps idle connections: half of that is safe.
    pub(super) fn told(&mut self, kept: Duration) {
        self.learn(kept / 2);
        self.kept = kept;
    }

    /// The target closed a connection that was taken for alive.
    pub(super) fn surprised(&mut self) {
        self.kept = Duration::ZERO;
    }

    fn learn(&mut self, bound: Duration) {
        self.bound = self.bound.min(bound).max(BOUND_MIN);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What was seen of a target, in milliseconds: `+` alive, `-` ended; and up to
    /// which age its connections are safe then.
    fn check(seen: &[i64], safe: u64) {
        let mut patience = Patience::new(Duration::from_secs(4));
        for &age in seen {
            let millis = Duration::from_millis(age.unsigned_abs());
            if age < 0 {
                patience.ended(millis);
            } else {
                patience.survived(millis);
            }
        }
        let ages = (0..5_000).take_while(|&age| patience.is_safe(Duration::from_millis(age)));
        assert_eq!(ages.count() as u64, safe, "{seen:?}");
    }

    #[test]
    fn a_connection_is_safe_for_half_of_the_time_that_the_target_keeps_one() {
        check(&[], 0);
        check(&[49], 0);
        check(&[50], 26);
        check(&[2_000, 400], 1_001);
        check(&[2_000, -400], 201);
        check(&[2_000, -2], 0);
        // A restart of the target ends them all once.
        check(&[2_000, -2, 1_000], 501);
    }
}
