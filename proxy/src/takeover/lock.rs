//! The right to apply tables: a lock on the state directory.
//!
//! An instance holds it while it lives, so two that start at the same moment do
//! not both take themselves for the only one. In a take-over it is shared: a lock
//! of flock(2) belongs to the open file, and that is passed with the listeners.

use std::fs::File;
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::{Path, PathBuf};

use rustix::fs::{FlockOperation, flock};

/// Why the lock was not taken.
#[derive(Debug, thiserror::Error)]
pub enum LockError {
    /// Another instance has it.
    #[error("another instance of the proxy uses the state directory {}: give --takeover and its control socket, or end it first", .0.display())]
    Held(PathBuf),
    /// The file of the lock cannot be used.
    #[error("could not lock {}", path.display())]
    File {
        /// Which one.
        path: PathBuf,
        /// Why it failed.
        #[source]
        source: io::Error,
    },
}

/// See the module.
#[derive(Debug)]
pub(crate) struct StateLock(OwnedFd);

impl StateLock {
    /// Takes the lock of a state directory, unless another process has it.
    pub(crate) fn take(directory: &Path) -> Result<Self, LockError> {
        let path = directory.join("lock");
        let failed = |source| LockError::File {
            path: path.clone(),
            source,
        };
        let mut options = File::options();
        let options = options.create(true).truncate(false).write(true);
        let file = options.open(&path).map_err(failed)?;
        match flock(&file, FlockOperation::NonBlockingLockExclusive) {
            Ok(()) => Ok(Self(file.into())),
            Err(rustix::io::Errno::WOULDBLOCK) => Err(LockError::Held(directory.to_owned())),
            Err(error) => Err(failed(error.into())),
        }
    }

    /// The lock that another instance passed.
    pub(super) fn of(fd: OwnedFd) -> Self {
        Self(fd)
    }
}

impl AsFd for StateLock {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_lock_is_held_until_the_last_of_its_holders_has_ended() {
        let directory = tempfile::tempdir().unwrap();
        let first = StateLock::take(directory.path()).unwrap();
        let passed = StateLock::of(first.as_fd().try_clone_to_owned().unwrap());
        drop(first);
        let held = StateLock::take(directory.path());
        assert!(matches!(held, Err(LockError::Held(_))));
        drop(passed);
        assert!(StateLock::take(directory.path()).is_ok());
    }
}
