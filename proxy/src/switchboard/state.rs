//! What lives through all tables: targets, counts, lots, and who asks for health.
//!
//! It decides nothing and waits for nobody; the switchboard says when.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::net::SocketAddr;
use std::sync::Arc;

use cutover_wire::proxy::OpenTarget;
use cutover_wire::statistics::{ParkStatistics, PoolStatistics, Statistics};
use cutover_wire::table::{Table, Target as Listed};
use http::HeaderValue;

use crate::counters::Counters;
use crate::health::HealthChecks;
use crate::mirror::Comparison;
use crate::park::Lot;
use crate::route::{Live, Pool, Snapshot, gives_requests_to};
use crate::target::Target;

/// Pools that left the table and whose counts are still told. The agent reads
/// the counts of the last deploys only, and an app has at most four pools.
pub(super) const MAX_GONE_POOLS: usize = 256;

#[derive(Debug, PartialEq, Eq, Hash)]
struct TargetKey {
    app: String,
    id: String,
    address: SocketAddr,
}

impl TargetKey {
    fn new(app: &str, target: &Listed) -> Self {
        Self {
            app: app.to_owned(),
            id: target.id.clone(),
            address: target.address,
        }
    }

    fn is(&self, open: &OpenTarget) -> bool {
        (&self.app, &self.id, self.address) == (&open.app, &open.id, open.address)
    }
}

/// The app and the pool.
type PoolKey = (String, String);

#[derive(Debug)]
struct KeptCounters {
    counters: Arc<Counters>,
    /// The generation that dropped the pool; none while a table names it.
    gone: Option<u64>,
}

/// See the module.
#[derive(Debug, Default)]
pub(super) struct State {
    /// The last table that every worker, and each instance before this one, followed.
    table: Arc<Table>,
    targets: HashMap<TargetKey, Arc<Target>>,
    counters: BTreeMap<PoolKey, KeptCounters>,
    /// Where the requests of each app wait, by its name.
    lots: BTreeMap<String, Arc<Lot>>,
    /// What was counted of the copies of each app.
    comparisons: BTreeMap<String, Arc<Comparison>>,
    health: HealthChecks,
    next_number: u64,
    /// Whether the process ends, and nobody is held any more.
    parting: bool,
}

impl State {
    /// The table that was followed last.
    pub(super) fn table(&self) -> &Arc<Table> {
        &self.table
    }

    /// Everybody follows this table.
    pub(super) fn settle(&mut self, table: &Arc<Table>) {
        self.table = Arc::clone(table);
    }

    /// Makes the snapshot of a sound table, with the targets and counters that live
    /// on. `open` are targets that take requests though the table only lists them.
    pub(super) fn admit(&mut self, table: &Table, workers: usize, open: &[OpenTarget]) -> Snapshot {
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
                        let key = TargetKey::new(app, target);
                        let takes = serves || open.iter().any(|open| key.is(open));
                        let numbers = &mut self.next_number;
                        let live = self.targets.entry(key).or_insert_with(|| {
                            *numbers += 1;
                            let made = Target::new(*numbers, target.address, workers);
                            // Listed and no more: the process before may have drained
                            // it, and what it may end, it has.
                            made.set_draining(!takes);
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
    pub(super) fn park(&self, table: &Table) {
        for (app, route) in &table.apps {
            if let (Some(bounds), Some(lot)) = (&route.park, self.lots.get(app)) {
                lot.park(bounds);
                if self.parting {
                    lot.close();
                }
            }
        }
    }

    /// Lets go the requests of all other apps, when the table is in force.
    pub(super) fn release(&mut self, table: &Table) {
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
    pub(super) fn ask_for_health(&mut self, table: &Table) {
        let mut asked = Vec::new();
        for (key, target) in &self.targets {
            let route = table.apps.get(&key.app);
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

    /// The targets of an app with these names.
    pub(super) fn named(&self, app: &str, ids: &[String]) -> Vec<Arc<Target>> {
        let named = |key: &TargetKey| key.app == app && ids.contains(&key.id);
        let found = self.targets.iter().filter(|(key, _)| named(key));
        found.map(|(_, target)| Arc::clone(target)).collect()
    }

    /// All targets.
    pub(super) fn targets(&self) -> impl Iterator<Item = &Arc<Target>> {
        self.targets.values()
    }

    /// Nobody is held from now on.
    pub(super) fn close_lots(&mut self) {
        self.parting = true;
        self.lots.values().for_each(|lot| lot.close());
    }

    /// The targets that take requests though the table only lists them.
    pub(super) fn open(&self) -> Vec<OpenTarget> {
        let mut open = Vec::new();
        for (app, route) in &self.table.apps {
            let listed = route.pools.iter();
            for (_, pool) in listed.filter(|(name, _)| !gives_requests_to(route, name)) {
                for target in &pool.targets {
                    let key = TargetKey::new(app, target);
                    if self
                        .targets
                        .get(&key)
                        .is_some_and(|live| !live.is_draining())
                    {
                        open.push(OpenTarget {
                            app: key.app,
                            id: key.id,
                            address: key.address,
                        });
                    }
                }
            }
        }
        open
    }

    /// Adds what is counted here.
    pub(super) fn tell(&self, told: &mut Statistics) {
        for ((app, pool), kept) in &self.counters {
            let pools = told.apps.entry(app.clone()).or_default();
            pools.insert(pool.clone(), kept.counters.read());
        }
        self.tell_targets(&mut told.apps, told.proxy.uptime_ms);
        told.proxy.generation = self.table.generation;
        for (app, lot) in &self.lots {
            let held = lot.read();
            if held != ParkStatistics::default() {
                told.proxy.parks.insert(app.clone(), held);
            }
        }
        for (app, comparison) in &self.comparisons {
            told.proxy.mirrors.insert(app.clone(), comparison.read());
        }
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
                    let key = TargetKey::new(app, target);
                    if let Some(live) = self.targets.get(&key) {
                        pool.targets.insert(key.id, live.statistics(now));
                    }
                }
            }
        }
    }

    /// Drops what no table names and no request holds; called when every worker
    /// follows `table`, so that nothing of it can be acquired again.
    pub(super) fn forget(&mut self, table: &Table) {
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
