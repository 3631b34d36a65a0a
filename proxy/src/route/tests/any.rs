//! Arbitrary tables, sound or not, and arbitrary requests.

use proptest::prelude::*;

use super::*;
use crate::abilities::objections;

/// Texts of which some are right in some place.
fn text() -> impl Strategy<Value = String> {
    let right = vec![
        "v1",
        "v2",
        "v3",
        "a.example",
        "*.a.example",
        "*",
        "/",
        "/a",
        "/a;b",
        "x-a",
        "c",
        "a+",
        "(",
    ];
    prop_oneof![
        8 => prop::sample::select(right).prop_map(str::to_owned),
        1 => ".{0,12}",
    ]
}

fn any_split() -> impl Strategy<Value = Split> {
    let weights = prop::collection::btree_map(text(), any::<u16>().prop_map(Weight), 0..4);
    prop_oneof![
        text().prop_map(Split::all_to),
        weights.prop_map(Split::of),
        (1_u16..10_000).prop_map(|one| split(one, 10_000 - one)),
    ]
}

fn any_pools() -> impl Strategy<Value = BTreeMap<String, table::Pool>> {
    let target = |id: String| table::Target {
        id,
        address: ([127, 0, 0, 1], 1).into(),
    };
    let targets = prop::collection::vec(text().prop_map(target), 0..2);
    prop::collection::btree_map(text(), targets.prop_map(table::Pool::of), 0..4)
}

fn any_affinity() -> impl Strategy<Value = Affinity> {
    let by = prop_oneof![
        (text(), any::<u64>()).prop_map(|(name, ttl_ms)| Client::Cookie { name, ttl_ms }),
        text().prop_map(|name| Client::Header { name }),
        Just(Client::Address {}),
    ];
    let moves = prop::sample::select(vec![Moves::Everybody, Moves::NewSessions]);
    (by, moves).prop_map(|(by, moves)| Affinity { by, moves })
}

fn any_rule() -> impl Strategy<Value = Rule> {
    let of = prop_oneof![
        text().prop_map(Field::Header),
        text().prop_map(Field::Cookie),
    ];
    let is = prop_oneof![
        text().prop_map(Match::Exact),
        text().prop_map(Match::Prefix),
        text().prop_map(Match::Regex),
    ];
    let condition = (of, is).prop_map(|(of, is)| Condition { of, is });
    let when = prop::collection::vec(condition, 0..3);
    (when, text()).prop_map(|(when, pool)| Rule { when, pool })
}

fn any_route() -> impl Strategy<Value = table::Route> {
    let redirect = text().prop_map(|to| Redirect {
        to,
        status: RedirectStatus::default(),
    });
    let preview = (text(), text(), text());
    let preview = preview.prop_map(|(header, secret, pool)| Preview::new(header, &secret, pool));
    let mirror = (text(), any::<u16>()).prop_map(|(pool, share)| table::Mirror {
        pool,
        share: Weight(share),
        max_queue: 1,
        bodies: table::Bodies::default(),
    });
    let ways = (
        prop::collection::vec(text(), 0..3),
        text(),
        prop::collection::btree_map(text(), redirect, 0..2),
        any_split(),
        any_pools(),
        any::<[bool; 3]>(),
    );
    let choices = (
        prop::option::of(any_affinity()),
        prop::collection::vec(any_rule(), 0..3),
        prop::option::weighted(0.3, preview),
        prop::option::weighted(0.3, mirror),
    );
    (ways, choices).prop_map(|(ways, (affinity, rules, preview, mirror))| {
        let (hosts, prefix, redirects, serving, pools, [strip, tls, closed]) = ways;
        let mut route = table::Route::new(hosts, prefix, serving, pools);
        route.redirects = redirects;
        route.strip_prefix = strip;
        route.https = if tls {
            Https::Redirect
        } else {
            Https::Optional
        };
        route.maintenance = if closed {
            Maintenance::On
        } else {
            Maintenance::Off
        };
        route.affinity = affinity;
        route.rules = rules;
        route.preview = preview;
        route.mirror = mirror;
        route
    })
}

