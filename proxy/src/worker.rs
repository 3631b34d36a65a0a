//! One worker: a thread with a runtime of its own, and all that it owns.
//!
//! A connection stays with its worker. Nothing here is shared with another
//! worker but the snapshot that is read and the counts that are written in
//! lanes; the mailbox brings new connections and the switchboard's fences.

use std::cell::{Cell, RefCell};
use std::fmt;
use std::hash::{BuildHasher, Hasher, RandomState};
use std::net::{IpAddr, SocketAddr};
use std::rc::{Rc, Weak};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering::Relaxed};
use std::time::{Duration, Instant};

use arc_swap::{ArcSwap, Cache};
use base64::Engine as _;
use http::{HeaderMap, HeaderValue};
use tokio::net::TcpStream;
use tokio::runtime::LocalOptions;
use tokio::sync::{mpsc, oneshot};
use tokio::time::MissedTickBehavior;
use tokio_rustls::TlsAcceptor;

use crate::access_log::AccessLog;
use crate::answer::After;
use crate::client::{Client, Patience};
use crate::clock::{Clock, TICK, millis};
use crate::connection;
use crate::crowd::{Crowd, Stay};
use crate::door::Kind;
use crate::mirror::Mirrors;
use crate::numbers::NumberMap;
use crate::origin::Origin;
use crate::retry::Budgets;
use crate::route::Snapshot;
use crate::tally::{Event, Form, Tally};
use crate::upstream::{self, Care, End, Lines, Own, Shelf};

/// How long a connection may be idle while others wait for a place.
const IDLE_WHEN_FULL_MS: u64 = 1_000;

/// Ticks between two sweeps of the idle connections to targets: about a second.
const TICKS_PER_SWEEP: u32 = 20;

/// A client that was accepted.
#[derive(Debug)]
pub(crate) struct Arrival {
    pub(crate) stream: std::net::TcpStream,
    pub(crate) address: SocketAddr,
    /// What it speaks.
    pub(crate) kind: Kind,
    /// That it is counted among those of its address, unless a balancer is to say
    /// first who it is.
    pub(crate) stay: Option<Stay>,
}

/// What a worker is sent.
#[derive(Debug)]
pub(crate) enum Message {
    /// A client to serve.
    Client(Arrival),
    /// Close the idle connections to these targets and say so.
    Fence {
        close: Vec<u64>,
        done: oneshot::Sender<()>,
    },
    /// Serve what is open, and end. Idle connections are kept this long for the
    /// next request; told again, the last word counts.
    Stop(Duration),
}

/// The way to a worker.
#[derive(Debug, Clone)]
pub(crate) struct Mailbox {
    sender: mpsc::UnboundedSender<Message>,
    /// Clients that were sent to it and have not left.
    clients: Arc<AtomicUsize>,
}

impl Mailbox {
    /// A mailbox, and what its worker reads. Its length is bounded by the
    /// connections that may be open.
    pub(crate) fn new() -> (Self, mpsc::UnboundedReceiver<Message>) {
        let (sender, receiver) = mpsc::unbounded_channel();
        let clients = Arc::new(AtomicUsize::new(0));
        (Self { sender, clients }, receiver)
    }

    /// Sends a message; a worker that ended needs none.
    pub(crate) fn post(&self, message: Message) {
        if let Message::Client(..) = message {
            self.clients.fetch_add(1, Relaxed);
        }
        let _ = self.sender.send(message);
    }

    /// How many clients it serves.
    pub(crate) fn load(&self) -> usize {
        self.clients.load(Relaxed)
    }
}

/// What all workers are told at the start.
#[derive(Clone)]
pub(crate) struct Settings {
    pub(crate) tls: TlsAcceptor,
    pub(crate) tally: Arc<Tally>,
    pub(crate) log: AccessLog,
    pub(crate) snapshot: Arc<ArcSwap<Snapshot>>,
    pub(crate) began: Instant,
    pub(crate) patience: Patience,
    /// Set while no further connection can be taken.
    pub(crate) full: Arc<AtomicBool>,
    pub(crate) crowd: Arc<Crowd>,
}

