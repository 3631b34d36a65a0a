//! Writing events. Each function is one transaction.

use cutover_plan::event::Event;
use cutover_plan::id::DeployId;
use cutover_plan::release::Releases;
use cutover_wire::request::Source;
use jiff::Timestamp;
use rusqlite::{OptionalExtension as _, Transaction, TransactionBehavior, params};
use serde::Serialize;

use super::error::is_disk_failure;
use super::outbox::{NOTICE, STATUS};
use super::read::{id_of, nanoseconds, unsigned};
use super::{Acceptance, Journal, JournalError, Record, Store};
use crate::letter::Letter;

/// One runs, one waits, and one is about to take the place of that.
const MOST_UNFINISHED: i64 = 3;

impl Record for Journal {
    fn accept(
        &self,
        call: Option<&str>,
        deploy: &DeployId,
        at: Timestamp,
        event: &Event,
        source: &Source,
        messages: &[Letter],
    ) -> Result<Acceptance, JournalError> {
        let Event::Accepted { app, .. } = event else {
            return Err(JournalError::Misplaced(deploy.clone()));
        };
        let what = "an accepted call";
        let from = json(what, source)?;
        let rows = Rows::new(what, at, event, messages)?;
        let acceptance =
            self.store().transact(what, |transaction| {
                if let Some(call) = call {
                    let known: Option<String> = transaction
                        .prepare_cached("SELECT deploy FROM calls WHERE call = ?")?
                        .query_row([call], |row| row.get(0))
                        .optional()?;
                    if let Some(known) = known {
                        return Ok(id_of("calls", call, &known).map(Acceptance::Replay));
                    }
                }
                let unfinished: i64 = transaction
                    .prepare_cached(
                        "SELECT count(*) FROM deploys WHERE app = ? AND ended_at IS NULL",
                    )?
                    .query_row([app.as_str()], |row| row.get(0))?;
                if unfinished >= MOST_UNFINISHED {
                    return Ok(Err(JournalError::Unfinished(app.clone())));
                }
                transaction
                .prepare_cached(
                    "INSERT INTO deploys (deploy, app, source, accepted_at, called) VALUES (?, ?, ?, ?, ?)",
                )?
                .execute(params![deploy.as_str(), app.as_str(), from, nanoseconds(at), call.is_some()])?;
                if let Some(call) = call {
                    insert_call(transaction, call, deploy, at)?;
                }
                Ok(Ok(Acceptance::New(rows.insert(transaction, deploy)?)))
            })?;
        if let Acceptance::New(seq) = acceptance {
            self.wake(seq, messages);
        }
        Ok(acceptance)
    }

    fn append(
        &self,
        deploy: &DeployId,
        at: Timestamp,
        event: &Event,
        releases: &Releases,
        messages: &[Letter],
    ) -> Result<u64, JournalError> {
        self.write_event(None, deploy, at, event, releases, messages)
    }

    fn append_called(
        &self,
        call: &str,
        deploy: &DeployId,
        at: Timestamp,
        event: &Event,
        releases: &Releases,
        messages: &[Letter],
    ) -> Result<u64, JournalError> {
        self.write_event(Some(call), deploy, at, event, releases, messages)
    }
}

impl Journal {
    /// Begins a transaction and ends it: whether a write would be taken now.
    pub fn probe(&self) -> Result<(), JournalError> {
        self.store().transact("a probe", |_| Ok(Ok(())))
    }

    fn write_event(
        &self,
        call: Option<&str>,
        deploy: &DeployId,
        at: Timestamp,
        event: &Event,
        releases: &Releases,
        messages: &[Letter],
    ) -> Result<u64, JournalError> {
        if matches!(event, Event::Accepted { .. }) {
            return Err(JournalError::Misplaced(deploy.clone()));
        }
        let what = "an event";
        let releases = json(what, releases)?;
        let rows = Rows::new(what, at, event, messages)?;
        let seq = self.store().transact(what, |transaction| {
            let found: Option<(String, Option<i64>)> = transaction
                .prepare_cached("SELECT app, ended_at FROM deploys WHERE deploy = ?")?
                .query_row([deploy.as_str()], |row| Ok((row.get(0)?, row.get(1)?)))
                .optional()?;
            let app = match found {
                None => return Ok(Err(JournalError::UnknownDeploy(deploy.clone()))),
                Some((_, Some(_))) => return Ok(Err(JournalError::Ended(deploy.clone()))),
                Some((app, None)) => app,
            };
            if let Some(call) = call {
                insert_call(transaction, call, deploy, at)?;
            }
            let seq = rows.insert(transaction, deploy)?;
            transaction
                .prepare_cached(
                    "INSERT INTO releases (app, releases) VALUES (?, ?) \
                     ON CONFLICT DO UPDATE SET releases = excluded.releases",
                )?
                .execute(params![app, releases])?;
            if matches!(event, Event::Ended { .. }) {
                transaction
                    .prepare_cached("UPDATE deploys SET ended_at = ? WHERE deploy = ?")?
                    .execute(params![nanoseconds(at), deploy.as_str()])?;
            }
            Ok(Ok(seq))
        })?;
        self.wake(seq, messages);
        Ok(seq)
    }

