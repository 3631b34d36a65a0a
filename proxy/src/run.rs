//! The process: starts the parts in order, waits for its end, ends them in order.
//!
//! ```text
//!  start: table ─▶ workers ─▶ control socket ─▶ [the instance before yields] ─▶ acceptors ─▶ READY
//!  stop:  signal ─▶ STOPPING ─▶ acceptors end ─▶ workers end or grace passes ─▶ exit
//!  yield: taken over ─▶ acceptors end ─▶ workers end or max-drain passes ─▶ exit
//! ```

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::thread;
use std::time::Duration;

use arc_swap::ArcSwap;
use rustix::process::{Resource, getrlimit, setrlimit};
use sd_notify::NotifyState;
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::sync::{mpsc, oneshot, watch};
use tokio::time::timeout;

use crate::accept::{Doors, Lobby, Reception};
use crate::access_log::{AccessLog, Place};
use crate::admin::Admin;
use crate::client::Patience;
use crate::control::{Control, ControlError, Desk};
use crate::crowd::Crowd;
use crate::listen::{self, ListenError, Listener, listeners};
use crate::options::Options;
use crate::peer::{Allowed, UnknownGroup};
use crate::store::{Store, StoreError, chain};
use crate::switchboard::Switchboard;
use crate::takeover::{self, Offer, StateLock, Takeover, TakeoverError, Yielding};
use crate::tls::{NoChance, Tls, keep_fresh};
use crate::worker::{self, Mailbox, Message, Settings};

/// How long the successor may take to put its control socket in the place of ours
/// before we end; it waits for nothing meanwhile.
const LAST_WORD: Duration = Duration::from_secs(20);

/// The last part of the time to end in, in which what would not end by itself is
/// ended: as long as a client may take for its part, and time to spread them over.
const PARTING: Duration = Duration::from_secs(15);

