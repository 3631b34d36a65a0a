use proptest::prelude::*;

use super::*;

fn rule() -> CanaryRule {
    CanaryRule {
        bake: Duration::from_secs(120),
        min_requests: 50,
        max_error_rate: Rate(1_000),
        max_latency_p99: Some(Duration::from_millis(800)),
        min_difference: CanaryRule::DEFAULT_MIN_DIFFERENCE,
        extend_to: None,
    }
}

fn counts(requests: u64, errors: u64, slow: u64) -> Counts {
    Counts {
        requests,
        errors,
        slow,
    }
}

fn told(verdict: Option<&Verdict>) -> String {
    match verdict {
        None => "open".to_owned(),
        Some(Verdict::Good { because, .. }) => format!("good: {because}"),
        Some(Verdict::Bad { because, .. }) => format!("bad: {because}"),
        Some(Verdict::NoVerdict { lack, because, .. }) => format!("{lack:?}: {because}"),
    }
}

/// One look at both, and what is said of it after some seconds.
fn check(
    elapsed: u64,
    new: (u64, u64, u64),
    old: (u64, u64, u64),
    change: impl FnOnce(&mut Health),
    expected: &str,
) {
    let mut health = Health::default();
    change(&mut health);
    let mut comparison = Comparison::new(ReleaseNumber(2), ReleaseNumber(1));
    comparison.observe(&Look {
        new: counts(new.0, new.1, new.2),
        old: counts(old.0, old.1, old.2),
        health,
    });
    let verdict = comparison.judge(&rule(), Duration::from_secs(elapsed));
    assert_eq!(told(verdict.as_ref()), expected);
}

fn well(_: &mut Health) {}

#[test]
fn what_is_certain_does_not_wait() {
    let none = (0, 0, 0);
    check(
        0,
        none,
        none,
        |h| h.casualty = Some("v2 exited with 1".into()),
        "bad: v2 exited with 1",
    );
    let ill = |bad| move |h: &mut Health| (h.bad_answers, h.bad_answer) = (bad, Some("503".into()));
    check(0, none, none, ill(2), "open");
    check(
        0,
        none,
        none,
        ill(3),
        "bad: 3 bad health answers in a row, the last: 503",
    );
    check(120, (900, 0, 0), (900, 0, 0), ill(1), "open");
    check(149, (900, 0, 0), (900, 0, 0), ill(1), "open");
    check(
        150,
        (900, 0, 0),
        (900, 0, 0),
        ill(1),
        "bad: its last health answer was bad: 503",
    );
    check(0, (9, 9, 0), (90, 0, 0), well, "open");
    check(
        0,
        (10, 10, 0),
        (90, 0, 0),
        well,
        "bad: v2 failed the last 10 requests, all there were",
    );
    check(0, (10, 9, 0), (90, 0, 0), well, "open");
    check(
        0,
        (10, 10, 0),
        none,
        well,
        "bad: v2 failed the last 10 requests, all there were",
    );
    check(
        0,
        (10, 10, 0),
        (90, 45, 0),
        well,
        "bad: v2 failed the last 10 requests, all there were",
    );
    check(0, (10, 10, 0), (90, 46, 0), well, "open");
}

#[test]
fn a_run_of_failures_is_counted_over_looks() {
    let fold = |looks: &[(u64, u64)]| {
        let mut comparison = Comparison::new(ReleaseNumber(2), ReleaseNumber(1));
        for &(requests, errors) in looks {
            comparison.observe(&Look {
                new: counts(requests, errors, 0),
                old: counts(1, 0, 0),
                health: Health::default(),
            });
        }
        comparison.judge(&rule(), Duration::ZERO).is_some()
    };
    assert!(fold(&[(5, 5), (0, 0), (5, 5)]));
    assert!(!fold(&[(5, 5), (1, 0), (5, 5)]));
    assert!(!fold(&[(5, 5), (4, 4)]));
}

