//! Connections to targets, kept by one worker.
//!
//! A connection of HTTP/1.1 has no task of its own: whoever waits for its answer drives it,
//! so that a byte from a target wakes the client's task at once. An idle one is
//! driven by nobody; it is looked at when it is taken, and dropped when it is
//! older than any target is likely to keep it. One of HTTP/2 is shared by the
//! worker's requests, so it has a task; see `shared`.
//!
//! Invariant: an idle connection has ended its last exchange wholly, and holds
//! no waker of a client.

use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::{Duration, Instant};

use bytes::Bytes;
use http::{HeaderMap, HeaderName, Request, Response};
use hyper::body::{Body as _, Frame, Incoming, SizeHint};
use tokio::net::TcpStream;

mod body;
mod fault;
mod head;
mod own;
mod patience;
mod sending;
mod shared;

pub(crate) use fault::AnswerError;
pub(crate) use own::Own;
pub(crate) use shared::{End, Lines, Seat, Shared, Shelf};

use patience::Patience;

use crate::client::Client;
use crate::numbers::NumberMap;
use crate::upload::RequestBody;

/// How long an idle connection is used again at most. The shortest default among
/// common servers is 5 s (Node.js), and the target must not close it first.
const IDLE: Duration = Duration::from_secs(4);

/// Idle connections of one worker to one target; further ones are closed.
const MAX_IDLE: usize = 512;

static KEEP_ALIVE: HeaderName = HeaderName::from_static("keep-alive");

/// Why an exchange brought no answer.
#[derive(Debug)]
pub(crate) enum ExchangeError {
    /// Not one byte of the request was written, and it is whole.
    Unsent,
    /// The target said that it did not look at the request.
    Refused,
    /// The connection ended before any byte of an answer.
    Silent(AnswerError),
    /// The connection ended within the head of an answer, or the answer is no HTTP.
    Broken(AnswerError),
    /// The deadline passed.
    Late,
    /// The request cannot be said in the target's protocol.
    Form(http::Error),
}

/// A connection to a target, or a place on one.
#[derive(Debug)]
pub(crate) enum Upstream {
    /// HTTP/1.1, for one request at a time.
    Own(Box<Own>),
    /// HTTP/2, shared with other requests.
    Shared(Shared),
}

impl Upstream {
    /// Whether it has served another request before.
    pub(crate) fn is_reused(&self) -> bool {
        match self {
            Self::Own(own) => own.reused,
            Self::Shared(shared) => shared.is_reused(),
        }
    }

    /// Sends a request and waits for the head of its answer, as long as the client's
    /// record allows. Where there is none, the connection is not used again; the
    /// request is still there, but for a body that is not kept and was begun. Of an
    /// answer, a client that takes `trailers` gets them.
    pub(crate) async fn exchange(
        self,
        request: &mut Request<RequestBody>,
        trailers: bool,
        client: &Client,
    ) -> Result<Response<AnswerStream>, ExchangeError> {
        match self {
            Self::Own(mut own) => {
                let answer = own.exchange(request, client).await?;
                Ok(answer.map(|()| AnswerStream::Own(own)))
            }
            Self::Shared(mut shared) => {
                let answer = shared.exchange(request, trailers, client).await?;
                Ok(answer.map(|body| AnswerStream::Shared(body, shared)))
            }
        }
    }
}

/// The body of an answer, and the connection that it comes by.
#[derive(Debug)]
pub(crate) enum AnswerStream {
    /// The connection is driven while the body is asked for.
    Own(Box<Own>),
    /// The body comes by itself; the place is held until it has ended.
    Shared(
        Incoming,
        #[expect(dead_code, reason = "it is only held")] Shared,
    ),
}

impl AnswerStream {
    /// The next piece.
    pub(crate) fn poll_frame(
        &mut self,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, AnswerError>>> {
        match self {
            Self::Own(own) => own.poll_frame(cx),
            Self::Shared(body, _) => {
                let polled = Pin::new(body).poll_frame(cx);
                polled.map_err(AnswerError::Stream)
            }
        }
    }

    /// The whole of it, where that is there already.
    pub(crate) fn take_whole(&mut self) -> Option<Bytes> {
        match self {
            Self::Own(own) => own.take_whole(),
            Self::Shared(body, _) => body.is_end_stream().then(Bytes::new),
        }
    }

    /// Whether nothing more comes.
    pub(crate) fn is_end_stream(&self) -> bool {
        match self {
            Self::Own(own) => own.is_end_stream(),
            Self::Shared(body, _) => body.is_end_stream(),
        }
    }

    /// How much comes.
    pub(crate) fn size_hint(&self) -> SizeHint {
        match self {
            Self::Own(own) => own.size_hint(),
            Self::Shared(body, _) => body.size_hint(),
        }
    }

    /// The socket and the bytes that came early, after an answer 101.
    pub(crate) fn into_tunnel(self) -> Option<(TcpStream, Bytes)> {
        match self {
            Self::Own(own) => own.into_tunnel(),
            Self::Shared(..) => None,
        }
    }
}

#[derive(Debug)]
#[expect(
    clippy::vec_box,
    reason = "a connection is some hundred bytes, and moves between here and its request each time"
)]
struct Idle {
    connections: Vec<Box<Own>>,
    patience: Patience,
}

