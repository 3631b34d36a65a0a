//! The Unix socket on which the agent talks; see `cutover_wire::proxy`.
//!
//! It reads calls, asks the switchboard and writes replies. It decides nothing.

use std::fs;
use std::io;
use std::net::SocketAddr;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use cutover_wire::proxy::{
    Call, FrameError, LENGTH_BYTES, Refusal, Reply, Request, Status, VERSION, decode, encode,
    length,
};
use serde::Deserialize;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{UnixListener, UnixStream};
use tokio::sync::Semaphore;
use tokio::time::timeout;

use crate::abilities::abilities;
use crate::peer::Allowed;
use crate::store::chain;
use crate::switchboard::{Applied, Switchboard};

/// Connections at once: one agent with a drain for each of its apps, and a person.
const MAX_CONNECTIONS: usize = 64;

/// How long the rest of a frame, or the reading of a reply, may take.
const FRAME_DEADLINE: Duration = Duration::from_secs(10);

/// Characters that are told of why a call was not understood.
const MAX_TOLD: usize = 500;

/// Why the socket could not be made.
#[derive(Debug, thiserror::Error)]
#[error("could not {operation} the control socket {}", path.display())]
pub struct ControlError {
    operation: &'static str,
    path: PathBuf,
    #[source]
    source: io::Error,
}

/// The control socket.
#[derive(Debug)]
pub(crate) struct Control {
    listener: UnixListener,
    path: PathBuf,
    allowed: Allowed,
    switchboard: Arc<Switchboard>,
    addresses: Vec<SocketAddr>,
    places: Arc<Semaphore>,
}

