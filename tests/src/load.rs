//! The load client: many users who never try twice, and remember everything.
//!
//! Every request carries an id of its own and ends as exactly one [`Record`].
//! What a user would have seen as an error is one here: a refused or reset
//! connection, an answer cut short, a foreign or wrong answer, any status but
//! 200. A server may close an idle connection; it may not let a request run
//! into the close unless its last answer said `Connection: close`.
//!
//! The load runs on a thread of its own, so a test that blocks does not slow it.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use anyhow::{Context as _, ensure};
use http::{HeaderName, HeaderValue};
use tokio::time::Instant;

use crate::chance::Chance;
use crate::request::ensure_local;

mod client;
mod http2;
mod record;
mod summary;
mod user;

pub use http2::MOST_AT_ONCE;
pub use record::{Kind, Outcome, Phase, Record, Report};
pub use summary::{Journal, Summary};

/// Requests of one load at most: a record is some hundred bytes.
const MOST_REQUESTS: u64 = 2_000_000;

/// Bytes of a large posted body: more than the buffers between the ends hold.
pub(crate) const UPLOAD_BYTES: usize = 200 << 10;

/// The longest time that a slow answer is asked to take, in milliseconds.
pub(crate) const SLOWEST_MS: u64 = 150;

/// What a close of an idle connection is, of which the user was not told.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum IdleClose {
    /// Counted, where the user saw it before it sent the next request.
    Counted,
    /// The failure of the next request, which a less attentive user had sent.
    Failure,
}

/// A load to be put on one address.
#[derive(Clone, Debug)]
pub struct Load {
    pub(crate) address: SocketAddr,
    pub(crate) host: HeaderValue,
    pub(crate) headers: Vec<(HeaderName, HeaderValue)>,
    pub(crate) keeps_cookies: bool,
    pub(crate) path: String,
    pub(crate) body_bytes: usize,
    pub(crate) events: (u64, Duration),
    pub(crate) pause: (Duration, Duration),
    pub(crate) idle_closes: IdleClose,
    pub(crate) leaves_streams: bool,
    chance: Chance,
    pub(crate) timeout: Duration,
    users: Vec<(Kind, usize)>,
    requests: u64,
    duration: Option<Duration>,
}

impl Load {
    /// A load of no users yet on `address`, for the host name `host`.
    ///
    /// # Errors
    ///
    /// The address is not this machine's, or the name cannot stand in a header.
    pub fn new(address: SocketAddr, host: &str) -> anyhow::Result<Self> {
        ensure_local(address)?;
        Ok(Self {
            address,
            host: HeaderValue::from_str(host).context("the host's name")?,
            headers: Vec::new(),
            keeps_cookies: false,
            path: "/".to_owned(),
            body_bytes: 4096,
            events: (20, Duration::from_millis(50)),
            pause: (Duration::from_millis(5), Duration::from_millis(5)),
            idle_closes: IdleClose::Counted,
            leaves_streams: false,
            chance: Chance::new(0),
            timeout: Duration::from_secs(10),
            users: Vec::new(),
            requests: MOST_REQUESTS,
            duration: None,
        })
    }

    /// Adds `count` users of one kind.
    #[must_use]
    pub fn users(mut self, kind: Kind, count: usize) -> Self {
        self.users.push((kind, count));
        self
    }

    /// Adds one user of each kind, two of those that keep connections alive.
    #[must_use]
    pub fn users_of_every_kind(self) -> Self {
        self.users(Kind::KeepAlive, 2)
            .users(Kind::Fresh, 1)
            .users(Kind::Post, 1)
            .users(Kind::WebSocket, 1)
            .users(Kind::Events, 1)
    }

    /// Adds a header to every request.
    ///
    /// # Errors
    ///
    /// It cannot be a header.
    pub fn header(mut self, name: &str, value: &str) -> anyhow::Result<Self> {
        let name = HeaderName::try_from(name).context("a header's name")?;
        let value = HeaderValue::try_from(value).context("a header's value")?;
        self.headers.push((name, value));
        Ok(self)
    }