impl Default for Idle {
    fn default() -> Self {
        Self {
            connections: Vec::new(),
            patience: Patience::new(IDLE),
        }
    }
}

/// The idle connections of one worker, by the number of the target.
#[derive(Debug, Default)]
pub(crate) struct Pool {
    idle: NumberMap<Idle>,
    shared: NumberMap<Lines>,
}

/// Whether a request may be lost to a connection that dies under it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Care {
    /// It can be sent again.
    Repeatable,
    /// It must not be sent twice, so the connection is looked at first, and is
    /// used only well within the time that the target keeps it.
    Once,
    /// It was lost with a connection and is sent for the last time: on one that is new
    /// and its own.
    Again,
}

impl Pool {
    /// The connection that was used last, if it can be used again.
    pub(crate) fn take(&mut self, target: u64, care: Care, now: Instant) -> Option<Box<Own>> {
        let idle = self.idle.get_mut(&target)?;
        while let Some(upstream) = idle.connections.pop() {
            let age = now.saturating_duration_since(upstream.idle_since);
            if age > idle.patience.bound() {
                // The others are older still.
                idle.connections.clear();
                return None;
            }
            // Whoever ends connections soon would cost many a second try.
            if care == Care::Once || idle.patience.is_short() {
                if !upstream.is_quiet() {
                    idle.patience.ended(age);
                    continue;
                }
                idle.patience.survived(age);
            }
            if care == Care::Once && !idle.patience.is_safe(age) {
                idle.connections.push(upstream);
                return None;
            }
            return Some(upstream);
        }
        None
    }

    /// Keeps a connection whose exchange has ended, unless it cannot be used again.
    pub(crate) fn put(&mut self, target: u64, mut upstream: Box<Own>, now: Instant) {
        if !upstream.rests() {
            return;
        }
        upstream.reused = true;
        upstream.idle_since = now;
        let idle = self.idle.entry(target).or_default();
        if idle.connections.len() < MAX_IDLE {
            idle.connections.push(upstream);
        }
    }

    /// A target told how long it keeps idle connections.
    pub(crate) fn told(&mut self, target: u64, headers: &HeaderMap) {
        if let Some(kept) = headers.get(&KEEP_ALIVE).and_then(keep_alive) {
            self.idle.entry(target).or_default().patience.told(kept);
        }
    }

    /// A target closed a connection that we took for alive.
    pub(crate) fn surprised(&mut self, target: u64) {
        if let Some(idle) = self.idle.get_mut(&target) {
            // What was true of one is likely true of the others.
            idle.connections.clear();
            idle.patience.surprised();
        }
    }

    /// The shared connections to a target.
    pub(crate) fn shared(&mut self, target: u64) -> &mut Lines {
        self.shared.entry(target).or_default()
    }

    /// The same, unless they were closed meanwhile.
    pub(crate) fn known(&mut self, target: u64) -> Option<&mut Lines> {
        self.shared.get_mut(&target)
    }

    /// Closes all idle connections to a target; shared ones end with their last request.
    pub(crate) fn close(&mut self, target: u64) {
        self.idle.remove(&target);
        if let Some(mut lines) = self.shared.remove(&target) {
            lines.settle();
        }
    }

    /// Closes what is too old.
    pub(crate) fn sweep(&mut self, now: Instant) {
        for idle in self.idle.values_mut() {
            idle.sweep(now);
        }
        self.idle
            .retain(|_, idle| !idle.connections.is_empty() || !idle.patience.is_blank());
        self.shared.retain(|_, lines| lines.sweep(now));
    }
}

impl Idle {
    /// Drops what is too old or has ended; what is left tells how long it is kept.
    fn sweep(&mut self, now: Instant) {
        let mut connections = std::mem::take(&mut self.connections);
        connections.retain(|upstream| {
            let age = now.saturating_duration_since(upstream.idle_since);
            if age > self.patience.bound() {
                return false;
            }
            let is_quiet = upstream.is_quiet();
            if is_quiet {
                self.patience.survived(age);
            } else {
                self.patience.ended(age);
            }
            is_quiet
        });
        self.connections = connections;
    }
}

fn keep_alive(value: &http::HeaderValue) -> Option<Duration> {
    let text = value.to_str().ok()?;
    let mut parameters = text.split(',').map(str::trim);
    let seconds = parameters.find_map(|parameter| parameter.strip_prefix("timeout="))?;
    seconds.parse().ok().map(Duration::from_secs)
}
