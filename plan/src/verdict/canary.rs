//! The canary judge: a new release against the old one that runs beside it.
//!
//! A [`Comparison`] is the fold of all looks of a deploy, over all its stages:
//! one test, so that more stages are not more chances to be wrong. What is
//! certain is judged first (a container died, health answers are bad, nothing
//! but failures); rates by tests that hold however often one looks
//! ([`sequential`](super::sequential)). A release is good only at the end of a
//! stage, on requests of that stage. Where the old release is as bad, nothing
//! is proved against the new one.
//!
//! `docs/design/verdict.md` has the reasons and the measured error rates.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::sequential::{Likelihood, Part, TwoArms, over_limit};
use super::{Counts, Figures, LOOK_ON, Lack, MAX_BAD_ANSWERS, SLOW_SHARE, Test, Verdict, ill};
use crate::id::ReleaseNumber;
use crate::spec::{Rate, render_duration};
use crate::step::{WatchRule, WithoutVerdict};

/// What makes a new release bad beside the old one.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CanaryRule {
    /// How long a stage lasts, at least.
    pub bake: Duration,
    /// Requests of the new release below which its rates are not judged; for a
    /// good verdict, requests of the stage.
    pub min_requests: u64,
    /// The share of requests that it may fail, however the old one does.
    pub max_error_rate: Rate,
    /// What at most one in a hundred answers may take longer than.
    pub max_latency_p99: Option<Duration>,
    /// How much more often than the old one it must fail to be bad, in
    /// hundred-thousandths of all requests.
    pub min_difference: Rate,
    /// Until when a stage without a verdict goes on.
    pub extend_to: Option<Duration>,
}

impl CanaryRule {
    /// What a watch asks of a comparison; none where it compares nothing.
    pub fn of(rule: &WatchRule) -> Option<Self> {
        let beside = rule.beside?;
        Some(Self {
            bake: rule.window,
            min_requests: rule.min_requests,
            max_error_rate: rule.max_error_rate,
            max_latency_p99: rule.max_latency_p99,
            min_difference: beside.min_difference,
            extend_to: match rule.without {
                WithoutVerdict::Extend { to } => Some(to),
                WithoutVerdict::Promote | WithoutVerdict::Abort | WithoutVerdict::Hold { .. } => {
                    None
                }
            },
        })
    }

    /// Fifty requests without an error still leave 6 % possible; fewer say nothing.
    pub const DEFAULT_MIN_REQUESTS: u64 = 50;
    /// 0.2 %: what is less no user notices and no test finds in a deploy.
    pub const DEFAULT_MIN_DIFFERENCE: Rate = Rate(200);
}

/// One chance in twenty that a whole deploy of a release that is no worse is
/// aborted, shared out: what compares errors gets the most, because it is what
/// finds most. The sum bounds the chance that any of them is wrong.
///
/// Errors beside the old release: 3.5 %, likelier by 28.58 times.
pub const ERRORS_THRESHOLD: Likelihood = Likelihood(2_858);
/// Errors against the limit: 1 %, likelier by 100 times.
pub const LIMIT_THRESHOLD: Likelihood = Likelihood(10_000);
/// Slow answers, against the limit and beside the old release: 0.5 %, likelier by 200 times.
pub const SLOW_THRESHOLD: Likelihood = Likelihood(20_000);

/// Failed requests in a row, and not one other, that make a release bad before
/// there are enough to judge rates by: at an error rate of 10 % they come once
/// in ten thousand million by chance, and a release that answers nothing is
/// found before it has failed more people than it must.
pub const MAX_RUN: u64 = 10;

/// Requests of the old release on which it is known to keep a limit: as many
/// as would show ten errors at the limit, a thousand at 1 %. One that fails
/// 5 % passes for one within 1 % of fifty requests one time in thirteen, of a
/// thousand never.
const KNOWN_BY: u128 = 10;