    /// Tells followers of a seq, and the deliverer of new messages. Two writers
    /// may come here in the other order, so the numbers only grow.
    fn wake(&self, seq: u64, messages: &[Letter]) {
        let grow = |highest: &mut u64| {
            let grows = seq > *highest;
            *highest = seq.max(*highest);
            grows
        };
        self.shared.events.send_if_modified(grow);
        if !messages.is_empty() {
            let new = messages.len() as u64;
            self.shared.messages.send_modify(|number| *number += new);
        }
    }
}

impl Store {
    /// Runs `work` in one transaction: all of it is on the disk, or nothing is.
    /// A refusal of `work` itself (the inner error) takes everything back too.
    pub(super) fn transact<T>(
        &mut self,
        what: &'static str,
        work: impl FnOnce(&Transaction<'_>) -> rusqlite::Result<Result<T, JournalError>>,
    ) -> Result<T, JournalError> {
        if let Some(failure) = &self.failed {
            return Err(JournalError::Latched(failure.clone()));
        }
        let run = || -> rusqlite::Result<Result<T, JournalError>> {
            let behavior = TransactionBehavior::Immediate;
            let transaction = self.connection.transaction_with_behavior(behavior)?;
            let done = work(&transaction)?;
            if done.is_ok() {
                transaction.commit()?;
            }
            Ok(done)
        };
        run().unwrap_or_else(|source| {
            // After a failed sync the kernel may have dropped the bytes and say
            // yes the next time: only a restart reads what is there.
            if is_disk_failure(&source) {
                self.failed = Some(source.to_string());
            }
            Err(JournalError::write(what)(source))
        })
    }
}

fn insert_call(
    transaction: &Transaction<'_>,
    call: &str,
    deploy: &DeployId,
    at: Timestamp,
) -> rusqlite::Result<()> {
    transaction
        .prepare_cached(
            "INSERT INTO calls (call, deploy, at) VALUES (?, ?, ?) ON CONFLICT DO NOTHING",
        )?
        .execute(params![call, deploy.as_str(), nanoseconds(at)])
        .map(drop)
}

/// What a transaction inserts, encoded before it begins.
struct Rows<'a> {
    at: i64,
    event: String,
    letters: Vec<Row<'a>>,
}

impl<'a> Rows<'a> {
    fn new(
        what: &'static str,
        at: Timestamp,
        event: &Event,
        letters: &'a [Letter],
    ) -> Result<Self, JournalError> {
        let encode = |letter: &'a Letter| Row::new(what, letter);
        Ok(Self {
            at: nanoseconds(at),
            event: json(what, event)?,
            letters: letters.iter().map(encode).collect::<Result<_, _>>()?,
        })
    }

    fn insert(&self, transaction: &Transaction<'_>, deploy: &DeployId) -> rusqlite::Result<u64> {
        transaction
            .prepare_cached("INSERT INTO events (deploy, at, event) VALUES (?, ?, ?)")?
            .execute(params![deploy.as_str(), self.at, self.event])?;
        let seq = unsigned(transaction.last_insert_rowid());
        for row in &self.letters {
            transaction
                .prepare_cached(
                    "INSERT INTO outbox (deploy, channel, repository, environment, message, not_before) \
                     VALUES (?, ?, ?, ?, ?, ?)",
                )?
                .execute(params![
                    deploy.as_str(),
                    row.channel,
                    row.lane.0,
                    row.lane.1,
                    row.text,
                    self.at
                ])?;
        }
        Ok(seq)
    }
}

/// A letter as it is stored. Those of one lane are delivered in order.
struct Row<'a> {
    channel: &'static str,
    lane: (&'a str, &'a str),
    text: String,
}

impl<'a> Row<'a> {
    fn new(what: &'static str, letter: &'a Letter) -> Result<Self, JournalError> {
        Ok(match letter {
            Letter::Status(message) => Self {
                channel: STATUS,
                lane: (&message.repository, &message.environment),
                text: json(what, message)?,
            },
            Letter::Notice(notice) => Self {
                channel: NOTICE,
                lane: (&notice.receiver, ""),
                text: json(what, notice)?,
            },
        })
    }
}

fn json(what: &'static str, value: &impl Serialize) -> Result<String, JournalError> {
    serde_json::to_string(value).map_err(|source| JournalError::Write {
        what,
        source: source.into(),
    })
}