#[test]
fn errors_beside_the_old_release() {
    check(0, (49, 9, 0), (950, 0, 0), well, "open");
    check(
        0,
        (50, 9, 0),
        (950, 0, 0),
        well,
        "bad: v2 failed 9 of 50 requests (18%), v1 beside it 0 of 950 requests (0%): more than 1000000 times likelier if v2 is worse, 28 is enough",
    );
    check(
        0,
        (1_000, 8, 0),
        (9_000, 10, 0),
        well,
        "bad: v2 failed 8 of 1000 requests (0.8%), v1 beside it 10 of 9000 requests (0.1%): 381 times likelier if v2 is worse, 28 is enough",
    );
    check(0, (1_000, 5, 0), (9_000, 10, 0), well, "open");
    // So likely a difference, and too small to mind.
    check(0, (100_000, 300, 0), (100_000, 110, 0), well, "open");
    check(
        120,
        (1_000, 5, 0),
        (9_000, 10, 0),
        well,
        "good: v2 failed 5 of 1000 requests (0.5%), v1 beside it 10 of 9000 requests (0.1%)",
    );
    check(
        120,
        (1_000, 1, 0),
        (90_000, 10, 0),
        well,
        "good: v2 failed 1 of 1000 requests (0.1%), v1 beside it 10 of 90000 requests (under 0.1%)",
    );
}

#[test]
fn errors_against_the_limit() {
    // Ten in seven hundred are noise around one in a hundred.
    check(119, (700, 10, 0), (700, 7, 0), well, "open");
    check(
        0,
        (2_000, 45, 0),
        (2_000, 19, 0),
        well,
        "bad: v2 failed 45 of 2000 requests (2.3%), v1 beside it 19 of 2000 requests (1%): 59 times likelier if v2 is worse, 28 is enough",
    );
    check(
        0,
        (2_000, 44, 0),
        (1_000, 10, 0),
        well,
        "bad: v2 failed 44 of 2000 requests (2.2%), v1 beside it 10 of 1000 requests (1%): 7709 times likelier if it fails more than 1%, 100 is enough",
    );
    check(
        120,
        (2_000, 100, 0),
        (2_000, 100, 0),
        well,
        "Inconclusive: more than 1% fail, but v2 failed 100 of 2000 requests (5%), v1 beside it 100 of 2000 requests (5%), so nothing speaks against v2 alone",
    );
    check(119, (2_000, 100, 0), (2_000, 100, 0), well, "open");
    // Too little is known of the old one to blame the new one.
    check(0, (2_000, 44, 0), (999, 9, 0), well, "open");
}

#[test]
fn slow_answers() {
    check(119, (1_000, 0, 15), (9_000, 0, 20), well, "open");
    check(
        0,
        (1_000, 0, 40),
        (9_000, 0, 20),
        well,
        "bad: v2 was too slow on 40 of 1000 requests (4%), v1 beside it 20 of 9000 requests (0.2%): more than 1000000 times likelier if more than 1% are, 200 is enough",
    );
    check(
        120,
        (1_000, 0, 40),
        (9_000, 0, 360),
        well,
        "Inconclusive: more than 1% are too slow, but v2 was too slow on 40 of 1000 requests (4%), v1 beside it 360 of 9000 requests (4%), so nothing speaks against v2 alone",
    );
    // Both are too slow, and the new one is slower.
    check(
        0,
        (1_000, 0, 200),
        (9_000, 0, 360),
        well,
        "bad: v2 was too slow on 200 of 1000 requests (20%), v1 beside it 360 of 9000 requests (4%): more than 1000000 times likelier if more than 1% are, 200 is enough",
    );
}

#[test]
fn slow_answers_without_a_bound_are_not_judged() {
    let mut comparison = Comparison::new(ReleaseNumber(2), ReleaseNumber(1));
    comparison.observe(&Look {
        new: counts(1_000, 0, 900),
        old: counts(1_000, 0, 0),
        health: Health::default(),
    });
    let rule = CanaryRule {
        max_latency_p99: None,
        ..rule()
    };
    let verdict = comparison.judge(&rule, Duration::from_secs(120));
    assert!(matches!(verdict, Some(Verdict::Good { .. })), "{verdict:?}");
}

#[test]
fn too_little_data_gives_no_verdict() {
    check(
        120,
        (49, 0, 0),
        (950, 0, 0),
        well,
        "InsufficientData: 49 requests to v2 in 2m, a judgement needs 50",
    );
    check(
        120,
        (500, 0, 0),
        (950, 0, 0),
        |h| h.blind = Some("the proxy does not answer".into()),
        "InsufficientData: the proxy does not answer",
    );
}

