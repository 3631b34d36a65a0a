//! The body of a request on its way to the target.
//!
//! It is passed on as it comes, one piece at a time: a target that reads slowly
//! makes the client wait. It counts against the route's bound and tells the
//! client's record how far it is, from which the deadlines follow.

use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll};

use bytes::Bytes;
use hyper::body::{Body, Frame, Incoming, SizeHint};

use crate::client::{Client, Upload};

/// Why a request's body ended early.
#[derive(Debug, thiserror::Error)]
pub(crate) enum UploadError {
    /// The client broke it off or broke its form.
    #[error("the client broke the request's body")]
    Broken(#[source] hyper::Error),
    /// It is larger than the route allows.
    #[error("the request's body is larger than the route allows")]
    TooLarge,
}

/// See the module.
#[derive(Debug)]
pub(crate) struct RequestBody(Option<Box<Streamed>>);

#[derive(Debug)]
struct Streamed {
    body: Incoming,
    client: Rc<Client>,
    left: u64,
    idle_ms: u64,
    response_ms: u64,
}

impl RequestBody {
    /// No body.
    pub(crate) fn empty() -> Self {
        Self(None)
    }

    /// A body of at most `max` bytes that may stand still for `idle_ms`; when it has
    /// ended, the request waits for its answer for `response_ms`.
    pub(crate) fn new(
        body: Incoming,
        client: Rc<Client>,
        max: Option<u64>,
        idle_ms: u64,
        response_ms: u64,
    ) -> Self {
        client.set_upload(Upload::FromClient);
        Self(Some(Box::new(Streamed {
            body,
            client,
            left: max.unwrap_or(u64::MAX),
            idle_ms,
            response_ms,
        })))
    }

    /// Whether there is none, so that the request can be sent again.
    pub(crate) fn is_empty(&self) -> bool {
        self.0.is_none()
    }
}

impl Streamed {
    fn tell(&self, upload: Upload) {
        self.client.set_upload(upload);
        // An answer that is on its way already has its own deadline.
        if self.client.phase() == crate::client::Phase::Waiting {
            let allowed = match upload {
                Upload::Done => self.response_ms,
                _ => self.idle_ms,
            };
            self.client.waits(allowed);
        }
    }

    fn poll(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, UploadError>>> {
        match Pin::new(&mut self.body).poll_frame(cx) {
            Poll::Pending => {
                self.client.set_upload(Upload::FromClient);
                Poll::Pending
            }
            Poll::Ready(None) => {
                self.tell(Upload::Done);
                Poll::Ready(None)
            }
            Poll::Ready(Some(Err(error))) => {
                self.tell(Upload::Broken);
                Poll::Ready(Some(Err(UploadError::Broken(error))))
            }
            Poll::Ready(Some(Ok(frame))) => {
                let size = frame.data_ref().map_or(0, Bytes::len) as u64;
                let Some(left) = self.left.checked_sub(size) else {
                    self.tell(Upload::TooLarge);
                    return Poll::Ready(Some(Err(UploadError::TooLarge)));
                };
                self.left = left;
                let ended = self.body.is_end_stream();
                self.tell(if ended {
                    Upload::Done
                } else {
                    Upload::ToTarget
                });
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
        match &mut self.0 {
            None => Poll::Ready(None),
            Some(streamed) => streamed.poll(cx),
        }
    }

    fn is_end_stream(&self) -> bool {
        self.0
            .as_ref()
            .is_none_or(|streamed| streamed.body.is_end_stream())
    }

    fn size_hint(&self) -> SizeHint {
        match &self.0 {
            None => SizeHint::with_exact(0),
            Some(streamed) => streamed.body.size_hint(),
        }
    }
}
