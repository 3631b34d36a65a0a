//! The table in the form that a request is routed by.
//!
//! A snapshot never changes; a new table makes a new one. Routing is by exact
//! host, then [`ANY_HOST`], and within a host by the longest path prefix of
//! whole segments. It holds no decision of when to switch.

use std::collections::HashMap;
use std::sync::Arc;

use cutover_wire::table::{ANY_HOST, Limits, Table};
use http::HeaderValue;

use crate::counters::Counters;
use crate::target::Target;

/// The serving pool of an app.
#[derive(Debug)]
pub(crate) struct Pool {
    /// Its name as a probe is told it; none where it does not fit in a header.
    pub(crate) name: Option<HeaderValue>,
    /// Where requests may go.
    pub(crate) targets: Vec<Arc<Target>>,
    /// What is counted of them.
    pub(crate) counters: Arc<Counters>,
}

/// The way of the requests of one app.
#[derive(Debug)]
pub(crate) struct Route {
    /// The name of the app.
    pub(crate) app: Arc<str>,
    /// Where new requests go.
    pub(crate) serving: Arc<Pool>,
    /// The bounds of a request.
    pub(crate) limits: Limits,
}

#[derive(Debug)]
struct Rule {
    prefix: String,
    route: Arc<Route>,
}

/// See the module.
#[derive(Debug, Default)]
pub(crate) struct Snapshot {
    hosts: HashMap<String, Vec<Rule>>,
    any: Vec<Rule>,
    apps: HashMap<Arc<str>, Arc<Route>>,
}

impl Snapshot {
    /// The snapshot of a sound table that needs no more than our abilities; `pool` gives the live pool of an app's name
    /// and its serving pool's name.
    pub(crate) fn new(table: &Table, mut pool: impl FnMut(&str, &str) -> Pool) -> Self {
        let mut snapshot = Self::default();
        for (app, route) in &table.apps {
            let Some(serving) = route.serving.sole() else {
                unreachable!("a table with weights is refused, put or stored");
            };
            let made = Arc::new(Route {
                app: Arc::from(app.as_str()),
                serving: Arc::new(pool(app, serving)),
                limits: route.limits.clone(),
            });
            snapshot
                .apps
                .insert(Arc::clone(&made.app), Arc::clone(&made));
            for host in &route.hosts {
                let rule = Rule {
                    prefix: route.path_prefix.clone(),
                    route: Arc::clone(&made),
                };
                if host == ANY_HOST {
                    snapshot.any.push(rule);
                } else {
                    snapshot.hosts.entry(host.clone()).or_default().push(rule);
                }
            }
        }
        let all = snapshot.hosts.values_mut();
        for rules in all.chain(std::iter::once(&mut snapshot.any)) {
            rules.sort_by_key(|rule| std::cmp::Reverse(rule.prefix.len()));
        }
        snapshot
    }

    /// The route of an app.
    pub(crate) fn app(&self, app: &str) -> Option<&Arc<Route>> {
        self.apps.get(app)
    }

    /// The route of a request; `host` is in lower case and without port.
    pub(crate) fn find(&self, host: &str, path: &str) -> Option<&Arc<Route>> {
        let own = self.hosts.get(host).into_iter().flatten();
        own.chain(&self.any)
            .find(|rule| takes(&rule.prefix, path))
            .map(|rule| &rule.route)
    }
}

fn takes(prefix: &str, path: &str) -> bool {
    prefix == "/"
        || path
            .strip_prefix(prefix)
            .is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
}

#[cfg(test)]
mod tests {
    use super::*;
    use cutover_wire::table;
    use std::collections::BTreeMap;

    fn snapshot(apps: &[(&str, &str, &str)]) -> Snapshot {
        let route = |host: &str, prefix: &str| {
            let (hosts, serving) = (vec![host.to_owned()], table::Split::all_to("v1"));
            table::Route::new(hosts, prefix, serving, BTreeMap::new())
        };
        let table = Table {
            generation: 1,
            apps: apps
                .iter()
                .map(|(app, host, prefix)| ((*app).to_owned(), route(host, prefix)))
                .collect(),
            ..Table::default()
        };
        Snapshot::new(&table, |_, _| Pool {
            name: None,
            targets: Vec::new(),
            counters: Arc::new(Counters::new(1)),
        })
    }

    #[test]
    fn the_longest_prefix_of_the_host_wins_and_any_host_is_last() {
        let snapshot = snapshot(&[
            ("shop", "a.example", "/"),
            ("api", "a.example", "/api"),
            ("deep", "a.example", "/api/v2"),
            ("only", "b.example", "/only"),
            ("rest", "*", "/"),
        ]);
        let check = |host: &str, path: &str, expected: &str| {
            let found = snapshot.find(host, path).map(|route| &*route.app);
            assert_eq!(found, Some(expected), "{host}{path}");
        };
        check("a.example", "/", "shop");
        check("a.example", "/apix", "shop");
        check("a.example", "/api", "api");
        check("a.example", "/api/", "api");
        check("a.example", "/api/v2/x", "deep");
        check("a.example", "/api/v20", "api");
        check("b.example", "/only/x", "only");
        check("b.example", "/", "rest");
        check("c.example", "/", "rest");
        check("", "/", "rest");
    }

    #[test]
    fn a_host_without_route_finds_none() {
        let snapshot = snapshot(&[("shop", "a.example", "/")]);
        assert!(snapshot.find("b.example", "/").is_none());
        assert!(snapshot.find("*", "/").is_none());
    }
}