/// What a record was of.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Was {
    /// A whole connection.
    Connection,
    /// One stream of it.
    Stream,
}

/// See the module.
pub(crate) struct Worker {
    index: usize,
    clock: Rc<Clock>,
    patience: RefCell<Rc<Patience>>,
    options: Patience,
    snapshot: RefCell<Cache<Arc<ArcSwap<Snapshot>>, Arc<Snapshot>>>,
    upstreams: RefCell<upstream::Pool>,
    mirrors: Rc<Mirrors>,
    budgets: RefCell<Budgets>,
    random: Cell<u64>,
    closing: Cell<bool>,
    clients: RefCell<NumberMap<Weak<Client>>>,
    linger: Cell<Duration>,
    next_client: Cell<u64>,
    me: Weak<Self>,
    tls: TlsAcceptor,
    tally: Arc<Tally>,
    log: AccessLog,
    crowd: Arc<Crowd>,
    open: Arc<AtomicUsize>,
}

/// Runs a worker until it was told to stop and its last client has left.
pub(crate) fn run(
    index: usize,
    settings: &Settings,
    mailbox: Mailbox,
    mut messages: mpsc::UnboundedReceiver<Message>,
) -> std::io::Result<()> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_io()
        .enable_time()
        .build_local(LocalOptions::default())?;
    let worker =
        Rc::new_cyclic(|me| Worker::new(index, settings, mailbox.clients, Weak::clone(me)));
    runtime.block_on(async {
        let mut ticks = tokio::time::interval(TICK);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut count = 0_u32;
        while !(worker.closing.get() && worker.clients.borrow().is_empty()) {
            tokio::select! {
                biased;
                message = messages.recv() => match message {
                    Some(message) => worker.take_message(message),
                    None => worker.closing.set(true),
                },
                _ = ticks.tick() => {
                    count = count.wrapping_add(1);
                    worker.tick(settings, count);
                }
            }
        }
    });
    Ok(())
}

impl Worker {
    fn new(index: usize, settings: &Settings, open: Arc<AtomicUsize>, me: Weak<Self>) -> Self {
        Self {
            index,
            clock: Rc::new(Clock::new(settings.began)),
            patience: RefCell::new(Rc::new(settings.patience)),
            options: settings.patience,
            snapshot: RefCell::new(Cache::new(Arc::clone(&settings.snapshot))),
            upstreams: RefCell::default(),
            mirrors: Mirrors::new(index),
            budgets: RefCell::default(),
            random: Cell::new(RandomState::new().build_hasher().finish() | 1),
            closing: Cell::new(false),
            linger: Cell::default(),
            clients: RefCell::default(),
            next_client: Cell::new(0),
            me,
            tls: settings.tls.clone(),
            tally: Arc::clone(&settings.tally),
            log: settings.log.clone(),
            crowd: Arc::clone(&settings.crowd),
            open,
        }
    }

    fn take_message(self: &Rc<Self>, message: Message) {
        match message {
            Message::Client(arrival) => {
                let kind = arrival.kind;
                match TcpStream::from_std(arrival.stream) {
                    Ok(stream) => {
                        // Seated here and not in its task, so that a stop that comes
                        // next sees it.
                        let local = || stream.local_addr().ok();
                        let origin = Origin::peer(arrival.address, local, kind.scheme);
                        let client = self.welcome(origin);
                        if let Some(stay) = arrival.stay {
                            client.stays(stay);
                        }
                        let serve = connection::serve(Rc::clone(self), client, stream, kind);
                        tokio::task::spawn_local(serve);
                    }
                    Err(error) => {
                        tracing::warn!(%error, "a client could not be taken");
                        self.open.fetch_sub(1, Relaxed);
                    }
                }
            }
            Message::Fence { close, done } => {
                // The table before is let go here, and not by the next request.
                self.snapshot(|_| ());
                let mut upstreams = self.upstreams.borrow_mut();
                for &target in &close {
                    upstreams.close(target);
                    self.mirrors.stop(target);
                }
                let _ = done.send(());
            }
            Message::Stop(linger) => {
                self.linger.set(linger);
                self.closing.set(true);
                self.each_client(Client::parts);
            }
        }
    }

