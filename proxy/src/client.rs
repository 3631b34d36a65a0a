//! One client connection, or one stream of HTTP/2, as seen by everything that serves it.
//!
//! The record tells what it is doing and until when it may, so that one tick of
//! the worker finds everything that is late. It reads and writes nothing itself.
//!
//! ```text
//!        bytes             head complete          answer's head           answer ended
//!  Idle ──────▶ Head ─────────────────▶ Waiting ───────────────▶ Moving ──────────────▶ Idle
//!   │            │                        │                        │
//!   └ idle       └ head timeout           └ 504 by the request     └ nothing moved, or the
//!     timeout: close   : close              itself                   client is slow: close
//! ```
//!
//! A connection of HTTP/2 is Waiting while it has streams; each of them has a
//! record of its own, which begins with its head and ends with its answer.
//!
//! Idle begins when the answer is in our hands whole. Until the kernel, or for a
//! stream the library, has all of it, the client is still waited for as in Moving.

use std::cell::{Cell, OnceCell, RefCell};
use std::rc::{Rc, Weak};
use std::sync::Arc;
use std::task::Waker;

use crate::clock::{Clock, millis};
use crate::crowd::Stay;
use crate::framing::{Fault, Scanner};
use crate::haste::Haste;
use crate::options::Options;
use crate::origin::Origin;
use crate::target::{Kind, Target};
use crate::tunnel::Tunnel;
use crate::worker::{Was, Worker};

/// How long a connection is idle before it gives its buffers back. Busy clients
/// come again sooner, and making them anew costs some microseconds.
const SHED_AFTER_MS: u64 = 250;

/// What a client may leave in our hands of the end of a stream's answer without being
/// watched: short answers are handed over whole, and their streams done with.
const MAX_LEFT: usize = 4 * 1024;

/// How long a client that ended its side is still listened for, while nothing of its
/// answer goes to it. One that left altogether looks the same, and what its target does
/// for it meanwhile is lost.
const HALF_CLOSED_MS: u64 = 5_000;

/// Not at all.
const NEVER: u64 = u64::MAX;

/// What a connection or stream is doing.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Phase {
    /// Between two requests.
    Idle,
    /// In the middle of a request's head, or of what comes before the first one.
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
    /// Bytes in a second that a body must move while the client holds it up; 0 asks for none.
    pub(crate) min_rate: u64,
    /// How long it may hold up a body beyond that.
    pub(crate) reserve_ms: u64,
}

impl Patience {
    /// As the options say, where no table says otherwise.
    pub(crate) fn new(options: &Options) -> Self {
        Self {
            head_ms: millis(options.head_timeout),
            idle_ms: millis(options.idle_timeout),
            min_rate: options.min_rate,
            reserve_ms: millis(options.patience),
        }
    }
}

/// What the record is of.
#[derive(Debug)]
enum Of {
    Connection,
    Stream(Rc<Client>),
}

/// See the module.
#[derive(Debug)]
pub(crate) struct Client {
    /// Set when the peer must see a reset rather than an end.
    pub(crate) reset: Cell<bool>,
    /// The other side of a connection that was upgraded.
    pub(crate) tunnel: RefCell<Option<Box<Tunnel>>>,
    of: Of,
    worker: Weak<Worker>,
    number: u64,
    origin: RefCell<Rc<Origin>>,
    clock: Rc<Clock>,
    scanner: RefCell<Scanner>,
    /// Requests that were taken from the connection.
    requests: Cell<u64>,
    phase: Cell<Phase>,
    upload: Cell<Upload>,
    /// Bytes of the request's body that have come.
    uploaded: Cell<u64>,
    since: Cell<u64>,
    deadline: Cell<u64>,
    moving_ms: Cell<u64>,
    haste: Haste,
    late: Cell<bool>,
    /// Streams that are open on this connection.
    streams: Cell<u32>,
    /// Bytes of the answer that were handed over on this stream and not taken.
    held: Cell<usize>,
    /// Whether its request waits in a lot.
    parked: Cell<bool>,
    /// Whether nothing of its request's body is read meanwhile.
    unread: Cell<bool>,
    /// Since when it has ended its side and taken nothing.
    half_closed: Cell<u64>,
    flushed: Cell<bool>,
    shed: Cell<bool>,
    /// What a long answer is bound to, which may have to end it.
    bound: RefCell<Option<(Arc<Target>, Kind)>>,
    waker: RefCell<Option<Waker>>,
    /// That it is counted among the connections of its address.
    stay: OnceCell<Stay>,
}

