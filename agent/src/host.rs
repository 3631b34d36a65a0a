//! The agent, put together: the configuration becomes drivers, engines, doors
//! and the reporter, and they run until the process is told to end.
//!
//! Nothing here knows what a deploy is. When the journal fails, all of it ends
//! with an error: what is not durable must not be done, and the next process
//! reads what is.

use std::collections::BTreeMap;
use std::future::Future;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use cutover_plan::id::DeployId;
use jiff::{SignedDuration, Timestamp};
use sd_notify::NotifyState;
use tokio::net::TcpListener;
use tokio::sync::{mpsc, watch};
use tokio::task::JoinSet;

use crate::clock::{Clock, Ids};
use crate::config::{Config, History};
use crate::desk::{AppDesk, Desk, QUEUE};
use crate::docker::{Docker, HostError};
use crate::engine::{Drivers, Engine, EngineError, Leases};
use crate::github::{Github, GithubError};
use crate::inbox::{self, Door, Inbox, Limits, SocketError};
use crate::journal::{Journal, JournalError};
use crate::metrics::Metrics;
use crate::notify::{self, Notifier};
use crate::proxy::Proxy;
use crate::reporter;
use crate::watchdog::{Watchdog, tell};

/// How often old deploys are forgotten.
const FORGET_EVERY: Duration = Duration::from_secs(3600);

/// What the address of the figures bears: two monitors and a person, each with a
/// connection in the making. Prometheus gives up after ten seconds.
const MONITORS: Limits = Limits {
    connections: 16,
    requests: 16,
    followers: 0,
    head: Duration::from_secs(2),
    body: Duration::from_secs(2),
    answer: Duration::from_secs(10),
    stall: Duration::from_secs(10),
    keep_alive: Duration::from_secs(15),
    farewell: Duration::from_secs(1),
};