#[test]
fn a_stage_is_good_on_its_own_requests() {
    let mut comparison = Comparison::new(ReleaseNumber(2), ReleaseNumber(1));
    let look = |requests| Look {
        new: counts(requests, 0, 0),
        old: counts(500, 0, 0),
        health: Health::default(),
    };
    let bake = rule().bake;
    comparison.observe(&look(50));
    let first = comparison.judge(&rule(), bake);
    assert!(matches!(first, Some(Verdict::Good { .. })), "{first:?}");
    comparison.begin_stage();
    comparison.observe(&look(49));
    let second = comparison.judge(&rule(), bake);
    assert!(
        matches!(
            second,
            Some(Verdict::NoVerdict {
                lack: Lack::InsufficientData,
                ..
            })
        ),
        "{second:?}"
    );
}

#[test]
fn a_new_stage_closes_the_block_that_the_old_weights_made() {
    let mut comparison = Comparison::new(ReleaseNumber(2), ReleaseNumber(1));
    comparison.observe(&Look {
        new: counts(4, 1, 1),
        old: counts(76, 0, 0),
        health: Health::default(),
    });
    let likelihoods = |c: &Comparison| (c.errors.likelihood(), c.slow.likelihood());
    let nothing = Likelihood(100);
    assert_eq!(likelihoods(&comparison), (nothing, nothing));
    comparison.begin_stage();
    let (errors, slow) = likelihoods(&comparison);
    assert!(errors > nothing && slow > nothing);
}

#[test]
fn the_shares_of_the_budget_are_one_in_twenty() {
    let thresholds = [ERRORS_THRESHOLD, LIMIT_THRESHOLD, SLOW_THRESHOLD];
    let chance: f64 = thresholds.iter().map(|t| 100.0 / t.0 as f64).sum();
    assert!(chance < 0.0501, "{chance}");
}

fn look() -> impl Strategy<Value = Look> {
    let counts = || {
        (0_u64..60, 0_u64..60, 0_u64..60)
            .prop_map(|(n, errors, slow)| counts(n, errors.min(n) / 3, slow.min(n) / 9))
    };
    (counts(), counts()).prop_map(|(new, old)| Look {
        new,
        old,
        health: Health::default(),
    })
}

proptest! {
    #[test]
    fn a_fold_that_is_stored_between_looks_goes_on_as_if_it_had_not_been(
        looks in proptest::collection::vec(look(), 0..30),
        stage in 0_usize..30,
    ) {
        let mut straight = Comparison::new(ReleaseNumber(2), ReleaseNumber(1));
        let mut stored = straight.clone();
        for (at, look) in looks.iter().enumerate() {
            if at == stage {
                straight.begin_stage();
                stored.begin_stage();
            }
            straight.observe(look);
            let text = serde_json::to_string(&stored).unwrap();
            stored = serde_json::from_str(&text).unwrap();
            stored.observe(look);
        }
        prop_assert_eq!(&straight, &stored);
        let (one, other) = (straight.judge(&rule(), rule().bake), stored.judge(&rule(), rule().bake));
        prop_assert_eq!(&one, &other);
        let text = serde_json::to_string(&one).unwrap();
        prop_assert_eq!(one, serde_json::from_str::<Option<Verdict>>(&text).unwrap());
    }

    #[test]
    fn missing_data_is_never_good_and_never_bad(
        looks in proptest::collection::vec(look(), 0..30),
        elapsed in 0_u64..400,
    ) {
        let mut comparison = Comparison::new(ReleaseNumber(2), ReleaseNumber(1));
        for look in &looks {
            // Never all of a look, so there is no run of failures.
            let mut look = look.clone();
            look.new.requests = look.new.requests.min(3);
            look.new.errors = look.new.errors.min(look.new.requests.saturating_sub(1));
            if comparison.new.requests + look.new.requests < rule().min_requests {
                comparison.observe(&look);
            }
        }
        let verdict = comparison.judge(&rule(), Duration::from_secs(elapsed));
        let none = matches!(verdict, None | Some(Verdict::NoVerdict { lack: Lack::InsufficientData, .. }));
        prop_assert!(none, "{:?}", verdict);
    }
}
