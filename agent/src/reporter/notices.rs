//! Delivers notices to the receivers of `[[notify]]`, each in its own lane.
//!
//! Invariant: one that is slow or dead delays nobody but itself: to each receiver
//! one notice is on its way at a time, and all of them at once.

use std::collections::BTreeSet;
use std::future::Future;
use std::pin::pin;

use futures_util::StreamExt as _;
use futures_util::stream::FuturesUnordered;

use super::{Envelope, LONGEST_SLEEP, Options, attempt, until};
use crate::clock::Clock;
use crate::journal::{Journal, JournalError, OutboxRow};
use crate::letter::Notice;
use crate::notify::Notifier;

/// Delivers until `shutdown` completes. What is on its way then is dropped, and
/// repeated by the next process. It ends with an error only when the journal
/// does not work any more.
pub async fn run(
    journal: Journal,
    notifier: Notifier,
    clock: Clock,
    options: Options,
    shutdown: impl Future<Output = ()>,
) -> Result<(), JournalError> {
    let mut shutdown = pin!(shutdown);
    tokio::select! {
        biased;
        () = &mut shutdown => Ok(()),
        ended = deliver_all(&journal, &notifier, &clock, &options) => ended,
    }
}

async fn deliver_all(
    journal: &Journal,
    notifier: &Notifier,
    clock: &Clock,
    options: &Options,
) -> Result<(), JournalError> {
    let mut changes = journal.outbox_changes();
    let mut busy = BTreeSet::new();
    let mut on_their_way = FuturesUnordered::new();
    loop {
        // Seen before looked: a notice that comes in between wakes it again.
        changes.borrow_and_update();
        let mut sleep = LONGEST_SLEEP;
        for (not_before, row) in journal.first_notices()? {
            if busy.contains(&row.message.receiver) {
                continue;
            }
            let now = clock();
            if not_before > now {
                sleep = sleep.min(until(not_before, now));
                continue;
            }
            busy.insert(row.message.receiver.clone());
            on_their_way.push(deliver(journal, notifier, clock, options, row));
        }
        tokio::select! {
            Some(settled) = on_their_way.next() => {
                let receiver: String = settled?;
                busy.remove(&receiver);
            }
            // The journal is held here, so its end of the channel is there.
            _ = changes.changed() => {}
            () = tokio::time::sleep(sleep) => {}
        }
    }
}

/// Makes one attempt, and returns whose lane is free again.
async fn deliver(
    journal: &Journal,
    notifier: &Notifier,
    clock: &Clock,
    options: &Options,
    row: OutboxRow<Notice>,
) -> Result<String, JournalError> {
    let OutboxRow { id, message, .. } = row;
    let envelope = Envelope {
        id,
        to: &message.receiver,
        deploy: &message.deploy,
        at: message.at,
    };
    let delivery = |_| notifier.deliver(&message);
    attempt(journal, &envelope, clock, options, delivery).await?;
    Ok(message.receiver)
}
