//! The side that is taken over: what it gives, and when it lets go.
//!
//! ```text
//!           TakeOver                     Taken
//!  serving ──────────▶ lent: no tables ─────────▶ given: accepts nothing, drains, ends
//!     ▲                   │
//!     └───────────────────┘ the other ends, errs, or is late: as if nothing had been
//! ```
//!
//! Invariant: until `Taken` came, listeners accept and requests are served as ever.

use std::fs;
use std::io;
use std::net::TcpListener;
use std::os::fd::AsFd;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Weak};
use std::time::Duration;

use cutover_wire::proxy::{
    self, Call, Door, HandOver, LENGTH_BYTES, Refusal, Reply, Request, encode,
};
use tokio::io::{AsyncWriteExt, Interest};
use tokio::net::UnixStream;
use tokio::sync::{Mutex, mpsc, oneshot};
use tokio::time::timeout;

use super::follower::MAX_FOLLOWERS;
use super::{Secrets, StateLock, passing};
use crate::frame::{self, FRAME_DEADLINE, TalkError};
use crate::listen::{Holder, Listener};
use crate::store::chain;
use crate::switchboard::{Loan, Switchboard};
use crate::tls::Tls;

/// How long the other may take from what it was given to `Taken`: it reads a
/// table and starts threads. No table is applied meanwhile, so it is not long.
const READY_DEADLINE: Duration = Duration::from_secs(30);

/// The word to the process that it was taken over.
#[derive(Debug)]
pub(crate) struct Yielding {
    /// To be told when nothing is accepted any more.
    pub(crate) closed: oneshot::Sender<()>,
    /// Ends when the other was told so and is found where we were.
    pub(crate) told: oneshot::Receiver<()>,
}

/// What a running instance has to give. A listener whose acceptor has ended is
/// not given any more.
#[derive(Debug)]
pub(crate) struct Offer {
    /// Ours until it is the successor's alone: should that one end before us, the
    /// next can begin.
    lock: Mutex<Option<StateLock>>,
    listeners: Vec<(Door, Weak<TcpListener>)>,
    tls: Tls,
    board: Arc<Switchboard>,
    yielding: mpsc::Sender<Yielding>,
}

/// A further name of the control socket, by which the successor reaches this
/// instance when the first name is its own. Dropping it removes it.
#[derive(Debug)]
pub(crate) struct SecondName {
    path: PathBuf,
}

impl SecondName {
    /// The names of instances that were taken over, beside the control socket that
    /// they had; some may be of processes that were killed.
    pub(super) fn beside(control: &Path) -> Vec<PathBuf> {
        let stem = control.file_stem().and_then(|stem| stem.to_str());
        let control = std::path::absolute(control).ok();
        let folder = control.as_deref().and_then(Path::parent);
        let (Some(stem), Some(Ok(names))) = (stem, folder.map(fs::read_dir)) else {
            return Vec::new();
        };
        let is_second = |name: &str| {
            let rest = name.strip_prefix(stem)?.strip_prefix('.')?;
            let number = rest.strip_suffix(".sock")?;
            number.parse::<u32>().ok()
        };
        names
            .filter_map(Result::ok)
            .filter(|name| name.file_name().to_str().and_then(is_second).is_some())
            .map(|name| name.path())
            .collect()
    }

    fn of(control: &Path) -> io::Result<Self> {
        let path = control.with_extension(format!("{}.sock", std::process::id()));
        let path = std::path::absolute(path)?;
        match fs::remove_file(&path) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
            _ => {}
        }
        fs::hard_link(control, &path)?;
        Ok(Self { path })
    }
}

impl Drop for SecondName {
    fn drop(&mut self) {
        let _ = fs::remove_file(&self.path);
    }
}

impl Offer {
    /// What is offered, and where the process hears that it was taken.
    pub(crate) fn new(
        lock: StateLock,
        listeners: &[Listener],
        tls: Tls,
        board: Arc<Switchboard>,
    ) -> (Self, mpsc::Receiver<Yielding>) {
        let (yielding, yielded) = mpsc::channel(1);
        let offered = |listener: &Listener| {
            let door = Door {
                kind: listener.door.kind.to_string(),
                address: listener.door.address,
                held: listener.holder == Holder::Manager,
            };
            (door, Arc::downgrade(&listener.socket))
        };
        let offer = Self {
            lock: Mutex::new(Some(lock)),
            listeners: listeners.iter().map(offered).collect(),
            tls,
            board,
            yielding,
        };
        (offer, yielded)
    }

    /// Hands over to the peer of a connection that asked for it. Gives the name
    /// by which this instance is reached from now on, if it was taken over.
    pub(crate) async fn hand_over(
        &self,
        stream: &mut UnixStream,
        control: &Path,
    ) -> Result<Option<SecondName>, TalkError> {
        match self.try_hand_over(stream, control).await? {
            Ok(name) => Ok(Some(name)),
            Err(why) => {
                tracing::warn!(why, "a take-over was refused");
                let refusal = Refusal::TakeOver(why);
                frame::send(stream, &Reply::Refused(refusal)).await?;
                Ok(None)
            }
        }
    }

