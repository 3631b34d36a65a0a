//! The body of an answer, a target's or our own.
//!
//! A target's body is passed on piece by piece as the client takes it; nothing
//! is held back. When it has ended, its connection is kept for the next request
//! and the request's account is closed. A body that breaks off is passed on as
//! broken: the client must see that the answer is not whole.

use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll, ready};
use std::time::Instant;

use bytes::Bytes;
use http::{HeaderValue, Response, StatusCode, header};
use hyper::body::{Body, Frame, SizeHint};

use crate::client::Client;
use crate::counters::Outcome;
use crate::headers;
use crate::mirror::{Digest, Pair};
use crate::piece::Piece;
use crate::target::Kind;
use crate::ticket::Ticket;
use crate::upstream::{AnswerError, AnswerStream};
use crate::worker::Worker;

/// How long the end of an event is waited for when a stream is to be ended.
const EVENT_MS: u64 = 2_000;

/// See the module.
#[derive(Debug)]
pub(crate) enum AnswerBody {
    /// Our own text, or nothing.
    Text(Option<Bytes>),
    /// What a target sends.
    Target(Box<Passing>),
}

/// A target's body on its way.
#[derive(Debug)]
pub(crate) struct Passing {
    /// Taken when the body has ended.
    pub(crate) stream: Option<AnswerStream>,
    pub(crate) ticket: Ticket,
    pub(crate) client: Rc<Client>,
    pub(crate) worker: Rc<Worker>,
    pub(crate) status: StatusCode,
    pub(crate) answered: Instant,
    /// Whether the client takes the end of the connection for the end of the body.
    pub(crate) reset_if_broken: bool,
    /// What was passed on of an answer whose copy's is compared with it.
    pub(crate) shown: Option<Box<(Rc<Pair>, Digest)>>,
    /// Whether what was passed on ends with an event.
    pub(crate) at_event: bool,
    /// Since when the drain of the target waits for the end of an event.
    pub(crate) cut_since: Option<u64>,
    /// What the body ended with, while the client has still much to take before it.
    pub(crate) last: Option<Frame<Bytes>>,
}

impl Passing {
    /// The whole body, where it is there already: then it has ended. To a client of
    /// HTTP/2 it goes piece by piece, so that it is seen how fast the client takes it.
    pub(crate) fn take_whole(&mut self) -> Option<Option<Bytes>> {
        if self.client.is_stream() && !self.is_end_stream() {
            return None;
        }
        let whole = self.stream.as_mut()?.take_whole()?;
        self.ticket.passed(whole.len());
        if let Some(shown) = &mut self.shown {
            shown.1.update(&whole);
        }
        self.finish();
        Some((!whole.is_empty()).then_some(whole))
    }

    /// The body has ended as it should.
    fn finish(&mut self) {
        let Some(stream) = self.stream.take() else {
            return;
        };
        let target = self.ticket.hold().target();
        if let AnswerStream::Own(own) = stream
            && !target.is_draining()
        {
            let number = target.number();
            // Kept before the request is counted out, so that a drain that waits
            // for it finds the connection and closes it.
            self.worker.keep(number, own, self.answered);
        }
        if let Some(shown) = self.shown.take() {
            shown.0.primary_body(&shown.1);
        }
        self.ticket.received(self.client.take_uploaded());
        self.ticket.settle(Outcome::of(self.status));
        self.client.rests();
    }

    /// Whether the drain of the target ends this stream here: behind an event,
    /// or behind any piece when no event ends for a while.
    fn is_cut(&mut self) -> bool {
        if !self.client.is_cut() || self.size_hint().exact().is_some() {
            return false;
        }
        let now = self.client.now();
        let since = *self.cut_since.get_or_insert(now);
        self.at_event || now.saturating_sub(since) >= EVENT_MS
    }

    fn cut(&mut self) {
        let target = self.ticket.hold().target();
        target.cutting().ended(Kind::Stream);
        // Its connection has more to say, and is not used again.
        self.stream = None;
        self.ticket.settle(Outcome::of(self.status));
        self.client.rests();
    }

