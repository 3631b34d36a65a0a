//! Connections of HTTP/2 to targets, without TLS, known beforehand.
//!
//! A worker has few of them to a target, each with a task that moves its bytes,
//! and each request takes a place on one. Who finds none waits for the one that
//! is being made rather than make another.

use std::cell::Cell;
use std::future::{Future, poll_fn};
use std::mem;
use std::net::SocketAddr;
use std::pin::pin;
use std::rc::Rc;
use std::task::Poll;
use std::time::{Duration, Instant};

use http::header::{HOST, HeaderValue, TE};
use http::uri::{Authority, PathAndQuery, Scheme};
use http::{Request, Response, Uri};
use hyper::body::Incoming;
use hyper::client::conn::http2::{Builder, SendRequest};
use hyper::rt::Executor;
use hyper_util::rt::TokioIo;
use tokio::io;
use tokio::net::TcpStream;
use tokio::sync::Notify;

use super::{AnswerError, ExchangeError};
use crate::client::Client;
use crate::target::Target;
use crate::upload::RequestBody;
use crate::worker::Worker;

/// Requests on one connection at once: beyond it they would wait for each other
/// in one stream of bytes. It is also the least that a target should allow (RFC
/// 9113, section 6.5.2); what is over its own bound waits in the library.
const MAX_STREAMS: usize = 100;

/// Connections of one worker to one target at most.
const MAX_LINES: usize = 64;

/// What a target may send ahead in one answer.
const STREAM_WINDOW: u32 = 64 * 1024;

/// What it may send ahead on one connection: in all answers, so that clients that
/// do not read theirs hold up nobody else's.
const CONNECTION_WINDOW: u32 = MAX_STREAMS as u32 * STREAM_WINDOW;

/// What is held of a request's body that a target does not take.
const MAX_HELD: usize = 64 * 1024;

/// Bytes of an answer's fields.
const MAX_HEAD: u32 = 64 * 1024;

/// How long a connection without a request is kept.
const IDLE: Duration = Duration::from_secs(60);

#[derive(Debug, Clone, Copy)]
struct OnWorker;

impl<F: Future<Output = ()> + 'static> Executor<F> for OnWorker {
    fn execute(&self, task: F) {
        tokio::task::spawn_local(task);
    }
}

#[derive(Debug)]
struct Shelf {
    open: Cell<usize>,
    served: Cell<bool>,
    idle_since: Cell<Instant>,
    /// The target has said, or shown, that it takes no more here.
    left: Cell<bool>,
}

/// One connection.
#[derive(Debug)]
struct SharedLine {
    target: SocketAddr,
    sender: SendRequest<RequestBody>,
    shelf: Rc<Shelf>,
}

/// A place on a connection; dropping it gives the place back.
#[derive(Debug)]
pub(crate) struct Shared {
    target: SocketAddr,
    sender: SendRequest<RequestBody>,
    shelf: Rc<Shelf>,
    reused: bool,
}

/// The connections of one worker to one target.
#[derive(Debug, Default)]
pub(crate) struct Lines {
    lines: Vec<SharedLine>,
    making: Option<Rc<Notify>>,
}

/// What is to be done for a place.
#[derive(Debug)]
pub(crate) enum Seat {
    /// Here it is.
    Taken(Shared),
    /// Somebody makes a connection; look again when it is there, or is not.
    Wait(Rc<Notify>),
    /// Make one.
    Make,
}

impl Lines {
    /// A place, or how to come by one.
    pub(crate) fn seat(&mut self) -> Seat {
        // What is open on a line that was left goes on.
        self.lines
            .retain(|line| !line.sender.is_closed() && !line.shelf.left.get());
        let free = self
            .lines
            .iter()
            .find(|line| line.shelf.open.get() < MAX_STREAMS || self.lines.len() >= MAX_LINES);
        if let Some(line) = free {
            return Seat::Taken(Shared::take(line));
        }
        match &self.making {
            Some(making) => Seat::Wait(Rc::clone(making)),
            None => {
                self.making = Some(Rc::default());
                Seat::Make
            }
        }
    }

    /// What was being made is there.
    fn made(&mut self, target: SocketAddr, sender: SendRequest<RequestBody>) -> Shared {
        let line = SharedLine {
            target,
            sender,
            shelf: Rc::new(Shelf {
                open: Cell::new(0),
                served: Cell::new(false),
                idle_since: Cell::new(Instant::now()),
                left: Cell::new(false),
            }),
        };
        let seat = Shared::take(&line);
        self.lines.push(line);
        seat
    }

    /// Nobody makes a connection any more.
    fn settle(&mut self) {
        if let Some(making) = self.making.take() {
            making.notify_waiters();
        }
    }

    /// Closes what is idle for too long; tells whether anything is left.
    pub(super) fn sweep(&mut self, now: Instant) -> bool {
        self.lines.retain(|line| {
            let idle = now.saturating_duration_since(line.shelf.idle_since.get());
            !line.sender.is_closed() && (line.shelf.open.get() > 0 || idle <= IDLE)
        });
        !self.lines.is_empty() || self.making.is_some()
    }
}

/// Ends the making, however it ends.
struct Making<'w> {
    worker: &'w Worker,
    target: u64,
}

