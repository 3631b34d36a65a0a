//! An upgraded connection: bytes both ways until both sides have ended.
//!
//! A tunnel begins only after the target answered 101. Bytes that came early,
//! on either side, go first. It stays with its target through a switch, until
//! the drain of its target comes to it:
//!
//! ```text
//!  Open ──cut──▶ Parting: wait for the end of a frame ──▶ close frame to the client
//!                 │      and for the target's answer        │
//!                 │ too long                                │ its answer goes to the target
//!                 └─────────────▶ end ◀─────────────────────┘ or it takes too long
//! ```
//!
//! A silent tunnel holds no buffer.

use std::future::{Future as _, poll_fn};
use std::io;
use std::mem::MaybeUninit;
use std::pin::{Pin, pin};
use std::task::{Context, Poll, ready};

use bytes::{Buf as _, Bytes, BytesMut};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;

use crate::client::Client;
use crate::frames::{Frames, close};
use crate::target::Kind;
use crate::ticket::Ticket;

/// Bytes that are moved at once.
const PIECE: usize = 16 * 1024;

/// How long a client may take for its part of the parting: one slow round trip.
const PARTING_MS: u64 = 5_000;

/// How long the target may take for its answer to what the client said last,
/// after which nobody waits for one: half of the parting.
const ANSWER_MS: u64 = PARTING_MS / 2;

/// What a client is told: the service restarts (RFC 6455, section 7.4.1, and its registry).
const RESTART: u16 = 1012;

/// The target's side of a tunnel, kept until the client's side is free.
#[derive(Debug)]
pub(crate) struct Tunnel {
    pub(crate) target: TcpStream,
    /// What the target sent right behind its answer.
    pub(crate) early: Bytes,
    /// Holds the target's count of open tunnels.
    pub(crate) ticket: Ticket,
    pub(crate) idle_ms: u64,
}

impl Tunnel {
    /// Carries bytes until both sides have ended, one has failed, both were
    /// silent too long, or the drain of the target has ended it.
    pub(crate) async fn run(
        mut self,
        client: &Client,
        mut socket: impl AsyncRead + AsyncWrite + Unpin,
        early: Bytes,
    ) {
        let target = self.ticket.hold().target();
        client.binds(target.clone(), Kind::Tunnel);
        client.moves(self.idle_ms);
        let mut ways = Ways {
            up: Way::new(early),
            down: Way::new(self.early.clone()),
            parting: None,
            owing: false,
        };
        let ended = poll_fn(|cx| {
            client.woken_by(cx.waker());
            match ways.poll(cx, client, &mut socket, &mut self.target) {
                Poll::Pending if client.must_close() => Poll::Ready(None),
                Poll::Pending => Poll::Pending,
                Poll::Ready(ended) => Poll::Ready(Some(ended)),
            }
        })
        .await;
        if ways.parting.is_some() {
            target.cutting().ended(Kind::Tunnel);
        }
        if let Some(Err(error)) = ended {
            tracing::debug!(%error, "a tunnel broke");
        }
    }
}

/// One direction.
#[derive(Debug)]
struct Way {
    /// What was read and not written yet.
    rest: Bytes,
    frames: Frames,
    /// The reader has come to its end.
    ended: bool,
    /// The writer was told so.
    told: bool,
    /// Bytes went this way since somebody looked.
    moved: bool,
}

impl Way {
    fn new(rest: Bytes) -> Self {
        Self {
            rest,
            frames: Frames::default(),
            ended: false,
            told: false,
            moved: false,
        }
    }

    /// Writes what is left, and tells how much.
    fn write(
        &mut self,
        cx: &mut Context<'_>,
        to: &mut (impl AsyncWrite + Unpin),
    ) -> Poll<io::Result<()>> {
        while !self.rest.is_empty() {
            let count = ready!(Pin::new(&mut *to).poll_write(cx, &self.rest))?;
            if count == 0 {
                return Poll::Ready(Err(io::ErrorKind::WriteZero.into()));
            }
            self.frames.feed(&self.rest[..count]);
            self.rest.advance(count);
        }
        self.rest = Bytes::new();
        Pin::new(to).poll_flush(cx)
    }

