//! The Unix socket on which the agent talks; see `cutover_wire::proxy`.
//!
//! It reads calls, asks the switchboard and writes replies. It decides nothing.

use std::fs;
use std::io;
use std::net::SocketAddr;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use cutover_wire::proxy::{
    Call, FrameError, Refusal, Reply, Request, Status, VERSION, decode, encode,
};
use serde::Deserialize;
use tokio::net::{UnixListener, UnixStream};
use tokio::sync::Semaphore;

use crate::abilities::abilities;
use crate::frame::{self, TalkError};
use crate::peer::Allowed;
use crate::store::chain;
use crate::switchboard::{Applied, Drain, Switchboard, Unfenced};
use crate::takeover::{Offer, SecondName};

/// Connections at once: one agent with a drain for each of its apps, and a person.
const MAX_CONNECTIONS: usize = 64;

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

/// What the control socket tells and gives.
#[derive(Debug)]
pub(crate) struct Desk {
    pub(crate) allowed: Allowed,
    pub(crate) switchboard: Arc<Switchboard>,
    /// Where users come in; those where a plain request is served come first.
    pub(crate) addresses: Vec<SocketAddr>,
    pub(crate) offer: Offer,
    /// How long idle clients stay that cannot stay as long as they may.
    pub(crate) linger: Duration,
}

/// The control socket.
#[derive(Debug)]
pub(crate) struct Control {
    listener: UnixListener,
    path: PathBuf,
    /// Its name until it is placed.
    fresh: PathBuf,
    /// The device and number of its inode, by which it is told from a successor's.
    inode: (u64, u64),
    desk: Desk,
    second_name: Mutex<Option<SecondName>>,
    places: Arc<Semaphore>,
}

