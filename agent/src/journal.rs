//! The journal: what the agent must still know after it died, in one SQLite file.
//!
//! It holds the events of deploys, the calls that were seen, the releases of
//! each app, and the messages that are yet to be delivered. It decides nothing
//! about a deploy and never sees a credential.
//!
//! Invariant: when a write returns well, it is on the disk whole; when it
//! returns an error, nothing of it is in the journal.
//!
//! Invariant: an event is never changed, an ended deploy gets no more of them,
//! and an app has at most three deploys that have not ended: one that runs, one
//! that waits for it, and a newer one that is about to take the place of that.
//! The schema holds these rules, so that no code can forget them.

mod error;
mod forget;
mod lock;
mod outbox;
mod read;
mod schema;
#[cfg(test)]
mod tests;
mod write;

use std::fs::OpenOptions;
use std::io;
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use cutover_plan::event::Event;
use cutover_plan::id::{AppName, DeployId};
use cutover_plan::release::Releases;
use cutover_wire::request::Source;
use jiff::Timestamp;
use rusqlite::Connection;
use tokio::sync::watch;

use crate::forge::Message;
use crate::letter::Letter;

pub use self::error::{Cause, JournalError};

/// The journal; clones are handles to the same one.
#[derive(Clone)]
pub struct Journal {
    shared: Arc<Shared>,
}

struct Shared {
    store: Mutex<Store>,
    /// The highest seq, for those who follow events.
    events: watch::Sender<u64>,
    /// Grows with every message, for the one who delivers.
    messages: watch::Sender<u64>,
}

/// The connection, and what else only one thread at a time may see.
struct Store {
    connection: Connection,
    /// Why no write is taken any more: the disk failed in the middle of one.
    failed: Option<String>,
    /// Keeps a second agent out, for as long as this one lives.
    _lock: Option<lock::Lock>,
}

/// The writing half of the journal; the second implementation is the
/// simulation's, with faults.
pub trait Record: Send + Sync + 'static {
    /// Makes a call durable: the call, its deploy, the deploy's first event
    /// and the messages about it. A call that is known writes nothing. What the
    /// agent begins by itself has no call.
    fn accept(
        &self,
        call: Option<&str>,
        deploy: &DeployId,
        at: Timestamp,
        event: &Event,
        source: &Source,
        messages: &[Letter],
    ) -> Result<Acceptance, JournalError>;

    /// Makes an event durable, with the app's releases after it and the
    /// messages about it, and returns its seq. [`Event::Ended`] ends the deploy.
    fn append(
        &self,
        deploy: &DeployId,
        at: Timestamp,
        event: &Event,
        releases: &Releases,
        messages: &[Letter],
    ) -> Result<u64, JournalError>;

    /// The same for an event that a call asked for: the call is durable with
    /// it, so that it can be known when it comes again.
    fn append_called(
        &self,
        call: &str,
        deploy: &DeployId,
        at: Timestamp,
        event: &Event,
        releases: &Releases,
        messages: &[Letter],
    ) -> Result<u64, JournalError>;
}

/// What became of a call.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Acceptance {
    /// It is new; this is the seq of its first event.
    New(u64),
    /// It was accepted before, for this deploy.
    Replay(DeployId),
}

/// A deploy, without its events.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DeployRecord {
    /// Its id.
    pub deploy: DeployId,
    /// Its app.
    pub app: AppName,
    /// Where its call came from.
    pub source: Source,
    /// When the call was accepted.
    pub accepted_at: Timestamp,
    /// When it was over.
    pub ended_at: Option<Timestamp>,
}

/// An event with its place in the journal.
#[derive(Debug, Clone, PartialEq)]
pub struct Recorded {
    /// Grows with every event of the journal; one deploy's have gaps.
    pub seq: u64,
    /// When it happened.
    pub at: Timestamp,
    /// What happened.
    pub event: Event,
}

/// A message that is to be delivered.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct OutboxRow<M = Message> {
    /// Its number; grows.
    pub id: u64,
    /// How often its delivery was begun.
    pub attempts: u32,
    /// The message.
    pub message: M,
}

/// How the outbox stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct OutboxCounts {
    /// Messages that are to be delivered.
    pub waiting: u64,
    /// Messages of remembered deploys that were given up.
    pub given_up: u64,
}

/// How long a write waits for somebody who looks into the file with another program.
const BUSY_TIMEOUT: Duration = Duration::from_secs(5);

impl Journal {
    /// Opens the journal at `path`, or begins one that only its owner can read.
    /// The file is checked before anything is read from it.
    pub fn open(path: &Path) -> Result<Self, JournalError> {
        let lock = lock::take(path)?;
        create(path).map_err(|source| JournalError::Create {
            path: path.to_owned(),
            source,
        })?;
        let opened = |source| JournalError::open(path, source);
        let connection = Connection::open(path).map_err(opened)?;
        connection.busy_timeout(BUSY_TIMEOUT).map_err(opened)?;
        schema::check(&connection, path)?;
        schema::make_durable(&connection).map_err(opened)?;
        Self::begin(connection, path, Some(lock))
    }

    /// A journal that lives as long as its handles: the disk of the simulation.
    pub fn in_memory() -> Result<Self, JournalError> {
        let path = PathBuf::from(":memory:");
        let connection =
            Connection::open_in_memory().map_err(|source| JournalError::open(&path, source))?;
        Self::begin(connection, &path, None)
    }

    fn begin(
        mut connection: Connection,
        path: &Path,
        lock: Option<lock::Lock>,
    ) -> Result<Self, JournalError> {
        let opened = |source| JournalError::open(path, source);
        schema::migrate(&mut connection).map_err(opened)?;
        let highest: i64 = connection
            .query_row("SELECT coalesce(max(seq), 0) FROM events", [], |row| {
                row.get(0)
            })
            .map_err(opened)?;
        let store = Store {
            connection,
            failed: None,
            _lock: lock,
        };
        Ok(Self {
            shared: Arc::new(Shared {
                store: Mutex::new(store),
                events: watch::Sender::new(read::unsigned(highest)),
                messages: watch::Sender::new(0),
            }),
        })
    }

    /// The highest seq; changes with every event, which wakes followers.
    pub fn changes(&self) -> watch::Receiver<u64> {
        self.shared.events.subscribe()
    }

    /// A number that grows when there is something new to deliver.
    pub fn outbox_changes(&self) -> watch::Receiver<u64> {
        self.shared.messages.subscribe()
    }

    fn store(&self) -> MutexGuard<'_, Store> {
        // A panic in the middle of a transaction rolled it back as it unwound,
        // so what the lock guards is whole even when it is poisoned.
        let store = self.shared.store.lock();
        store.unwrap_or_else(PoisonError::into_inner)
    }
}

/// Makes an empty file for the owner alone; SQLite gives its companions the
/// same mode. The folder is synced, or a crash could take the file's name away.
fn create(path: &Path) -> io::Result<()> {
    let mut options = OpenOptions::new();
    match options.write(true).create_new(true).mode(0o600).open(path) {
        Ok(file) => file.sync_all()?,
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => return Ok(()),
        Err(error) => return Err(error),
    }
    let folder = match path.parent() {
        Some(folder) if folder.as_os_str().is_empty() => Path::new("."),
        Some(folder) => folder,
        None => return Ok(()),
    };
    OpenOptions::new().read(true).open(folder)?.sync_all()
}
