//! What systemd is told: that the agent is ready, what it does, and that it
//! still gets somewhere.
//!
//! ```text
//!  every eighth of WatchdogSec
//!   engines  ── each takes a command and answers it ──┐
//!   journal  ── a transaction begins and ends ────────┼── all within half of it ──▶ WATCHDOG=1
//!   inbox    ── a request on the socket is answered ──┘
//! ```
//!
//! Invariant: nothing is told by a timer alone. A part that does not answer
//! keeps the word back, and systemd starts the agent again; deploys under way
//! go on in the next process, as after any crash.
//!
//! It asks no engine of containers and no proxy: a new agent would find them as
//! they are. They may keep an engine for a minute, and a WatchdogSec must
//! be far above that.

use std::future::Future;
use std::path::Path;
use std::time::Duration;

use cutover_plan::id::AppName;
use sd_notify::NotifyState;
use tokio::time::{Instant, MissedTickBehavior, interval, sleep_until, timeout};

use crate::desk::Desk;
use crate::journal::{Journal, JournalError};
use crate::neighbour::{Neighbour, NeighbourError};
use crate::texts;
use crate::view;

/// Deploys that the sentence about the agent names; systemd shows one line.
const NAMED: usize = 3;

/// The sentence changes at most this often: a step may tell of itself much faster.
const STATUS_PAUSE: Duration = Duration::from_secs(1);

/// Asks the parts of the agent, and tells systemd.
pub struct Watchdog {
    desk: Desk,
    journal: Journal,
    inbox: Neighbour,
}

/// A part of the agent that did not answer.
#[derive(Debug, thiserror::Error)]
pub enum Silence {
    /// Of an app.
    #[error("the engine of {0} does not answer")]
    Engine(AppName),
    /// It takes no transaction.
    #[error("the journal does not answer")]
    Journal(#[source] JournalError),
    /// It is held by somebody.
    #[error("the journal does not answer within {}", cutover_plan::spec::render_duration(*.0))]
    JournalHeld(Duration),
    /// Of the local socket.
    #[error("the inbox does not answer")]
    Inbox(#[source] NeighbourError),
}

impl Watchdog {
    /// For the agent whose inbox listens at `socket`.
    pub fn new(desk: Desk, journal: Journal, socket: &Path) -> Self {
        Self {
            desk,
            journal,
            inbox: Neighbour::at(socket),
        }
    }

    /// Tells systemd until the shutdown; `patience` is its WatchdogSec, if it has one.
    pub async fn run(self, patience: Option<Duration>, shutdown: impl Future<Output = ()>) {
        tokio::select! {
            () = shutdown => {}
            () = self.tell_status() => {}
            () = self.tell_progress(patience) => {}
        }
    }

    /// Asks every part once. All of them must answer within `limit`.
    pub async fn ask(&self, limit: Duration) -> Result<(), Silence> {
        let engines = async {
            let silent = self.desk.silent(limit).await;
            silent.map_or(Ok(()), |app| Err(Silence::Engine(app)))
        };
        let inbox = async {
            let well = self.inbox.is_well(limit).await;
            well.map_err(Silence::Inbox)
        };
        tokio::try_join!(engines, self.ask_journal(limit), inbox).map(drop)
    }

    async fn ask_journal(&self, limit: Duration) -> Result<(), Silence> {
        let journal = self.journal.clone();
        // On a thread of its own: it may be held, and must not hold us.
        let probe = tokio::task::spawn_blocking(move || journal.probe());
        match timeout(limit, probe).await {
            Ok(Ok(probed)) => probed.map_err(Silence::Journal),
            Ok(Err(_)) | Err(_) => Err(Silence::JournalHeld(limit)),
        }
    }

    async fn tell_progress(&self, patience: Option<Duration>) {
        let Some(patience) = patience.filter(|patience| !patience.is_zero()) else {
            return std::future::pending().await;
        };
        let mut beat = interval(patience / 8);
        beat.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            beat.tick().await;
            match self.ask(patience / 2).await {
                Ok(()) => tell(&[NotifyState::Watchdog]),
                Err(silence) => {
                    let error: &dyn std::error::Error = &silence;
                    tracing::warn!(error, "a part of the agent does not answer");
                }
            }
        }
    }

    async fn tell_status(&self) {
        let mut changes = self.journal.changes();
        let mut told = String::new();
        loop {
            let earliest = Instant::now() + STATUS_PAUSE;
            changes.mark_unchanged();
            match self.status() {
                Ok(status) if status != told => {
                    tell(&[NotifyState::Status(&status)]);
                    told = status;
                }
                Ok(_) => {}
                // Whoever must not go on without the journal says so.
                Err(error) => tracing::debug!(%error, "there is no status"),
            }
            // The journal is held here, so its end of the channel is there.
            let _ = changes.changed().await;
            sleep_until(earliest).await;
        }
    }

    /// What the agent does, in a sentence.
    fn status(&self) -> Result<String, JournalError> {
        let records = self.journal.under_way()?;
        let mut named = Vec::new();
        for record in records.iter().take(NAMED) {
            let state = view::fold(&view::history(&self.journal, &record.deploy)?);
            let phase = state.map_or_else(|_| "unknown".to_owned(), |state| texts::doing(&state));
            named.push((record.app.clone(), phase));
        }
        let apps = self.desk.apps().len();
        Ok(texts::agent_status(apps, &named, records.len()))
    }
}

/// Tells systemd; without it there is nobody to tell.
pub(crate) fn tell(states: &[NotifyState<'_>]) {
    if let Err(error) = sd_notify::notify(states) {
        tracing::debug!(%error, "systemd was not told");
    }
}
