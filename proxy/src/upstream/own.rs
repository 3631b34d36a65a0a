//! A connection of HTTP/1.1 to a target, for one request at a time.
//!
//! It has no task: whoever waits for its answer drives it. The request goes on
//! while its answer is waited for, and while the answer's body is read. Nothing is
//! read before somebody asks for it, so a slow client makes the target wait.
//!
//! ```text
//!  idle ──exchange──▶ head of the answer ──poll_frame──▶ end of its body ──rests──▶ idle
//!    │                     │                                │
//!  Unsent           Silent, Broken, Late             broken: closed
//! ```
//!
//! Invariant: an idle connection holds no byte and no waker of a client.

use std::future::poll_fn;
use std::mem;
use std::net::SocketAddr;
use std::pin::{Pin, pin};
use std::task::{Context, Poll, Waker, ready};
use std::time::Instant;

use bytes::{Bytes, BytesMut};
use http::{Request, Response};
use hyper::body::{Body as _, Frame, SizeHint};
use rustix::net::RecvFlags;
use tokio::io::{self, AsyncReadExt as _, AsyncWrite as _};
use tokio::net::TcpStream;

use super::ExchangeError;
use super::body::{Framing, Piece};
use super::fault::{AnswerError, Fault};
use super::head::{self, Head, Length, Parsed};
use super::sending::{SendError, Sending};
use crate::client::Client;
use crate::scratch;
use crate::upload::RequestBody;

/// Answers before the answer; each is waited for as long as any.
const MAX_INTERIM: u8 = 32;

/// Below it, what was read is copied, so that what is held of an answer is no more
/// than four times what came; above it, the memory is given away that it was read into.
const COPIED: usize = scratch::READ / 4;

/// A body that is there with the head of its request goes with it in one write, up
/// to this length: all that is read before a request is bound.
const MAX_JOINED: usize = 16 * 1024;

/// See the module.
#[derive(Debug)]
pub(crate) struct Own {
    stream: TcpStream,
    target: SocketAddr,
    /// What was read and not taken yet.
    read: Bytes,
    framing: Framing,
    sending: Option<Box<Sending>>,
    /// The target said, or showed, that there is nothing behind this answer.
    closing: bool,
    /// A byte came since the request in hand began.
    heard: bool,
    pub(super) reused: bool,
    pub(super) idle_since: Instant,
}

/// What came of a look at what the target sends.
enum Read {
    Some,
    End,
}

impl Own {
    /// Connects to a target.
    pub(crate) async fn connect(target: SocketAddr) -> io::Result<Box<Self>> {
        let stream = TcpStream::connect(target).await?;
        stream.set_nodelay(true)?;
        Ok(Box::new(Self {
            stream,
            target,
            read: Bytes::new(),
            framing: Framing::Ended,
            sending: None,
            closing: false,
            heard: false,
            reused: false,
            idle_since: Instant::now(),
        }))
    }

    /// Sends a request and waits for the head of its answer, as long as the client's
    /// record allows. Without an answer, the request is whole unless a part of a body
    /// that is not kept was sent.
    pub(super) async fn exchange(
        &mut self,
        request: &mut Request<RequestBody>,
        client: &Client,
    ) -> Result<Response<()>, ExchangeError> {
        self.heard = false;
        let mut begun = false;
        let mut interim = 0;
        poll_fn(|cx| {
            if !begun {
                begun = true;
                // What comes before the request is no answer to it. The look also
                // makes the target's first byte wake us.
                if self.fill(cx).is_ready() {
                    return Poll::Ready(Err(ExchangeError::Unsent));
                }
                if let Err(error) = self.begin(cx, request) {
                    return Poll::Ready(Err(self.failed(error, request)));
                }
            } else {
                match self.poll_head(cx, request, &mut interim) {
                    Poll::Ready(Ok(head)) => return Poll::Ready(Ok(self.answered(head))),
                    Poll::Ready(Err(error)) => {
                        return Poll::Ready(Err(self.failed(error, request)));
                    }
                    Poll::Pending => {}
                }
            }
            if let Err(error) = self.send(cx) {
                return Poll::Ready(Err(self.failed(error, request)));
            }
            if client.request_is_late() {
                return Poll::Ready(Err(ExchangeError::Late));
            }
            Poll::Pending
        })
        .await
    }

