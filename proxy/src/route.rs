//! Where a request goes: from its host and path to a pool.
//!
//! ```text
//!  host, path ─▶ Snapshot::find ─▶ Found::redirect?
//!                     │
//!                     ▼
//!    Route::choose: preview? ─▶ maintenance? ─▶ rules ─▶ affinity ─▶ weights
//!                                                                      │
//!         the caller: park? ─▶ a target of the pool takes it? ◀────────┘
//!                                      └ no: choose_other
//! ```
//!
//! Everything here is made from a table and never changes; what is live (open
//! requests, counts) is behind the pools and is not touched. Choosing is pure:
//! chance comes as an argument.

mod affinity;
mod claims;
mod cookie;
mod hash;
mod page;
mod pool;
mod prefix;
mod preview;
mod redirect;
mod rule;
mod shares;
mod snapshot;
#[cfg(test)]
mod tests;

use std::net::IpAddr;
use std::sync::Arc;

use bytes::Bytes;
use cutover_wire::table::{self, Https, Limits, Maintenance, Park};
use http::uri::PathAndQuery;
use http::{HeaderMap, HeaderName, HeaderValue};

use crate::mirror::Comparison;
use crate::origin::Scheme;
use crate::park::Lot;
use affinity::Affinity;
use page::Pages;
use preview::Preview;
use rule::{Expressions, Rules};
use shares::Shares;

pub(crate) use pool::Pool;
pub(crate) use rule::rule_problems;
pub(crate) use snapshot::Snapshot;

/// What of a request decides about its pool.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Asked<'a> {
    /// Its fields.
    pub(crate) headers: &'a HeaderMap,
    /// Where its client is, behind the proxies that are trusted.
    pub(crate) address: IpAddr,
    /// How it came.
    pub(crate) scheme: Scheme,
    /// A number drawn for it; the same one if it is asked about again.
    pub(crate) random: u64,
}

/// Where a request goes.
#[derive(Debug)]
pub(crate) enum Choice<'r> {
    /// To no target: it is answered with the maintenance page.
    Maintenance,
    /// To a target of a pool.
    Pool(Chosen<'r>),
    /// There is no pool (left).
    Nobody,
}

/// The pool of a request.
#[derive(Debug)]
pub(crate) struct Chosen<'r> {
    /// The pool.
    pub(crate) pool: &'r Arc<Pool>,
    /// A field `Set-Cookie` for the answer.
    pub(crate) set_cookie: Option<HeaderValue>,
}

/// Copies of requests, and where they go.
#[derive(Debug)]
pub(crate) struct Mirror {
    /// The pool that gets the copies.
    pub(crate) pool: Arc<Pool>,
    /// Which copies are made.
    pub(crate) listed: table::Mirror,
    /// What is counted of them.
    pub(crate) comparison: Arc<Comparison>,
}

/// What of an app lives through all tables.
#[derive(Debug, Default)]
pub(crate) struct Live {
    /// Where its requests wait.
    pub(crate) lot: Arc<Lot>,
    /// What is counted of copies of its requests; there where they are made.
    pub(crate) comparison: Option<Arc<Comparison>>,
}

/// The way of the requests of one app.
#[derive(Debug)]
pub(crate) struct Route {
    /// The name of the app.
    pub(crate) app: Arc<str>,
    /// The bounds of a request.
    pub(crate) limits: Limits,
    /// Where every request goes, where nothing else is to be asked: no pages
    /// aside, the route has nothing special about it.
    pub(crate) sole: Option<Arc<Pool>>,
    /// What becomes of requests over plain HTTP.
    pub(crate) https: Https,
    /// Whether the app is closed to its users.
    pub(crate) maintenance: Maintenance,
    /// The copies of its requests.
    pub(crate) mirror: Option<Mirror>,
    /// Holds requests while it stands here.
    pub(crate) park: Option<Park>,
    /// Where requests wait while it is parked, and until all of them have left.
    pub(crate) lot: Arc<Lot>,
    /// Whether targets are asked without the prefix.
    pub(crate) strip_prefix: bool,
    prefix: Box<str>,
    #[cfg(test)]
    pools: Vec<(Arc<str>, Arc<Pool>)>,
    shares: Shares,
    rules: Rules,
    affinity: Option<Affinity>,
    preview: Option<Preview>,
    pages: Pages,
}

/// Whether a route of a table sends new requests to a pool: of users, of those
/// who know the secret, or copies. A pool that is only listed may end what it has.
pub(crate) fn gives_requests_to(route: &table::Route, pool: &str) -> bool {
    let preview = route.preview.as_ref();
    let mirror = route.mirror.as_ref();
    route.is_served_by(pool)
        || preview.is_some_and(|preview| preview.pool == pool)
        || mirror.is_some_and(|mirror| mirror.pool == pool)
}

/// Whether a pool is one of these.
fn is_among(pool: &Arc<Pool>, pools: &[&Pool]) -> bool {
    pools.iter().any(|one| std::ptr::eq(*one, &**pool))
}