/// What one look saw.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Look {
    /// What ended at the new release since the look before.
    pub new: Counts,
    /// What ended at the old release since the look before.
    pub old: Counts,
    /// How the new release is now.
    pub health: Health,
}

/// How a release is, apart from its requests.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Health {
    /// Why a container of it is no longer well: exited, restarted, out of memory.
    pub casualty: Option<String>,
    /// Bad health answers in a row, at the end.
    pub bad_answers: u32,
    /// The last bad health answer.
    pub bad_answer: Option<String>,
    /// Why nothing could be counted, for example that the proxy does not answer.
    pub blind: Option<String>,
}

/// All looks of a deploy so far.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Comparison {
    /// The release that is judged.
    pub release: ReleaseNumber,
    /// The release beside it.
    pub beside: ReleaseNumber,
    new: Counts,
    old: Counts,
    /// Requests of the new release in this stage.
    stage_requests: u64,
    errors: TwoArms,
    slow: TwoArms,
    /// Requests of the new release in looks in which all of them failed, in a
    /// row, and what the old one did meanwhile.
    run: u64,
    run_beside: Part,
    health: Health,
}

/// How a limit stands.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Limit {
    Kept,
    /// Broken, but by the old release as well, or that is not known.
    BrokenByBoth,
    Broken,
}

impl Comparison {
    /// Nothing was looked at yet.
    pub fn new(release: ReleaseNumber, beside: ReleaseNumber) -> Self {
        Self {
            release,
            beside,
            new: Counts::default(),
            old: Counts::default(),
            stage_requests: 0,
            errors: TwoArms::default(),
            slow: TwoArms::default(),
            run: 0,
            run_beside: Part::default(),
            health: Health::default(),
        }
    }

    /// Takes a look.
    pub fn observe(&mut self, look: &Look) {
        let (new, old) = (look.new, look.old);
        self.new.add(new);
        self.old.add(old);
        self.stage_requests = self.stage_requests.saturating_add(new.requests);
        self.errors.observe(errors(new), errors(old));
        self.slow.observe(slow(new), slow(old));
        if new.errors < new.requests {
            self.run = 0;
            self.run_beside = Part::default();
        } else {
            self.run = self.run.saturating_add(new.requests);
            self.run_beside.add(errors(old));
        }
        self.health = look.health.clone();
    }

    /// The share of the requests that goes to the new release changes now: what
    /// was seen stays, what is good must be seen anew.
    pub fn begin_stage(&mut self) {
        self.errors.close();
        self.slow.close();
        self.stage_requests = 0;
    }

    /// Judges the new release; none while the stage lasts and nothing is certain.
    pub fn judge(&self, rule: &CanaryRule, elapsed_in_stage: Duration) -> Option<Verdict> {
        self.certain(elapsed_in_stage)
            .or_else(|| self.proved(rule, elapsed_in_stage))
            .or_else(|| match elapsed_in_stage < rule.bake {
                true => None,
                false => self.at_the_end(rule, elapsed_in_stage),
            })
            .filter(|verdict| {
                let goes_on = rule.extend_to.is_some_and(|to| elapsed_in_stage < to);
                !goes_on || !matches!(verdict, Verdict::NoVerdict { .. })
            })
    }

    /// Bad without any test.
    fn certain(&self, elapsed: Duration) -> Option<Verdict> {
        if let Some(casualty) = &self.health.casualty {
            let figures = self.figures(Test::Casualty, 1, 1, elapsed);
            return bad(casualty.clone(), figures);
        }
        if self.health.bad_answers >= MAX_BAD_ANSWERS {
            return self.illness(elapsed);
        }
        // Half is far from all, and far from what one calls an error rate.
        let alone = self.run_beside.wrong.saturating_mul(2) <= self.run_beside.requests;
        if self.run < MAX_RUN || !alone {
            return None;
        }
        let because = format!(
            "{} failed the last {} requests, all there were",
            self.release, self.run
        );
        bad(because, self.figures(Test::Run, self.run, MAX_RUN, elapsed))
    }

