//! Where a request goes: by host, path, rule, weight, secret, and who is left.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, Ordering::SeqCst};
use std::thread;
use std::time::Duration;

use cutover_wire::proxy::{POOL_HEADER, PROBE_HEADER};
use cutover_wire::table::{
    AcmeAnswers, Affinity, Balance, Client as Known, Condition, Field, Https, Maintenance, Match,
    Moves, Pages, Pool, Preview, Redirect, RedirectStatus, Route, Rule, Split, Target,
};

use crate::common::{Backend, Client, Message, Proxy, nobody, ok, shop, split, two_releases};
use crate::given::Given;
use crate::secure::{secure, trusting};

/// A route of one pool with one target.
fn app(host: &str, pool: &str, backend: &Backend) -> Route {
    let target = Target {
        id: format!("{pool}-0"),
        address: backend.address,
    };
    let pools = BTreeMap::from([(pool.to_owned(), Pool::of(vec![target]))]);
    Route::new(vec![host.to_owned()], "/", Split::all_to(pool), pools)
}

#[test]
fn an_exact_host_goes_before_a_wildcard_of_one_label_and_both_before_any() {
    let proxy = Proxy::start(&[]);
    let claims = [
        ("a.shop.example", "exact"),
        ("*.shop.example", "wild"),
        ("*", "any"),
    ];
    let backends = claims.map(|(_, name)| Backend::named(name));
    let apps = claims.iter().zip(&backends);
    proxy.apply(
        apps.map(|(&(host, name), backend)| (name.to_owned(), app(host, name, backend)))
            .collect(),
    );
    let mut client = proxy.client();
    let mut check = |host: &str, expected: &str| {
        assert_eq!(client.ask(host, "/", &[]).text(), expected, "{host}");
    };
    check("a.shop.example", "exact");
    check("A.Shop.EXAMPLE:8080", "exact");
    check("a.shop.example.", "exact");
    check("b.shop.example", "wild");
    check("c.b.shop.example", "any");
    check("shop.example", "any");
    check("127.0.0.1", "any");
}

#[test]
fn a_host_that_nobody_claims_is_answered_with_404_and_no_target_sees_it() {
    let proxy = Proxy::start(&[]);
    let backend = Backend::named("v1");
    let apps = BTreeMap::from([("shop".to_owned(), app("shop.example", "v1", &backend))]);
    proxy.apply(apps);
    let mut client = proxy.client();
    assert_eq!(client.ask("ship.example", "/", &[]).status(), 404);
    assert_eq!(client.ask("shop.example", "/", &[]).status(), 200);
    assert_eq!(backend.requests(), 1);
}

#[test]
fn clients_of_a_host_that_moved_are_sent_on_with_path_and_query() {
    let (proxy, [v1, _]) = two_releases(&[]);
    proxy.change_shop(|shop| {
        let to = |status| Redirect {
            to: "shop.example".to_owned(),
            status,
        };
        shop.hosts = vec!["shop.example".to_owned()];
        shop.redirects = BTreeMap::from([
            ("www.shop.example".to_owned(), to(RedirectStatus::default())),
            (
                "old.example".to_owned(),
                to(RedirectStatus::MovedPermanently),
            ),
        ]);
    });
    let mut client = proxy.client();
    let mut check = |host: &str, status: u16| {
        let answer = client.ask(host, "/a/b?c=d&e", &[]);
        let location = answer.field("location");
        assert_eq!(
            (answer.status(), location),
            (status, Some("http://shop.example/a/b?c=d&e"))
        );
    };
    check("www.shop.example", 308);
    check("WWW.shop.example:80", 308);
    check("old.example", 301);
    assert_eq!(v1.requests(), 0);
    assert_eq!(client.ask("shop.example", "/", &[]).text(), "v1");
}

