//! The modelled world: what is true, whoever believes what.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::time::Duration;

use cutover_agent::containers::{HookOrder, StartOrder};
use cutover_agent::forge::Message;
use cutover_plan::id::{DeployId, Digest};
use cutover_plan::step::HookPoint;
use cutover_wire::statistics::Statistics;
use cutover_wire::table::{Split, Table};
use tokio::time::Instant;

use crate::scenario::{Behaviour, Meddling};

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
    /// Requests of users, and what was lost.
    pub(crate) requests: u64,
    /// What must never happen, as it happened.
    pub(crate) violations: Vec<String>,
    /// Requests whose release ended under them by its own fault.
    pub(crate) died_with_the_app: u64,
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

    pub(crate) fn runs(&self) -> bool {
        self.behaviour != Behaviour::ExitsAtStart
    }

    pub(crate) fn is_healthy(&self, now: Instant) -> bool {
        let age = now.duration_since(self.started);
        match self.behaviour {
            Behaviour::Good
            | Behaviour::FailsUsers
            | Behaviour::BehindAnotherDoor
            | Behaviour::FailsHook
            | Behaviour::HangsInHook => true,
            Behaviour::HealthyAfter(slow) => age >= slow,
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

    /// A user's request arrives: the name of the container that takes it.
    pub(crate) fn arrive(&mut self, app: &str, now: Instant) -> Option<String> {
        let route = self.table.apps.get(app)?;
        let pool = route.serving.sole()?.to_owned();
        let targets = route
            .pools
            .get(&pool)
            .map(|pool| pool.targets.clone())
            .unwrap_or_default();
        let Some(target) = targets.first().cloned() else {
            self.violation(format!("a request found the pool {pool} without a target"));
            return None;
        };
        self.requests += 1;
        let Some(container) = self.containers.get_mut(&target.id) else {
            self.violation(format!(
                "a request was lost: {} is gone, but serves",
                target.id
            ));
            return None;
        };
        if container.address != target.address {
            let id = target.id.clone();
            self.violation(format!("a request was lost: {id} has another address"));
            return None;
        }
        if container.good_answers < SUCCESSES {
            let (id, good) = (target.id.clone(), container.good_answers);
            self.violation(format!("a request went to {id} after {good} good answers"));
        }
        let container = self.containers.get_mut(&target.id)?;
        if container.behaviour == Behaviour::BehindAnotherDoor {
            return None;
        }
        container.open += 1;
        let failed = container.behaviour == Behaviour::FailsUsers;
        let died = container.restarts(now + Duration::from_millis(50)) > container.restarts(now);
        let pools = self.counted.apps.entry(app.to_owned()).or_default();
        let pool = pools.entry(pool).or_default();
        match (failed, died) {
            (_, true) => {
                pool.failed += 1;
                self.died_with_the_app += 1;
            }
            (true, false) => pool.server_errors += 1,
            (false, false) => pool.succeeded += 1,
        }
        pool.latency.record(20_000);
        Some(target.id)
    }

    /// The request leaves the container `id` that took it.
    pub(crate) fn leave(&mut self, name: &str, id: &str) {
        match self.containers.get_mut(name) {
            Some(container) if container.id == id => container.open -= 1,
            _ => self.violation(format!("a request was cut: {name} was removed under it")),
        }
    }

    /// Somebody changes the table behind the agent's back.
    pub(crate) fn meddle(&mut self, meddling: Meddling) {
        self.table.generation += 1;
        match meddling {
            Meddling::Lost => self.table.apps.clear(),
            Meddling::SentToStandby => {
                let route = self.table.apps.get_mut("shop").unwrap();
                let mut pools = route.pools.keys();
                let standby = pools.find(|pool| !route.is_served_by(pool)).cloned();
                route.serving = Split::all_to(standby.unwrap());
            }
        }
    }

    /// More than two live releases of the app, which must never be.
    pub(crate) fn count_live(&mut self) {
        let mut live: Vec<_> = self
            .containers
            .values()
            .map(|one| one.order.release)
            .collect();
        live.sort_unstable();
        live.dedup();
        if live.len() > 2 {
            self.violation(format!("{} releases are live", live.len()));
        }
    }
}
