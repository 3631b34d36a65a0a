//! Where the requests of one app come from and go to.
//!
//! ```text
//!  host, prefix ─▶ redirect? ─▶ preview? ─▶ maintenance? ─▶ rules ─▶ affinity ─▶ split ─▶ pool
//!                                                                                 └▶ park: wait
//! ```

use std::collections::{BTreeMap, BTreeSet};

use serde::{Deserialize, Serialize};

use super::MAX_NAME;
use super::ability::{Ability, Need};
use super::affinity::Affinity;
use super::fault::{Faults, shown};
use super::host::{self, Https, MAX_HOSTS, Redirect};
use super::limits::Limits;
use super::mirror::Mirror;
use super::page::{Maintenance, Pages};
use super::park::Park;
use super::pool::{Pool, is_default};
use super::rule::{MAX_RULES, Preview, Rule};
use super::split::Split;

/// Pools of one app: the two live releases, and one that is leaving.
const MAX_POOLS: usize = 4;

/// Bytes of a path.
const MAX_PATH: usize = 500;

/// Where the requests of one app come from and go to.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Route {
    /// Host names in lower case without port: exact, `*.example.com` for one
    /// label more, or [`super::ANY_HOST`]. An exact one goes before a wildcard.
    pub hosts: Vec<String>,
    /// The path prefix, matched by whole segments; `/` takes every path.
    pub path_prefix: String,
    /// How new requests are divided among the pools.
    pub serving: Split,
    /// The releases that may hold requests, by the name of the release.
    pub pools: BTreeMap<String, Pool>,
    /// The bounds of a request of this app.
    #[serde(default)]
    pub limits: Limits,
    /// Whether targets are asked without the path prefix.
    #[serde(default, skip_serializing_if = "is_default")]
    pub strip_prefix: bool,
    /// Hosts whose clients are sent to another one.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub redirects: BTreeMap<String, Redirect>,
    /// What becomes of requests over plain HTTP.
    #[serde(default, skip_serializing_if = "is_default")]
    pub https: Https,
    /// Which client is sent to the same pool again; none is.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub affinity: Option<Affinity>,
    /// Requests that go to a certain pool, in the order in which they are tried.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub rules: Vec<Rule>,
    /// The pool that is shown to those who know a secret.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub preview: Option<Preview>,
    /// The pool that gets copies of requests.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub mirror: Option<Mirror>,
    /// Holds requests while it stands here.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub park: Option<Park>,
    /// What users see where the proxy answers.
    #[serde(default, skip_serializing_if = "is_default")]
    pub pages: Pages,
    /// Whether the app is closed to its users.
    #[serde(default, skip_serializing_if = "is_default")]
    pub maintenance: Maintenance,
}

impl Route {
    /// A route with nothing special about it.
    pub fn new(
        hosts: Vec<String>,
        path_prefix: impl Into<String>,
        serving: Split,
        pools: BTreeMap<String, Pool>,
    ) -> Self {
        Self {
            hosts,
            path_prefix: path_prefix.into(),
            serving,
            pools,
            limits: Limits::default(),
            strip_prefix: false,
            redirects: BTreeMap::new(),
            https: Https::default(),
            affinity: None,
            rules: Vec::new(),
            preview: None,
            mirror: None,
            park: None,
            pages: Pages::default(),
            maintenance: Maintenance::default(),
        }
    }

    /// Whether requests of users may go to this pool: by its weight or by a rule.
    pub fn is_served_by(&self, pool: &str) -> bool {
        self.serving.gives_to(pool) || self.rules.iter().any(|rule| rule.pool == pool)
    }

    pub(super) fn check(&self, place: &str, faults: &mut Faults) {
        let at = |part: &str| format!("{place}.{part}");
        self.check_hosts(place, faults);
        check_path(&self.path_prefix, &at("path_prefix"), faults);
        if self.path_prefix.len() > 1 && self.path_prefix.ends_with('/') {
            faults.add(&at("path_prefix"), "must not end with '/'");
        }
        let pools = at("pools");
        faults.at_most(&pools, "pools", self.pools.len(), MAX_POOLS);
        self.serving.check(&at("serving"), faults);
        self.check_pool_names(place, faults);
        let mut ids = BTreeSet::new();
        for (name, pool) in &self.pools {
            let place = format!("{pools}.{}", shown(name));
            if name.is_empty() || name.len() > MAX_NAME {
                let fault = format!("the name has {} bytes, must be 1 to {MAX_NAME}", name.len());
                faults.add(&place, fault);
            }
            pool.check(&place, &mut ids, faults);
        }
        self.limits.check(&at("limits"), faults);
        if let Some(affinity) = &self.affinity {
            affinity.check(&at("affinity"), faults);
        }
        faults.at_most(&at("rules"), "rules", self.rules.len(), MAX_RULES);
        for (number, rule) in self.rules.iter().enumerate() {
            rule.check(&format!("{place}.rules.{number}"), faults);
        }
        if let Some(preview) = &self.preview {
            preview.check(&at("preview"), faults);
        }
        if let Some(mirror) = &self.mirror {
            mirror.check(&at("mirror"), faults);
            if self.is_served_by(&mirror.pool) {
                let pool = shown(&mirror.pool);
                let fault = format!("the pool {pool:?} gets the requests themselves");
                faults.add(&at("mirror.pool"), fault);
            }
        }
        if let Some(park) = &self.park {
            park.check(&at("park"), faults);
        }
        self.pages.check(&at("pages"), faults);
    }

