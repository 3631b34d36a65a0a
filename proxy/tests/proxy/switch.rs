//! A new table takes over without a lost or late request.

use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering::SeqCst};
use std::thread;
use std::time::Duration;

use crate::common::{Backend, Client, Proxy, shop, until};
use cutover_wire::proxy::{Refusal, Reply, Request};
use cutover_wire::table::{Ability, Table};

#[test]
fn a_switch_under_load_loses_nothing_and_is_complete_when_acknowledged() {
    let proxy = Proxy::start(&[]);
    let (v1, v2) = (Backend::named("v1"), Backend::named("v2"));
    let (a1, a2) = ([v1.address], [v2.address]);
    let pools: [(&str, &[_]); 2] = [("v1", &a1), ("v2", &a2)];
    proxy.apply(shop("v1", &pools));
    let (stop, served) = (AtomicBool::new(false), AtomicUsize::new(0));
    thread::scope(|scope| {
        for place in 0..8 {
            let (proxy, stop, served) = (&proxy, &stop, &served);
            scope.spawn(move || {
                let mut client = proxy.client();
                while !stop.load(SeqCst) {
                    if place % 4 == 0 {
                        client = proxy.client();
                    }
                    let answer = if place % 2 == 0 {
                        client.get("/")
                    } else {
                        client.post("/", "order")
                    };
                    // One connection is never closed by a switch.
                    assert_eq!(answer.unwrap().status(), 200);
                    served.fetch_add(1, SeqCst);
                }
            });
        }
        for round in 0..20 {
            let goal = served.load(SeqCst) + 50;
            until("requests are served", || served.load(SeqCst) >= goal);
            let (serving, old, old_name) = if round % 2 == 0 {
                ("v2", &v1, "v1")
            } else {
                ("v1", &v2, "v2")
            };
            proxy.apply(shop(serving, &pools));
            // Bound before the acknowledgement, these may still be on their way.
            let id = format!("{old_name}-0");
            let left = proxy.drain(&[&id], Duration::from_secs(5));
            assert!(left.is_empty(), "{left:?}");
            let before = old.requests();
            let goal = served.load(SeqCst) + 50;
            until("requests are served", || served.load(SeqCst) >= goal);
            assert_eq!(old.requests(), before, "the old target got a request");
        }
        stop.store(true, SeqCst);
    });
    let sum = |pool| proxy.statistics(pool);
    let (s1, s2) = (sum("v1"), sum("v2"));
    assert_eq!(s1.succeeded + s2.succeeded, served.load(SeqCst) as u64);
    assert_eq!((s1.failed, s2.failed, s1.requests_open), (0, 0, 0));
    assert_eq!(s1.latency.count(), s1.succeeded);
}

#[test]
fn no_request_sent_after_the_acknowledgement_reaches_the_old_pool() {
    let proxy = Proxy::start(&[]);
    let (v1, v2) = (Backend::named("v1"), Backend::named("v2"));
    let (a1, a2) = ([v1.address], [v2.address]);
    let pools: [(&str, &[_]); 2] = [("v1", &a1), ("v2", &a2)];
    proxy.apply(shop("v1", &pools));
    let mut clients: Vec<Client> = (0..4).map(|_| proxy.client()).collect();
    for round in 0..50 {
        let serving = if round % 2 == 0 { "v2" } else { "v1" };
        proxy.apply(shop(serving, &pools));
        for client in &mut clients {
            assert_eq!(client.get("/").unwrap().text(), serving);
        }
    }
}

#[test]
fn a_table_for_another_generation_is_refused_and_changes_nothing() {
    let proxy = Proxy::start(&[]);
    let v1 = Backend::named("v1");
    let addresses = [v1.address];
    proxy.apply(shop("v1", &[("v1", &addresses)]));
    let table = |generation| Table {
        generation,
        apps: Default::default(),
        ..Table::default()
    };
    let apply = |expected, generation| {
        let table = table(generation);
        proxy.call(Request::Apply { expected, table })
    };
    let conflict = Refusal::Generation {
        expected: 0,
        actual: 1,
    };
    assert_eq!(apply(0, 1), Reply::Refused(conflict));
    let Reply::Refused(Refusal::Invalid(problems)) = apply(1, 3) else {
        panic!("a table that skips a generation was taken");
    };
    assert_eq!(problems[0].place, "generation");
    assert_eq!(proxy.client().get("/").unwrap().text(), "v1");
}

