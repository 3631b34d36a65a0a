//! The routing table: which request goes to which container.
//!
//! The agent makes it, the proxy obeys it. A table is whole (all apps) and has
//! a generation; the proxy takes a table only in place of the generation that
//! its maker had read, so two makers cannot overwrite each other.
//!
//! A table is checked as a whole by [`Table::problems`] before it is used:
//! no dangling pool, no serving pool without a target, no host and path claimed twice.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::net::SocketAddr;

use serde::{Deserialize, Serialize};

/// The limits of a table, so that a mistaken maker cannot fill the proxy.
pub const MAX_APPS: usize = 500;
/// Domains of one app.
pub const MAX_HOSTS: usize = 100;
/// Pools of one app: the two live releases, and one that is leaving.
pub const MAX_POOLS: usize = 4;
/// Targets of one pool.
pub const MAX_TARGETS: usize = 100;

/// The host that matches every request that no other route takes.
pub const ANY_HOST: &str = "*";

/// All routes of the proxy, at one generation.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Table {
    /// Counts up by one with each change; 0 is the empty table of a new proxy.
    pub generation: u64,
    /// The route of each app, by its name.
    pub apps: BTreeMap<String, Route>,
}

/// Where the requests of one app come from and go to.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Route {
    /// Exact host names in lower case without port, or [`ANY_HOST`].
    pub hosts: Vec<String>,
    /// The path prefix, matched by whole segments; `/` takes every path.
    pub path_prefix: String,
    /// The name of the pool that new requests go to.
    pub serving: String,
    /// The releases that may hold requests, by the name of the release.
    pub pools: BTreeMap<String, Pool>,
    /// The bounds of a request of this app.
    #[serde(default)]
    pub limits: Limits,
}

/// The targets of one release.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Pool {
    /// The containers of the release.
    pub targets: Vec<Target>,
}

/// One address that answers requests.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Target {
    /// The name it keeps through all tables, unique in its app.
    pub id: String,
    /// Where it listens.
    pub address: SocketAddr,
}

/// The bounds of one request.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Limits {
    /// How long a connection to a target may take, all tries together.
    pub connect_ms: u64,
    /// How long a target may take from the whole request to the head of its answer.
    pub response_ms: u64,
    /// How long a body or tunnel may stand still in both directions.
    pub idle_ms: u64,
    /// The largest request body in bytes; none means no bound.
    pub max_body: Option<u64>,
}

impl Default for Limits {
    /// A minute is what browsers and load balancers wait; idle streams get an
    /// hour, because server-sent events and WebSockets are silent for long.
    fn default() -> Self {
        Self {
            connect_ms: 5_000,
            response_ms: 60_000,
            idle_ms: 3_600_000,
            max_body: None,
        }
    }
}

/// One mistake in a table, with the place where it is.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct TableProblem {
    /// The place, for example `apps.shop.pools.v2`.
    pub place: String,
    /// What is wrong there.
    pub fault: String,
}

impl fmt::Display for TableProblem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.place, self.fault)
    }
}

impl Table {
    /// Every mistake in the table; a table without any may be served.
    pub fn problems(&self) -> Vec<TableProblem> {
        let mut found = Vec::new();
        let mut claims = BTreeMap::new();
        if self.apps.len() > MAX_APPS {
            found.push(TableProblem {
                place: "apps".to_owned(),
                fault: format!("{} apps, at most {MAX_APPS}", self.apps.len()),
            });
        }
        for (name, route) in &self.apps {
            let mut report = |place: String, fault: String| {
                let place = format!("apps.{name}{place}");
                found.push(TableProblem { place, fault });
            };
            route.check(&mut report);
            for host in &route.hosts {
                let claim = (host.clone(), route.path_prefix.clone());
                if let Some(other) = claims.insert(claim, name) {
                    let path = &route.path_prefix;
                    report(
                        ".hosts".to_owned(),
                        format!("{host}{path} is already taken by {other}"),
                    );
                }
            }
        }
        found
    }
}

