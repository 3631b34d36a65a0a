//! Which target a request is bound to.
//!
//! The route says which pool; here one of its targets is chosen and counted in.
//! Targets that drain take nothing, those that cannot be reached or are sick
//! are passed over while there is another one.

use std::sync::Arc;

use cutover_wire::table::Balance;
use http::HeaderValue;

use crate::errand::Errand;
use crate::route::{Asked, Choice, Pool, Route};
use crate::target::Hold;
use crate::worker::Worker;

/// Where a request is bound.
#[derive(Debug)]
pub(crate) enum Bound {
    /// It is counted in at a target.
    Target {
        /// The target's pool.
        pool: Arc<Pool>,
        /// Its place there.
        hold: Hold,
        /// A field `Set-Cookie` for the answer.
        cookie: Option<HeaderValue>,
    },
    /// The app is closed to its users.
    Maintenance,
    /// No target takes it.
    Nobody,
}

/// Which targets come into question.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Among {
    /// Those at which the request did not fail.
    Untried,
    /// All.
    All,
}

impl Worker {
    /// Binds a request by this route; it has failed at the targets of these
    /// numbers, which are tried again only where there is no other.
    pub(crate) fn bind(&self, route: &Route, asked: &Asked<'_>, failed: &[u64]) -> Bound {
        if let Some(pool) = &route.sole {
            let hold = self.pick(pool, failed, Among::Untried);
            let hold = hold.or_else(|| self.pick(pool, failed, Among::All));
            return hold.map_or(Bound::Nobody, |hold| Bound::Target {
                pool: Arc::clone(pool),
                hold,
                cookie: None,
            });
        }
        let untried = self.bind_among(route, asked, failed, Among::Untried);
        match untried {
            Bound::Nobody if !failed.is_empty() => {
                self.bind_among(route, asked, failed, Among::All)
            }
            other => other,
        }
    }

    fn bind_among(&self, route: &Route, asked: &Asked<'_>, failed: &[u64], among: Among) -> Bound {
        let mut excluding: Vec<&Pool> = Vec::new();
        loop {
            match route.choose_other(asked, &excluding) {
                Choice::Maintenance => return Bound::Maintenance,
                Choice::Nobody => return Bound::Nobody,
                Choice::Pool(chosen) => match self.pick(chosen.pool, failed, among) {
                    Some(hold) => {
                        return Bound::Target {
                            pool: Arc::clone(chosen.pool),
                            hold,
                            cookie: chosen.set_cookie,
                        };
                    }
                    None => excluding.push(chosen.pool),
                },
            }
        }
    }

    /// Binds a request anew that failed at some targets, by the route that is in
    /// force now. As long as that is the one it was chosen by it stays in its pool.
    /// Who is shown the preview is shown nothing else.
    pub(crate) fn bind_again(
        &self,
        errand: &Errand,
        now: &Arc<Route>,
        pool: &Arc<Pool>,
        asked: &Asked<'_>,
        failed: &[u64],
    ) -> Bound {
        let among = |pool: &Arc<Pool>, among| {
            let hold = self.pick(pool, failed, among)?;
            Some(Bound::Target {
                pool: Arc::clone(pool),
                hold,
                cookie: None,
            })
        };
        if errand.shown {
            let Some(pool) = now.preview_as_in(&errand.route) else {
                return Bound::Nobody;
            };
            let bound = among(pool, Among::Untried).or_else(|| among(pool, Among::All));
            return bound.unwrap_or(Bound::Nobody);
        }
        let same = Arc::ptr_eq(now, &errand.route);
        match same.then(|| among(pool, Among::Untried)).flatten() {
            Some(bound) => bound,
            None => self.bind(now, asked, failed),
        }
    }

    /// Counts a request in at the best target that takes it: one that can be
    /// reached and is well, then by the pool's balance.
    fn pick(&self, pool: &Pool, failed: &[u64], among: Among) -> Option<Hold> {
        let worker = self.index();
        let may = |number: u64| among == Among::All || !failed.contains(&number);
        if let [only] = pool.targets.as_slice() {
            return may(only.number()).then(|| only.acquire(worker)).flatten();
        }
        // Each pool has turns of its own, or two apps whose requests alternate would
        // each have the same target all the time. Workers begin at different ones.
        let turn = pool.counters.turn(worker).wrapping_add(worker);
        let now = self.now();
        // One bit for each target that was found to drain; a pool has at most 100.
        let mut draining: u128 = 0;
        loop {
            let targets = pool.targets.iter().enumerate();
            let best = targets
                .filter(|(place, target)| draining & (1 << place) == 0 && may(target.number()))
                .min_by_key(|(place, target)| {
                    let load = match pool.balance {
                        Balance::LeastRequests => target.load(worker),
                        Balance::RoundRobin => 0,
                    };
                    let behind = place.wrapping_sub(turn) % pool.targets.len();
                    let passed_over = target.is_ejected(now) || target.is_sick();
                    (passed_over, load, behind)
                });
            let (place, target) = best?;
            if let Some(hold) = target.acquire(worker) {
                return Some(hold);
            }
            draining |= 1 << place;
        }
    }
}
