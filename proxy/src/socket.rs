//! The socket of a client, and what is noticed as bytes pass.
//!
//! It shows each byte to the framing scanner, keeps the end of a client's side from
//! the library while there is an answer to come, and ends a refused upload with a
//! lingering read, so that the refusal is not lost in a reset.

use std::io::{self, IoSlice};
use std::pin::{Pin, pin};
use std::rc::Rc;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use socket2::SockRef;
use tokio::io::{AsyncRead, AsyncWrite, Interest, ReadBuf};
use tokio::net::TcpStream;

use bytes::{Buf as _, Bytes};
use tokio_rustls::server::TlsStream;

use crate::client::Client;
use crate::http2::Budget;
use crate::scratch;

/// What a client may still send of a refused upload before it is cut off. It
/// covers what is on its way (a large socket buffer) and not a whole upload.
const LINGER_BYTES: u64 = 1024 * 1024;

/// How long it may take for that.
const LINGER: Duration = Duration::from_secs(2);

/// What a client is sent before the kernel is told not to hold more than [`UNSENT`]:
/// most connections never carry as much, and are spared the call.
const UNBOUNDED: usize = 64 * 1024;

/// What the kernel may hold that it could not send yet. It takes megabytes of its own
/// accord, and tells of room only when a third is free; so a slow reader would take
/// that memory, and could not be told from one that does not read at all. At this
/// bound, the one that the kernel's documentation advises, it tells every 64 KB, and a
/// thousand megabits a second take a millisecond for it.
const UNSENT: u32 = 128 * 1024;

/// Below this, putting pieces together costs less than telling the kernel of each.
const COPIED: usize = 4096;

/// What a client is connected by: TCP, or TLS over it.
pub(crate) trait Carrier: AsyncRead + AsyncWrite + Unpin + 'static {
    /// The connection below.
    fn tcp(&self) -> &TcpStream;

    /// Whether there is something to be read, be it the end, that the kernel knows
    /// nothing of any more.
    fn holds_bytes(&mut self) -> bool;
    /// Whether closing it tells the client of its end as well as ending it before.
    fn ends_by_closing(&self) -> bool;
}

impl Carrier for TcpStream {
    fn tcp(&self) -> &TcpStream {
        self
    }

    fn holds_bytes(&mut self) -> bool {
        false
    }

    fn ends_by_closing(&self) -> bool {
        true
    }
}

// In its box: it is larger than all else of a connection, and is moved some times.
impl Carrier for Box<TlsStream<TcpStream>> {
    fn tcp(&self) -> &TcpStream {
        self.get_ref().0
    }

    /// A request that came together with the end of the handshake was read and
    /// opened with it.
    fn holds_bytes(&mut self) -> bool {
        let told = self.get_mut().1.process_new_packets();
        told.map_or(true, |held| {
            held.plaintext_bytes_to_read() > 0 || held.peer_has_closed()
        })
    }

    fn ends_by_closing(&self) -> bool {
        // TLS says so in a message of its own.
        false
    }
}

/// Whether the peer has closed its side, be there bytes of it that were not read.
fn has_left(stream: &TcpStream, cx: &mut Context<'_>) -> bool {
    let ready = pin!(stream.ready(Interest::READABLE | Interest::WRITABLE));
    matches!(ready.poll(cx), Poll::Ready(Ok(ready)) if ready.is_read_closed())
}