impl Client {
    /// The record of a connection that was just accepted; `number` is its place with the worker.
    pub(crate) fn new(
        origin: Origin,
        clock: Rc<Clock>,
        patience: Rc<Patience>,
        worker: Weak<Worker>,
        number: u64,
    ) -> Self {
        Self::make(
            Of::Connection,
            Rc::new(origin),
            clock,
            patience,
            worker,
            number,
        )
    }

    /// The record of a stream of this connection.
    pub(crate) fn stream(self: &Rc<Self>, number: u64) -> Self {
        self.streams.set(self.streams.get() + 1);
        self.waits(u64::MAX);
        let mut stream = Self::make(
            Of::Stream(Rc::clone(self)),
            self.origin(),
            Rc::clone(&self.clock),
            Rc::clone(self.haste.patience()),
            Weak::clone(&self.worker),
            number,
        );
        stream.scanner.get_mut().stop();
        stream
    }

    fn make(
        of: Of,
        origin: Rc<Origin>,
        clock: Rc<Clock>,
        patience: Rc<Patience>,
        worker: Weak<Worker>,
        number: u64,
    ) -> Self {
        let now = clock.now();
        Self {
            reset: Cell::new(false),
            tunnel: RefCell::new(None),
            of,
            worker,
            number,
            origin: RefCell::new(origin),
            clock,
            scanner: RefCell::new(Scanner::new()),
            requests: Cell::new(0),
            phase: Cell::new(Phase::Idle),
            upload: Cell::new(Upload::Done),
            uploaded: Cell::new(0),
            since: Cell::new(now),
            deadline: Cell::new(now.saturating_add(patience.idle_ms)),
            moving_ms: Cell::new(0),
            haste: Haste::new(patience),
            late: Cell::new(false),
            streams: Cell::new(0),
            held: Cell::new(0),
            parked: Cell::new(false),
            unread: Cell::new(false),
            half_closed: Cell::new(NEVER),
            flushed: Cell::new(true),
            shed: Cell::new(true),
            bound: RefCell::new(None),
            waker: RefCell::new(None),
            stay: OnceCell::new(),
        }
    }

    /// Who it is.
    pub(crate) fn origin(&self) -> Rc<Origin> {
        Rc::clone(&self.origin.borrow())
    }

    /// A header before the first request told who it really is.
    pub(crate) fn set_origin(&self, origin: Origin) {
        self.origin.replace(Rc::new(origin));
    }

    /// It is counted among the connections of its address.
    pub(crate) fn stays(&self, stay: Stay) {
        // A connection has one address; what would come later is given back at once.
        let _ = self.stay.set(stay);
    }

    /// Whether this is a stream of HTTP/2.
    pub(crate) fn is_stream(&self) -> bool {
        matches!(self.of, Of::Stream(_))
    }

    fn enter(&self, phase: Phase, allowed_ms: u64) {
        let now = self.clock.now();
        self.phase.set(phase);
        self.since.set(now);
        self.deadline.set(now.saturating_add(allowed_ms));
        self.late.set(false);
    }

    /// Something must come before the first request, in `allowed_ms`.
    pub(crate) fn greets(&self, allowed_ms: u64) {
        self.enter(Phase::Head, allowed_ms);
    }

    /// Bytes came from the client.
    pub(crate) fn received(&self, bytes: &[u8]) {
        let mut scanner = self.scanner.borrow_mut();
        scanner.feed(bytes);
        match self.phase.get() {
            Phase::Idle if scanner.in_head() => self.enter(Phase::Head, self.patience().head_ms),
            Phase::Moving => self.moved(),
            Phase::Idle | Phase::Head | Phase::Waiting => {}
        }
    }

    /// Bytes went to the client.
    pub(crate) fn sent(&self, count: usize) {
        if self.half_closed.get() != NEVER {
            self.half_closed.set(self.clock.now());
        }
        if self.is_taking() {
            self.moved();
            self.haste.moved(count as u64, self.clock.now());
            self.haste.goes_on(self.clock.now());
        }
    }

    /// Bytes went through a tunnel.
    pub(crate) fn passes(&self) {
        if self.phase.get() == Phase::Moving {
            self.moved();
        }
    }

    /// The client does not take what is there for it.
    pub(crate) fn blocks(&self) {
        if self.is_taking() {
            self.haste.waits(self.clock.now());
        }
    }

    /// All that was to be sent is with the kernel.
    pub(crate) fn set_flushed(&self) {
        if !self.flushed.replace(true) && self.phase.get() == Phase::Idle {
            // From here on it is idle; before, the client took the end of its answer.
            self.haste.goes_on(self.clock.now());
            self.enter(Phase::Idle, self.patience().idle_ms);
        }
    }

    /// Whether the client takes an answer, or the end of one that we have whole.
    fn is_taking(&self) -> bool {
        match self.phase.get() {
            Phase::Moving => true,
            Phase::Idle => !self.flushed.get(),
            Phase::Head | Phase::Waiting => false,
        }
    }

