//! The tables, and how a file comes to have them.
//!
//! Times are nanoseconds since 1970. A change of the tables is one more
//! element of [`STEPS`]; an element that was released is never edited.

use std::path::Path;

use rusqlite::{Connection, TransactionBehavior};

use super::JournalError;

/// The format that this program reads and writes.
const FORMAT: i64 = STEPS.len() as i64;

/// Each brings a file from the format of its index to the next.
const STEPS: [&str; 3] = [
    r"
CREATE TABLE deploys (
    deploy TEXT PRIMARY KEY,
    app TEXT NOT NULL,
    source TEXT NOT NULL,
    accepted_at INTEGER NOT NULL,
    ended_at INTEGER
) STRICT, WITHOUT ROWID;
CREATE UNIQUE INDEX unfinished ON deploys (app) WHERE ended_at IS NULL;
CREATE INDEX ended ON deploys (app, ended_at) WHERE ended_at IS NOT NULL;

CREATE TABLE calls (
    call TEXT PRIMARY KEY,
    deploy TEXT NOT NULL REFERENCES deploys,
    at INTEGER NOT NULL
) STRICT, WITHOUT ROWID;
CREATE INDEX calls_of_deploy ON calls (deploy);
CREATE INDEX calls_by_time ON calls (at);

CREATE TABLE events (
    seq INTEGER PRIMARY KEY AUTOINCREMENT,
    deploy TEXT NOT NULL REFERENCES deploys,
    at INTEGER NOT NULL,
    event TEXT NOT NULL
) STRICT;
CREATE INDEX events_of_deploy ON events (deploy, seq);

CREATE TRIGGER events_never_change BEFORE UPDATE ON events BEGIN
    SELECT raise(ABORT, 'an event is never changed');
END;
CREATE TRIGGER events_stay BEFORE DELETE ON events
WHEN (SELECT ended_at FROM deploys WHERE deploy = OLD.deploy) IS NULL BEGIN
    SELECT raise(ABORT, 'the events of a deploy that has not ended are never deleted');
END;
CREATE TRIGGER events_end BEFORE INSERT ON events
WHEN (SELECT ended_at FROM deploys WHERE deploy = NEW.deploy) IS NOT NULL BEGIN
    SELECT raise(ABORT, 'a deploy that has ended gets no more events');
END;

CREATE TABLE releases (
    app TEXT PRIMARY KEY,
    releases TEXT NOT NULL
) STRICT, WITHOUT ROWID;

CREATE TABLE outbox (
    id INTEGER PRIMARY KEY AUTOINCREMENT,
    deploy TEXT NOT NULL REFERENCES deploys,
    repository TEXT NOT NULL,
    environment TEXT NOT NULL,
    message TEXT NOT NULL,
    attempts INTEGER NOT NULL DEFAULT 0,
    not_before INTEGER NOT NULL,
    settled_at INTEGER,
    delivered INTEGER CHECK (delivered IN (0, 1)),
    reason TEXT
) STRICT;
CREATE INDEX outbox_of_deploy ON outbox (deploy);
CREATE INDEX undelivered ON outbox (repository, environment, id) WHERE settled_at IS NULL;
",
    // A newer call may wait for the end of a deploy, and the agent retires what
    // has stood by for its time without being called.
    r"
DROP INDEX unfinished;
CREATE INDEX unfinished ON deploys (app, accepted_at, deploy) WHERE ended_at IS NULL;
CREATE TRIGGER deploys_wait BEFORE INSERT ON deploys
WHEN (SELECT count(*) FROM deploys WHERE app = NEW.app AND ended_at IS NULL) >= 3 BEGIN
    SELECT raise(ABORT, 'an app has at most three deploys that have not ended');
END;
ALTER TABLE deploys ADD COLUMN called INTEGER NOT NULL DEFAULT 1 CHECK (called IN (0, 1));
",
    // Not GitHub alone is told: of a notice, the repository is its receiver.
    r"
ALTER TABLE outbox ADD COLUMN channel TEXT NOT NULL DEFAULT 'status' CHECK (channel IN ('status', 'notice'));
DROP INDEX undelivered;
CREATE INDEX undelivered ON outbox (channel, repository, environment, id) WHERE settled_at IS NULL;
",
];

/// Refuses a file of a newer agent, and one that does not hold what was written.
pub(super) fn check(connection: &Connection, path: &Path) -> Result<(), JournalError> {
    let opened = |source| JournalError::open(path, source);
    let found = format(connection).map_err(opened)?;
    if !(0..=FORMAT).contains(&found) {
        return Err(JournalError::Newer {
            path: path.to_owned(),
            found,
            known: FORMAT,
        });
    }
    let quick_check = |row: &rusqlite::Row<'_>| row.get::<_, String>(0);
    let finding = connection
        .query_row("PRAGMA quick_check(1)", [], quick_check)
        .map_err(opened)?;
    if finding == "ok" {
        return Ok(());
    }
    Err(JournalError::Damaged {
        path: path.to_owned(),
        finding: finding.replace('\n', ", "),
    })
}

/// A write that returns is on the disk: a write-ahead log, synced at each commit.
pub(super) fn make_durable(connection: &Connection) -> rusqlite::Result<()> {
    connection.pragma_update_and_check(None, "journal_mode", "wal", |_| Ok(()))?;
    connection.pragma_update(None, "synchronous", "full")?;
    // The log is cut to this after a large write: about four times what
    // SQLite keeps before it moves the log into the file.
    connection.pragma_update_and_check(None, "journal_size_limit", 16 << 20, |_| Ok(()))
}

/// Brings the tables to the newest format; the bytes of each step are whole or not there.
pub(super) fn migrate(connection: &mut Connection) -> rusqlite::Result<()> {
    connection.pragma_update(None, "foreign_keys", true)?;
    let found = format(connection)?;
    if found == FORMAT {
        return Ok(());
    }
    let transaction = connection.transaction_with_behavior(TransactionBehavior::Exclusive)?;
    let done = usize::try_from(found).unwrap_or(0);
    for step in STEPS.iter().skip(done) {
        transaction.execute_batch(step)?;
    }
    transaction.pragma_update(None, "user_version", FORMAT)?;
    transaction.commit()
}

fn format(connection: &Connection) -> rusqlite::Result<i64> {
    connection.pragma_query_value(None, "user_version", |row| row.get(0))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_an_older_agent_had_not_told_is_still_for_github() {
        let mut connection = Connection::open_in_memory().unwrap();
        for step in &STEPS[..2] {
            connection.execute_batch(step).unwrap();
        }
        connection
            .execute_batch(
                "PRAGMA user_version = 2; PRAGMA foreign_keys = 0; \
                 INSERT INTO outbox (deploy, repository, environment, message, not_before) \
                 VALUES ('d', 'acme/shop', 'production', '{}', 0)",
            )
            .unwrap();
        migrate(&mut connection).unwrap();
        assert_eq!(format(&connection).unwrap(), FORMAT);
        let channel = "SELECT channel FROM outbox";
        let channel: String = connection.query_row(channel, [], |row| row.get(0)).unwrap();
        assert_eq!(channel, "status");
        let other = "UPDATE outbox SET channel = 'moon'";
        connection.execute_batch(other).unwrap_err();
    }
}