/// Why the agent ends.
#[derive(Debug, thiserror::Error)]
pub enum HostFault {
    /// Its folder cannot be made.
    #[error("the folder {} cannot be made", path.display())]
    Folder {
        /// The folder.
        path: PathBuf,
        /// What the system says.
        #[source]
        source: std::io::Error,
    },
    /// An address cannot be had: the one for signed calls, or that of the figures.
    #[error("cannot listen on {address}")]
    Listen {
        /// The address.
        address: SocketAddr,
        /// What the system says.
        #[source]
        source: std::io::Error,
    },
    /// The socket of the host cannot be had.
    #[error("the local socket cannot be had")]
    Socket(#[from] SocketError),
    /// The engine of containers is named in a form that is not known.
    #[error("the key docker of agent.toml is wrong")]
    Docker(#[from] HostError),
    /// GitHub cannot be talked to as configured.
    #[error("[github] of agent.toml does not work")]
    Github(#[from] GithubError),
    /// Receivers cannot be told as configured.
    #[error("[[notify]] does not work")]
    Notify(#[from] notify::ClientError),
    /// The journal does not work.
    #[error("the journal failed")]
    Journal(#[from] JournalError),
    /// An engine cannot go on.
    #[error("the engine of an app stopped")]
    Engine(#[from] EngineError),
    /// A part of the agent panicked.
    #[error("a part of the agent broke")]
    Broken(#[from] tokio::task::JoinError),
}

/// Runs the agent until `end` completes. Deploys under way are left as they
/// are: the next process goes on with them.
pub async fn run(config: Config, end: impl Future<Output = ()>) -> Result<(), HostFault> {
    let made = |path: &PathBuf| {
        let path = path.clone();
        move |source| HostFault::Folder { path, source }
    };
    std::fs::create_dir_all(&config.state).map_err(made(&config.state))?;
    let file = config.state.join("agent.db");
    let journal = Journal::open(&file)?;
    let clock: Clock = Arc::new(Timestamp::now);
    let drivers = Drivers {
        containers: Arc::new(
            Docker::connect(config.docker.as_deref())?.with_keyring(config.keyring.clone()),
        ),
        traffic: Arc::new(Proxy::new(&config.proxy_socket)),
        journal: journal.clone(),
        record: Arc::new(journal.clone()),
        clock: Arc::clone(&clock),
        ids: ids(),
    };
    let (stop, shutdown) = watch::channel(false);
    let mut parts: JoinSet<Result<(), HostFault>> = JoinSet::new();

    let receivers = config.apps.values().flat_map(|spec| &spec.notify);
    let notifier = Notifier::new(receivers, Arc::clone(&clock))?;
    let leases = Leases::default();
    let mut desks = BTreeMap::new();
    for (app, spec) in config.apps {
        // The names of a map are different, so each has its lease.
        let Some(lease) = leases.take(&app) else {
            continue;
        };
        let (commands, inbox) = mpsc::channel(QUEUE);
        let engine = Engine::new(lease, spec.clone(), drivers.clone(), inbox)?;
        parts.spawn(async move { Ok(engine.run().await?) });
        desks.insert(
            app,
            AppDesk {
                spec,
                engine: commands,
            },
        );
    }
    if let Some(options) = &config.github {
        let github = Github::new(options, Arc::clone(&clock))?;
        let (journal, clock) = (journal.clone(), Arc::clone(&clock));
        let options = reporter::Options::default();
        let end = stopped(shutdown.clone());
        parts.spawn(async move { Ok(reporter::run(journal, github, clock, options, end).await?) });
    }
    // Also where nobody is to be told any more: what is left is given up.
    let noticing = reporter::run_notices(
        journal.clone(),
        notifier,
        Arc::clone(&clock),
        reporter::Options::default(),
        stopped(shutdown.clone()),
    );
    parts.spawn(async move { Ok(noticing.await?) });
    parts.spawn(forget(
        journal.clone(),
        Arc::clone(&clock),
        config.history,
        shutdown.clone(),
    ));

    let limits = Limits::default();
    let names = desks.keys().cloned().collect();
    let metrics = Metrics::new(journal.clone(), &file, names, clock())?;
    let metrics = Arc::new(metrics);
    let (counting, enough) = (Arc::clone(&metrics), stopped(shutdown.clone()));
    parts.spawn(async move {
        counting.follow(enough).await;
        Ok(())
    });
    if let Some(address) = config.metrics {
        let listener = listen(address).await?;
        let router = Metrics::router(Arc::clone(&metrics));
        let end = shutdown.clone();
        parts.spawn(async move {
            inbox::serve_network(listener, router, MONITORS, end).await;
            Ok(())
        });
    }
    let inbox = Inbox {
        desk: Desk::new(desks, journal),
        metrics,
        journal: drivers.journal.clone(),
        secrets: config.secrets,
        clock,
        limits,
        shutdown: shutdown.clone(),
    };
    let watchdog = Watchdog::new(inbox.desk.clone(), inbox.journal.clone(), &config.socket);
    if let Some(folder) = config.socket.parent() {
        std::fs::create_dir_all(folder).map_err(made(&folder.to_owned()))?;
    }
    let local = inbox::bind_local(&config.socket, config.socket_group)?;
    let address = config.listen;
    let network = listen(address).await?;
    let router = inbox.clone().router(Door::Local);
    let end_local = shutdown.clone();
    parts.spawn(async move {
        inbox::serve_local(local, router, limits, end_local).await;
        Ok(())
    });
    let router = inbox.router(Door::Network);
    let end_network = shutdown.clone();
    parts.spawn(async move {
        inbox::serve_network(network, router, limits, end_network).await;
        Ok(())
    });
    tracing::info!(%address, socket = %config.socket.display(), "ready");
    tell(&[NotifyState::Ready]);
    let patience = sd_notify::watchdog_enabled();
    parts.spawn(async move {
        watchdog.run(patience, stopped(shutdown)).await;
        Ok(())
    });

    let result = tokio::select! {
        () = end => Ok(()),
        ended = parts.join_next() => match ended {
            Some(Ok(Err(fault))) => Err(fault),
            Some(Err(broken)) => Err(broken.into()),
            // A part that ends well before the others has nothing to do.
            Some(Ok(Ok(()))) | None => Ok(()),
        },
    };
    tell(&[NotifyState::Stopping]);
    // Nobody is left to hear of it when every part has ended.
    let _ = stop.send(true);
    drop(drivers);
    let farewell = async { while parts.join_next().await.is_some() {} };
    if tokio::time::timeout(limits.farewell, farewell)
        .await
        .is_err()
    {
        // Engines have no end of their own: they stop where they are.
        parts.abort_all();
    }
    result
}

async fn listen(address: SocketAddr) -> Result<TcpListener, HostFault> {
    let listener = TcpListener::bind(address).await;
    listener.map_err(|source| HostFault::Listen { address, source })
}

async fn stopped(mut shutdown: watch::Receiver<bool>) {
    // The sender lives as long as the agent; without it, it has ended.
    let _ = shutdown.wait_for(|stop| *stop).await;
}

/// Keeps the history within its bounds.
async fn forget(
    journal: Journal,
    clock: Clock,
    history: History,
    shutdown: watch::Receiver<bool>,
) -> Result<(), HostFault> {
    let mut end = std::pin::pin!(stopped(shutdown));
    loop {
        let age = SignedDuration::try_from(history.age).unwrap_or(SignedDuration::MAX);
        if let Ok(older_than) = clock().checked_sub(age) {
            let forgotten = journal.forget(history.deploys, older_than)?;
            if forgotten > 0 {
                tracing::info!(forgotten, "forgot old deploys");
            }
        }
        tokio::select! {
            () = &mut end => return Ok(()),
            () = tokio::time::sleep(FORGET_EVERY) => {}
        }
    }
}

/// Ids of the time and of the system's own chance.
fn ids() -> Ids {
    Arc::new(|at: Timestamp| {
        let mut chance = [0; 10];
        // Without chance the time alone must do: one app has one deploy at a time.
        if let Err(error) = getrandom::fill(&mut chance) {
            tracing::warn!(%error, "the system gives no random bytes");
        }
        DeployId::new(u64::try_from(at.as_millisecond()).unwrap_or(0), chance)
    })
}
