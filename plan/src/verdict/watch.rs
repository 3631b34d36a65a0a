//! The watch: whether one release that gets requests is bad, by fixed bounds.
//!
//! The watch ends early only for what is certain: a container died, or the
//! rates are over their bounds on enough requests. At the end of the window
//! too few requests give no verdict, and the app's rule says what then. A bad
//! health answer that is still open then is looked into first.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::{Counts, Figures, LOOK_ON, Lack, MAX_BAD_ANSWERS, SLOW_SHARE, Test, Verdict, ill};
use crate::spec::{Rate, render_duration};
use crate::step::{WatchRule, WithoutVerdict};

/// What is known of a release under traffic, counted since the shift.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Evidence {
    /// Requests that ended; of clients that left first, none.
    pub requests: u64,
    /// Those the release failed: answers of 500 and above, and none at all.
    pub errors: u64,
    /// Those whose answer began later than the rule's bound, of that surely;
    /// without a bound, none.
    pub slow: u64,
    /// Why a container of it is no longer well: exited, restarted, out of memory.
    pub casualty: Option<String>,
    /// Bad health answers in a row, at the end.
    pub bad_answers: u32,
    /// The last bad health answer.
    pub bad_answer: Option<String>,
    /// Why nothing could be counted, for example that the proxy does not answer.
    pub blind: Option<String>,
}

