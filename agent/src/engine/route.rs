//! The app's part of the routing table.
//!
//! The table in the proxy is the truth for all other apps: their parts are
//! kept as they are, and a table that somebody changed in between is read anew.

use std::collections::{BTreeMap, BTreeSet};

use cutover_plan::id::ReleaseNumber;
use cutover_plan::spec::{self, AppSpec, Matching, Strategy, Subject};
use cutover_plan::traffic::{Replicas, Traffic as Shares};
use cutover_wire::table::{
    Affinity, Client, Condition, Field, Maintenance, Match, Moves, Pool, Protocol, Route, Rule,
    Split, Table, Target,
};

use super::lease::Lease;
use crate::containers::Container;
use crate::traffic::{Traffic, TrafficError};

/// How long the cookie lives by which a client of a canary is known again: longer
/// than most canaries, and short enough that nobody asks what it is for.
const COOKIE_MS: u64 = 24 * 3600 * 1000;

/// What became of a change of the table.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Put {
    /// It was so already.
    Unchanged(u64),
    /// It is in force, with this generation.
    Changed(u64),
}

impl Put {
    pub(super) fn generation(self) -> u64 {
        match self {
            Self::Unchanged(generation) | Self::Changed(generation) => generation,
        }
    }
}

/// What an app's route is made of.
#[derive(Clone, Copy)]
pub(super) struct Parts<'a> {
    pub(super) spec: &'a AppSpec,
    pub(super) containers: &'a [Container],
    /// Who gets new requests.
    pub(super) to: &'a Shares,
    /// The releases beside them, whose open requests and sessions may go on.
    pub(super) beside: &'a BTreeSet<ReleaseNumber>,
}

impl Parts<'_> {
    /// The route, in place of `now`, of which a preview and copies of requests
    /// stay; none where nobody gets requests. The error is a release that should
    /// get some and has no container that runs.
    pub(super) fn route(&self, now: Option<&Route>) -> Result<Option<Route>, ReleaseNumber> {
        if *self.to == Shares::none() {
            return Ok(None);
        }
        let mut pools = BTreeMap::new();
        for (release, share) in &self.to.shares {
            let pool = pool(self.containers, *release, &share.replicas).ok_or(*release)?;
            pools.insert(release.to_string(), pool);
        }
        if let Some(chosen) = self
            .to
            .chosen
            .filter(|one| !pools.contains_key(&one.to_string()))
        {
            let pool = pool(self.containers, chosen, &Replicas::All).ok_or(chosen)?;
            pools.insert(chosen.to_string(), pool);
        }
        let preview = now.and_then(|now| now.preview.clone());
        let mirror = now.and_then(|now| now.mirror.clone());
        let beside = self.beside.iter().copied();
        let shown = preview.iter().map(|preview| preview.pool.as_str());
        let copied = mirror.iter().map(|mirror| mirror.pool.as_str());
        for release in beside.chain(shown.chain(copied).filter_map(number)) {
            if !pools.contains_key(&release.to_string())
                && let Some(found) = pool(self.containers, release, &Replicas::All)
            {
                pools.insert(release.to_string(), found);
            }
        }
        let weights = self.to.shares.iter();
        let weights = weights.map(|(release, share)| (release.to_string(), share.weight));
        Ok(Some(Route {
            affinity: self.affinity(now, pools.len()),
            rules: self.rules(),
            preview: preview.filter(|preview| pools.contains_key(&preview.pool)),
            mirror: mirror.filter(|mirror| pools.contains_key(&mirror.pool)),
            ..Route::new(
                self.spec.domains.clone(),
                self.spec.path_prefix.clone(),
                Split::of(weights.collect()),
                pools,
            )
        }))
    }

    /// Clients are kept where they are while there is a choice, and from then on
    /// as long as a release that lost its share may have sessions.
    fn affinity(&self, now: Option<&Route>, pools: usize) -> Option<Affinity> {
        let canary = &self.spec.canary;
        let kept = now.is_some_and(|now| now.affinity.is_some()) && pools > 1;
        let wanted = self.to.releases().len() > 1 || kept;
        if self.spec.strategy != Strategy::Canary || !wanted {
            return None;
        }
        let by = match &canary.affinity {
            spec::Affinity::None => return None,
            spec::Affinity::Cookie => Client::Cookie {
                name: format!("cutover-{}", self.spec.app),
                ttl_ms: COOKIE_MS,
            },
            spec::Affinity::Address => Client::Address {},
            spec::Affinity::Header(name) => Client::Header { name: name.clone() },
        };
        let moves = match canary.new_sessions_only {
            true => Moves::NewSessions,
            false => Moves::Everybody,
        };
        Some(Affinity { by, moves })
    }

    fn rules(&self) -> Vec<Rule> {
        let Some(chosen) = self.to.chosen else {
            return Vec::new();
        };
        let rules = self.spec.canary.rules.iter();
        rules
            .map(|rule| Rule {
                when: rule.all.iter().map(condition).collect(),
                pool: chosen.to_string(),
            })
            .collect()
    }
}

