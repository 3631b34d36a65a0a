//! A host for these tests: a real journal and desk, an engine that accepts
//! calls and nothing more, and a client that writes bytes.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use cutover_agent::desk::{AppDesk, Command, Desk, QUEUE, Refusal};
use cutover_agent::inbox::{Door, Inbox, Limits, bind_local, serve_local, serve_network};
use cutover_agent::journal::{Acceptance, Journal, Record as _};
use cutover_agent::metrics::Metrics;
use cutover_plan::event::{Cursor, Event, Promotion};
use cutover_plan::id::{AppName, DeployId};
use cutover_plan::outcome::Outcome;
use cutover_plan::plan::Kind;
use cutover_plan::release::Releases;
use cutover_wire::agent::{AppView, Problem};
use cutover_wire::request::{Decision, Source};
use cutover_wire::signature::{ID_HEADER, SIGNATURE_HEADER, Secret, TIMESTAMP_HEADER};
use jiff::Timestamp;
use serde::de::DeserializeOwned;
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{mpsc, watch};
use tokio::task::JoinHandle;

/// The second in which these tests happen.
pub(crate) const NOW: u64 = 1_700_000_000;
/// The note after which the engine of these tests waits for a person.
pub(crate) const WAITS: &str = "waits for a person";
/// A deploy request that is right.
pub(crate) const ROLLBACK: &str = r#"{"app":"shop","change":{"rollback":{}}}"#;

pub(crate) struct Host {
    pub(crate) folder: tempfile::TempDir,
    pub(crate) journal: Journal,
    pub(crate) inbox: Inbox,
    pub(crate) address: SocketAddr,
    pub(crate) shutdown: watch::Sender<bool>,
    pub(crate) served: JoinHandle<()>,
}

pub(crate) fn secret() -> Secret {
    Secret::parse(&"s".repeat(32)).unwrap()
}

pub(crate) fn now() -> Timestamp {
    Timestamp::from_second(i64::try_from(NOW).unwrap()).unwrap()
}

pub(crate) fn id(number: u64) -> DeployId {
    DeployId::new(number, [1; 10])
}

pub(crate) fn token(deploy: &DeployId) -> String {
    secret().token("deploy", deploy.as_str())
}

impl Host {
    pub(crate) async fn new() -> Self {
        Self::with(Limits::default()).await
    }

    pub(crate) async fn with(limits: Limits) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let journal = Journal::open(&folder.path().join("agent.db")).unwrap();
        let (shutdown, ends) = watch::channel(false);
        let inbox = Inbox {
            desk: desk(&journal),
            journal: journal.clone(),
            metrics: Arc::new(metrics(&journal, folder.path())),
            secrets: vec![secret()].into(),
            clock: Arc::new(now),
            limits,
            shutdown: ends.clone(),
        };
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let router = inbox.clone().router(Door::Network);
        let served = tokio::spawn(serve_network(listener, router, limits, ends));
        Self {
            folder,
            journal,
            inbox,
            address,
            shutdown,
            served,
        }
    }

    /// Sends a whole request and reads the whole answer.
    pub(crate) async fn ask(&self, request: &str) -> Answer {
        let mut stream = self.connect().await;
        stream.write_all(request.as_bytes()).await.unwrap();
        Answer::read(&mut stream).await
    }

    /// Serves the socket of the host, too.
    pub(crate) fn socket(&self) -> PathBuf {
        let path = self.folder.path().join("agent.sock");
        let listener = bind_local(&path, None).unwrap();
        let router = self.inbox.clone().router(Door::Local);
        let (limits, shutdown) = (self.inbox.limits, self.inbox.shutdown.clone());
        tokio::spawn(serve_local(listener, router, limits, shutdown));
        path
    }

    pub(crate) async fn connect(&self) -> TcpStream {
        TcpStream::connect(self.address).await.unwrap()
    }

    /// Opens the event stream of a deploy and reads the head of the answer.
    pub(crate) async fn follow(&self, deploy: &DeployId, seen: Option<u64>) -> Stream<TcpStream> {
        let mut stream = self.connect().await;
        let request = follow_request(deploy, seen);
        stream.write_all(request.as_bytes()).await.unwrap();
        Stream::new(stream)
    }

    /// Every byte of the journal.
    pub(crate) fn disk(&self) -> BTreeMap<String, Vec<u8>> {
        let files = std::fs::read_dir(self.folder.path()).unwrap();
        let files = files.map(|file| file.unwrap());
        // What is shared between processes, not what is on the disk.
        let lasting = files.filter(|file| !file.file_name().to_str().unwrap().ends_with("-shm"));
        lasting
            .map(|file| {
                let name = file.file_name().into_string().unwrap();
                (name, std::fs::read(file.path()).unwrap())
            })
            .collect()
    }

    /// A deploy that is under way.
    pub(crate) fn begin(&self, number: u64) -> DeployId {
        accept(&self.journal, &format!("begun-{number}"), number).unwrap();
        id(number)
    }

    pub(crate) fn note(&self, deploy: &DeployId, note: &str) -> u64 {
        let event = Event::StepProgressed {
            at: Cursor::Forward(0),
            note: note.to_owned(),
        };
        self.append(deploy, &event)
    }

    pub(crate) fn end(&self, deploy: &DeployId) -> u64 {
        let outcome = Outcome::Failed;
        self.append(deploy, &Event::Ended { outcome })
    }

    pub(crate) fn append(&self, deploy: &DeployId, event: &Event) -> u64 {
        self.append_at(deploy, now(), event)
    }

    pub(crate) fn append_at(&self, deploy: &DeployId, at: Timestamp, event: &Event) -> u64 {
        let none = Releases::default();
        self.journal.append(deploy, at, event, &none, &[]).unwrap()
    }
}

