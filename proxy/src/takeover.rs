//! One instance of the proxy takes over from another, and no user notices.
//!
//! ```text
//!  successor                                   predecessor
//!  TakeOver ─────────────────────────────────▶ peer is its own user or root?
//!                                              no table is applied from here on
//!  ◀── HandOver + descriptors, secrets ──────  it serves on, and accepts
//!  table, workers, control socket: ready
//!  Taken ────────────────────────────────────▶ it stops accepting
//!  ◀───────────────────────────────── Yielded  it drains, and ends
//!  accepts; its control socket gets the path;
//!  closes ───────────────────────────────────▶ may end
//!  Follow, Drain ────────────────────────────▶ until it has ended
//! ```
//!
//! What waits in a listening socket stays there between the two, so nobody is
//! refused. This file is the successor's side; `offer` is the predecessor's, and
//! `followers` is how the successor keeps the predecessor's last requests on the
//! table that is in force.
//!
//! The right to apply tables is a `lock`, which the two share while both live.
//!
//! Invariant: at any moment at most one instance applies tables.
//! Invariant: before `Taken` the successor has changed nothing that the
//! predecessor relies on, so it can die and the predecessor goes on.

mod follower;
mod followers;
mod lock;
mod offer;
mod passing;
mod secrets;

use std::io::{self, Read, Write};
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::thread;
use std::time::{Duration, Instant};

use cutover_wire::proxy::{
    self, Call, HandOver, LENGTH_BYTES, OpenTarget, Refusal, Reply, Request, VERSION,
};
use rustix::net::sockopt::socket_peercred;
use socket2::{Domain, SockAddr, Socket, Type};
use tokio::net::UnixStream as Connection;
use tokio::time::timeout;

use crate::door::KindError;
use crate::frame::{self, TalkError};
use crate::listen::{Holder, Listener};
use crate::store::{Store, StoreError, chain};

pub(crate) use followers::{Followers, UNKNOWN};
use lock::LockError;
pub(crate) use lock::StateLock;
pub(crate) use offer::{Offer, SecondName, Yielding};
pub(crate) use secrets::{SecretError, Secrets};

/// How long the running instance may take for an answer: it does nothing that
/// waits but for a table that is being stored, and a busy disk may take seconds.
const ANSWER: Duration = Duration::from_secs(15);

/// How long to wait for one that is beginning, or dying: both take milliseconds,
/// and on a host that boots a little more.
const PATIENCE: Duration = Duration::from_secs(5);

/// How long to wait between two looks at it.
const BREATHER: Duration = Duration::from_millis(20);

/// What an instance goes on with that took over; nothing if there was none before.
#[derive(Debug, Default)]
pub(crate) struct Before {
    /// The instances that follow our tables until they have ended.
    pub(crate) followers: Followers,
    /// The targets that they give requests to though the table only lists them.
    pub(crate) open: Vec<OpenTarget>,
}

/// Why an instance cannot be taken over.
#[derive(Debug, thiserror::Error)]
pub enum TakeoverError {
    /// The talk with it failed.
    #[error("could not talk to the running instance at {}", socket.display())]
    Talk {
        /// Where.
        socket: PathBuf,
        /// Why it failed.
        #[source]
        source: TalkError,
    },
    /// Somebody else made the socket.
    #[error("{} belongs to user {uid}: only our own user and root are taken over", socket.display())]
    Stranger {
        /// Where.
        socket: PathBuf,
        /// Whose it is.
        uid: u32,
    },
    /// It does not know the word.
    #[error("the running instance is of a time before there was a take-over: restart it instead")]
    TooOld,
    /// It does not want to.
    #[error("the running instance refused")]
    Refused(#[source] Refusal),
    /// It answered something else.
    #[error("the running instance answered what was not asked")]
    Strange,
    /// What it gives does not fit together.
    #[error(
        "the running instance handed over {descriptors} descriptors for a lock and {doors} listeners"
    )]
    Count {
        /// How many came.
        descriptors: usize,
        /// How many it told of.
        doors: usize,
    },
    /// Another instance runs, and not at that socket.
    #[error("could not begin as the only instance")]
    Lock(#[from] LockError),
    /// A listener of its is of a kind that is not known here.
    #[error("a listener of the running instance is of another kind than is known here")]
    Kind(#[from] KindError),
    /// The stored table cannot be read, or not be served.
    #[error("the stored table cannot be taken over")]
    Store(#[from] StoreError),
    /// Its table is not the stored one.
    #[error(
        "the running instance serves table {running}, and {stored} is stored here: give it the same --state"
    )]
    OtherState {
        /// What it serves.
        running: u64,
        /// What is stored.
        stored: u64,
    },
}

