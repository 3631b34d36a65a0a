//! Tests that may be looked at as often as one likes.
//!
//! Each test multiplies up how much likelier the counts are if the release is
//! bad than if it is not. If it is not, such a product is a non-negative
//! supermartingale that begins at 1: over a whole deploy, however often it is
//! looked at and whenever one stops, it reaches `1/α` with a probability of at
//! most `α` (Ville's inequality). An average of such products is one, too, so
//! one average over a grid of alternatives needs no guess how bad "bad" is.
//! `docs/design/verdict.md` has the proof and what it assumes.
//!
//! Logarithms are kept as whole millionths of a nat, so a state is stored and
//! compared exactly, and goes on after a crash as if there had been none.

use serde::{Deserialize, Serialize};

use crate::spec::Rate;

/// How many times worse a release may be: from what is worth an abort to what
/// is broken. Each is a factor of about two from the next, within which a test
/// for one finds the other with little loss; each more would dilute the rest.
const GRID: [f64; 6] = [2.0, 3.0, 5.0, 10.0, 20.0, 50.0];

/// Requests that each arm needs before a block is closed. With fewer, the share
/// of the arms in a block is mostly chance and hides what the errors tell; with
/// more, a small app waits longer.
const BLOCK: u64 = 5;

/// Millionths in one.
const MICRO: f64 = 1e6;

/// Of so many requests, so many went wrong.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Part {
    /// Requests that ended.
    pub requests: u64,
    /// Those that went wrong.
    pub wrong: u64,
}

impl Part {
    /// Adds what was counted later.
    pub fn add(&mut self, later: Self) {
        self.requests = self.requests.saturating_add(later.requests);
        self.wrong = self.wrong.saturating_add(later.wrong.min(later.requests));
    }
}

/// How much likelier the counts are if it is bad, in hundredths.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Likelihood(pub u64);

impl Likelihood {
    /// The average over the grid.
    fn average(logarithms: [i64; GRID.len()]) -> Self {
        let sum: f64 = logarithms.iter().map(|&l| (l as f64 / MICRO).exp()).sum();
        // A cast of what is too large takes the largest.
        Self((sum / GRID.len() as f64 * 100.0) as u64)
    }
}

/// Whether a new release is worse than the old one beside it: H0 is that a
/// request goes wrong at the new one with at most the chance that it has at
/// the old one, whatever that is and however it changes.
///
/// Requests are taken in blocks. Given the total of wrong requests in a block,
/// their split is hypergeometric if the arms are equal, and no function that is
/// convex in the split has a higher mean under it than under the binomial with
/// the same share; the likelihood ratio below is convex, and its mean under the
/// binomial is 1. Where a block ends depends on numbers of requests and on the
/// plan, never on how they went, or this would not hold.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct TwoArms {
    /// The block that is open.
    new: Part,
    old: Part,
    /// The logarithm for each ratio of the grid, in millionths.
    logarithms: [i64; GRID.len()],
    /// The wrong requests of each arm, each weighted by the share of the other
    /// arm in its block, and the weights, all in millionths (Mantel and
    /// Haenszel): the difference and the ratio of the arms, which no change of
    /// the weights between blocks distorts.
    weighted_new: i64,
    weighted_old: i64,
    weight: i64,
}

impl TwoArms {
    /// Takes what ended since the last time.
    pub fn observe(&mut self, new: Part, old: Part) {
        self.new.add(new);
        self.old.add(old);
        if self.new.requests.min(self.old.requests) >= BLOCK {
            self.close();
        }
    }

    /// Closes the open block: the shares of the arms are about to change, and a
    /// block holds only while they are what they were.
    pub fn close(&mut self) {
        let (new, old) = (std::mem::take(&mut self.new), std::mem::take(&mut self.old));
        if new.requests == 0 || old.requests == 0 {
            // With one arm alone there is nothing to compare.
            return;
        }
        let (n, m) = (new.requests as f64, old.requests as f64);
        let (c, d) = (new.wrong as f64, old.wrong as f64);
        for (logarithm, ratio) in self.logarithms.iter_mut().zip(GRID) {
            // θ₁/θ₀ and (1-θ₁)/(1-θ₀) with θ₀ = n/(n+m), θ₁ = rn/(rn+m).
            let common = ((n + m) / (ratio * n + m)).ln();
            let log = c * (ratio.ln() + common) + d * common;
            *logarithm = logarithm.saturating_add(micros(log));
        }
        self.weighted_new = self.weighted_new.saturating_add(micros(c * m / (n + m)));
        self.weighted_old = self.weighted_old.saturating_add(micros(d * n / (n + m)));
        self.weight = self.weight.saturating_add(micros(n * m / (n + m)));
    }

    /// How much likelier the counts are if the new release is worse.
    pub fn likelihood(&self) -> Likelihood {
        Likelihood::average(self.logarithms)
    }

    /// Whether the new release goes wrong more often than the old one by this
    /// difference at least, and by half as often again.
    pub fn is_worse_by(&self, difference: Rate) -> bool {
        let (new, old) = (i128::from(self.weighted_new), i128::from(self.weighted_old));
        let difference = i128::from(difference.0) * i128::from(self.weight);
        new > old && (new - old) * i128::from(Rate::ONE) >= difference && 2 * new >= 3 * old
    }
}

