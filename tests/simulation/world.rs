//! The modelled world: what is true, whoever believes what.

use std::collections::{BTreeMap, BTreeSet};
use std::net::SocketAddr;
use std::time::Duration;

use cutover_agent::containers::{HookOrder, StartOrder};
use cutover_agent::forge::Message;
use cutover_plan::id::{DeployId, Digest, ReleaseNumber, Replica};
use cutover_plan::step::HookPoint;
use cutover_wire::statistics::Statistics;
use cutover_wire::table::{Maintenance, Park, Pool, Route, Split, Table, WHOLE};
use tokio::time::Instant;

use crate::scenario::{Behaviour, Meddling};
use crate::users::Users;

/// Good answers that the app's spec asks for before a release gets requests.
pub(crate) const SUCCESSES: u32 = 2;

#[derive(Default)]
pub(crate) struct World {
    /// How each image behaves.
    pub(crate) images: BTreeMap<Digest, Behaviour>,
    /// Images on the host.
    pub(crate) pulled: Vec<Digest>,
    /// Containers on the host, by name.
    pub(crate) containers: BTreeMap<String, Modelled>,
    /// Hooks on the host, by name.
    pub(crate) hooks: BTreeMap<String, ModelledHook>,
    /// Hooks that began, by deploy and place: none does so twice.
    pub(crate) hooks_begun: Vec<(DeployId, HookPoint)>,
    /// Containers ever made: gives ids and addresses.
    pub(crate) made: u16,
    /// The table in force, which survives the agent.
    pub(crate) table: Table,
    /// What the proxy counted.
    pub(crate) counted: Statistics,
    /// Statuses that GitHub has, in the order it got them.
    pub(crate) told: Vec<Message>,
    /// Everybody who is there.
    pub(crate) users: Users,
    /// Requests that a release took, or should have taken.
    pub(crate) requests: u64,
    /// Those of people with the secret to a release that they alone see.
    pub(crate) guests: u64,
    /// Those that a rule sent.
    pub(crate) chosen: u64,
    /// Those to each pool while they were split.
    pub(crate) split: BTreeMap<String, u64>,
    /// Those that were answered with the page of an app that is closed.
    pub(crate) turned_away: u64,
    /// Those that were held.
    pub(crate) held_in_all: u64,
    /// Those that found no place to wait, or waited too long.
    pub(crate) refused: u64,
    /// Whether the app's file lets some be refused.
    pub(crate) may_refuse: bool,
    /// Whether the release that serves was made to answer nobody.
    pub(crate) sickened: bool,
    /// Somebody removed all that users got to, and nobody answers them yet.
    pub(crate) deserted: bool,
    /// Somebody did so at some time.
    pub(crate) removed: bool,
    /// Containers that the app's file asks for.
    pub(crate) replicas: u16,
    /// The same, when a release was started first.
    pub(crate) wanted: BTreeMap<ReleaseNumber, u16>,
    /// Releases that may be live at once.
    pub(crate) most_live: usize,
    /// What must never happen, as it happened.
    pub(crate) violations: Vec<String>,
}

/// A hook.
pub(crate) struct ModelledHook {
    pub(crate) order: HookOrder,
    pub(crate) started: Instant,
    pub(crate) behaviour: Behaviour,
    pub(crate) stopped: bool,
}

/// How long a hook takes that ends.
const HOOK_TAKES: Duration = Duration::from_secs(1);

impl ModelledHook {
    /// Its exit status, once it has ended.
    pub(crate) fn ended(&self, now: Instant) -> Option<i64> {
        let age = now.duration_since(self.started);
        let over = age >= HOOK_TAKES;
        match self.behaviour {
            _ if self.stopped => Some(137),
            Behaviour::HangsInHook => None,
            Behaviour::LingersInHook => (age >= 40 * HOOK_TAKES).then_some(0),
            Behaviour::FailsHook => over.then_some(1),
            _ => over.then_some(0),
        }
    }
}

/// A container.
pub(crate) struct Modelled {
    pub(crate) id: String,
    pub(crate) order: StartOrder,
    pub(crate) address: SocketAddr,
    pub(crate) started: Instant,
    pub(crate) behaviour: Behaviour,
    /// Health questions since it was made.
    pub(crate) asked: u32,
    /// Good answers in a row, until they were enough.
    pub(crate) good_answers: u32,
    /// Requests of users inside.
    pub(crate) open: u32,
    /// Requests and copies that it has taken.
    pub(crate) taken: u32,
}