    /// A piece of the answer is handed over on this stream, for the client to take.
    pub(crate) fn hands(&self, count: usize) {
        self.held.set(self.held.get().saturating_add(count));
        self.haste.waits(self.clock.now());
    }

    /// The client took so much of what was handed over on this stream.
    pub(crate) fn takes(&self, count: usize) {
        self.sent(count);
        self.lets_go(count);
    }

    /// So much of what was handed over on this stream is not held any more.
    pub(crate) fn lets_go(&self, count: usize) {
        let before = self.held.get();
        let left = before.saturating_sub(count);
        self.held.set(left);
        if left > 0 {
            self.haste.waits(self.clock.now());
        } else {
            self.haste.goes_on(self.clock.now());
            self.set_flushed();
        }
        if before > MAX_LEFT && left <= MAX_LEFT {
            self.wake();
        }
    }

    /// Whether so much is held of the answer that its end is kept back: a stream whose
    /// end was handed over cannot be reset. Its task is woken when it is less.
    pub(crate) fn is_behind(&self) -> bool {
        self.held.get() > MAX_LEFT
    }

    fn patience(&self) -> &Patience {
        self.haste.patience()
    }

    fn moved(&self) {
        let allowed_ms = match self.phase.get() {
            Phase::Moving => self.moving_ms.get(),
            _ => self.patience().idle_ms,
        };
        self.deadline
            .set(self.clock.now().saturating_add(allowed_ms));
    }

    /// A request is in hand and must be answered or go on in `allowed_ms`.
    pub(crate) fn waits(&self, allowed_ms: u64) {
        self.enter(Phase::Waiting, allowed_ms);
    }

    /// A body or tunnel moves, and may stand still for `idle_ms`.
    pub(crate) fn moves(&self, idle_ms: u64) {
        self.moving_ms.set(idle_ms);
        self.haste.begin();
        self.enter(Phase::Moving, idle_ms);
    }

    /// The answer was handed over whole.
    pub(crate) fn rests(&self) {
        self.flushed.set(false);
        self.bound.take();
        if self.scanner.borrow().in_head() {
            self.enter(Phase::Head, self.patience().head_ms);
        } else {
            self.enter(Phase::Idle, self.patience().idle_ms);
        }
    }

    /// A long answer of this target goes through here.
    pub(crate) fn binds(&self, target: Arc<Target>, kind: Kind) {
        self.bound.replace(Some((target, kind)));
    }