impl Drop for Making<'_> {
    fn drop(&mut self) {
        self.worker.lines(self.target, Lines::settle);
    }
}

impl Shared {
    fn take(line: &SharedLine) -> Self {
        line.shelf.open.set(line.shelf.open.get() + 1);
        Self {
            target: line.target,
            sender: line.sender.clone(),
            shelf: Rc::clone(&line.shelf),
            reused: line.shelf.served.replace(true),
        }
    }

    /// Makes a connection, for which the caller was told [`Seat::Make`].
    pub(crate) async fn connect(worker: &Worker, target: &Target) -> io::Result<Self> {
        let (number, address) = (target.number(), target.address());
        let _making = Making {
            worker,
            target: number,
        };
        let stream = TcpStream::connect(address).await?;
        stream.set_nodelay(true)?;
        let handshake = Builder::new(OnWorker)
            .initial_stream_window_size(STREAM_WINDOW)
            .initial_connection_window_size(CONNECTION_WINDOW)
            .max_send_buf_size(MAX_HELD)
            .max_header_list_size(MAX_HEAD)
            .handshake(TokioIo::new(stream))
            .await;
        let (sender, connection) = handshake.map_err(io::Error::other)?;
        tokio::task::spawn_local(async move {
            if let Err(error) = connection.await {
                tracing::debug!(%address, %error, "a connection to a target ended");
            }
        });
        Ok(worker.lines(number, |lines| lines.made(address, sender)))
    }

    pub(super) fn is_reused(&self) -> bool {
        self.reused
    }

    /// Sends a copy of the request's head, and its body. A stream can be refused,
    /// whatever it asks for, so the request is kept as far as that can be done.
    pub(super) async fn exchange(
        &mut self,
        request: &mut Request<RequestBody>,
        trailers: bool,
        client: &Client,
    ) -> Result<Response<Incoming>, ExchangeError> {
        let streamed = request.body().copy().is_none();
        let sent = address(request, self.target, trailers);
        let sent = sent.map_err(ExchangeError::Form)?;
        let mut answer = pin!(self.sender.try_send_request(sent));
        let told = poll_fn(|cx| match answer.as_mut().poll(cx) {
            Poll::Ready(told) => Poll::Ready(Some(told)),
            Poll::Pending if client.request_is_late() => Poll::Ready(None),
            Poll::Pending => Poll::Pending,
        })
        .await;
        match told {
            None => Err(ExchangeError::Late),
            Some(Ok(response)) => Ok(response),
            Some(Err(mut error)) => Err(match error.take_message() {
                Some(same) => {
                    self.shelf.left.set(true);
                    if streamed {
                        *request.body_mut() = same.into_body();
                    }
                    ExchangeError::Unsent
                }
                None => self.classify(error.into_error()),
            }),
        }
    }

    /// What a broken stream says of its request.
    fn classify(&self, error: hyper::Error) -> ExchangeError {
        let cause = std::error::Error::source(&error);
        let cause = cause.and_then(|cause| cause.downcast_ref::<h2::Error>());
        let Some(cause) = cause else {
            return ExchangeError::Silent(AnswerError::Stream(error));
        };
        let goes = cause.is_go_away() && cause.reason() == Some(h2::Reason::NO_ERROR);
        if cause.is_go_away() {
            self.shelf.left.set(true);
        }
        let refused = cause.reason() == Some(h2::Reason::REFUSED_STREAM);
        if cause.is_remote() && (refused || goes) {
            ExchangeError::Refused
        } else if cause.is_io() {
            ExchangeError::Silent(AnswerError::Stream(error))
        } else {
            ExchangeError::Broken(AnswerError::Stream(error))
        }
    }
}

impl Drop for Shared {
    fn drop(&mut self) {
        self.shelf.open.set(self.shelf.open.get().saturating_sub(1));
        self.shelf.idle_since.set(Instant::now());
    }
}

/// A request in the form of HTTP/2, with the body: its authority is part of its
/// address. Who understands trailers is told to a target that may send some.
fn address(
    request: &mut Request<RequestBody>,
    target: SocketAddr,
    trailers: bool,
) -> Result<Request<RequestBody>, http::Error> {
    let mut fields = request.headers().clone();
    let authority = match fields.remove(HOST) {
        Some(host) => Authority::try_from(host.as_bytes())?,
        // Only a client of HTTP/1.0 may leave it out; a target may not miss it.
        None => Authority::try_from(target.to_string())?,
    };
    if trailers {
        fields.insert(TE, HeaderValue::from_static("trailers"));
    }
    let path = request.uri().path_and_query().cloned();
    let mut parts = http::uri::Parts::default();
    parts.scheme = Some(Scheme::HTTP);
    parts.authority = Some(authority);
    parts.path_and_query = path.or_else(|| Some(PathAndQuery::from_static("/")));
    let uri = Uri::from_parts(parts)?;
    let kept = request.body().copy();
    let body = kept.unwrap_or_else(|| mem::replace(request.body_mut(), RequestBody::empty()));
    let mut addressed = Request::new(body);
    *addressed.version_mut() = request.version();
    addressed.method_mut().clone_from(request.method());
    *addressed.uri_mut() = uri;
    *addressed.headers_mut() = fields;
    Ok(addressed)
}
