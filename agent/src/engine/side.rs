//! What happens to a route beside its users: a preview, copies of requests,
//! requests that are held, and a release that only stands by.

use std::time::Duration;

use cutover_plan::event::{Failure, FailureClass, Finding};
use cutover_plan::id::ReleaseNumber;
use cutover_plan::spec::Rate;
use cutover_plan::step::Mirrored;
use cutover_plan::traffic::Replicas;
use cutover_wire::table::{
    Bodies, Maintenance, Mirror, Park, Pool, Preview, Route, Split, WHOLE, Weight,
};

use super::route;
use super::steps::Steps;
use crate::config::preview_secret;
use crate::containers::Containers;
use crate::traffic::Traffic;

/// Copies that wait for the release that gets them: a burst of a busy app.
const MAX_COPIES: u32 = 1_000;

/// What a held request may hold of its body: the proxy keeps short ones only, and
/// does not read the others.
const HELD_BYTES: u64 = 16 * 1024;

/// What all held requests may hold: a tenth of what a small host has.
const MAX_HELD_BYTES: u64 = 128 << 20;

impl<C: Containers, T: Traffic, R: Send + Sync + 'static> Steps<C, T, R> {
    /// Lets those who know the app's secret reach a release, or nobody.
    pub(super) async fn preview(&self, release: Option<ReleaseNumber>) -> Result<Finding, Failure> {
        let Some(release) = release else {
            let text = self.change_route(without_preview).await?;
            return Ok(Finding::Note { text });
        };
        let Some(spec) = &self.spec.preview else {
            let reason = "the app's file has no preview any more".to_owned();
            return Err(Failure::new(FailureClass::Host, reason));
        };
        let secret = preview_secret(spec).map_err(|why| Failure::new(FailureClass::Host, why))?;
        let (name, pool) = self.pool_of(release).await?;
        let shown = Preview::new(&spec.header, &secret, &name);
        let change = |now: Option<&Route>| {
            let mut route = match now {
                Some(now) => now.clone(),
                // Before its first release the app has no users to be closed to.
                None => Route {
                    maintenance: Maintenance::On,
                    ..Route::new(
                        self.spec.domains.clone(),
                        self.spec.path_prefix.clone(),
                        Split::all_to(&name),
                        [(name.clone(), pool.clone())].into(),
                    )
                },
            };
            route
                .pools
                .entry(name.clone())
                .or_insert_with(|| pool.clone());
            route.preview = Some(shown.clone());
            Some(route)
        };
        let text = self.change_route(change).await?;
        let header = &spec.header;
        let text = format!("{text}; send the secret in the header {header}");
        Ok(Finding::Note { text })
    }

    /// Copies safe requests to a release, or stops that.
    pub(super) async fn mirror(&self, to: Option<&Mirrored>) -> Result<Finding, Failure> {
        let Some(to) = to else {
            let stop = |now: Option<&Route>| {
                let mut route = now?.clone();
                route.mirror = None;
                Some(route)
            };
            let text = self.change_route(stop).await?;
            return Ok(Finding::Note { text });
        };
        let (name, pool) = self.pool_of(to.release).await?;
        let mirror = Mirror {
            pool: name.clone(),
            share: weight(to.share),
            max_queue: MAX_COPIES,
            bodies: Bodies::Compared,
        };
        let change = |now: Option<&Route>| {
            let mut route = now?.clone();
            route
                .pools
                .entry(name.clone())
                .or_insert_with(|| pool.clone());
            route.mirror = Some(mirror.clone());
            Some(route)
        };
        let text = self.change_route(change).await?;
        self.must_have_route("copies have no requests to be made of")
            .await?;
        Ok(Finding::Note { text })
    }

    /// Holds new requests, until a shift lets them go on.
    pub(super) async fn park(&self, requests: u32, deadline: Duration) -> Result<Finding, Failure> {
        let bytes = u64::from(requests).saturating_mul(HELD_BYTES);
        let park = Park {
            max_requests: requests,
            max_bytes: bytes.clamp(HELD_BYTES, MAX_HELD_BYTES),
            max_age_ms: u64::try_from(deadline.as_millis()).unwrap_or(u64::MAX),
        };
        let change = |now: Option<&Route>| {
            let mut route = now?.clone();
            route.park = Some(park.clone());
            Some(route)
        };
        let text = self.change_route(change).await?;
        self.must_have_route("there are no requests to hold")
            .await?;
        Ok(Finding::Note { text })
    }

    /// The release is where it should be already: beside the serving one, without
    /// new requests. Whose sessions it had goes where all others go.
    pub(super) async fn stand_by(&self) -> Result<(), Failure> {
        let change = |now: Option<&Route>| {
            let mut route = now?.clone();
            route.affinity = None;
            Some(route)
        };
        self.change_route(change).await?;
        Ok(())
    }

    async fn pool_of(&self, release: ReleaseNumber) -> Result<(String, Pool), Failure> {
        let containers = self.containers().await?;
        match route::pool(&containers, release, &Replicas::All) {
            Some(pool) => Ok((release.to_string(), pool)),
            None => {
                let reason = format!("{release} has no running container");
                let log = self.log_of(&containers, release).await;
                Err(Failure::new(FailureClass::Release, reason).log(log))
            }
        }
    }

    async fn must_have_route(&self, otherwise: &str) -> Result<(), Failure> {
        let table = self.ask_traffic(|| self.drivers.traffic.table()).await?;
        match table.apps.contains_key(self.lease.app().as_str()) {
            true => Ok(()),
            false => {
                let reason = format!("the app has no route, so {otherwise}");
                Err(Failure::new(FailureClass::Host, reason))
            }
        }
    }
}

/// Takes everything out of a route that leads to a pool, but its users.
pub(super) fn forget(route: &mut Route, pool: &str) {
    route.preview = route.preview.take().filter(|preview| preview.pool != pool);
    route.mirror = route.mirror.take().filter(|mirror| mirror.pool != pool);
    if route.pools.len() < 2 {
        route.affinity = None;
    }
}

/// A route with its users only.
pub(super) fn bare(route: &Route) -> Route {
    Route {
        affinity: None,
        preview: None,
        mirror: None,
        ..route.clone()
    }
}

/// Whether a route has no users: it only shows a release before its first ones.
pub(super) fn is_preview_only(route: &Route) -> bool {
    route.maintenance == Maintenance::On && route.preview.is_some()
}

/// What is left of a route when nobody sees the preview any more; nothing of one
/// that was only made for it.
fn without_preview(now: Option<&Route>) -> Option<Route> {
    let mut route = now?.clone();
    route.preview = None;
    (route.maintenance == Maintenance::Off).then_some(route)
}

/// A share of requests as the table says it: at least the smallest there is.
fn weight(share: Rate) -> Weight {
    let parts = u64::from(share.0) * u64::from(WHOLE) / u64::from(Rate::ONE);
    Weight(u16::try_from(parts).unwrap_or(WHOLE).clamp(1, WHOLE))
}
