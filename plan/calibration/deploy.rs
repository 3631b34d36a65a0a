//! One modelled deploy: traffic drawn look by look, and each judge's ruling.

use std::time::Duration;

use cutover_plan::id::ReleaseNumber;
use cutover_plan::spec::Rate;
use cutover_plan::verdict::canary::{CanaryRule, Comparison, Health, Look};
use cutover_plan::verdict::{Counts, Verdict};

use crate::chance::Chance;

/// How often the agent looks, in seconds.
const LOOK: f64 = 2.0;

/// How long a stage lasts, in seconds.
pub(crate) const BAKE: f64 = 600.0;

/// What is drawn.
#[derive(Clone, Copy)]
pub(crate) struct Cell {
    /// Requests in a second, to both releases.
    pub(crate) traffic: f64,
    pub(crate) old_rate: f64,
    pub(crate) new_rate: f64,
    /// The share of the new release in each stage.
    pub(crate) shares: &'static [f64],
    /// How many errors come together: a user whose every request fails sends more than one.
    pub(crate) burst: u64,
    pub(crate) until: Until,
}

/// When a deploy that nobody stops ends.
#[derive(Clone, Copy, PartialEq)]
pub(crate) enum Until {
    /// Each stage has baked.
    Baked,
    /// The new release ended so many requests in its one stage.
    Requests(u64),
}

/// What became of a deploy.
#[derive(Clone, Copy, Default)]
pub(crate) struct Ending {
    /// At how many requests of the new release the canary judge took it back.
    pub(crate) aborted: Option<u64>,
    /// The same of 20 requests and 1 %, in each stage.
    pub(crate) fixed: Option<u64>,
    /// The same of Fisher's exact test at 5 %, at each look.
    pub(crate) fisher: Option<u64>,
    /// Whether Fisher's exact test at 5 %, once at the end, finds it worse.
    pub(crate) once: bool,
    /// The same of Mann and Whitney's test at 2 % over buckets of a tenth of the deploy, once at the end.
    pub(crate) buckets: Option<u64>,
    /// Good verdicts on fewer requests of the stage than the minimum sample.
    pub(crate) good_too_soon: u64,
    pub(crate) good: bool,
    pub(crate) inconclusive: bool,
}

/// Which judges run beside ours.
#[derive(Clone, Copy, PartialEq)]
pub(crate) enum Beside {
    /// The fixed threshold.
    Fixed,
    /// And one test at the end.
    Once,
    /// And those that were rejected.
    All,
}

pub(crate) fn rule() -> CanaryRule {
    CanaryRule {
        bake: Duration::from_secs(BAKE as u64),
        min_requests: CanaryRule::DEFAULT_MIN_REQUESTS,
        max_error_rate: Rate(1_000),
        max_latency_p99: None,
        min_difference: CanaryRule::DEFAULT_MIN_DIFFERENCE,
        extend_to: None,
    }
}

/// Runs one deploy.
pub(crate) fn run(cell: &Cell, chance: &mut Chance, beside: Beside) -> Ending {
    let rule = rule();
    let mut comparison = Comparison::new(ReleaseNumber(2), ReleaseNumber(1));
    let mut ending = Ending::default();
    let (mut new, mut old) = (Counts::default(), Counts::default());
    let mut by_stage: Vec<Vec<(Counts, Counts)>> = Vec::new();
    for (stage, &share) in cell.shares.iter().enumerate() {
        if stage > 0 {
            comparison.begin_stage();
        }
        let mut of_stage = Counts::default();
        let mut looks = Vec::new();
        // Where requests of the new release are rarer than looks, a look is
        // taken for each that is due: between them nothing is decided.
        let pace = LOOK.max(1.0 / (cell.traffic * share));
        let mut elapsed: f64 = 0.0;
        loop {
            elapsed += pace;
            let look = draw(cell, share, pace, chance);
            if ending.aborted.is_none() {
                comparison.observe(&look);
            }
            new.add(look.new);
            old.add(look.old);
            of_stage.add(look.new);
            // To a deploy that ends by its requests the bake is not yet over.
            let baked = match cell.until {
                Until::Baked => Duration::from_secs_f64(elapsed.min(BAKE)),
                Until::Requests(_) => Duration::ZERO,
            };
            let moved = look.new.requests > 0 || baked >= rule.bake;
            if ending.aborted.is_none() && moved {
                match comparison.judge(&rule, baked) {
                    Some(Verdict::Bad { .. }) => ending.aborted = Some(new.requests),
                    Some(Verdict::Good { .. }) => {
                        ending.good = true;
                        ending.good_too_soon += u64::from(of_stage.requests < rule.min_requests);
                    }
                    Some(Verdict::NoVerdict { lack, .. }) => {
                        ending.good = false;
                        ending.inconclusive |= lack == cutover_plan::verdict::Lack::Inconclusive;
                    }
                    None => {}
                }
            }
            let over = Rate(1_000).is_exceeded_by(of_stage.errors, of_stage.requests);
            if ending.fixed.is_none() && of_stage.requests >= 20 && over {
                ending.fixed = Some(new.requests);
            }
            if beside == Beside::All {
                if ending.fisher.is_none() && look.new.errors > 0 && fisher(new, old) <= 0.05 {
                    ending.fisher = Some(new.requests);
                }
                looks.push((look.new, look.old));
            }
            let stopped =
                ending.aborted.is_some() && ending.fixed.is_some() && beside == Beside::Fixed;
            let over = match cell.until {
                Until::Baked => elapsed >= BAKE,
                Until::Requests(requests) => of_stage.requests >= requests,
            };
            if over || stopped {
                break;
            }
        }
        by_stage.push(looks);
    }
    ending.once = beside != Beside::Fixed && fisher(new, old) <= 0.05;
    if beside == Beside::All && mann_whitney(&by_stage.concat()) {
        ending.buckets = Some(new.requests);
    }
    ending
}

