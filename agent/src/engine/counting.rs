//! What a watch counts: of one release, or of two beside each other.
//!
//! The proxy's counts begin at zero with each of its processes, and hold what was
//! before the watch; here they become what ended since the look before.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use cutover_plan::id::ReleaseNumber;
use cutover_plan::step::{Beside, SeenBy, WatchRule};
use cutover_plan::verdict::canary::{CanaryRule, Comparison, Health, Look};
use cutover_plan::verdict::{self, Counts, Evidence, Verdict};
use cutover_wire::statistics::{Histogram, MirrorStatistics, PoolStatistics, Statistics};

/// What the watches of one deploy pass on: all stages of a canary are one test.
/// It lives in memory only; after a restart of the agent the test begins anew.
pub(super) type Memory = Arc<Mutex<Option<Box<Compared>>>>;

/// Counts of a release, or of copies.
#[derive(Debug, Clone, Default)]
struct Tally {
    requests: u64,
    errors: u64,
    latency: Histogram,
}

impl Tally {
    fn of_pool(pool: &PoolStatistics) -> Self {
        Self {
            requests: pool.finished(),
            errors: pool.server_errors + pool.failed,
            latency: pool.latency.clone(),
        }
    }

    fn of_copies(copies: &MirrorStatistics) -> Self {
        Self {
            requests: copies.compared() + copies.failed,
            errors: copies.server_errors + copies.failed,
            latency: copies.latency.clone(),
        }
    }

    fn of_copied(copies: &MirrorStatistics) -> Self {
        Self {
            requests: copies.compared(),
            errors: copies.primary_server_errors,
            latency: copies.primary_latency.clone(),
        }
    }

    fn since(&self, earlier: &Self) -> Self {
        Self {
            requests: self.requests.saturating_sub(earlier.requests),
            errors: self.errors.saturating_sub(earlier.errors),
            latency: self.latency.since(&earlier.latency),
        }
    }

    fn counts(&self, bound: Option<Duration>) -> Counts {
        let micros = |bound: Duration| u64::try_from(bound.as_micros()).unwrap_or(u64::MAX);
        Counts {
            requests: self.requests,
            errors: self.errors,
            slow: bound.map_or(0, |bound| self.latency.above(micros(bound))),
        }
    }
}

/// The counts of one release, over restarts of the proxy.
#[derive(Debug, Clone)]
struct Counting {
    leave_out_the_past: bool,
    last: Option<(String, Tally)>,
}

impl Counting {
    fn new(leave_out_the_past: bool) -> Self {
        Self {
            leave_out_the_past,
            last: None,
        }
    }

    /// What ended since the look before.
    fn take(&mut self, instance: &str, now: Tally) -> Tally {
        let new = match &self.last {
            None if self.leave_out_the_past => Tally::default(),
            Some((before, last)) if before == instance => now.since(last),
            _ => now.clone(),
        };
        self.last = Some((instance.to_owned(), now));
        new
    }
}

/// How a watch judges.
#[derive(Debug)]
pub(super) enum Judge {
    /// One release, by fixed bounds.
    Alone(Alone),
    /// A release beside the old one.
    Beside(Box<Compared>),
}

/// One release alone.
#[derive(Debug)]
pub(super) struct Alone {
    pool: String,
    counting: Counting,
    sum: Counts,
}

/// Two releases beside each other.
#[derive(Debug, Clone)]
pub(super) struct Compared {
    beside: Beside,
    comparison: Comparison,
    new: Counting,
    old: Counting,
    copies: Copies,
}

/// What is told of copies, beside their errors.
#[derive(Debug, Clone, Default)]
struct Copies {
    last: Option<(String, MirrorStatistics)>,
    sum: MirrorStatistics,
}

impl Judge {
    /// What judges a release by a rule. `begins` says that a release alone had no
    /// request before its users came, so that all of its counts are of this watch.
    pub(super) fn new(
        release: ReleaseNumber,
        rule: &WatchRule,
        begins: bool,
        memory: &Memory,
    ) -> Self {
        let Some(beside) = rule.beside else {
            return Self::Alone(Alone {
                pool: release.to_string(),
                counting: Counting::new(!begins),
                sum: Counts::default(),
            });
        };
        let before = memory.lock().unwrap_or_else(PoisonError::into_inner).take();
        let is_same = |one: &Compared| {
            (one.comparison.release, one.beside.old, one.beside.seen_by)
                == (release, beside.old, beside.seen_by)
        };
        if let Some(mut compared) = before.filter(|one| is_same(one)) {
            compared.comparison.begin_stage();
            return Self::Beside(compared);
        }
        Self::Beside(Box::new(Compared {
            beside,
            comparison: Comparison::new(release, beside.old),
            // Both from the same moment on: what was wrong around both before it, or
            // what testers did, must not speak against one of them.
            new: Counting::new(true),
            old: Counting::new(true),
            copies: Copies::default(),
        }))
    }

