//! Arbitrary tables, and what holds for each of them.

use proptest::prelude::*;

use super::*;

/// Texts of which some are right in some place.
fn text() -> impl Strategy<Value = String> {
    prop_oneof![
        8 => prop::sample::select(vec!["v1", "v2", "v3", "a.example", "*.a.example", "*", "/", "/a",
            "x-a", "/etc/a.pem", "tok", "tok.a", "0000000000000000000000000000000000000000000000000000000000000000"])
            .prop_map(str::to_owned),
        1 => ".{0,12}",
    ]
}

fn number() -> impl Strategy<Value = u64> {
    prop_oneof![Just(0), 1_u64..20_000, any::<u64>()]
}

fn any_split() -> impl Strategy<Value = Split> {
    prop_oneof![
        3 => text().prop_map(Split::all_to),
        1 => prop::collection::btree_map(text(), any::<u16>().prop_map(Weight), 0..3).prop_map(Split::of),
        1 => (1_u16..10_000).prop_map(|share| split(&[("v1", share), ("v2", 10_000 - share)])),
    ]
}

fn any_pool() -> impl Strategy<Value = Pool> {
    let target = (text(), any::<[u8; 4]>(), any::<u16>()).prop_map(|(id, ip, port)| Target {
        id,
        address: (ip, port).into(),
    });
    let health = (text(), number(), number(), any::<u32>(), any::<u32>());
    let health = health.prop_map(
        |(path, interval_ms, timeout_ms, healthy_after, unhealthy_after)| ActiveHealth {
            path,
            interval_ms,
            timeout_ms,
            healthy_after,
            unhealthy_after,
        },
    );
    let balance = prop::sample::select(vec![Balance::LeastRequests, Balance::RoundRobin]);
    let protocol = prop::sample::select(vec![Protocol::Http1, Protocol::H2c]);
    let targets = prop::collection::vec(target, 0..3);
    (
        targets,
        balance,
        protocol,
        prop::option::weighted(0.2, health),
    )
        .prop_map(|(targets, balance, protocol, health)| Pool {
            targets,
            balance,
            protocol,
            health,
        })
}

fn any_affinity() -> impl Strategy<Value = Affinity> {
    let by = prop_oneof![
        (text(), number()).prop_map(|(name, ttl_ms)| Client::Cookie { name, ttl_ms }),
        text().prop_map(|name| Client::Header { name }),
        Just(Client::Address {}),
    ];
    let moves = prop::sample::select(vec![Moves::Everybody, Moves::NewSessions]);
    (by, moves).prop_map(|(by, moves)| Affinity { by, moves })
}

fn any_rule() -> impl Strategy<Value = Rule> {
    let of = prop_oneof![
        text().prop_map(Field::Header),
        text().prop_map(Field::Cookie)
    ];
    let is = prop_oneof![
        text().prop_map(Match::Exact),
        text().prop_map(Match::Prefix),
        text().prop_map(Match::Regex),
    ];
    let condition = (of, is).prop_map(|(of, is)| Condition { of, is });
    (prop::collection::vec(condition, 0..3), text()).prop_map(|(when, pool)| Rule { when, pool })
}

fn any_route() -> impl Strategy<Value = Route> {
    let hosts = prop::collection::vec(text(), 0..3);
    let pools = prop::collection::btree_map(text(), any_pool(), 0..4);
    let redirects = prop::collection::btree_map(text(), text().prop_map(|to| redirect(&to)), 0..2);
    let preview = (text(), text(), text());
    let preview = preview.prop_map(|(header, sha256, pool)| Preview {
        header,
        sha256,
        pool,
    });
    let bodies = prop_oneof![Just(Bodies::Ignored), Just(Bodies::Compared)];
    let mirror = (text(), any::<u16>(), any::<u32>(), bodies);
    let mirror = mirror.prop_map(|(pool, share, max_queue, bodies)| Mirror {
        pool,
        share: Weight(share),
        max_queue,
        bodies,
    });
    let park = (any::<u32>(), number(), number());
    let park = park.prop_map(|(max_requests, max_bytes, max_age_ms)| Park {
        max_requests,
        max_bytes,
        max_age_ms,
    });
    let limits = (number(), number(), number(), prop::option::of(number()));
    let limits = limits.prop_map(|(connect_ms, response_ms, idle_ms, max_body)| Limits {
        connect_ms,
        response_ms,
        idle_ms,
        max_body,
    });
    let pages = (
        prop::collection::btree_map(any::<u16>(), text(), 0..2),
        prop::option::of(text()),
    );
    let pages = pages.prop_map(|(errors, maintenance)| Pages {
        errors,
        maintenance,
    });
    let where_from = (hosts, text(), redirects, any::<bool>());
    let where_to = (
        any_split(),
        pools,
        prop_oneof![Just(Limits::default()), limits],
    );
    let choice = (
        prop::option::weighted(0.2, any_affinity()),
        prop::collection::vec(any_rule(), 0..2),
        prop::option::weighted(0.2, preview),
        prop::option::weighted(0.2, mirror),
        prop::option::weighted(0.2, park),
        prop_oneof![4 => Just(Pages::default()), 1 => pages],
    );
    (where_from, where_to, choice).prop_map(|(from, to, choice)| {
        let (hosts, path_prefix, redirects, flag) = from;
        let (serving, pools, limits) = to;
        let (affinity, rules, preview, mirror, park, pages) = choice;
        Route {
            limits,
            redirects,
            strip_prefix: flag,
            https: if flag {
                Https::Redirect
            } else {
                Https::Optional
            },
            affinity,
            rules,
            preview,
            mirror,
            park,
            pages,
            ..Route::new(hosts, path_prefix, serving, pools)
        }
    })
}

