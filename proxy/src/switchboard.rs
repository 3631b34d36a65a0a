//! The one place that changes where requests go.
//!
//! It takes a table in place of the generation that its maker had read, stores
//! it, puts it in force, and answers only when every worker routes by it. It
//! keeps targets and counters through all tables. It reads no socket.
//!
//! ```text
//!  Apply: check ─▶ load certificates ─▶ store ─▶ allow serving targets ─▶ swap
//!         ─▶ fence all workers ─▶ acknowledge
//!  Drain: set draining ─▶ wait for the open counts ─▶ close our idle connections ─▶ answer
//! ```
//!
//! While another instance takes over, and after it did, no table is applied here:
//! an instance that was taken over follows the tables of its successor, and the
//! successor acknowledges a table when those before it follow, too.
//!
//! Invariant: choosing a target is one synchronous step of a worker, so a fence
//! that passed through a worker's mailbox after the swap proves that the worker
//! binds no further request by the old table.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::hash::{BuildHasher, Hasher, RandomState};
use std::net::SocketAddr;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::sync::{Arc, Mutex as StdMutex, MutexGuard as StdMutexGuard, PoisonError};
use std::time::Duration;

use arc_swap::ArcSwap;
use cutover_wire::proxy::{Cut, Drained, KeyText, Refusal};
use cutover_wire::statistics::{ParkStatistics, PoolStatistics, Statistics};
use cutover_wire::table::{Table, TableProblem, Target as Listed};
use http::HeaderValue;
use tokio::sync::{Mutex, MutexGuard, oneshot};
use tokio::task::JoinSet;
use tokio::time::{Instant, timeout, timeout_at};

use crate::abilities::objections;
use crate::clock::millis;
use crate::counters::Counters;
use crate::health::HealthChecks;
use crate::mirror::Comparison;
use crate::park::Lot;
use crate::route::{Live, Pool, Snapshot, gives_requests_to};
use crate::store::{Store, chain};
use crate::takeover::{Asked, Follower};
use crate::tally::Tally;
use crate::target::Target;
use crate::tls::{Certificates, Loaded, tell};
use crate::worker::{Mailbox, Message};

/// Pools that left the table and whose counts are still told. The agent reads
/// the counts of the last deploys only, and an app has at most four pools.
const MAX_GONE_POOLS: usize = 256;

/// How long a worker may take to see a fence. It does so between two requests,
/// so this is only reached when a worker is gone.
const FENCE_DEADLINE: Duration = Duration::from_secs(10);

/// The longest drain: a day, after which the agent may ask again.
const MAX_DRAIN: Duration = Duration::from_secs(24 * 3600);

/// What an idle connection may last beyond its time: the worker looks each tick.
const TICKS_AFTER: Duration = Duration::from_millis(200);

/// A worker did not answer, or an instance before this one; whether it follows
/// the new table is not known.
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

#[derive(Debug, PartialEq, Eq, Hash)]
struct TargetKey {
    app: String,
    id: String,
    address: SocketAddr,
}

/// The app and the pool.
type PoolKey = (String, String);

#[derive(Debug)]
struct KeptCounters {
    counters: Arc<Counters>,
    /// The generation that dropped the pool; none while a table names it.
    gone: Option<u64>,
}

#[derive(Debug)]
struct State {
    table: Arc<Table>,
    targets: HashMap<TargetKey, Arc<Target>>,
    counters: BTreeMap<PoolKey, KeptCounters>,
    /// Where the requests of each app wait, by its name.
    lots: BTreeMap<String, Arc<Lot>>,
    /// What was counted of the copies of each app.
    comparisons: BTreeMap<String, Arc<Comparison>>,
    health: HealthChecks,
    next_number: u64,
}

/// See the module.
#[derive(Debug)]
pub(crate) struct Switchboard {
    instance: String,
    snapshot: Arc<ArcSwap<Snapshot>>,
    workers: Vec<Mailbox>,
    store: Store,
    certificates: Arc<Certificates>,
    state: Mutex<State>,
    /// The generation in force, for those who cannot wait for the state.
    generation: AtomicU64,
    /// How long the last swap took, until every worker followed.
    swap_micros: AtomicU64,
    tally: Arc<Tally>,
    authority: StdMutex<Authority>,
    /// The instances before this one that have not ended.
    followers: StdMutex<Vec<Follower>>,
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
    pub(crate) fn followers(&self) -> Vec<Follower> {
        self.board.followers().clone()
    }

