//! The agent's socket on the host: who may open it may deploy.
//!
//! Invariant: the socket never stands at its path with wider permissions than
//! asked for, and a socket that somebody answers on is never replaced.

use std::fs;
use std::io;
use std::os::unix::fs::{FileTypeExt as _, MetadataExt as _, PermissionsExt as _, chown};
use std::os::unix::net::UnixStream as Probe;
use std::path::{Path, PathBuf};

use tokio::net::{UnixListener, UnixStream};

/// The owner and the group may connect, nobody else.
const MODE: u32 = 0o660;

/// The socket, and the file by which it is found.
pub struct LocalListener {
    listener: UnixListener,
    path: PathBuf,
    /// Device and inode: the file may be a successor's by now.
    file: (u64, u64),
}

/// Why there is no socket.
#[derive(Debug, thiserror::Error)]
pub enum SocketError {
    /// Somebody answers on it.
    #[error("another agent answers on the socket {}; stop that one first", .0.display())]
    Answered(PathBuf),
    /// There is something else.
    #[error("{} is there and is no socket; remove it", .0.display())]
    Occupied(PathBuf),
    /// It cannot be made.
    #[error("the socket {} cannot be made", path.display())]
    Made {
        /// The path.
        path: PathBuf,
        /// The cause.
        #[source]
        source: io::Error,
    },
}

/// Makes the socket at `path`, for the group with the id `group` if one is
/// given. One that a dead agent left is replaced.
pub fn bind_local(path: &Path, group: Option<u32>) -> Result<LocalListener, SocketError> {
    let made = |source| SocketError::Made {
        path: path.to_owned(),
        source,
    };
    match fs::symlink_metadata(path) {
        Ok(found) if !found.file_type().is_socket() => {
            return Err(SocketError::Occupied(path.to_owned()));
        }
        // Only a refusal proves that nobody listens: a full backlog does not.
        Ok(_) => match Probe::connect(path) {
            Err(error) if error.kind() == io::ErrorKind::ConnectionRefused => {}
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            Ok(_) => return Err(SocketError::Answered(path.to_owned())),
            Err(error) => return Err(made(error)),
        },
        Err(error) if error.kind() == io::ErrorKind::NotFound => {}
        Err(error) => return Err(made(error)),
    }
    // Made beside its place and moved there when its permissions are right.
    let mut beside = path.as_os_str().to_owned();
    beside.push(".new");
    let beside = PathBuf::from(beside);
    match fs::remove_file(&beside) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(made(error)),
        Ok(()) | Err(_) => {}
    }
    let listener = UnixListener::bind(&beside).map_err(made)?;
    let moved = || -> io::Result<(u64, u64)> {
        fs::set_permissions(&beside, fs::Permissions::from_mode(MODE))?;
        chown(&beside, None, group)?;
        fs::rename(&beside, path)?;
        identity(path)
    };
    match moved() {
        Ok(file) => Ok(LocalListener {
            listener,
            path: path.to_owned(),
            file,
        }),
        Err(source) => {
            // What was half made is in nobody's way but should not stay.
            let _ = fs::remove_file(&beside);
            Err(made(source))
        }
    }
}

fn identity(path: &Path) -> io::Result<(u64, u64)> {
    let found = fs::symlink_metadata(path)?;
    Ok((found.dev(), found.ino()))
}

impl LocalListener {
    pub(super) async fn accept(&self) -> io::Result<UnixStream> {
        Ok(self.listener.accept().await?.0)
    }
}

impl Drop for LocalListener {
    fn drop(&mut self) {
        if identity(&self.path).is_ok_and(|found| found == self.file) {
            // A file that stays is replaced by the next agent.
            let _ = fs::remove_file(&self.path);
        }
    }
}