fn any_table() -> impl Strategy<Value = Table> {
    let apps = prop::collection::btree_map(text(), any_route(), 0..3);
    let certificate = (text(), text()).prop_map(|(chain, key)| Certificate { chain, key });
    let certificates = prop::collection::btree_map(text(), certificate, 0..2);
    let answers = || prop::collection::btree_map(text(), text(), 0..2);
    let acme = (answers(), answers()).prop_map(|(http, tls_alpn)| AcmeAnswers { http, tls_alpn });
    let network = (any::<std::net::IpAddr>(), any::<u8>());
    let network = network.prop_map(|(address, bits)| Network { address, bits });
    let connections = (prop::option::of(number()), prop::option::of(any::<u32>()));
    let connections = connections.prop_map(|(head_ms, per_address)| Connections {
        head_ms,
        per_address,
    });
    let beside = (
        certificates,
        acme,
        prop::collection::vec(network, 0..2),
        connections,
    );
    let beside = prop_oneof![
        3 => Just((BTreeMap::new(), AcmeAnswers::default(), Vec::new(), Connections::default())),
        1 => beside,
    ];
    (any::<u64>(), apps, beside).prop_map(|(generation, apps, beside)| {
        let (certificates, acme, trusted_proxies, connections) = beside;
        Table {
            generation,
            apps,
            certificates,
            acme,
            trusted_proxies,
            connections,
        }
    })
}

/// Sound tables with at most three of their parts changed to arbitrary ones.
fn nearly_sound() -> impl Strategy<Value = Table> {
    let changes = (
        prop::option::weighted(0.5, any_split()),
        prop::option::weighted(0.3, any_rule()),
        prop::option::weighted(0.3, any_pool()),
        any::<bool>(),
    );
    (any::<bool>(), changes).prop_map(|(all, (serving, rule, pool, drop))| {
        let mut table = if all { full() } else { good() };
        let route = shop(&mut table);
        if let Some(serving) = serving {
            route.serving = serving;
        }
        route.rules.extend(rule);
        if let Some(pool) = pool {
            route.pools.insert("v2".to_owned(), pool);
        }
        if drop {
            route.pools.remove("v3");
        }
        table
    })
}

proptest! {
    #[test]
    fn any_table_is_judged_and_reads_back(table in any_table()) {
        table.problems();
        let needs = table.needs();
        prop_assert!(table.beyond(&needs).is_empty());
        prop_assert_eq!(table.beyond(&BTreeSet::new()).is_empty(), needs.is_empty());
        let json = serde_json::to_vec(&table).unwrap();
        prop_assert_eq!(table.encoded_bytes(), json.len());
        prop_assert_eq!(serde_json::from_slice::<Table>(&json).unwrap(), table);
    }

    #[test]
    fn a_table_without_problems_sends_every_request_somewhere(
        table in prop_oneof![any_table(), nearly_sound()],
    ) {
        prop_assume!(table.problems().is_empty());
        for route in table.apps.values() {
            let sum: u64 = route.serving.weights().map(|(_, weight)| u64::from(weight.0)).sum();
            prop_assert_eq!(sum, 10_000);
            let rules = route.rules.iter().map(|rule| rule.pool.as_str());
            let preview = route.preview.iter().map(|preview| preview.pool.as_str());
            let mirror = route.mirror.iter().map(|mirror| mirror.pool.as_str());
            let serving = route.serving.weights().map(|(pool, _)| pool);
            for pool in serving.chain(rules).chain(preview).chain(mirror) {
                prop_assert!(route.pools.contains_key(pool), "{} dangles", pool);
            }
        }
    }

    #[test]
    fn no_text_makes_a_panic(text in r#"[\[\]{}":,a-z0-9/*.]{0,80}"#) {
        if let Ok(table) = serde_json::from_str::<Table>(&text) {
            table.problems();
        }
    }
}