    /// Writes the head, and the body if it is there, as far as the kernel takes it.
    fn begin(
        &mut self,
        cx: &mut Context<'_>,
        request: &mut Request<RequestBody>,
    ) -> Result<(), AnswerError> {
        let length = match request.body() {
            body if body.is_end_stream() => Length::None,
            body => body
                .size_hint()
                .exact()
                .map_or(Length::Chunked, Length::Known),
        };
        let kept = match request.body() {
            RequestBody::Kept(bytes) => bytes.clone().unwrap_or_default(),
            RequestBody::Streamed(_) => {
                let mut head = Vec::new();
                head::write(&mut head, request, length, self.target);
                let body = mem::replace(request.body_mut(), RequestBody::empty());
                let sending = Sending::streamed(head, body, length, request.headers());
                self.sending = Some(Box::new(sending));
                return Ok(());
            }
        };
        scratch::writing(|bytes| {
            head::write(bytes, request, length, self.target);
            let mut rest = kept;
            if rest.len() <= MAX_JOINED {
                bytes.extend_from_slice(&rest);
                rest = Bytes::new();
            }
            let count = match Pin::new(&mut self.stream).poll_write(cx, bytes) {
                Poll::Ready(Ok(count)) => count,
                Poll::Pending => 0,
                Poll::Ready(Err(error)) => {
                    let front = Vec::new();
                    self.sending = Some(Box::new(Sending::rest(front, rest, false)));
                    return Err(AnswerError::Line(error));
                }
            };
            if count < bytes.len() || !rest.is_empty() {
                let front = bytes[count..].to_vec();
                self.sending = Some(Box::new(Sending::rest(front, rest, count > 0)));
            }
            Ok(())
        })
    }

    /// Sends on. A target that takes no more may have answered, or will say by the
    /// end of its connection what became of the request.
    fn send(&mut self, cx: &mut Context<'_>) -> Result<(), AnswerError> {
        let Some(sending) = &mut self.sending else {
            return Ok(());
        };
        match sending.poll(cx, &mut self.stream) {
            Poll::Pending => Ok(()),
            Poll::Ready(Ok(())) => {
                self.sending = None;
                Ok(())
            }
            Poll::Ready(Err(SendError::Body(error))) => Err(error),
            Poll::Ready(Err(SendError::Line(error))) if !sending.wrote() => {
                Err(AnswerError::Line(error))
            }
            Poll::Ready(Err(SendError::Line(error))) => {
                tracing::debug!(%error, "a target does not take the rest of a request");
                self.sending = None;
                self.closing = true;
                Ok(())
            }
        }
    }

    /// What an error says of the request; it is made whole where that can be done.
    fn failed(&mut self, error: AnswerError, request: &mut Request<RequestBody>) -> ExchangeError {
        let broken = matches!(error, AnswerError::Upload(_) | AnswerError::UploadLength);
        let unsent = self.sending.take().filter(|_| !self.heard && !broken);
        if let Some(body) = unsent.and_then(|sending| sending.give_back()) {
            if matches!(body, RequestBody::Streamed(_)) {
                *request.body_mut() = body;
            }
            return ExchangeError::Unsent;
        }
        if self.heard {
            ExchangeError::Broken(error)
        } else {
            ExchangeError::Silent(error)
        }
    }

    fn poll_head(
        &mut self,
        cx: &mut Context<'_>,
        request: &mut Request<RequestBody>,
        interim: &mut u8,
    ) -> Poll<Result<Head, AnswerError>> {
        loop {
            let before = self.read.len();
            match ready!(self.fill(cx)) {
                Ok(Read::Some) => {}
                Ok(Read::End) => return Poll::Ready(Err(AnswerError::Ended)),
                Err(error) => return Poll::Ready(Err(AnswerError::Line(error))),
            }
            // A head ends with a line, so without the end of one there is none.
            if memchr::memchr(b'\n', &self.read[before..]).is_none()
                && self.read.len() < head::MAX_HEAD
            {
                continue;
            }
            match self.parse(request, interim) {
                Ok(None) => {}
                Ok(Some(head)) => return Poll::Ready(Ok(head)),
                Err(fault) => return Poll::Ready(Err(AnswerError::Refused(fault))),
            }
        }
    }

    fn parse(
        &mut self,
        request: &mut Request<RequestBody>,
        interim: &mut u8,
    ) -> Result<Option<Head>, Fault> {
        let method = request.method().clone();
        while !self.read.is_empty() {
            // A request is not sent again after a byte of an answer, so the memory of
            // its fields is free for those of the answer.
            let mut fields = mem::take(request.headers_mut());
            fields.clear();
            match head::parse(&mut self.read, &method, fields)? {
                Parsed::Whole(head) => return Ok(Some(head)),
                Parsed::Part => break,
                Parsed::Interim => {
                    *interim += 1;
                    if *interim > MAX_INTERIM {
                        return Err(Fault::Interim);
                    }
                }
            }
        }
        Ok(None)
    }

