//! One agent for each journal: two engines of one app would undo each other's work.
//!
//! The lock is on a file beside the journal, because closing any handle of the
//! journal itself would drop SQLite's own locks of this process.

use std::ffi::OsString;
use std::fs::{File, OpenOptions};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};

use rustix::fs::{FlockOperation, flock};

use super::JournalError;

/// Held for as long as it lives; the kernel drops it with the process.
pub(super) struct Lock(#[expect(dead_code, reason = "held, never read")] File);

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
    match flock(&file, FlockOperation::NonBlockingLockExclusive) {
        Ok(()) => Ok(Lock(file)),
        Err(rustix::io::Errno::WOULDBLOCK) => Err(JournalError::Held {
            path: path.to_owned(),
        }),
        Err(error) => Err(create(error.into())),
    }
}
