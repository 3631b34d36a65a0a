//! Connections of HTTP/2 to targets, without TLS, known beforehand.
//!
//! A worker has few of them to a target, each with a task that moves its bytes,
//! and each request takes a place on one; which, is decided in `lines`.

use std::future::{Future, poll_fn};
use std::mem;
use std::net::SocketAddr;
use std::os::fd::AsFd as _;
use std::pin::pin;
use std::rc::Rc;
use std::task::Poll;
use std::time::Instant;

use http::header::{HOST, HeaderValue, TE};
use http::uri::{Authority, PathAndQuery, Scheme};
use http::{Request, Response, Uri};
use hyper::body::Incoming;
use hyper::client::conn::http2::{Builder, SendRequest};
use hyper::rt::Executor;
use hyper_util::rt::TokioIo;
use tokio::io;
use tokio::net::TcpStream;

mod lines;
mod trust;

pub(crate) use lines::{Company, Lines, Seat, Shelf};
pub(crate) use trust::End;

use lines::{Line, MAX_STREAMS};

use super::{AnswerError, ExchangeError};
use crate::client::Client;
use crate::target::Target;
use crate::upload::RequestBody;
use crate::worker::Worker;

/// What a target may send ahead in one answer.
const STREAM_WINDOW: u32 = 64 * 1024;

/// What it may send ahead on one connection: in all answers, so that clients that
/// do not read theirs hold up nobody else's.
const CONNECTION_WINDOW: u32 = MAX_STREAMS as u32 * STREAM_WINDOW;

/// What is held of a request's body that a target does not take.
const MAX_HELD: usize = 64 * 1024;

/// Bytes of an answer's fields.
const MAX_HEAD: u32 = 64 * 1024;

#[derive(Debug, Clone, Copy)]
struct OnWorker;

impl<F: Future<Output = ()> + 'static> Executor<F> for OnWorker {
    fn execute(&self, task: F) {
        tokio::task::spawn_local(task);
    }
}

/// A place on a connection; dropping it gives the place back.
#[derive(Debug)]
pub(crate) struct Shared {
    target: SocketAddr,
    sender: SendRequest<RequestBody>,
    shelf: Rc<Shelf>,
}

/// Ends the making of a connection, however it ends.
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
    /// Makes a connection, for which the caller was told [`Seat::Make`].
    pub(crate) async fn connect(
        worker: &Rc<Worker>,
        target: &Target,
        company: Company,
    ) -> io::Result<Self> {
        let (number, address) = (target.number(), target.address());
        let _making = Making {
            worker,
            target: number,
        };
        let stream = TcpStream::connect(address).await?;
        stream.set_nodelay(true)?;
        let socket = stream.as_fd().try_clone_to_owned()?;
        let handshake = Builder::new(OnWorker)
            .initial_stream_window_size(STREAM_WINDOW)
            .initial_connection_window_size(CONNECTION_WINDOW)
            .max_send_buf_size(MAX_HELD)
            .max_header_list_size(MAX_HEAD)
            .handshake(TokioIo::new(stream))
            .await;
        let (sender, connection) = handshake.map_err(io::Error::other)?;
        let shelf = Rc::new(Shelf::new(Instant::now()));
        let (worker_then, shelf_then) = (Rc::downgrade(worker), Rc::clone(&shelf));
        tokio::task::spawn_local(async move {
            let end = match connection.await {
                Ok(()) => End::Told,
                Err(error) => {
                    tracing::debug!(%address, %error, "a connection to a target ended");
                    // An error of HTTP/2 is one that was told.
                    cause(&error).map_or(End::Silent, |_| End::Told)
                }
            };
            if let Some(worker) = worker_then.upgrade() {
                worker.line_ended(number, &shelf_then, end);
            }
        });
        let line = Line {
            target: address,
            sender,
            socket,
            shelf,
        };
        Ok(worker.lines(number, |lines| lines.made(line, company)))
    }

    /// Whether other requests have used the connection, too.
    pub(super) fn is_reused(&self) -> bool {
        self.shelf.has_carried_others()
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
                    self.shelf.leave();
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
        let Some(cause) = cause(&error) else {
            return ExchangeError::Silent(AnswerError::Stream(error));
        };
        let goes = cause.is_go_away() && cause.reason() == Some(h2::Reason::NO_ERROR);
        if cause.is_go_away() {
            self.shelf.leave();
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
        self.shelf.give_back(Instant::now());
    }
}

fn cause(error: &hyper::Error) -> Option<&h2::Error> {
    std::error::Error::source(error)?.downcast_ref()
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