/// Why the program could not begin or go on.
#[derive(Debug, thiserror::Error)]
pub enum RunError {
    /// There is nothing to listen on.
    #[error("could not open the front door")]
    Listen(#[from] ListenError),
    /// The directory of the table cannot be used.
    #[error("could not open the state directory")]
    Store(#[from] StoreError),
    /// The control socket could not be made.
    #[error("could not open the control socket")]
    Control(#[from] ControlError),
    /// The group of the control socket is not known.
    #[error("could not resolve the control group")]
    Group(#[from] UnknownGroup),
    /// The keys of TLS could not be made.
    #[error("could not prepare for TLS")]
    Chance(#[from] NoChance),
    /// The library of TLS refused its settings.
    #[error("could not set up TLS")]
    Tls(#[from] rustls::Error),
    /// The running instance could not be taken over, or is in the way; it goes on.
    #[error("could not be the instance that serves")]
    Takeover(#[from] TakeoverError),
    /// The system refused a thread, a descriptor or a signal.
    #[error("could not set up the process")]
    System(#[from] io::Error),
}

/// The threads that serve.
struct Crew {
    mailboxes: Vec<Mailbox>,
    ended: Vec<oneshot::Receiver<()>>,
}

/// The signals that end the process.
struct Signals {
    terminate: Signal,
    interrupt: Signal,
}

/// How serving ended.
enum Ending {
    /// By a signal.
    Told,
    /// Another instance serves from now on.
    Yielded(Yielding),
}

/// What a process is made of when it begins to serve.
struct Parts {
    listeners: Vec<Listener>,
    takeover: Option<Takeover>,
    lock: StateLock,
    allowed: Allowed,
    switchboard: Arc<Switchboard>,
    tls: Tls,
    log: AccessLog,
    lobby: Lobby,
}

/// Runs the proxy until SIGTERM or SIGINT, or until another instance took over.
pub fn run(options: Options) -> Result<(), RunError> {
    if rustix::process::geteuid().is_root() {
        tracing::warn!("running as root: the proxy needs no privilege but its sockets");
    }
    raise_descriptors();
    let allowed = Allowed::new(
        options.control_uid.clone(),
        options.control_group.as_deref(),
    )?;
    let store = Store::open(&options.state)?;
    let passed = listen::passed()?;
    let begun = takeover::begin(options.takeover.as_deref(), &options.state, &store)?;
    let (takeover, lock) = (begun.takeover, begun.lock);
    let listeners = listeners(passed, &options.listen, begun.listeners)?;
    let before = match &takeover {
        Some(takeover) => takeover.before(),
        None => takeover::left_behind(&options.control),
    };
    let secrets = takeover.as_ref().map(Takeover::secrets).unwrap_or_default();
    let tls = Tls::new(&secrets)?;
    let snapshot = Arc::new(ArcSwap::default());
    let count = options.workers.unwrap_or_else(processors).max(1);
    let (mailboxes, inboxes): (Vec<_>, Vec<_>) = (0..count).map(|_| Mailbox::new()).unzip();
    // The table is in force before the first worker routes by it.
    let switchboard = Arc::new(Switchboard::new(
        store,
        Arc::clone(&snapshot),
        mailboxes.clone(),
        Arc::clone(tls.certificates()),
        before,
    ));
    let log = access_log(&options, &switchboard)?;
    let lobby = Lobby {
        workers: mailboxes.clone(),
        max: options.max_connections,
        full: Arc::new(AtomicBool::new(false)),
        crowd: Arc::new(Crowd::default()),
        snapshot: Arc::clone(&snapshot),
        tally: Arc::clone(switchboard.tally()),
    };
    let settings = Settings {
        tls: tls.acceptor()?,
        snapshot,
        began: switchboard.tally().began(),
        patience: Patience::new(&options),
        full: Arc::clone(&lobby.full),
        crowd: Arc::clone(&lobby.crowd),
        tally: Arc::clone(switchboard.tally()),
        log: log.clone(),
    };
    let crew = hire(&settings, mailboxes, inboxes)?;
    let parts = Parts {
        listeners,
        takeover,
        lock,
        allowed,
        switchboard,
        tls,
        log,
        lobby,
    };
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()?;
    runtime.block_on(serve(&options, parts, crew))
}

async fn serve(options: &Options, parts: Parts, mut crew: Crew) -> Result<(), RunError> {
    let mut signals = Signals::new()?;
    let board = Arc::clone(&parts.switchboard);
    let (offer, mut yielded) = Offer::new(
        parts.lock,
        &parts.listeners,
        parts.tls.clone(),
        Arc::clone(&board),
    );
    let addresses = plain_first(&parts.listeners);
    let desk = Desk {
        allowed: parts.allowed,
        switchboard: Arc::clone(&board),
        addresses: addresses.clone(),
        offer,
        linger: options.linger,
    };
    let path = &options.control;
    let control = Arc::new(Control::bind(path, desk)?);
    let (doors, open) = watch::channel(Doors::Open);
    let reception = Reception::new(parts.listeners, parts.lobby, open).await?;
    let took_over = parts.takeover.is_some();
    let before = match parts.takeover {
        None => None,
        Some(takeover) => match takeover.complete().await {
            Ok(before) => before,
            Err(error) => {
                control.remove();
                return Err(error.into());
            }
        },
    };
    // From here on nobody else serves, and what can go wrong must not end us. What
    // came since the instance before stopped accepting waits in the kernel.
    let accepted_all = reception.begin();
    match control.place() {
        Err(error) if took_over => {
            tracing::error!(error = %chain(&error), "users are served, but no agent finds us");
        }
        placed => placed?,
    }
    drop(before);
    tokio::spawn(Arc::clone(&control).run());
    board.begin();
    let (stopping, stopped) = watch::channel(false);
    if let Some(address) = options.admin {
        tokio::spawn(Admin::new(Arc::clone(&board)).run(address, stopped));
    }
    let hang_up = || signal(SignalKind::hangup());
    tokio::spawn(reopen_on_hangup(hang_up()?, parts.log.clone()));
    tokio::spawn(keep_fresh(Arc::clone(parts.tls.certificates()), hang_up()?));
    let parting = Arc::clone(&board);
    tokio::spawn(keep_watch(board));
    tracing::info!(?addresses, workers = crew.mailboxes.len(), control = %path.display(), "ready");
    let pid = took_over.then(|| NotifyState::MainPid(std::process::id()));
    notify(
        pid.into_iter()
            .chain([NotifyState::Ready, NotifyState::Status("serving")]),
    );

    let ending = serving_ends(&mut signals, &mut yielded).await;
    let word = match &ending {
        Ending::Told => Doors::Closed,
        Ending::Yielded(_) => Doors::Yielded,
    };
    if word == Doors::Closed {
        notify([NotifyState::Stopping]);
    }
    let _ = doors.send(word);
    let _ = stopping.send(true);
    let _ = accepted_all.await;
    match ending {
        Ending::Told => stop(options, &mut signals, &mut crew, &parting).await,
        Ending::Yielded(yielding) => {
            let _ = yielding.closed.send(());
            drain(options, &mut signals, &mut crew, &parting).await;
            let _ = timeout(LAST_WORD, yielding.told).await;
        }
    }
    control.remove();
    parts.log.finish();
    Ok(())
}

/// Waits until a signal or a successor ends the serving.
async fn serving_ends(signals: &mut Signals, yielded: &mut mpsc::Receiver<Yielding>) -> Ending {
    tokio::select! {
        biased;
        Some(yielding) = yielded.recv() => return Ending::Yielded(yielding),
        () = signals.any() => {}
    }
    // From here on nobody is promised anything; a promise that was made is kept.
    yielded.close();
    match yielded.try_recv() {
        Ok(yielding) => Ending::Yielded(yielding),
        Err(_) => Ending::Told,
    }
}

/// Waits until the last client has left. When most of the time is over, what
/// does not end by itself is ended, so that it ends with a good-bye.
async fn last_client(time: Duration, crew: &mut Crew, board: &Switchboard) -> bool {
    let parting = (time / 4).min(PARTING);
    tokio::select! {
        () = crew.ended() => return true,
        () = tokio::time::sleep(time.saturating_sub(parting)) => {}
    }
    // The last to be told needs some time, too.
    board.part(parting / 3);
    tokio::select! {
        () = crew.ended() => true,
        () = tokio::time::sleep(parting) => false,
    }
}

/// Finishes what is open within the grace.
async fn stop(options: &Options, signals: &mut Signals, crew: &mut Crew, board: &Switchboard) {
    tracing::info!(grace = ?options.grace, "stopping: open requests are finished");
    crew.dismiss(options.linger);
    tokio::select! {
        ended = last_client(options.grace, crew, board) => match ended {
            true => tracing::info!("every request was finished"),
            false => tracing::warn!("the grace is over; open requests are cut"),
        },
        () = signals.any() => tracing::warn!("told again to stop; open requests are cut"),
    }
}

/// Finishes what is open while another instance serves. An idle connection may
/// get its next request still, and is told to close with the answer.
async fn drain(options: &Options, signals: &mut Signals, crew: &mut Crew, board: &Switchboard) {
    tracing::info!(max_drain = ?options.max_drain, "taken over: open requests are finished");
    // The service manager is not told that we stop: it would count its own, shorter
    // time from there.
    notify([NotifyState::Status(
        "taken over; finishes its last requests",
    )]);
    crew.dismiss(options.idle_timeout);
    let told = tokio::select! {
        ended = last_client(options.max_drain, crew, board) => {
            match ended {
                true => tracing::info!("every request was finished"),
                false => tracing::warn!("the time to drain is over; what is open is cut"),
            }
            false
        }
        () = signals.any() => true,
    };
    if told {
        notify([NotifyState::Stopping]);
        stop(options, signals, crew, board).await;
    }
}

/// Tells the service manager, where it asks, that the workers go on.
async fn keep_watch(board: Arc<Switchboard>) {
    let Some(period) = sd_notify::watchdog_enabled() else {
        return;
    };
    loop {
        if board.is_alive().await {
            notify([NotifyState::Watchdog]);
        }
        // Twice as often as it must be, as sd_watchdog_enabled(3) advises.
        tokio::time::sleep(period / 2).await;
    }
}

/// The addresses that the agent is told; it asks at the first one, without TLS.
fn plain_first(listeners: &[Listener]) -> Vec<SocketAddr> {
    let mut doors: Vec<_> = listeners.iter().map(|listener| listener.door).collect();
    doors.sort_by_key(|door| !door.kind.is_plain());
    doors.into_iter().map(|door| door.address).collect()
}

impl Signals {
    fn new() -> io::Result<Self> {
        Ok(Self {
            terminate: signal(SignalKind::terminate())?,
            interrupt: signal(SignalKind::interrupt())?,
        })
    }

    async fn any(&mut self) {
        tokio::select! {
            _ = self.terminate.recv() => {}
            _ = self.interrupt.recv() => {}
        }
    }
}

/// The access log that the options ask for.
fn access_log(options: &Options, switchboard: &Switchboard) -> io::Result<AccessLog> {
    let Some(path) = &options.access_log else {
        return Ok(AccessLog::off());
    };
    let tally = Arc::clone(switchboard.tally());
    AccessLog::start(Place::of(path), options.access_log_sample, tally)
}

/// SIGHUP is how a rotation of logs says that it moved the file. It ends no
/// proxy, also where there is no log.
async fn reopen_on_hangup(mut hangups: Signal, log: AccessLog) {
    while hangups.recv().await.is_some() {
        tracing::info!("told to open the access log anew");
        log.reopen();
    }
}

/// Starts a thread for each worker.
fn hire(
    settings: &Settings,
    mailboxes: Vec<Mailbox>,
    inboxes: Vec<mpsc::UnboundedReceiver<Message>>,
) -> Result<Crew, RunError> {
    let mut ended = Vec::new();
    for (index, (mailbox, inbox)) in mailboxes.iter().cloned().zip(inboxes).enumerate() {
        let settings = settings.clone();
        let (done, end) = oneshot::channel();
        thread::Builder::new()
            .name(format!("worker-{index}"))
            .spawn(move || {
                if let Err(error) = worker::run(index, &settings, mailbox, inbox) {
                    tracing::error!(%error, "a worker could not begin");
                }
                let _ = done.send(());
            })?;
        ended.push(end);
    }
    Ok(Crew { mailboxes, ended })
}

impl Crew {
    /// Tells the workers to end with their last clients, of which idle ones may stay
    /// for `linger`.
    fn dismiss(&self, linger: Duration) {
        for mailbox in &self.mailboxes {
            mailbox.post(Message::Stop(linger));
        }
    }

    /// Waits for the last clients of all workers. What has ended stays so.
    async fn ended(&mut self) {
        while let Some(end) = self.ended.last_mut() {
            let _ = end.await;
            self.ended.pop();
        }
    }
}

fn processors() -> usize {
    thread::available_parallelism().map_or(1, usize::from)
}

/// Each client takes two descriptors, and the default bound is 1024.
fn raise_descriptors() {
    let mut limit = getrlimit(Resource::Nofile);
    limit.current = limit.maximum;
    if let Err(error) = setrlimit(Resource::Nofile, limit) {
        tracing::warn!(%error, "the bound on open descriptors could not be raised");
    }
}

fn notify<'a>(state: impl IntoIterator<Item = NotifyState<'a>>) {
    let state: Vec<NotifyState<'_>> = state.into_iter().collect();
    if let Err(error) = sd_notify::notify(&state) {
        tracing::warn!(%error, "the service manager could not be told");
    }
}