    /// Takes a look at the counts, where they could be read, and at what the
    /// evidence says of the release apart from them.
    pub(super) fn look(
        &mut self,
        app: &str,
        statistics: Option<&Statistics>,
        bound: Option<Duration>,
        evidence: &mut Evidence,
    ) {
        match self {
            Self::Alone(alone) => alone.look(app, statistics, bound, evidence),
            Self::Beside(compared) => compared.look(app, statistics, bound, evidence),
        }
    }

    /// What is judged after this time, if anything is.
    pub(super) fn judge(
        &self,
        rule: &WatchRule,
        elapsed: Duration,
        evidence: &Evidence,
    ) -> Option<Verdict> {
        match (self, CanaryRule::of(rule)) {
            (Self::Beside(compared), Some(rule)) => {
                let verdict = compared.comparison.judge(&rule, elapsed)?;
                Some(compared.copies.tell(verdict))
            }
            _ => verdict::judge(rule, elapsed, evidence),
        }
    }

    /// Keeps what the next watch of the deploy goes on with, however this one ends.
    pub(super) fn remember(&self, memory: &Memory) {
        if let Self::Beside(compared) = self {
            let mut memory = memory.lock().unwrap_or_else(PoisonError::into_inner);
            *memory = Some(compared.clone());
        }
    }
}

impl Alone {
    fn look(
        &mut self,
        app: &str,
        statistics: Option<&Statistics>,
        bound: Option<Duration>,
        evidence: &mut Evidence,
    ) {
        if let Some(told) = statistics {
            let now = Tally::of_pool(&pool(told, app, &self.pool));
            let new = self.counting.take(&told.instance, now);
            self.sum.add(new.counts(bound));
        }
        evidence.requests = self.sum.requests;
        evidence.errors = self.sum.errors;
        evidence.slow = self.sum.slow;
    }
}

impl Compared {
    fn look(
        &mut self,
        app: &str,
        statistics: Option<&Statistics>,
        bound: Option<Duration>,
        evidence: &Evidence,
    ) {
        let mut look = Look {
            health: Health {
                casualty: evidence.casualty.clone(),
                bad_answers: evidence.bad_answers,
                bad_answer: evidence.bad_answer.clone(),
                blind: evidence.blind.clone(),
            },
            ..Look::default()
        };
        if let Some(told) = statistics {
            let (new, old) = match self.beside.seen_by {
                SeenBy::Users => {
                    let pool = |release: ReleaseNumber| pool(told, app, &release.to_string());
                    let new = Tally::of_pool(&pool(self.comparison.release));
                    (new, Tally::of_pool(&pool(self.beside.old)))
                }
                SeenBy::Nobody => {
                    let copies = told.proxy.mirrors.get(app).cloned().unwrap_or_default();
                    let both = (Tally::of_copies(&copies), Tally::of_copied(&copies));
                    self.copies.take(&told.instance, copies);
                    both
                }
            };
            look.new = self.new.take(&told.instance, new).counts(bound);
            look.old = self.old.take(&told.instance, old).counts(bound);
        }
        self.comparison.observe(&look);
    }
}

impl Copies {
    fn take(&mut self, instance: &str, now: MirrorStatistics) {
        match &self.last {
            None => {}
            Some((before, last)) if before == instance => self.sum.merge(&now.since(last)),
            Some(_) => self.sum.merge(&now),
        }
        self.last = Some((instance.to_owned(), now));
    }

    /// Adds to a verdict in what the answers differed; nothing where there were no copies.
    fn tell(&self, mut verdict: Verdict) -> Verdict {
        let sum = &self.sum;
        if sum.copied == 0 {
            return verdict;
        }
        let mut told = format!(
            "; of {} copies {} had another status",
            sum.copied, sum.other_status
        );
        if sum.same_body + sum.other_body > 0 {
            told += &format!(" and {} another body", sum.other_body);
        }
        if sum.dropped > 0 {
            told += &format!(", {} more found no place", sum.dropped);
        }
        let p99 = |latency: &Histogram| latency.quantile(990);
        if let (Some(copy), Some(primary)) = (p99(&sum.latency), p99(&sum.primary_latency)) {
            let millis = |micros: u64| format!("{}.{} ms", micros / 1000, micros % 1000 / 100);
            told += &format!(", p99 {} against {}", millis(copy), millis(primary));
        }
        match &mut verdict {
            Verdict::Good { because, .. }
            | Verdict::Bad { because, .. }
            | Verdict::NoVerdict { because, .. } => because.push_str(&told),
        }
        verdict
    }
}

