//! The agent dies in the middle of a delivery, and the next one goes on.

use cutover_agent::forge::{DeliveryError, Forge, Message};
use cutover_agent::github::Github;
use cutover_agent::reporter;
use cutover_tests::github::Fault;
use tokio::sync::mpsc;
use tokio::time::timeout;

use crate::bench::{Bench, DEADLINE, impatient, story, wall};

/// Kills the reporter at one call after the other, where the call has had its
/// effect or has not, and starts it again on the same journal.
async fn dies_at_each_call(silent: Fault) {
    let messages = [story(1), story(2)].concat();
    for number in 1.. {
        let bench = Bench::new().await;
        bench.model.fail_call(number, silent.clone());
        bench.tell(&messages[..4]);
        bench.tell(&messages[4..]);
        let mut calls = bench.model.call_count();
        let first = bench.report();
        let reached = async {
            tokio::select! {
                reached = calls.wait_for(|count| *count == number) => drop(reached.unwrap()),
                () = bench.delivered() => {}
            }
        };
        timeout(DEADLINE, reached).await.unwrap();
        // Silence keeps the call open until the kill.
        first.abort();
        assert!(first.await.is_err_and(|end| end.is_cancelled()));

        let second = bench.report();
        bench.delivered().await;
        second.abort();
        bench.told_once_in_order(&messages);
        assert_eq!(
            bench.model.deployments().len(),
            2,
            "{silent:?} at call {number}"
        );
        assert_eq!(bench.model.deployments()[0].state(), Some("inactive"));
        if bench.model.faults_left() == 1 {
            assert!(number > 14, "only {number} calls");
            return;
        }
    }
}

#[tokio::test]
async fn a_crash_before_each_effect_loses_nothing() {
    dies_at_each_call(Fault::Silent).await;
}

#[tokio::test]
async fn a_crash_after_each_effect_duplicates_nothing() {
    dies_at_each_call(Fault::SilentAfter).await;
}

/// Delivers, and then keeps the end of one delivery to itself.
struct Forgetful {
    github: Github,
    delivered: mpsc::UnboundedSender<u32>,
}

impl Forge for Forgetful {
    async fn deliver(&self, message: &Message, attempt: u32) -> Result<(), DeliveryError> {
        self.github.deliver(message, attempt).await?;
        self.delivered.send(attempt).unwrap();
        std::future::pending().await
    }
}

#[tokio::test]
async fn a_crash_before_the_journal_knows_of_the_delivery_repeats_nothing() {
    let bench = Bench::new().await;
    let messages = [story(1), story(2)].concat();
    bench.tell(&messages[..4]);
    bench.tell(&messages[4..]);
    for _ in &messages {
        let (delivered, mut seen) = mpsc::unbounded_channel();
        let forgetful = Forgetful {
            github: bench.github(),
            delivered,
        };
        let journal = bench.journal.clone();
        let dies = tokio::spawn(reporter::run(
            journal,
            forgetful,
            wall(),
            impatient(),
            std::future::pending(),
        ));
        assert_eq!(timeout(DEADLINE, seen.recv()).await.unwrap(), Some(1));
        dies.abort();
        assert!(dies.await.is_err());

        // The next process delivers this one alone, and dies in the same place
        // of the next: at its second attempt a message is settled.
        let row = bench
            .journal
            .due_message(jiff::Timestamp::MAX)
            .unwrap()
            .unwrap();
        assert_eq!(row.attempts, 1);
        let attempt = bench.journal.message_begun(row.id).unwrap();
        bench.github().deliver(&row.message, attempt).await.unwrap();
        bench
            .journal
            .message_delivered(row.id, jiff::Timestamp::now())
            .unwrap();
    }
    assert_eq!(bench.journal.undelivered().unwrap(), 0);
    bench.told_once_in_order(&messages);
}

#[tokio::test]
async fn a_shutdown_leaves_the_message_to_the_next_process() {
    let bench = Bench::new().await;
    bench.model.fail_call(3, Fault::SilentAfter);
    bench.tell(&story(1));
    let mut calls = bench.model.call_count();
    let stop = async move {
        calls.wait_for(|count| *count == 3).await.unwrap();
    };
    let run = reporter::run(
        bench.journal.clone(),
        bench.github(),
        wall(),
        impatient(),
        stop,
    );
    timeout(DEADLINE, run).await.unwrap().unwrap();
    assert_eq!(bench.journal.undelivered().unwrap(), 4);
    let running = bench.report();
    bench.delivered().await;
    running.abort();
    bench.told_once_in_order(&story(1));
}
