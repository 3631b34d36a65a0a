//! The body of an answer, a target's or our own.
//!
//! A target's body is passed on piece by piece as the client takes it; nothing
//! is held back. When it has ended, its connection is kept for the next request
//! and the request's account is closed. A body that breaks off is passed on as
//! broken: the client must see that the answer is not whole.

use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll, Waker, ready};
use std::time::Instant;

use bytes::Bytes;
use http::{HeaderValue, Response, StatusCode, header};
use hyper::body::{Body, Frame, Incoming, SizeHint};

use crate::client::Client;
use crate::counters::Outcome;
use crate::headers;
use crate::ticket::Ticket;
use crate::upstream::Upstream;
use crate::worker::Worker;

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
    pub(crate) body: Incoming,
    /// Taken when the body has ended.
    pub(crate) upstream: Option<Box<Upstream>>,
    pub(crate) ticket: Ticket,
    pub(crate) client: Rc<Client>,
    pub(crate) worker: Rc<Worker>,
    pub(crate) status: StatusCode,
    pub(crate) answered: Instant,
    /// Whether the client takes the end of the connection for the end of the body.
    pub(crate) reset_if_broken: bool,
}

impl Passing {
    /// The body has ended as it should.
    pub(crate) fn finish(&mut self) {
        let Some(upstream) = self.upstream.take() else {
            return;
        };
        let target = self.ticket.hold().target();
        if !target.is_draining() {
            let number = target.number();
            // Kept before the request is counted out, so that a drain that waits
            // for it finds the connection and closes it.
            self.worker.keep(number, upstream, self.answered);
        }
        self.ticket.settle(Outcome::of(self.status));
        self.client.rests();
    }

    fn poll(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, hyper::Error>>> {
        if let Some(upstream) = &mut self.upstream {
            upstream.drive(cx);
        }
        // A frame can only come while we drive, so nobody needs to be woken for it.
        let mut nobody = Context::from_waker(Waker::noop());
        let frame = match Pin::new(&mut self.body).poll_frame(&mut nobody) {
            Poll::Pending => return Poll::Pending,
            Poll::Ready(frame) => frame,
        };
        match &frame {
            None => self.finish(),
            Some(Ok(frame)) if frame.is_trailers() || self.body.is_end_stream() => self.finish(),
            Some(Ok(_)) => {}
            Some(Err(error)) => {
                tracing::debug!(%error, "an answer broke off");
                self.ticket.settle(Outcome::Failed);
                self.client.reset.set(self.reset_if_broken);
            }
        }
        Poll::Ready(frame)
    }
}

impl Body for AnswerBody {
    type Data = Bytes;
    type Error = hyper::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, hyper::Error>>> {
        match &mut *self {
            Self::Text(text) => Poll::Ready(text.take().map(|text| Ok(Frame::data(text)))),
            Self::Target(passing) => Poll::Ready(ready!(passing.poll(cx))),
        }
    }

    fn is_end_stream(&self) -> bool {
        match self {
            Self::Text(text) => text.is_none(),
            Self::Target(passing) => passing.body.is_end_stream(),
        }
    }

    fn size_hint(&self) -> SizeHint {
        match self {
            Self::Text(text) => SizeHint::with_exact(text.as_ref().map_or(0, Bytes::len) as u64),
            Self::Target(passing) => passing.body.size_hint(),
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

/// An answer of our own.
pub(crate) fn own(status: StatusCode, text: &str, after: After) -> Response<AnswerBody> {
    let text = Bytes::from(format!("{text}\n"));
    let mut response = Response::new(AnswerBody::Text(Some(text)));
    *response.status_mut() = status;
    let fields = response.headers_mut();
    let plain = HeaderValue::from_static("text/plain; charset=utf-8");
    fields.insert(header::CONTENT_TYPE, plain);
    if after == After::Close {
        headers::close(fields);
    }
    response
}