/// A take-over that has begun: what the running instance gave, and the connection
/// on which it waits for the end of it. Dropping it gives the take-over up.
#[derive(Debug)]
pub(crate) struct Takeover {
    stream: UnixStream,
    socket: PathBuf,
    told: HandOver,
    secrets: Secrets,
}

/// What a process has by which it may begin.
#[derive(Debug)]
pub(crate) struct Begun {
    /// None where no instance runs.
    pub(crate) takeover: Option<Takeover>,
    pub(crate) lock: StateLock,
    /// What the running instance accepts on.
    pub(crate) listeners: Vec<Listener>,
}

impl Begun {
    fn plainly(lock: StateLock) -> Self {
        Self {
            takeover: None,
            lock,
            listeners: Vec::new(),
        }
    }
}

/// The instances that must follow the tables of one that begins without a take-over:
/// those whose successor has died.
pub(crate) fn left_behind(control: &Path) -> Before {
    Before {
        followers: Followers::new(&SecondName::beside(control)),
        open: Vec::new(),
    }
}

/// Begins a take-over from the instance at `socket`, where there is to be one and
/// there is one; else takes the lock of a state directory that nobody uses.
pub(crate) fn begin(
    socket: Option<&Path>,
    directory: &Path,
    store: &Store,
) -> Result<Begun, TakeoverError> {
    let end = Instant::now() + PATIENCE;
    loop {
        let found = match socket.map_or(Ok(None), Takeover::begin) {
            // It gave all it had to one that has died, if the lock is free.
            Err(TakeoverError::Refused(refusal)) => match StateLock::take(directory) {
                Ok(lock) => {
                    tracing::warn!(%refusal, "the instance that took over there has died");
                    return Ok(Begun::plainly(lock));
                }
                Err(_) => return Err(TakeoverError::Refused(refusal)),
            },
            found => found?,
        };
        if let Some((takeover, lock, listeners)) = found {
            takeover.check(store)?;
            return Ok(Begun {
                takeover: Some(takeover),
                lock,
                listeners,
            });
        }
        match StateLock::take(directory) {
            Ok(lock) => {
                if let Some(socket) = socket {
                    tracing::info!(socket = %socket.display(), "no instance runs there to take over from");
                }
                return Ok(Begun::plainly(lock));
            }
            // Another one begins just now and will be there, or ends.
            Err(LockError::Held(_)) if Instant::now() < end => thread::sleep(BREATHER),
            Err(error) => return Err(error.into()),
        }
    }
}

impl Takeover {
    /// Asks the instance at a socket to hand over; none when nobody is there.
    fn begin(socket: &Path) -> Result<Option<(Self, StateLock, Vec<Listener>)>, TakeoverError> {
        let talk = |source: TalkError| TakeoverError::Talk {
            socket: socket.to_owned(),
            source,
        };
        let io = |source: io::Error| talk(source.into());
        let mut stream = match connect(socket) {
            Ok(stream) => stream,
            Err(error) if is_nobody(&error) => return Ok(None),
            Err(error) => return Err(io(error)),
        };
        let peer = socket_peercred(&stream).map_err(|error| io(error.into()))?;
        if !peer.uid.is_root() && peer.uid != rustix::process::geteuid() {
            return Err(TakeoverError::Stranger {
                socket: socket.to_owned(),
                uid: peer.uid.as_raw(),
            });
        }
        let frame = proxy::encode(&call(Request::TakeOver)).map_err(|error| talk(error.into()))?;
        stream.write_all(&frame).map_err(io)?;
        let (reply, descriptors) = receive(&mut stream).map_err(talk)?;
        let told = match reply {
            Reply::HandOver(told) => told,
            Reply::Refused(Refusal::Malformed(_)) => return Err(TakeoverError::TooOld),
            Reply::Refused(refusal) => return Err(TakeoverError::Refused(refusal)),
            _ => return Err(TakeoverError::Strange),
        };
        let secrets = read_frame(&mut stream).map_err(talk)?;
        let secrets = Secrets::decode(&secrets)
            .map_err(|error| io(io::Error::new(io::ErrorKind::InvalidData, error)))?;
        let (lock, listeners) = owned(&told, descriptors, socket)?;
        let takeover = Self {
            stream,
            socket: socket.to_owned(),
            told,
            secrets,
        };
        Ok(Some((takeover, lock, listeners)))
    }

    /// An error unless the stored table is the one that the running instance serves
    /// and can be served here. It is only read: it is still the other's.
    fn check(&self, store: &Store) -> Result<(), TakeoverError> {
        let stored = store.current()?.map_or(0, |table| table.generation);
        let running = self.told.generation;
        if stored == running {
            Ok(())
        } else {
            Err(TakeoverError::OtherState { running, stored })
        }
    }

    /// The secrets that live on.
    pub(crate) fn secrets(&self) -> Secrets {
        self.secrets.clone()
    }