    /// Lets each user send back the cookies it was given.
    #[must_use]
    pub fn keeps_cookies(mut self) -> Self {
        self.keeps_cookies = true;
        self
    }

    /// The path that GET users ask for; by default `/`.
    #[must_use]
    pub fn path(mut self, path: &str) -> Self {
        path.clone_into(&mut self.path);
        self
    }

    /// The size of posted bodies; by default 4 KiB.
    #[must_use]
    pub fn body_bytes(mut self, size: usize) -> Self {
        self.body_bytes = size;
        self
    }

    /// How many events one stream has, and the time between them.
    #[must_use]
    pub fn events(mut self, count: u64, interval: Duration) -> Self {
        self.events = (count, interval);
        self
    }

    /// How long each user waits between requests; by default 5 ms.
    #[must_use]
    pub fn pause(mut self, pause: Duration) -> Self {
        self.pause = (pause, pause);
        self
    }

    /// Lets each user wait between requests for as long as `chance` says, at
    /// least and at most so long. What else a user chooses, it chooses by it too.
    #[must_use]
    pub fn thinks(mut self, least: Duration, most: Duration, chance: &Chance) -> Self {
        self.pause = (least, most);
        self.chance = chance.clone();
        self
    }

    /// Makes the close of an idle connection without notice the failure of the
    /// request that would have come next. It is chance that the user saw it in time.
    #[must_use]
    pub fn idle_closes_fail(mut self) -> Self {
        self.idle_closes = IdleClose::Failure;
        self
    }

    /// Lets users leave their event streams after a whole event when the load
    /// is stopped, instead of reading them to their end.
    #[must_use]
    pub fn leaves_streams(mut self) -> Self {
        self.leaves_streams = true;
        self
    }

    /// How long one request may take; by default 10 s.
    #[must_use]
    pub fn timeout(mut self, timeout: Duration) -> Self {
        self.timeout = timeout;
        self
    }

    /// Ends the load after this many requests, of all users together.
    #[must_use]
    pub fn requests(mut self, count: u64) -> Self {
        self.requests = count.min(MOST_REQUESTS);
        self
    }

    /// Ends the load after this long.
    #[must_use]
    pub fn duration(mut self, duration: Duration) -> Self {
        self.duration = Some(duration);
        self
    }

    /// Starts it.
    ///
    /// # Errors
    ///
    /// It has no users, or there is no thread for it.
    pub fn start(self) -> anyhow::Result<RunningLoad> {
        ensure!(
            self.users.iter().any(|(_, count)| *count > 0),
            "a load without users"
        );
        let progress = Arc::new(Progress {
            stop: AtomicBool::new(false),
            left: AtomicU64::new(self.requests),
            ok: AtomicU64::new(0),
            failed: AtomicU64::new(0),
            errors: AtomicU64::new(0),
        });
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()?;
        let (send, report) = tokio::sync::oneshot::channel();
        let shared = Arc::clone(&progress);
        let began = Instant::now();
        std::thread::Builder::new()
            .name("load".to_owned())
            .spawn(move || {
                // Nobody wants the report of a load that was dropped.
                let _ = send.send(runtime.block_on(self.run(shared, began)));
            })?;
        Ok(RunningLoad {
            progress,
            report,
            began,
        })
    }

    async fn run(self, progress: Arc<Progress>, began: Instant) -> anyhow::Result<Report> {
        let run = format!("{:08x}", getrandom::u32()?);
        let end = self.duration.map(|duration| began + duration);
        let load = Arc::new(self);
        let mut users = Vec::new();
        let kinds = load
            .users
            .iter()
            .flat_map(|(kind, count)| std::iter::repeat_n(*kind, *count));
        for (number, kind) in kinds.enumerate() {
            let load = Arc::clone(&load);
            let progress = Arc::clone(&progress);
            let name = format!("{run}-{number}");
            let chance = load.chance.branch(number as u64);
            let user = user::User::new(load, kind, name, began, chance);
            users.push(tokio::spawn(async move {
                match kind {
                    Kind::Http2 | Kind::Http2Post => http2::live(user, &progress, end).await,
                    _ => user.live(&progress, end).await,
                }
            }));
        }
        let mut report = Report::default();
        for user in users {
            let (records, idle_closes) = user.await.context("a user panicked")?;
            report.records.extend(records);
            report.idle_closes += idle_closes;
        }
        report.elapsed = began.elapsed();
        report.records.sort_by_key(|record| record.began);
        Ok(report)
    }
}