/// Why a talk ended before its time.
#[derive(Debug, thiserror::Error)]
enum TalkError {
    #[error("could not read or write")]
    Socket(#[from] io::Error),
    #[error("the peer was too slow")]
    Slow(#[from] tokio::time::error::Elapsed),
    #[error("a frame is wrong")]
    Frame(#[from] FrameError),
    #[error("what became of the table is not known")]
    InDoubt(#[from] crate::switchboard::Unfenced),
}

impl Control {
    /// Makes the socket in place of one that a dead process left.
    pub(crate) fn bind(
        path: &Path,
        allowed: Allowed,
        switchboard: Arc<Switchboard>,
        addresses: Vec<SocketAddr>,
    ) -> Result<Self, ControlError> {
        let at = |operation| {
            let path = path.to_owned();
            move |source| ControlError {
                operation,
                path,
                source,
            }
        };
        if let Some(parent) = path.parent() {
            fs::create_dir_all(parent).map_err(at("make the directory of"))?;
        }
        // Bound under another name, and renamed when it has its mode: nobody
        // finds it open, and an old process keeps its own until this moment.
        let fresh = path.with_extension(format!("new.{}", std::process::id()));
        let _ = fs::remove_file(&fresh);
        let listener = UnixListener::bind(&fresh).map_err(at("bind"))?;
        let mode = fs::Permissions::from_mode(0o660);
        fs::set_permissions(&fresh, mode).map_err(at("set the mode of"))?;
        if let Some(group) = allowed.group() {
            std::os::unix::fs::chown(&fresh, None, Some(group)).map_err(at("set the group of"))?;
        }
        fs::rename(&fresh, path).map_err(at("place"))?;
        Ok(Self {
            listener,
            path: path.to_owned(),
            allowed,
            switchboard,
            addresses,
            places: Arc::new(Semaphore::new(MAX_CONNECTIONS)),
        })
    }

    /// Talks until the process ends.
    pub(crate) async fn run(self: Arc<Self>) {
        loop {
            let Ok(place) = Arc::clone(&self.places).acquire_owned().await else {
                return;
            };
            let stream = match self.listener.accept().await {
                Ok((stream, _)) => stream,
                Err(error) => {
                    tracing::warn!(%error, "a control connection could not be accepted");
                    tokio::time::sleep(Duration::from_millis(10)).await;
                    continue;
                }
            };
            let control = Arc::clone(&self);
            tokio::spawn(async move {
                control.admit(stream).await;
                drop(place);
            });
        }
    }

    /// Removes the socket's name.
    pub(crate) fn remove(&self) {
        let _ = fs::remove_file(&self.path);
    }

    async fn admit(&self, stream: UnixStream) {
        match stream.peer_cred() {
            Ok(peer) if self.allowed.admits(&peer) => {}
            Ok(peer) => {
                let (uid, pid) = (peer.uid(), peer.pid());
                tracing::warn!(uid, ?pid, "a peer may not use the control socket");
                return;
            }
            Err(error) => {
                tracing::warn!(%error, "a control peer is not known");
                return;
            }
        }
        if let Err(error) = self.talk(stream).await {
            tracing::warn!(error = %chain(&error), "a control connection ended");
        }
    }

    async fn talk(&self, mut stream: UnixStream) -> Result<(), TalkError> {
        let mut head = [0; LENGTH_BYTES];
        loop {
            // The first byte may take as long as the agent has nothing to ask.
            match stream.read(&mut head[..1]).await {
                Ok(0) => return Ok(()),
                Ok(_) => {}
                Err(error) if error.kind() == io::ErrorKind::ConnectionReset => return Ok(()),
                Err(error) => return Err(error.into()),
            }
            timeout(FRAME_DEADLINE, stream.read_exact(&mut head[1..])).await??;
            let size = length(head)?;
            let mut body = Vec::new();
            let mut rest = (&mut stream).take(size as u64);
            timeout(FRAME_DEADLINE, rest.read_to_end(&mut body)).await??;
            if body.len() < size {
                return Err(io::Error::from(io::ErrorKind::UnexpectedEof).into());
            }
            let reply = match read_call(&body) {
                Ok(call) => self.answer(call).await?,
                Err(refusal) => Reply::Refused(refusal),
            };
            let frame = encode(&reply)?;
            timeout(FRAME_DEADLINE, stream.write_all(&frame)).await??;
        }
    }

    async fn answer(&self, call: Call) -> Result<Reply, TalkError> {
        Ok(match call.request {
            Request::Status => Reply::Status(Status {
                instance: self.switchboard.instance().to_owned(),
                program: env!("CARGO_PKG_VERSION").to_owned(),
                generation: self.switchboard.table().await.generation,
                listeners: self.addresses.clone(),
                abilities: abilities(),
            }),
            Request::Table => Reply::Table((*self.switchboard.table().await).clone()),
            Request::Apply { expected, table } => {
                match self.switchboard.apply(expected, table).await? {
                    Applied::Generation(generation) => Reply::Applied { generation },
                    Applied::Refused(refusal) => Reply::Refused(refusal),
                }
            }
            Request::Drain {
                app,
                targets,
                deadline_ms,
            } => {
                let deadline = Duration::from_millis(deadline_ms);
                Reply::Drained(self.switchboard.drain(&app, &targets, deadline).await)
            }
            Request::Statistics => Reply::Statistics(self.switchboard.statistics().await),
        })
    }
}

/// The version alone, which a call of any version has.
#[derive(Deserialize)]
struct Versioned {
    version: u32,
}

fn read_call(body: &[u8]) -> Result<Call, Refusal> {
    // What is not understood may be repeated in the error, megabytes of it.
    let malformed =
        |error: FrameError| Refusal::Malformed(chain(&error).chars().take(MAX_TOLD).collect());
    let versioned: Versioned = decode(body).map_err(malformed)?;
    if versioned.version != VERSION {
        return Err(Refusal::Version(versioned.version));
    }
    decode(body).map_err(malformed)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn another_version_is_told_even_when_its_call_is_not_understood() {
        let call = br#"{"version":2,"request":{"dance":{}}}"#;
        assert_eq!(read_call(call), Err(Refusal::Version(2)));
        let call = br#"{"version":1,"request":{"dance":{}}}"#;
        assert!(matches!(read_call(call), Err(Refusal::Malformed(_))));
        assert!(matches!(read_call(b"[]"), Err(Refusal::Malformed(_))));
    }

    #[test]
    fn the_refusal_of_a_long_call_is_short() {
        let call = format!(
            r#"{{"version":1,"request":{{"{}":{{}}}}}}"#,
            "x".repeat(1 << 20)
        );
        let Err(Refusal::Malformed(told)) = read_call(call.as_bytes()) else {
            panic!("taken");
        };
        assert_eq!(told.chars().count(), MAX_TOLD);
    }
}
