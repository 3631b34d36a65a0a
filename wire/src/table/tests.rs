//! Mistakes in tables and their places, what tables need, and how they are written.

mod any;

use super::*;

fn target(id: &str) -> Target {
    Target {
        id: id.to_owned(),
        address: "127.0.0.1:8080".parse().unwrap(),
    }
}

fn pools() -> BTreeMap<String, Pool> {
    let pool = |name: &str| {
        (
            name.to_owned(),
            Pool::of(vec![target(&format!("{name}-0"))]),
        )
    };
    ["v1", "v2", "v3"].map(pool).into()
}

fn good() -> Table {
    let hosts = vec!["shop.example.com".to_owned()];
    let route = Route::new(hosts, "/", Split::all_to("v1"), pools());
    Table {
        generation: 1,
        apps: BTreeMap::from([("shop".to_owned(), route)]),
        ..Table::default()
    }
}

fn split(weights: &[(&str, u16)]) -> Split {
    let weights = weights.iter();
    Split::of(
        weights
            .map(|&(pool, weight)| (pool.to_owned(), Weight(weight)))
            .collect(),
    )
}

fn cookie(name: &str) -> Affinity {
    let (name, ttl_ms) = (name.to_owned(), 3_600_000);
    Affinity {
        by: Client::Cookie { name, ttl_ms },
        moves: Moves::NewSessions,
    }
}

fn rule(of: Field, is: Match, pool: &str) -> Rule {
    Rule {
        when: vec![Condition { of, is }],
        pool: pool.to_owned(),
    }
}

fn redirect(to: &str) -> Redirect {
    Redirect {
        to: to.to_owned(),
        status: RedirectStatus::default(),
    }
}

fn mirror(pool: &str) -> Mirror {
    Mirror {
        pool: pool.to_owned(),
        share: Weight(100),
        max_queue: 10,
        bodies: Bodies::Ignored,
    }
}

