//! The one place that changes where requests go.
//!
//! It takes a table in place of the generation that its maker had read, stores
//! it, puts it in force, and answers only when every worker routes by it. It
//! keeps targets and counters through all tables. It reads no socket.
//!
//! ```text
//!  Apply: check ─▶ store ─▶ allow serving targets ─▶ swap ─▶ fence all workers ─▶ acknowledge
//!  Drain: set draining ─▶ wait for the open counts ─▶ close our idle connections ─▶ answer
//! ```
//!
//! Invariant: choosing a target is one synchronous step of a worker, so a fence
//! that passed through a worker's mailbox after the swap proves that the worker
//! binds no further request by the old table.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::hash::{BuildHasher, Hasher, RandomState};
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use arc_swap::ArcSwap;
use cutover_wire::proxy::{Drained, Refusal};
use cutover_wire::statistics::{PoolStatistics, Statistics};
use cutover_wire::table::{Table, TableProblem};
use http::HeaderValue;
use tokio::sync::{Mutex, oneshot};
use tokio::time::{Instant, timeout, timeout_at};

use crate::abilities::objections;
use crate::counters::Counters;
use crate::route::{Pool, Snapshot};
use crate::store::{Store, chain};
use crate::target::Target;
use crate::worker::{Mailbox, Message};

/// Pools that left the table and whose counts are still told. The agent reads
/// the counts of the last deploys only, and an app has at most four pools.
const MAX_GONE_POOLS: usize = 256;

/// How long a worker may take to see a fence. It does so between two requests,
/// so this is only reached when a worker is gone.
const FENCE_DEADLINE: Duration = Duration::from_secs(10);

/// The longest drain: a day, after which the agent may ask again.
const MAX_DRAIN: Duration = Duration::from_secs(24 * 3600);

/// A worker did not answer; whether it follows the new table is not known.
#[derive(Debug, thiserror::Error)]
#[error("a worker did not follow the table")]
pub(crate) struct Unfenced;

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
    next_number: u64,
}

/// See the module.
#[derive(Debug)]
pub(crate) struct Switchboard {
    instance: String,
    snapshot: Arc<ArcSwap<Snapshot>>,
    workers: Vec<Mailbox>,
    store: Store,
    state: Mutex<State>,
}

impl Switchboard {
    /// Puts the stored table in force.
    pub(crate) fn new(
        store: Store,
        snapshot: Arc<ArcSwap<Snapshot>>,
        workers: Vec<Mailbox>,
    ) -> Self {
        let table = Arc::new(store.load());
        let mut state = State {
            table: Arc::clone(&table),
            targets: HashMap::new(),
            counters: BTreeMap::new(),
            next_number: 0,
        };
        snapshot.store(Arc::new(state.admit(&table, workers.len())));
        Self {
            instance: new_instance(),
            snapshot,
            workers,
            store,
            state: Mutex::new(state),
        }
    }

    /// The name of this process.
    pub(crate) fn instance(&self) -> &str {
        &self.instance
    }

    /// The table in force.
    pub(crate) async fn table(&self) -> Arc<Table> {
        Arc::clone(&self.state.lock().await.table)
    }

    /// Puts a table in force in place of the generation `expected`.
    pub(crate) async fn apply(&self, expected: u64, table: Table) -> Result<Applied, Unfenced> {
        let mut state = self.state.lock().await;
        if let Err(refusal) = check(&state.table, expected, &table) {
            return Ok(Applied::Refused(refusal));
        }
        let table = Arc::new(table);
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
        let snapshot = state.admit(&table, self.workers.len());
        state.table = Arc::clone(&table);
        self.snapshot.store(Arc::new(snapshot));
        self.fence(&[]).await?;
        state.forget(&table);
        tracing::info!(
            generation = table.generation,
            apps = table.apps.len(),
            "table in force"
        );
        Ok(Applied::Generation(table.generation))
    }

    /// Gives these targets no new request and waits for the open ones.
    pub(crate) async fn drain(&self, app: &str, ids: &[String], deadline: Duration) -> Drained {
        let deadline = Instant::now() + deadline.min(MAX_DRAIN);
        let targets: Vec<Arc<Target>> = {
            let state = self.state.lock().await;
            let named = |key: &TargetKey| key.app == app && ids.contains(&key.id);
            let found = state.targets.iter().filter(|(key, _)| named(key));
            found.map(|(_, target)| Arc::clone(target)).collect()
        };
        for target in &targets {
            target.set_draining(true);
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
        targets.iter().fold(Drained::default(), |sum, target| {
            let open = target.open();
            Drained {
                requests: sum.requests + open.requests,
                streams: sum.streams + open.streams,
                tunnels: sum.tunnels + open.tunnels,
            }
        })
    }

    /// All counts.
    pub(crate) async fn statistics(&self) -> Statistics {
        let state = self.state.lock().await;
        let mut apps: BTreeMap<String, BTreeMap<String, PoolStatistics>> = BTreeMap::new();
        for ((app, pool), kept) in &state.counters {
            let pools = apps.entry(app.clone()).or_default();
            pools.insert(pool.clone(), kept.counters.read());
        }
        Statistics {
            instance: self.instance.clone(),
            apps,
        }
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
            match timeout(FENCE_DEADLINE, passed).await {
                Ok(Ok(())) => {}
                Ok(Err(_)) | Err(_) => return Err(Unfenced),
            }
        }
        Ok(())
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
        Snapshot::new(table, |app, pool| {
            let listed = &table.apps[app].pools[pool];
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
                            Arc::new(Target::new(*numbers, target.address, workers))
                        });
                        live.set_draining(false);
                        Arc::clone(live)
                    })
                    .collect(),
                counters: Arc::clone(&self.counters[&key].counters),
            }
        })
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
            Switchboard::new(store, Arc::clone(&snapshot), Vec::new()),
            snapshot,
        )
    }

    fn serving(snapshot: &ArcSwap<Snapshot>) -> Arc<Target> {
        let snapshot = snapshot.load();
        let route = snapshot.find("a.example", "/").unwrap();
        Arc::clone(&route.serving.targets[0])
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
        let drained = board.drain("shop", &ids, Duration::from_secs(5)).await;
        assert!(drained.is_empty() && old.is_draining());
        board.apply(2, table(3, &pools, "v1")).await.unwrap();
        assert!(Arc::ptr_eq(&old, &serving(&snapshot)) && !old.is_draining());
    }

    #[tokio::test]
    async fn a_table_is_acknowledged_only_when_every_worker_follows_it() {
        let directory = tempfile::tempdir().unwrap();
        let snapshot = Arc::new(ArcSwap::default());
        let ((one, mut first), (two, mut second)) = (Mailbox::new(), Mailbox::new());
        let store = Store::open(directory.path()).unwrap();
        let board = Switchboard::new(store, Arc::clone(&snapshot), vec![one, two]);
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
