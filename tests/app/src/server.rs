//! The app's life: start, serve, and end in the way it was asked to.

use std::convert::Infallible;
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Duration;

use http_body_util::BodyExt as _;
use hyper::server::conn::{http1, http2};
use hyper::service::service_fn;
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use tokio::net::{TcpListener, TcpStream};
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::{Notify, mpsc, watch};
use tokio::time::{Instant, timeout};

use crate::behaviour::Behaviour;
use crate::journal::Journal;
use crate::log;

mod answer;
mod stream;

/// How the app ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum End {
    /// Asked to stop, and every open request was finished.
    Stopped,
    /// By `CRASH_AFTER_S` or `CRASH_IN_USE_S`: open requests are cut off.
    Crashed,
}

/// What every connection shares.
struct App {
    behaviour: Behaviour,
    journal: Journal,
    started: Instant,
    /// Counts answers that may be errors, to spread the errors evenly.
    judged: std::sync::atomic::AtomicU64,
    /// Told of each request that is not about health.
    used: Arc<Notify>,
    /// Turns true when the app was asked to stop.
    stopping: watch::Receiver<bool>,
    /// Closes its channel when the last connection lets go of the app.
    _open: mpsc::Sender<Infallible>,
}

impl App {
    async fn asked_to_stop(&self) {
        let mut stopping = self.stopping.clone();
        // A sender that is gone has stopped, too.
        let _ = stopping.wait_for(|stopping| *stopping).await;
    }
}

/// Serves until told to stop, or until the behaviour ends it.
///
/// # Errors
///
/// The port cannot be opened, or signals cannot be received.
pub async fn run(mut behaviour: Behaviour) -> Result<End, io::Error> {
    let mut terminate = signal(SignalKind::terminate())?;
    let mut interrupt = signal(SignalKind::interrupt())?;
    let started = Instant::now();
    let (stop, stopping) = watch::channel(false);
    let (open, mut closed) = mpsc::channel(1);
    if let Some(file) = &behaviour.first_in
        && let Err(error) = std::fs::File::create_new(file)
    {
        behaviour.unhealthy = Some(format!("{}: {error}", file.display()));
    }
    let ignores_sigterm = behaviour.ignores_sigterm;
    let (crash_after, crash_in_use) = (behaviour.crash_after, behaviour.crash_in_use);
    let stop_delay = behaviour.stop_delay;
    let used = Arc::new(Notify::new());
    let journal = Journal::open(behaviour.journal_file.as_deref())?;
    let app = Arc::new(App {
        behaviour,
        journal,
        started,
        judged: std::sync::atomic::AtomicU64::new(0),
        used: Arc::clone(&used),
        stopping,
        _open: open,
    });
    log(&format!(
        "starting version={} port={}",
        app.behaviour.version, app.behaviour.port
    ));
    take_memory(&app.behaviour);

    let crash = async {
        match (crash_after, crash_in_use) {
            (Some(after), _) => tokio::time::sleep_until(started + after).await,
            (None, Some(after)) => {
                used.notified().await;
                tokio::time::sleep(after).await;
            }
            (None, None) => std::future::pending().await,
        }
    };
    let stop_request = async {
        loop {
            let name = tokio::select! {
                _ = terminate.recv() => "SIGTERM",
                _ = interrupt.recv() => "SIGINT",
            };
            if !ignores_sigterm {
                return name;
            }
            log(&format!("{name} ignored"));
        }
    };
    tokio::select! {
        end = accept(Arc::clone(&app)) => return end.map(|never| match never {}),
        () = crash => {
            log("error: crashing as asked to");
            return Ok(End::Crashed);
        }
        name = stop_request => log(&format!("{name}: stopping")),
    }

    // The listener is closed; what is open is told, and waited for.
    let stop_began = Instant::now();
    // There is always a receiver: the app's own.
    let _ = stop.send(true);
    drop(app);
    closed.recv().await;
    tokio::time::sleep_until(stop_began + stop_delay).await;
    log("stopped");
    Ok(End::Stopped)
}

async fn accept(app: Arc<App>) -> Result<Infallible, io::Error> {
    tokio::time::sleep(app.behaviour.slow_start).await;
    let address = SocketAddr::from((app.behaviour.address, app.behaviour.port));
    let listener = TcpListener::bind(address).await?;
    log(&format!("listening on {}", listener.local_addr()?));
    loop {
        match listener.accept().await {
            Ok((connection, _)) => {
                tokio::spawn(serve(Arc::clone(&app), connection));
            }
            // Out of descriptors: those in use close in time.
            Err(error) => {
                log(&format!("error: accepting: {error}"));
                tokio::time::sleep(Duration::from_millis(10)).await;
            }
        }
    }
}