#[test]
fn a_mirror_of_an_older_agent_compares_no_bodies() {
    let read: Mirror = serde_json::from_str(r#"{"pool":"v2","share":100,"max_queue":10}"#).unwrap();
    assert_eq!(read, mirror("v2"));
    let text = serde_json::to_string(&read).unwrap();
    assert!(!text.contains("bodies"), "an older proxy refuses the word");
}

fn park() -> Park {
    Park {
        max_requests: 100,
        max_bytes: 1 << 20,
        max_age_ms: 30_000,
    }
}

fn health() -> ActiveHealth {
    ActiveHealth {
        path: "/healthz".to_owned(),
        interval_ms: 1_000,
        timeout_ms: 500,
        healthy_after: 2,
        unhealthy_after: 3,
    }
}

fn certificate() -> Certificate {
    Certificate {
        chain: "/etc/cutover/shop.pem".to_owned(),
        key: "/etc/cutover/shop.key".to_owned(),
    }
}

fn shop(table: &mut Table) -> &mut Route {
    table.apps.get_mut("shop").unwrap()
}

fn v1(table: &mut Table) -> &mut Pool {
    shop(table).pools.get_mut("v1").unwrap()
}

/// A table with one of everything.
fn full() -> Table {
    let mut table = good();
    v1(&mut table).protocol = Protocol::H2c;
    v1(&mut table).balance = Balance::RoundRobin;
    v1(&mut table).health = Some(health());
    let route = shop(&mut table);
    route.hosts.push("*.shop.example.com".to_owned());
    route.path_prefix = "/shop".to_owned();
    route.strip_prefix = true;
    route.serving = split(&[("v1", 9_500), ("v2", 500)]);
    let moved = ("www.example.com".to_owned(), redirect("shop.example.com"));
    route.redirects.extend([moved]);
    route.https = Https::Redirect;
    route.affinity = Some(cookie("cutover"));
    let beta = Match::Exact("1".to_owned());
    route.rules = vec![rule(Field::Header("x-beta".to_owned()), beta, "v2")];
    route.preview = Some(Preview::new("x-preview", "a secret of some length", "v3"));
    route.mirror = Some(mirror("v3"));
    route.park = Some(park());
    route.pages.errors.insert(502, "<h1>Sorry</h1>".to_owned());
    route.maintenance = Maintenance::On;
    let name = "shop.example.com".to_owned();
    table.certificates.insert(name.clone(), certificate());
    table
        .acme
        .http
        .insert("tok".to_owned(), "tok.print".to_owned());
    table.acme.tls_alpn.insert(name, "0".repeat(64));
    table.trusted_proxies = vec![
        "10.0.0.0/8".parse().unwrap(),
        "2001:db8::/32".parse().unwrap(),
    ];
    table.connections.head_ms = Some(5_000);
    table.connections.per_address = Some(100);
    table
}

fn check(change: impl FnOnce(&mut Table), expected: &str) {
    let mut table = good();
    change(&mut table);
    let found: Vec<String> = table.problems().iter().map(ToString::to_string).collect();
    let hit = found.iter().any(|problem| problem.starts_with(expected));
    assert!(hit, "{found:?} lacks {expected:?}");
}

#[test]
fn a_good_table_and_a_full_one_have_no_problem() {
    assert_eq!(good().problems(), Vec::new());
    assert_eq!(full().problems(), Vec::new());
}

#[test]
fn each_mistake_in_where_requests_come_from_is_named_with_its_place() {
    check(|t| shop(t).hosts.clear(), "apps.shop.hosts: 0 hosts");
    for host in [
        "Shop:80",
        "",
        "*.",
        "a.*.b",
        "**",
        "*.*.b",
        &"a".repeat(254),
    ] {
        check(|t| shop(t).hosts[0] = host.into(), "apps.shop.hosts: ");
    }
    check(
        |t| shop(t).path_prefix = "api".into(),
        "apps.shop.path_prefix: \"api\" must begin",
    );
    check(
        |t| shop(t).path_prefix = "/a?b".into(),
        "apps.shop.path_prefix: ",
    );
    check(
        |t| shop(t).path_prefix = "/api/".into(),
        "apps.shop.path_prefix: must not end with",
    );
    let twin = |t: &mut Table| {
        let twin = t.apps["shop"].clone();
        t.apps.insert("twin".into(), twin);
    };
    check(
        twin,
        "apps.twin.hosts: shop.example.com/ is already taken by shop",
    );
    let own = |t: &mut Table| {
        let own = ("shop.example.com".to_owned(), redirect("b.example.com"));
        shop(t).redirects.extend([own]);
    };
    check(
        own,
        "apps.shop.redirects: shop.example.com/ is already taken by shop",
    );
    let moved = |from: &'static str, to: &'static str| {
        move |t: &mut Table| shop(t).redirects.extend([(from.to_owned(), redirect(to))])
    };
    let place = "apps.shop.redirects.a.example.com: ";
    check(
        moved("a.example.com", "a.example.com"),
        &format!("{place}a.example.com is itself"),
    );
    check(
        moved("a.example.com", "*.example.com"),
        &format!("{place}\"*.example.com\" is no host"),
    );
    check(
        moved("*", "b.example.com"),
        "apps.shop.redirects.*: every host",
    );
    check(
        |t| t.apps.extend([(String::new(), t.apps["shop"].clone())]),
        "apps.: the name has 0",
    );
}

#[test]
fn each_mistake_in_where_requests_go_is_named_with_its_place() {
    check(
        |t| shop(t).serving = Split::all_to("v9"),
        "apps.shop.serving: there is no pool \"v9\"",
    );
    check(
        |t| v1(t).targets.clear(),
        "apps.shop.serving: the pool \"v1\" has no target",
    );
    let uneven = split(&[("v1", 9_000), ("v2", 999)]);
    check(
        |t| shop(t).serving = uneven,
        "apps.shop.serving: the weights add up to 9999",
    );
    check(
        |t| shop(t).serving = split(&[]),
        "apps.shop.serving: the weights add up to 0",
    );
    let idle = split(&[("v1", 10_000), ("v2", 0)]);
    check(
        |t| shop(t).serving = idle,
        "apps.shop.serving: the pool v2 has a weight of 0",
    );
    check(
        |t| v1(t).targets[0].address.set_port(0),
        "apps.shop.pools.v1: 127.0.0.1:0 is no address",
    );
    check(
        |t| {
            let twin = v1(t).targets[0].clone();
            v1(t).targets.push(twin);
        },
        "apps.shop.pools.v1: the target id \"v1-0\" is empty, used twice",
    );
    check(
        |t| v1(t).targets = (0..101).map(|n| target(&n.to_string())).collect(),
        "apps.shop.pools.v1: 101 targets, at most 100",
    );
    let sick =
        |change: fn(&mut ActiveHealth)| move |t: &mut Table| change(v1(t).health.insert(health()));
    let place = "apps.shop.pools.v1.health";
    check(
        sick(|h| h.path = "healthz".into()),
        &format!("{place}.path: "),
    );
    check(
        sick(|h| h.interval_ms = 99),
        &format!("{place}.interval_ms: 99 must be 100"),
    );
    check(
        sick(|h| h.timeout_ms = 1_001),
        &format!("{place}.timeout_ms: 1001 must be 1 to 1000"),
    );
    check(
        sick(|h| h.healthy_after = 0),
        &format!("{place}.healthy_after: 0"),
    );
    check(
        sick(|h| h.unhealthy_after = 101),
        &format!("{place}.unhealthy_after: 101"),
    );
    check(
        |t| shop(t).limits.connect_ms = 0,
        "apps.shop.limits.connect_ms: a timeout of 0",
    );
    check(
        |t| shop(t).limits.idle_ms = 86_400_001,
        "apps.shop.limits.idle_ms: ",
    );
    let more = |t: &mut Table| {
        for n in 4..6 {
            shop(t).pools.insert(format!("v{n}"), Pool::default());
        }
    };
    check(more, "apps.shop.pools: 5 pools, at most 4");
}

#[test]
fn each_mistake_in_the_choice_of_a_pool_is_named_with_its_place() {
    let by = |by: Client, moves: Moves| {
        move |t: &mut Table| shop(t).affinity = Some(Affinity { by, moves })
    };
    let header = |name: &str| Client::Header { name: name.into() };
    check(
        |t| shop(t).affinity = Some(cookie("a b")),
        "apps.shop.affinity: \"a b\" is no name",
    );
    check(
        by(header("X-User"), Moves::Everybody),
        "apps.shop.affinity: \"X-User\" is no lower-case",
    );
    let place = "apps.shop.affinity.moves: only a cookie";
    check(by(header("x-user"), Moves::NewSessions), place);
    check(by(Client::Address {}, Moves::NewSessions), place);
    let short = Client::Cookie {
        name: "c".into(),
        ttl_ms: 999,
    };
    check(
        by(short, Moves::Everybody),
        "apps.shop.affinity.ttl_ms: 999",
    );
    let (beta, one) = (Field::Cookie("beta".into()), Match::Exact("1".into()));
    let rules = |rules: Vec<Rule>| move |t: &mut Table| shop(t).rules = rules;
    let sound = rule(beta.clone(), one.clone(), "v2");
    check(
        rules(vec![rule(beta.clone(), one.clone(), "v9")]),
        "apps.shop.rules.0.pool: there is no pool \"v9\"",
    );
    check(
        rules(vec![sound.clone(); 65]),
        "apps.shop.rules: 65 rules, at most 64",
    );
    let empty = Rule {
        when: Vec::new(),
        pool: "v2".into(),
    };
    check(
        rules(vec![sound, empty]),
        "apps.shop.rules.1.when: 0 must be 1 to 8",
    );
    let spaced = Field::Cookie("a b".into());
    check(
        rules(vec![rule(spaced, one, "v2")]),
        "apps.shop.rules.0.when: \"a b\" is no name",
    );
    let long = Match::Regex("a".repeat(251));
    check(
        rules(vec![rule(beta.clone(), long, "v2")]),
        "apps.shop.rules.0.when: 251 bytes of a value, at most 250",
    );
    let odd = Match::Prefix("a\nb".into());
    check(
        rules(vec![rule(beta, odd, "v2")]),
        "apps.shop.rules.0.when: a value with control",
    );
    let shown = |header: &str, pool: &str| Preview::new(header, "secret", pool);
    check(
        |t| shop(t).preview = Some(shown("x-p", "v9")),
        "apps.shop.preview.pool: there is no pool",
    );
    check(
        |t| shop(t).preview = Some(shown("X-P", "v2")),
        "apps.shop.preview.header: ",
    );
    check(
        |t| {
            shop(t)
                .preview
                .insert(shown("x-p", "v2"))
                .sha256
                .truncate(63)
        },
        "apps.shop.preview.sha256: ",
    );
    check(
        |t| shop(t).mirror = Some(mirror("v9")),
        "apps.shop.mirror.pool: there is no pool",
    );
    check(
        |t| shop(t).mirror = Some(mirror("v1")),
        "apps.shop.mirror.pool: the pool \"v1\" gets",
    );
    check(
        |t| shop(t).mirror.insert(mirror("v2")).share = Weight(0),
        "apps.shop.mirror.share: 0",
    );
    check(
        |t| shop(t).mirror.insert(mirror("v2")).max_queue = 0,
        "apps.shop.mirror.max_queue: 0",
    );
    check(
        |t| shop(t).park.insert(park()).max_requests = 0,
        "apps.shop.park.max_requests: 0",
    );
    check(
        |t| shop(t).park.insert(park()).max_bytes = 0,
        "apps.shop.park.max_bytes: 0",
    );
    check(
        |t| shop(t).park.insert(park()).max_age_ms = 600_001,
        "apps.shop.park.max_age_ms: 600001",
    );
    let page = |status: u16, bytes: usize| {
        move |t: &mut Table| shop(t).pages.errors.extend([(status, "x".repeat(bytes))])
    };
    check(page(200, 1), "apps.shop.pages.errors.200: a page is for");
    check(
        page(502, 65_537),
        "apps.shop.pages.errors.502: 65537 bytes, at most 65536",
    );
    check(
        |t| shop(t).pages.maintenance = Some("x".repeat(65_537)),
        "apps.shop.pages.maintenance: 65537 bytes",
    );
}

#[test]
fn each_mistake_beside_the_routes_is_named_with_its_place() {
    let place = "certificates.a.example.com";
    for path in ["shop.pem", "/etc/../shop.pem", "/a\0b"] {
        check(
            |t| {
                let mut wrong = certificate();
                wrong.key = path.to_owned();
                t.certificates.insert("a.example.com".into(), wrong);
            },
            &format!("{place}.key: "),
        );
    }
    let named = |t: &mut Table| t.certificates.extend([("A".to_owned(), certificate())]);
    check(named, "certificates.A: \"A\" is no lower-case host");
    let answer = |token: &'static str, text: &'static str| {
        move |t: &mut Table| t.acme.http.extend([(token.to_owned(), text.to_owned())])
    };
    check(answer("a/b", "a/b.c"), "acme.http.a/b: the token");
    for text in ["", "tok", "tok.", "tokx", "other.print", "tok.a b"] {
        check(answer("tok", text), "acme.http.tok: the answer");
    }
    let digest = |t: &mut Table| {
        t.acme
            .tls_alpn
            .extend([("*.a".to_owned(), "00".to_owned())])
    };
    check(digest, "acme.tls_alpn.*.a: a challenge is for");
    check(digest, "acme.tls_alpn.*.a: a digest has 64");
    let network = |text: &str| {
        let network = text.parse().unwrap();
        move |t: &mut Table| t.trusted_proxies.push(network)
    };
    check(
        network("10.0.0.1/8"),
        "trusted_proxies: 10.0.0.1/8 is not the first",
    );
    check(
        network("10.0.0.0/33"),
        "trusted_proxies: 10.0.0.0/33 has more bits",
    );
    check(network("::/129"), "trusted_proxies: ::/129 has more bits");
    check(
        |t| t.trusted_proxies = vec!["::/0".parse().unwrap(); 2],
        "trusted_proxies: ::/0 is named twice",
    );
    check(
        |t| t.connections.head_ms = Some(0),
        "connections.head_ms: 0",
    );
    check(
        |t| t.connections.per_address = Some(0),
        "connections.per_address: 0",
    );
    for text in [
        "",
        "10.0.0.0",
        "10.0.0.0/",
        "10.0.0.0/+8",
        "10.0.0/8",
        "x/8",
        "10.0.0.0/256",
    ] {
        assert_eq!(text.parse::<Network>(), Err(NetworkError), "{text}");
    }
}

#[test]
fn what_is_over_a_limit_of_the_whole_is_told_and_the_telling_is_short() {
    let many = |apps: usize, hosts: usize| {
        let apps = (0..apps).map(|app| {
            let hosts = (0..hosts)
                .map(|host| format!("h{host}.a{app}.example"))
                .collect();
            (
                format!("a{app}"),
                Route::new(hosts, "/", Split::all_to("v1"), pools()),
            )
        });
        Table {
            generation: 1,
            apps: apps.collect(),
            ..Table::default()
        }
    };
    let told = |table: &Table| {
        table
            .problems()
            .iter()
            .map(ToString::to_string)
            .collect::<Vec<_>>()
    };
    assert_eq!(many(1_000, 10).problems(), Vec::new());
    assert_eq!(told(&many(1_001, 1)), ["apps: 1001 apps, at most 1000"]);
    let claims = "apps: 10001 pairs of host and path prefix, at most 10000";
    let mut crowded = many(1_000, 10);
    crowded
        .apps
        .get_mut("a0")
        .unwrap()
        .hosts
        .push("more.example".to_owned());
    assert_eq!(told(&crowded), [claims]);
    let mut large = many(200, 1);
    for route in large.apps.values_mut() {
        route.pages.maintenance = Some("x".repeat(60_000));
    }
    let found = told(&large);
    assert!(
        matches!(&found[..], [one] if one.starts_with("table: ") && one.contains("bytes of JSON")),
        "{found:?}"
    );
    let mut wrong = many(3, 1);
    for route in wrong.apps.values_mut() {
        route.hosts = vec!["\n".repeat(1_000); 200];
    }
    let found = wrong.problems();
    assert_eq!(found.len(), 101);
    assert!(found.iter().all(|problem| problem.to_string().len() < 500));
    assert!(found[100].fault.ends_with("more mistakes"));
}

#[test]
fn a_part_is_never_written_as_the_whole() {
    let written = |weight| serde_json::to_value(split(&[("v1", weight)])).unwrap();
    assert_eq!(written(10_000), serde_json::json!("v1"));
    assert_eq!(written(4_000), serde_json::json!({ "v1": 4_000 }));
}

#[test]
fn a_table_without_anything_new_is_written_as_it_always_was() {
    let text = r#"{"generation":1,"apps":{"shop":{"hosts":["a.example"],"path_prefix":"/","serving":"v1","pools":{"v1":{"targets":[{"id":"v1-0","address":"127.0.0.1:8080"}]}},"limits":{"connect_ms":5000,"response_ms":60000,"idle_ms":3600000,"max_body":null}}}}"#;
    let table: Table = serde_json::from_str(text).unwrap();
    assert_eq!(serde_json::to_string(&table).unwrap(), text);
    assert_eq!(table.problems(), Vec::new());
    assert_eq!(table.needs(), BTreeSet::new());
    let weights = text.replace(r#""serving":"v1""#, r#""serving":{"v1":9999,"v2":1}"#);
    let table: Table = serde_json::from_str(&weights).unwrap();
    let serving = &table.apps["shop"].serving;
    assert_eq!((serving.sole(), serving.gives_to("v2")), (None, true));
    assert_eq!(serde_json::to_string(&table).unwrap(), weights);
    let whole = text.replace(r#""serving":"v1""#, r#""serving":{"v1":10000}"#);
    let table: Table = serde_json::from_str(&whole).unwrap();
    assert_eq!(serde_json::to_string(&table).unwrap(), text);
}

#[test]
fn unknown_keys_and_words_are_refused_everywhere() {
    let mut seen = 0;
    let json = serde_json::to_value(full()).unwrap();
    // Objects whose keys are names that the maker chose.
    let named = [
        "apps",
        "pools",
        "redirects",
        "certificates",
        "http",
        "tls_alpn",
        "errors",
        "serving",
    ];
    fn places(value: &serde_json::Value, at: String, found: &mut Vec<String>) {
        match value {
            serde_json::Value::Object(map) => {
                found.push(at.clone());
                for (key, value) in map {
                    places(
                        value,
                        format!("{at}/{}", key.replace('~', "~0").replace('/', "~1")),
                        found,
                    );
                }
            }
            serde_json::Value::Array(list) => {
                for (number, value) in list.iter().enumerate() {
                    places(value, format!("{at}/{number}"), found);
                }
            }
            _ => {}
        }
    }
    let mut found = Vec::new();
    places(&json, String::new(), &mut found);
    for place in found {
        if named
            .iter()
            .any(|name| place.ends_with(&format!("/{name}")))
        {
            continue;
        }
        let mut changed = json.clone();
        let object = changed
            .pointer_mut(&place)
            .unwrap()
            .as_object_mut()
            .unwrap();
        object.insert("moon".to_owned(), 1.into());
        assert!(serde_json::from_value::<Table>(changed).is_err(), "{place}");
        seen += 1;
    }
    assert!(seen > 15, "{seen}");
}

#[test]
fn a_full_table_needs_every_ability_and_each_is_told_with_its_place() {
    let table = full();
    assert_eq!(table.needs(), BTreeSet::from(Ability::ALL));
    assert_eq!(table.beyond(&table.needs()), Vec::new());
    for ability in Ability::ALL {
        let mut less = table.needs();
        less.remove(&ability);
        let found = table.beyond(&less);
        assert_eq!(found.len(), 1, "{ability}");
        assert_eq!(found[0].fault, format!("this proxy cannot do `{ability}`"));
        let json = serde_json::to_string(&ability).unwrap();
        assert_eq!(json, format!("\"{ability}\""));
    }
    let told: Vec<String> = good()
        .beyond(&BTreeSet::new())
        .iter()
        .map(ToString::to_string)
        .collect();
    assert_eq!(told, Vec::<String>::new());
    let mut canary = good();
    shop(&mut canary).serving = split(&[("v1", 9_000), ("v2", 1_000)]);
    let found = canary.beyond(&BTreeSet::new());
    assert_eq!(
        found[0].to_string(),
        "apps.shop.serving: this proxy cannot do `weights`"
    );
}

#[test]
fn an_app_that_nobody_reaches_needs_no_target() {
    for close in [
        |route: &mut Route| route.park = Some(park()),
        |route: &mut Route| route.maintenance = Maintenance::On,
    ] {
        let mut table = good();
        close(shop(&mut table));
        v1(&mut table).targets.clear();
        assert_eq!(table.problems(), Vec::new());
    }
}