fn condition(written: &spec::Condition) -> Condition {
    Condition {
        of: match &written.subject {
            Subject::Header(name) => Field::Header(name.clone()),
            Subject::Cookie(name) => Field::Cookie(name.clone()),
        },
        is: match &written.matching {
            Matching::Exact(text) => Match::Exact(text.clone()),
            Matching::Prefix(text) => Match::Prefix(text.clone()),
            Matching::Regex(text) => Match::Regex(text.clone()),
        },
    }
}

/// Who gets requests by a route; none where that cannot be read from it.
pub(super) fn traffic(route: Option<&Route>) -> Option<Shares> {
    // A route that is closed to users only shows a preview.
    let Some(route) = route.filter(|route| route.maintenance == Maintenance::Off) else {
        return Some(Shares::none());
    };
    let share = |(pool, weight)| Some((number(pool)?, weight, Replicas::All));
    let shares: Option<Vec<_>> = route.serving.weights().map(share).collect();
    let shares = Shares::of(shares?);
    match route.rules.first() {
        Some(rule) => Some(shares.with_chosen(number(&rule.pool)?)),
        None => Some(shares),
    }
}

/// The release of a pool.
pub(super) fn number(pool: &str) -> Option<ReleaseNumber> {
    Some(ReleaseNumber(pool.strip_prefix('v')?.parse().ok()?))
}

/// The containers of a release that run, of these replicas; none if none does.
pub(super) fn pool(
    containers: &[Container],
    release: ReleaseNumber,
    replicas: &Replicas,
) -> Option<Pool> {
    let meant = |one: &&Container| one.release == release && replicas.contains(one.replica);
    let meant = || containers.iter().filter(meant);
    let mut targets: Vec<_> = meant()
        .filter_map(|container| {
            let address = container.address()?;
            Some(Target {
                id: container.name.clone(),
                address,
            })
        })
        .collect();
    targets.sort();
    let protocol = match meant().next()?.protocol {
        spec::Protocol::Http1 => Protocol::Http1,
        spec::Protocol::H2c => Protocol::H2c,
    };
    (!targets.is_empty()).then(|| Pool {
        protocol,
        ..Pool::of(targets)
    })
}

/// Puts the app's part in place, whatever the rest of the table is. `change`
/// gets the part in force and gives the part that should be.
pub(super) async fn put<T: Traffic>(
    lease: &Lease,
    traffic: &T,
    change: impl Fn(Option<&Route>) -> Option<Route>,
) -> Result<Put, TrafficError> {
    loop {
        let table = traffic.table().await?;
        let app = lease.app().as_str();
        let wanted = change(table.apps.get(app));
        if table.apps.get(app) == wanted.as_ref() {
            return Ok(Put::Unchanged(table.generation));
        }
        let mut next = Table {
            generation: table.generation + 1,
            ..table.clone()
        };
        match wanted {
            Some(route) => next.apps.insert(app.to_owned(), route),
            None => next.apps.remove(app),
        };
        match traffic.apply(table.generation, &next).await {
            Ok(()) => return Ok(Put::Changed(next.generation)),
            Err(TrafficError::Generation(_)) => {}
            Err(error) => return Err(error),
        }
    }
}
