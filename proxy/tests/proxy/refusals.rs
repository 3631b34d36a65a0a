//! What is refused, how, and that nothing of it reaches a target.

use std::thread;
use std::time::{Duration, Instant};

use crate::common::{Backend, Proxy, shop, shop_with, until};
use cutover_wire::table::Limits;

fn served(options: &[&str], limits: Limits) -> (Proxy, Backend) {
    let proxy = Proxy::start(options);
    let backend = Backend::named("served");
    let addresses = [backend.address];
    proxy.apply(shop_with("v1", &[("v1", &addresses)], limits));
    (proxy, backend)
}

#[test]
fn requests_that_two_programs_could_read_in_two_ways_are_refused_and_end_the_connection() {
    let (proxy, backend) = served(&[], Limits::default());
    let host = "Host: a\r\n";
    let probes: [(&str, String); 19] = [
        (
            "CL and TE",
            format!(
                "POST / HTTP/1.1\r\n{host}Content-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n"
            ),
        ),
        (
            "TE and CL",
            format!(
                "POST / HTTP/1.1\r\n{host}Transfer-Encoding: chunked\r\nContent-Length: 5\r\n\r\n0\r\n\r\n"
            ),
        ),
        (
            "two equal CL",
            format!("POST / HTTP/1.1\r\n{host}Content-Length: 1\r\nContent-Length: 1\r\n\r\nx"),
        ),
        (
            "two different CL",
            format!("POST / HTTP/1.1\r\n{host}Content-Length: 1\r\nContent-Length: 2\r\n\r\nx"),
        ),
        (
            "CL list",
            format!("POST / HTTP/1.1\r\n{host}Content-Length: 1, 1\r\n\r\nx"),
        ),
        (
            "CL with sign",
            format!("POST / HTTP/1.1\r\n{host}Content-Length: +1\r\n\r\nx"),
        ),
        (
            "TE on 1.0",
            format!("POST / HTTP/1.0\r\n{host}Transfer-Encoding: chunked\r\n\r\n0\r\n\r\n"),
        ),
        (
            "TE other than chunked",
            format!("POST / HTTP/1.1\r\n{host}Transfer-Encoding: gzip, chunked\r\n\r\n0\r\n\r\n"),
        ),
        (
            "two TE",
            format!(
                "POST / HTTP/1.1\r\n{host}Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n"
            ),
        ),
        ("two Host", format!("GET / HTTP/1.1\r\n{host}{host}\r\n")),
        ("no Host", "GET / HTTP/1.1\r\nA: b\r\n\r\n".to_owned()),
        (
            "address and Host differ",
            format!("GET http://b/ HTTP/1.1\r\n{host}\r\n"),
        ),
        (
            "obs-fold",
            format!("GET / HTTP/1.1\r\n{host}A: b\r\n c\r\n\r\n"),
        ),
        (
            "bare LF in the head",
            format!("GET / HTTP/1.1\r\n{host}A: b\n\r\n"),
        ),
        (
            "space before colon",
            format!("GET / HTTP/1.1\r\n{host}A : b\r\n\r\n"),
        ),
        (
            "NUL in a value",
            format!("GET / HTTP/1.1\r\n{host}A: b\0c\r\n\r\n"),
        ),
        (
            "Connection names X-Forwarded-For",
            format!("GET / HTTP/1.1\r\n{host}Connection: close, X-Forwarded-For\r\n\r\n"),
        ),
        (
            "Connection names Cookie",
            format!("GET / HTTP/1.1\r\n{host}Connection: cookie\r\n\r\n"),
        ),
        (
            "bare CR in a value",
            format!("GET / HTTP/1.1\r\n{host}A: b\rc\r\n\r\n"),
        ),
    ];
    for (name, text) in probes {
        let mut client = proxy.client();
        client.send(&text);
        let answer = client
            .read()
            .unwrap_or_else(|error| panic!("{name}: {error}"));
        assert_eq!(answer.status(), 400, "{name}: {answer:?}");
        assert!(client.is_ended(), "{name}: the connection goes on");
    }
    let mut client = proxy.client();
    client.send("CONNECT a:443 HTTP/1.1\r\nHost: a:443\r\n\r\n");
    assert_eq!(client.read().unwrap().status(), 405);
    assert!(client.is_ended());
    assert_eq!(backend.connections(), 0, "something reached the target");
}

#[test]
fn a_second_request_in_a_body_is_never_read_as_one() {
    let (proxy, backend) = served(&[], Limits::default());
    let mut client = proxy.client();
    let inner = "GET /inner HTTP/1.1\r\nHost: a\r\n\r\n";
    let length = inner.len();
    client.send(&format!(
        "POST /outer HTTP/1.1\r\nHost: a\r\nContent-Length: {length}\r\n\r\n{inner}"
    ));
    assert_eq!(client.read().unwrap().status(), 200);
    assert_eq!(client.get("/next").unwrap().status(), 200);
    let seen = backend.seen.lock().unwrap();
    let lines: Vec<&str> = seen.iter().map(|m| m.line.as_str()).collect();
    assert_eq!(lines, ["POST /outer HTTP/1.1", "GET /next HTTP/1.1"]);
}

#[test]
fn a_head_that_is_too_large_is_431() {
    let (proxy, backend) = served(&[], Limits::default());
    let long = "x".repeat(17 * 1024);
    let many = "A: b\r\n".repeat(101);
    for fields in [format!("A: {long}\r\n"), many] {
        let mut client = proxy.client();
        client.send(&format!("GET / HTTP/1.1\r\nHost: a\r\n{fields}\r\n"));
        assert_eq!(client.read().unwrap().status(), 431);
    }
    assert_eq!(backend.connections(), 0);
}

