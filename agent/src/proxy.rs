//! `cutover-proxy` as what switches traffic, over its socket.
//!
//! Each call has a connection of its own and a deadline, so a proxy that was
//! restarted or upgraded in between is found by the next call. Nothing is
//! repeated here: whether a call whose answer was lost is made again is the
//! engine's to decide, and the generation of a table makes that safe.

mod knock;

use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use cutover_plan::id::AppName;
use cutover_plan::spec::render_duration;
use cutover_wire::proxy::{
    self, Call, Cut, Drained, LENGTH_BYTES, Refusal, Reply, Request, Status, VERSION,
};
use cutover_wire::statistics::Statistics;
use cutover_wire::table::Table;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::UnixStream;
use tokio::time::timeout;

use crate::traffic::{Knock, Traffic, TrafficError};

/// A proxy answers at once; what it stores, it syncs to disk, and a busy disk
/// may take seconds for that.
const ANSWER: Duration = Duration::from_secs(5);

/// The proxy behind a socket.
#[derive(Debug, Clone)]
pub struct Proxy {
    socket: PathBuf,
}

impl Proxy {
    /// The proxy that listens on `socket`; nothing is sent yet.
    pub fn new(socket: impl Into<PathBuf>) -> Self {
        Self {
            socket: socket.into(),
        }
    }

    /// Asks, and waits for the answer at most for `limit`.
    async fn ask(&self, request: Request, limit: Duration) -> Result<Reply, TrafficError> {
        let call = Call {
            version: VERSION,
            request,
        };
        let frame =
            proxy::encode(&call).map_err(|fault| TrafficError::Refused(fault.to_string()))?;
        let stream = timeout(ANSWER, UnixStream::connect(&self.socket)).await;
        let socket = self.socket.display();
        let mut stream = match stream {
            Ok(Ok(stream)) => stream,
            Ok(Err(error)) => return unavailable(format!("connecting to {socket}: {error}")),
            Err(_) => return unavailable(format!("connecting to {socket}: no answer within 5s")),
        };
        let body = match timeout(limit, exchange(&mut stream, &frame)).await {
            Ok(body) => body?,
            Err(_) => return unavailable(format!("no answer within {}", render_duration(limit))),
        };
        // What cannot be read may still have been done: it is no refusal.
        match proxy::decode(&body) {
            Ok(Reply::Refused(refusal)) => Err(refused(refusal)),
            Ok(reply) => Ok(reply),
            Err(_) => unavailable("its answer cannot be understood".to_owned()),
        }
    }
}

fn millis(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}

/// Sends a frame and reads the one that answers it.
async fn exchange(stream: &mut UnixStream, frame: &[u8]) -> Result<Vec<u8>, TrafficError> {
    let broken = |error: std::io::Error| {
        TrafficError::Unavailable(match error.kind() {
            std::io::ErrorKind::UnexpectedEof => {
                "it closed the connection without an answer".to_owned()
            }
            _ => error.to_string(),
        })
    };
    // A proxy that refuses a frame for its size may answer before it has read it.
    let sent = stream.write_all(frame).await;
    let mut length = [0; LENGTH_BYTES];
    stream
        .read_exact(&mut length)
        .await
        .map_err(|error| broken(sent.err().unwrap_or(error)))?;
    let length =
        proxy::length(length).map_err(|fault| TrafficError::Unavailable(fault.to_string()))?;
    let mut body = vec![0; length];
    stream.read_exact(&mut body).await.map_err(broken)?;
    Ok(body)
}

fn unavailable<T>(reason: String) -> Result<T, TrafficError> {
    Err(TrafficError::Unavailable(reason))
}

fn refused(refusal: Refusal) -> TrafficError {
    match refusal {
        Refusal::Generation { actual, .. } => TrafficError::Generation(actual),
        // A full disk stays full until a person looks at it.
        Refusal::Storage(_)
        | Refusal::Invalid(_)
        | Refusal::Certificate(_)
        | Refusal::Malformed(_)
        | Refusal::Overtaken
        | Refusal::TakeOver(_) => TrafficError::Refused(refusal.to_string()),
        // The next call finds the new instance, or the old one again.
        Refusal::HandingOver => TrafficError::Unavailable(refusal.to_string()),
        Refusal::Version(ours) => TrafficError::Refused(format!(
            "it does not speak version {ours} as this agent does: upgrade the older of the two programs"
        )),
    }
}

fn strange<T>(reply: &Reply) -> Result<T, TrafficError> {
    let name = match reply {
        Reply::Status(_) => "its status",
        Reply::Table(_) => "its table",
        Reply::Applied { .. } => "that it applied a table",
        Reply::Drained(_) => "the end of a drain",
        Reply::Statistics(_) => "its statistics",
        Reply::CertificatePut => "that it took a certificate",
        Reply::CertificateDropped => "that it dropped a certificate",
        Reply::HandOver(_) | Reply::Yielded => "a hand-over",
        Reply::Refused(_) => "a refusal",
    };
    unavailable(format!("asked for something else, it answered {name}"))
}

impl Traffic for Proxy {
    async fn status(&self) -> Result<Status, TrafficError> {
        match self.ask(Request::Status, ANSWER).await? {
            Reply::Status(status) => Ok(status),
            reply => strange(&reply),
        }
    }

    async fn table(&self) -> Result<Table, TrafficError> {
        match self.ask(Request::Table, ANSWER).await? {
            Reply::Table(table) => Ok(table),
            reply => strange(&reply),
        }
    }

    async fn apply(&self, expected: u64, table: &Table) -> Result<(), TrafficError> {
        let request = Request::Apply {
            expected,
            table: table.clone(),
        };
        match self.ask(request, ANSWER).await? {
            Reply::Applied { generation } if generation == table.generation => Ok(()),
            Reply::Applied { generation } => Err(TrafficError::Generation(generation)),
            reply => strange(&reply),
        }
    }

    async fn drain(
        &self,
        app: &AppName,
        targets: &[String],
        deadline: Duration,
        cut: Option<Cut>,
    ) -> Result<Drained, TrafficError> {
        let request = Request::Drain {
            app: app.to_string(),
            targets: targets.to_vec(),
            deadline_ms: millis(deadline),
            cut,
            of_successor: false,
        };
        match self.ask(request, deadline.saturating_add(ANSWER)).await? {
            Reply::Drained(drained) => Ok(drained),
            reply => strange(&reply),
        }
    }

    async fn statistics(&self) -> Result<Statistics, TrafficError> {
        match self.ask(Request::Statistics, ANSWER).await? {
            Reply::Statistics(statistics) => Ok(statistics),
            reply => strange(&reply),
        }
    }

    async fn knock(&self, door: SocketAddr, host: &str, path: &str) -> Result<Knock, TrafficError> {
        knock::knock(door, host, path).await
    }
}
