//! GitHub is ill, silent, away, or asks to be left alone.

use std::time::Duration;

use cutover_agent::forge::{DeliveryError, DeploymentState, Forge as _};
use cutover_agent::reporter;
use cutover_tests::github::Fault;
use cutover_tests::wait::eventually;

use crate::bench::{Bench, DEADLINE, impatient, message, story, wall};

/// Two deploys, so that the story has every call there is. Each call of it
/// fails once, and the effect is always the same.
async fn each_call_fails_once(fault: Fault) {
    let messages = [story(1), story(2)].concat();
    for number in 1.. {
        let bench = Bench::new().await;
        bench.model.fail_call(number, fault.clone());
        bench.tell(&messages[..4]);
        bench.tell(&messages[4..]);
        let running = bench.report();
        bench.delivered().await;
        running.abort();
        bench.told_once_in_order(&messages);
        assert_eq!(
            bench.model.deployments().len(),
            2,
            "{fault:?} at call {number}"
        );
        assert_eq!(bench.model.deployments()[0].state(), Some("inactive"));
        if bench.model.faults_left() == 1 {
            // The story ended before the fault: every call has failed once.
            assert!(number > 14, "only {number} calls");
            return;
        }
    }
}

#[tokio::test]
async fn a_lost_answer_duplicates_nothing() {
    each_call_fails_once(Fault::Lost).await;
}

#[tokio::test]
async fn a_broken_connection_loses_nothing() {
    each_call_fails_once(Fault::Cut).await;
}

#[tokio::test]
async fn a_server_error_loses_nothing() {
    each_call_fails_once(Fault::Status(500)).await;
}

#[tokio::test]
async fn a_gateways_page_is_no_answer_of_githubs() {
    each_call_fails_once(Fault::GatewayPage).await;
}

#[tokio::test]
async fn silence_ends_with_a_time_out_and_loses_nothing() {
    each_call_fails_once(Fault::Silent).await;
}

#[tokio::test]
async fn silence_after_the_effect_duplicates_nothing() {
    each_call_fails_once(Fault::SilentAfter).await;
}

#[tokio::test]
async fn an_answer_that_comes_too_late_duplicates_nothing() {
    each_call_fails_once(Fault::Slow(Duration::from_millis(250))).await;
}

#[tokio::test]
async fn every_second_call_failing_changes_nothing() {
    let bench = Bench::new().await;
    for number in 0..10 {
        bench.model.fail_call(2 * number + 1, Fault::Cut);
        bench.model.fail_call(2 * number + 2, Fault::Lost);
    }
    bench.tell(&story(1));
    let running = bench.report();
    bench.delivered().await;
    running.abort();
    assert_eq!(bench.model.faults_left(), 0);
    bench.told_once_in_order(&story(1));
}

#[tokio::test]
async fn statuses_wait_while_github_is_away_and_then_come_once_and_in_order() {
    let bench = Bench::new().await;
    let messages = story(1);
    bench.tell(&messages);
    let running = bench.report();
    let two = async || bench.model.history("production").len() >= 2;
    eventually("two statuses are there", DEADLINE, two)
        .await
        .unwrap();

    bench.model.go_down();
    bench.tell(&story(2));
    let tried_often = async || {
        bench
            .journal
            .due_message(jiff::Timestamp::MAX)
            .unwrap()
            .is_some_and(|row| row.attempts >= 4)
    };
    eventually("it was tried in vain", DEADLINE, tried_often)
        .await
        .unwrap();
    bench.model.come_back().await.unwrap();

    bench.delivered().await;
    running.abort();
    bench.told_once_in_order(&[messages, story(2)].concat());
}

#[tokio::test]
async fn the_wait_that_github_asks_for_is_kept() {
    for limit in [Fault::SecondaryLimit(1), Fault::PrimaryLimit(1)] {
        let bench = Bench::new().await;
        bench.model.fail_call(3, limit);
        let mut elsewhere = story(2);
        for one in &mut elsewhere {
            one.repository = "acme/other".to_owned();
            one.environment = "staging".to_owned();
        }
        bench.tell(&story(1));
        bench.tell(&elsewhere);
        let running = bench.report();
        bench.delivered().await;
        running.abort();
        assert_eq!(bench.model.faults_left(), 0);
        // The model counts each call during the limit, of whichever repository.
        bench.told_once_in_order(&story(1));
        bench.told_once_in_order(&elsewhere);
    }
}

#[tokio::test]
async fn a_limit_that_is_told_in_words_alone_lasts_a_minute() {
    let bench = Bench::new().await;
    bench.model.fail_call(1, Fault::WordyLimit);
    let github = bench.github();
    for calls in [1, 1] {
        let limited = github.deliver(&story(1)[0], 1).await;
        assert!(
            matches!(
                limited,
                Err(DeliveryError::Later {
                    after_seconds: Some(59..=60),
                    ..
                })
            ),
            "{limited:?}"
        );
        assert_eq!(bench.model.calls().len(), calls);
    }
}

#[tokio::test]
async fn a_hidden_repository_holds_up_no_other() {
    let bench = Bench::new().await;
    let mut hidden = message(1, DeploymentState::Queued, "Waiting");
    hidden.repository = "acme/hidden".to_owned();
    bench.tell(&[hidden]);
    let mut staging = story(2);
    staging
        .iter_mut()
        .for_each(|one| one.environment = "staging".to_owned());
    bench.tell(&staging);
    let running = bench.report();
    let one_left = async || bench.journal.undelivered().unwrap() == 1;
    eventually("the others are delivered", DEADLINE, one_left)
        .await
        .unwrap();
    running.abort();
    bench.told_once_in_order(&staging);
    let next = bench.journal.next_message_at().unwrap().unwrap();
    let wait = next.duration_since(jiff::Timestamp::now());
    assert!((50..=60).contains(&wait.as_secs()), "{wait:?}");
}

#[tokio::test]
async fn a_message_that_is_too_old_is_given_up() {
    let bench = Bench::new().await;
    bench.model.go_down();
    bench.tell(&story(1));
    let options = reporter::Options {
        give_up_after: Duration::ZERO,
        ..impatient()
    };
    let deadline = tokio::time::sleep(Duration::from_secs(1));
    reporter::run(
        bench.journal.clone(),
        bench.github(),
        wall(),
        options,
        deadline,
    )
    .await
    .unwrap();
    assert_eq!(bench.journal.undelivered().unwrap(), 0);
    assert_eq!(bench.model.history("production"), []);
}