/// Judges a release; none while the window is open and nothing is certain, and
/// none for [`LOOK_ON`] more while its last health answer was a bad one.
pub fn judge(rule: &WatchRule, elapsed: Duration, evidence: &Evidence) -> Option<Verdict> {
    let Evidence {
        requests, errors, ..
    } = *evidence;
    let figures = |test, value, threshold| Figures {
        test,
        new: Counts {
            requests,
            errors,
            slow: evidence.slow,
        },
        old: None,
        value,
        threshold,
        elapsed,
    };
    let bad = |because, figures| Some(Verdict::Bad { because, figures });
    if let Some(casualty) = &evidence.casualty {
        return bad(casualty.clone(), figures(Test::Casualty, 1, 1));
    }
    let illness = || {
        let because = ill(evidence.bad_answers, evidence.bad_answer.as_deref());
        let (value, threshold) = (evidence.bad_answers.into(), MAX_BAD_ANSWERS.into());
        bad(because, figures(Test::Health, value, threshold))
    };
    if evidence.bad_answers >= MAX_BAD_ANSWERS {
        return illness();
    }
    let share = Rate::of(errors, requests).map_or(0, |rate| rate.0.into());
    let rates = figures(Test::ErrorRate, share, rule.max_error_rate.0.into());
    let enough = requests >= rule.min_requests.max(1);
    if enough && rule.max_error_rate.is_exceeded_by(errors, requests) {
        let because = format!(
            "{errors} of {requests} requests failed, more than {}",
            rule.max_error_rate
        );
        return bad(because, rates);
    }
    if elapsed < rule.window {
        return None;
    }
    // Latency is judged at the end: the first requests of a release are slow.
    // The 99th percentile is over its bound where more than one in a hundred is.
    if let (true, Some(bound)) = (enough, rule.max_latency_p99)
        && SLOW_SHARE.is_exceeded_by(evidence.slow, requests)
    {
        let because = format!(
            "{} of {requests} requests took longer than {}, more than {SLOW_SHARE}",
            evidence.slow,
            render_duration(bound)
        );
        let share = Rate::of(evidence.slow, requests).map_or(0, |rate| rate.0.into());
        return bad(because, figures(Test::Latency, share, SLOW_SHARE.0.into()));
    }
    // Neither good nor unknown while it may be ill.
    if evidence.bad_answers > 0 {
        let over = elapsed >= rule.window.saturating_add(LOOK_ON);
        return if over { illness() } else { None };
    }
    // Too little to judge by: the app's file may give it more time.
    let open = matches!(rule.without, WithoutVerdict::Extend { to } if elapsed < to);
    if open && (evidence.blind.is_some() || !enough) {
        return None;
    }
    let unknown = |because| {
        Some(Verdict::NoVerdict {
            lack: Lack::InsufficientData,
            because,
            figures: rates.clone(),
        })
    };
    if let Some(blind) = &evidence.blind {
        return unknown(blind.clone());
    }
    if !enough {
        return unknown(format!(
            "{requests} requests in {}, a judgement needs {}",
            render_duration(rule.window),
            rule.min_requests.max(1)
        ));
    }
    let because = format!(
        "{errors} of {requests} requests failed in {}",
        render_duration(rule.window)
    );
    Some(Verdict::Good {
        because,
        figures: rates,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rule() -> WatchRule {
        WatchRule {
            window: Duration::from_secs(60),
            max_error_rate: Rate(1_000),
            max_latency_p99: Some(Duration::from_millis(800)),
            min_requests: 20,
            without: WithoutVerdict::Promote,
            beside: None,
        }
    }

    fn check(elapsed: u64, change: impl FnOnce(&mut Evidence), expected: &str) {
        let mut evidence = Evidence {
            requests: 1_000,
            ..Evidence::default()
        };
        change(&mut evidence);
        let told = match judge(&rule(), Duration::from_secs(elapsed), &evidence) {
            None => "open".to_owned(),
            Some(Verdict::Good { because, .. }) => format!("good: {because}"),
            Some(Verdict::Bad { because, .. }) => format!("bad: {because}"),
            Some(Verdict::NoVerdict { because, .. }) => format!("none: {because}"),
        };
        assert_eq!(told, expected);
    }

    #[test]
    fn verdicts() {
        check(10, |_| {}, "open");
        check(60, |_| {}, "good: 0 of 1000 requests failed in 1m");
        check(
            10,
            |e| e.casualty = Some("v2 exited with 1".into()),
            "bad: v2 exited with 1",
        );
        check(10, |e| e.errors = 10, "open");
        check(
            10,
            |e| e.errors = 11,
            "bad: 11 of 1000 requests failed, more than 1%",
        );
        check(
            60,
            |e| e.errors = 10,
            "good: 10 of 1000 requests failed in 1m",
        );
        check(10, |e| (e.requests, e.errors) = (19, 19), "open");
        check(
            60,
            |e| (e.requests, e.errors) = (19, 19),
            "none: 19 requests in 1m, a judgement needs 20",
        );
        check(
            60,
            |e| e.requests = 0,
            "none: 0 requests in 1m, a judgement needs 20",
        );
        check(60, |e| e.slow = 10, "good: 0 of 1000 requests failed in 1m");
        check(10, |e| e.slow = 11, "open");
        check(
            60,
            |e| e.slow = 11,
            "bad: 11 of 1000 requests took longer than 800ms, more than 1%",
        );
        check(10, |e| e.bad_answers = 2, "open");
        check(
            10,
            |e| (e.bad_answers, e.bad_answer) = (3, Some("503".into())),
            "bad: 3 bad health answers in a row, the last: 503",
        );
        let ill =
            |bad| move |e: &mut Evidence| (e.bad_answers, e.bad_answer) = (bad, Some("503".into()));
        check(60, ill(1), "open");
        check(60, ill(2), "open");
        check(
            60,
            ill(3),
            "bad: 3 bad health answers in a row, the last: 503",
        );
        check(89, ill(2), "open");
        check(90, ill(0), "good: 0 of 1000 requests failed in 1m");
        check(90, ill(1), "bad: its last health answer was bad: 503");
        check(
            90,
            ill(2),
            "bad: 2 bad health answers in a row, the last: 503",
        );
        // Too little data is no excuse, and what is certain does not wait.
        check(60, |e| (e.requests, e.bad_answers) = (0, 1), "open");
        check(
            60,
            |e| (e.blind, e.bad_answers) = (Some("blind".into()), 1),
            "open",
        );
        check(
            60,
            |e| (e.slow, e.bad_answers) = (11, 1),
            "bad: 11 of 1000 requests took longer than 800ms, more than 1%",
        );
        check(
            60,
            |e| e.blind = Some("the proxy did not answer".into()),
            "none: the proxy did not answer",
        );
    }

    #[test]
    fn a_watch_that_may_be_extended_goes_on_until_there_is_enough() {
        let rule = WatchRule {
            without: WithoutVerdict::Extend {
                to: Duration::from_secs(180),
            },
            ..rule()
        };
        let judged = |elapsed, requests| {
            let evidence = Evidence {
                requests,
                ..Evidence::default()
            };
            judge(&rule, Duration::from_secs(elapsed), &evidence)
        };
        assert_eq!(judged(60, 19), None);
        assert_eq!(judged(179, 19), None);
        assert!(matches!(judged(60, 20), Some(Verdict::Good { .. })));
        assert!(matches!(judged(90, 20), Some(Verdict::Good { .. })));
        assert!(matches!(judged(180, 19), Some(Verdict::NoVerdict { .. })));
    }

    #[test]
    fn an_open_bad_answer_is_judged_before_the_watch_runs_out_of_time() {
        assert!(LOOK_ON < crate::step::Step::WATCH_MARGIN);
    }

    #[test]
    fn missing_data_is_never_good_and_never_bad() {
        for requests in 0..20 {
            let evidence = Evidence {
                requests,
                ..Evidence::default()
            };
            let verdict = judge(&rule(), Duration::from_secs(60), &evidence);
            assert!(
                matches!(verdict, Some(Verdict::NoVerdict { .. })),
                "{requests}"
            );
        }
    }
}