fn any_table() -> impl Strategy<Value = Table> {
    prop::collection::btree_map(text(), any_route(), 0..4).prop_map(|apps| Table {
        generation: 1,
        apps,
        ..Table::default()
    })
}

/// A host, a path and fields.
type Request = (String, String, Vec<(String, String)>);

fn any_request() -> impl Strategy<Value = Request> {
    let name = prop_oneof![Just("cookie".to_owned()), text()];
    let value = prop_oneof![
        3 => "(c|x-a)=[0-9a-f]{16}(\\.(v1|c)\\.(v1|v2|v3))?(; c=[0-9a-f]{16})?",
        1 => text(),
    ];
    let fields = prop::collection::vec((name, value), 0..4);
    let path = prop_oneof!["/[a-b/?;%]{0,6}", text()];
    (text(), path, fields)
}

/// Asks everything that can be asked of a route about one request.
fn ask(snapshot: &Snapshot, (host, path, fields): &Request, random: u64, sound: bool) {
    let Some(found) = snapshot.find(host, path) else {
        return;
    };
    let mut headers = HeaderMap::new();
    for (name, value) in fields {
        let name = HeaderName::from_bytes(name.as_bytes());
        if let (Ok(name), Ok(value)) = (name, HeaderValue::from_str(value)) {
            headers.append(name, value);
        }
    }
    let route = found.route;
    let asked = Asked {
        headers: &headers,
        address: IpAddr::from(random.to_be_bytes().map(u16::from)),
        scheme: Scheme::Http,
        random,
    };
    let mut tried: Vec<&Pool> = Vec::new();
    // Each pool is chosen once at most, so this ends.
    while let Choice::Pool(chosen) = route.choose_other(&asked, &tried) {
        assert!(!is_among(chosen.pool, &tried));
        if let Some(field) = &chosen.set_cookie {
            // A name that is no name of a cookie is an objection to its table.
            assert!(!sound || field.to_str().is_ok(), "{field:?}");
        }
        tried.push(chosen.pool);
    }
    let all = route.shares_left(&tried);
    let open = route.maintenance == Maintenance::Off && !headers_show(route, &headers);
    assert!(
        !open || all == 0,
        "{all} pools with a weight were never tried"
    );
    if let Ok(uri) = path.parse::<http::Uri>() {
        let _ = found.redirect(&uri, Scheme::Http, host);
        if let Some(path) = uri.path_and_query() {
            assert!(!route.strip(path).as_str().is_empty());
        }
    }
}

fn headers_show(route: &Route, headers: &HeaderMap) -> bool {
    let preview = route.preview.as_ref();
    preview.is_some_and(|preview| preview.shown_to(headers).is_some())
}

impl Route {
    /// How many pools with a weight are none of `tried`.
    fn shares_left(&self, tried: &[&Pool]) -> usize {
        let pools = self.pools().filter(|pool| !is_among(pool, tried));
        let weighted = pools.filter(|pool| {
            let others: Vec<&Pool> = self
                .pools()
                .filter(|other| !Arc::ptr_eq(other, pool))
                .map(|other| &**other)
                .collect();
            self.shares.drawn(0, &others).is_some()
        });
        weighted.count()
    }
}

proptest! {
    #[test]
    fn no_table_and_no_request_breaks_routing(
        table in any_table(),
        requests in prop::collection::vec((any_request(), any::<u64>()), 1..8),
    ) {
        let sound = objections(&table).is_empty();
        let snapshot = Snapshot::new(&table, |_, name| pool(name, 1), |_| Live { lot: Arc::default(), comparison: Some(Arc::new(Comparison::new(1))) });
        for (request, random) in &requests {
            ask(&snapshot, request, *random, sound);
        }
    }
}
