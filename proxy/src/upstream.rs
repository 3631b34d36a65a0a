//! Connections to targets, kept by one worker.
//!
//! A connection has no task of its own: whoever waits for its answer drives it,
//! so that a byte from a target wakes the client's task at once. An idle one is
//! driven by nobody; it is looked at when it is taken, and dropped when it is
//! older than any target is likely to keep it.
//!
//! Invariant: an idle connection has ended its last exchange wholly, and holds
//! no waker of a client.

use std::collections::HashMap;
use std::future::poll_fn;
use std::pin::{Pin, pin};
use std::rc::Rc;
use std::task::{Context, Poll, Waker};
use std::time::{Duration, Instant};

use http::{HeaderMap, Request, Response};
use hyper::body::Incoming;
use hyper::client::conn::http1::{Builder, Connection, SendRequest};
use hyper_util::rt::TokioIo;
use tokio::io;
use tokio::net::TcpStream;

use crate::client::Client;
use crate::socket::{Line, TargetSocket};
use crate::upload::RequestBody;

/// How long an idle connection is used again at most. The shortest default among
/// common servers is 5 s (Node.js), and the target must not close it first.
const IDLE: Duration = Duration::from_secs(4);

/// What is never gone below when a target is seen to close sooner.
const IDLE_MIN: Duration = Duration::from_millis(100);

/// Idle connections of one worker to one target; further ones are closed.
const MAX_IDLE: usize = 512;

/// The bytes of an answer's head and the buffer of its body.
const MAX_BUFFER: usize = 64 * 1024;

/// Why an exchange brought no answer.
#[derive(Debug)]
pub(crate) enum ExchangeError {
    /// Not one byte of the request was written; here it is again.
    Unsent(Box<Request<RequestBody>>),
    /// The connection ended before any byte of an answer.
    Silent(hyper::Error),
    /// The connection ended within the head of an answer, or the answer is no HTTP.
    Broken(hyper::Error),
    /// The deadline passed.
    Late,
}

/// A connection to a target.
#[derive(Debug)]
pub(crate) struct Upstream {
    sender: SendRequest<RequestBody>,
    connection: Connection<TokioIo<TargetSocket>, RequestBody>,
    line: Rc<Line>,
    ended: bool,
    reused: bool,
    idle_since: Instant,
}

impl Upstream {
    /// Connects to a target.
    pub(crate) async fn connect(address: std::net::SocketAddr) -> io::Result<Box<Self>> {
        let stream = TcpStream::connect(address).await?;
        stream.set_nodelay(true)?;
        let line = Line::new(stream);
        let socket = TokioIo::new(TargetSocket::new(Rc::clone(&line)));
        let handshake = Builder::new()
            .max_headers(100)
            .max_buf_size(MAX_BUFFER)
            .handshake(socket)
            .await;
        let (sender, connection) = handshake.map_err(io::Error::other)?;
        Ok(Box::new(Self {
            sender,
            connection,
            line,
            ended: false,
            reused: false,
            idle_since: Instant::now(),
        }))
    }

    /// Whether it has served another request before.
    pub(crate) fn is_reused(&self) -> bool {
        self.reused
    }

    /// Moves bytes both ways.
    pub(crate) fn drive(&mut self, cx: &mut Context<'_>) {
        if !self.ended && Pin::new(&mut self.connection).poll(cx).is_ready() {
            self.ended = true;
        }
    }

    /// Sends a request and waits for the head of its answer, as long as the client's
    /// record allows.
    pub(crate) async fn exchange(
        &mut self,
        request: Request<RequestBody>,
        client: &Client,
    ) -> Result<Response<Incoming>, ExchangeError> {
        self.line.listen();
        let mut answer = pin!(self.sender.try_send_request(request));
        // The answer can only come while we drive, so nobody needs to be woken for it.
        let mut nobody = Context::from_waker(Waker::noop());
        let told = poll_fn(|cx| {
            if !self.ended && Pin::new(&mut self.connection).poll(cx).is_ready() {
                self.ended = true;
            }
            match answer.as_mut().poll(&mut nobody) {
                Poll::Ready(told) => Poll::Ready(Some(told)),
                Poll::Pending if client.request_is_late() => Poll::Ready(None),
                Poll::Pending => Poll::Pending,
            }
        })
        .await;
        match told {
            None => Err(ExchangeError::Late),
            Some(Ok(response)) => Ok(response),
            Some(Err(mut error)) => Err(match error.take_message() {
                Some(request) => ExchangeError::Unsent(Box::new(request)),
                None if self.line.heard() => ExchangeError::Broken(error.into_error()),
                None => ExchangeError::Silent(error.into_error()),
            }),
        }
    }

