//! Which pool a request of a route goes to, and that no table or request breaks it.

mod any;

use std::collections::BTreeMap;

use cutover_wire::table::{
    self, Affinity, Client, Condition, Field, Match, Moves, Preview, Redirect, RedirectStatus,
    Rule, Split, Table, Weight,
};

use super::pool::tests::pool;
use super::*;

const ID: &str = "0123456789abcdef";

/// A route with three pools, of which two have a weight.
fn listed() -> table::Route {
    let pool = |name: &str| {
        let target = table::Target {
            id: format!("{name}-0"),
            address: ([127, 0, 0, 1], 1).into(),
        };
        (name.to_owned(), table::Pool::of(vec![target]))
    };
    let pools = ["v1", "v2", "v3"].map(pool).into();
    table::Route::new(
        vec!["a.example".to_owned()],
        "/shop",
        split(9_000, 1_000),
        pools,
    )
}

fn split(one: u16, two: u16) -> Split {
    let weights = [("v1", one), ("v2", two)];
    let weights = weights.map(|(pool, weight)| (pool.to_owned(), Weight(weight)));
    Split::of(BTreeMap::from(weights))
}

fn cookie(moves: Moves) -> Option<Affinity> {
    let by = Client::Cookie {
        name: "c".to_owned(),
        ttl_ms: 1_000,
    };
    Some(Affinity { by, moves })
}

fn rule(of: Field, is: &str, pool: &str) -> Rule {
    let is = Match::Exact(is.to_owned());
    Rule {
        when: vec![Condition { of, is }],
        pool: pool.to_owned(),
    }
}

fn snapshot(route: table::Route) -> Snapshot {
    let table = Table {
        generation: 1,
        apps: BTreeMap::from([("shop".to_owned(), route)]),
        ..Table::default()
    };
    assert_eq!(table.problems(), Vec::new());
    let targets = |pool: &str| table.apps["shop"].pools[pool].targets.len() as u16;
    Snapshot::new(
        &table,
        |_, name| pool(name, targets(name)),
        |_| Live {
            lot: Arc::default(),
            comparison: Some(Arc::new(Comparison::new(1))),
        },
    )
}

fn route(change: impl FnOnce(&mut table::Route)) -> Arc<Route> {
    let mut listed = listed();
    change(&mut listed);
    Arc::clone(snapshot(listed).app("shop").unwrap())
}

