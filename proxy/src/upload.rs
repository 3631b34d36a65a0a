//! The body of a request on its way to the target.
//!
//! A short one is read whole before the request is bound, so that a slow client
//! does not hold on to a target that is about to leave, and the request can be
//! sent again; so is one of a stream that is there whole with its head. Any other is passed on as it comes, one piece at a time: a target
//! that reads slowly makes the client wait. It counts against the route's bound
//! and tells the client's record how far it is, from which the deadlines follow.

use std::collections::VecDeque;
use std::future::poll_fn;
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll};

use bytes::{Bytes, BytesMut};
use hyper::body::{Body, Frame, Incoming, SizeHint};

use crate::client::{Client, Upload};
use crate::framing::Fault;

/// Why a request's body ended early.
#[derive(Debug, thiserror::Error)]
pub(crate) enum UploadError {
    /// The client broke it off or broke its form.
    #[error("the client broke the request's body")]
    Broken(#[source] hyper::Error),
    /// Its form is not what two programs would read in one way.
    #[error("the request's body is refused: {}", .0.text())]
    Refused(Fault),
    /// It is larger than the route allows.
    #[error("the request's body is larger than the route allows")]
    TooLarge,
}

/// See the module.
#[derive(Debug)]
pub(crate) enum RequestBody {
    /// It was read whole before the request was bound; nothing, where there is none.
    Kept(Option<Bytes>),
    /// It is passed on as it comes.
    Streamed(Box<Streamed>),
}

/// A body on its way.
#[derive(Debug)]
pub(crate) struct Streamed {
    /// What was read of it before it was passed on.
    ahead: VecDeque<Result<Frame<Bytes>, hyper::Error>>,
    /// What was passed on, and counted, and put back.
    again: Bytes,
    body: Incoming,
    client: Rc<Client>,
    left: u64,
    pace: Pace,
}

/// How long a body may take.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Pace {
    /// How long it may stand still.
    pub(crate) idle_ms: u64,
    /// How long the answer may take when it has ended.
    pub(crate) response_ms: u64,
    /// Whether the client must keep the lowest rate.
    pub(crate) hurried: bool,
}

impl RequestBody {
    /// No body.
    pub(crate) fn empty() -> Self {
        Self::Kept(None)
    }

    /// A body of at most `max` bytes.
    pub(crate) fn streamed(
        body: Incoming,
        client: Rc<Client>,
        max: Option<u64>,
        pace: Pace,
    ) -> Self {
        Self::Streamed(Box::new(Streamed::new(body, client, max, pace)))
    }

    /// The body of a stream that did not tell its length. Where all of it is there
    /// already and no longer than `short`, it is kept: a target that refuses the
    /// request can be asked again. Nothing is waited for.
    pub(crate) async fn glanced(
        body: Incoming,
        client: Rc<Client>,
        max: Option<u64>,
        pace: Pace,
        short: u64,
    ) -> Self {
        let mut streamed = Box::new(Streamed::new(body, client, max, pace));
        let short = short.min(max.unwrap_or(u64::MAX));
        match poll_fn(|cx| Poll::Ready(streamed.glance(cx, short))).await {
            Some(bytes) => Self::Kept((!bytes.is_empty()).then_some(bytes)),
            None => Self::Streamed(streamed),
        }
    }

    /// Whether there is none.
    pub(crate) fn is_empty(&self) -> bool {
        matches!(self, Self::Kept(None))
    }

    /// The bytes of it that are held.
    pub(crate) fn kept_bytes(&self) -> u64 {
        match self {
            Self::Kept(bytes) => bytes.as_ref().map_or(0, Bytes::len) as u64,
            Self::Streamed(_) => 0,
        }
    }

    /// Whether it can be sent again.
    pub(crate) fn is_kept(&self) -> bool {
        matches!(self, Self::Kept(_))
    }

    /// Puts the first piece of a streamed body back, of which nothing was sent.
    pub(crate) fn put_back(&mut self, piece: Bytes) {
        if let Self::Streamed(streamed) = self {
            streamed.again = piece;
        }
    }

    /// The same body once more, where it was kept.
    pub(crate) fn copy(&self) -> Option<Self> {
        match self {
            Self::Kept(bytes) => Some(Self::Kept(bytes.clone())),
            Self::Streamed(_) => None,
        }
    }
}

/// Reads a short body of a known length whole. The client's record says by when
/// the next bytes must be there; who polls looks at it.
pub(crate) async fn read_whole(
    mut body: Incoming,
    client: &Client,
    length: usize,
    pace: Pace,
) -> Result<Bytes, Upload> {
    let mut whole = BytesMut::with_capacity(length);
    client.set_upload(Upload::FromClient);
    client.haste().begin();
    client.waits(pace.idle_ms);
    loop {
        let frame = poll_fn(|cx| match Pin::new(&mut body).poll_frame(cx) {
            Poll::Pending if client.request_is_late() => Poll::Ready(Err(Upload::FromClient)),
            Poll::Pending => {
                client.haste().waits(client.now());
                Poll::Pending
            }
            Poll::Ready(frame) => Poll::Ready(Ok(frame)),
        });
        let frame = frame.await?;
        if client.request_fault().is_some() {
            return Err(Upload::Broken);
        }
        let data = match frame {
            None => break,
            Some(Err(error)) => {
                tracing::debug!(%error, "a client broke its request's body");
                return Err(Upload::Broken);
            }
            Some(Ok(frame)) => frame.into_data().unwrap_or_default(),
        };
        client.uploads(data.len() as u64);
        client.haste().moved(data.len() as u64, client.now());
        client.haste().goes_on(client.now());
        if body.is_end_stream() && whole.is_empty() {
            client.set_upload(Upload::Done);
            return Ok(data);
        }
        whole.extend_from_slice(&data);
        client.waits(pace.idle_ms);
    }
    client.set_upload(Upload::Done);
    Ok(whole.freeze())
}

