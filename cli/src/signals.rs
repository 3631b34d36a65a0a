//! The signals that ask this program to stop.
//!
//! A cancelled workflow sends SIGINT, SIGTERM 7.5 seconds later, and kills the
//! process 2.5 seconds after that.

use std::future::pending;

use tokio::signal::unix::{Signal, SignalKind, signal};

/// Hears Ctrl-C, a cancelled workflow and a shutdown.
pub(crate) struct Signals {
    heard: Vec<Signal>,
}

impl Signals {
    /// From now on these signals no longer kill the process.
    pub(crate) fn listen() -> Self {
        let kinds = [SignalKind::interrupt(), SignalKind::terminate()];
        // Where a handler cannot be set, the signal kills, as it does by default.
        let heard = kinds.into_iter().filter_map(|kind| signal(kind).ok());
        Self {
            heard: heard.collect(),
        }
    }

    /// The next one.
    pub(crate) async fn next(&mut self) {
        let [first, second] = self.heard.as_mut_slice() else {
            return pending().await;
        };
        tokio::select! {
            _ = first.recv() => {}
            _ = second.recv() => {}
        }
    }
}