    /// Whether the drain of its target has come to this answer.
    pub(crate) fn is_cut(&self) -> bool {
        let bound = self.bound.borrow();
        bound.as_ref().is_some_and(|(target, kind)| {
            // The number spreads the clients over the drain's time.
            let now = self.clock.now();
            target.cutting().reaches(*kind, self.number, now)
        })
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

    /// Bytes of the request's body came.
    pub(crate) fn uploads(&self, bytes: u64) {
        self.uploaded.set(self.uploaded.get().saturating_add(bytes));
    }

    /// How many bytes of the request's body have come; the count begins anew.
    pub(crate) fn take_uploaded(&self) -> u64 {
        self.uploaded.take()
    }

    /// How fast the request's body comes.
    pub(crate) fn haste(&self) -> &Haste {
        &self.haste
    }

    /// The coarse time.
    pub(crate) fn now(&self) -> u64 {
        self.clock.now()
    }

    /// Whether a request waited longer than it may; the request asks.
    pub(crate) fn request_is_late(&self) -> bool {
        self.late.get() && self.phase.get() == Phase::Waiting
    }

    /// Whether the connection must be closed at once, or the stream reset.
    pub(crate) fn must_close(&self) -> bool {
        self.late.get() && self.phase.get() != Phase::Waiting
    }

    /// Whether it was idle for long, and nothing of it is left in a buffer. What is
    /// only read away is no idle connection: its bytes must never be read as a request.
    pub(crate) fn may_shed(&self) -> bool {
        self.phase.get() == Phase::Idle
            && self.flushed.get()
            && self.clock.now().saturating_sub(self.since.get()) >= SHED_AFTER_MS
            && !self.owes_body()
            && self.fault().is_none()
    }

    /// Bytes are there that are no request yet, such as an empty line before one: a
    /// head has begun, and takes no longer than any.
    pub(crate) fn begins(&self) {
        if self.phase.get() == Phase::Idle {
            self.enter(Phase::Head, self.patience().head_ms);
        }
    }

    /// The client ended its side. Whether it may listen still: its request is there
    /// whole, and its answer on the way. It is woken when it may no more.
    pub(crate) fn half_closes(&self) -> bool {
        let scanner = self.scanner.borrow();
        let whole = !scanner.in_head() && !scanner.in_body();
        let answering = matches!(self.phase.get(), Phase::Waiting | Phase::Moving)
            // The library has its head, and we are asked next.
            || scanner.heads() > self.requests.get();
        if !whole || !answering {
            return false;
        }
        if self.half_closed.get() == NEVER {
            self.half_closed.set(self.clock.now());
        }
        !self.has_left()
    }

    /// Whether a client that ended its side is taken for gone.
    fn has_left(&self) -> bool {
        let since = self.half_closed.get();
        let taken_nothing = self.clock.now().saturating_sub(since);
        since != NEVER && (self.parked.get() || taken_nothing >= HALF_CLOSED_MS)
    }

    /// Its request waits in a lot, or does not any more.
    pub(crate) fn set_parked(&self, parked: bool) {
        self.parked.set(parked);
    }

    /// Its request is held with a body that is not read, or is not any more.
    pub(crate) fn set_unread(&self, unread: bool) {
        self.unread.set(unread);
    }

    /// Whether nobody reads from it, so that whether it has left must be looked for.
    pub(crate) fn is_unread(&self) -> bool {
        self.unread.get()
    }

    /// Whether buffers are held for it.
    pub(crate) fn set_shed(&self, shed: bool) {
        self.shed.set(shed);
    }

    /// Why bytes of this connection are refused, those of requests to come included.
    pub(crate) fn fault(&self) -> Option<Fault> {
        self.scanner.borrow().fault()
    }

    /// The next request is in hand; the fault for which it must be refused. To be
    /// called once for each request, in their order.
    pub(crate) fn take_request(&self) -> Option<Fault> {
        let number = self.requests.get();
        self.requests.set(number + 1);
        self.scanner.borrow().fault_of(number)
    }

    /// The fault of the request in hand, which may be in its body: nothing more of
    /// it may be passed on, its end least of all.
    pub(crate) fn request_fault(&self) -> Option<Fault> {
        let number = self.requests.get().saturating_sub(1);
        self.scanner.borrow().fault_of(number)
    }

    /// Whether a request is there that nobody reads to its end: the rest of a body, or
    /// a head that the library refused by itself. What comes of it must be read away,
    /// or the refusal, and the answer before it, would be lost in a reset.
    pub(crate) fn owes_body(&self) -> bool {
        let scanner = self.scanner.borrow();
        scanner.in_body() || scanner.in_head() || scanner.heads() > self.requests.get()
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

    /// It is to leave: what is idle is listened to from now on for the time that
    /// [`Self::tick`] is told.
    pub(crate) fn parts(&self) {
        if self.phase.get() == Phase::Idle {
            self.since.set(self.clock.now());
        }
        self.wake();
    }

    /// Has it looked at again.
    pub(crate) fn wake(&self) {
        let waker = self.waker.borrow();
        if let Some(waker) = waker.as_ref() {
            waker.wake_by_ref();
        }
    }

    /// Wakes it if it is late, may shed its buffers, or is to be cut; idle ones
    /// are late after `idle_ms` already.
    pub(crate) fn tick(&self, idle_ms: Option<u64>) {
        let now = self.clock.now();
        let mut deadline = self.deadline.get();
        let mut slow = false;
        match self.phase.get() {
            Phase::Idle if !self.flushed.get() => slow = self.haste.is_too_slow(now),
            Phase::Idle => {
                if let Some(idle_ms) = idle_ms {
                    deadline = deadline.min(self.since.get().saturating_add(idle_ms));
                }
                if !self.shed.get() && self.may_shed() {
                    self.wake();
                }
            }
            Phase::Moving => slow = self.haste.is_too_slow(now),
            Phase::Waiting => {
                slow = self.upload.get() == Upload::FromClient && self.haste.is_too_slow(now);
                if self.unread.get() {
                    self.wake();
                }
            }
            Phase::Head => {}
        }
        if (now >= deadline || slow) && !self.late.replace(true) {
            self.wake();
        }
        if self.is_cut() || self.has_left() {
            self.wake();
        }
    }

    fn stream_ended(&self) {
        let left = self.streams.get().saturating_sub(1);
        self.streams.set(left);
        if left == 0 && self.phase.get() == Phase::Waiting {
            self.rests();
            // What its streams had to say is with the kernel, or given up.
            self.flushed.set(true);
        }
    }
}

impl Drop for Client {
    fn drop(&mut self) {
        if let Some(worker) = self.worker.upgrade() {
            let was = match self.of {
                Of::Connection => Was::Connection,
                Of::Stream(_) => Was::Stream,
            };
            worker.left(self.number, was);
        }
        if let Of::Stream(connection) = &self.of {
            connection.stream_ended();
        }
    }
}
