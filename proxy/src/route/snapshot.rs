//! All routes of a table, and which of them takes a request.
//!
//! A snapshot never changes; a new table makes a new one. It holds no decision
//! of when to switch.

use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::Arc;

use cutover_wire::table::{AcmeAnswers, Connections, Network, Table};
use http::{HeaderValue, StatusCode, Uri};

use super::claims::Claims;
use super::pool::Pool;
use super::redirect::{self, Moved};
use super::rule::Expressions;
use super::{Live, Route};
use crate::origin::Scheme;

/// See the module.
#[derive(Debug, Default)]
pub(crate) struct Snapshot {
    claims: Claims<Claim>,
    apps: HashMap<Arc<str>, Arc<Route>>,
    acme: AcmeAnswers,
    trusted: Box<[Network]>,
    connections: Connections,
}

#[derive(Debug)]
struct Claim {
    route: Arc<Route>,
    moved: Option<Moved>,
}

/// The route that takes a request.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Found<'s> {
    /// The route, also of a host that moved.
    pub(crate) route: &'s Arc<Route>,
    moved: Option<&'s Moved>,
}

impl Snapshot {
    /// The snapshot of a table without objections; `pool` gives the live pool of
    /// an app's name and the name of a pool that the app lists, `live` what lives of
    /// the app. What a mistaken table names and does not have is left out.
    pub(crate) fn new(
        table: &Table,
        mut pool: impl FnMut(&str, &str) -> Pool,
        mut live: impl FnMut(&str) -> Live,
    ) -> Self {
        let mut expressions = Expressions::default();
        let mut apps = HashMap::with_capacity(table.apps.len());
        let mut claims = Vec::new();
        for (app, listed) in &table.apps {
            let made = Arc::new(Route::new(
                app,
                listed,
                &mut pool,
                live(app),
                &mut expressions,
            ));
            apps.insert(Arc::clone(&made.app), Arc::clone(&made));
            let kept = listed.hosts.iter().map(|host| (host, None));
            let moved = listed.redirects.iter();
            let moved = moved.map(|(host, redirect)| (host, Some(Moved::of(redirect))));
            for (host, moved) in kept.chain(moved) {
                let route = Arc::clone(&made);
                let claim = Claim { route, moved };
                claims.push((host.as_str(), listed.path_prefix.as_str(), claim));
            }
        }
        let claims = Claims::of(claims);
        Self {
            claims,
            apps,
            acme: table.acme.clone(),
            trusted: table.trusted_proxies.clone().into(),
            connections: table.connections.clone(),
        }
    }

    /// The answers to open challenges.
    pub(crate) fn acme(&self) -> &AcmeAnswers {
        &self.acme
    }

    /// Who is believed about the address of a client.
    pub(crate) fn trusted(&self) -> &[Network] {
        &self.trusted
    }

    /// How long a client may take for the head of a request, where the table says it.
    pub(crate) fn head_ms(&self) -> Option<u64> {
        self.connections.head_ms
    }

    /// How many connections an address may have. One that is trusted to speak for
    /// clients has as many as they have together.
    pub(crate) fn most_from(&self, address: IpAddr) -> Option<u32> {
        let most = self.connections.per_address?;
        let speaks_for_others = self.trusted.iter().any(|known| known.contains(address));
        (!speaks_for_others).then_some(most)
    }

    /// The route of an app.
    pub(crate) fn app(&self, app: &str) -> Option<&Arc<Route>> {
        self.apps.get(app)
    }

    /// The route of a request; `host` is in lower case and without port.
    pub(crate) fn find(&self, host: &str, path: &str) -> Option<Found<'_>> {
        let Claim { route, moved } = self.claims.find(host, path)?;
        let moved = moved.as_ref();
        Some(Found { route, moved })
    }
}

impl Found<'_> {
    /// Where the client of a request is sent instead of being served, if it is:
    /// the status and the value of `Location`. To be asked before anything else
    /// of the route but the answers to a certificate authority.
    pub(crate) fn redirect(
        &self,
        uri: &Uri,
        scheme: Scheme,
        host: &str,
    ) -> Option<(StatusCode, HeaderValue)> {
        if self.moved.is_none() && self.route.https == cutover_wire::table::Https::Optional {
            return None;
        }
        redirect::redirect(self.moved, self.route.https, uri, scheme, host)
    }
}