#[test]
fn a_wrong_table_is_refused_with_all_its_problems() {
    let proxy = Proxy::start(&[]);
    let mut apps = shop("v2", &[("v1", &[])]);
    let route = apps.get_mut("shop").unwrap();
    route.hosts = vec!["UPPER".to_owned()];
    route.path_prefix = "x".to_owned();
    let table = Table {
        generation: 1,
        apps,
        ..Table::default()
    };
    let reply = proxy.call(Request::Apply { expected: 0, table });
    let Reply::Refused(Refusal::Invalid(problems)) = reply else {
        panic!("{reply:?}");
    };
    let places: Vec<&str> = problems.iter().map(|p| p.place.as_str()).collect();
    let expected = [
        "apps.shop.hosts",
        "apps.shop.path_prefix",
        "apps.shop.serving",
    ];
    assert_eq!(places, expected);
    let answer = proxy.client().get("/").unwrap();
    assert_eq!(answer.status(), 404);
    assert!(answer.text().contains("shop.example"), "{}", answer.text());
}

#[test]
fn the_proxy_tells_that_it_can_do_all_that_a_table_has_words_for() {
    let proxy = Proxy::start(&[]);
    let Reply::Status(status) = proxy.call(Request::Status) else {
        panic!("no status");
    };
    assert_eq!(status.abilities, Ability::ALL.into());
}

#[test]
fn a_probe_from_the_loopback_is_told_the_pool_and_nobody_else_is() {
    let proxy = Proxy::start(&[]);
    let v1 = Backend::answering(|_| {
        "HTTP/1.1 200 OK\r\nContent-Length: 0\r\nX-Cutover-Pool: forged\r\n\r\n".to_owned()
    });
    let addresses = [v1.address];
    proxy.apply(shop("v1", &[("v1", &addresses)]));
    let mut client = proxy.client();
    client.send("GET / HTTP/1.1\r\nHost: a\r\nX-Cutover-Probe: 1\r\nX-Cutover-Pool: x\r\n\r\n");
    let answer = client.read().unwrap();
    assert_eq!(answer.field("x-cutover-pool"), Some("v1"));
    let plain = client.get("/").unwrap();
    assert_eq!(plain.field("x-cutover-pool"), None);
    let counted = proxy.statistics("v1").finished();
    assert_eq!(counted, 1, "a probe is no request of a user");
    let seen = v1.seen.lock().unwrap();
    let leaked = seen[0]
        .fields
        .iter()
        .any(|(n, _)| n.starts_with("x-cutover"));
    assert!(!leaked, "{:?}", seen[0]);
}

#[test]
fn a_probe_from_our_own_address_is_told_the_pool_too() {
    // Sends nothing: the kernel picks the address that it would send from.
    let socket = std::net::UdpSocket::bind("0.0.0.0:0").unwrap();
    if socket.connect("192.0.2.200:9").is_err() {
        // No network: nothing but loopback, which the test above is about.
        return;
    }
    let own = socket.local_addr().unwrap().ip();
    let directory = tempfile::tempdir().unwrap();
    let mut command = Proxy::command(directory.path());
    command.args(["--listen", &format!("{own}:0")]);
    let proxy = Proxy::spawn(directory.path(), command);
    let v1 = Backend::named("v1");
    let addresses = [v1.address];
    proxy.apply(shop("v1", &[("v1", &addresses)]));
    let mut client = proxy.client();
    client.send("GET / HTTP/1.1\r\nHost: a\r\nX-Cutover-Probe: 1\r\n\r\n");
    let answer = client.read().unwrap();
    assert_eq!(answer.field("x-cutover-pool"), Some("v1"));
}

#[test]
fn what_the_target_is_told_of_the_client_is_ours() {
    let proxy = Proxy::start(&[]);
    let v1 = Backend::named("v1");
    let addresses = [v1.address];
    proxy.apply(shop("v1", &[("v1", &addresses)]));
    let mut client = proxy.client();
    client.send(
        "GET /a?b HTTP/1.1\r\nHost: Shop.example:80\r\nX-Forwarded-For: 6.6.6.6\r\n\
         X-Forwarded-Proto: https\r\nX-Request-Id: kept\r\nConnection: X-Hop\r\nX-Hop: 1\r\n\r\n",
    );
    assert_eq!(client.read().unwrap().status(), 200);
    client.get("/").unwrap();
    let seen = v1.seen.lock().unwrap();
    assert_eq!(seen[0].line, "GET /a?b HTTP/1.1");
    assert_eq!(seen[0].field("host"), Some("Shop.example:80"));
    assert_eq!(seen[0].field("x-forwarded-for"), Some("127.0.0.1"));
    assert_eq!(seen[0].field("x-forwarded-proto"), Some("http"));
    assert_eq!(seen[0].field("x-forwarded-host"), Some("Shop.example:80"));
    assert_eq!(seen[0].field("x-request-id"), Some("kept"));
    assert_eq!(seen[0].field("x-hop"), None);
    assert_eq!(seen[0].field("connection"), None);
    assert_eq!(seen[1].field("x-request-id").map(str::len), Some(32));
}