impl Route {
    fn new<'t>(
        app: &str,
        listed: &'t table::Route,
        mut pool: impl FnMut(&str, &str) -> Pool,
        live: Live,
        expressions: &mut Expressions<'t>,
    ) -> Self {
        let made = |name: &String| (Arc::from(name.as_str()), Arc::new(pool(app, name)));
        let pools: Vec<(Arc<str>, Arc<Pool>)> = listed.pools.keys().map(made).collect();
        let named = |name: &str| {
            let mut pools = pools.iter();
            let (_, pool) = pools.find(|(other, _)| **other == *name)?;
            Some(Arc::clone(pool))
        };
        let weights = listed.serving.weights();
        let shares = weights.filter_map(|(name, weight)| Some((name, named(name)?, weight.0)));
        let preview = listed.preview.as_ref();
        let mirror = listed.mirror.as_ref();
        let mut route = Self {
            app: Arc::from(app),
            limits: listed.limits.clone(),
            sole: None,
            https: listed.https,
            maintenance: listed.maintenance,
            mirror: mirror.and_then(|mirror| {
                Some(Mirror {
                    pool: named(&mirror.pool)?,
                    listed: mirror.clone(),
                    comparison: live.comparison.clone()?,
                })
            }),
            park: listed.park.clone(),
            lot: live.lot,
            strip_prefix: listed.strip_prefix,
            prefix: listed.path_prefix.as_str().into(),
            shares: Shares::of(app, shares),
            rules: Rules::of(listed, named, expressions),
            affinity: Affinity::of(app, listed, &pools),
            preview: preview.and_then(|preview| Preview::of(preview, named(&preview.pool)?)),
            pages: Pages::of(&listed.pages),
            #[cfg(test)]
            pools,
        };
        let plain = route.rules.is_empty()
            && route.affinity.is_none()
            && route.preview.is_none()
            && route.mirror.is_none()
            && route.park.is_none()
            && route.https == Https::Optional
            && route.maintenance == Maintenance::Off
            && !route.strip_prefix;
        route.sole = route.shares.sole().filter(|_| plain).cloned();
        route
    }

    /// The pool that a request goes to.
    #[cfg(test)]
    pub(crate) fn choose(&self, asked: &Asked<'_>) -> Choice<'_> {
        self.choose_other(asked, &[])
    }

    /// The pool that a request goes to while no target of `excluding`, pools of
    /// this route, takes it. Whoever asked for a preview gets that or nothing:
    /// to be shown another release would be a lie.
    pub(crate) fn choose_other(&self, asked: &Asked<'_>, excluding: &[&Pool]) -> Choice<'_> {
        if let Some(pool) = self
            .preview
            .as_ref()
            .and_then(|preview| preview.shown_to(asked.headers))
        {
            return match is_among(pool, excluding) {
                true => Choice::Nobody,
                false => Choice::Pool(Chosen {
                    pool,
                    set_cookie: None,
                }),
            };
        }
        if self.maintenance == Maintenance::On {
            return Choice::Maintenance;
        }
        let sent = match self.rules.find(asked.headers, excluding) {
            Some(pool) => Some((pool, None)),
            None => self.by_weight(asked, excluding),
        };
        sent.map_or(Choice::Nobody, |(pool, set_cookie)| {
            Choice::Pool(Chosen { pool, set_cookie })
        })
    }

    fn by_weight(
        &self,
        asked: &Asked<'_>,
        excluding: &[&Pool],
    ) -> Option<(&Arc<Pool>, Option<HeaderValue>)> {
        match &self.affinity {
            Some(affinity) => {
                let sent = affinity.send(&self.shares, asked, excluding)?;
                Some((sent.pool, sent.set_cookie))
            }
            None => Some((self.shares.drawn(asked.random, excluding)?, None)),
        }
    }

    /// Whether a request shows that it knows the secret of the preview.
    pub(crate) fn is_shown(&self, headers: &HeaderMap) -> bool {
        let preview = self.preview.as_ref();
        preview.is_some_and(|preview| preview.shown_to(headers).is_some())
    }

    /// What this route shows to those who know the secret of `other`.
    pub(crate) fn preview_as_in(&self, other: &Self) -> Option<&Arc<Pool>> {
        let preview = self.preview.as_ref()?;
        let same = other.preview.as_ref()?.has_secret_of(preview);
        same.then(|| preview.pool())
    }

    /// The header that brings the secret of the preview. No target may see it,
    /// whether what it brought was right or wrong.
    pub(crate) fn secret_header(&self) -> Option<&HeaderName> {
        self.preview.as_ref().map(Preview::header)
    }

    /// A pool of the route by its name, serving or not.
    #[cfg(test)]
    pub(crate) fn pool(&self, name: &str) -> Option<&Arc<Pool>> {
        let mut pools = self.pools.iter();
        pools
            .find(|(other, _)| **other == *name)
            .map(|(_, pool)| pool)
    }

    /// Every pool of the route, serving or not.
    #[cfg(test)]
    pub(crate) fn pools(&self) -> impl Iterator<Item = &Arc<Pool>> {
        self.pools.iter().map(|(_, pool)| pool)
    }

    /// The path prefix that the route takes.
    #[cfg(test)]
    pub(crate) fn prefix(&self) -> &str {
        &self.prefix
    }

    /// What targets are asked for instead of `path`.
    pub(crate) fn strip(&self, path: &PathAndQuery) -> PathAndQuery {
        if self.strip_prefix {
            prefix::strip(&self.prefix, path)
        } else {
            path.clone()
        }
    }

    /// The app's own page for an answer of ours with this status.
    pub(crate) fn page(&self, status: u16) -> Option<&Bytes> {
        self.pages.error(status)
    }

    /// The app's own page for maintenance.
    pub(crate) fn maintenance_page(&self) -> Option<&Bytes> {
        self.pages.maintenance()
    }
}
