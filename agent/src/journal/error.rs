//! Why the journal did not do it.

use std::error::Error;
use std::io;
use std::path::{Path, PathBuf};

use cutover_plan::id::{AppName, DeployId};
use rusqlite::ErrorCode;

/// What lies under an error; boxed, because the simulation's disk fails in
/// words of its own.
pub type Cause = Box<dyn Error + Send + Sync>;

/// Why the journal did not do it. After every one of these nothing was written.
#[derive(Debug, thiserror::Error)]
pub enum JournalError {
    /// The file cannot be made.
    #[error("the journal {} cannot be created", path.display())]
    Create {
        /// The file.
        path: PathBuf,
        /// The cause.
        #[source]
        source: io::Error,
    },
    /// The file cannot be opened or prepared.
    #[error("the journal {} cannot be opened", path.display())]
    Open {
        /// The file.
        path: PathBuf,
        /// The cause.
        #[source]
        source: rusqlite::Error,
    },
    /// Another agent works with it.
    #[error("the journal {} is held by another agent; stop that one first", path.display())]
    Held {
        /// The file.
        path: PathBuf,
    },
    /// A newer agent wrote it.
    #[error(
        "the journal {} has the format {found}, this agent knows {known}; run the newer agent that wrote it",
        path.display()
    )]
    Newer {
        /// The file.
        path: PathBuf,
        /// Its format.
        found: i64,
        /// The newest format that is known here.
        known: i64,
    },
    /// The file does not hold what was written.
    #[error(
        "the journal {0} is damaged ({finding}); move {0}, {0}-wal and {0}-shm aside and start the agent again. \
         The proxy serves on meanwhile; lost are the history of deploys, the way back to the release before, \
         and statuses that GitHub has not got yet",
        path.display()
    )]
    Damaged {
        /// The file.
        path: PathBuf,
        /// What the check found.
        finding: String,
    },
    /// Something could not be read.
    #[error("the journal could not read {what}")]
    Read {
        /// What.
        what: &'static str,
        /// The cause.
        #[source]
        source: Cause,
    },
    /// Something could not be written.
    #[error("the journal could not write {what}")]
    Write {
        /// What.
        what: &'static str,
        /// The cause.
        #[source]
        source: Cause,
    },
    /// A row is there and cannot be understood.
    #[error("the journal has a row that cannot be understood: {table} {row}")]
    Corrupt {
        /// The table.
        table: &'static str,
        /// The key of the row.
        row: String,
        /// The cause.
        #[source]
        source: Cause,
    },
    /// The disk failed in the middle of an earlier write, and what it holds is
    /// known again only after a restart.
    #[error(
        "the journal takes no more writes until the agent is restarted, because the disk failed: {0}"
    )]
    Latched(String),
    /// There is no such deploy.
    #[error("the journal has no deploy {0}")]
    UnknownDeploy(DeployId),
    /// The deploy has ended already.
    #[error("the deploy {0} has ended and gets no more events")]
    Ended(DeployId),
    /// The app has as many deploys that have not ended as it may have.
    #[error("the app {0} has three deploys that have not ended")]
    Unfinished(AppName),
    /// A deploy begins with [`cutover_plan::event::Event::Accepted`] and has it once.
    #[error("the deploy {0} can begin with the event accepted, and with no other")]
    Misplaced(DeployId),
    /// There is no such message, or it was delivered or abandoned already.
    #[error("the outbox has no message {0} that is to be delivered")]
    UnknownMessage(u64),
}

impl JournalError {
    /// An error of the opening: damage is told apart from the rest.
    pub(super) fn open(path: &Path, source: rusqlite::Error) -> Self {
        let path = path.to_owned();
        let damage = [ErrorCode::DatabaseCorrupt, ErrorCode::NotADatabase];
        match source.sqlite_error_code() {
            Some(code) if damage.contains(&code) => Self::Damaged {
                path,
                finding: source.to_string(),
            },
            _ => Self::Open { path, source },
        }
    }

    /// Turns what SQLite says of a read into an error about `what`.
    pub(super) fn read(what: &'static str) -> impl Fn(rusqlite::Error) -> Self {
        move |source| Self::Read {
            what,
            source: source.into(),
        }
    }

    /// Turns what SQLite says of a write into an error about `what`.
    pub(super) fn write(what: &'static str) -> impl Fn(rusqlite::Error) -> Self {
        move |source| Self::Write {
            what,
            source: source.into(),
        }
    }
}

/// Whether the disk itself failed, so that nobody knows what it holds. A full
/// disk is not that: SQLite takes the write back.
pub(super) fn is_disk_failure(error: &rusqlite::Error) -> bool {
    let failures = [
        ErrorCode::SystemIoFailure,
        ErrorCode::DatabaseCorrupt,
        ErrorCode::NotADatabase,
    ];
    let code = error.sqlite_error_code();
    code.is_some_and(|code| failures.contains(&code))
}