impl Route {
    fn check(&self, report: &mut dyn FnMut(String, String)) {
        if self.hosts.is_empty() || self.hosts.len() > MAX_HOSTS {
            let fault = format!("{} hosts, must be 1 to {MAX_HOSTS}", self.hosts.len());
            report(".hosts".to_owned(), fault);
        }
        for host in &self.hosts {
            let letter =
                |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit() || b"-._".contains(&b);
            if host != ANY_HOST && (host.is_empty() || !host.bytes().all(letter)) {
                let fault = format!("{host:?} is no lower-case host name without port");
                report(".hosts".to_owned(), fault);
            }
        }
        let prefix = &self.path_prefix;
        let plain = prefix
            .bytes()
            .all(|b| b.is_ascii_graphic() && b != b'?' && b != b'#');
        if !prefix.starts_with('/') || !plain || (prefix.len() > 1 && prefix.ends_with('/')) {
            let fault = format!("{prefix:?} must begin with '/', not end with it, and be no URL");
            report(".path_prefix".to_owned(), fault);
        }
        if self.pools.len() > MAX_POOLS {
            let fault = format!("{} pools, at most {MAX_POOLS}", self.pools.len());
            report(".pools".to_owned(), fault);
        }
        match self.pools.get(&self.serving) {
            None => {
                let fault = format!("there is no pool {:?}", self.serving);
                report(".serving".to_owned(), fault);
            }
            Some(pool) if pool.targets.is_empty() => {
                let fault = format!("the pool {:?} has no target", self.serving);
                report(".serving".to_owned(), fault);
            }
            Some(_) => {}
        }
        let mut ids = BTreeSet::new();
        for (name, pool) in &self.pools {
            if pool.targets.len() > MAX_TARGETS {
                let fault = format!("{} targets, at most {MAX_TARGETS}", pool.targets.len());
                report(format!(".pools.{name}"), fault);
            }
            for target in &pool.targets {
                if target.id.is_empty() || !ids.insert(&target.id) {
                    let fault = format!("the target id {:?} is empty or used twice", target.id);
                    report(format!(".pools.{name}"), fault);
                }
                if target.address.port() == 0 || target.address.ip().is_unspecified() {
                    let fault = format!("{} is no address to connect to", target.address);
                    report(format!(".pools.{name}"), fault);
                }
            }
        }
        let limits = &self.limits;
        if limits.connect_ms == 0 || limits.response_ms == 0 || limits.idle_ms == 0 {
            report(
                ".limits".to_owned(),
                "a timeout of 0 refuses every request".to_owned(),
            );
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn good() -> Table {
        let target = Target {
            id: "v1-0".to_owned(),
            address: "127.0.0.1:8080".parse().unwrap(),
        };
        let route = Route {
            hosts: vec!["shop.example.com".to_owned()],
            path_prefix: "/".to_owned(),
            serving: "v1".to_owned(),
            pools: BTreeMap::from([(
                "v1".to_owned(),
                Pool {
                    targets: vec![target],
                },
            )]),
            limits: Limits::default(),
        };
        Table {
            generation: 1,
            apps: BTreeMap::from([("shop".to_owned(), route)]),
        }
    }

    fn check(change: impl FnOnce(&mut Table), expected: &str) {
        let mut table = good();
        change(&mut table);
        let found: Vec<String> = table.problems().iter().map(ToString::to_string).collect();
        assert!(
            found.iter().any(|p| p.contains(expected)),
            "{found:?} lacks {expected:?}"
        );
    }

    fn shop(table: &mut Table) -> &mut Route {
        table.apps.get_mut("shop").unwrap()
    }

    #[test]
    fn a_good_table_has_no_problem() {
        assert_eq!(good().problems(), Vec::new());
    }

    #[test]
    fn each_mistake_is_named_with_its_place() {
        check(|t| shop(t).hosts.clear(), "apps.shop.hosts: 0 hosts");
        check(
            |t| shop(t).hosts[0] = "Shop:80".into(),
            "no lower-case host",
        );
        check(
            |t| shop(t).path_prefix = "api".into(),
            "apps.shop.path_prefix",
        );
        check(|t| shop(t).path_prefix = "/api/".into(), "not end with it");
        check(
            |t| shop(t).serving = "v2".into(),
            "apps.shop.serving: there is no pool \"v2\"",
        );
        check(
            |t| shop(t).pools.get_mut("v1").unwrap().targets.clear(),
            "has no target",
        );
        check(
            |t| {
                shop(t).pools.get_mut("v1").unwrap().targets[0]
                    .address
                    .set_port(0)
            },
            "no address",
        );
        check(|t| shop(t).limits.connect_ms = 0, "timeout of 0");
        check(
            |t| {
                let twin = t.apps["shop"].clone();
                t.apps.insert("twin".into(), twin);
            },
            "already taken by shop",
        );
        check(
            |t| {
                let targets = &mut shop(t).pools.get_mut("v1").unwrap().targets;
                targets.push(targets[0].clone());
            },
            "used twice",
        );
    }
}
