//! All instances before this one that have not ended.
//!
//! One that does not follow a table in time is not waited for again until it
//! answers: it is stopped or stuck, and must not hold up deploys. It is still
//! told of each table, and counts as not drained.

use std::path::PathBuf;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use cutover_wire::proxy::{Cut, Drained};
use cutover_wire::table::Table;
use tokio::task::JoinSet;

use super::follower::{Asked, Follower};
use crate::store::chain;

/// How long one may take to follow a table: its workers do it between two requests.
const FOLLOW: Duration = Duration::from_secs(5);

/// What an instance holds that did not tell: not known to be empty is not empty.
pub(crate) const UNKNOWN: Drained = Drained {
    requests: 1,
    streams: 0,
    tunnels: 0,
    streams_cut: 0,
    tunnels_cut: 0,
};

/// See the module.
#[derive(Debug, Clone, Default)]
pub(crate) struct Followers(Arc<Mutex<Vec<Follower>>>);

impl Followers {
    /// Those that listen at these sockets.
    pub(crate) fn new(sockets: &[PathBuf]) -> Self {
        let followers = sockets.iter().cloned().map(Follower::new);
        Self(Arc::new(Mutex::new(followers.collect())))
    }

    /// Where they listen.
    pub(crate) fn sockets(&self) -> Vec<PathBuf> {
        let sockets = self.lock();
        sockets.iter().map(|f| f.socket().clone()).collect()
    }

    /// They are told by another instance from now on.
    pub(crate) fn clear(&self) {
        self.lock().clear();
    }

    /// Tells them a table; returns when each follows it, has ended, or is late.
    pub(crate) async fn follow(&self, table: &Arc<Table>) {
        let mut told = Vec::new();
        for follower in self.all() {
            let late = follower.is_late();
            follower.tells(table.generation);
            let telling = tokio::spawn(self.clone().tell(follower, Arc::clone(table)));
            if !late {
                told.push(telling);
            }
        }
        for telling in told {
            let _ = telling.await;
        }
    }

    async fn tell(self, follower: Follower, table: Arc<Table>) {
        match follower.follow(&table, FOLLOW).await {
            Ok(Asked::Done(())) => follower.set_late(false, table.generation),
            Ok(Asked::Gone) => self.lock().retain(|one| one.socket() != follower.socket()),
            Err(error) => {
                tracing::error!(
                    error = %chain(&error),
                    "an instance before this one does not follow: end it, its clients may be sent to a release that ended",
                );
                follower.set_late(true, table.generation);
            }
        }
    }

    /// Makes them drain targets; tells what is left there.
    pub(crate) async fn drain(
        &self,
        app: &str,
        ids: &[String],
        deadline: Duration,
        cut: Option<Cut>,
    ) -> Drained {
        let mut asked = JoinSet::new();
        for follower in self.all() {
            let (app, ids) = (app.to_owned(), ids.to_vec());
            asked.spawn(async move {
                let left = follower.drain(&app, &ids, deadline, cut).await;
                left.unwrap_or_else(|error| {
                    tracing::error!(error = %chain(&error), "an instance before this one did not tell what it holds");
                    UNKNOWN
                })
            });
        }
        let mut left = Drained::default();
        while let Some(other) = asked.join_next().await {
            left = left.plus(other.unwrap_or(UNKNOWN));
        }
        left
    }

    fn all(&self) -> Vec<Follower> {
        self.lock().clone()
    }

    fn lock(&self) -> MutexGuard<'_, Vec<Follower>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