#[test]
fn plain_http_is_sent_to_https_but_for_what_an_authority_asks() {
    let (proxy, [v1, _]) = two_releases(&["--listen", "https=127.0.0.1:0"]);
    let directory = tempfile::tempdir().unwrap();
    let given = Given::of(&["shop.example"]).write(directory.path());
    proxy.change(|table| {
        table.certificates.insert("*".to_owned(), given);
        table.apps.get_mut("shop").unwrap().https = Https::Redirect;
        table.acme = AcmeAnswers {
            http: BTreeMap::from([("tok".to_owned(), "tok.print".to_owned())]),
            ..AcmeAnswers::default()
        };
    });
    let mut plain = proxy.client();
    let sent = plain.ask("shop.example:8080", "/x?y=1", &[]);
    assert_eq!(sent.field("location"), Some("https://shop.example/x?y=1"));
    assert_eq!(sent.status(), 308);
    let forged = plain.ask("shop.example", "/", &[("X-Forwarded-Proto", "https")]);
    assert_eq!(forged.status(), 308, "nobody believes a stranger");
    let challenge = plain.ask("shop.example", "/.well-known/acme-challenge/tok", &[]);
    assert_eq!(challenge.text().trim_end(), "tok.print");
    // Of a challenge that is not ours the app may know.
    let other = plain.ask("shop.example", "/.well-known/acme-challenge/other", &[]);
    assert_eq!(other.text(), "v1");
    let mut secure = secure(proxy.listener(1), &trusting(&[]), "shop.example").unwrap();
    assert_eq!(secure.get("/x").unwrap().text(), "v1");
    assert_eq!(v1.requests(), 2);
}

#[test]
fn behind_a_trusted_proxy_it_is_its_word_that_says_how_the_client_speaks() {
    let (proxy, _) = two_releases(&["--listen", "https=127.0.0.1:0"]);
    let directory = tempfile::tempdir().unwrap();
    let given = Given::of(&["shop.example"]).write(directory.path());
    proxy.change(|table| {
        table.certificates.insert("*".to_owned(), given);
        table.trusted_proxies = vec!["127.0.0.0/8".parse().unwrap()];
        table.apps.get_mut("shop").unwrap().https = Https::Redirect;
    });
    let (https, http) = (
        ("X-Forwarded-Proto", "https"),
        ("X-Forwarded-Proto", "http"),
    );
    let mut plain = proxy.client();
    assert_eq!(plain.ask("shop.example", "/", &[https]).status(), 200);
    assert_eq!(plain.ask("shop.example", "/", &[http]).status(), 308);
    assert_eq!(plain.ask("shop.example", "/", &[]).status(), 308);
    let mut secure = secure(proxy.listener(1), &trusting(&[]), "shop.example").unwrap();
    assert_eq!(secure.ask("shop.example", "/", &[]).status(), 200);
    assert_eq!(secure.ask("shop.example", "/", &[http]).status(), 308);
}

#[test]
fn the_first_rule_that_holds_decides_by_header_or_cookie() {
    let (proxy, _) = two_releases(&[]);
    let header = |name: &str, is| Condition {
        of: Field::Header(name.to_owned()),
        is,
    };
    let cookie = |name: &str, is| Condition {
        of: Field::Cookie(name.to_owned()),
        is,
    };
    let rule = |pool: &str, when| Rule {
        when,
        pool: pool.to_owned(),
    };
    let exact = |text: &str| Match::Exact(text.to_owned());
    let prefix = |text: &str| Match::Prefix(text.to_owned());
    let regex = |text: &str| Match::Regex(text.to_owned());
    proxy.change_shop(|shop| {
        shop.rules = vec![
            rule("v1", vec![header("x-beta", exact("never"))]),
            rule("v2", vec![header("x-beta", exact("yes"))]),
            rule("v2", vec![header("user-agent", prefix("Tester/"))]),
            rule("v2", vec![header("x-version", regex("2\\.[0-9]+"))]),
            rule("v2", vec![cookie("group", exact("b"))]),
            rule("v2", vec![cookie("session", prefix("beta-"))]),
            rule("v2", vec![cookie("country", regex("kr|de"))]),
            rule(
                "v2",
                vec![header("x-a", exact("1")), cookie("c", exact("2"))],
            ),
        ];
    });
    let mut client = proxy.client();
    let mut check = |fields: &[(&str, &str)], expected: &str| {
        let answer = client.ask("shop.example", "/", fields);
        assert_eq!(answer.text(), expected, "{fields:?}");
    };
    check(&[], "v1");
    check(&[("X-Beta", "yes")], "v2");
    check(&[("X-Beta", "yes!")], "v1");
    check(&[("X-Beta", "never"), ("User-Agent", "Tester/1")], "v1");
    check(&[("User-Agent", "Tester/1")], "v2");
    check(&[("User-Agent", "A Tester/1")], "v1");
    check(&[("X-Version", "2.10")], "v2");
    check(&[("X-Version", "12.10")], "v1");
    check(&[("X-Version", "2.10-rc")], "v1");
    check(&[("Cookie", "a=1; group=b")], "v2");
    check(&[("Cookie", "xgroup=b; group=c")], "v1");
    check(&[("Cookie", "session=beta-7; x=1")], "v2");
    check(&[("Cookie", "country=de")], "v2");
    check(&[("Cookie", "country=deu")], "v1");
    check(&[("X-A", "1"), ("Cookie", "c=2")], "v2");
    check(&[("X-A", "1")], "v1");
}

