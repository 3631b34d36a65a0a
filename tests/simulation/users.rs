//! The modelled users: where the table in force leads each request, who waits,
//! and what is lost.
//!
//! A request takes the way that the proxy documents (`cutover_wire::table::Route`):
//! preview, maintenance, park, rules, affinity, split, and in a pool one target
//! after the other. Which share a request falls in is told by its number, and
//! where clients are kept by the number of its client, so a run repeats itself.

use std::collections::{BTreeMap, VecDeque};
use std::time::Duration;

use cutover_wire::table::{Condition, Field, Maintenance, Match, Preview, Route, Split, WHOLE};
use tokio::time::Instant;

use crate::scenario::Behaviour;
use crate::world::{SUCCESSES, World};

/// How long a request stays inside; shorter than from one to the next.
pub(crate) const REQUEST_TAKES: Duration = Duration::from_millis(70);
/// What a held request holds.
const BYTES: u64 = 1_000;
/// Clients that come again and again.
const CLIENTS: u64 = 40;
/// The golden section of the whole: numbers times this fill it evenly.
const STRIDE: u64 = 6_180;
/// Another such stride, so that copies are no image of the split.
const COPY_STRIDE: u64 = 7_549;
/// The first line of `preview.secret`.
const SECRET: &str = "open sesame";

/// A request.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Visit {
    number: u64,
}

impl Visit {
    /// Every eighth user takes part in the beta.
    fn is_tester(self) -> bool {
        self.number % 8 == 3
    }

    /// Every tenth request is of somebody who knows the secret.
    fn is_guest(self) -> bool {
        self.number % 10 == 7
    }

    /// Every fifth changes something, so it is never copied.
    fn is_safe(self) -> bool {
        self.number % 5 != 1
    }

    fn meets(self, condition: &Condition) -> bool {
        let beta = Field::Cookie("beta".to_owned());
        self.is_tester() && condition.of == beta && condition.is == Match::Exact("yes".to_owned())
    }
}

/// A request that a container has taken.
struct Inside {
    name: String,
    id: String,
    until: Instant,
}

/// Everybody who is there.
#[derive(Default)]
pub(crate) struct Users {
    /// Requests that came so far.
    came: u64,
    inside: Vec<Inside>,
    held: VecDeque<(Visit, Instant)>,
    /// Whose turn it is in each pool.
    turns: BTreeMap<String, usize>,
    /// Since when a release has failed its users, and not lost them.
    bad_since: Option<(String, Instant)>,
    /// The longest that one did.
    pub(crate) longest_bad: Duration,
}

/// Where a route leads a request.
enum Way {
    To(String),
    Closed,
    Held,
}

fn way(route: &Route, visit: Visit) -> Way {
    let knows = |shown: &&Preview| **shown == Preview::new(&shown.header, SECRET, &shown.pool);
    if visit.is_guest()
        && let Some(shown) = route.preview.as_ref().filter(knows)
    {
        return Way::To(shown.pool.clone());
    }
    if route.maintenance == Maintenance::On {
        return Way::Closed;
    }
    if route.park.is_some() {
        return Way::Held;
    }
    let mut rules = route.rules.iter();
    if let Some(rule) = rules.find(|rule| rule.when.iter().all(|one| visit.meets(one))) {
        return Way::To(rule.pool.clone());
    }
    let who = match route.affinity {
        Some(_) => visit.number % CLIENTS,
        None => visit.number,
    };
    Way::To(share(&route.serving, who * STRIDE % u64::from(WHOLE)))
}

/// The pool that a place falls to; the newest has the first places, so that a
/// client who got there stays there while its weight rises.
fn share(split: &Split, place: u64) -> String {
    let mut pools: Vec<_> = split.weights().collect();
    pools.sort_by_key(|(pool, _)| (pool.len(), pool.to_owned()));
    let mut end = 0;
    for (pool, weight) in pools.iter().rev() {
        end += u64::from(weight.0);
        if place < end {
            return (*pool).to_owned();
        }
    }
    unreachable!("the weights are a whole, which every table is checked for")
}

