//! One client connection as seen by everything that serves it.
//!
//! The record tells what the connection is doing and until when it may, so that
//! one tick of the worker finds every connection that is late. It reads and
//! writes nothing itself.
//!
//! ```text
//!        bytes             head complete          answer's head           answer ended
//!  Idle ──────▶ Head ─────────────────▶ Waiting ───────────────▶ Moving ──────────────▶ Idle
//!   │            │                        │                        │
//!   └ idle       └ head timeout           └ 504 by the request     └ nothing moved:
//!     timeout: close   : close              itself                    close
//! ```

use std::cell::{Cell, RefCell};
use std::net::SocketAddr;
use std::rc::Rc;
use std::task::Waker;
use std::time::Duration;

use http::HeaderValue;

use crate::clock::{Clock, millis};
use crate::framing::{Fault, Scanner};
use crate::tunnel::Tunnel;

/// What a connection is doing.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Phase {
    /// Between two requests.
    Idle,
    /// In the middle of a request's head.
    Head,
    /// In a request that watches its own deadline.
    Waiting,
    /// In a body or tunnel; each byte moves the deadline.
    Moving,
}

/// How far the body of the request in hand has come.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Upload {
    /// Sent whole, or there is none.
    Done,
    /// The client owes the next bytes.
    FromClient,
    /// The target takes the bytes we have.
    ToTarget,
    /// It is larger than the route allows.
    TooLarge,
    /// The client broke it off or broke its form.
    Broken,
}

/// How long a client may be slow.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Patience {
    /// For the head of a request.
    pub(crate) head_ms: u64,
    /// Between two requests.
    pub(crate) idle_ms: u64,
}

impl Patience {
    pub(crate) fn new(head: Duration, idle: Duration) -> Self {
        Self {
            head_ms: millis(head),
            idle_ms: millis(idle),
        }
    }
}

/// Whether a peer is on this host: at loopback, or at the very address it is
/// connected to, as the host's own programs are with a listener that has no
/// loopback address. The kernel lets no packet with one of its own addresses
/// as the source in from outside.
pub(crate) fn is_neighbour(peer: SocketAddr, local: Option<SocketAddr>) -> bool {
    let peer = peer.ip().to_canonical();
    peer.is_loopback() || local.is_some_and(|local| local.ip().to_canonical() == peer)
}

/// See the module.
#[derive(Debug)]
pub(crate) struct Client {
    /// Where it comes from.
    pub(crate) address: SocketAddr,
    /// It comes from this host, see [`is_neighbour`].
    pub(crate) neighbour: bool,
    /// The address as targets are told it.
    pub(crate) forwarded_for: HeaderValue,
    /// Set when the peer must see a reset rather than an end.
    pub(crate) reset: Cell<bool>,
    /// The other side of a connection that was upgraded.
    pub(crate) tunnel: RefCell<Option<Box<Tunnel>>>,
    clock: Rc<Clock>,
    patience: Patience,
    scanner: RefCell<Scanner>,
    phase: Cell<Phase>,
    upload: Cell<Upload>,
    since: Cell<u64>,
    deadline: Cell<u64>,
    moving_ms: Cell<u64>,
    late: Cell<bool>,
    waker: RefCell<Option<Waker>>,
}

impl Client {
    /// The record of a connection that was just accepted.
    pub(crate) fn new(
        address: SocketAddr,
        neighbour: bool,
        clock: Rc<Clock>,
        patience: Patience,
    ) -> Self {
        let text = address.ip().to_canonical().to_string();
        let now = clock.now();
        Self {
            address,
            neighbour,
            forwarded_for: HeaderValue::from_str(&text)
                .unwrap_or_else(|_| HeaderValue::from_static("unknown")),
            reset: Cell::new(false),
            tunnel: RefCell::new(None),
            clock,
            patience,
            scanner: RefCell::new(Scanner::new()),
            phase: Cell::new(Phase::Idle),
            upload: Cell::new(Upload::Done),
            since: Cell::new(now),
            deadline: Cell::new(now.saturating_add(patience.idle_ms)),
            moving_ms: Cell::new(0),
            late: Cell::new(false),
            waker: RefCell::new(None),
        }
    }

    fn enter(&self, phase: Phase, allowed_ms: u64) {
        let now = self.clock.now();
        self.phase.set(phase);
        self.since.set(now);
        self.deadline.set(now.saturating_add(allowed_ms));
        self.late.set(false);
    }