impl Modelled {
    /// How often it has ended by itself; the engine of containers starts it anew.
    pub(crate) fn restarts(&self, now: Instant) -> u32 {
        match self.behaviour {
            Behaviour::CrashesAfter(life) => {
                let age = now.duration_since(self.started).as_millis();
                u32::try_from(age / life.as_millis().max(1)).unwrap()
            }
            _ => 0,
        }
    }

    /// Whether it ends before a request of now has left.
    pub(crate) fn dies_soon(&self, now: Instant) -> bool {
        self.restarts(now + Duration::from_millis(50)) > self.restarts(now)
    }

    /// Whether it answers the request that it has taken last with an error.
    pub(crate) fn fails_its_user(&self) -> bool {
        match self.behaviour {
            Behaviour::FailsUsers | Behaviour::NeverHealthy => true,
            Behaviour::OneGood => self.is_second(),
            Behaviour::FailsOneIn(many) => self.taken.is_multiple_of(many),
            _ => false,
        }
    }

    fn is_second(&self) -> bool {
        self.order.replica != Replica(0)
    }

    pub(crate) fn runs(&self) -> bool {
        self.behaviour != Behaviour::ExitsAtStart
    }

    pub(crate) fn is_healthy(&self, now: Instant) -> bool {
        let age = now.duration_since(self.started);
        match self.behaviour {
            Behaviour::Good
            | Behaviour::FailsUsers
            | Behaviour::FailsOneIn(_)
            | Behaviour::BehindAnotherDoor
            | Behaviour::FailsHook
            | Behaviour::HangsInHook => true,
            Behaviour::HealthyAfter(slow) => age >= slow,
            Behaviour::OneGood => !self.is_second(),
            Behaviour::Wavers => self.asked % 2 == 1,
            // It answers again a moment after it was started anew.
            Behaviour::CrashesAfter(_) => true,
            Behaviour::ExitsAtStart
            | Behaviour::NeverHealthy
            | Behaviour::LingersInHook
            | Behaviour::Missing => false,
        }
    }
}

impl World {
    pub(crate) fn violation(&mut self, what: String) {
        if self.violations.len() < 20 {
            self.violations.push(what);
        }
    }

    /// Begins a hook, or finds it.
    pub(crate) fn hook(&mut self, order: &HookOrder) {
        let name = order.name();
        let found = self.hooks.get(&name);
        if found.is_some_and(|hook| hook.order.deploy == order.deploy) {
            return;
        }
        if !self.pulled.contains(&order.image.digest) {
            self.violation(format!("{name} was run without its image"));
        }
        let begun = (order.deploy.clone(), order.point);
        if self.hooks_begun.contains(&begun) {
            self.violation(format!("{name} was run twice"));
        }
        self.hooks_begun.push(begun);
        let hook = ModelledHook {
            order: order.clone(),
            started: Instant::now(),
            behaviour: self.images[&order.image.digest],
            stopped: false,
        };
        self.hooks.insert(name, hook);
    }

    /// A table comes into force: no request may be led astray by it.
    pub(crate) fn follow(&mut self, table: &Table) {
        let problems = table.problems();
        if !problems.is_empty() {
            self.violation(format!("a wrong table: {problems:?}"));
        }
        let routes: Vec<_> = table.apps.values().cloned().collect();
        for route in &routes {
            for pool in self.reached(route) {
                self.check_pool(&pool, &route.pools[&pool]);
            }
            if route.park.is_none() && route.maintenance == Maintenance::Off {
                self.check_shares(route);
            }
        }
        self.table = table.clone();
        let now = Instant::now();
        self.let_go("shop", now);
        self.count_bad("shop", now);
    }

    /// The pools that somebody gets to.
    fn reached(&self, route: &Route) -> BTreeSet<String> {
        let held = route.park.is_some() || route.maintenance == Maintenance::On;
        let users = route.serving.weights().map(|(pool, _)| pool);
        let users = users.chain(route.rules.iter().map(|rule| rule.pool.as_str()));
        let users: Vec<_> = users.filter(|_| !held).collect();
        let guests = route.preview.iter().map(|shown| shown.pool.as_str());
        let copies = route.mirror.iter().map(|mirror| mirror.pool.as_str());
        let all = users.into_iter().chain(guests).chain(copies);
        all.map(str::to_owned).collect()
    }