#[test]
fn a_split_gives_each_release_its_share_within_chance() {
    const REQUESTS: usize = 2_000;
    let (proxy, [v1, v2]) = two_releases(&[]);
    proxy.change_shop(|shop| shop.serving = split(&[("v1", 9_000), ("v2", 1_000)]));
    thread::scope(|scope| {
        for _ in 0..4 {
            scope.spawn(|| {
                let mut client = proxy.client();
                for _ in 0..REQUESTS / 4 {
                    let answer = client.get("/").unwrap();
                    assert_eq!((answer.status(), answer.field("set-cookie")), (200, None));
                }
            });
        }
    });
    assert_eq!(v1.requests() + v2.requests(), REQUESTS);
    // Five standard deviations of 13.4: more is chance once in two million runs.
    assert!(
        v2.requests().abs_diff(REQUESTS / 10) <= 67,
        "{}",
        v2.requests()
    );
    assert_eq!(v2.requests() as u64, proxy.statistics("v2").succeeded);
}

#[test]
fn a_preview_is_shown_to_the_secret_alone_and_no_target_sees_it() {
    let (proxy, [v1, v2]) = two_releases(&[]);
    proxy.change_shop(|shop| shop.preview = Some(Preview::new("x-preview", "open sesame", "v2")));
    let mut client = proxy.client();
    let mut check = |fields: &[(&str, &str)], expected: &str| {
        let answer = client.ask("shop.example", "/", fields);
        assert_eq!(answer.text(), expected, "{fields:?}");
    };
    check(&[], "v1");
    check(&[("X-Preview", "open sesame")], "v2");
    check(&[("X-Preview", "open sesamE")], "v1");
    check(&[("X-Preview", "")], "v1");
    // The digest is in the table for everybody to read, and opens nothing.
    let digest = Preview::new("x-preview", "open sesame", "v2").sha256;
    check(&[("X-Preview", &digest)], "v1");
    // Releases are judged by their users, and who looks at a preview is none.
    let judged = |pool: &str| proxy.statistics(pool).succeeded;
    assert_eq!((judged("v1"), judged("v2")), (4, 0));
    for backend in [&v1, &v2] {
        for seen in &*backend.seen.lock().unwrap() {
            assert_eq!(seen.field("x-preview"), None);
        }
    }
    let Message { fields, .. } = &v2.seen.lock().unwrap()[0];
    assert!(fields.iter().all(|(_, value)| !value.contains("sesame")));
}

#[test]
fn a_preview_without_targets_is_no_other_release() {
    let (proxy, [v1, _]) = two_releases(&[]);
    proxy.change_shop(|shop| shop.preview = Some(Preview::new("x-preview", "s", "v2")));
    proxy.drain(&["v2-0"], Duration::from_secs(5));
    let mut client = proxy.client();
    let shown = client.ask("shop.example", "/", &[("X-Preview", "s")]);
    assert_eq!((shown.status(), v1.requests()), (503, 0));
    assert_eq!(client.get("/").unwrap().text(), "v1");
}

#[test]
fn a_preview_whose_target_is_dead_is_no_other_release() {
    let proxy = Proxy::start(&[]);
    let (v1, v2) = (Backend::named("v1"), Backend::named("v2"));
    let preview = |targets: &[SocketAddr]| {
        proxy.apply(shop("v1", &[("v1", &[v1.address]), ("v2", targets)]));
        proxy.change_shop(|shop| shop.preview = Some(Preview::new("x-preview", "s", "v2")));
    };
    let mut client = proxy.client();
    let mut ask = || client.ask("shop.example", "/", &[("X-Preview", "s")]);
    preview(&[nobody()]);
    for _ in 0..5 {
        assert_eq!(ask().status(), 502);
    }
    assert_eq!(v1.requests(), 0);
    // One that lives is tried in its place.
    preview(&[nobody(), v2.address]);
    for _ in 0..5 {
        assert_eq!(ask().text(), "v2");
    }
    assert_eq!(v1.requests(), 0);
}

