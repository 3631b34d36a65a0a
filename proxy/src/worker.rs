//! One worker: a thread with a runtime of its own, and all that it owns.
//!
//! A connection stays with its worker. Nothing here is shared with another
//! worker but the snapshot that is read and the counts that are written in
//! lanes; the mailbox brings new connections and the switchboard's fences.

use std::cell::{Cell, RefCell};
use std::collections::HashMap;
use std::hash::{BuildHasher, Hasher, RandomState};
use std::net::SocketAddr;
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering::Relaxed};
use std::time::{Duration, Instant};

use arc_swap::{ArcSwap, Cache};
use http::{HeaderMap, HeaderValue};
use tokio::net::TcpStream;
use tokio::runtime::LocalOptions;
use tokio::sync::{mpsc, oneshot};
use tokio::time::MissedTickBehavior;

use crate::answer::After;
use crate::client::{Client, Patience, is_neighbour};
use crate::clock::{Clock, TICK, millis};
use crate::connection;
use crate::retry::Budgets;
use crate::route::{Pool, Route, Snapshot};
use crate::target::Hold;
use crate::ticket::Ticket;
use crate::upstream::{self, Care, Upstream};

/// How long a connection may be idle while others wait for a place.
const IDLE_WHEN_FULL_MS: u64 = 1_000;

/// Ticks between two sweeps of the idle connections to targets: about a second.
const TICKS_PER_SWEEP: u32 = 20;

/// What a worker is sent.
#[derive(Debug)]
pub(crate) enum Message {
    /// A client to serve.
    Client(std::net::TcpStream, SocketAddr),
    /// Close the idle connections to these targets and say so.
    Fence {
        close: Vec<u64>,
        done: oneshot::Sender<()>,
    },
    /// Serve what is open, and end.
    Stop,
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
#[derive(Debug, Clone)]
pub(crate) struct Settings {
    pub(crate) snapshot: Arc<ArcSwap<Snapshot>>,
    pub(crate) began: Instant,
    pub(crate) patience: Patience,
    pub(crate) linger: Duration,
    /// Set while no further connection can be taken.
    pub(crate) full: Arc<AtomicBool>,
}

/// See the module.
#[derive(Debug)]
pub(crate) struct Worker {
    index: usize,
    clock: Rc<Clock>,
    patience: Patience,
    snapshot: RefCell<Cache<Arc<ArcSwap<Snapshot>>, Arc<Snapshot>>>,
    upstreams: RefCell<upstream::Pool>,
    budgets: RefCell<Budgets>,
    turn: Cell<usize>,
    random: Cell<u64>,
    closing: Cell<bool>,
    clients: RefCell<HashMap<u64, Rc<Client>>>,
    next_client: Cell<u64>,
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
    let worker = Rc::new(Worker::new(index, settings, mailbox.clients));
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
    fn new(index: usize, settings: &Settings, open: Arc<AtomicUsize>) -> Self {
        Self {
            index,
            clock: Rc::new(Clock::new(settings.began)),
            patience: settings.patience,
            snapshot: RefCell::new(Cache::new(Arc::clone(&settings.snapshot))),
            upstreams: RefCell::default(),
            budgets: RefCell::default(),
            turn: Cell::new(index),
            random: Cell::new(RandomState::new().build_hasher().finish() | 1),
            closing: Cell::new(false),
            clients: RefCell::default(),
            next_client: Cell::new(0),
            open,
        }
    }

    fn take_message(self: &Rc<Self>, message: Message) {
        match message {
            Message::Client(stream, address) => {
                let _ = stream.set_nodelay(true);
                match TcpStream::from_std(stream) {
                    Ok(stream) => {
                        // Seated here and not in its task, so that a stop that comes
                        // next sees it.
                        let local = stream.local_addr().ok();
                        let neighbour = is_neighbour(address, local);
                        let seat = self.seat(address, neighbour);
                        tokio::task::spawn_local(connection::serve(seat, stream));
                    }
                    Err(error) => {
                        tracing::warn!(%error, "a client could not be taken");
                        self.open.fetch_sub(1, Relaxed);
                    }
                }
            }
            Message::Fence { close, done } => {
                let mut upstreams = self.upstreams.borrow_mut();
                close.iter().for_each(|&target| upstreams.close(target));
                let _ = done.send(());
            }
            Message::Stop => self.closing.set(true),
        }
    }

    fn tick(&self, settings: &Settings, count: u32) {
        self.clock.tick();
        let idle_ms = if self.closing.get() {
            Some(millis(settings.linger))
        } else {
            settings.full.load(Relaxed).then_some(IDLE_WHEN_FULL_MS)
        };
        for client in self.clients.borrow().values() {
            client.tick(idle_ms);
        }
        if count.is_multiple_of(TICKS_PER_SWEEP) {
            self.upstreams.borrow_mut().sweep(Instant::now());
            let mut snapshot = self.snapshot.borrow_mut();
            let snapshot = snapshot.load();
            self.budgets
                .borrow_mut()
                .keep(|app| snapshot.app(app).is_some());
        }
    }

