//! The process: starts the parts in order, waits for a signal, ends them in order.
//!
//! ```text
//!  start: table ─▶ workers ─▶ control socket ─▶ acceptors ─▶ READY
//!  stop:  signal ─▶ STOPPING ─▶ acceptors end ─▶ workers end or grace passes ─▶ exit
//! ```

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::thread;
use std::time::Instant;

use arc_swap::ArcSwap;
use rustix::process::{Resource, getrlimit, setrlimit};
use sd_notify::NotifyState;
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::{oneshot, watch};
use tokio::task::JoinSet;

use crate::accept::Acceptor;
use crate::client::Patience;
use crate::control::{Control, ControlError};
use crate::listen::{ListenError, listeners};
use crate::options::Options;
use crate::peer::{Allowed, UnknownGroup};
use crate::store::{Store, StoreError};
use crate::switchboard::Switchboard;
use crate::worker::{self, Mailbox, Message, Settings};

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
    /// The system refused a thread, a descriptor or a signal.
    #[error("could not set up the process")]
    System(#[from] io::Error),
}

/// The threads that serve.
struct Crew {
    mailboxes: Vec<Mailbox>,
    ended: Vec<oneshot::Receiver<()>>,
}

/// Runs the proxy until SIGTERM or SIGINT.
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
    let listeners = listeners(&options.listen)?;
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()?;
    let full = Arc::new(AtomicBool::new(false));
    let settings = Settings {
        snapshot: Arc::new(ArcSwap::default()),
        began: Instant::now(),
        patience: Patience::new(options.head_timeout, options.idle_timeout),
        linger: options.linger,
        full: Arc::clone(&full),
    };
    let count = options.workers.unwrap_or_else(processors).max(1);
    let (mailboxes, inboxes): (Vec<_>, Vec<_>) = (0..count).map(|_| Mailbox::new()).unzip();
    // The table is in force before the first worker routes by it.
    let snapshot = Arc::clone(&settings.snapshot);
    let switchboard = Arc::new(Switchboard::new(store, snapshot, mailboxes.clone()));
    let crew = hire(&settings, mailboxes, inboxes)?;
    runtime.block_on(async {
        let addresses = listeners
            .iter()
            .map(std::net::TcpListener::local_addr)
            .collect::<io::Result<Vec<SocketAddr>>>()?;
        let path = &options.control;
        let control = Control::bind(path, allowed, switchboard, addresses.clone())?;
        let control = Arc::new(control);
        tokio::spawn(Arc::clone(&control).run());
        let (stop, stopped) = watch::channel(false);
        let mut acceptors = JoinSet::new();
        for listener in listeners {
            let workers = crew.mailboxes.clone();
            let full = Arc::clone(&full);
            let acceptor = Acceptor::new(listener, workers, options.max_connections, full)?;
            acceptors.spawn(acceptor.run(stopped.clone()));
        }
        let mut terminate = signal(SignalKind::terminate())?;
        let mut interrupt = signal(SignalKind::interrupt())?;
        tracing::info!(?addresses, workers = count, control = %path.display(), "ready");
        notify(&[NotifyState::Ready]);
        tokio::select! {
            _ = terminate.recv() => {}
            _ = interrupt.recv() => {}
        }
        notify(&[NotifyState::Stopping]);
        tracing::info!(grace = ?options.grace, "stopping: open requests are finished");
        let _ = stop.send(true);
        while acceptors.join_next().await.is_some() {}
        let deadline = tokio::time::sleep(options.grace);
        tokio::select! {
            () = crew.dismissed() => tracing::info!("every request was finished"),
            () = deadline => tracing::warn!("the grace is over; open requests are cut"),
            _ = terminate.recv() => tracing::warn!("told again to stop; open requests are cut"),
            _ = interrupt.recv() => tracing::warn!("told again to stop; open requests are cut"),
        }
        control.remove();
        Ok(())
    })
}

/// Starts a thread for each worker.
fn hire(
    settings: &Settings,
    mailboxes: Vec<Mailbox>,
    inboxes: Vec<tokio::sync::mpsc::UnboundedReceiver<Message>>,
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
    /// Tells the workers to stop and waits for their last clients.
    async fn dismissed(self) {
        for mailbox in &self.mailboxes {
            mailbox.post(Message::Stop);
        }
        for end in self.ended {
            let _ = end.await;
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

fn notify(state: &[NotifyState]) {
    if let Err(error) = sd_notify::notify(state) {
        tracing::warn!(%error, "the service manager could not be told");
    }
}
