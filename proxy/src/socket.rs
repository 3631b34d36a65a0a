//! The two sockets of a request, and what is noticed as bytes pass.
//!
//! A client's socket shows each byte to the framing scanner and ends a refused
//! upload with a lingering read, so that the refusal is not lost in a reset. A
//! target's socket remembers whether the target has said anything yet, which
//! decides whether a request may be sent again.

use std::cell::{Cell, RefCell};
use std::io::{self, IoSlice};
use std::net::Shutdown;
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use rustix::net::RecvFlags;
use socket2::SockRef;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;

use crate::client::Client;

/// What a client may still send of a refused upload before it is cut off. It
/// covers what is on its way (a large socket buffer) and not a whole upload.
const LINGER_BYTES: u64 = 1024 * 1024;

/// How long it may take for that.
const LINGER: Duration = Duration::from_secs(2);

/// Below this, putting pieces together costs less than telling the kernel of each.
const COPIED: usize = 4096;

/// Writes pieces in one call: small ones as one piece, others as they are.
fn write_pieces(
    stream: &mut TcpStream,
    cx: &mut Context<'_>,
    pieces: &[IoSlice<'_>],
) -> Poll<io::Result<usize>> {
    if let [only] = pieces {
        return Pin::new(stream).poll_write(cx, only);
    }
    let mut whole = [0; COPIED];
    let mut length = 0;
    for piece in pieces {
        let Some(room) = whole.get_mut(length..length + piece.len()) else {
            return Pin::new(stream).poll_write_vectored(cx, pieces);
        };
        room.copy_from_slice(piece);
        length += piece.len();
    }
    Pin::new(stream).poll_write(cx, &whole[..length])
}

/// The socket of a client.
#[derive(Debug)]
pub(crate) struct ClientSocket {
    stream: TcpStream,
    client: Rc<Client>,
    lingering: Option<Lingering>,
}

#[derive(Debug)]
struct Lingering {
    left: u64,
    deadline: Pin<Box<tokio::time::Sleep>>,
}

impl ClientSocket {
    pub(crate) fn new(stream: TcpStream, client: Rc<Client>) -> Self {
        Self {
            stream,
            client,
            lingering: None,
        }
    }

    fn poll_linger(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let lingering = match &mut self.lingering {
            Some(lingering) => lingering,
            None => {
                SockRef::from(&self.stream).shutdown(Shutdown::Write)?;
                self.lingering.insert(Lingering {
                    left: LINGER_BYTES,
                    deadline: Box::pin(tokio::time::sleep(LINGER)),
                })
            }
        };
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
}

impl Drop for ClientSocket {
    fn drop(&mut self) {
        if self.client.reset.get() {
            // A peer that reads to the end of the connection must not take this for the end.
            let _ = SockRef::from(&self.stream).set_linger(Some(Duration::ZERO));
        }
    }
}

impl AsyncRead for ClientSocket {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let before = buffer.filled().len();
        ready!(Pin::new(&mut self.stream).poll_read(cx, buffer))?;
        self.client.received(&buffer.filled()[before..]);
        Poll::Ready(Ok(()))
    }
}

impl AsyncWrite for ClientSocket {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        let count = ready!(Pin::new(&mut self.stream).poll_write(cx, bytes))?;
        self.client.sent();
        Poll::Ready(Ok(count))
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let count = ready!(write_pieces(&mut self.stream, cx, bytes))?;
        self.client.sent();
        Poll::Ready(Ok(count))
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        if self.client.reset.get() {
            return Poll::Ready(Ok(()));
        }
        if self.client.owes_body() || self.client.fault().is_some() {
            return self.poll_linger(cx);
        }
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }
}

/// The socket of a target, shared by the HTTP library and by whom asks about it.
#[derive(Debug)]
pub(crate) struct Line {
    stream: RefCell<TcpStream>,
    heard: Cell<bool>,
}

impl Line {
    pub(crate) fn new(stream: TcpStream) -> Rc<Self> {
        Rc::new(Self {
            stream: RefCell::new(stream),
            heard: Cell::new(false),
        })
    }

    /// From here on a first byte is waited for.
    pub(crate) fn listen(&self) {
        self.heard.set(false);
    }

    /// Whether any byte came since.
    pub(crate) fn heard(&self) -> bool {
        self.heard.get()
    }

    /// Whether the target has neither closed nor said anything.
    pub(crate) fn is_quiet(&self) -> bool {
        let mut byte = [0_u8; 1];
        let flags = RecvFlags::PEEK | RecvFlags::DONTWAIT;
        let told = rustix::net::recv(&*self.stream.borrow(), &mut byte[..], flags);
        matches!(told, Err(rustix::io::Errno::AGAIN))
    }
}

/// What the HTTP library reads and writes a target by.
#[derive(Debug)]
pub(crate) struct TargetSocket {
    line: Rc<Line>,
}

impl TargetSocket {
    pub(crate) fn new(line: Rc<Line>) -> Self {
        Self { line }
    }
}

impl AsyncRead for TargetSocket {
    fn poll_read(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let before = buffer.filled().len();
        ready!(Pin::new(&mut *self.line.stream.borrow_mut()).poll_read(cx, buffer))?;
        if buffer.filled().len() > before {
            self.line.heard.set(true);
        }
        Poll::Ready(Ok(()))
    }
}

impl AsyncWrite for TargetSocket {
    fn poll_write(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut *self.line.stream.borrow_mut()).poll_write(cx, bytes)
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        write_pieces(&mut self.line.stream.borrow_mut(), cx, bytes)
    }

    fn is_write_vectored(&self) -> bool {
        true
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut *self.line.stream.borrow_mut()).poll_flush(cx)
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut *self.line.stream.borrow_mut()).poll_shutdown(cx)
    }
}
