//! An instance that was taken over and still carries its last requests.
//!
//! It must not bind them by an old table, and a drain that is told empty must
//! have looked there, too; so its successor tells it both, until it has ended.

use std::io;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::Relaxed};
use std::time::Duration;

use cutover_wire::proxy::{self, Call, Cut, Drained, Refusal, Reply, Request, VERSION};
use cutover_wire::table::Table;
use tokio::net::UnixStream;
use tokio::time::timeout;

use super::is_nobody;
use crate::frame::{self, FRAME_DEADLINE, TalkError};

/// Instances that may drain at once. Each takes memory and may last for
/// `--max-drain`; whoever upgrades more often than that must wait.
pub(super) const MAX_FOLLOWERS: usize = 8;

/// How long to wait for the end of a process that closed a connection.
const BREATHER: Duration = Duration::from_millis(50);

/// What became of a question.
#[derive(Debug)]
pub(crate) enum Asked<T> {
    /// It did it.
    Done(T),
    /// It has ended, and its requests with it.
    Gone,
}

/// Why it is not known whether it did.
#[derive(Debug, thiserror::Error)]
pub(crate) enum FollowerError {
    /// The talk failed.
    #[error("could not talk to the instance at {}", socket.display())]
    Talk {
        /// Where.
        socket: PathBuf,
        /// Why it failed.
        #[source]
        source: TalkError,
    },
    /// It answered something else.
    #[error("the instance at {} did not follow", .0.display())]
    Refused(PathBuf),
}

/// See the module.
#[derive(Debug, Clone)]
pub(crate) struct Follower {
    socket: PathBuf,
    /// Whether it did not follow the last table in time.
    late: Arc<AtomicBool>,
    /// The newest generation that it was told.
    told: Arc<AtomicU64>,
}

impl Follower {
    /// The instance that listens at `socket`.
    pub(crate) fn new(socket: PathBuf) -> Self {
        Self {
            socket,
            late: Arc::default(),
            told: Arc::default(),
        }
    }

    /// Whether it did not follow the last table in time.
    pub(super) fn is_late(&self) -> bool {
        self.late.load(Relaxed)
    }

    /// It is told a table of this generation.
    pub(super) fn tells(&self, generation: u64) {
        self.told.fetch_max(generation, Relaxed);
    }

    /// It follows a table of this generation, or did not in time. An answer to an
    /// older one than the newest says nothing.
    pub(super) fn set_late(&self, late: bool, generation: u64) {
        if generation == self.told.load(Relaxed) {
            self.late.store(late, Relaxed);
        }
    }

    /// Where it listens.
    pub(super) fn socket(&self) -> &PathBuf {
        &self.socket
    }

    /// Whether nobody is there any more.
    pub(super) async fn is_gone(&self) -> bool {
        let connected = timeout(FRAME_DEADLINE, UnixStream::connect(&self.socket)).await;
        matches!(connected, Ok(Err(error)) if is_nobody(&error))
    }

    /// Makes it route by a table.
    pub(crate) async fn follow(
        &self,
        table: &Table,
        limit: Duration,
    ) -> Result<Asked<()>, FollowerError> {
        let table = table.clone();
        match self.ask(Request::Follow { table }, limit).await? {
            Asked::Gone => Ok(Asked::Gone),
            Asked::Done(Reply::Applied { .. }) => Ok(Asked::Done(())),
            // It was late, and follows a later one meanwhile.
            Asked::Done(Reply::Refused(Refusal::Generation { actual, expected }))
                if actual > expected =>
            {
                Ok(Asked::Done(()))
            }
            Asked::Done(_) => Err(FollowerError::Refused(self.socket.clone())),
        }
    }

    /// Makes it drain targets; tells what is left there.
    pub(crate) async fn drain(
        &self,
        app: &str,
        targets: &[String],
        deadline: Duration,
        cut: Option<Cut>,
    ) -> Result<Drained, FollowerError> {
        let request = Request::Drain {
            app: app.to_owned(),
            targets: targets.to_vec(),
            deadline_ms: u64::try_from(deadline.as_millis()).unwrap_or(u64::MAX),
            cut,
            of_successor: true,
        };
        // One that is stuck is not expected to tell.
        let spare = match self.is_late() {
            true => Duration::ZERO,
            false => FRAME_DEADLINE,
        };
        let limit = deadline.saturating_add(spare);
        match self.ask(request, limit).await? {
            Asked::Gone => Ok(Drained::default()),
            Asked::Done(Reply::Drained(left)) => Ok(left),
            Asked::Done(_) => Err(FollowerError::Refused(self.socket.clone())),
        }
    }

    async fn ask(&self, request: Request, limit: Duration) -> Result<Asked<Reply>, FollowerError> {
        let call = Call {
            version: VERSION,
            request,
        };
        let mut told = self.exchange(&call, limit).await;
        if matches!(told, Err(TalkError::Socket(_))) {
            // It may be ending just now, with its sockets closing one after the other.
            // What it is asked can be asked twice.
            tokio::time::sleep(BREATHER).await;
            told = self.exchange(&call, limit).await;
        }
        match told {
            Ok(reply) => Ok(Asked::Done(reply)),
            Err(_) if self.is_gone().await => {
                // What a killed process left; one that ends removes it itself.
                let _ = std::fs::remove_file(&self.socket);
                Ok(Asked::Gone)
            }
            Err(source) => Err(FollowerError::Talk {
                socket: self.socket.clone(),
                source,
            }),
        }
    }

    async fn exchange(&self, call: &Call, limit: Duration) -> Result<Reply, TalkError> {
        let answered = timeout(limit, async {
            let mut stream = UnixStream::connect(&self.socket).await?;
            frame::send(&mut stream, call).await?;
            frame::next(&mut stream).await
        });
        let body = answered.await??;
        let body = body.ok_or(io::Error::from(io::ErrorKind::UnexpectedEof))?;
        Ok(proxy::decode(&body)?)
    }
}