impl World {
    /// A user comes.
    pub(crate) fn arrive(&mut self, app: &str, now: Instant) {
        let visit = Visit {
            number: self.users.came,
        };
        self.users.came += 1;
        self.lead(app, visit, now);
    }

    /// Follows the table in force.
    fn lead(&mut self, app: &str, visit: Visit, now: Instant) {
        let Some(route) = self.table.apps.get(app).cloned() else {
            return;
        };
        match way(&route, visit) {
            Way::To(pool) => self.serve(app, &route, &pool, visit, now),
            Way::Closed => {
                self.turned_away += 1;
                if self.requests > self.guests {
                    self.violation("a user was turned away after the first release".to_owned());
                }
            }
            Way::Held => self.hold(&route, visit, now),
        }
    }

    fn hold(&mut self, route: &Route, visit: Visit, now: Instant) {
        let Some(park) = &route.park else { return };
        let waiting = self.users.held.len() as u64;
        let full =
            waiting >= u64::from(park.max_requests) || (waiting + 1) * BYTES > park.max_bytes;
        if !full {
            self.held_in_all += 1;
            self.users.held.push_back((visit, now));
            return;
        }
        self.refused += 1;
        if !self.may_refuse {
            self.violation(format!("a request was refused: {waiting} waited already"));
        }
    }

    /// All containers are gone, and what was in them with them.
    pub(crate) fn cut_off(&mut self) {
        self.users.inside.clear();
    }

    /// The table has changed: who waits goes on if it lets them.
    pub(crate) fn let_go(&mut self, app: &str, now: Instant) {
        let route = self.table.apps.get(app);
        if route.is_some_and(|route| route.park.is_some()) {
            return;
        }
        if route.is_none() && !self.users.held.is_empty() && !self.sickened {
            let waiting = self.users.held.len();
            self.violation(format!("{waiting} requests waited for nobody"));
        }
        for (visit, _) in std::mem::take(&mut self.users.held) {
            self.lead(app, visit, now);
        }
    }

    fn serve(&mut self, app: &str, route: &Route, pool: &str, visit: Visit, now: Instant) {
        self.requests += 1;
        if route
            .preview
            .as_ref()
            .is_some_and(|shown| shown.pool == pool)
            && visit.is_guest()
        {
            self.guests += 1;
        }
        if route.serving.sole().is_none() {
            *self.split.entry(pool.to_owned()).or_default() += 1;
        }
        if route.rules.iter().any(|rule| rule.pool == pool) && visit.is_tester() {
            self.chosen += 1;
        }
        let Some(name) = self.take_turn(route, pool, "a request") else {
            return;
        };
        let Some(container) = self.containers.get_mut(&name) else {
            return;
        };
        if container.behaviour == Behaviour::BehindAnotherDoor {
            return;
        }
        container.open += 1;
        container.taken += 1;
        let died = container.dies_soon(now);
        let failed = container.fails_its_user();
        let id = container.id.clone();
        let until = now + REQUEST_TAKES;
        self.users.inside.push(Inside { name, id, until });
        let pools = self.counted.apps.entry(app.to_owned()).or_default();
        let counts = pools.entry(pool.to_owned()).or_default();
        match (failed, died) {
            (_, true) => counts.failed += 1,
            (true, false) => counts.server_errors += 1,
            (false, false) => counts.succeeded += 1,
        }
        counts.latency.record(20_000);
        if (failed || died) && !self.sickened && self.users.bad_since.is_none() {
            self.users.bad_since = Some((pool.to_owned(), now));
        }
        self.copy(app, route, visit, failed, now);
    }