    fn answered(&mut self, head: Head) -> Response<()> {
        self.framing = head.framing;
        self.closing |= !head.keeps;
        self.shed();
        let mut response = Response::new(());
        *response.status_mut() = head.status;
        *response.headers_mut() = head.fields;
        if let Some(reason) = head.reason {
            response.extensions_mut().insert(reason);
        }
        response
    }

    /// The next piece of the answer's body.
    pub(super) fn poll_frame(
        &mut self,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, AnswerError>>> {
        if let Err(error) = self.send(cx) {
            self.framing.break_off();
            return Poll::Ready(Some(Err(error)));
        }
        loop {
            let piece = self.framing.next(&mut self.read);
            self.shed();
            match piece {
                Ok(Piece::Data(data)) => return Poll::Ready(Some(Ok(Frame::data(data)))),
                Ok(Piece::Trailers(fields)) => {
                    return Poll::Ready(Some(Ok(Frame::trailers(fields))));
                }
                Ok(Piece::End) => return Poll::Ready(None),
                Ok(Piece::More) => {}
                Err(fault) => return Poll::Ready(Some(Err(AnswerError::Refused(fault)))),
            }
            match ready!(self.fill(cx)) {
                Ok(Read::Some) => {}
                Ok(Read::End) => {
                    self.closing = true;
                    let whole = self.framing.close();
                    return Poll::Ready((!whole).then_some(Err(AnswerError::Ended)));
                }
                Err(error) => {
                    self.framing.break_off();
                    return Poll::Ready(Some(Err(AnswerError::Line(error))));
                }
            }
        }
    }

    /// The whole body, if there is none, or if it is there already and all is sent.
    pub(super) fn take_whole(&mut self) -> Option<Bytes> {
        match self.framing.left()? {
            0 => Some(Bytes::new()),
            left if left == self.read.len() as u64 && self.sending.is_none() => {
                self.framing = Framing::Ended;
                Some(mem::take(&mut self.read))
            }
            _ => None,
        }
    }

    pub(super) fn is_end_stream(&self) -> bool {
        self.framing == Framing::Ended
    }

    pub(super) fn size_hint(&self) -> SizeHint {
        self.framing
            .left()
            .map_or_else(SizeHint::new, SizeHint::with_exact)
    }

    /// Whether the exchange has ended on both sides and another one may begin.
    pub(super) fn rests(&mut self) -> bool {
        self.is_end_stream()
            && self.sending.is_none()
            && !self.closing
            && self.read.is_empty()
            // The look also makes the stream forget whom it woke.
            && self.fill(&mut Context::from_waker(Waker::noop())).is_pending()
    }

    /// Whether the target has neither closed nor said anything.
    pub(super) fn is_quiet(&self) -> bool {
        let mut byte = [0_u8; 1];
        let flags = RecvFlags::PEEK | RecvFlags::DONTWAIT;
        let told = rustix::net::recv(&self.stream, &mut byte[..], flags);
        matches!(told, Err(rustix::io::Errno::AGAIN))
    }

    /// The stream and the bytes that came early, after an answer 101.
    pub(super) fn into_tunnel(self) -> Option<(TcpStream, Bytes)> {
        // A target that switches before it has the whole request did not read it.
        self.sending.is_none().then_some((self.stream, self.read))
    }

    /// No bytes can still hold on to all the memory that they were read into.
    fn shed(&mut self) {
        if self.read.is_empty() {
            self.read = Bytes::new();
        }
    }

    /// Reads some more behind what was read.
    fn fill(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<Read>> {
        let count = scratch::reading(|bytes| {
            let count = ready!(pin!(self.stream.read_buf(bytes)).poll(cx))?;
            self.read = if !self.read.is_empty() {
                join(mem::take(&mut self.read), bytes)
            } else if count < COPIED {
                Bytes::copy_from_slice(bytes)
            } else {
                bytes.split().freeze()
            };
            Poll::Ready(io::Result::Ok(count))
        });
        Poll::Ready(Ok(match ready!(count)? {
            0 => Read::End,
            _ => {
                self.heard = true;
                Read::Some
            }
        }))
    }
}

/// What was read, and behind it what came.
fn join(read: Bytes, came: &[u8]) -> Bytes {
    if read.is_empty() {
        return Bytes::copy_from_slice(came);
    }
    let mut joined = read
        .try_into_mut()
        .unwrap_or_else(|shared| BytesMut::from(&shared[..]));
    joined.extend_from_slice(came);
    joined.freeze()
}

#[cfg(test)]
mod tests;
