//! The one place that changes where requests go.
//!
//! It takes a table in place of the generation that its maker had read, stores
//! it, puts it in force, and answers only when every worker routes by it. It
//! keeps targets and counters through all tables. It reads no socket.
//!
//! ```text
//!  Apply: check ─▶ load certificates ─▶ store ─▶ allow serving targets ─▶ swap
//!         ─▶ fence all workers ─▶ acknowledge
//! ```
//!
//! `state` is what lives on from table to table, `drain` the end of targets.
//!
//! While another instance takes over, and after it did, no table is applied here:
//! an instance that was taken over follows the tables of its successor, and the
//! successor acknowledges a table when those before it follow, too, or are known
//! to be stuck.
//!
//! Invariant: choosing a target is one synchronous step of a worker, so a fence
//! that passed through a worker's mailbox after the swap proves that the worker
//! binds no further request by the old table.

mod drain;
mod state;
#[cfg(test)]
mod tests;

use std::hash::{BuildHasher, Hasher, RandomState};
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::sync::{Arc, Mutex as StdMutex, MutexGuard, PoisonError};
use std::time::Duration;

use arc_swap::ArcSwap;
use cutover_wire::proxy::{KeyText, OpenTarget, Refusal};
use cutover_wire::statistics::Statistics;
use cutover_wire::table::{Table, TableProblem};
use tokio::sync::{Mutex, MutexGuard as TurnGuard, oneshot};
use tokio::time::timeout;

use crate::abilities::objections;
use crate::route::Snapshot;
use crate::store::{Store, chain};
use crate::takeover::{Before, Followers};
use crate::tally::Tally;
use crate::tls::{Certificates, Loaded, tell};
use crate::worker::{Mailbox, Message};
pub(crate) use drain::Drain;
use state::State;

/// How long a worker may take to see a fence. It does so between two requests,
/// so this is only reached when a worker is gone.
const FENCE_DEADLINE: Duration = Duration::from_secs(10);

/// What an idle connection may last beyond its time: the worker looks each tick.
const TICKS_AFTER: Duration = Duration::from_millis(200);

/// A worker did not answer; whether it follows the new table is not known.
#[derive(Debug, thiserror::Error)]
#[error("a worker did not follow the table")]
pub(crate) struct Unfenced;

/// Who applies tables.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Authority {
    /// This instance.
    Ours,
    /// Nobody: another instance is taking over.
    Lent,
    /// The instance that took over.
    Given,
}

/// What became of a table.
#[derive(Debug)]
pub(crate) enum Applied {
    /// It is stored and in force.
    Generation(u64),
    /// Nothing was changed.
    Refused(Refusal),
}

/// See the module.
#[derive(Debug)]
pub(crate) struct Switchboard {
    instance: String,
    snapshot: Arc<ArcSwap<Snapshot>>,
    workers: Vec<Mailbox>,
    store: Store,
    certificates: Arc<Certificates>,
    /// One change after the other; whoever only reads does not wait for them.
    turn: Mutex<()>,
    state: StdMutex<State>,
    /// The generation in force.
    generation: AtomicU64,
    /// How long the last swap took, until every worker followed.
    swap_micros: AtomicU64,
    tally: Arc<Tally>,
    authority: StdMutex<Authority>,
    followers: Followers,
}

/// That no table is applied, while another instance takes over. Dropping it ends that.
#[derive(Debug)]
pub(crate) struct Loan {
    board: Arc<Switchboard>,
    generation: u64,
}

impl Loan {
    /// The generation in force, which stays.
    pub(crate) fn generation(&self) -> u64 {
        self.generation
    }

    /// The instances before this one that have not ended.
    pub(crate) fn followers(&self) -> &Followers {
        &self.board.followers
    }

    /// The targets that take requests though the table only lists them.
    pub(crate) fn open(&self) -> Vec<OpenTarget> {
        self.board.state().open()
    }

    /// The other instance applies tables from now on, and tells those before us.
    pub(crate) fn give(self) {
        *self.board.authority() = Authority::Given;
        self.board.followers.clear();
    }
}

impl Drop for Loan {
    fn drop(&mut self) {
        let mut authority = self.board.authority();
        if *authority == Authority::Lent {
            *authority = Authority::Ours;
        }
    }
}

impl Switchboard {
    /// Puts the stored table in force. A name whose certificate cannot be loaded
    /// is not served over TLS; all others are.
    pub(crate) fn new(
        store: Store,
        snapshot: Arc<ArcSwap<Snapshot>>,
        workers: Vec<Mailbox>,
        certificates: Arc<Certificates>,
        before: Before,
    ) -> Self {
        let table = Arc::new(store.load());
        let (loaded, problems) = certificates.load(&table);
        problems.iter().for_each(|problem| tell(problem, false));
        certificates.put_in_force(loaded);
        let mut state = State::default();
        let admitted = state.admit(&table, workers.len(), &before.open);
        state.park(&table);
        state.settle(&table);
        snapshot.store(Arc::new(admitted));
        Self {
            instance: new_instance(),
            generation: AtomicU64::new(table.generation),
            swap_micros: AtomicU64::new(0),
            tally: Arc::new(Tally::new(workers.len())),
            snapshot,
            workers,
            store,
            certificates,
            turn: Mutex::default(),
            state: StdMutex::new(state),
            authority: StdMutex::new(Authority::Ours),
            followers: before.followers,
        }
    }

