//! Seeded chance, so that a run of a load or a test can be had again.

use std::time::Duration;

/// SplitMix64: small, and even enough to spread moments and sizes with.
#[derive(Clone, Debug)]
pub struct Chance(u64);

impl Chance {
    /// The same seed gives the same numbers.
    #[must_use]
    pub fn new(seed: u64) -> Self {
        Self(seed)
    }

    /// Another one, independent of this and the same each time.
    #[must_use]
    pub fn branch(&self, number: u64) -> Self {
        let mut branch = Self(self.0 ^ number.wrapping_mul(0xD6E8_FEB8_6659_FD93));
        branch.next();
        branch
    }

    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        mixed ^ (mixed >> 31)
    }

    /// A number from `least` to `most`, both included.
    pub fn between(&mut self, least: u64, most: u64) -> u64 {
        let span = most.saturating_sub(least).saturating_add(1);
        least + self.next() % span
    }

    /// A time from `least` to `most`, to the microsecond.
    pub fn time(&mut self, least: Duration, most: Duration) -> Duration {
        let micros = |time: Duration| u64::try_from(time.as_micros()).unwrap_or(u64::MAX);
        Duration::from_micros(self.between(micros(least), micros(most)))
    }

    /// A time of so many milliseconds.
    pub fn millis(&mut self, least: u64, most: u64) -> Duration {
        self.time(Duration::from_millis(least), Duration::from_millis(most))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_seed_gives_the_same_numbers_and_a_branch_others() {
        let numbers =
            |mut chance: Chance| (0..8).map(|_| chance.between(0, 99)).collect::<Vec<_>>();
        assert_eq!(numbers(Chance::new(7)), numbers(Chance::new(7)));
        assert_ne!(numbers(Chance::new(7)), numbers(Chance::new(8)));
        assert_ne!(numbers(Chance::new(7)), numbers(Chance::new(7).branch(1)));
    }

    #[test]
    fn both_ends_are_reached_and_not_left() {
        let mut chance = Chance::new(1);
        let mut seen: Vec<_> = (0..200).map(|_| chance.between(3, 5)).collect();
        seen.sort_unstable();
        seen.dedup();
        assert_eq!(seen, [3, 4, 5]);
    }
}