    /// Copies a request that was answered.
    fn copy(&mut self, app: &str, route: &Route, visit: Visit, failed: bool, now: Instant) {
        let Some(mirror) = route.mirror.as_ref().filter(|_| visit.is_safe()) else {
            return;
        };
        if visit.number * COPY_STRIDE % u64::from(WHOLE) >= u64::from(mirror.share.0) {
            return;
        }
        let Some(name) = self.take_turn(route, &mirror.pool, "a copy") else {
            return;
        };
        let Some(container) = self.containers.get_mut(&name) else {
            return;
        };
        container.taken += 1;
        let (died, copy_failed) = (container.dies_soon(now), container.fails_its_user());
        let mirrors = &mut self.counted.proxy.mirrors;
        let counts = mirrors.entry(app.to_owned()).or_default();
        counts.copied += 1;
        if died {
            counts.failed += 1;
            return;
        }
        match copy_failed == failed {
            true => counts.same_status += 1,
            false => counts.other_status += 1,
        }
        counts.server_errors += u64::from(copy_failed);
        counts.primary_server_errors += u64::from(failed);
        counts.latency.record(21_000);
        counts.primary_latency.record(20_000);
    }

    /// The container whose turn it is, which must be there and well.
    fn take_turn(&mut self, route: &Route, pool: &str, who: &str) -> Option<String> {
        let targets = route.pools.get(pool).map_or(&[][..], |pool| &pool.targets);
        if targets.is_empty() {
            self.violation(format!("{who} found the pool {pool} without a target"));
            return None;
        }
        let turn = self.users.turns.entry(pool.to_owned()).or_default();
        *turn += 1;
        let target = targets[*turn % targets.len()].clone();
        let fault = match self.containers.get(&target.id) {
            None => "is gone, but serves".to_owned(),
            Some(one) if one.address != target.address => "has another address".to_owned(),
            Some(one) if one.good_answers < SUCCESSES => {
                format!("had {} good answers only", one.good_answers)
            }
            Some(_) => {
                self.deserted = false;
                return Some(target.id);
            }
        };
        if self.deserted {
            return None;
        }
        self.violation(format!("{who} was lost: {} {fault}", target.id));
        None
    }

    /// Time passes: requests leave, and who has waited too long is refused.
    pub(crate) fn tick(&mut self, app: &str, now: Instant) {
        let (left, inside): (Vec<_>, Vec<_>) = std::mem::take(&mut self.users.inside)
            .into_iter()
            .partition(|one| one.until <= now);
        self.users.inside = inside;
        for one in left {
            match self.containers.get_mut(&one.name) {
                Some(container) if container.id == one.id => container.open -= 1,
                _ => self.violation(format!(
                    "a request was cut: {} was removed under it",
                    one.name
                )),
            }
        }
        let park = self
            .table
            .apps
            .get(app)
            .and_then(|route| route.park.clone());
        let age = park.map_or(Duration::MAX, |park| Duration::from_millis(park.max_age_ms));
        while self
            .users
            .held
            .front()
            .is_some_and(|(_, since)| now - *since > age)
        {
            self.users.held.pop_front();
            self.refused += 1;
            if !self.may_refuse {
                self.violation(format!("a request was refused: it had waited for {age:?}"));
            }
        }
    }

    /// Ends the time for which a release failed its users, once it has none.
    pub(crate) fn count_bad(&mut self, app: &str, now: Instant) {
        let Some((pool, since)) = self.users.bad_since.clone() else {
            return;
        };
        let route = self.table.apps.get(app);
        if !route.is_some_and(|route| route.park.is_none() && route.is_served_by(&pool)) {
            self.users.longest_bad = self.users.longest_bad.max(now - since);
            self.users.bad_since = None;
        }
    }

    /// A release that fails its users and still has them, if one does.
    pub(crate) fn is_bad(&self) -> Option<&str> {
        let (pool, _) = self.users.bad_since.as_ref()?;
        Some(pool)
    }

    /// Who waits now.
    pub(crate) fn waiting(&self) -> usize {
        self.users.held.len()
    }

    /// The pool and the container that answer somebody who knocks as a user would.
    pub(crate) fn door(&self, app: &str) -> Option<(String, String)> {
        let route = self.table.apps.get(app)?;
        // The first who is neither a guest nor a tester.
        let visit = Visit {
            number: self.users.came / 10 * 10,
        };
        let visit = Visit {
            number: visit.number + u64::from(visit.is_tester()),
        };
        match way(route, visit) {
            Way::To(pool) => {
                let target = route.pools.get(&pool)?.targets.first()?;
                Some((pool, target.id.clone()))
            }
            Way::Closed | Way::Held => None,
        }
    }
}