fn headers(fields: &[(&'static str, &str)]) -> HeaderMap {
    let field = |(name, value): &(&'static str, &str)| {
        (
            HeaderName::from_static(name),
            HeaderValue::from_str(value).unwrap(),
        )
    };
    fields.iter().map(field).collect()
}

/// What is told of a choice: the pool's name with the cookie's value, if one is set.
fn told(route: &Route, fields: &[(&'static str, &str)], random: u64, excluding: &[&str]) -> String {
    let headers = headers(fields);
    let asked = Asked {
        headers: &headers,
        address: [192, 0, 2, 1].into(),
        scheme: Scheme::Http,
        random,
    };
    let excluding: Vec<&Pool> = excluding
        .iter()
        .map(|name| &**route.pool(name).unwrap())
        .collect();
    match route.choose_other(&asked, &excluding) {
        Choice::Maintenance => "maintenance".to_owned(),
        Choice::Nobody => "nobody".to_owned(),
        Choice::Pool(chosen) => {
            let mut told = chosen
                .pool
                .name
                .as_ref()
                .unwrap()
                .to_str()
                .unwrap()
                .to_owned();
            if let Some(field) = &chosen.set_cookie {
                let pair = field.to_str().unwrap().split(';').next().unwrap();
                told.push_str(&format!(" {pair}"));
            }
            told
        }
    }
}

#[test]
fn what_is_asked_first_decides() {
    let everything = |closed| {
        route(|route| {
            route.preview = Some(Preview::new("x-preview", "open sesame", "v3"));
            route.maintenance = closed;
            let beta = Field::Header("x-beta".to_owned());
            let team = Field::Cookie("team".to_owned());
            route.rules = vec![rule(beta, "1", "v2"), rule(team, "web", "v1")];
            route.affinity = cookie(Moves::NewSessions);
        })
    };
    let (open, closed) = (everything(Maintenance::Off), everything(Maintenance::On));
    let stays = format!("c={ID}.shop.v2");
    let staying = ("cookie", &*stays);
    let check = |fields: &[(&'static str, &str)], expected: &str| {
        assert_eq!(told(&open, fields, 0, &[]), expected);
        // Only the preview leads there.
        let expected = if expected == "v3" {
            expected
        } else {
            "maintenance"
        };
        assert_eq!(told(&closed, fields, 0, &[]), expected);
    };
    let (secret, wrong) = (("x-preview", "open sesame"), ("x-preview", "open"));
    let (beta, team) = (("x-beta", "1"), ("cookie", "a=1; team=web"));
    check(&[secret, beta, team, staying], "v3");
    check(&[wrong, beta, team, staying], "v2");
    check(&[team, staying], "v1");
    check(&[("x-beta", "0"), staying], "v2");
    assert_eq!(open.secret_header().unwrap(), "x-preview");
}

#[test]
fn a_request_goes_on_to_another_pool_that_serves() {
    let ruled = route(|route| {
        let beta = Field::Header("x-beta".to_owned());
        route.rules = vec![rule(beta, "1", "v3")];
        route.preview = Some(Preview::new("x-preview", "open sesame", "v3"));
    });
    let check = |fields: &[(&'static str, &str)], excluding: &[&str], expected: &str| {
        assert_eq!(told(&ruled, fields, 0, excluding), expected);
        assert_eq!(told(&ruled, fields, u64::MAX >> 4, excluding), expected);
    };
    let (beta, secret) = (("x-beta", "1"), ("x-preview", "open sesame"));
    check(&[], &[], "v1");
    check(&[], &["v1"], "v2");
    check(&[], &["v2"], "v1");
    check(&[], &["v1", "v2"], "nobody");
    check(&[beta], &[], "v3");
    check(&[beta], &["v3"], "v1");
    check(&[beta], &["v3", "v1"], "v2");
    check(&[secret], &["v3"], "nobody");
}

#[test]
fn a_client_is_given_a_cookie_once_and_keeps_its_place() {
    let sticky = route(|route| route.affinity = cookie(Moves::Everybody));
    for random in [0, 1, u64::MAX] {
        let first = told(&sticky, &[], random, &[]);
        let (pool, given) = first.split_once(' ').unwrap();
        assert_eq!(given, format!("c={random:016x}"));
        for random in [random, 5, 1 << 63] {
            assert_eq!(told(&sticky, &[("cookie", given)], random, &[]), pool);
        }
        for garbage in ["c=", "c=x", "c=0123456789ABCDEF", "d=0123456789abcdef"] {
            assert_eq!(told(&sticky, &[("cookie", garbage)], random, &[]), first);
        }
        let behind = format!("c=x; {given}");
        assert_eq!(told(&sticky, &[("cookie", &behind)], 7, &[]), pool);
    }
}

#[test]
fn only_new_sessions_follow_the_weights() {
    let at = |one, two, moves| {
        route(|route| {
            route.serving = match (one, two) {
                (_, 0) => Split::all_to("v1"),
                (0, _) => Split::all_to("v2"),
                (one, two) => split(one, two),
            };
            route.affinity = cookie(moves);
        })
    };
    let (before, after) = (
        at(10_000, 0, Moves::NewSessions),
        at(0, 10_000, Moves::NewSessions),
    );
    let given = format!("v1 c={ID}.shop.v1");
    let random = u64::from_str_radix(ID, 16).unwrap();
    assert_eq!(told(&before, &[], random, &[]), given);
    let session = ("cookie", given.strip_prefix("v1 ").unwrap());
    assert_eq!(told(&before, &[session], 0, &[]), "v1");
    // It stays as long as somebody is there, and then it is one of the others.
    assert_eq!(told(&after, &[session], 0, &[]), "v1");
    assert_eq!(
        told(&after, &[session], 0, &["v1"]),
        format!("v2 c={ID}.shop.v2")
    );
    assert_eq!(told(&after, &[], random, &[]), format!("v2 c={ID}.shop.v2"));
    // The session of another app whose paths these lie within.
    let foreign = format!("c=fedcba9876543210.api.v1; {}", session.1);
    assert_eq!(told(&after, &[("cookie", &foreign)], 0, &[]), "v1");
    let foreign = format!("c={ID}.api.v1");
    let replaced = format!("v2 c={ID}.shop.v2");
    assert_eq!(told(&after, &[("cookie", &foreign)], 0, &[]), replaced);
    let moving = at(0, 10_000, Moves::Everybody);
    assert_eq!(told(&moving, &[session], 0, &[]), "v2");
    let emptied = route(|route| {
        route.serving = Split::all_to("v2");
        route.affinity = cookie(Moves::NewSessions);
        route.pools.get_mut("v1").unwrap().targets.clear();
    });
    assert_eq!(
        told(&emptied, &[session], 0, &[]),
        format!("v2 c={ID}.shop.v2")
    );
}

#[test]
fn a_forged_cookie_opens_no_pool_that_is_closed() {
    let check = |change: fn(&mut table::Route), expected: &str| {
        let sticky = route(|route| {
            route.serving = Split::all_to("v1");
            route.affinity = cookie(Moves::NewSessions);
            change(route);
        });
        let forged = format!("c={ID}.shop.v3");
        assert_eq!(told(&sticky, &[("cookie", &forged)], 0, &[]), expected);
    };
    let replaced = format!("v1 c={ID}.shop.v1");
    check(|_| {}, "v3");
    let preview = |route: &mut table::Route| {
        route.preview = Some(Preview::new("x-preview", "open sesame", "v3"));
    };
    check(preview, &replaced);
    let mirror = |route: &mut table::Route| {
        route.mirror = Some(table::Mirror {
            pool: "v3".to_owned(),
            share: Weight(1),
            max_queue: 1,
            bodies: table::Bodies::default(),
        });
    };
    check(mirror, &replaced);
    let unknown = |route: &mut table::Route| {
        route.pools.remove("v3");
    };
    check(unknown, &replaced);
}

#[test]
fn a_client_is_known_by_its_header_or_address() {
    let by = |by| {
        route(|route| {
            route.serving = split(5_000, 5_000);
            route.affinity = Some(Affinity {
                by,
                moves: Moves::Everybody,
            });
        })
    };
    let header = by(Client::Header {
        name: "x-user".to_owned(),
    });
    let address = by(Client::Address {});
    let mut seen = std::collections::BTreeSet::new();
    for user in (0..50).map(|n| format!("user-{n}")) {
        let user = [("x-user", &*user)];
        let place = told(&header, &user, 0, &[]);
        assert_eq!(told(&header, &user, u64::MAX, &[]), place);
        seen.insert(place);
    }
    assert_eq!(seen.len(), 2);
    // Whoever does not say who it is, is drawn anew each time.
    for unknown in [&[][..], &[("x-user", "")]] {
        assert_eq!(told(&header, unknown, 0, &[]), "v1");
        assert_eq!(told(&header, unknown, u64::MAX, &[]), "v2");
    }
    assert_eq!(
        told(&address, &[], 0, &[]),
        told(&address, &[], u64::MAX, &[])
    );
}

#[test]
fn only_a_route_with_nothing_special_has_a_sole_pool() {
    let check = |change: fn(&mut table::Route), expected: bool| {
        let route = route(|route| {
            route.serving = Split::all_to("v1");
            change(route);
        });
        assert_eq!(route.sole.is_some(), expected, "{route:?}");
        if let Some(sole) = &route.sole {
            assert!(Arc::ptr_eq(sole, route.pool("v1").unwrap()));
        }
    };
    check(|_| {}, true);
    check(
        |route| drop(route.pages.errors.insert(502, "x".to_owned())),
        true,
    );
    check(|route| route.affinity = cookie(Moves::Everybody), true);
    check(|route| route.affinity = cookie(Moves::NewSessions), false);
    check(|route| route.serving = split(9_999, 1), false);
    check(|route| route.strip_prefix = true, false);
    check(|route| route.https = Https::Redirect, false);
    check(|route| route.maintenance = Maintenance::On, false);
    check(
        |route| route.rules = vec![rule(Field::Cookie("a".to_owned()), "1", "v1")],
        false,
    );
    check(
        |route| route.preview = Some(Preview::new("x-p", "s", "v1")),
        false,
    );
    let park = Park {
        max_requests: 1,
        max_bytes: 1,
        max_age_ms: 1,
    };
    assert!(route(|route| route.park = Some(park)).sole.is_none());
    let mirrored = route(|route| {
        route.mirror = Some(table::Mirror {
            pool: "v3".to_owned(),
            share: Weight(10_000),
            max_queue: 7,
            bodies: table::Bodies::default(),
        });
    });
    assert!(mirrored.sole.is_none());
    let mirror = mirrored.mirror.as_ref().unwrap();
    assert!(mirror.listed.max_queue == 7);
    assert!(Arc::ptr_eq(&mirror.pool, mirrored.pool("v3").unwrap()));
    assert_eq!(mirrored.pools().count(), 3);
}

#[test]
fn hosts_that_moved_are_found_and_sent_on() {
    let mut listed = listed();
    listed.hosts.push("*.shop.example".to_owned());
    let moved = Redirect {
        to: "a.example".to_owned(),
        status: RedirectStatus::MovedPermanently,
    };
    listed.redirects.insert("*.old.example".to_owned(), moved);
    let snapshot = snapshot(listed);
    let uri = http::Uri::from_static("/shop/x?y");
    let check = |host: &str, expected: Option<&str>| {
        let found = snapshot.find(host, uri.path()).unwrap();
        assert_eq!(&*found.route.app, "shop");
        let sent = found.redirect(&uri, Scheme::Https, host);
        let sent = sent.map(|(status, location)| {
            format!("{} {}", status.as_u16(), location.to_str().unwrap())
        });
        assert_eq!(sent.as_deref(), expected, "{host}");
    };
    check("a.example", None);
    check("x.shop.example", None);
    check("www.old.example", Some("301 https://a.example/shop/x?y"));
    assert!(snapshot.find("www.old.example", "/").is_none());
}

#[test]
fn only_where_it_is_told_the_prefix_is_left_out() {
    let path = PathAndQuery::from_static("/shop/x?y");
    let strips = |strips| route(|route| route.strip_prefix = strips);
    assert_eq!(strips(true).strip(&path), "/x?y");
    assert_eq!(strips(false).strip(&path), "/shop/x?y");
    assert_eq!(strips(true).prefix(), "/shop");
}

#[test]
fn secure_is_asked_for_over_tls_alone() {
    let sticky = route(|route| route.affinity = cookie(Moves::Everybody));
    let headers = HeaderMap::new();
    for (scheme, secure) in [(Scheme::Http, false), (Scheme::Https, true)] {
        let asked = Asked {
            headers: &headers,
            address: [192, 0, 2, 1].into(),
            scheme,
            random: 1,
        };
        let Choice::Pool(chosen) = sticky.choose(&asked) else {
            panic!("no pool");
        };
        let field = chosen.set_cookie.unwrap();
        assert!(
            field
                .to_str()
                .unwrap()
                .contains("; Path=/shop; Max-Age=1; ")
        );
        assert_eq!(field.to_str().unwrap().ends_with("; Secure"), secure);
    }
}

#[test]
fn a_pool_that_is_only_listed_is_given_nothing() {
    let mut listed = listed();
    let given =
        |listed: &table::Route| ["v1", "v2", "v3"].map(|pool| gives_requests_to(listed, pool));
    assert_eq!(given(&listed), [true, true, false]);
    listed.serving = Split::all_to("v1");
    assert_eq!(given(&listed), [true, false, false]);
    listed.preview = Some(Preview::new("x-p", "s", "v3"));
    listed.rules = vec![rule(Field::Cookie("a".to_owned()), "1", "v2")];
    assert_eq!(given(&listed), [true, true, true]);
}
