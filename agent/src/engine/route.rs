//! The app's part of the routing table.
//!
//! The table in the proxy is the truth for all other apps: their parts are
//! kept as they are, and a table that somebody changed in between is read anew.

use std::collections::BTreeMap;

use cutover_plan::id::ReleaseNumber;
use cutover_plan::spec::AppSpec;
use cutover_plan::traffic::{Replicas, Traffic as Shares};
use cutover_wire::table::{Pool, Route, Split, Table, Target};

use super::lease::Lease;
use crate::containers::Container;
use crate::traffic::{Traffic, TrafficError};

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

/// The route that sends all new requests to `serving`; none if it has no
/// container that runs. `other` is the release whose open requests may go on.
pub(super) fn route(
    spec: &AppSpec,
    containers: &[Container],
    serving: ReleaseNumber,
    other: Option<ReleaseNumber>,
) -> Option<Route> {
    let mut pools = BTreeMap::new();
    pools.insert(serving.to_string(), pool(containers, serving)?);
    if let Some(other) = other
        && let Some(found) = pool(containers, other)
    {
        pools.insert(other.to_string(), found);
    }
    Some(Route::new(
        spec.domains.clone(),
        spec.path_prefix.clone(),
        Split::all_to(serving.to_string()),
        pools,
    ))
}

/// Who gets requests by a route; none where that cannot be read from it.
pub(super) fn traffic(route: Option<&Route>) -> Option<Shares> {
    let Some(route) = route else {
        return Some(Shares::none());
    };
    let number = |pool: &str| Some(ReleaseNumber(pool.strip_prefix('v')?.parse().ok()?));
    let share = |(pool, weight)| Some((number(pool)?, weight, Replicas::All));
    let shares: Option<Vec<_>> = route.serving.weights().map(share).collect();
    Some(Shares::of(shares?))
}

fn pool(containers: &[Container], release: ReleaseNumber) -> Option<Pool> {
    let of_release = containers
        .iter()
        .filter(|container| container.release == release);
    let mut targets: Vec<_> = of_release
        .filter_map(|container| {
            let address = container.address()?;
            Some(Target {
                id: container.name.clone(),
                address,
            })
        })
        .collect();
    targets.sort();
    (!targets.is_empty()).then(|| Pool::of(targets))
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