    fn tick(&self, settings: &Settings, count: u32) {
        self.clock.tick();
        let idle_ms = if self.closing.get() {
            Some(millis(self.linger.get()))
        } else {
            settings.full.load(Relaxed).then_some(IDLE_WHEN_FULL_MS)
        };
        self.each_client(|client| client.tick(idle_ms));
        if count.is_multiple_of(TICKS_PER_SWEEP) {
            let now = Instant::now();
            self.upstreams.borrow_mut().sweep(now);
            self.mirrors.sweep(now);
            let mut snapshot = self.snapshot.borrow_mut();
            let snapshot = snapshot.load();
            self.budgets
                .borrow_mut()
                .keep(|app| snapshot.app(app).is_some());
        }
    }

    fn each_client(&self, mut look: impl FnMut(&Client)) {
        for client in self.clients.borrow().values() {
            if let Some(client) = client.upgrade() {
                look(&client);
            }
        }
    }

    /// The record of a client that was just accepted.
    fn welcome(&self, origin: Origin) -> Rc<Client> {
        let me = Weak::clone(&self.me);
        self.count(Event::Opened);
        let patience = self.patience();
        self.seat(|number| Client::new(origin, Rc::clone(&self.clock), patience, me, number))
    }

    /// Counts a connection among those of its address, as soon as that is known;
    /// none where it has too many.
    pub(crate) fn count_in(&self, address: IpAddr) -> Option<Stay> {
        let most = self.snapshot(|table| table.most_from(address));
        let stay = self.crowd.enter(address, most);
        if stay.is_none() {
            self.count(Event::OverCap);
        }
        stay
    }

    /// How long a client that comes now may be slow: as the table says, or else the
    /// options. All clients of a table share it.
    fn patience(&self) -> Rc<Patience> {
        let said = self.snapshot(Snapshot::head_ms);
        let head_ms = said.unwrap_or(self.options.head_ms);
        let mut patience = self.patience.borrow_mut();
        if patience.head_ms != head_ms {
            *patience = Rc::new(Patience {
                head_ms,
                ..self.options
            });
        }
        Rc::clone(&patience)
    }

    /// The record of a stream of a connection.
    pub(crate) fn stream(&self, connection: &Rc<Client>) -> Rc<Client> {
        self.seat(|number| connection.stream(number))
    }

    fn seat(&self, make: impl FnOnce(u64) -> Client) -> Rc<Client> {
        let number = self.next_client.get();
        self.next_client.set(number + 1);
        let client = Rc::new(make(number));
        let place = Rc::downgrade(&client);
        self.clients.borrow_mut().insert(number, place);
        client
    }

    /// A connection or stream is gone; called by its record.
    pub(crate) fn left(&self, number: u64, was: Was) {
        self.clients.borrow_mut().remove(&number);
        if was == Was::Connection {
            self.count(Event::Closed);
            self.open.fetch_sub(1, Relaxed);
        }
    }

    /// The coarse time.
    pub(crate) fn now(&self) -> u64 {
        self.clock.now()
    }

    /// The copies that it makes of requests.
    pub(crate) fn mirrors(&self) -> &Rc<Mirrors> {
        &self.mirrors
    }

    /// Counts something that belongs to no pool.
    pub(crate) fn count(&self, event: Event) {
        self.tally.count(self.index, event);
    }

    /// Counts a request that was refused for its form.
    pub(crate) fn refused(&self, form: Form) {
        self.tally.refused(self.index, form);
    }

    /// Where requests are written down.
    pub(crate) fn log(&self) -> &AccessLog {
        &self.log
    }

    /// Its number among the workers.
    pub(crate) fn index(&self) -> usize {
        self.index
    }