/// What the users and whoever watches them share.
#[derive(Debug)]
pub(crate) struct Progress {
    stop: AtomicBool,
    left: AtomicU64,
    ok: AtomicU64,
    failed: AtomicU64,
    /// Those of the failed that the app itself answered with an error.
    errors: AtomicU64,
}

impl Progress {
    /// Takes one of the requests that are left, or says that the load is over.
    pub(crate) fn take(&self, end: Option<Instant>) -> bool {
        if self.is_stopped() || end.is_some_and(|end| Instant::now() >= end) {
            return false;
        }
        self.left
            .fetch_update(Ordering::Relaxed, Ordering::Relaxed, |left| {
                left.checked_sub(1)
            })
            .is_ok()
    }

    /// Whether no new request is wanted.
    pub(crate) fn is_stopped(&self) -> bool {
        self.stop.load(Ordering::Relaxed)
    }

    pub(crate) fn add(&self, record: &Record) {
        if record.is_error_of_app() {
            self.errors.fetch_add(1, Ordering::Relaxed);
        }
        let counter = match record.outcome {
            Outcome::Ok => &self.ok,
            Outcome::Failed { .. } => &self.failed,
        };
        counter.fetch_add(1, Ordering::Relaxed);
    }
}

/// A load at work. Dropped, it stops, and its report is lost.
#[derive(Debug)]
pub struct RunningLoad {
    progress: Arc<Progress>,
    report: tokio::sync::oneshot::Receiver<anyhow::Result<Report>>,
    began: Instant,
}

impl RunningLoad {
    /// How long it has run: the clock of its records.
    pub fn elapsed(&self) -> Duration {
        self.began.elapsed()
    }

    /// Requests answered well so far.
    pub fn ok(&self) -> u64 {
        self.progress.ok.load(Ordering::Relaxed)
    }

    /// Requests that failed so far.
    pub fn failed(&self) -> u64 {
        self.progress.failed.load(Ordering::Relaxed)
    }

    /// Those of the failed that the app itself answered with an error.
    pub fn errors_of_app(&self) -> u64 {
        self.progress.errors.load(Ordering::Relaxed)
    }

    /// Waits until this many more requests were answered well.
    ///
    /// # Errors
    ///
    /// They were not within `deadline`.
    pub async fn more_ok(&self, count: u64, deadline: Duration) -> anyhow::Result<()> {
        let wanted = self.ok() + count;
        let what = format!("{count} more requests are answered");
        crate::wait::eventually(&what, deadline, async || self.ok() >= wanted).await
    }

    /// Lets the requests under way end, starts no more, and reports.
    ///
    /// # Errors
    ///
    /// A user of the load panicked.
    pub async fn stop(self) -> anyhow::Result<Report> {
        self.progress.stop.store(true, Ordering::Relaxed);
        self.finished().await
    }

    /// Waits for the load's own end, and reports.
    ///
    /// # Errors
    ///
    /// A user of the load panicked.
    pub async fn finished(mut self) -> anyhow::Result<Report> {
        (&mut self.report)
            .await
            .context("the load's thread panicked")?
    }
}

