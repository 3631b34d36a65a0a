//! The rest of a request on its way to a target.
//!
//! What is read from the client's body is written before more is read, so a target
//! that reads slowly makes the client wait. A short piece goes in one write with
//! what stands before and behind it.

use std::io::{self, IoSlice};
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use bytes::{Buf as _, Bytes};
use http::{HeaderMap, HeaderName, header};
use hyper::body::{Body as _, Frame};
use tokio::net::TcpStream;

use super::body::may_trail;
use super::fault::AnswerError;
use super::head::{Length, write_field};
use crate::socket::write_pieces;
use crate::upload::{RequestBody, UploadError};

/// Names of trailers that a request announces; the rest of them is dropped.
const MAX_ANNOUNCED: usize = 32;

/// Why the rest of a request cannot be sent.
#[derive(Debug)]
pub(super) enum SendError {
    /// The target does not take it; it may still answer.
    Line(io::Error),
    /// There is no rest to be sent.
    Body(AnswerError),
}

/// See the module.
#[derive(Debug)]
pub(super) struct Sending {
    body: RequestBody,
    /// How many bytes of the body are still to be read; none where it is chunked.
    left: Option<u64>,
    /// The trailers that the head announced.
    announced: Vec<HeaderName>,
    /// What goes before the piece in hand, and how much of it went.
    front: Vec<u8>,
    gone: usize,
    piece: Bytes,
    /// What goes behind it.
    tail: &'static [u8],
    /// Nothing comes behind what is in hand.
    ended: bool,
    /// Its trailers were read.
    trailed: bool,
    /// Something was written.
    wrote: bool,
}

impl Sending {
    /// What is left of a request that is there as a whole.
    pub(super) fn rest(front: Vec<u8>, piece: Bytes, wrote: bool) -> Self {
        Self {
            body: RequestBody::empty(),
            left: None,
            announced: Vec::new(),
            front,
            gone: 0,
            piece,
            tail: b"",
            ended: true,
            trailed: false,
            wrote,
        }
    }

    /// A request whose body comes bit by bit.
    pub(super) fn streamed(
        head: Vec<u8>,
        body: RequestBody,
        length: Length,
        fields: &HeaderMap,
    ) -> Self {
        let left = match length {
            Length::None => Some(0),
            Length::Known(length) => Some(length),
            Length::Chunked => None,
        };
        Self {
            body,
            left,
            announced: left.map_or_else(|| announced(fields), |_| Vec::new()),
            front: head,
            gone: 0,
            piece: Bytes::new(),
            tail: b"",
            ended: false,
            trailed: false,
            wrote: false,
        }
    }

    /// The body, with the piece that was read of it, where nothing was written.
    pub(super) fn give_back(mut self) -> Option<RequestBody> {
        if self.wrote || self.trailed {
            return None;
        }
        self.body.put_back(self.piece);
        Some(self.body)
    }

    /// Whether anything was written.
    pub(super) fn wrote(&self) -> bool {
        self.wrote
    }

    /// Sends what there is; ready when all is sent.
    pub(super) fn poll(
        &mut self,
        cx: &mut Context<'_>,
        stream: &mut TcpStream,
    ) -> Poll<Result<(), SendError>> {
        loop {
            if !self.ended && self.piece.is_empty() && self.tail.is_empty() {
                match Pin::new(&mut self.body).poll_frame(cx) {
                    // The head does not wait for the body.
                    Poll::Pending if self.front.is_empty() => return Poll::Pending,
                    Poll::Pending => {}
                    Poll::Ready(frame) => self.take(frame).map_err(SendError::Body)?,
                }
            }
            if self.front.is_empty() && self.piece.is_empty() && self.tail.is_empty() {
                if self.ended {
                    return Poll::Ready(Ok(()));
                }
                continue;
            }
            ready!(self.write(cx, stream)).map_err(SendError::Line)?;
        }
    }

    fn take(
        &mut self,
        frame: Option<Result<Frame<Bytes>, UploadError>>,
    ) -> Result<(), AnswerError> {
        let frame = match frame {
            None => return self.end(None),
            Some(frame) => frame.map_err(AnswerError::Upload)?,
        };
        let data = match frame.into_data() {
            Ok(data) => data,
            Err(frame) => {
                self.trailed = true;
                return self.end(frame.into_trailers().ok().as_ref());
            }
        };
        if data.is_empty() {
            // As a chunk it would be the last one.
            return Ok(());
        }
        let last = self.body.is_end_stream();
        match &mut self.left {
            Some(left) => {
                let rest = left.checked_sub(data.len() as u64);
                *left = rest.ok_or(AnswerError::UploadLength)?;
                self.ended = *left == 0;
            }
            None => {
                self.front
                    .extend_from_slice(format!("{:x}\r\n", data.len()).as_bytes());
                self.tail = if last { b"\r\n0\r\n\r\n" } else { b"\r\n" };
                self.ended = last;
            }
        }
        self.piece = data;
        Ok(())
    }

    fn end(&mut self, trailers: Option<&HeaderMap>) -> Result<(), AnswerError> {
        self.ended = true;
        match self.left {
            Some(0) => Ok(()),
            Some(_) => Err(AnswerError::UploadLength),
            None => {
                self.front.extend_from_slice(b"0\r\n");
                for (name, value) in trailers.into_iter().flatten() {
                    if self.announced.contains(name) && may_trail(name) {
                        write_field(&mut self.front, name, value);
                    }
                }
                self.front.extend_from_slice(b"\r\n");
                Ok(())
            }
        }
    }

    fn write(&mut self, cx: &mut Context<'_>, stream: &mut TcpStream) -> Poll<io::Result<()>> {
        let front = &self.front[self.gone..];
        let pieces = [front, &self.piece[..], self.tail].map(IoSlice::new);
        let count = ready!(write_pieces(stream, cx, &pieces))?;
        if count == 0 {
            return Poll::Ready(Err(io::ErrorKind::WriteZero.into()));
        }
        self.wrote = true;
        let of_front = count.min(front.len());
        self.gone += of_front;
        if self.gone == self.front.len() {
            self.front.clear();
            self.gone = 0;
        }
        let of_piece = (count - of_front).min(self.piece.len());
        self.piece.advance(of_piece);
        if self.piece.is_empty() {
            // Even none of a piece can hold on to its memory.
            self.piece = Bytes::new();
        }
        self.tail = &self.tail[count - of_front - of_piece..];
        Poll::Ready(Ok(()))
    }
}

fn announced(fields: &HeaderMap) -> Vec<HeaderName> {
    let values = fields.get_all(header::TRAILER).into_iter();
    let names = values.flat_map(|value| value.as_bytes().split(|&b| b == b','));
    let names = names.filter_map(|name| HeaderName::from_bytes(name.trim_ascii()).ok());
    names.take(MAX_ANNOUNCED).collect()
}