    /// The other instance applies tables from now on, and tells those before us.
    pub(crate) fn give(self) {
        *self.board.authority() = Authority::Given;
        self.board.followers().clear();
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
    /// is not served over TLS; all others are. `followers` are the instances that
    /// this one takes over from.
    pub(crate) fn new(
        store: Store,
        snapshot: Arc<ArcSwap<Snapshot>>,
        workers: Vec<Mailbox>,
        certificates: Arc<Certificates>,
        followers: Vec<Follower>,
    ) -> Self {
        let table = Arc::new(store.load());
        let (loaded, problems) = certificates.load(&table);
        problems.iter().for_each(|problem| tell(problem, false));
        certificates.put_in_force(loaded);
        let mut state = State {
            table: Arc::clone(&table),
            targets: HashMap::new(),
            counters: BTreeMap::new(),
            lots: BTreeMap::new(),
            comparisons: BTreeMap::new(),
            health: HealthChecks::new(),
            next_number: 0,
        };
        let admitted = state.admit(&table, workers.len());
        state.park(&table);
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
            state: Mutex::new(state),
            authority: StdMutex::new(Authority::Ours),
            followers: StdMutex::new(followers),
        }
    }

    fn authority(&self) -> StdMutexGuard<'_, Authority> {
        self.authority
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
    }

    fn followers(&self) -> StdMutexGuard<'_, Vec<Follower>> {
        self.followers
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
    }

    /// Stops applying tables until the loan ends; none when another has it. A table
    /// that is being applied comes first.
    pub(crate) async fn lend(self: &Arc<Self>) -> Option<Loan> {
        let state = self.state.lock().await;
        let mut authority = self.authority();
        if *authority != Authority::Ours {
            return None;
        }
        *authority = Authority::Lent;
        Some(Loan {
            board: Arc::clone(self),
            generation: state.table.generation,
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

    /// The table in force.
    pub(crate) async fn table(&self) -> Arc<Table> {
        Arc::clone(&self.state.lock().await.table)
    }

    /// Puts a table in force in place of the generation `expected`.
    pub(crate) async fn apply(&self, expected: u64, table: Table) -> Result<Applied, Unfenced> {
        let mut state = self.state.lock().await;
        if *self.authority() != Authority::Ours {
            return Ok(Applied::Refused(Refusal::HandingOver));
        }
        if let Err(refusal) = check(&state.table, expected, &table) {
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
        self.put_in_force(&mut state, &table).await?;
        self.lead(&table).await?;
        state.forget(&table);
        Ok(Applied::Generation(table.generation))
    }

    /// Routes by the table of the instance that took over. Where this one cannot
    /// obey it, it lets its clients go instead: idle ones after `linger`, the others
    /// after the answer they wait for, so that none is routed by an older table.
    pub(crate) async fn follow(&self, table: Table, linger: Duration) -> Result<Applied, Unfenced> {
        let mut state = self.state.lock().await;
        let (expected, actual) = (table.generation, state.table.generation);
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
            self.put_in_force(&mut state, &table).await?;
            state.forget(&table);
        }
        Ok(Applied::Generation(expected))
    }

    /// Makes a sound table the one that every worker of this process routes by.
    async fn put_in_force(&self, state: &mut State, table: &Arc<Table>) -> Result<(), Unfenced> {
        let snapshot = state.admit(table, self.workers.len());
        state.table = Arc::clone(table);
        state.park(table);
        let snapshot = Arc::new(snapshot);
        let begun = std::time::Instant::now();
        let before = self.snapshot.swap(snapshot);
        self.generation.store(table.generation, Relaxed);
        let followed = self.fence(&[]).await;
        // Whoever waits is let go in any case: it looks at the table again.
        state.release(table);
        state.ask_for_health();
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

    /// Returns when the instances before this one follow a table, or have ended.
    async fn lead(&self, table: &Table) -> Result<(), Unfenced> {
        let followers = self.followers().clone();
        let mut left = Vec::new();
        let mut followed = Ok(());
        for follower in followers {
            match follower.follow(table, FENCE_DEADLINE).await {
                Ok(Asked::Done(())) => left.push(follower),
                Ok(Asked::Gone) => {}
                Err(error) => {
                    tracing::error!(error = %chain(&error), "an instance before this one did not follow");
                    left.push(follower);
                    followed = Err(Unfenced);
                }
            }
        }
        *self.followers() = left;
        followed
    }

    /// Gives these targets no new request and waits for the open ones, those that
    /// instances before this one still carry among them.
    pub(crate) async fn drain(
        &self,
        app: &str,
        ids: &[String],
        deadline: Duration,
        cut: Option<Cut>,
    ) -> Drained {
        let deadline = deadline.min(MAX_DRAIN);
        let mut others = JoinSet::new();
        for follower in self.followers().clone() {
            let (app, ids) = (app.to_owned(), ids.to_vec());
            others.spawn(async move { follower.drain(&app, &ids, deadline, cut).await });
        }
        let mut left = self.drain_here(app, ids, deadline, cut).await;
        while let Some(other) = others.join_next().await {
            let open = match other {
                Ok(Ok(open)) => open,
                // Not known to be empty is not empty.
                Ok(Err(error)) => {
                    tracing::error!(error = %chain(&error), "an instance before this one did not tell what it holds");
                    Drained {
                        requests: 1,
                        ..Drained::default()
                    }
                }
                Err(error) => {
                    tracing::error!(%error, "an instance before this one was not asked what it holds");
                    Drained {
                        requests: 1,
                        ..Drained::default()
                    }
                }
            };
            left = left.plus(open);
        }
        left
    }

    async fn drain_here(
        &self,
        app: &str,
        ids: &[String],
        deadline: Duration,
        cut: Option<Cut>,
    ) -> Drained {
        let deadline = Instant::now() + deadline;
        let targets: Vec<Arc<Target>> = {
            let state = self.state.lock().await;
            let named = |key: &TargetKey| key.app == app && ids.contains(&key.id);
            let found = state.targets.iter().filter(|(key, _)| named(key));
            found.map(|(_, target)| Arc::clone(target)).collect()
        };
        let now = self.tally.uptime_ms();
        let from = |after: Option<u64>| after.map(|after| now.saturating_add(after));
        let ended = |target: &Arc<Target>| target.cutting().count();
        let before: Vec<(u64, u64)> = targets.iter().map(ended).collect();
        for target in &targets {
            target.set_draining(true);
            if let Some(cut) = cut {
                let (streams, tunnels) = (from(cut.streams_ms), from(cut.tunnels_ms));
                target.cutting().begin(streams, tunnels, cut.spread_ms);
            }
        }
        for target in &targets {
            let _ = timeout_at(deadline, target.emptied()).await;
        }
        // We close first, so that no target sees a connection of ours in use
        // when it is told to stop.
        let numbers: Vec<u64> = targets.iter().map(|target| target.number()).collect();
        if self.fence(&numbers).await.is_err() {
            tracing::error!("a worker did not close its idle connections to a drained target");
        }
        let drained = targets
            .iter()
            .zip(before)
            .map(|(target, (streams, tunnels))| {
                let (streams_now, tunnels_now) = ended(target);
                Drained {
                    streams_cut: streams_now.saturating_sub(streams),
                    tunnels_cut: tunnels_now.saturating_sub(tunnels),
                    ..target.open()
                }
            });
        drained.fold(Drained::default(), Drained::plus)
    }

    /// Ends the streams and tunnels of all targets, over `spread`: the process ends.
    pub(crate) async fn part(&self, spread: Duration) {
        let now = Some(self.tally.uptime_ms());
        for target in self.state.lock().await.targets.values() {
            target.cutting().begin(now, now, millis(spread));
        }
    }

    /// That no other instance takes over meanwhile: what is put now stays.
    async fn stay_in_charge(&self) -> Result<MutexGuard<'_, State>, Refusal> {
        let state = self.state.lock().await;
        let is_ours = *self.authority() == Authority::Ours;
        is_ours.then_some(state).ok_or(Refusal::HandingOver)
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
    pub(crate) async fn statistics(&self) -> Statistics {
        let state = self.state.lock().await;
        let mut apps: BTreeMap<String, BTreeMap<String, PoolStatistics>> = BTreeMap::new();
        for ((app, pool), kept) in &state.counters {
            let pools = apps.entry(app.clone()).or_default();
            pools.insert(pool.clone(), kept.counters.read());
        }
        let mut proxy = self.tally.read();
        state.tell_targets(&mut apps, proxy.uptime_ms);
        proxy.generation = state.table.generation;
        proxy.swap_micros = self.swap_micros.load(Relaxed);
        for (app, lot) in &state.lots {
            let held = lot.read();
            if held != ParkStatistics::default() {
                proxy.parks.insert(app.clone(), held);
            }
        }
        proxy.certificates = self.certificates.expiries();
        for (app, comparison) in &state.comparisons {
            proxy.mirrors.insert(app.clone(), comparison.read());
        }
        Statistics {
            instance: self.instance.clone(),
            apps,
            proxy,
        }
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
    pub(crate) async fn begin(&self) {
        self.state.lock().await.ask_for_health();
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

fn check(current: &Table, expected: u64, table: &Table) -> Result<(), Refusal> {
    let actual = current.generation;
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

impl State {
    /// Makes the snapshot of a sound table, with the targets and counters that live on.
    fn admit(&mut self, table: &Table, workers: usize) -> Snapshot {
        for (app, route) in &table.apps {
            for pool in route.pools.keys() {
                let key = (app.clone(), pool.clone());
                let kept = self.counters.entry(key).or_insert_with(|| KeptCounters {
                    counters: Arc::new(Counters::new(workers)),
                    gone: None,
                });
                kept.gone = None;
            }
        }
        let lots = &mut self.lots;
        let pool = |app: &str, pool: &str| {
            let route = &table.apps[app];
            let listed = &route.pools[pool];
            // What is only listed may be draining, and goes on draining.
            let serves = gives_requests_to(route, pool);
            let key = (app.to_owned(), pool.to_owned());
            Pool {
                name: HeaderValue::from_str(pool).ok(),
                targets: listed
                    .targets
                    .iter()
                    .map(|target| {
                        let key = TargetKey {
                            app: app.to_owned(),
                            id: target.id.clone(),
                            address: target.address,
                        };
                        let numbers = &mut self.next_number;
                        let live = self.targets.entry(key).or_insert_with(|| {
                            *numbers += 1;
                            let made = Target::new(*numbers, target.address, workers);
                            // Listed and no more: the process before may have drained
                            // it, and what it may end, it has.
                            made.set_draining(!serves);
                            Arc::new(made)
                        });
                        if serves {
                            live.set_draining(false);
                        }
                        Arc::clone(live)
                    })
                    .collect(),
                counters: Arc::clone(&self.counters[&key].counters),
                balance: listed.balance,
                protocol: listed.protocol,
            }
        };
        let comparisons = &mut self.comparisons;
        Snapshot::new(table, pool, |app| Live {
            lot: Arc::clone(lots.entry(app.to_owned()).or_default()),
            comparison: table.apps[app].mirror.is_some().then(|| {
                let made = || Arc::new(Comparison::new(workers));
                Arc::clone(comparisons.entry(app.to_owned()).or_insert_with(made))
            }),
        })
    }

    /// Holds the requests of apps that the table parks, before it is in force.
    fn park(&self, table: &Table) {
        for (app, route) in &table.apps {
            if let (Some(bounds), Some(lot)) = (&route.park, self.lots.get(app)) {
                lot.park(bounds);
            }
        }
    }

    /// Lets go the requests of all other apps, when the table is in force.
    fn release(&mut self, table: &Table) {
        let parks = |app: &String| {
            table
                .apps
                .get(app)
                .is_some_and(|route| route.park.is_some())
        };
        for (app, lot) in &self.lots {
            if !parks(app) {
                lot.release();
            }
        }
        self.lots
            .retain(|app, lot| table.apps.contains_key(app) || lot.is_open());
        self.comparisons
            .retain(|app, _| table.apps.contains_key(app));
    }

    /// Asks the targets that the table in force wants to be asked, and no others.
    fn ask_for_health(&mut self) {
        let mut asked = Vec::new();
        for (key, target) in &self.targets {
            let route = self.table.apps.get(&key.app);
            let pools = route.into_iter().flat_map(|route| route.pools.values());
            for pool in pools {
                let named = |listed: &Listed| listed.id == key.id && listed.address == key.address;
                if let (Some(health), true) = (&pool.health, pool.targets.iter().any(named)) {
                    asked.push((Arc::clone(target), health.clone(), pool.protocol));
                }
            }
        }
        self.health.follow(&asked);
    }

    /// Adds the figures of the targets that the table names.
    fn tell_targets(
        &self,
        apps: &mut BTreeMap<String, BTreeMap<String, PoolStatistics>>,
        now: u64,
    ) {
        for (app, route) in &self.table.apps {
            for (name, listed) in &route.pools {
                let Some(pool) = apps.get_mut(app).and_then(|pools| pools.get_mut(name)) else {
                    continue;
                };
                for target in &listed.targets {
                    let key = TargetKey {
                        app: app.clone(),
                        id: target.id.clone(),
                        address: target.address,
                    };
                    if let Some(live) = self.targets.get(&key) {
                        pool.targets.insert(key.id, live.statistics(now));
                    }
                }
            }
        }
    }

    /// Drops what no table names and no request holds; called when every worker
    /// follows `table`, so that nothing of it can be acquired again.
    fn forget(&mut self, table: &Table) {
        let mut named = BTreeSet::new();
        for (app, route) in &table.apps {
            for target in route.pools.values().flat_map(|pool| &pool.targets) {
                named.insert((app.as_str(), target.id.as_str(), target.address));
            }
        }
        self.targets.retain(|key, target| {
            named.contains(&(key.app.as_str(), key.id.as_str(), key.address))
                || !target.open().is_empty()
        });
        for ((app, pool), kept) in &mut self.counters {
            let route = table.apps.get(app);
            if !route.is_some_and(|route| route.pools.contains_key(pool)) {
                kept.gone.get_or_insert(table.generation);
            }
        }
        let mut gone: Vec<(u64, PoolKey)> = self
            .counters
            .iter()
            .filter_map(|(key, kept)| kept.gone.map(|since| (since, key.clone())))
            .collect();
        gone.sort();
        let surplus = gone.len().saturating_sub(MAX_GONE_POOLS);
        for (_, key) in gone.drain(..surplus) {
            self.counters.remove(&key);
        }
    }
}

fn new_instance() -> String {
    let word = || RandomState::new().build_hasher().finish();
    format!("{:016x}{:016x}", word(), word())
}

#[cfg(test)]
mod tests {
    use super::*;
    use cutover_wire::table::{self, Route, Split};

    fn table(generation: u64, pools: &[(&str, u16)], serving: &str) -> Table {
        let pool = |&(name, port): &(&str, u16)| {
            let target = table::Target {
                id: format!("{name}-0"),
                address: SocketAddr::from(([127, 0, 0, 1], port)),
            };
            (name.to_owned(), table::Pool::of(vec![target]))
        };
        let hosts = vec!["a.example".to_owned()];
        let pools = pools.iter().map(pool).collect();
        let route = Route::new(hosts, "/", Split::all_to(serving), pools);
        Table {
            generation,
            apps: BTreeMap::from([("shop".to_owned(), route)]),
            ..Table::default()
        }
    }

    fn switchboard(directory: &std::path::Path) -> (Switchboard, Arc<ArcSwap<Snapshot>>) {
        let snapshot = Arc::new(ArcSwap::default());
        let store = Store::open(directory).unwrap();
        (
            Switchboard::new(
                store,
                Arc::clone(&snapshot),
                Vec::new(),
                Arc::default(),
                Vec::new(),
            ),
            snapshot,
        )
    }

    fn serving(snapshot: &ArcSwap<Snapshot>) -> Arc<Target> {
        let snapshot = snapshot.load();
        let found = snapshot.find("a.example", "/").unwrap();
        Arc::clone(&found.route.sole.as_ref().unwrap().targets[0])
    }

    #[tokio::test]
    async fn a_target_keeps_its_identity_and_a_switch_back_ends_its_drain() {
        let directory = tempfile::tempdir().unwrap();
        let (board, snapshot) = switchboard(directory.path());
        let pools = [("v1", 1001), ("v2", 1002)];
        board.apply(0, table(1, &pools, "v1")).await.unwrap();
        let old = serving(&snapshot);
        board.apply(1, table(2, &pools, "v2")).await.unwrap();
        let ids = ["v1-0".to_owned()];
        let drained = board
            .drain("shop", &ids, Duration::from_secs(5), None)
            .await;
        assert!(drained.is_empty() && old.is_draining());
        board.apply(2, table(3, &pools, "v2")).await.unwrap();
        assert!(old.is_draining(), "it is listed, and serves nobody");
        board.apply(3, table(4, &pools, "v1")).await.unwrap();
        assert!(Arc::ptr_eq(&old, &serving(&snapshot)) && !old.is_draining());
    }

    #[tokio::test]
    async fn a_table_is_acknowledged_only_when_every_worker_follows_it() {
        let directory = tempfile::tempdir().unwrap();
        let snapshot = Arc::new(ArcSwap::default());
        let ((one, mut first), (two, mut second)) = (Mailbox::new(), Mailbox::new());
        let store = Store::open(directory.path()).unwrap();
        let workers = vec![one, two];
        let board = Switchboard::new(
            store,
            Arc::clone(&snapshot),
            workers,
            Arc::default(),
            Vec::new(),
        );
        let mut applied = std::pin::pin!(board.apply(0, table(1, &[("v1", 1001)], "v1")));
        for worker in [&mut first, &mut second] {
            let fence = tokio::select! {
                _ = &mut applied => panic!("acknowledged before a worker followed"),
                message = worker.recv() => message,
            };
            // What a worker reads after the fence was sent is the new table already.
            assert!(snapshot.load().find("a.example", "/").is_some());
            let Some(Message::Fence { done, .. }) = fence else {
                panic!("{fence:?}");
            };
            done.send(()).unwrap();
        }
        assert!(matches!(applied.await, Ok(Applied::Generation(1))));
    }

    #[tokio::test]
    async fn a_table_waits_for_the_end_of_a_loan_and_is_followed_only_after_one() {
        let directory = tempfile::tempdir().unwrap();
        let (board, _) = switchboard(directory.path());
        let board = Arc::new(board);
        let next = |generation| table(generation, &[("v1", 1001)], "v1");
        let loan = board.lend().await.unwrap();
        assert!(board.lend().await.is_none());
        let refused = board.apply(0, next(1)).await.unwrap();
        assert!(matches!(refused, Applied::Refused(Refusal::HandingOver)));
        drop(loan);
        let applied = board.apply(0, next(1)).await.unwrap();
        assert!(matches!(applied, Applied::Generation(1)));
        let refused = board.follow(next(2), Duration::ZERO).await.unwrap();
        assert!(matches!(refused, Applied::Refused(Refusal::TakeOver(_))));
        board.lend().await.unwrap().give();
        assert!(board.lend().await.is_none());
        let refused = board.apply(1, next(2)).await.unwrap();
        assert!(matches!(refused, Applied::Refused(Refusal::HandingOver)));
        for generation in [3, 3, 7] {
            let followed = board.follow(next(generation), Duration::ZERO).await;
            assert!(matches!(followed, Ok(Applied::Generation(n)) if n == generation));
            assert_eq!(board.table().await.generation, generation);
        }
        let refused = board.follow(next(6), Duration::ZERO).await.unwrap();
        assert!(matches!(
            refused,
            Applied::Refused(Refusal::Generation { .. })
        ));
        // What is followed is stored by who leads.
        assert_eq!(board.store.load().generation, 1);
    }

    #[tokio::test]
    async fn an_instance_that_cannot_obey_its_successor_lets_its_clients_go() {
        let directory = tempfile::tempdir().unwrap();
        let (mailbox, mut worker) = Mailbox::new();
        let store = Store::open(directory.path()).unwrap();
        let snapshot = Arc::new(ArcSwap::default());
        let board = Switchboard::new(store, snapshot, vec![mailbox], Arc::default(), Vec::new());
        let board = Arc::new(board);
        board.lend().await.unwrap().give();
        // Wrong for any program, as a table of a newer one is for an older.
        let beyond = table(1, &[("v1", 1001)], "v2");
        let linger = Duration::from_millis(1);
        let mut followed = std::pin::pin!(board.follow(beyond, linger));
        let told = tokio::select! {
            _ = &mut followed => panic!("acknowledged while clients could still be bound"),
            told = worker.recv() => told,
        };
        assert!(matches!(told, Some(Message::Stop(given)) if given == linger));
        let fence = tokio::select! {
            _ = &mut followed => panic!("acknowledged before the worker had let go"),
            fence = worker.recv() => fence,
        };
        let Some(Message::Fence { done, .. }) = fence else {
            panic!("{fence:?}");
        };
        done.send(()).unwrap();
        assert!(matches!(followed.await, Ok(Applied::Generation(1))));
        assert_eq!(board.table().await.generation, 0);
    }

    #[tokio::test]
    async fn counts_of_pools_that_left_are_told_and_bounded() {
        let directory = tempfile::tempdir().unwrap();
        let (board, _) = switchboard(directory.path());
        let rounds = MAX_GONE_POOLS as u64 + 10;
        for round in 0..rounds {
            let name = format!("v{round}");
            let next = table(round + 1, &[(&name, 1001)], &name);
            board.apply(round, next).await.unwrap();
        }
        let told = board.statistics().await;
        let pools = &told.apps["shop"];
        assert_eq!(pools.len(), MAX_GONE_POOLS + 1);
        assert!(!pools.contains_key("v0"), "the oldest is forgotten first");
        assert!(pools.contains_key(&format!("v{}", rounds - 2)));
    }
}