    /// Bad by a test, on enough requests.
    fn proved(&self, rule: &CanaryRule, elapsed: Duration) -> Option<Verdict> {
        if self.new.requests < rule.min_requests.max(1) {
            return None;
        }
        let release = self.release;
        let likelihood = self.errors.likelihood();
        if likelihood >= ERRORS_THRESHOLD && self.errors.is_worse_by(rule.min_difference) {
            let because = format!(
                "{}: {} times likelier if {release} is worse, {} is enough",
                self.sides("failed", errors),
                times(likelihood),
                times(ERRORS_THRESHOLD)
            );
            return bad(because, self.figures_of_errors(elapsed));
        }
        if self.errors_limit(rule) == Limit::Broken {
            let value = over_limit(rule.max_error_rate, errors(self.new));
            let because = format!(
                "{}: {} times likelier if it fails more than {}, {} is enough",
                self.sides("failed", errors),
                times(value),
                rule.max_error_rate,
                times(LIMIT_THRESHOLD)
            );
            let figures = self.figures(Test::ErrorLimit, value.0, LIMIT_THRESHOLD.0, elapsed);
            return bad(because, figures);
        }
        if self.slow_limit(rule) == Limit::Broken {
            let value = over_limit(SLOW_SHARE, slow(self.new));
            let because = format!(
                "{}: {} times likelier if more than {SLOW_SHARE} are, {} is enough",
                self.sides("was too slow on", slow),
                times(value),
                times(SLOW_THRESHOLD)
            );
            return bad(because, self.figures_of_slow(elapsed));
        }
        None
    }

    /// What is said when the stage is over and nothing was proved.
    fn at_the_end(&self, rule: &CanaryRule, elapsed: Duration) -> Option<Verdict> {
        // Neither good nor unknown while it may be ill.
        if self.health.bad_answers > 0 {
            return match elapsed < rule.bake.saturating_add(LOOK_ON) {
                true => None,
                false => self.illness(elapsed),
            };
        }
        let (release, least) = (self.release, rule.min_requests.max(1));
        let unknown = |lack, because, figures| {
            Some(Verdict::NoVerdict {
                lack,
                because,
                figures,
            })
        };
        let by_errors = self.figures_of_errors(elapsed);
        if let Some(blind) = &self.health.blind {
            return unknown(Lack::InsufficientData, blind.clone(), by_errors);
        }
        if self.stage_requests < least {
            let because = format!(
                "{} requests to {release} in {}, a judgement needs {least}",
                self.stage_requests,
                render_duration(elapsed)
            );
            return unknown(Lack::InsufficientData, because, by_errors);
        }
        if self.errors_limit(rule) == Limit::BrokenByBoth {
            let because = format!(
                "more than {} fail, but {}, so nothing speaks against {release} alone",
                rule.max_error_rate,
                self.sides("failed", errors)
            );
            return unknown(Lack::Inconclusive, because, by_errors);
        }
        if self.slow_limit(rule) == Limit::BrokenByBoth {
            let because = format!(
                "more than {SLOW_SHARE} are too slow, but {}, so nothing speaks against {release} alone",
                self.sides("was too slow on", slow)
            );
            return unknown(Lack::Inconclusive, because, self.figures_of_slow(elapsed));
        }
        Some(Verdict::Good {
            because: self.sides("failed", errors),
            figures: by_errors,
        })
    }

    fn illness(&self, elapsed: Duration) -> Option<Verdict> {
        let answers = self.health.bad_answers;
        let because = ill(answers, self.health.bad_answer.as_deref());
        let (value, threshold) = (answers.into(), MAX_BAD_ANSWERS.into());
        bad(
            because,
            self.figures(Test::Health, value, threshold, elapsed),
        )
    }

    fn figures(&self, test: Test, value: u64, threshold: u64, elapsed: Duration) -> Figures {
        Figures {
            test,
            new: self.new,
            old: Some(self.old),
            value,
            threshold,
            elapsed,
        }
    }