impl Drop for RunningLoad {
    fn drop(&mut self) {
        self.progress.stop.store(true, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
    use tokio::net::TcpListener;

    use super::*;

    /// What the server of [`check`] does with the second request on a connection.
    #[derive(Clone, Copy)]
    enum Second {
        /// Answers it like the first.
        Answer,
        /// Closes when it arrives, unannounced.
        Close,
        /// Never sees it: the first answer announced the close.
        Announced,
        /// Never sees it: closed while idle, unannounced.
        CloseIdle,
        /// Answers half of it.
        CutOff,
        /// Answers with another request's id.
        Foreign,
    }

    /// Six requests of one keep-alive user to a server that does `second` with
    /// every second one on a connection: how many fail, with which reason, and
    /// how many idle closes are seen.
    async fn check(second: Second, failed: usize, reason: &str, idle_closes: u64) {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let server = tokio::spawn(async move {
            loop {
                let (mut connection, _) = listener.accept().await.unwrap();
                for nth in 1.. {
                    let mut request = vec![0; 4096];
                    let size = connection.read(&mut request).await.unwrap();
                    if size == 0 {
                        break;
                    }
                    let request = String::from_utf8_lossy(&request[..size]).into_owned();
                    let mut lines = request.lines();
                    let id = lines.find_map(|line| line.strip_prefix("x-load-id: "));
                    let answer = |length: usize, id: &str, close: &str| {
                        format!(
                            "HTTP/1.1 200 OK\r\ncontent-length: {length}\r\n\
                             x-load-id: {id}\r\n{close}\r\nhello"
                        )
                    };
                    let id = id.unwrap();
                    let text = match (nth % 2, second) {
                        (1, Second::Announced) => answer(5, id, "connection: close\r\n"),
                        (0, Second::Close) => break,
                        (0, Second::CutOff) => answer(9, id, ""),
                        (0, Second::Foreign) => answer(5, "another", ""),
                        _ => answer(5, id, ""),
                    };
                    connection.write_all(text.as_bytes()).await.unwrap();
                    match (nth, second) {
                        (1, Second::Announced | Second::CloseIdle) | (2, Second::CutOff) => break,
                        _ => {}
                    }
                }
            }
        });
        let load = Load::new(address, "app").unwrap();
        let load = load.users(Kind::KeepAlive, 1).requests(6);
        // Long enough for the close of an idle connection to arrive.
        let load = load.pause(Duration::from_millis(50));
        let report = load.start().unwrap().finished().await.unwrap();
        server.abort();
        assert_eq!(report.records.len(), 6);
        assert_eq!(report.failed().count(), failed, "{report:#?}");
        for record in report.failed() {
            let outcome = format!("{:?}", record.outcome);
            assert!(outcome.contains(reason), "{outcome}");
        }
        assert_eq!(report.idle_closes, idle_closes);
        assert_eq!(report.ensure_none_failed().is_ok(), failed == 0);
    }

    #[tokio::test]
    async fn an_answered_request_is_ok() {
        check(Second::Answer, 0, "", 0).await;
    }

    #[tokio::test]
    async fn a_request_that_runs_into_a_close_failed() {
        check(Second::Close, 3, "Head", 0).await;
    }

    #[tokio::test]
    async fn an_announced_close_costs_nothing() {
        check(Second::Announced, 0, "", 0).await;
    }

    #[tokio::test]
    async fn a_close_between_requests_is_counted_apart() {
        check(Second::CloseIdle, 0, "", 5).await;
    }

    #[tokio::test]
    async fn an_answer_cut_short_failed() {
        check(Second::CutOff, 3, "Body", 0).await;
    }

    #[tokio::test]
    async fn an_answer_to_another_request_failed() {
        check(Second::Foreign, 3, "Content", 0).await;
    }

    #[tokio::test]
    async fn a_refused_connection_failed() {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        drop(listener);
        let load = Load::new(address, "app").unwrap();
        let load = load.users_of_every_kind().requests(12);
        let report = load.start().unwrap().finished().await.unwrap();
        assert_eq!(report.failed().count(), 12);
        let summary = report.summary(&[]);
        let reasons: Vec<_> = summary.failed.keys().collect();
        assert!(
            reasons
                .iter()
                .all(|why| why.contains("Connect: Connection refused")),
            "{reasons:?}"
        );
    }

    #[test]
    fn an_address_elsewhere_is_refused() {
        let address = "192.0.2.1:80".parse().unwrap();
        assert!(Load::new(address, "app").is_err());
    }
}