/// Writes pieces in one call: small ones as one piece, others as they are.
pub(crate) fn write_pieces<S: AsyncWrite + Unpin>(
    stream: &mut S,
    cx: &mut Context<'_>,
    pieces: &[IoSlice<'_>],
) -> Poll<io::Result<usize>> {
    if let [only] = pieces {
        return Pin::new(stream).poll_write(cx, only);
    }
    if pieces.iter().map(|piece| piece.len()).sum::<usize>() > COPIED {
        return Pin::new(stream).poll_write_vectored(cx, pieces);
    }
    scratch::writing(|whole| {
        for piece in pieces {
            whole.extend_from_slice(piece);
        }
        Pin::new(stream).poll_write(cx, whole)
    })
}

/// The socket of a client.
#[derive(Debug)]
pub(crate) struct ClientSocket<S: Carrier> {
    stream: S,
    client: Rc<Client>,
    /// Bytes that were read and not taken; they go before all others.
    early: Bytes,
    lingering: Option<Lingering>,
    /// What is still sent before [`UNSENT`] holds.
    unbounded: usize,
    /// Of a connection of HTTP/2.
    budget: Option<Box<Budget>>,
    /// Whether each direction ends by itself.
    halves: bool,
}

#[derive(Debug)]
struct Lingering {
    left: u64,
    deadline: Pin<Box<tokio::time::Sleep>>,
}

impl<S: Carrier> ClientSocket<S> {
    pub(crate) fn new(stream: S, client: Rc<Client>) -> Self {
        Self {
            stream,
            client,
            early: Bytes::new(),
            lingering: None,
            unbounded: UNBOUNDED,
            budget: None,
            halves: false,
        }
    }

    /// From here on bytes are frames of HTTP/2, of which a client may send so many.
    pub(crate) fn spend(&mut self, budget: Budget) {
        self.budget = Some(Box::new(budget));
    }

    /// Puts back bytes that were read and not taken.
    pub(crate) fn put_back(&mut self, bytes: Bytes) {
        // No bytes can still hold on to all the memory that they were read into.
        self.early = if bytes.is_empty() {
            Bytes::new()
        } else {
            bytes
        };
    }

    /// From here on one direction can end before the other.
    pub(crate) fn parts_halves(&mut self) {
        self.halves = true;
    }

    /// Whether a byte or the end of the connection is there.
    pub(crate) fn poll_readable(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        if !self.early.is_empty() || self.stream.holds_bytes() {
            return Poll::Ready(Ok(()));
        }
        self.stream.tcp().poll_read_ready(cx)
    }

    fn poll_linger(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        if self.lingering.is_none() {
            ready!(Pin::new(&mut self.stream).poll_shutdown(cx))?;
        }
        let lingering = self.lingering.get_or_insert_with(|| Lingering {
            left: LINGER_BYTES,
            deadline: Box::pin(tokio::time::sleep(LINGER)),
        });
        let mut bytes = [0; 4096];
        while lingering.left > 0 && lingering.deadline.as_mut().poll(cx).is_pending() {
            let mut buffer = ReadBuf::new(&mut bytes);
            ready!(Pin::new(&mut self.stream).poll_read(cx, &mut buffer))?;
            if buffer.filled().is_empty() {
                break;
            }
            lingering.left = lingering.left.saturating_sub(buffer.filled().len() as u64);
        }
        Poll::Ready(Ok(()))
    }

    fn wrote(&mut self, told: Poll<io::Result<usize>>) -> Poll<io::Result<usize>> {
        match &told {
            Poll::Ready(Ok(count)) => {
                self.client.sent(*count);
                if self.unbounded > 0 {
                    self.unbounded = self.unbounded.saturating_sub(*count);
                    if self.unbounded == 0 {
                        let _ = SockRef::from(self.stream.tcp()).set_tcp_notsent_lowat(UNSENT);
                    }
                }
            }
            Poll::Ready(Err(_)) => {}
            Poll::Pending => self.client.blocks(),
        }
        told
    }
}

impl<S: Carrier> Drop for ClientSocket<S> {
    fn drop(&mut self) {
        if self.client.reset.get() {
            // A peer that reads to the end of the connection must not take this for the end.
            let _ = SockRef::from(self.stream.tcp()).set_linger(Some(Duration::ZERO));
        }
    }
}

impl<S: Carrier> AsyncRead for ClientSocket<S> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        if !self.early.is_empty() {
            let count = self.early.len().min(buffer.remaining());
            buffer.put_slice(&self.early[..count]);
            self.early.advance(count);
            return Poll::Ready(Ok(()));
        }
        let before = buffer.filled().len();
        ready!(Pin::new(&mut self.stream).poll_read(cx, buffer))?;
        let bytes = &buffer.filled()[before..];
        if bytes.is_empty() && !self.halves && self.budget.is_none() && self.client.half_closes() {
            // The library would end the connection, and with it the answer.
            return Poll::Pending;
        }
        self.client.received(bytes);
        let now = self.client.now();
        if let Some(budget) = &mut self.budget {
            let told = budget.feed(bytes, now);
            return Poll::Ready(told.map_err(io::Error::other));
        }
        Poll::Ready(Ok(()))
    }
}

impl<S: Carrier> AsyncWrite for ClientSocket<S> {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        let told = Pin::new(&mut self.stream).poll_write(cx, bytes);
        self.wrote(told)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let told = write_pieces(&mut self.stream, cx, bytes);
        self.wrote(told)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        if self.client.is_unread() && has_left(self.stream.tcp(), cx) {
            return Poll::Ready(Err(io::ErrorKind::ConnectionReset.into()));
        }
        let told = Pin::new(&mut self.stream).poll_flush(cx);
        match &told {
            Poll::Ready(Ok(())) => self.client.set_flushed(),
            Poll::Ready(Err(_)) => {}
            Poll::Pending => self.client.blocks(),
        }
        told
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        if self.client.reset.get() {
            return Poll::Ready(Ok(()));
        }
        if self.client.owes_body() || self.client.fault().is_some() {
            return self.poll_linger(cx);
        }
        if !self.halves && self.stream.ends_by_closing() {
            // The HTTP library has nothing more to say, and the socket is dropped next.
            return Poll::Ready(Ok(()));
        }
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }
}
