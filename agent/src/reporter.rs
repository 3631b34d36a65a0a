//! Delivers the outbox: takes the messages in order, has the forge bring each to
//! where people see it, and comes again when that failed. `notices` does the same
//! for the receivers of `[[notify]]`, apart from it: neither waits for the other.
//!
//! It says nothing of its own and never changes a message. One delivery is
//! under way at a time; a message that cannot be delivered waits aside, with
//! the later ones of its environment behind it, and holds up no other.
//!
//! Invariant: an attempt is counted in the journal before it is made. When the
//! agent dies in the middle of one, the next attempt is at least the second,
//! and the forge looks for what the first may have done.

mod notices;

use std::future::Future;
use std::pin::pin;
use std::time::Duration;

use cutover_plan::id::DeployId;
use jiff::{SignedDuration, Timestamp};

use crate::clock::Clock;
use crate::forge::{DeliveryError, Forge};
use crate::journal::{Journal, JournalError, OutboxRow};

pub use notices::run as run_notices;

/// How patiently it delivers.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Options {
    /// The longest time one delivery takes.
    pub timeout: Duration,
    /// The wait after the first failure; each further one doubles it.
    pub first_wait: Duration,
    /// The longest wait, unless the forge asks for a longer one.
    pub longest_wait: Duration,
    /// A message that is older than this is given up when its delivery fails.
    pub give_up_after: Duration,
}

impl Default for Options {
    /// A delivery makes a handful of calls, each answered within 10 seconds or
    /// not at all. A credential that breaks on a Friday evening is repaired on
    /// Monday, and the statuses of the weekend are then still delivered.
    fn default() -> Self {
        Self {
            timeout: Duration::from_secs(30),
            first_wait: Duration::from_secs(1),
            longest_wait: Duration::from_secs(5 * 60),
            give_up_after: Duration::from_secs(72 * 3_600),
        }
    }
}

/// It looks into the outbox at least this often: the wall clock may be set
/// forward while it waits.
const LONGEST_SLEEP: Duration = Duration::from_secs(60);

/// Delivers until `shutdown` completes. A delivery that is under way then is
/// dropped, and repeated by the next process. It ends with an error only when
/// the journal does not work any more.
pub async fn run(
    journal: Journal,
    forge: impl Forge,
    clock: Clock,
    options: Options,
    shutdown: impl Future<Output = ()>,
) -> Result<(), JournalError> {
    let mut shutdown = pin!(shutdown);
    tokio::select! {
        biased;
        () = &mut shutdown => Ok(()),
        ended = deliver_all(&journal, &forge, &clock, &options) => ended,
    }
}

async fn deliver_all(
    journal: &Journal,
    forge: &impl Forge,
    clock: &Clock,
    options: &Options,
) -> Result<(), JournalError> {
    let mut changes = journal.outbox_changes();
    loop {
        // Seen before looked: a message that comes in between wakes it again.
        changes.borrow_and_update();
        while let Some(row) = journal.due_message(clock())? {
            deliver(journal, forge, clock, options, &row).await?;
        }
        let sleep = match journal.next_message_at()? {
            Some(at) => until(at, clock()).min(LONGEST_SLEEP),
            None => LONGEST_SLEEP,
        };
        // The journal is held here, so its end of the channel is there.
        let _ = tokio::time::timeout(sleep, changes.changed()).await;
    }
}

async fn deliver(
    journal: &Journal,
    forge: &impl Forge,
    clock: &Clock,
    options: &Options,
    row: &OutboxRow,
) -> Result<(), JournalError> {
    let OutboxRow { id, message, .. } = row;
    let envelope = Envelope {
        id: *id,
        to: "GitHub",
        deploy: &message.deploy,
        at: message.at,
    };
    let delivery = |attempt| forge.deliver(message, attempt);
    attempt(journal, &envelope, clock, options, delivery).await
}

/// What is known of a message whatever it says.
struct Envelope<'a> {
    id: u64,
    to: &'a str,
    deploy: &'a DeployId,
    at: Timestamp,
}

/// Makes one attempt, counted before, and writes down what became of it.
async fn attempt<D: Future<Output = Result<(), DeliveryError>>>(
    journal: &Journal,
    envelope: &Envelope<'_>,
    clock: &Clock,
    options: &Options,
    delivery: impl FnOnce(u32) -> D,
) -> Result<(), JournalError> {
    let Envelope { id, to, deploy, at } = *envelope;
    let attempt = journal.message_begun(id)?;
    let delivery = tokio::time::timeout(options.timeout, delivery(attempt));
    let delivered = delivery.await.unwrap_or_else(|_| {
        Err(DeliveryError::Later {
            reason: format!("no end after {} s", options.timeout.as_secs()),
            after_seconds: None,
        })
    });
    let now = clock();
    match delivered {
        Ok(()) => {
            tracing::debug!(%deploy, to, attempt, "message delivered");
            journal.message_delivered(id, now)
        }
        Err(DeliveryError::Never(reason)) => {
            tracing::error!(%deploy, to, attempt, %reason, "message given up");
            journal.message_abandoned(id, now, &reason)
        }
        Err(DeliveryError::Later { reason, .. }) if too_old(at, now, options) => {
            tracing::error!(%deploy, to, attempt, %reason, "message given up: it is too old");
            journal.message_abandoned(id, now, &reason)
        }
        Err(DeliveryError::Later {
            reason,
            after_seconds,
        }) => {
            let asked = Duration::from_secs(after_seconds.unwrap_or(0));
            let wait = wait(deploy, attempt, options).max(asked);
            tracing::warn!(%deploy, to, attempt, %reason, ?wait, "message not delivered yet");
            journal.message_postponed(id, after(now, wait), &reason)
        }
    }
}

/// How long to wait after an attempt failed: doubled each time up to the
/// longest, less up to a quarter. The deploy's id decides how much less, so
/// that hosts which failed together do not come again together.
fn wait(deploy: &DeployId, attempt: u32, options: &Options) -> Duration {
    let doublings = attempt.saturating_sub(1).min(31);
    let whole = options.first_wait.saturating_mul(1 << doublings);
    let whole = whole.min(options.longest_wait);
    let seed = deploy.as_str().bytes().chain(attempt.to_le_bytes());
    // FNV-1a: any hash that is the same everywhere would do.
    let hash = seed.fold(0xcbf2_9ce4_8422_2325_u64, |hash, byte| {
        (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3)
    });
    let share = u32::try_from(hash >> 56).unwrap_or(0);
    whole - whole / 4 * share / 256
}

fn too_old(at: Timestamp, now: Timestamp, options: &Options) -> bool {
    let age = now.duration_since(at);
    age > SignedDuration::try_from(options.give_up_after).unwrap_or(SignedDuration::MAX)
}

/// The time from now to then; none when then has passed.
fn until(then: Timestamp, now: Timestamp) -> Duration {
    Duration::try_from(then.duration_since(now)).unwrap_or(Duration::ZERO)
}

fn after(now: Timestamp, wait: Duration) -> Timestamp {
    now.checked_add(wait).unwrap_or(Timestamp::MAX)
}

#[cfg(test)]
mod tests;