    fn check_hosts(&self, place: &str, faults: &mut Faults) {
        let hosts = format!("{place}.hosts");
        let count = self.hosts.len() + self.redirects.len();
        if self.hosts.is_empty() || count > MAX_HOSTS {
            faults.add(&hosts, format!("{count} hosts, must be 1 to {MAX_HOSTS}"));
        }
        for host in &self.hosts {
            host::check(host, &hosts, faults);
        }
        for (host, redirect) in &self.redirects {
            let place = format!("{place}.redirects.{}", shown(host));
            host::check_redirect(host, redirect, &place, faults);
        }
    }

    /// Every pool that a request may be sent to exists and has a target.
    fn check_pool_names(&self, place: &str, faults: &mut Faults) {
        // Who waits or is turned away needs no target.
        let closed = self.park.is_some() || self.maintenance == Maintenance::On;
        for (part, pool) in self.named_pools() {
            let name = shown(pool);
            match self.pools.get(pool) {
                None => faults.add(
                    &format!("{place}.{part}"),
                    format!("there is no pool {name:?}"),
                ),
                Some(pool) if pool.targets.is_empty() && !closed => {
                    let fault = format!("the pool {name:?} has no target");
                    faults.add(&format!("{place}.{part}"), fault);
                }
                Some(_) => {}
            }
        }
    }

    /// Every pool that this route sends something to, with the part that names it.
    pub(super) fn named_pools(&self) -> impl Iterator<Item = (String, &str)> {
        let serving = self.serving.weights();
        let serving = serving.map(|(pool, _)| ("serving".to_owned(), pool));
        let rules = self.rules.iter().enumerate();
        let rules =
            rules.map(|(number, rule)| (format!("rules.{number}.pool"), rule.pool.as_str()));
        let preview = self.preview.iter();
        let preview = preview.map(|preview| ("preview.pool".to_owned(), preview.pool.as_str()));
        let mirror = self.mirror.iter();
        let mirror = mirror.map(|mirror| ("mirror.pool".to_owned(), mirror.pool.as_str()));
        serving.chain(rules).chain(preview).chain(mirror)
    }

    pub(super) fn needs(&self, place: &str, need: &mut Need<'_>) {
        let wildcard = self.hosts.iter().chain(self.redirects.keys());
        let parts = [
            (
                wildcard.into_iter().any(|host| host::is_wildcard(host)),
                Ability::WildcardHosts,
                "hosts",
            ),
            (self.strip_prefix, Ability::StripPrefix, "strip_prefix"),
            (!self.redirects.is_empty(), Ability::Redirect, "redirects"),
            (
                self.https == Https::Redirect,
                Ability::HttpsRedirect,
                "https",
            ),
            (self.serving.sole().is_none(), Ability::Weights, "serving"),
            (self.affinity.is_some(), Ability::Affinity, "affinity"),
            (!self.rules.is_empty(), Ability::Rules, "rules"),
            (self.preview.is_some(), Ability::Preview, "preview"),
            (self.mirror.is_some(), Ability::Mirror, "mirror"),
            (self.park.is_some(), Ability::Park, "park"),
            (!is_default(&self.pages), Ability::Pages, "pages"),
            (
                self.maintenance == Maintenance::On,
                Ability::Maintenance,
                "maintenance",
            ),
        ];
        for (wanted, ability, part) in parts {
            need(wanted, ability, &format!("{place}.{part}"));
        }
        for (name, pool) in &self.pools {
            pool.needs(&format!("{place}.pools.{}", shown(name)), need);
        }
    }
}

/// A path without query that can stand in a request.
pub(super) fn check_path(path: &str, place: &str, faults: &mut Faults) {
    let plain = path
        .bytes()
        .all(|b| b.is_ascii_graphic() && b != b'?' && b != b'#');
    if !path.starts_with('/') || !plain || path.len() > MAX_PATH {
        let fault = format!("{:?} must begin with '/' and be no URL", shown(path));
        faults.add(place, fault);
    }
}