    fn figures_of_errors(&self, elapsed: Duration) -> Figures {
        let value = self.errors.likelihood().0;
        self.figures(Test::Errors, value, ERRORS_THRESHOLD.0, elapsed)
    }

    fn figures_of_slow(&self, elapsed: Duration) -> Figures {
        let value = over_limit(SLOW_SHARE, slow(self.new)).0;
        self.figures(Test::SlowLimit, value, SLOW_THRESHOLD.0, elapsed)
    }

    fn errors_limit(&self, rule: &CanaryRule) -> Limit {
        let limit = rule.max_error_rate;
        let (new, old) = (errors(self.new), errors(self.old));
        limit_of(
            limit,
            new,
            old,
            &self.errors,
            LIMIT_THRESHOLD,
            ERRORS_THRESHOLD,
        )
    }

    fn slow_limit(&self, rule: &CanaryRule) -> Limit {
        if rule.max_latency_p99.is_none() {
            return Limit::Kept;
        }
        let (new, old) = (slow(self.new), slow(self.old));
        limit_of(
            SLOW_SHARE,
            new,
            old,
            &self.slow,
            SLOW_THRESHOLD,
            SLOW_THRESHOLD,
        )
    }

    /// Both releases in half a sentence.
    fn sides(&self, verb: &str, part: impl Fn(Counts) -> Part) -> String {
        let (new, old) = (part(self.new), part(self.old));
        format!(
            "{} {verb} {}, {} beside it {}",
            self.release,
            share(new),
            self.beside,
            share(old)
        )
    }
}

fn bad(because: String, figures: Figures) -> Option<Verdict> {
    Some(Verdict::Bad { because, figures })
}

/// How a limit stands. Within it a release may be worse than the old one; when
/// it is broken for sure, it counts against the new release only if that is the
/// worse one, and the old one keeps the limit or the test of both arms says so.
fn limit_of(
    limit: Rate,
    new: Part,
    old: Part,
    arms: &TwoArms,
    broken: Likelihood,
    worse: Likelihood,
) -> Limit {
    if over_limit(limit, new) < broken {
        return Limit::Kept;
    }
    let alone = is_within(limit, old) || arms.likelihood() >= worse;
    match alone && arms.is_worse_by(Rate(0)) {
        true => Limit::Broken,
        false => Limit::BrokenByBoth,
    }
}

/// Whether the old release is known to keep the limit that the new one broke:
/// within it on enough requests to have shown the contrary.
fn is_within(limit: Rate, old: Part) -> bool {
    let expected = u128::from(old.requests) * u128::from(limit.0) / u128::from(Rate::ONE);
    expected >= KNOWN_BY && !limit.is_exceeded_by(old.wrong, old.requests)
}

fn errors(counts: Counts) -> Part {
    Part {
        requests: counts.requests,
        wrong: counts.errors,
    }
}

fn slow(counts: Counts) -> Part {
    Part {
        requests: counts.requests,
        wrong: counts.slow,
    }
}

/// Of how many requests, and what share that is to one decimal.
fn share(part: Part) -> String {
    let Some(rate) = Rate::of(part.wrong, part.requests) else {
        return "0 of 0 requests".to_owned();
    };
    let tenths = (rate.0 + 50) / 100;
    let percent = match (tenths, part.wrong) {
        (0, 1..) => "under 0.1%".to_owned(),
        _ => Rate(tenths * 100).to_string(),
    };
    format!("{} of {} requests ({percent})", part.wrong, part.requests)
}

/// How many times likelier, without digits that say nothing.
fn times(likelihood: Likelihood) -> String {
    const MANY: u64 = 1_000_000;
    match likelihood.0 / 100 {
        MANY.. => format!("more than {MANY}"),
        whole => whole.to_string(),
    }
}

#[cfg(test)]
mod tests;