    /// A place for a client, held until it leaves.
    fn seat(self: &Rc<Self>, address: SocketAddr, neighbour: bool) -> Seat {
        let number = self.next_client.get();
        self.next_client.set(number + 1);
        let clock = Rc::clone(&self.clock);
        let client = Rc::new(Client::new(address, neighbour, clock, self.patience));
        self.clients.borrow_mut().insert(number, Rc::clone(&client));
        Seat {
            worker: Rc::clone(self),
            number,
            client,
        }
    }

    /// The coarse time.
    pub(crate) fn now(&self) -> u64 {
        self.clock.now()
    }

    /// Whether a connection goes on after an answer that would let it.
    pub(crate) fn after(&self, wish: After) -> After {
        if self.closing.get() {
            After::Close
        } else {
            wish
        }
    }

    /// The route of a request, and its binding to a target unless none takes it.
    pub(crate) fn route(
        &self,
        host: &str,
        path: &str,
        begun: Instant,
    ) -> Option<(Arc<Route>, Option<Ticket>)> {
        let mut snapshot = self.snapshot.borrow_mut();
        let mut route = Arc::clone(snapshot.load().find(host, path)?);
        self.budgets.borrow_mut().pay_in(&route.app, begun);
        // A target may begin to drain between the look and the count; then the
        // table may be a newer one already.
        let mut hold = self.pick(&route, &[]);
        if hold.is_none() {
            route = Arc::clone(snapshot.load().find(host, path)?);
            hold = self.pick(&route, &[]);
        }
        let ticket =
            hold.map(|hold| Ticket::new(Arc::clone(&route.serving), hold, self.index, begun));
        Some((route, ticket))
    }

    /// Another target of an app for a request that did not reach one of `failed`,
    /// by the table that is in force now; one of them only where there is no other.
    pub(crate) fn bind_again(&self, app: &str, failed: &[u64]) -> Option<(Arc<Pool>, Hold)> {
        let mut snapshot = self.snapshot.borrow_mut();
        let route = snapshot.load().app(app)?;
        let hold = self.pick(route, failed)?;
        Some((Arc::clone(&route.serving), hold))
    }

    /// Counts a request in at the best target: one that did not fail, is not passed
    /// over, and has the least of this worker's requests.
    fn pick(&self, route: &Route, failed: &[u64]) -> Option<Hold> {
        let targets = &route.serving.targets;
        if let [only] = targets.as_slice() {
            return only.acquire(self.index);
        }
        let turn = self.turn.get().wrapping_add(1);
        self.turn.set(turn);
        let now = self.clock.now();
        let mut order: Vec<usize> = (0..targets.len()).collect();
        order.sort_by_key(|&place| {
            let target = &targets[place];
            let tried = failed.contains(&target.number());
            let behind = place.wrapping_sub(turn) % targets.len();
            (
                tried,
                target.is_ejected(now),
                target.load(self.index),
                behind,
            )
        });
        order
            .into_iter()
            .find_map(|place| targets[place].acquire(self.index))
    }

    /// An idle connection to a target.
    pub(crate) fn take(&self, target: u64, care: Care, now: Instant) -> Option<Box<Upstream>> {
        self.upstreams.borrow_mut().take(target, care, now)
    }

    /// Keeps a connection for the next request.
    pub(crate) fn keep(&self, target: u64, upstream: Box<Upstream>, now: Instant) {
        self.upstreams.borrow_mut().put(target, upstream, now);
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

    /// Splitmix64: names must differ, they need not be secret.
    fn next_random(&self) -> u64 {
        let state = self.random.get().wrapping_add(0x9E37_79B9_7F4A_7C15);
        self.random.set(state);
        let mixed = (state ^ (state >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        let mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        mixed ^ (mixed >> 31)
    }
}

/// The place of one client; dropping it frees the place, also when its task panics.
#[derive(Debug)]
pub(crate) struct Seat {
    worker: Rc<Worker>,
    number: u64,
    client: Rc<Client>,
}

impl Seat {
    /// The worker that serves it.
    pub(crate) fn worker(&self) -> &Rc<Worker> {
        &self.worker
    }

    /// The record of the client.
    pub(crate) fn client(&self) -> &Rc<Client> {
        &self.client
    }
}

impl Drop for Seat {
    fn drop(&mut self) {
        self.worker.clients.borrow_mut().remove(&self.number);
        self.worker.open.fetch_sub(1, Relaxed);
    }
}