    /// What makes a connection one of TLS.
    pub(crate) fn tls(&self) -> &TlsAcceptor {
        &self.tls
    }

    /// Whether it was told to leave.
    pub(crate) fn is_closing(&self) -> bool {
        self.closing.get()
    }

    /// Whether a connection goes on after an answer that would let it. A stream
    /// has no say in it.
    pub(crate) fn after(&self, client: &Client, wish: After) -> After {
        if client.is_stream() {
            After::KeepAlive
        } else if self.closing.get() {
            After::Close
        } else {
            wish
        }
    }

    /// Looks at the table in force. What is done with it here is one step: no
    /// other table comes in between.
    pub(crate) fn snapshot<R>(&self, look: impl FnOnce(&Snapshot) -> R) -> R {
        look(self.snapshot.borrow_mut().load())
    }

    /// A request of the app was bound, which earns it a part of a repeat.
    pub(crate) fn pay_in(&self, app: &Arc<str>, now: Instant) {
        self.budgets.borrow_mut().pay_in(app, now);
    }

    /// An idle connection to a target.
    pub(crate) fn take(&self, target: u64, care: Care, now: Instant) -> Option<Box<Own>> {
        self.upstreams.borrow_mut().take(target, care, now)
    }

    /// Keeps a connection for the next request.
    pub(crate) fn keep(&self, target: u64, upstream: Box<Own>, now: Instant) {
        self.upstreams.borrow_mut().put(target, upstream, now);
    }

    /// Does something with the shared connections to a target.
    pub(crate) fn lines<R>(&self, target: u64, act: impl FnOnce(&mut Lines) -> R) -> R {
        act(self.upstreams.borrow_mut().shared(target))
    }

    /// A shared connection to a target has ended.
    pub(crate) fn line_ended(&self, target: u64, shelf: &Rc<Shelf>, end: End) {
        if let Some(lines) = self.upstreams.borrow_mut().known(target) {
            lines.ended(shelf, end, Instant::now());
        }
    }

    /// A target answered with these fields.
    pub(crate) fn told(&self, target: u64, headers: &HeaderMap) {
        self.upstreams.borrow_mut().told(target, headers);
    }

    /// A target closed a connection that we took for alive.
    pub(crate) fn surprised(&self, target: u64) {
        self.upstreams.borrow_mut().surprised(target);
    }

    /// Whether a request of the app may be sent once more.
    pub(crate) fn may_repeat(&self, app: &Arc<str>) -> bool {
        self.budgets.borrow_mut().take(app, Instant::now())
    }

    /// A name for a request that brought none.
    pub(crate) fn new_id(&self) -> HeaderValue {
        const DIGITS: &[u8; 16] = b"0123456789abcdef";
        let mut text = [0_u8; 32];
        for half in text.chunks_mut(16) {
            let mut word = self.next_random();
            for digit in half {
                *digit = DIGITS[(word & 15) as usize];
                word >>= 4;
            }
        }
        HeaderValue::from_bytes(&text).unwrap_or_else(|_| HeaderValue::from_static("none"))
    }

    /// A key for a WebSocket, of which nothing is asked but its form.
    pub(crate) fn new_key(&self) -> HeaderValue {
        let halves = [self.next_random(), self.next_random()];
        let bytes: Vec<u8> = halves.iter().flat_map(|half| half.to_be_bytes()).collect();
        let text = base64::engine::general_purpose::STANDARD.encode(bytes);
        HeaderValue::try_from(text).unwrap_or_else(|_| HeaderValue::from_static("none"))
    }

    /// Splitmix64: names must differ, they need not be secret.
    pub(crate) fn next_random(&self) -> u64 {
        let state = self.random.get().wrapping_add(0x9E37_79B9_7F4A_7C15);
        self.random.set(state);
        let mixed = (state ^ (state >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        let mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        mixed ^ (mixed >> 31)
    }
}

impl fmt::Debug for Worker {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Worker")
            .field("index", &self.index)
            .finish_non_exhaustive()
    }
}
