//! Figures of the agent for whoever watches it: what became of deploys, how long
//! they and their steps took, and what waits.
//!
//! Deploys are counted from the journal as it grows, by a follower that stands
//! apart from the engines, so no engine waits for it. What is read at each
//! question is small: two counts of the outbox and the sizes of two files.
//!
//! Invariant: no label has a value that a caller chooses. Apps are those of the
//! configuration, everything else is a word of ours.

mod deploys;
mod page;
mod tally;

use std::future::Future;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, MutexGuard, PoisonError};

use axum::Router;
use axum::response::{IntoResponse as _, Response};
use axum::routing::get;
use cutover_plan::id::AppName;
use cutover_wire::agent::METRICS;
use http::header::{CACHE_CONTROL, CONTENT_TYPE};
use jiff::Timestamp;

use crate::journal::{Journal, JournalError};
use deploys::Deploys;
use page::{Kind, Page};

pub use tally::{Distrust, Tally};

/// Prometheus' text format 0.0.4.
const TYPE: &str = "text/plain; version=0.0.4; charset=utf-8";

/// Events read at a time.
const PAGE: usize = 100;

/// Counts, and tells what was counted.
pub struct Metrics {
    /// What arrived at the doors.
    pub tally: Tally,
    journal: Journal,
    file: PathBuf,
    begun: Timestamp,
    deploys: Mutex<Deploys>,
}

impl Metrics {
    /// Begins to count. `file` is where the journal lies, `apps` are those of
    /// the configuration: each has its figures from the first moment on.
    pub fn new(
        journal: Journal,
        file: &Path,
        apps: Vec<AppName>,
        begun: Timestamp,
    ) -> Result<Self, JournalError> {
        let deploys = Deploys::begin(&journal, apps)?;
        Ok(Self {
            tally: Tally::default(),
            journal,
            file: file.to_owned(),
            begun,
            deploys: Mutex::new(deploys),
        })
    }

    /// Follows the journal until the shutdown. A journal that cannot be read is
    /// the engines' to end the agent for; here it only ends the counting.
    pub async fn follow(&self, shutdown: impl Future<Output = ()>) {
        let mut shutdown = std::pin::pin!(shutdown);
        let mut changes = self.journal.changes();
        loop {
            changes.mark_unchanged();
            if self.catch_up().is_err_and(|error| given_up(&error)) {
                return shutdown.await;
            }
            tokio::select! {
                () = &mut shutdown => return,
                // The journal is held here, so its end of the channel is there.
                _ = changes.changed() => {}
            }
        }
    }

    /// The whole text.
    pub fn render(&self) -> Result<String, JournalError> {
        let mut page = Page::default();
        let version = [("version", env!("CARGO_PKG_VERSION"))];
        page.family("build_info", Kind::Gauge, "The version of the agent.");
        page.line("build_info", &version, 1);
        let name = "start_timestamp_seconds";
        page.alone(
            name,
            Kind::Gauge,
            "When it began to count.",
            self.begun.as_second(),
        );
        self.deploys().render(&mut page);
        let outbox = self.journal.outbox()?;
        let help = "Messages to GitHub and other receivers that are yet to be delivered.";
        page.alone("outbox_waiting", Kind::Gauge, help, outbox.waiting);
        let help = "Messages of the deploys that are remembered that were given up.";
        page.alone("outbox_given_up", Kind::Gauge, help, outbox.given_up);
        let help = "Bytes of the journal on the disk.";
        page.alone("journal_bytes", Kind::Gauge, help, self.bytes());
        self.tally.render(&mut page);
        Ok(page.text())
    }

    /// The answer to `GET /metrics`.
    pub fn answer(&self) -> Response {
        match self.render() {
            Ok(text) => {
                let headers = [(CONTENT_TYPE, TYPE), (CACHE_CONTROL, "no-store")];
                (headers, text).into_response()
            }
            Err(error) => crate::desk::Refusal::from(error).into_response(),
        }
    }

    /// The routes of the listener that serves nothing else.
    pub fn router(metrics: std::sync::Arc<Self>) -> Router {
        Router::new().route(METRICS, get(async move || metrics.answer()))
    }

    fn catch_up(&self) -> Result<(), JournalError> {
        loop {
            let mut deploys = self.deploys();
            let page = self.journal.events_after(deploys.seen(), PAGE)?;
            let full = page.len() == PAGE;
            for (deploy, recorded) in page {
                deploys.take(&deploy, &recorded);
            }
            if !full {
                return Ok(());
            }
        }
    }

    fn deploys(&self) -> MutexGuard<'_, Deploys> {
        // Counts that a panic left are counts still.
        self.deploys.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn bytes(&self) -> u64 {
        let mut log = self.file.clone().into_os_string();
        log.push("-wal");
        let sizes = [self.file.clone(), log.into()].map(std::fs::metadata);
        sizes.into_iter().flatten().map(|found| found.len()).sum()
    }
}

/// A counter that stands still is told in the log.
fn given_up(error: &JournalError) -> bool {
    let error: &dyn std::error::Error = error;
    tracing::error!(error, "deploys are not counted any more");
    true
}