/// Why a connection ended before its time.
#[derive(Debug, thiserror::Error)]
enum Ended {
    #[error(transparent)]
    Talk(#[from] TalkError),
    #[error("what became of the table is not known")]
    InDoubt(#[from] Unfenced),
}

impl Control {
    /// Makes the socket, which nobody finds before it is placed.
    pub(crate) fn bind(path: &Path, desk: Desk) -> Result<Self, ControlError> {
        let at = |operation| failed(path, operation);
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
        if let Some(group) = desk.allowed.group() {
            std::os::unix::fs::chown(&fresh, None, Some(group)).map_err(at("set the group of"))?;
        }
        let inode = inode(&fresh).map_err(at("look at"))?;
        Ok(Self {
            listener,
            path: path.to_owned(),
            fresh,
            inode,
            desk,
            second_name: Mutex::default(),
            places: Arc::new(Semaphore::new(MAX_CONNECTIONS)),
        })
    }

    /// Gives the socket its path, in place of one that another process made.
    pub(crate) fn place(&self) -> Result<(), ControlError> {
        fs::rename(&self.fresh, &self.path).map_err(failed(&self.path, "place"))
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

    /// Removes the socket's names, but not those of a successor's.
    pub(crate) fn remove(&self) {
        for name in [&self.path, &self.fresh] {
            if inode(name).is_ok_and(|found| found == self.inode) {
                let _ = fs::remove_file(name);
            }
        }
        let second = self.second_name.lock();
        *second.unwrap_or_else(PoisonError::into_inner) = None;
    }

    async fn admit(&self, stream: UnixStream) {
        match stream.peer_cred() {
            Ok(peer) if self.desk.allowed.admits(&peer) => {}
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

    async fn talk(&self, mut stream: UnixStream) -> Result<(), Ended> {
        while let Some(body) = frame::next(&mut stream).await? {
            let reply = match read_call(&body) {
                Ok(Call {
                    request: Request::TakeOver,
                    ..
                }) => {
                    let given = self.desk.offer.hand_over(&mut stream, &self.path).await?;
                    if given.is_some() {
                        let kept = self.second_name.lock();
                        *kept.unwrap_or_else(PoisonError::into_inner) = given;
                    }
                    return Ok(());
                }
                Ok(call) => self.answer(call).await?,
                Err(refusal) => Reply::Refused(refusal),
            };
            frame::send_bytes(&mut stream, &framed(reply).map_err(TalkError::Frame)?).await?;
        }
        Ok(())
    }

    async fn answer(&self, call: Call) -> Result<Reply, Ended> {
        let board = &self.desk.switchboard;
        let outcome = |applied| match applied {
            Applied::Generation(generation) => Reply::Applied { generation },
            Applied::Refused(refusal) => Reply::Refused(refusal),
        };
        Ok(match call.request {
            Request::Status => Reply::Status(Status {
                instance: board.instance().to_owned(),
                program: env!("CARGO_PKG_VERSION").to_owned(),
                generation: board.table().generation,
                listeners: self.desk.addresses.clone(),
                abilities: abilities(),
            }),
            Request::Table => Reply::Table((*board.table()).clone()),
            Request::Apply { expected, table } => outcome(board.apply(expected, table).await?),
            Request::Follow { table } => outcome(board.follow(table, self.desk.linger).await?),
            Request::TakeOver | Request::Taken => {
                let why = "nothing was handed over on this connection".to_owned();
                Reply::Refused(Refusal::TakeOver(why))
            }
            Request::Drain {
                app,
                targets,
                deadline_ms,
                cut,
                of_successor,
            } => {
                let drain = Drain {
                    app,
                    targets,
                    deadline: Duration::from_millis(deadline_ms),
                    cut,
                    of_successor,
                };
                match board.drain(drain).await {
                    Ok(drained) => Reply::Drained(drained),
                    Err(refusal) => Reply::Refused(refusal),
                }
            }
            Request::PutCertificate { name, chain, key } => {
                match board.put_certificate(name, chain, key).await {
                    Ok(()) => Reply::CertificatePut,
                    Err(refusal) => Reply::Refused(refusal),
                }
            }
            Request::DropCertificate { name } => match board.drop_certificate(&name).await {
                Ok(()) => Reply::CertificateDropped,
                Err(refusal) => Reply::Refused(refusal),
            },
            Request::Statistics => Reply::Statistics(board.statistics()),
        })
    }
}

fn failed(path: &Path, operation: &'static str) -> impl Fn(io::Error) -> ControlError {
    let path = path.to_owned();
    move |source| ControlError {
        operation,
        path: path.clone(),
        source,
    }
}

fn inode(path: &Path) -> io::Result<(u64, u64)> {
    fs::symlink_metadata(path).map(|found| (found.dev(), found.ino()))
}

/// The frame of a reply. Figures of very many targets may not fit in one: the
/// agent judges by those of pools.
fn framed(mut reply: Reply) -> Result<Vec<u8>, FrameError> {
    match (encode(&reply), &mut reply) {
        (Err(FrameError::TooLarge(_)), Reply::Statistics(told)) => {
            told.leave_out_targets();
            encode(&reply)
        }
        (frame, _) => frame,
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
    use cutover_wire::statistics::{PoolStatistics, Statistics, TargetStatistics};
    use std::collections::BTreeMap;

    #[test]
    fn another_version_is_told_even_when_its_call_is_not_understood() {
        let call = br#"{"version":2,"request":{"dance":{}}}"#;
        assert_eq!(read_call(call), Err(Refusal::Version(2)));
        let call = br#"{"version":1,"request":{"dance":{}}}"#;
        assert!(matches!(read_call(call), Err(Refusal::Malformed(_))));
        assert!(matches!(read_call(b"[]"), Err(Refusal::Malformed(_))));
    }

    #[test]
    fn figures_of_more_targets_than_fit_are_told_by_pool() {
        let target = |number: u32| (number.to_string().repeat(20), TargetStatistics::default());
        let pool = PoolStatistics {
            succeeded: 5,
            targets: (0..100_000).map(target).collect(),
            ..PoolStatistics::default()
        };
        let pools = BTreeMap::from([("v1".to_owned(), pool)]);
        let told = Statistics {
            apps: BTreeMap::from([("shop".to_owned(), pools)]),
            ..Statistics::default()
        };
        let frame = framed(Reply::Statistics(told)).unwrap();
        let Reply::Statistics(told) = decode(&frame[cutover_wire::proxy::LENGTH_BYTES..]).unwrap()
        else {
            panic!("another reply");
        };
        let pool = &told.apps["shop"]["v1"];
        assert_eq!((pool.succeeded, pool.targets.len()), (5, 0));
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
