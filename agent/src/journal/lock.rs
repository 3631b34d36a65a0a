//! One agent for each journal: two engines of one app would undo each other's work.
//!
//! The lock is on a file beside the journal, because closing any handle of the
//! journal itself would drop SQLite's own locks of this process.

use std::ffi::OsString;
use std::fs::{File, OpenOptions};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};
use std::thread;
use std::time::Duration;

use rustix::fs::{FlockOperation, flock};

use super::JournalError;

/// Held for as long as it lives; the kernel drops it with the process.
pub(super) struct Lock(#[expect(dead_code, reason = "held, never read")] File);

/// An agent that was just killed may hold it a moment longer, and so may a
/// process that is being started and has not closed what it inherited.
const ATTEMPTS: u32 = 20;
const PAUSE: Duration = Duration::from_millis(50);

pub(super) fn take(path: &Path) -> Result<Lock, JournalError> {
    let mut name = OsString::from(path);
    name.push(".lock");
    let create = |source| JournalError::Create {
        path: PathBuf::from(&name),
        source,
    };
    let file = OpenOptions::new()
        .write(true)
        .create(true)
        .truncate(false)
        .mode(0o600)
        .open(&name)
        .map_err(create)?;
    for _ in 0..ATTEMPTS {
        match flock(&file, FlockOperation::NonBlockingLockExclusive) {
            Ok(()) => return Ok(Lock(file)),
            Err(rustix::io::Errno::WOULDBLOCK) => thread::sleep(PAUSE),
            Err(error) => return Err(create(error.into())),
        }
    }
    Err(JournalError::Held {
        path: path.to_owned(),
    })
}
