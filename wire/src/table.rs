//! The routing table: which request goes to which container.
//!
//! The agent makes it, the proxy obeys it. A table is whole (all apps) and has
//! a generation; the proxy takes a table only in place of the generation that
//! its maker had read, so two makers cannot overwrite each other.
//!
//! A table is checked as a whole by [`Table::problems`] before it is used: no
//! dangling pool, weights that add up, no host and path claimed twice, nothing
//! over its limit. What a proxy must be able to do for it, [`Table::needs`]
//! tells. Everything that is left out of a stored table has the meaning that
//! it had before there was a word for it.

mod ability;
mod affinity;
mod certificate;
mod connections;
mod fault;
mod health;
mod host;
mod limits;
mod mirror;
mod network;
mod page;
mod park;
mod pool;
mod route;
mod rule;
mod split;
#[cfg(test)]
mod tests;

use std::collections::{BTreeMap, BTreeSet};
use std::io;

use serde::{Deserialize, Serialize};

pub use ability::Ability;
pub(crate) use ability::known as known_abilities;
pub use affinity::{Affinity, Client, Moves};
pub use certificate::{AcmeAnswers, Certificate};
pub use connections::Connections;
pub use cutover_plan::spec::Weight;
pub use fault::TableProblem;
pub use health::ActiveHealth;
pub use host::{ANY_HOST, Https, Redirect, RedirectStatus};
pub use limits::Limits;
pub use mirror::{Bodies, Mirror};
pub use network::{Network, NetworkError};
pub use page::{Maintenance, Pages};
pub use park::Park;
pub use pool::{Balance, Pool, Protocol, Target};
pub use route::Route;
pub use rule::{Condition, Field, Match, Preview, Rule};
pub use split::{Split, WHOLE};

use fault::{Faults, shown};

/// Apps of a table. The limits of a table are there so that a mistaken maker
/// cannot fill the proxy; a host with a tenth of this is a large one.
pub const MAX_APPS: usize = 1_000;
/// Pairs of host and path prefix that a table may claim, all apps together.
pub const MAX_CLAIMS: usize = 10_000;
/// Bytes of a table as JSON: a frame, less what stands around the table.
pub const MAX_TABLE: usize = crate::proxy::MAX_FRAME - 1024;
/// Bytes of the name of an app or a pool.
pub const MAX_NAME: usize = 100;
/// Certificates: one for each host that may be claimed.
pub const MAX_CERTIFICATES: usize = MAX_CLAIMS;
/// Networks of trusted proxies: large content networks publish a few hundred.
pub const MAX_NETWORKS: usize = 1_000;

/// All routes of the proxy, at one generation.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Table {
    /// Counts up by one with each change; 0 is the empty table of a new proxy.
    pub generation: u64,
    /// The route of each app, by its name.
    pub apps: BTreeMap<String, Route>,
    /// The certificate for each name that a client may ask for: an exact host,
    /// a wildcard, or [`ANY_HOST`] for every other.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub certificates: BTreeMap<String, Certificate>,
    /// What is answered to an authority that proves who holds a domain.
    #[serde(default, skip_serializing_if = "AcmeAnswers::is_empty")]
    pub acme: AcmeAnswers,
    /// Where proxies stand whose word about a client's address is believed.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub trusted_proxies: Vec<Network>,
    /// The bounds of client connections.
    #[serde(default, skip_serializing_if = "Connections::is_default")]
    pub connections: Connections,
}

impl Table {
    /// The mistakes in the table, each with its place; a table without any may
    /// be served. Of very many mistakes the first are told, and that there are more.
    pub fn problems(&self) -> Vec<TableProblem> {
        let mut faults = Faults::default();
        faults.at_most("apps", "apps", self.apps.len(), MAX_APPS);
        for (name, route) in &self.apps {
            let place = format!("apps.{}", shown(name));
            if name.is_empty() || name.len() > MAX_NAME {
                let fault = format!("the name has {} bytes, must be 1 to {MAX_NAME}", name.len());
                faults.add(&place, fault);
            }
            route.check(&place, &mut faults);
        }
        self.check_claims(&mut faults);
        faults.at_most(
            "certificates",
            "certificates",
            self.certificates.len(),
            MAX_CERTIFICATES,
        );
        for (name, certificate) in &self.certificates {
            certificate.check(name, &mut faults);
        }
        self.acme.check(&mut faults);
        network::check(&self.trusted_proxies, &mut faults);
        self.connections.check(&mut faults);
        let bytes = self.encoded_bytes();
        faults.at_most("table", "bytes of JSON", bytes, MAX_TABLE);
        faults.into_problems()
    }