    fn check_pool(&mut self, name: &str, pool: &Pool) {
        for target in &pool.targets {
            let id = &target.id;
            match self.containers.get(id) {
                Some(one) if one.address != target.address => {
                    self.violation(format!("the table knows {id} by another address"));
                }
                Some(one) if one.good_answers >= SUCCESSES => {}
                Some(one) => {
                    let good = one.good_answers;
                    self.violation(format!(
                        "{id} of {name} is to serve after {good} good answers"
                    ));
                }
                None => self.violation(format!("{id} of {name} is to serve, and is gone")),
            }
        }
    }

    /// Capacity rises before weight and falls after it: no container gets more
    /// than its part of all requests, by the least number that was asked for, then
    /// or now.
    fn check_shares(&mut self, route: &Route) {
        let all = route.serving.weights().map(|(pool, _)| pool);
        let wanted = all.filter_map(|pool| self.wanted.get(&number(pool)?).copied());
        let wanted = wanted.chain([self.replicas]).min();
        let part = u64::from(WHOLE) / u64::from(wanted.unwrap_or(1).max(1)) + 1;
        for (pool, weight) in route.serving.weights() {
            let targets = route.pools[pool].targets.len() as u64;
            let few = u64::from(weight.0) > targets * part;
            self.removed &= few;
            if few && !self.sickened && !self.removed {
                self.violation(format!(
                    "{weight} of all requests go to {targets} of {pool}"
                ));
            }
        }
    }

    /// The proxy is upgraded: what it counts begins at zero.
    pub(crate) fn count_anew(&mut self) {
        self.counted = Statistics {
            instance: format!("{}I", self.counted.instance),
            ..Statistics::default()
        };
    }

    /// Requests to a pool while they were split.
    pub(crate) fn split_to(&self, pool: &str) -> u64 {
        self.split.get(pool).copied().unwrap_or_default()
    }

    /// Requests that ended at a pool.
    pub(crate) fn users_of(&self, pool: &str) -> u64 {
        let pools = self.counted.apps.get("shop");
        let counts = pools.and_then(|pools| pools.get(pool));
        counts.map_or(0, |counts| counts.finished())
    }

    /// Copies that were made.
    pub(crate) fn copied(&self) -> u64 {
        let mirrors = &self.counted.proxy.mirrors;
        mirrors.get("shop").map_or(0, |counts| counts.copied)
    }

    /// Somebody changes something behind the agent's back.
    pub(crate) fn meddle(&mut self, meddling: Meddling) {
        self.table.generation += 1;
        match meddling {
            Meddling::Sickened => {
                self.sickened = true;
                for one in self.containers.values_mut() {
                    one.behaviour = Behaviour::NeverHealthy;
                }
            }
            Meddling::OldSickened => {
                self.sickened = true;
                let all = self.containers.values();
                let newest = all.map(|one| one.order.release).max();
                for one in self.containers.values_mut() {
                    if Some(one.order.release) != newest {
                        one.behaviour = Behaviour::NeverHealthy;
                    }
                }
            }
            Meddling::Removed => {
                (self.deserted, self.removed) = (true, true);
                self.containers.clear();
                self.cut_off();
            }
            Meddling::Lost => self.table.apps.clear(),
            Meddling::LeftHeld => {
                let route = self.table.apps.get_mut("shop").unwrap();
                route.park = Some(Park {
                    max_requests: 1_000,
                    max_bytes: 1 << 20,
                    max_age_ms: 90_000,
                });
            }
            Meddling::SentToStandby => {
                let route = self.table.apps.get_mut("shop").unwrap();
                let mut pools = route.pools.keys();
                let standby = pools.find(|pool| !route.is_served_by(pool)).cloned();
                route.serving = Split::all_to(standby.unwrap());
            }
        }
    }

    /// More live releases of the app than there may be.
    pub(crate) fn count_live(&mut self) {
        let mut live: Vec<_> = self
            .containers
            .values()
            .map(|one| one.order.release)
            .collect();
        live.sort_unstable();
        live.dedup();
        if live.len() > self.most_live {
            self.violation(format!("{} releases are live", live.len()));
        }
    }
}

/// The release of a pool.
fn number(pool: &str) -> Option<ReleaseNumber> {
    Some(ReleaseNumber(pool.strip_prefix('v')?.parse().ok()?))
}