    fn size_hint(&self) -> SizeHint {
        let stream = self.stream.as_ref();
        stream.map_or_else(|| SizeHint::with_exact(0), AnswerStream::size_hint)
    }

    fn is_end_stream(&self) -> bool {
        let stream = self.stream.as_ref();
        stream.is_none_or(AnswerStream::is_end_stream)
    }

    fn poll(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, AnswerError>>> {
        if self.is_cut() {
            self.cut();
        }
        let Some(stream) = &mut self.stream else {
            return Poll::Ready(None);
        };
        let frame = ready!(stream.poll_frame(cx));
        if let Some(Ok(frame)) = &frame
            && let Some(data) = frame.data_ref()
        {
            if let Some(shown) = &mut self.shown {
                shown.1.update(data);
            }
            self.ticket.passed(data.len());
            self.at_event = data.ends_with(b"\n\n") || data.ends_with(b"\n\r\n");
        }
        match &frame {
            None => self.finish(),
            Some(Ok(frame)) if frame.is_trailers() || self.is_end_stream() => self.finish(),
            Some(Ok(_)) => {}
            Some(Err(error)) => {
                tracing::debug!(%error, "an answer broke off");
                self.ticket.settle(Outcome::Failed);
                self.client.reset.set(self.reset_if_broken);
            }
        }
        Poll::Ready(frame)
    }

    /// The next piece; the end of a stream only when little is left before it.
    fn poll_piece(
        &mut self,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Piece>, AnswerError>>> {
        let frame = match self.last.take() {
            Some(last) => Some(Ok(last)),
            None => ready!(self.poll(cx)),
        };
        match frame {
            None if self.client.is_behind() => Poll::Pending,
            Some(Ok(last)) if last.is_trailers() && self.client.is_behind() => {
                self.last = Some(last);
                Poll::Pending
            }
            frame => Poll::Ready(frame.map(|frame| {
                let piece = |bytes| Piece::new(bytes, &self.client);
                frame.map(|frame| frame.map_data(piece))
            })),
        }
    }
}

impl Body for AnswerBody {
    type Data = Piece;
    type Error = AnswerError;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Piece>, AnswerError>>> {
        match &mut *self {
            Self::Text(text) => {
                let piece = text.take().map(Piece::unwatched);
                Poll::Ready(piece.map(|piece| Ok(Frame::data(piece))))
            }
            Self::Target(passing) => passing.poll_piece(cx),
        }
    }

    fn is_end_stream(&self) -> bool {
        match self {
            Self::Text(text) => text.is_none(),
            Self::Target(passing) => {
                passing.is_end_stream() && passing.last.is_none() && !passing.client.is_behind()
            }
        }
    }

    fn size_hint(&self) -> SizeHint {
        match self {
            Self::Text(text) => SizeHint::with_exact(text.as_ref().map_or(0, Bytes::len) as u64),
            Self::Target(passing) => passing.size_hint(),
        }
    }
}

/// Whether the client's connection goes on after an answer of ours.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum After {
    /// It goes on.
    KeepAlive,
    /// It ends.
    Close,
}

/// An answer of our own, a sentence.
pub(crate) fn own(status: StatusCode, text: &str, after: After) -> Response<AnswerBody> {
    let text = Bytes::from(format!("{text}\n"));
    made(status, text, "text/plain; charset=utf-8", after)
}

/// An answer of our own, a page of the app's.
pub(crate) fn page(status: StatusCode, html: &Bytes, after: After) -> Response<AnswerBody> {
    made(status, html.clone(), "text/html; charset=utf-8", after)
}

fn made(status: StatusCode, body: Bytes, kind: &'static str, after: After) -> Response<AnswerBody> {
    let mut response = Response::new(AnswerBody::Text(Some(body)));
    *response.status_mut() = status;
    let fields = response.headers_mut();
    fields.insert(header::CONTENT_TYPE, HeaderValue::from_static(kind));
    if after == After::Close {
        headers::close(fields);
    }
    response
}