fn metrics(journal: &Journal, folder: &Path) -> Metrics {
    let apps = vec![AppName::parse("shop").unwrap()];
    Metrics::new(journal.clone(), &folder.join("agent.db"), apps, now()).unwrap()
}

fn accept(journal: &Journal, call: &str, number: u64) -> Option<DeployId> {
    let event = Event::Accepted {
        app: AppName::parse("shop").unwrap(),
        kind: Kind::Rollback,
        image: None,
        by: None,
        window_override: None,
    };
    let new = id(number);
    match journal.accept(Some(call), &new, now(), &event, &Source::default(), &[]) {
        Ok(Acceptance::New(_)) => Some(new),
        Ok(Acceptance::Replay(first)) => Some(first),
        Err(_) => None,
    }
}

/// A desk before an engine that makes calls durable, aborts, and knows nothing else.
fn desk(journal: &Journal) -> Desk {
    let app = AppName::parse("shop").unwrap();
    let text = r#"
        image = "ghcr.io/acme/shop"
        domains = ["shop.example.com"]
        port = 8080
        [health]
        path = "/healthz"
    "#;
    let spec = cutover_plan::spec::parse("shop.toml", "shop", text).unwrap();
    let (engine, mut commands) = mpsc::channel(QUEUE);
    let writes = journal.clone();
    tokio::spawn(async move {
        let mut number = 1_000_000;
        while let Some(command) = commands.recv().await {
            number += 1;
            match command {
                Command::Deploy { call, reply, .. } => {
                    let deploy = accept(&writes, &call.0, number);
                    let _ = reply.send(Ok(deploy.expect("one deploy at a time")));
                }
                Command::Abort { deploy, by, reply } => {
                    let event = Event::AbortRequested { by };
                    let none = Releases::default();
                    writes.append(&deploy, now(), &event, &none, &[]).unwrap();
                    let _ = reply.send(Ok(()));
                }
                Command::Decide {
                    call,
                    deploy,
                    decision,
                    by,
                    reply,
                } => {
                    let _ = reply.send(decide(&writes, &call.0, &deploy, decision, by));
                }
                Command::Status { reply } => {
                    let _ = reply.send(Ok(Box::new(app_view())));
                }
                Command::Ping { reply } => {
                    let _ = reply.send(());
                }
                // Not answered, as by an engine that has stopped.
                Command::Plan { .. } => {}
            }
        }
    });
    let apps = BTreeMap::from([(app, AppDesk { spec, engine })]);
    Desk::new(apps, journal.clone())
}

/// An engine that takes a word while the deploy waits for a person, and not else.
fn decide(
    journal: &Journal,
    call: &str,
    deploy: &DeployId,
    decision: Decision,
    by: String,
) -> Result<(), Refusal> {
    let waits = |journal: &Journal| {
        let events = journal.events(deploy, 0, 100).unwrap();
        let last = events.last().map(|recorded| recorded.event.clone());
        matches!(last, Some(Event::StepProgressed { note, .. }) if note == WAITS)
    };
    if !waits(journal) {
        let message = "it waits for nobody".to_owned();
        return Err(Refusal::new(409, "not_asked", message, None));
    }
    let event = match decision {
        Decision::Approve {} => Event::Approved { by, time: now() },
        Decision::Reject { why } => Event::Rejected { by, why },
        Decision::Promote { full } => Event::PromoteRequested {
            by,
            how: if full {
                Promotion::Full
            } else {
                Promotion::Next
            },
            time: now(),
        },
    };
    let none = Releases::default();
    journal
        .append_called(call, deploy, now(), &event, &none, &[])
        .unwrap();
    Ok(())
}

fn app_view() -> AppView {
    AppView {
        app: AppName::parse("shop").unwrap(),
        domains: vec!["shop.example.com".to_owned()],
        serving: None,
        standby: None,
        deploying: None,
        waiting: None,
        last: None,
    }
}

/// The parts of a signed request, each of which a test can spoil.
#[derive(Clone)]
pub(crate) struct Call {
    pub(crate) path: String,
    pub(crate) id: String,
    pub(crate) timestamp: u64,
    pub(crate) secret: Secret,
    pub(crate) signed: String,
    pub(crate) sent: String,
    pub(crate) headers: String,
}