    async fn try_hand_over(
        &self,
        stream: &mut UnixStream,
        control: &Path,
    ) -> Result<Result<SecondName, String>, TalkError> {
        let (peer, own) = (stream.peer_cred()?, rustix::process::geteuid().as_raw());
        // Not the group, which may only say where requests go: who has the
        // listeners and the secrets is the proxy.
        if peer.uid() != 0 && peer.uid() != own {
            return Ok(Err(format!(
                "only user {own} and root may, not {}",
                peer.uid()
            )));
        }
        let listeners: Option<Vec<_>> = self.listeners.iter().map(|(_, l)| l.upgrade()).collect();
        let Some(listeners) = listeners else {
            return Ok(Err("this instance is stopping".to_owned()));
        };
        let Some(loan) = self.board.lend().await else {
            return Ok(Err("another instance is doing it already".to_owned()));
        };
        if loan.followers().sockets().len() >= MAX_FOLLOWERS {
            return Ok(Err(format!(
                "{MAX_FOLLOWERS} instances before it still finish their requests"
            )));
        }
        let name = match SecondName::of(control) {
            Ok(name) => name,
            Err(error) => return Ok(Err(format!("no second name for the socket: {error}"))),
        };
        tracing::info!(pid = ?peer.pid(), "another instance asks to take over");
        self.give(stream, &listeners, &loan, &name).await?;
        drop(listeners);
        let taken = timeout(READY_DEADLINE, frame::next(stream)).await;
        let trouble = match taken {
            Ok(Ok(Some(body))) => match proxy::decode::<Call>(&body) {
                Ok(Call {
                    request: Request::Taken,
                    ..
                }) => None,
                Ok(_) => Some("it asked for something else".to_owned()),
                Err(error) => Some(chain(&error)),
            },
            Ok(Ok(None)) => Some("it left".to_owned()),
            Ok(Err(error)) => Some(chain(&error)),
            Err(_) => Some("it was not ready in time".to_owned()),
        };
        if let Some(trouble) = trouble {
            return Ok(Err(format!("given up, {trouble}; we serve on")));
        }
        self.let_go(stream, loan)
            .await
            .map(|gone| gone.map(|()| name))
    }

    async fn give(
        &self,
        stream: &mut UnixStream,
        listeners: &[Arc<TcpListener>],
        loan: &Loan,
        name: &SecondName,
    ) -> Result<(), TalkError> {
        let mut followers = vec![name.path.clone()];
        followers.extend(loan.followers().sockets());
        let told = HandOver {
            instance: self.board.instance().to_owned(),
            program: env!("CARGO_PKG_VERSION").to_owned(),
            generation: loan.generation(),
            doors: self
                .listeners
                .iter()
                .map(|(door, _)| door.clone())
                .collect(),
            followers,
            open: loan.open(),
        };
        let frame = encode(&Reply::HandOver(told))?;
        let secrets = Secrets::default();
        if let Err(error) = self.tls.hand_over(&secrets) {
            tracing::error!(%error, "what TLS needs is handed over in part");
        }
        let secrets = secrets.encode();
        // What `Secrets` keeps fits into a frame.
        let length = u32::try_from(secrets.len()).unwrap_or(u32::MAX);
        let length: [u8; LENGTH_BYTES] = length.to_be_bytes();
        let given = async {
            let lock = self.lock.lock().await;
            let lock = lock.as_ref().ok_or(io::ErrorKind::NotConnected)?;
            let mut descriptors = vec![lock.as_fd()];
            descriptors.extend(listeners.iter().map(|l| l.as_fd()));
            let send = || passing::send(&*stream, &frame, &descriptors);
            let sent = stream.async_io(Interest::WRITABLE, send).await?;
            stream.write_all(&frame[sent..]).await?;
            stream.write_all(&length).await?;
            stream.write_all(&secrets).await
        };
        Ok(timeout(FRAME_DEADLINE, given).await??)
    }

    /// Makes the process stop accepting, and tells the other when it has.
    async fn let_go(
        &self,
        stream: &mut UnixStream,
        loan: Loan,
    ) -> Result<Result<(), String>, TalkError> {
        let (closed, is_closed) = oneshot::channel();
        let (told, is_told) = oneshot::channel();
        let word = Yielding {
            closed,
            told: is_told,
        };
        if self.yielding.try_send(word).is_err() {
            return Ok(Err("this instance is stopping".to_owned()));
        }
        loan.give();
        drop(self.lock.lock().await.take());
        let _ = is_closed.await;
        let sent = frame::send(stream, &Reply::Yielded).await;
        // It closes when its own control socket has the path.
        let _ = timeout(FRAME_DEADLINE, frame::next(stream)).await;
        drop(told);
        // It is the successor's now, whether it heard so or not.
        if let Err(error) = sent {
            tracing::error!(error = %chain(&error), "the successor did not hear that it is one");
        }
        Ok(Ok(()))
    }
}