#[test]
fn a_target_is_asked_without_the_prefix_where_the_table_says_so() {
    let proxy = Proxy::start(&[]);
    let echo = |name: &'static str| {
        Backend::answering(move |asked| {
            let path = asked.line.split(' ').nth(1).unwrap();
            ok(&format!("{name} {path}"))
        })
    };
    let (root, api) = (echo("root"), echo("api"));
    let at = |prefix: &str, strip_prefix, backend| Route {
        path_prefix: prefix.to_owned(),
        strip_prefix,
        ..app("*", "v1", backend)
    };
    let apply = |strip| {
        proxy.apply(BTreeMap::from([
            ("root".to_owned(), at("/", false, &root)),
            ("api".to_owned(), at("/api", strip, &api)),
        ]))
    };
    let mut client = proxy.client();
    let mut check = |path: &str, expected: &str| {
        assert_eq!(client.get(path).unwrap().text(), expected, "{path}");
    };
    apply(true);
    check("/api/x?y=/api", "api /x?y=/api");
    check("/api", "api /");
    check("/api?y", "api /?y");
    check("/apix/y", "root /apix/y");
    check("/", "root /");
    apply(false);
    check("/api/x?y", "api /api/x?y");
}

#[test]
fn an_answer_of_the_proxy_has_the_page_of_the_app_and_one_of_a_target_never() {
    let proxy = Proxy::start(&[]);
    let own = Backend::answering(|_| {
        "HTTP/1.1 502 Own\r\nContent-Length: 3\r\nContent-Type: text/x\r\n\r\nown".to_owned()
    });
    let pages = || Pages {
        errors: BTreeMap::from([
            (502, "<p>back soon".to_owned()),
            (503, "<p>busy".to_owned()),
            (413, "<p>too much".to_owned()),
        ]),
        maintenance: None,
    };
    proxy.apply(shop("v1", &[("v1", &[own.address])]));
    proxy.change_shop(|shop| {
        shop.pages = pages();
        shop.limits.max_body = Some(10);
    });
    let html = Some("text/html; charset=utf-8");
    let mut client = proxy.client();
    let answer = client.get("/").unwrap();
    assert_eq!((answer.status(), answer.text().as_str()), (502, "own"));
    assert_eq!(answer.field("content-type"), Some("text/x"));
    let answer = client.post("/", "more than ten bytes").unwrap();
    assert_eq!(
        (answer.status(), answer.text().as_str()),
        (413, "<p>too much")
    );
    proxy.drain(&["v1-0"], Duration::from_secs(5));
    let mut client = proxy.client();
    let answer = client.get("/").unwrap();
    assert_eq!((answer.status(), answer.text().as_str()), (503, "<p>busy"));
    proxy.apply(shop("v1", &[("v1", &[nobody()])]));
    proxy.change_shop(|shop| shop.pages = pages());
    let answer = client.get("/").unwrap();
    assert_eq!(
        (answer.status(), answer.text().as_str()),
        (502, "<p>back soon")
    );
    assert_eq!(answer.field("content-type"), html);
}

#[test]
fn maintenance_closes_the_app_to_all_but_the_preview_and_opens_it_again() {
    let (proxy, [v1, _]) = two_releases(&[]);
    let mut client = proxy.client();
    let close = |page: Option<&str>| {
        proxy.change_shop(|shop| {
            shop.maintenance = Maintenance::On;
            shop.pages.maintenance = page.map(str::to_owned);
            shop.preview = Some(Preview::new("x-preview", "s", "v2"));
        });
    };
    close(Some("<h1>closed"));
    let answer = client.post("/", "body").unwrap();
    assert_eq!(
        (answer.status(), answer.text().as_str()),
        (503, "<h1>closed")
    );
    assert_eq!(
        answer.field("content-type"),
        Some("text/html; charset=utf-8")
    );
    let shown = client.ask("shop.example", "/", &[("X-Preview", "s")]);
    assert_eq!(shown.text(), "v2");
    close(None);
    let answer = client.get("/").unwrap();
    assert_eq!(answer.status(), 503);
    assert!(answer.text().contains("shop is in maintenance"));
    assert_eq!(v1.requests(), 0);
    proxy.change_shop(|shop| shop.maintenance = Maintenance::Off);
    assert_eq!(client.get("/").unwrap().text(), "v1");
}