impl Streamed {
    fn new(body: Incoming, client: Rc<Client>, max: Option<u64>, pace: Pace) -> Self {
        client.set_upload(Upload::FromClient);
        client.haste().begin();
        Self {
            ahead: VecDeque::new(),
            again: Bytes::new(),
            body,
            client,
            left: max.unwrap_or(u64::MAX),
            pace,
        }
    }

    /// The whole body, if it is there and short; else what is there stays ahead.
    fn glance(&mut self, cx: &mut Context<'_>, short: u64) -> Option<Bytes> {
        let mut size = 0;
        while size <= short {
            match Pin::new(&mut self.body).poll_frame(cx) {
                Poll::Pending => return None,
                Poll::Ready(None) => break,
                Poll::Ready(Some(frame)) => {
                    let data = frame.as_ref().ok().and_then(Frame::data_ref);
                    let count = data.map(|data| data.len() as u64);
                    self.ahead.push_back(frame);
                    // Trailers, and a break, are passed on and not kept.
                    size += count?;
                }
            }
            if self.body.is_end_stream() {
                break;
            }
        }
        if size > short {
            return None;
        }
        self.client.uploads(size);
        self.client.set_upload(Upload::Done);
        let frames = self.ahead.drain(..).filter_map(Result::ok);
        let data = frames.filter_map(|frame| frame.into_data().ok());
        let mut pieces = data.filter(|piece| !piece.is_empty());
        let first = pieces.next().unwrap_or_default();
        let Some(second) = pieces.next() else {
            return Some(first);
        };
        let mut whole = BytesMut::from(first);
        whole.extend_from_slice(&second);
        pieces.for_each(|piece| whole.extend_from_slice(&piece));
        Some(whole.freeze())
    }

    fn is_end_stream(&self) -> bool {
        self.again.is_empty() && self.ahead.is_empty() && self.body.is_end_stream()
    }

    fn tell(&self, upload: Upload) {
        self.client.set_upload(upload);
        // An answer that is on its way already has its own deadline.
        if self.client.phase() == crate::client::Phase::Waiting {
            let allowed = match upload {
                Upload::Done => self.pace.response_ms,
                _ => self.pace.idle_ms,
            };
            self.client.waits(allowed);
        }
    }

    /// A piece is on its way.
    fn tell_piece(&self) {
        let ended = self.is_end_stream();
        self.tell(if ended {
            Upload::Done
        } else {
            Upload::ToTarget
        });
    }

    fn poll(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, UploadError>>> {
        if !self.again.is_empty() {
            let piece = std::mem::take(&mut self.again);
            self.tell_piece();
            return Poll::Ready(Some(Ok(Frame::data(piece))));
        }
        let polled = match self.ahead.pop_front() {
            Some(frame) => Poll::Ready(Some(frame)),
            None => Pin::new(&mut self.body).poll_frame(cx),
        };
        // The scanner is ahead of the library: it has seen what this frame, or this
        // end, was read from. A body with a fault must break and never be completed.
        if let (true, Some(fault)) = (polled.is_ready(), self.client.request_fault()) {
            self.tell(Upload::Broken);
            return Poll::Ready(Some(Err(UploadError::Refused(fault))));
        }
        let client = &self.client;
        match polled {
            Poll::Pending => {
                client.set_upload(Upload::FromClient);
                if self.pace.hurried {
                    client.haste().waits(client.now());
                }
                Poll::Pending
            }
            Poll::Ready(None) => {
                client.haste().goes_on(client.now());
                self.tell(Upload::Done);
                Poll::Ready(None)
            }
            Poll::Ready(Some(Err(error))) => {
                self.tell(Upload::Broken);
                Poll::Ready(Some(Err(UploadError::Broken(error))))
            }
            Poll::Ready(Some(Ok(frame))) => {
                let size = frame.data_ref().map_or(0, Bytes::len) as u64;
                client.uploads(size);
                client.haste().moved(size, client.now());
                client.haste().goes_on(client.now());
                let Some(left) = self.left.checked_sub(size) else {
                    self.tell(Upload::TooLarge);
                    return Poll::Ready(Some(Err(UploadError::TooLarge)));
                };
                self.left = left;
                self.tell_piece();
                Poll::Ready(Some(Ok(frame)))
            }
        }
    }
}

impl Body for RequestBody {
    type Data = Bytes;
    type Error = UploadError;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, UploadError>>> {
        match &mut *self {
            Self::Kept(bytes) => Poll::Ready(bytes.take().map(|bytes| Ok(Frame::data(bytes)))),
            Self::Streamed(streamed) => streamed.poll(cx),
        }
    }

    fn is_end_stream(&self) -> bool {
        match self {
            Self::Kept(bytes) => bytes.is_none(),
            Self::Streamed(streamed) => streamed.is_end_stream(),
        }
    }

    fn size_hint(&self) -> SizeHint {
        match self {
            Self::Kept(bytes) => SizeHint::with_exact(bytes.as_ref().map_or(0, Bytes::len) as u64),
            // Read ahead is only where no length was told.
            Self::Streamed(streamed) => match streamed.body.size_hint().exact() {
                Some(left) => SizeHint::with_exact(left + streamed.again.len() as u64),
                None => streamed.body.size_hint(),
            },
        }
    }
}