    /// Whoever panicked left a state that the next table mends.
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn authority(&self) -> MutexGuard<'_, Authority> {
        self.authority
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
    }

    /// Stops applying tables until the loan ends; none when another has it. A table
    /// that is being applied comes first.
    pub(crate) async fn lend(self: &Arc<Self>) -> Option<Loan> {
        let _turn = self.turn.lock().await;
        let mut authority = self.authority();
        if *authority != Authority::Ours {
            return None;
        }
        *authority = Authority::Lent;
        Some(Loan {
            board: Arc::clone(self),
            generation: self.generation(),
        })
    }

    /// The name of this process.
    pub(crate) fn instance(&self) -> &str {
        &self.instance
    }

    /// What is counted of the process as a whole.
    pub(crate) fn tally(&self) -> &Arc<Tally> {
        &self.tally
    }

    /// The generation in force.
    pub(crate) fn generation(&self) -> u64 {
        self.generation.load(Relaxed)
    }

    /// Returns when every worker has answered.
    pub(crate) async fn workers_answer(&self) -> Result<(), Unfenced> {
        self.fence(&[]).await
    }

    /// The last table that everybody follows.
    pub(crate) fn table(&self) -> Arc<Table> {
        Arc::clone(self.state().table())
    }

    /// Puts a table in force in place of the generation `expected`.
    pub(crate) async fn apply(&self, expected: u64, table: Table) -> Result<Applied, Unfenced> {
        let _turn = self.turn.lock().await;
        if *self.authority() != Authority::Ours {
            return Ok(Applied::Refused(Refusal::HandingOver));
        }
        if let Err(refusal) = check(self.generation(), expected, &table) {
            return Ok(Applied::Refused(refusal));
        }
        let table = Arc::new(table);
        let loaded = match self.load_certificates(&table).await {
            Ok(loaded) => loaded,
            Err(problems) => return Ok(Applied::Refused(Refusal::Invalid(problems))),
        };
        let (store, kept) = (self.store.clone(), Arc::clone(&table));
        let saved = tokio::task::spawn_blocking(move || store.save(&kept)).await;
        let trouble = match saved {
            Ok(Ok(())) => None,
            Ok(Err(error)) => Some(chain(&error)),
            Err(error) => Some(error.to_string()),
        };
        if let Some(trouble) = trouble {
            tracing::error!(error = %trouble, "a table could not be stored and is refused");
            return Ok(Applied::Refused(Refusal::Storage(trouble)));
        }
        self.certificates.put_in_force(loaded);
        let followed = self.put_in_force(&table).await;
        self.followers.follow(&table).await;
        self.settle(&table, followed)?;
        Ok(Applied::Generation(table.generation))
    }

    /// Routes by the table of the instance that took over. Where this one cannot
    /// obey it, it lets its clients go instead: idle ones after `linger`, the others
    /// after the answer they wait for, so that none is routed by an older table.
    pub(crate) async fn follow(&self, table: Table, linger: Duration) -> Result<Applied, Unfenced> {
        let _turn = self.turn.lock().await;
        let (expected, actual) = (table.generation, self.generation());
        if *self.authority() != Authority::Given {
            let why = "this instance was not taken over".to_owned();
            return Ok(Applied::Refused(Refusal::TakeOver(why)));
        }
        if expected < actual {
            return Ok(Applied::Refused(Refusal::Generation { expected, actual }));
        }
        if let Some(first) = objections(&table).into_iter().next() {
            tracing::warn!(%first, "the table of the successor cannot be followed: clients are let go");
            for worker in &self.workers {
                worker.post(Message::Stop(linger));
            }
            tokio::time::sleep(linger + TICKS_AFTER).await;
            self.fence(&[]).await?;
        } else {
            let table = Arc::new(table);
            let followed = self.put_in_force(&table).await;
            self.settle(&table, followed)?;
        }
        Ok(Applied::Generation(expected))
    }

    /// A table is in force; what none names any more is forgotten, unless a worker
    /// may still go by an older one.
    fn settle(&self, table: &Arc<Table>, followed: Result<(), Unfenced>) -> Result<(), Unfenced> {
        let mut state = self.state();
        state.settle(table);
        followed?;
        state.forget(table);
        Ok(())
    }

    /// Makes a sound table the one that every worker of this process routes by.
    async fn put_in_force(&self, table: &Arc<Table>) -> Result<(), Unfenced> {
        let snapshot = {
            let mut state = self.state();
            let snapshot = state.admit(table, self.workers.len(), &[]);
            state.park(table);
            snapshot
        };
        let snapshot = Arc::new(snapshot);
        let begun = std::time::Instant::now();
        let before = self.snapshot.swap(snapshot);
        self.generation.store(table.generation, Relaxed);
        let followed = self.fence(&[]).await;
        // Whoever waits is let go in any case: it looks at the table again.
        {
            let mut state = self.state();
            state.release(table);
            state.ask_for_health(table);
        }
        followed?;
        let swap_micros = u64::try_from(begun.elapsed().as_micros()).unwrap_or(u64::MAX);
        self.swap_micros.store(swap_micros, Relaxed);
        // No worker has it any more, nor the trouble of freeing a large one.
        tokio::task::spawn_blocking(move || drop(before));
        tracing::info!(
            generation = table.generation,
            apps = table.apps.len(),
            swap_micros,
            "table in force"
        );
        Ok(())
    }

    /// That no other instance takes over meanwhile: what is put now stays.
    async fn stay_in_charge(&self) -> Result<TurnGuard<'_, ()>, Refusal> {
        let turn = self.turn.lock().await;
        let is_ours = *self.authority() == Authority::Ours;
        is_ours.then_some(turn).ok_or(Refusal::HandingOver)
    }

    /// Serves a certificate for a name from memory.
    pub(crate) async fn put_certificate(
        &self,
        name: String,
        chain: String,
        KeyText(key): KeyText,
    ) -> Result<(), Refusal> {
        let _stays = self.stay_in_charge().await?;
        let certificates = Arc::clone(&self.certificates);
        let put = move || certificates.put(&name, &chain, &key);
        let done = tokio::task::spawn_blocking(put).await;
        let done = done.unwrap_or_else(|error| Err(vec![unread(&error)]));
        done.map_err(Refusal::Certificate)
    }

    /// Serves for a name what the table says.
    pub(crate) async fn drop_certificate(&self, name: &str) -> Result<(), Refusal> {
        let _stays = self.stay_in_charge().await?;
        self.certificates.drop_put(name);
        Ok(())
    }

    /// All counts.
    pub(crate) fn statistics(&self) -> Statistics {
        let mut told = Statistics {
            instance: self.instance.clone(),
            proxy: self.tally.read(),
            ..Statistics::default()
        };
        told.proxy.swap_micros = self.swap_micros.load(Relaxed);
        told.proxy.certificates = self.certificates.expiries();
        self.state().tell(&mut told);
        told
    }

    /// Reads what a table names beside itself, on a thread that may wait for files.
    async fn load_certificates(&self, table: &Arc<Table>) -> Result<Loaded, Vec<TableProblem>> {
        let (certificates, table) = (Arc::clone(&self.certificates), Arc::clone(table));
        let load = move || certificates.load(&table);
        match tokio::task::spawn_blocking(load).await {
            Ok((loaded, problems)) if problems.is_empty() => Ok(loaded),
            Ok((_, problems)) => Err(problems),
            Err(error) => Err(vec![unread(&error)]),
        }
    }

    /// Begins to ask targets for their health, by the table that was stored.
    pub(crate) fn begin(&self) {
        let mut state = self.state();
        let table = Arc::clone(state.table());
        state.ask_for_health(&table);
    }

    /// Whether every worker that has not ended goes on.
    pub(crate) async fn is_alive(&self) -> bool {
        self.fence(&[]).await.is_ok()
    }

    /// Returns when every worker has done what it had begun, and has closed its
    /// idle connections to the targets of these numbers.
    async fn fence(&self, close: &[u64]) -> Result<(), Unfenced> {
        let passed: Vec<oneshot::Receiver<()>> = self
            .workers
            .iter()
            .map(|worker| {
                let (done, passed) = oneshot::channel();
                worker.post(Message::Fence {
                    close: close.to_vec(),
                    done,
                });
                passed
            })
            .collect();
        for passed in passed {
            // A worker that has ended binds nothing any more.
            if timeout(FENCE_DEADLINE, passed).await.is_err() {
                return Err(Unfenced);
            }
        }
        Ok(())
    }
}

/// The reading of certificates itself failed.
fn unread(error: &tokio::task::JoinError) -> TableProblem {
    TableProblem {
        place: "certificates".to_owned(),
        fault: format!("they could not be read: {error}"),
    }
}

fn check(actual: u64, expected: u64, table: &Table) -> Result<(), Refusal> {
    if expected != actual {
        return Err(Refusal::Generation { expected, actual });
    }
    let mut problems = objections(table);
    if Some(table.generation) != expected.checked_add(1) {
        let fault = format!("{} does not follow {expected}", table.generation);
        problems.push(TableProblem {
            place: "generation".to_owned(),
            fault,
        });
    }
    if problems.is_empty() {
        Ok(())
    } else {
        Err(Refusal::Invalid(problems))
    }
}

fn new_instance() -> String {
    let word = || RandomState::new().build_hasher().finish();
    format!("{:016x}{:016x}", word(), word())
}