fn draw(cell: &Cell, share: f64, pace: f64, chance: &mut Chance) -> Look {
    let mut arm = |traffic: f64, rate: f64| {
        let requests = chance.poisson(traffic * pace);
        let errors = chance.binomial(requests, rate / cell.burst as f64) * cell.burst;
        Counts {
            requests,
            errors: errors.min(requests),
            slow: 0,
        }
    };
    Look {
        new: arm(cell.traffic * share, cell.new_rate),
        old: arm(cell.traffic * (1.0 - share), cell.old_rate),
        health: Health::default(),
    }
}

/// The chance of a split at least as bad for the new release, given the sums.
fn fisher(new: Counts, old: Counts) -> f64 {
    let (n, total) = (new.requests, new.requests + old.requests);
    let wrong = new.errors + old.errors;
    let mut sum = 0.0;
    for c in new.errors..=wrong.min(n) {
        let log = choose(n, c) + choose(total - n, wrong - c) - choose(total, wrong);
        let term = log.exp();
        sum += term;
        if term < sum * 1e-6 {
            break;
        }
    }
    sum
}

/// The logarithm of a binomial coefficient; none of what cannot be is minus infinity.
fn choose(n: u64, k: u64) -> f64 {
    if k > n {
        return f64::NEG_INFINITY;
    }
    factorial(n) - factorial(k) - factorial(n - k)
}

/// The logarithm of a factorial: exact when small, then by Stirling's series.
fn factorial(n: u64) -> f64 {
    if n < 20 {
        return (2..=n).map(|i| (i as f64).ln()).sum();
    }
    let x = n as f64;
    x * x.ln() - x + 0.5 * (std::f64::consts::TAU * x).ln() + 1.0 / (12.0 * x)
        - 1.0 / (360.0 * x * x * x)
}

/// Whether the error rates of ten buckets differ upwards at 2 %, one side, by
/// the normal approximation with ties.
fn mann_whitney(looks: &[(Counts, Counts)]) -> bool {
    let rates = |of: fn(&(Counts, Counts)) -> Counts| -> Vec<f64> {
        let buckets = looks.chunks(looks.len().div_ceil(10).max(1)).map(|chunk| {
            let mut sum = Counts::default();
            chunk.iter().for_each(|look| sum.add(of(look)));
            sum
        });
        let counted = buckets.filter(|sum| sum.requests > 0);
        counted
            .map(|sum| sum.errors as f64 / sum.requests as f64)
            .collect()
    };
    let (new, old) = (rates(|look| look.0), rates(|look| look.1));
    let (n, m) = (new.len() as f64, old.len() as f64);
    let mut u = 0.0;
    for a in &new {
        u += old
            .iter()
            .map(|b| {
                if a > b {
                    1.0
                } else if a == b {
                    0.5
                } else {
                    0.0
                }
            })
            .sum::<f64>();
    }
    let mut all: Vec<f64> = new.iter().chain(&old).copied().collect();
    all.sort_by(f64::total_cmp);
    let ties: f64 = all
        .chunk_by(|a, b| a == b)
        .map(|tie| (tie.len() as f64).powi(3) - tie.len() as f64)
        .sum();
    let sum = n + m;
    let variance = n * m / 12.0 * (sum + 1.0 - ties / (sum * (sum - 1.0)));
    // 2.054 is the quantile of 98 %.
    variance > 0.0 && (u - n * m / 2.0 - 0.5) / variance.sqrt() > 2.054
}