fn pool(statistics: &Statistics, app: &str, pool: &str) -> PoolStatistics {
    let pools = statistics.apps.get(app);
    let found = pools.and_then(|pools| pools.get(pool));
    found.cloned().unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;
    use cutover_plan::spec::Rate;
    use cutover_plan::step::WithoutVerdict;

    fn told(instance: &str, pools: &[(&str, u64, u64)]) -> Statistics {
        let pool = |&(name, succeeded, failed): &(&str, u64, u64)| {
            let pool = PoolStatistics {
                succeeded,
                failed,
                ..PoolStatistics::default()
            };
            (name.to_owned(), pool)
        };
        Statistics {
            instance: instance.to_owned(),
            apps: BTreeMap::from([("shop".to_owned(), pools.iter().map(pool).collect())]),
            ..Statistics::default()
        }
    }

    fn rule(beside: Option<SeenBy>) -> WatchRule {
        WatchRule {
            window: Duration::from_secs(60),
            max_error_rate: Rate(5_000),
            max_latency_p99: None,
            min_requests: 20,
            without: WithoutVerdict::Promote,
            beside: beside.map(|seen_by| Beside {
                old: ReleaseNumber(1),
                min_difference: Rate(200),
                seen_by,
            }),
        }
    }

    fn alone(begins: bool, takes: &[Statistics], expected: (u64, u64)) {
        let memory = Memory::default();
        let mut judge = Judge::new(ReleaseNumber(2), &rule(None), begins, &memory);
        let mut evidence = Evidence::default();
        for statistics in takes {
            judge.look("shop", Some(statistics), None, &mut evidence);
        }
        assert_eq!((evidence.requests, evidence.errors), expected);
    }

    #[test]
    fn counts_go_on_over_a_restart_of_the_proxy() {
        let takes = [("a", 10, 1), ("a", 30, 1), ("b", 5, 2)];
        let takes = takes.map(|(instance, good, bad)| told(instance, &[("v2", good, bad)]));
        alone(true, &takes, (38, 3));
    }

    #[test]
    fn the_past_of_a_release_that_was_judged_before_is_left_out() {
        let takes = [("a", 1000, 9), ("a", 1010, 9)];
        let takes = takes.map(|(instance, good, bad)| told(instance, &[("v2", good, bad)]));
        alone(false, &takes, (10, 0));
        alone(true, &takes, (1019, 9));
    }

    fn figures(judge: &Judge, rule: &WatchRule) -> (Counts, Option<Counts>, String) {
        let verdict = judge.judge(rule, rule.window, &Evidence::default());
        let (figures, because) = match verdict.unwrap() {
            Verdict::Good { figures, because }
            | Verdict::Bad { figures, because }
            | Verdict::NoVerdict {
                figures, because, ..
            } => (figures, because),
        };
        (figures.new, figures.old, because)
    }

    #[test]
    fn all_stages_of_a_canary_are_one_comparison_and_no_request_counts_twice() {
        let (rule, memory) = (rule(Some(SeenBy::Users)), Memory::default());
        let looks: [&[(&str, u64, u64)]; 2] = [
            &[("v1", 5_000, 9), ("v2", 10, 0)],
            &[("v1", 5_900, 9), ("v2", 100, 0)],
        ];
        let mut judge = Judge::new(ReleaseNumber(2), &rule, true, &memory);
        for pools in looks {
            judge.look(
                "shop",
                Some(&told("a", pools)),
                None,
                &mut Evidence::default(),
            );
        }
        judge.remember(&memory);
        let mut judge = Judge::new(ReleaseNumber(2), &rule, false, &memory);
        let next = told("a", &[("v1", 6_000, 9), ("v2", 150, 0)]);
        judge.look("shop", Some(&next), None, &mut Evidence::default());
        let (new, old, _) = figures(&judge, &rule);
        assert_eq!((new.requests, old.unwrap().requests), (140, 1_000));
    }

    #[test]
    fn copies_are_compared_with_what_they_are_copies_of() {
        let (rule, memory) = (rule(Some(SeenBy::Nobody)), Memory::default());
        let copies = |compared: u64, failed: u64, server_errors: u64, other_status: u64| {
            let copies = MirrorStatistics {
                copied: compared + failed,
                failed,
                same_status: compared - other_status,
                other_status,
                server_errors,
                other_body: 2,
                ..MirrorStatistics::default()
            };
            let mut statistics = told("a", &[("v1", 90_000, 0)]);
            statistics.proxy.mirrors.insert("shop".to_owned(), copies);
            statistics
        };
        let mut judge = Judge::new(ReleaseNumber(2), &rule, true, &memory);
        // A shadow of last week is not counted.
        for statistics in [copies(500, 50, 9, 9), copies(600, 51, 10, 12)] {
            judge.look("shop", Some(&statistics), None, &mut Evidence::default());
        }
        let (new, old, because) = figures(&judge, &rule);
        assert_eq!((new.requests, new.errors), (101, 2));
        assert_eq!(old.unwrap().requests, 100);
        assert!(
            because.ends_with("; of 101 copies 3 had another status"),
            "{because}"
        );
    }
}