    /// What this instance goes on with.
    pub(crate) fn before(&self) -> Before {
        Before {
            followers: Followers::new(&self.told.followers),
            open: self.told.open.clone(),
        }
    }

    /// Tells the running instance that all is ready here. When this returns it
    /// accepts nothing any more, or has died. It does not end before the
    /// connection does, so that its control socket answers until there is ours.
    pub(crate) async fn complete(self) -> Result<Option<Connection>, TakeoverError> {
        let (instance, program) = (&self.told.instance, &self.told.program);
        let exchanged = async {
            self.stream.set_nonblocking(true)?;
            let mut stream = Connection::from_std(self.stream)?;
            frame::send(&mut stream, &call(Request::Taken)).await?;
            let body = timeout(ANSWER, frame::next(&mut stream)).await??;
            let body = body.ok_or(io::Error::from(io::ErrorKind::UnexpectedEof))?;
            Ok::<(Reply, Connection), TalkError>((proxy::decode(&body)?, stream))
        };
        match exchanged.await {
            Ok((Reply::Yielded, stream)) => {
                tracing::info!(instance, program, "the instance before was taken over");
                Ok(Some(stream))
            }
            Ok((Reply::Refused(refusal), _)) => Err(TakeoverError::Refused(refusal)),
            Ok(_) => Err(TakeoverError::Strange),
            // It died: nobody but us holds what it gave.
            Err(_) if connect(&self.socket).is_err_and(|error| is_nobody(&error)) => {
                tracing::warn!(
                    instance,
                    program,
                    "the instance before died while it handed over"
                );
                Ok(None)
            }
            // It gave all it has, and may have stopped already: to end now could leave
            // nobody. Two that accept do no harm, and only we apply tables.
            Err(source) => {
                let error: &dyn std::error::Error = &source;
                tracing::error!(
                    error = %chain(error),
                    instance,
                    program,
                    "the instance before does not say that it yielded; users are served all the same"
                );
                Ok(None)
            }
        }
    }
}

fn call(request: Request) -> Call {
    Call {
        version: VERSION,
        request,
    }
}

/// A connection whose every wait is bounded, that for its acceptance too.
fn connect(path: &Path) -> io::Result<UnixStream> {
    let socket = Socket::new(Domain::UNIX, Type::STREAM, None)?;
    socket.set_write_timeout(Some(ANSWER))?;
    socket.set_read_timeout(Some(ANSWER))?;
    socket.connect(&SockAddr::unix(path)?)?;
    Ok(socket.into())
}

/// Whether an error of connecting says that no process is there.
fn is_nobody(error: &io::Error) -> bool {
    matches!(
        error.kind(),
        io::ErrorKind::NotFound | io::ErrorKind::ConnectionRefused
    )
}

/// The answer and the descriptors that came with its first byte.
fn receive(stream: &mut UnixStream) -> Result<(Reply, Vec<OwnedFd>), TalkError> {
    let mut head = [0; LENGTH_BYTES];
    let (count, descriptors) = loop {
        match passing::receive(&*stream, &mut head) {
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            received => break received?,
        }
    };
    if count == 0 {
        return Err(io::Error::from(io::ErrorKind::UnexpectedEof).into());
    }
    stream.read_exact(&mut head[count..])?;
    let mut body = vec![0; proxy::length(head)?];
    stream.read_exact(&mut body)?;
    Ok((proxy::decode(&body)?, descriptors))
}

fn read_frame(stream: &mut UnixStream) -> Result<Vec<u8>, TalkError> {
    let mut head = [0; LENGTH_BYTES];
    stream.read_exact(&mut head)?;
    let mut body = vec![0; proxy::length(head)?];
    stream.read_exact(&mut body)?;
    Ok(body)
}

fn owned(
    told: &HandOver,
    descriptors: Vec<OwnedFd>,
    socket: &Path,
) -> Result<(StateLock, Vec<Listener>), TakeoverError> {
    if descriptors.len() != told.doors.len() + 1 {
        return Err(TakeoverError::Count {
            descriptors: descriptors.len(),
            doors: told.doors.len(),
        });
    }
    let mut descriptors = descriptors.into_iter();
    let lock = descriptors.next().ok_or(TakeoverError::Strange)?;
    let pairs = told.doors.iter().zip(descriptors);
    let listener = |(door, fd): (&proxy::Door, OwnedFd)| {
        let holder = if door.held {
            Holder::Manager
        } else {
            Holder::Nobody
        };
        Listener::of(fd, door.kind.parse()?, holder).map_err(|error| TakeoverError::Talk {
            socket: socket.to_owned(),
            source: error.into(),
        })
    };
    let listeners: Result<_, TakeoverError> = pairs.map(listener).collect();
    Ok((StateLock::of(lock), listeners?))
}