#[test]
fn while_the_only_target_of_a_canary_drains_its_clients_go_to_the_other_release() {
    let (proxy, [_, v2]) = two_releases(&[]);
    proxy.change_shop(|shop| {
        shop.serving = split(&[("v1", 5_000), ("v2", 5_000)]);
        shop.affinity = Some(Affinity {
            by: Known::Header {
                name: "x-user".to_owned(),
            },
            moves: Moves::Everybody,
        });
    });
    let over = AtomicBool::new(false);
    let users = |client: &mut Client, number: usize| {
        let known = ("X-User", format!("u{number}"));
        let fields = [(known.0, known.1.as_str())];
        // Every other request is of nobody who is known.
        let fields = if number.is_multiple_of(2) {
            &fields[..]
        } else {
            &[]
        };
        let answer = client.ask("shop.example", "/", fields);
        assert_eq!(answer.status(), 200);
        answer.text()
    };
    let before = thread::scope(|scope| {
        for _ in 0..3 {
            scope.spawn(|| {
                let mut client = proxy.client();
                for number in (0..40).cycle() {
                    users(&mut client, number);
                    if over.load(SeqCst) {
                        return;
                    }
                }
            });
        }
        crate::common::until("the canary has users", || v2.requests() >= 20);
        let left = proxy.drain(&["v2-0"], Duration::from_secs(10));
        let before = v2.requests();
        assert!(left.is_empty(), "{left:?}");
        let mut client = proxy.client();
        let told: Vec<String> = (0..40).map(|number| users(&mut client, number)).collect();
        over.store(true, SeqCst);
        assert!(told.iter().all(|name| name == "v1"), "{told:?}");
        before
    });
    assert_eq!(v2.requests(), before);
}

#[test]
fn round_robin_gives_each_target_its_turn_also_where_two_apps_alternate() {
    let proxy = Proxy::start(&["--workers", "1"]);
    let backends: Vec<Backend> = (0..4).map(|n| Backend::named(&format!("t{n}"))).collect();
    let mut apps = BTreeMap::new();
    for (name, targets) in [("a", &backends[..2]), ("b", &backends[2..])] {
        let targets = targets.iter().enumerate();
        let targets = targets.map(|(place, backend)| Target {
            id: format!("t{place}"),
            address: backend.address,
        });
        let pool = Pool {
            balance: Balance::RoundRobin,
            ..Pool::of(targets.collect())
        };
        let pools = BTreeMap::from([("v1".to_owned(), pool)]);
        let hosts = vec![format!("{name}.example")];
        let route = Route::new(hosts, "/", Split::all_to("v1"), pools);
        apps.insert(name.to_owned(), route);
    }
    proxy.apply(apps);
    let mut client = proxy.client();
    for _ in 0..10 {
        for host in ["a.example", "b.example"] {
            assert_eq!(client.ask(host, "/", &[]).status(), 200);
        }
    }
    let told: Vec<usize> = backends.iter().map(Backend::requests).collect();
    assert_eq!(told, [5, 5, 5, 5]);
}

#[test]
fn a_thousand_apps_are_routed_each_to_its_own() {
    let proxy = Proxy::start(&[]);
    let backend = Backend::named("served");
    let apps = (0..1_000).map(|number| {
        let pool = format!("p{number}");
        let mut route = app(&format!("app{number}.example"), &pool, &backend);
        route.hosts.push(format!("*.app{number}.example"));
        (format!("app{number}"), route)
    });
    proxy.apply(apps.collect());
    let mut client = proxy.client();
    for number in (0..1_000).step_by(7).chain([999]) {
        for host in [
            format!("app{number}.example"),
            format!("x.app{number}.example"),
        ] {
            let answer = client.ask(&host, "/", &[(PROBE_HEADER, "1")]);
            let pool = answer.field(POOL_HEADER).map(str::to_owned);
            assert_eq!(pool, Some(format!("p{number}")), "{host}");
        }
    }
    assert_eq!(client.ask("app1000.example", "/", &[]).status(), 404);
}