/// How much likelier the counts are if more than `limit` of the requests go
/// wrong: H0 is that each goes wrong with at most that chance, given those
/// before it. It depends on the sums alone, so it needs no state.
pub fn over_limit(limit: Rate, part: Part) -> Likelihood {
    let wrong = part.wrong.min(part.requests);
    if limit.0 >= Rate::ONE {
        return Likelihood(100);
    }
    if limit.0 == 0 {
        // What must never happen is proved by happening.
        return Likelihood(if wrong > 0 { u64::MAX } else { 100 });
    }
    let p = f64::from(limit.0) / f64::from(Rate::ONE);
    let (wrong, right) = (wrong as f64, (part.requests - wrong) as f64);
    Likelihood::average(GRID.map(|ratio| {
        // The odds of the limit times the ratio: a chance that stays below 1.
        let common = 1.0 / (1.0 - p + ratio * p);
        micros(wrong * (ratio * common).ln() + right * common.ln())
    }))
}

/// A cast of what is too large takes the largest.
fn micros(value: f64) -> i64 {
    (value * MICRO).round() as i64
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// Wrong ones and requests.
    type Of = (u64, u64);

    fn part((wrong, requests): Of) -> Part {
        Part { requests, wrong }
    }

    /// The expected figures were computed by another program, without rounding.
    fn is_about(found: Likelihood, expected: u64) {
        assert!(
            found.0.abs_diff(expected) <= 1 + expected / 100_000,
            "{} is not {expected}",
            found.0
        );
    }

    fn check(blocks: &[(Of, Of)], expected: u64) {
        let mut test = TwoArms::default();
        for &(new, old) in blocks {
            test.observe(part(new), part(old));
        }
        is_about(test.likelihood(), expected);
    }

    #[test]
    fn errors_of_the_new_arm_speak_against_it() {
        check(&[], 100);
        check(&[((0, 50), (0, 950))], 100);
        check(&[((1, 50), (0, 950))], 674);
        check(&[((0, 50), (1, 950))], 69);
        check(&[((3, 50), (0, 950))], 75_841);
        check(&[((3, 50), (57, 950))], 8);
        check(&[((31, 812), (40, 7_300))], 5_837_968_260_852);
        // Without requests of the other arm nothing is compared.
        check(&[((9, 9), (0, 0))], 100);
        check(&[((4, 4), (0, 950))], 100);
        check(&[((1, 4), (0, 95))], 100);
        check(&[((1, 5), (0, 95))], 674);
    }

    #[test]
    fn a_limit_is_broken_by_what_is_certain_not_by_noise() {
        let check = |limit, of, expected| {
            is_about(over_limit(Rate(limit), part(of)), expected);
        };
        check(1_000, (0, 0), 100);
        check(1_000, (0, 300), 0);
        check(1_000, (1, 20), 139);
        check(1_000, (2, 20), 863);
        check(1_000, (3, 20), 9_164);
        check(1_000, (15, 1_000), 26);
        check(0, (0, 1_000), 100);
        check(0, (1, 1_000), u64::MAX);
        check(Rate::ONE, (8, 9), 100);
    }

    #[test]
    fn the_difference_is_taken_within_blocks() {
        let check = |blocks: &[(Of, Of)], difference, expected| {
            let mut test = TwoArms::default();
            for &(new, old) in blocks {
                test.observe(part(new), part(old));
            }
            assert_eq!(test.is_worse_by(Rate(difference)), expected, "{blocks:?}");
        };
        check(&[((3, 1_000), (1, 1_000))], 200, true);
        check(&[((3, 1_000), (1, 1_000))], 201, false);
        check(&[((14, 1_000), (10, 1_000))], 0, false);
        check(&[((15, 1_000), (10, 1_000))], 0, true);
        check(&[((0, 1_000), (0, 1_000))], 0, false);
        // Both fail alike while most go to the new one: the sums would say 1.8 % and 0.2 %.
        check(&[((0, 100), (0, 900)), ((18, 900), (2, 100))], 0, false);
    }

    fn arms() -> impl Strategy<Value = Vec<(Part, Part)>> {
        let arm = || (0_u64..40, 0_u64..40).prop_map(|(a, b)| part((a.min(b), b)));
        proptest::collection::vec((arm(), arm()), 0..30)
    }

    proptest! {
        #[test]
        fn one_more_error_of_the_new_arm_never_speaks_for_it(looks in arms(), at: prop::sample::Index) {
            let fold = |looks: &[(Part, Part)]| {
                let mut test = TwoArms::default();
                looks.iter().for_each(|&(new, old)| test.observe(new, old));
                test.likelihood()
            };
            let mut more = looks.clone();
            if !more.is_empty() {
                let new = &mut more[at.index(looks.len())].0;
                new.wrong = (new.wrong + 1).min(new.requests);
            }
            prop_assert!(fold(&more) >= fold(&looks));
        }

        #[test]
        fn one_more_error_is_never_nearer_to_the_limit(limit in 0..=Rate::ONE, wrong in 0_u64..500, right in 0_u64..5_000) {
            let requests = wrong + right + 1;
            let one = over_limit(Rate(limit), Part { requests, wrong });
            let more = over_limit(Rate(limit), Part { requests, wrong: wrong + 1 });
            prop_assert!(more >= one);
        }

        /// The exact mean of the ratio over the hypergeometric split of a block.
        #[test]
        fn equal_arms_gain_nothing_on_average(n in 5_u64..30, m in 5_u64..30, total in 0_u64..12) {
            let choose = |n: u64, k: u64| (0..k).fold(1.0, |c, i| c * (n - i) as f64 / (i + 1) as f64);
            let total = total.min(n).min(m);
            let mut mean = 0.0;
            for c in 0..=total {
                let chance = choose(n, c) * choose(m, total - c) / choose(n + m, total);
                let mut test = TwoArms::default();
                test.observe(part((c, n)), part((total - c, m)));
                mean += chance * test.likelihood().0 as f64 / 100.0;
            }
            prop_assert!(mean <= 1.0 + 1e-5, "{mean}");
        }
    }
}