    /// Bytes came from the client.
    pub(crate) fn received(&self, bytes: &[u8]) {
        let mut scanner = self.scanner.borrow_mut();
        scanner.feed(bytes);
        match self.phase.get() {
            Phase::Idle if scanner.in_head() => self.enter(Phase::Head, self.patience.head_ms),
            Phase::Moving => self.moved(),
            Phase::Idle | Phase::Head | Phase::Waiting => {}
        }
    }

    /// Bytes went to the client.
    pub(crate) fn sent(&self) {
        if self.phase.get() == Phase::Moving {
            self.moved();
        }
    }

    fn moved(&self) {
        let deadline = self.clock.now().saturating_add(self.moving_ms.get());
        self.deadline.set(deadline);
    }

    /// A request is in hand and must be answered or go on in `allowed_ms`.
    pub(crate) fn waits(&self, allowed_ms: u64) {
        self.enter(Phase::Waiting, allowed_ms);
    }

    /// A body or tunnel moves, and may stand still for `idle_ms`.
    pub(crate) fn moves(&self, idle_ms: u64) {
        self.moving_ms.set(idle_ms);
        self.enter(Phase::Moving, idle_ms);
    }

    /// The answer was handed over whole.
    pub(crate) fn rests(&self) {
        if self.scanner.borrow().in_head() {
            self.enter(Phase::Head, self.patience.head_ms);
        } else {
            self.enter(Phase::Idle, self.patience.idle_ms);
        }
    }

    /// What it is doing.
    pub(crate) fn phase(&self) -> Phase {
        self.phase.get()
    }

    /// How far the request's body has come.
    pub(crate) fn upload(&self) -> Upload {
        self.upload.get()
    }

    /// The request's body went on.
    pub(crate) fn set_upload(&self, upload: Upload) {
        self.upload.set(upload);
    }

    /// Whether a request waited longer than it may; the request asks.
    pub(crate) fn request_is_late(&self) -> bool {
        self.late.get() && self.phase.get() == Phase::Waiting
    }

    /// Whether the connection must be closed at once.
    pub(crate) fn must_close(&self) -> bool {
        self.late.get() && self.phase.get() != Phase::Waiting
    }

    /// Why the bytes of this connection are refused.
    pub(crate) fn fault(&self) -> Option<Fault> {
        self.scanner.borrow().fault()
    }

    /// Whether a request's body is still to be read.
    pub(crate) fn owes_body(&self) -> bool {
        self.scanner.borrow().in_body()
    }

    /// From here on the bytes are no requests.
    pub(crate) fn is_no_http(&self) {
        self.scanner.borrow_mut().stop();
    }

    /// Remembers whom to wake when it is late.
    pub(crate) fn woken_by(&self, waker: &Waker) {
        let mut kept = self.waker.borrow_mut();
        if !kept.as_ref().is_some_and(|kept| kept.will_wake(waker)) {
            *kept = Some(waker.clone());
        }
    }

    /// Wakes the connection if it is late; idle ones are late after `idle_ms` already.
    pub(crate) fn tick(&self, idle_ms: Option<u64>) {
        let now = self.clock.now();
        let mut deadline = self.deadline.get();
        if let (Phase::Idle, Some(idle_ms)) = (self.phase.get(), idle_ms) {
            deadline = deadline.min(self.since.get().saturating_add(idle_ms));
        }
        if now >= deadline && !self.late.replace(true) {
            let waker = self.waker.borrow();
            if let Some(waker) = waker.as_ref() {
                waker.wake_by_ref();
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(peer: &str, local: &str, expected: bool) {
        let local = local.parse().ok();
        assert_eq!(
            is_neighbour(peer.parse().unwrap(), local),
            expected,
            "{peer} at {local:?}"
        );
    }

    #[test]
    fn a_peer_at_loopback_or_at_our_own_address_is_on_this_host() {
        check("127.0.0.1:50000", "127.0.0.1:80", true);
        check("127.0.0.2:50000", "192.0.2.1:80", true);
        check("[::1]:50000", "[::1]:80", true);
        check("[::ffff:127.0.0.1]:50000", "unknown", true);
        check("192.0.2.1:50000", "192.0.2.1:80", true);
        check("[2001:db8::1]:50000", "[2001:db8::1]:80", true);
        check("[::ffff:192.0.2.1]:50000", "192.0.2.1:80", true);
        check("192.0.2.2:50000", "192.0.2.1:80", false);
        check("[2001:db8::2]:50000", "[2001:db8::1]:80", false);
        check("192.0.2.1:50000", "unknown", false);
    }
}
