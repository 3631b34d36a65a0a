//! What happened to each request.

use std::sync::Arc;
use std::time::Duration;

/// The way a user talks to the app.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Kind {
    /// GET on one connection, kept alive.
    KeepAlive,
    /// GET, each on a connection of its own.
    Fresh,
    /// POST whose answer takes a while, on one connection.
    Slow,
    /// POST with a body that must come back, on one connection.
    Post,
    /// The same with a large body.
    Upload,
    /// GET, some at once, as streams of one HTTP/2 connection without TLS.
    Http2,
    /// POST in the same way.
    Http2Post,
    /// A WebSocket; each message is a request.
    WebSocket,
    /// A stream of numbered events; each stream is a request.
    Events,
}

/// How far a request came.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Phase {
    /// Opening the connection, handshakes included.
    Connect,
    /// Sending the request and waiting for the head of the answer.
    Head,
    /// The answer's status was not 200.
    Status,
    /// Reading the answer to its end.
    Body,
    /// The answer was whole, and not the answer to this request.
    Content,
    /// The server said good-bye in place of the echo of a WebSocket's message. None was
    /// there when the message was sent; if it was on its way to the server then, the
    /// protocol allows no answer.
    Crossed,
}

/// How a request ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// Answered, wholly and rightly.
    Ok,
    /// Anything else.
    Failed {
        /// How far it came.
        phase: Phase,
        /// What went wrong.
        reason: String,
    },
}

/// One request.
#[derive(Clone, Debug)]
pub struct Record {
    /// Its id, as the app journals it.
    pub id: String,
    /// Who asked, counted from 0.
    pub user: Arc<str>,
    /// In which way.
    pub kind: Kind,
    /// When it began, counted from the load's start.
    pub began: Duration,
    /// When the connection was made that binds it to its server: for a message
    /// of a WebSocket that of the WebSocket, for others their own beginning.
    pub bound: Duration,
    /// How long it took.
    pub latency: Duration,
    /// The version that answered, if anything of an answer came.
    pub version: Option<String>,
    /// How it ended.
    pub outcome: Outcome,
}

impl Record {
    /// When it ended, counted from the load's start.
    pub fn ended(&self) -> Duration {
        self.began + self.latency
    }

    /// Whether a good-bye of the server crossed it; see [`Phase::Crossed`].
    pub fn is_crossed(&self) -> bool {
        let crossed = Phase::Crossed;
        matches!(&self.outcome, Outcome::Failed { phase, .. } if *phase == crossed)
    }

    /// Whether it was answered, wholly and rightly.
    pub fn is_ok(&self) -> bool {
        self.outcome == Outcome::Ok
    }

    /// Whether the app itself answered with an error: it was neither lost nor
    /// broken on its way, but no user would call it good.
    pub fn is_error_of_app(&self) -> bool {
        let phase = match &self.outcome {
            Outcome::Ok => return false,
            Outcome::Failed { phase, .. } => *phase,
        };
        phase == Phase::Status && self.version.is_some()
    }
}

/// Everything a load did.
#[derive(Clone, Debug, Default)]
pub struct Report {
    /// Every request, in the order of their beginnings.
    pub records: Vec<Record>,
    /// Connections that a server closed between requests without having said
    /// so, where the user saw it in time. Not failures, but close to them.
    pub idle_closes: u64,
    /// How long the load ran.
    pub elapsed: Duration,
}

impl Report {
    /// The requests that failed.
    pub fn failed(&self) -> impl Iterator<Item = &Record> {
        self.records.iter().filter(|record| !record.is_ok())
    }

    /// The versions that answered, one entry for each change, in the order of
    /// the requests' beginnings.
    pub fn versions(&self) -> Vec<&str> {
        let mut versions: Vec<&str> = Vec::new();
        for version in self
            .records
            .iter()
            .filter_map(|record| record.version.as_deref())
        {
            if versions.last() != Some(&version) {
                versions.push(version);
            }
        }
        versions
    }

    /// Asserts that no request failed; shows the first that did.
    ///
    /// # Errors
    ///
    /// Some failed, or there were none at all.
    pub fn ensure_none_failed(&self) -> anyhow::Result<()> {
        anyhow::ensure!(!self.records.is_empty(), "no request was sent");
        let failed = self.failed().count();
        let first: Vec<_> = self.failed().take(5).collect();
        anyhow::ensure!(
            failed == 0,
            "{failed} of {} requests failed; first: {first:#?}",
            self.records.len()
        );
        Ok(())
    }
}