#[test]
fn a_body_that_is_too_large_is_413_with_and_without_its_length() {
    let limits = Limits {
        max_body: Some(10),
        ..Limits::default()
    };
    let (proxy, backend) = served(&[], limits);
    let mut client = proxy.client();
    assert_eq!(client.post("/", "0123456789").unwrap().status(), 200);
    assert_eq!(client.post("/", "0123456789x").unwrap().status(), 413);
    let mut client = proxy.client();
    client.send("POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n");
    client.send("b\r\n0123456789x\r\n0\r\n\r\n");
    assert_eq!(client.read().unwrap().status(), 413);
    assert_eq!(backend.requests(), 1);
    let told = proxy.statistics("v1");
    assert_eq!(
        (told.succeeded, told.failed),
        (1, 0),
        "a client's fault is not the app's"
    );
}

#[test]
fn a_refused_upload_is_read_on_so_that_the_refusal_arrives() {
    let limits = Limits {
        max_body: Some(10),
        ..Limits::default()
    };
    let (proxy, _backend) = served(&[], limits);
    let body = "x".repeat(512 * 1024);
    for _ in 0..10 {
        let mut client = proxy.client();
        assert_eq!(client.post("/", &body).unwrap().status(), 413);
    }
}

#[test]
fn a_slow_head_is_cut_and_an_idle_connection_lives_longer() {
    let (proxy, _backend) = served(
        &["--head-timeout", "200ms", "--idle-timeout", "1500ms"],
        Limits::default(),
    );
    let mut slow = proxy.client();
    let mut idle = proxy.client();
    assert_eq!(idle.get("/").unwrap().status(), 200);
    let began = Instant::now();
    slow.send("GET / HTTP/1.1\r\nHost: a\r\n");
    assert!(slow.is_ended());
    assert!(began.elapsed() < Duration::from_millis(1200));
    assert_eq!(idle.get("/").unwrap().status(), 200);
    assert!(idle.is_ended());
    assert!(began.elapsed() > Duration::from_millis(1400));
}

#[test]
fn beyond_the_cap_a_client_waits_for_a_place() {
    let (proxy, _backend) = served(&["--max-connections", "2"], Limits::default());
    let (mut one, mut two) = (proxy.client(), proxy.client());
    assert_eq!(one.get("/").unwrap().status(), 200);
    assert_eq!(two.get("/").unwrap().status(), 200);
    let mut three = proxy.client();
    // Idle ones give way after a second, so the third is served at last.
    assert_eq!(three.get("/").unwrap().status(), 200);
    until("an idle one was closed", || {
        one.is_ended() || two.is_ended()
    });
}

#[test]
fn a_host_without_an_app_is_told_so() {
    let proxy = Proxy::start(&[]);
    let backend = Backend::named("served");
    let addresses = [backend.address];
    let mut apps = shop("v1", &[("v1", &addresses)]);
    let route = apps.get_mut("shop").unwrap();
    route.hosts = vec!["shop.example".to_owned()];
    route.path_prefix = "/in".to_owned();
    proxy.apply(apps);
    let mut client = proxy.client();
    assert_eq!(client.get("/in/side").unwrap().status(), 200);
    let answer = client.get("/outside").unwrap();
    assert_eq!(answer.status(), 404);
    assert!(
        answer.text().starts_with("no app is served"),
        "{}",
        answer.text()
    );
    client.send("GET /in HTTP/1.1\r\nHost: SHOP.example:8080\r\n\r\n");
    assert_eq!(client.read().unwrap().status(), 200);
}

/// Its worker does not stand still.
fn goes_on(proxy: &Proxy) {
    for _ in 0..8 {
        assert_eq!(proxy.client().get("/").unwrap().status(), 200);
    }
}

#[test]
fn what_a_client_still_sends_of_a_refused_body_is_no_request_however_late_it_comes() {
    let proxy = Proxy::start(&["--workers", "1"]);
    let backend = Backend::named("v1");
    let limits = Limits {
        max_body: Some(10),
        ..Limits::default()
    };
    proxy.apply(shop_with("v1", &[("v1", &[backend.address])], limits));
    let mut client = proxy.client();
    client.send("POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 100000\r\n\r\n");
    assert_eq!(client.read().unwrap().status(), 413);
    // Longer than idle connections keep their buffers, and the proxy still listens.
    let began = Instant::now();
    while began.elapsed() < Duration::from_millis(600) {
        client.send("x");
        thread::sleep(Duration::from_millis(50));
    }
    client.send("\r\n\r\nGET /smuggled HTTP/1.1\r\nHost: a\r\n\r\n");
    goes_on(&proxy);
    drop(client);
    until("it is gone", || proxy.counts().proxy.connections_open == 0);
    let seen = backend.seen.lock().unwrap();
    assert!(!seen.iter().any(|asked| asked.line.contains("smuggled")));
}

#[test]
fn the_beginning_of_a_request_that_goes_no_further_holds_nobody_up() {
    let proxy = Proxy::start(&["--workers", "1", "--head-timeout", "900ms"]);
    let backend = Backend::named("v1");
    proxy.apply(shop("v1", &[("v1", &[backend.address])]));
    // An empty line may stand before a request, and is none of it.
    for beginning in ["\r\n", "\r", "G"] {
        let mut client = proxy.client();
        assert_eq!(client.get("/").unwrap().status(), 200);
        client.send(beginning);
        let began = Instant::now();
        while began.elapsed() < Duration::from_millis(500) {
            goes_on(&proxy);
        }
        if beginning != "\r" {
            client.send(if beginning == "G" { "ET" } else { "GET" });
            client.send(" / HTTP/1.1\r\nHost: a\r\n\r\n");
            assert_eq!(client.read().unwrap().status(), 200, "{beginning:?}");
        }
    }
}