impl Call {
    pub(crate) fn new(path: &str, body: &str) -> Self {
        Self {
            path: path.to_owned(),
            id: "call-1".to_owned(),
            timestamp: NOW,
            secret: secret(),
            signed: body.to_owned(),
            sent: body.to_owned(),
            headers: String::new(),
        }
    }

    pub(crate) fn request(&self) -> String {
        let Self {
            path,
            id,
            timestamp,
            headers,
            sent,
            ..
        } = self;
        let signature = self.secret.sign(id, *timestamp, self.signed.as_bytes());
        let length = sent.len();
        format!(
            "POST {path} HTTP/1.1\r\nhost: h\r\n{ID_HEADER}: {id}\r\n{TIMESTAMP_HEADER}: {timestamp}\r\n\
             {SIGNATURE_HEADER}: {signature}\r\n{headers}content-length: {length}\r\n\r\n{sent}"
        )
    }
}

pub(crate) fn follow_request(deploy: &DeployId, seen: Option<u64>) -> String {
    let seen = seen.map_or_else(String::new, |seq| format!("last-event-id: {seq}\r\n"));
    let token = token(deploy);
    format!(
        "GET /v1/deploys/{deploy}/events HTTP/1.1\r\nhost: h\r\nauthorization: Bearer {token}\r\n{seen}\r\n"
    )
}

/// A whole answer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Answer {
    pub(crate) status: u16,
    pub(crate) head: String,
    pub(crate) body: String,
}

impl Answer {
    pub(crate) async fn read(stream: &mut (impl AsyncRead + Unpin)) -> Self {
        let mut bytes = Vec::new();
        let deadline = Duration::from_secs(20);
        let read = tokio::time::timeout(deadline, stream.read_to_end(&mut bytes)).await;
        let read = read.expect("an answer in time");
        // A refused body may still be on its way when the connection is closed.
        assert!(read.is_ok() || !bytes.is_empty(), "{read:?}");
        let text = String::from_utf8(bytes).unwrap();
        let (head, body) = text.split_once("\r\n\r\n").unwrap_or((&text, ""));
        let status = head.get(9..12).and_then(|status| status.parse().ok());
        Self {
            status: status.unwrap_or(0),
            head: head.to_ascii_lowercase(),
            body: body.to_owned(),
        }
    }

    pub(crate) fn json<T: DeserializeOwned>(&self) -> T {
        serde_json::from_str(&self.body).unwrap_or_else(|error| panic!("{error}: {self:?}"))
    }

    pub(crate) fn problem(&self) -> Problem {
        assert!(self.status >= 400, "{self:?}");
        self.json()
    }
}

/// An event stream, read piece by piece.
pub(crate) struct Stream<S> {
    io: S,
    bytes: Vec<u8>,
    in_events: bool,
}

impl<S: AsyncRead + AsyncWrite + Unpin> Stream<S> {
    pub(crate) fn new(io: S) -> Self {
        Self {
            io,
            bytes: Vec::new(),
            in_events: false,
        }
    }

    /// The next block of lines: an event or a comment; none at the end. Chunk
    /// sizes stand on lines of their own and are left out.
    pub(crate) async fn block(&mut self) -> Option<String> {
        loop {
            let separator: &[u8] = if self.in_events { b"\n\n" } else { b"\r\n\r\n" };
            let place = self
                .bytes
                .windows(separator.len())
                .position(|w| w == separator);
            if let Some(place) = place {
                let rest = self.bytes.split_off(place + separator.len());
                let block = std::mem::replace(&mut self.bytes, rest);
                let block = String::from_utf8(block).unwrap();
                if !std::mem::replace(&mut self.in_events, true) {
                    assert!(block.starts_with("HTTP/1.1 200"), "{block}");
                    continue;
                }
                let lines = block.lines().filter(|line| line.contains(':'));
                return Some(lines.collect::<Vec<_>>().join("\n"));
            }
            let mut piece = [0; 4096];
            let read = self.io.read(&mut piece);
            let read = tokio::time::timeout(Duration::from_secs(20), read).await;
            match read.expect("an event in time") {
                Ok(0) | Err(_) => return None,
                Ok(count) => self.bytes.extend(&piece[..count]),
            }
        }
    }

    /// The next event, comments left out: its name, id and data.
    pub(crate) async fn event(&mut self) -> Option<(String, u64, String)> {
        loop {
            let block = self.block().await?;
            let field = |name: &str| {
                let mut lines = block.lines();
                lines.find_map(|line| line.strip_prefix(name).map(str::to_owned))
            };
            if let (Some(name), Some(data)) = (field("event: "), field("data: ")) {
                let seq = field("id: ").map_or(0, |id| id.parse().unwrap());
                return Some((name, seq, data));
            }
        }
    }
}

/// Waits for something that happens elsewhere.
pub(crate) async fn until(what: &str, mut condition: impl AsyncFnMut() -> bool) {
    for _ in 0..400 {
        if condition().await {
            return;
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    panic!("waited in vain for {what}");
}

pub(crate) fn exists(path: &Path) -> bool {
    std::fs::symlink_metadata(path).is_ok()
}
