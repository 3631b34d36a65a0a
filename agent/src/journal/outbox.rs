//! The outbox: messages that were written with the event they tell of, until
//! they are delivered.
//!
//! Invariant: of one repository and environment, or of one receiver, no message
//! is due before the earlier ones are delivered or abandoned, or people would
//! see an old status as the newest.

use jiff::Timestamp;
use rusqlite::{OptionalExtension as _, Row, params};

use super::read::{decode, nanoseconds, signed, timestamp, unsigned};
use super::{Journal, JournalError, OutboxCounts, OutboxRow};
use crate::letter::Notice;

/// The messages that nothing earlier holds back.
const FIRST_OF_EACH: &str = "settled_at IS NULL AND NOT EXISTS (
    SELECT 1 FROM outbox AS earlier
    WHERE earlier.channel = outbox.channel AND earlier.repository = outbox.repository AND earlier.environment = outbox.environment
    AND earlier.settled_at IS NULL AND earlier.id < outbox.id)";

/// The channel of what the forge is told.
pub(super) const STATUS: &str = "status";
/// The channel of what receivers are told.
pub(super) const NOTICE: &str = "notice";

/// The longest reason that is kept: a sentence, not a page of a gateway.
const MAX_REASON: usize = 500;

impl Journal {
    /// The oldest status that is to be delivered now.
    pub fn due_message(&self, now: Timestamp) -> Result<Option<OutboxRow>, JournalError> {
        let query = format!(
            "SELECT id, attempts, message FROM outbox \
             WHERE channel = '{STATUS}' AND {FIRST_OF_EACH} AND not_before <= ? \
             ORDER BY id LIMIT 1"
        );
        let three = |row: &Row<'_>| Ok((row.get(0)?, row.get(1)?, row.get(2)?));
        let found: Option<(i64, u32, String)> = self
            .store()
            .connection
            .prepare_cached(&query)
            .and_then(|mut query| query.query_row([nanoseconds(now)], three).optional())
            .map_err(JournalError::read("the outbox"))?;
        let understand = |(id, attempts, text): (i64, u32, String)| {
            Ok(OutboxRow {
                id: unsigned(id),
                attempts,
                message: decode("outbox", &id.to_string(), &text)?,
            })
        };
        found.map(understand).transpose()
    }

    /// The oldest notice for each receiver, with the time before which it is not
    /// to be delivered.
    pub fn first_notices(&self) -> Result<Vec<(Timestamp, OutboxRow<Notice>)>, JournalError> {
        let query = format!(
            "SELECT id, attempts, message, not_before FROM outbox \
             WHERE channel = '{NOTICE}' AND {FIRST_OF_EACH} ORDER BY id"
        );
        let read = JournalError::read("the outbox");
        let rows: Vec<(i64, u32, String, i64)> = {
            let store = self.store();
            let mut query = store.connection.prepare_cached(&query).map_err(&read)?;
            let four = |row: &Row<'_>| Ok((row.get(0)?, row.get(1)?, row.get(2)?, row.get(3)?));
            query
                .query_map([], four)
                .and_then(Iterator::collect)
                .map_err(&read)?
        };
        let understand = |(id, attempts, text, at): (i64, u32, String, i64)| {
            let row = id.to_string();
            let found = OutboxRow {
                id: unsigned(id),
                attempts,
                message: decode("outbox", &row, &text)?,
            };
            Ok((timestamp("outbox", &row, at)?, found))
        };
        rows.into_iter().map(understand).collect()
    }

    /// When the next status becomes due; a time that has passed means now.
    pub fn next_message_at(&self) -> Result<Option<Timestamp>, JournalError> {
        let query = format!(
            "SELECT min(not_before) FROM outbox WHERE channel = '{STATUS}' AND {FIRST_OF_EACH}"
        );
        let found: Option<i64> = self
            .store()
            .connection
            .prepare_cached(&query)
            .and_then(|mut query| query.query_row([], |row| row.get(0)))
            .map_err(JournalError::read("the outbox"))?;
        found.map(|at| timestamp("outbox", "next", at)).transpose()
    }

    /// Counts an attempt before it is made, and returns its number: 1 at
    /// first. From 2 on, an earlier attempt may have had its effect.
    pub fn message_begun(&self, id: u64) -> Result<u32, JournalError> {
        self.store()
            .transact("an attempt of delivery", |transaction| {
                let attempts: Option<u32> = transaction
                    .prepare_cached(
                        "UPDATE outbox SET attempts = attempts + 1 \
                     WHERE id = ? AND settled_at IS NULL RETURNING attempts",
                    )?
                    .query_row([signed(id)], |row| row.get(0))
                    .optional()?;
                Ok(attempts.ok_or(JournalError::UnknownMessage(id)))
            })
    }

    /// The message is where people see it.
    pub fn message_delivered(&self, id: u64, at: Timestamp) -> Result<(), JournalError> {
        let set = "settled_at = ?2, delivered = 1, reason = ?3";
        self.change_message(id, set, at, None)
    }

    /// The message is tried again, not before `until`.
    pub fn message_postponed(
        &self,
        id: u64,
        until: Timestamp,
        reason: &str,
    ) -> Result<(), JournalError> {
        let set = "not_before = ?2, reason = ?3";
        self.change_message(id, set, until, Some(reason))
    }

    /// The message is given up; the ones after it are no longer held back.
    pub fn message_abandoned(
        &self,
        id: u64,
        at: Timestamp,
        reason: &str,
    ) -> Result<(), JournalError> {
        let set = "settled_at = ?2, delivered = 0, reason = ?3";
        self.change_message(id, set, at, Some(reason))
    }

    /// How many messages are to be delivered.
    pub fn undelivered(&self) -> Result<u64, JournalError> {
        let count: i64 = self
            .store()
            .connection
            .prepare_cached("SELECT count(*) FROM outbox WHERE settled_at IS NULL")
            .and_then(|mut query| query.query_row([], |row| row.get(0)))
            .map_err(JournalError::read("the outbox"))?;
        Ok(unsigned(count))
    }

    /// How many messages are to be delivered, and how many were given up.
    pub fn outbox(&self) -> Result<OutboxCounts, JournalError> {
        let two = |row: &Row<'_>| Ok((row.get(0)?, row.get(1)?));
        let (waiting, given_up): (i64, i64) = self
            .store()
            .connection
            .prepare_cached(
                "SELECT count(*) FILTER (WHERE settled_at IS NULL),                  count(*) FILTER (WHERE delivered = 0) FROM outbox",
            )
            .and_then(|mut query| query.query_row([], two))
            .map_err(JournalError::read("the outbox"))?;
        Ok(OutboxCounts {
            waiting: unsigned(waiting),
            given_up: unsigned(given_up),
        })
    }

    fn change_message(
        &self,
        id: u64,
        set: &str,
        at: Timestamp,
        reason: Option<&str>,
    ) -> Result<(), JournalError> {
        let statement = format!("UPDATE outbox SET {set} WHERE id = ?1 AND settled_at IS NULL");
        let reason: Option<String> = reason.map(|text| text.chars().take(MAX_REASON).collect());
        self.store()
            .transact("what became of a message", |transaction| {
                let changed = transaction.prepare_cached(&statement)?.execute(params![
                    signed(id),
                    nanoseconds(at),
                    reason
                ])?;
                Ok(match changed {
                    0 => Err(JournalError::UnknownMessage(id)),
                    _ => Ok(()),
                })
            })
    }
}