    /// The socket and the bytes that came early, after an answer 101.
    pub(crate) fn into_tunnel(self) -> (TargetSocket, bytes::Bytes) {
        let parts = self.connection.into_parts();
        (parts.io.into_inner(), parts.read_buf)
    }
}

#[derive(Debug)]
#[expect(
    clippy::vec_box,
    reason = "a connection is a kilobyte, and moves between here and its request each time"
)]
struct Idle {
    connections: Vec<Box<Upstream>>,
    bound: Duration,
}

impl Default for Idle {
    fn default() -> Self {
        Self {
            connections: Vec::new(),
            bound: IDLE,
        }
    }
}

/// The idle connections of one worker, by the number of the target.
#[derive(Debug, Default)]
pub(crate) struct Pool {
    idle: HashMap<u64, Idle>,
}

/// Whether a request may be lost to a connection that dies under it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Care {
    /// It can be sent again.
    Repeatable,
    /// It must not be sent twice, so the connection is looked at first.
    Once,
}

impl Pool {
    /// The connection that was used last, if it can be used again.
    pub(crate) fn take(&mut self, target: u64, care: Care, now: Instant) -> Option<Box<Upstream>> {
        let idle = self.idle.get_mut(&target)?;
        while let Some(upstream) = idle.connections.pop() {
            let age = now.saturating_duration_since(upstream.idle_since);
            if age > idle.bound {
                // The others are older still.
                idle.connections.clear();
                return None;
            }
            if care == Care::Once && !upstream.line.is_quiet() {
                idle.learn(age / 2);
                continue;
            }
            return Some(upstream);
        }
        None
    }

    /// Keeps a connection whose exchange has ended, unless it cannot be used again.
    pub(crate) fn put(&mut self, target: u64, mut upstream: Box<Upstream>, now: Instant) {
        // Driven once more without a waker: it becomes ready for the next request,
        // and forgets whom it woke.
        upstream.drive(&mut Context::from_waker(Waker::noop()));
        if upstream.ended || !upstream.sender.is_ready() {
            return;
        }
        upstream.reused = true;
        upstream.idle_since = now;
        let idle = self.idle.entry(target).or_default();
        if idle.connections.len() < MAX_IDLE {
            idle.connections.push(upstream);
        }
    }

    /// A target told how long it keeps idle connections: half of that is safe.
    pub(crate) fn told(&mut self, target: u64, headers: &HeaderMap) {
        if let Some(kept) = headers.get("keep-alive").and_then(keep_alive) {
            self.idle.entry(target).or_default().learn(kept / 2);
        }
    }

    /// A target closed a connection that we took for alive.
    pub(crate) fn surprised(&mut self, target: u64) {
        if let Some(idle) = self.idle.get_mut(&target) {
            // What was true of one is likely true of the others.
            idle.connections.clear();
        }
    }

    /// Closes all idle connections to a target.
    pub(crate) fn close(&mut self, target: u64) {
        self.idle.remove(&target);
    }

    /// Closes what is too old.
    pub(crate) fn sweep(&mut self, now: Instant) {
        for idle in self.idle.values_mut() {
            let bound = idle.bound;
            idle.connections
                .retain(|upstream| now.saturating_duration_since(upstream.idle_since) <= bound);
        }
        self.idle
            .retain(|_, idle| !idle.connections.is_empty() || idle.bound != IDLE);
    }
}

impl Idle {
    fn learn(&mut self, bound: Duration) {
        self.bound = self.bound.min(bound).max(IDLE_MIN);
    }
}

fn keep_alive(value: &http::HeaderValue) -> Option<Duration> {
    let text = value.to_str().ok()?;
    let mut parameters = text.split(',').map(str::trim);
    let seconds = parameters.find_map(|parameter| parameter.strip_prefix("timeout="))?;
    seconds.parse().ok().map(Duration::from_secs)
}