    /// Everything that a proxy must be able to do to obey this table, besides
    /// what every proxy can: exact hosts and `*`, prefixes, one pool, limits.
    pub fn needs(&self) -> BTreeSet<Ability> {
        self.needed()
            .into_iter()
            .map(|(ability, _)| ability)
            .collect()
    }

    /// What the table needs and a proxy with these abilities cannot do, each
    /// with a place that needs it.
    pub fn beyond(&self, abilities: &BTreeSet<Ability>) -> Vec<TableProblem> {
        let mut faults = Faults::default();
        for (ability, place) in self.needed() {
            if !abilities.contains(&ability) {
                faults.add(&place, format!("this proxy cannot do `{ability}`"));
            }
        }
        faults.into_problems()
    }

    fn needed(&self) -> Vec<(Ability, String)> {
        let mut needed = Vec::new();
        let mut need = |wanted: bool, ability, place: &str| {
            if wanted {
                needed.push((ability, place.to_owned()));
            }
        };
        for (name, route) in &self.apps {
            route.needs(&format!("apps.{}", shown(name)), &mut need);
        }
        let certificates = !self.certificates.is_empty();
        need(certificates, Ability::Certificates, "certificates");
        need(!self.acme.is_empty(), Ability::Acme, "acme");
        let trusted = !self.trusted_proxies.is_empty();
        need(trusted, Ability::TrustedProxies, "trusted_proxies");
        self.connections.needs(&mut need);
        needed
    }

    /// Two apps cannot take the same requests, and a redirect cannot lead to another.
    fn check_claims(&self, faults: &mut Faults) {
        let mut claims: BTreeMap<(&str, &str), &str> = BTreeMap::new();
        let mut count = 0;
        for (name, route) in &self.apps {
            let place = format!("apps.{}", shown(name));
            let own = route.hosts.iter().map(|host| (host, "hosts"));
            let moved = route.redirects.keys().map(|host| (host, "redirects"));
            for (host, part) in own.chain(moved) {
                count += 1;
                let claim = (host.as_str(), route.path_prefix.as_str());
                if let Some(other) = claims.insert(claim, name) {
                    let path = shown(&route.path_prefix);
                    let fault =
                        format!("{}{path} is already taken by {}", shown(host), shown(other));
                    faults.add(&format!("{place}.{part}"), fault);
                }
            }
        }
        faults.at_most("apps", "pairs of host and path prefix", count, MAX_CLAIMS);
        let redirects = || self.apps.values().flat_map(|route| &route.redirects);
        let moved: BTreeSet<&str> = redirects().map(|(host, _)| host.as_str()).collect();
        for (name, route) in &self.apps {
            for (host, redirect) in &route.redirects {
                if moved.contains(redirect.to.as_str()) {
                    let place = format!("apps.{}.redirects.{}", shown(name), shown(host));
                    let fault = format!("{} is itself redirected", shown(&redirect.to));
                    faults.add(&place, fault);
                }
            }
        }
    }

    /// The length of the table as JSON, of which nothing is kept.
    fn encoded_bytes(&self) -> usize {
        struct Count(usize);
        impl io::Write for Count {
            fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
                self.0 += bytes.len();
                Ok(bytes.len())
            }
            fn flush(&mut self) -> io::Result<()> {
                Ok(())
            }
        }
        let mut count = Count(0);
        match serde_json::to_writer(&mut count, self) {
            Ok(()) => count.0,
            // What cannot be written cannot be stored or told.
            Err(_) => usize::MAX,
        }
    }
}