    /// Moves what there is; ready when this direction has ended and the writer knows.
    fn carry(
        &mut self,
        cx: &mut Context<'_>,
        from: &mut (impl AsyncRead + Unpin),
        to: &mut (impl AsyncWrite + Unpin),
        client: &Client,
    ) -> Poll<io::Result<()>> {
        loop {
            ready!(self.write(cx, to))?;
            if self.ended {
                if !self.told {
                    ready!(Pin::new(&mut *to).poll_shutdown(cx))?;
                    self.told = true;
                }
                return Poll::Ready(Ok(()));
            }
            let mut bytes = [const { MaybeUninit::uninit() }; PIECE];
            let mut buffer = ReadBuf::uninit(&mut bytes);
            ready!(Pin::new(&mut *from).poll_read(cx, &mut buffer))?;
            client.passes();
            let piece = buffer.filled();
            if piece.is_empty() {
                self.ended = true;
                continue;
            }
            self.moved = true;
            // Mostly the kernel takes all of it at once, and nothing is kept.
            let count = match Pin::new(&mut *to).poll_write(cx, piece) {
                Poll::Ready(count) => count?,
                Poll::Pending => 0,
            };
            self.frames.feed(&piece[..count]);
            if count < piece.len() {
                self.rest = BytesMut::from(&piece[count..]).freeze();
            }
        }
    }

    /// Reads and drops what comes; ready at the end.
    fn drop_all(
        &mut self,
        cx: &mut Context<'_>,
        from: &mut (impl AsyncRead + Unpin),
    ) -> Poll<io::Result<()>> {
        let mut bytes = [const { MaybeUninit::uninit() }; PIECE];
        while !self.ended {
            let mut buffer = ReadBuf::uninit(&mut bytes);
            ready!(Pin::new(&mut *from).poll_read(cx, &mut buffer))?;
            self.ended = buffer.filled().is_empty();
        }
        Poll::Ready(Ok(()))
    }
}

/// How far a parting has come.
#[derive(Debug)]
struct Parting {
    until: u64,
    /// Nothing is owed, as of the last look at all sockets.
    looked: bool,
    /// The close frame is on its way.
    said: bool,
}

/// Both directions.
#[derive(Debug)]
struct Ways {
    up: Way,
    down: Way,
    parting: Option<Parting>,
    /// The client said something, and nothing has come back since. Behind a close
    /// frame no answer may follow, so that one is not said just now.
    owing: bool,
}

impl Ways {
    fn poll(
        &mut self,
        cx: &mut Context<'_>,
        client: &Client,
        socket: &mut (impl AsyncRead + AsyncWrite + Unpin),
        target: &mut TcpStream,
    ) -> Poll<io::Result<()>> {
        if self.parting.is_none() && client.is_cut() {
            let until = client.now().saturating_add(PARTING_MS);
            self.parting = Some(Parting {
                until,
                looked: false,
                said: false,
            });
        }
        let Some(parting) = &mut self.parting else {
            let up = self.up.carry(cx, socket, target, client)?;
            let down = self.down.carry(cx, target, socket, client)?;
            self.owing = owes(&mut self.up, &mut self.down, self.owing);
            return match (up, down) {
                (Poll::Ready(()), Poll::Ready(())) => Poll::Ready(Ok(())),
                _ => Poll::Pending,
            };
        };
        if client.now() >= parting.until {
            return Poll::Ready(Ok(()));
        }
        let up = self.up.carry(cx, socket, target, client)?;
        if !parting.said {
            let down = self.down.carry(cx, target, socket, client)?;
            if down.is_ready() && up.is_ready() {
                return Poll::Ready(Ok(()));
            }
            self.owing = owes(&mut self.up, &mut self.down, self.owing);
            let waits = self.owing && client.now().saturating_add(ANSWER_MS) < parting.until;
            let clear = self.down.rest.is_empty() && self.down.frames.at_boundary();
            if waits || !clear || self.down.ended {
                parting.looked = false;
                return Poll::Pending;
            }
            if !parting.looked {
                // What the client said is known only from when the worker last asked the
                // kernel about all sockets; it does once more before this comes back.
                parting.looked = true;
                let mut turn = pin!(tokio::task::yield_now());
                let _ = turn.as_mut().poll(cx);
                return Poll::Pending;
            }
            parting.said = true;
            self.down.rest = Bytes::copy_from_slice(&close(RESTART));
        }
        ready!(self.down.write(cx, socket))?;
        let dropped = self.down.drop_all(cx, target)?;
        // The client's close frame has gone to the target, or the client is gone.
        let parted = up.is_ready() || self.up.rest.is_empty() && self.up.frames.is_closed();
        if parted && (dropped.is_ready() || up.is_ready()) {
            return Pin::new(socket).poll_shutdown(cx);
        }
        Poll::Pending
    }
}

/// Whether the target owes an answer after what has just moved. What came down
/// with something that went up is the answer to what went before.
fn owes(up: &mut Way, down: &mut Way, owed: bool) -> bool {
    let (asked, answered) = (
        std::mem::take(&mut up.moved),
        std::mem::take(&mut down.moved),
    );
    asked || owed && !answered
}