async fn serve(app: Arc<App>, connection: TcpStream) {
    // Delayed small answers would show up as the deploy tool's latency.
    let _ = connection.set_nodelay(true);
    let connection = TokioIo::new(connection);
    let use_of_it = Arc::new(Use::default());
    let service = service_fn(|request| {
        let app = Arc::clone(&app);
        let (open, answer) = (use_of_it.begin(), OpenAnswer(Arc::clone(&use_of_it)));
        async move {
            let is_counted = app.behaviour.leaves_after.is_some();
            let answered = answer::answer(app, request).await;
            drop(open);
            Ok::<_, Infallible>(match is_counted {
                true => answered.map(|body| answer.until_the_end_of(body)),
                false => answered,
            })
        }
    });
    if app.behaviour.speaks_http2 {
        let connection = http2::Builder::new(TokioExecutor::new())
            .timer(TokioTimer::new())
            .serve_connection(connection, service);
        let mut connection = std::pin::pin!(connection);
        tokio::select! {
            _ = connection.as_mut() => return,
            () = use_of_it.leave(app.behaviour.leaves_after) => return,
            () = app.asked_to_stop() => connection.as_mut().graceful_shutdown(),
            () = use_of_it.idle(app.behaviour.keep_alive) => connection.as_mut().graceful_shutdown(),
        }
        let _ = connection.await;
        return;
    }
    let connection = http1::Builder::new()
        .timer(TokioTimer::new())
        .serve_connection(connection, service)
        .with_upgrades();
    let mut connection = std::pin::pin!(connection);
    // A connection's end is its client's business; there is nobody to tell.
    tokio::select! {
        _ = connection.as_mut() => return,
        () = use_of_it.leave(app.behaviour.leaves_after) => return,
        () = app.asked_to_stop() => connection.as_mut().graceful_shutdown(),
        () = use_of_it.idle(app.behaviour.keep_alive) => connection.as_mut().graceful_shutdown(),
    }
    let _ = connection.await;
}

/// When a connection was used last.
#[derive(Default)]
struct Use {
    changed: Notify,
    open: AtomicBool,
    /// How many answers have gone to their ends.
    answers: AtomicUsize,
    answered: Notify,
}

/// A request that is being answered.
struct OpenRequest(Arc<Use>);

impl Use {
    fn begin(self: &Arc<Self>) -> OpenRequest {
        self.open.store(true, Ordering::Relaxed);
        self.changed.notify_one();
        OpenRequest(Arc::clone(self))
    }

    /// Resolves a millisecond after so many answers.
    async fn leave(&self, after: Option<usize>) {
        let Some(after) = after else {
            return std::future::pending().await;
        };
        while self.answers.load(Ordering::Relaxed) < after {
            self.answered.notified().await;
        }
        tokio::time::sleep(Duration::from_millis(1)).await;
    }

    /// Resolves when no request was open for so long.
    async fn idle(&self, keep_alive: Option<Duration>) {
        let Some(keep_alive) = keep_alive else {
            return std::future::pending().await;
        };
        // One that was never used has its first request on the way.
        self.changed.notified().await;
        loop {
            if self.open.load(Ordering::Relaxed) {
                self.changed.notified().await;
            } else if timeout(keep_alive, self.changed.notified()).await.is_err() {
                return;
            }
        }
    }
}

/// An answer of which something may be left to send.
struct OpenAnswer(Arc<Use>);

impl OpenAnswer {
    fn until_the_end_of(self, body: answer::Body) -> answer::Body {
        let held = move |frame| {
            let _ = &self;
            frame
        };
        body.map_frame(held).boxed_unsync()
    }
}

impl Drop for OpenAnswer {
    fn drop(&mut self) {
        self.0.answers.fetch_add(1, Ordering::Relaxed);
        self.0.answered.notify_one();
    }
}

impl Drop for OpenRequest {
    fn drop(&mut self) {
        self.0.open.store(false, Ordering::Relaxed);
        self.0.changed.notify_one();
    }
}

fn take_memory(behaviour: &Behaviour) {
    let (megabytes, after) = (behaviour.memory_megabytes, behaviour.memory_after);
    if megabytes == 0 {
        return;
    }
    tokio::spawn(async move {
        tokio::time::sleep(after).await;
        log(&format!("taking {megabytes} MB"));
        let mut blocks = Vec::new();
        for _ in 0..megabytes {
            // A value other than zero, so that each page is really there.
            blocks.push(vec![1_u8; 1 << 20]);
            tokio::task::yield_now().await;
        }
        log(&format!("took {megabytes} MB"));
        std::future::pending::<()>().await;
        drop(blocks);
    });
}
