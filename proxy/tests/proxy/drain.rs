//! A drained target gets nothing new and is told empty only when it is.

use std::sync::mpsc;
use std::thread;
use std::time::{Duration, Instant};

use crate::common::{Backend, Client, Proxy, ok, shop, until};

/// A target that answers each request when the test lets it.
fn held() -> (Backend, mpsc::Sender<()>) {
    let (release, gate) = mpsc::channel();
    let gate = std::sync::Mutex::new(gate);
    let backend = Backend::answering(move |_| {
        let _ = gate.lock().unwrap().recv();
        ok("held")
    });
    (backend, release)
}

fn ask(proxy: &Proxy) -> Client {
    let mut client = proxy.client();
    client.send("GET / HTTP/1.1\r\nHost: a\r\n\r\n");
    until("the request is open", || {
        proxy.statistics("v1").requests_open == 1
    });
    client
}

#[test]
fn a_drain_answers_when_the_open_request_has_its_answer() {
    let proxy = Proxy::start(&[]);
    let (v1, release) = held();
    let v2 = Backend::named("v2");
    let (a1, a2) = ([v1.address], [v2.address]);
    proxy.apply(shop("v1", &[("v1", &a1)]));
    let mut client = ask(&proxy);
    proxy.apply(shop("v2", &[("v1", &a1), ("v2", &a2)]));
    thread::scope(|scope| {
        let drain = scope.spawn(|| proxy.drain(&["v1-0"], Duration::from_secs(15)));
        assert_eq!(proxy.client().get("/").unwrap().text(), "v2");
        assert!(!drain.is_finished());
        release.send(()).unwrap();
        assert_eq!(client.read().unwrap().text(), "held");
        assert!(drain.join().unwrap().is_empty());
    });
    assert_eq!(proxy.statistics("v1").succeeded, 1);
}

#[test]
fn a_drain_tells_what_is_left_at_its_deadline() {
    let proxy = Proxy::start(&[]);
    let (v1, release) = held();
    let a1 = [v1.address];
    proxy.apply(shop("v1", &[("v1", &a1)]));
    let mut client = ask(&proxy);
    let began = Instant::now();
    let left = proxy.drain(&["v1-0"], Duration::from_millis(150));
    assert!(began.elapsed() >= Duration::from_millis(150));
    assert_eq!((left.requests, left.streams, left.tunnels), (1, 0, 0));
    release.send(()).unwrap();
    assert_eq!(client.read().unwrap().text(), "held");
}

#[test]
fn a_target_that_left_the_table_can_still_be_drained() {
    let proxy = Proxy::start(&[]);
    let (v1, release) = held();
    let v2 = Backend::named("v2");
    let (a1, a2) = ([v1.address], [v2.address]);
    proxy.apply(shop("v1", &[("v1", &a1)]));
    let mut client = ask(&proxy);
    proxy.apply(shop("v2", &[("v2", &a2)]));
    let left = proxy.drain(&["v1-0"], Duration::from_millis(50));
    assert_eq!(left.requests, 1);
    release.send(()).unwrap();
    assert_eq!(client.read().unwrap().text(), "held");
    assert!(proxy.drain(&["v1-0"], Duration::from_secs(5)).is_empty());
}

#[test]
fn a_drain_of_the_only_target_refuses_with_503_and_a_table_ends_it() {
    let proxy = Proxy::start(&[]);
    let v1 = Backend::named("v1");
    let a1 = [v1.address];
    proxy.apply(shop("v1", &[("v1", &a1)]));
    let mut client = proxy.client();
    assert_eq!(client.get("/").unwrap().text(), "v1");
    assert!(proxy.drain(&["v1-0"], Duration::from_secs(5)).is_empty());
    let refused = client.get("/").unwrap();
    assert_eq!(refused.status(), 503);
    assert!(refused.text().contains("shop"), "{}", refused.text());
    proxy.apply(shop("v1", &[("v1", &a1)]));
    assert_eq!(client.get("/").unwrap().text(), "v1");
}

#[test]
fn while_one_target_drains_the_other_gets_all_requests() {
    let proxy = Proxy::start(&[]);
    let (one, two) = (Backend::named("one"), Backend::named("two"));
    let addresses = [one.address, two.address];
    proxy.apply(shop("v1", &[("v1", &addresses)]));
    let mut client = proxy.client();
    (0..10).for_each(|_| assert_eq!(client.get("/").unwrap().status(), 200));
    assert!(one.requests() >= 4 && two.requests() >= 4, "no balance");
    assert!(proxy.drain(&["v1-0"], Duration::from_secs(5)).is_empty());
    for _ in 0..10 {
        assert_eq!(client.get("/").unwrap().text(), "two");
    }
}

#[test]
fn a_drain_closes_our_idle_connections_to_the_target() {
    let proxy = Proxy::start(&[]);
    let (ended, end) = mpsc::channel();
    let v1 = Backend::raw(move |_, mut client| {
        client.read().unwrap();
        client.send(&ok("v1"));
        ended.send(client.is_ended()).unwrap();
    });
    let a1 = [v1.address];
    proxy.apply(shop("v1", &[("v1", &a1)]));
    let mut client = proxy.client();
    assert_eq!(client.get("/").unwrap().text(), "v1");
    let began = Instant::now();
    assert!(proxy.drain(&["v1-0"], Duration::from_secs(15)).is_empty());
    assert!(end.recv_timeout(Duration::from_secs(15)).unwrap());
    // Sooner than the age bound of idle connections would have closed it.
    assert!(began.elapsed() < Duration::from_secs(3));
}

#[test]
fn unknown_targets_hold_nothing() {
    let proxy = Proxy::start(&[]);
    assert!(proxy.drain(&["v9-0"], Duration::from_secs(15)).is_empty());
}
