//! What is sent again, and what never is.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering::SeqCst};
use std::thread;
use std::time::{Duration, Instant};

use crate::common::{Backend, Client, Proxy, nobody, ok, reset, shop, shop_with, until};
use cutover_wire::table::Limits;

#[test]
fn a_refused_connection_tries_the_other_target_with_any_method() {
    let proxy = Proxy::start(&[]);
    let alive = Backend::named("alive");
    let addresses = [nobody(), alive.address];
    proxy.apply(shop("v1", &[("v1", &addresses)]));
    for _ in 0..20 {
        let mut client = proxy.client();
        assert_eq!(client.get("/").unwrap().text(), "alive");
        assert_eq!(client.post("/", "order").unwrap().text(), "alive");
    }
    let told = proxy.statistics("v1");
    assert_eq!((told.succeeded, told.failed), (40, 0));
    // After three failures the dead target is passed over, in each worker's eyes.
    assert!((1..=12).contains(&told.retries), "{}", told.retries);
}

#[test]
fn the_last_target_is_never_passed_over() {
    let proxy = Proxy::start(&[]);
    let address = nobody();
    let addresses = [address];
    proxy.apply(shop("v1", &[("v1", &addresses)]));
    let mut client = proxy.client();
    for _ in 0..4 {
        assert_eq!(client.get("/").unwrap().status(), 502);
    }
    let told = proxy.statistics("v1");
    assert_eq!((told.failed, told.latency.count()), (4, 0));
    // Somebody comes to listen there: the next request reaches it.
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let addresses = [listener.local_addr().unwrap()];
    thread::spawn(move || {
        let mut client = Client::new(listener.accept().unwrap().0);
        client.read().unwrap();
        client.send(&ok("back"));
    });
    proxy.apply(shop("v1", &[("v1", &addresses)]));
    assert_eq!(client.get("/").unwrap().text(), "back");
}

/// A target that answers the first request of its first connection and then ends
/// that connection when the second has come, without a byte.
fn dying(how: fn(&Client)) -> (Backend, Arc<AtomicUsize>) {
    let deaths = Arc::new(AtomicUsize::new(0));
    let count = Arc::clone(&deaths);
    let backend = Backend::raw(move |number, mut client| {
        let mut served = 0;
        while client.read().is_ok() {
            served += 1;
            if number == 0 && served == 2 {
                count.fetch_add(1, SeqCst);
                how(&client);
                return;
            }
            // Its word is what makes a POST use a connection again at once.
            client.send(
                "HTTP/1.1 200 OK\r\nKeep-Alive: timeout=60\r\nContent-Length: 5\r\n\r\nalive",
            );
        }
    });
    (backend, deaths)
}

#[test]
fn a_get_on_a_reused_connection_that_dies_is_sent_once_more() {
    for how in [reset as fn(&Client), |_| {}] {
        let proxy = Proxy::start(&["--workers", "1"]);
        let (backend, deaths) = dying(how);
        let addresses = [backend.address];
        proxy.apply(shop("v1", &[("v1", &addresses)]));
        let mut client = proxy.client();
        assert_eq!(client.get("/1").unwrap().status(), 200);
        assert_eq!(client.get("/2").unwrap().text(), "alive");
        assert_eq!((deaths.load(SeqCst), backend.connections()), (1, 2));
        let told = proxy.statistics("v1");
        assert_eq!((told.succeeded, told.retries, told.failed), (2, 1, 0));
    }
}

#[test]
fn a_post_on_a_reused_connection_that_dies_is_not_sent_again() {
    for how in [reset as fn(&Client), |_| {}] {
        let proxy = Proxy::start(&["--workers", "1"]);
        let (backend, deaths) = dying(how);
        let addresses = [backend.address];
        proxy.apply(shop("v1", &[("v1", &addresses)]));
        let mut client = proxy.client();
        assert_eq!(client.get("/1").unwrap().status(), 200);
        assert_eq!(client.post("/2", "order").unwrap().status(), 502);
        assert_eq!((deaths.load(SeqCst), backend.connections()), (1, 1));
        assert_eq!(client.post("/3", "order").unwrap().text(), "alive");
        let told = proxy.statistics("v1");
        assert_eq!((told.succeeded, told.retries, told.failed), (2, 0, 1));
    }
}

#[test]
fn a_request_that_a_target_takes_and_dies_with_is_sent_once_more_if_that_does_no_harm() {
    let proxy = Proxy::start(&["--workers", "1"]);
    let backend = Backend::raw(|number, mut client| {
        while client.read().is_ok() && number > 0 {
            client.send(&ok("alive"));
        }
    });
    let addresses = [backend.address];
    proxy.apply(shop("v1", &[("v1", &addresses)]));
    let mut client = proxy.client();
    assert_eq!(client.get("/").unwrap().text(), "alive");
    let told = proxy.statistics("v1");
    assert_eq!((told.succeeded, told.retries, told.failed), (1, 1, 0));

    let backend = Backend::raw(|_, mut client| {
        let _ = client.read();
    });
    let addresses = [backend.address];
    proxy.apply(shop("v2", &[("v2", &addresses)]));
    assert_eq!(client.post("/", "order").unwrap().status(), 502);
    assert_eq!(backend.connections(), 1);
    assert_eq!(client.get("/").unwrap().status(), 502);
    assert_eq!(backend.connections(), 3);

    // With another target beside it, nobody who may be sent there is lost.
    let alive = Backend::named("alive");
    let addresses = [backend.address, alive.address];
    proxy.apply(shop("v3", &[("v3", &addresses)]));
    for _ in 0..10 {
        assert_eq!(proxy.client().get("/").unwrap().text(), "alive");
    }
}

#[test]
fn a_put_is_sent_once_more_with_its_whole_body_or_not_at_all() {
    // Short bodies are kept; a long one of unknown length is gone.
    let long = format!("5000\r\n{}\r\n0\r\n\r\n", "x".repeat(0x5000));
    for (framing, body, again) in [
        ("Content-Length: 5", "order", true),
        ("Transfer-Encoding: chunked", &*long, false),
    ] {
        let proxy = Proxy::start(&["--workers", "1"]);
        let backend = Backend::raw(|number, mut client| {
            let mut served = 0;
            while let Ok(asked) = client.read() {
                served += 1;
                if number == 0 && served == 2 {
                    return;
                }
                // It says that it keeps connections, so that one is used again.
                let body = asked.text();
                let length = body.len();
                client.send(&format!(
                    "HTTP/1.1 200 OK\r\nKeep-Alive: timeout=60\r\nContent-Length: {length}\r\n\r\n{body}"
                ));
            }
        });
        let addresses = [backend.address];
        proxy.apply(shop("v1", &[("v1", &addresses)]));
        let mut client = proxy.client();
        assert_eq!(client.get("/").unwrap().status(), 200);
        client.send(&format!(
            "PUT / HTTP/1.1\r\nHost: a\r\n{framing}\r\n\r\n{body}"
        ));
        let answer = client.read().unwrap();
        if again {
            assert_eq!((answer.status(), answer.text().as_str()), (200, "order"));
        } else {
            assert_eq!(answer.status(), 502);
        }
        assert_eq!(
            backend.connections(),
            if again { 2 } else { 1 },
            "{framing}"
        );
    }
}

#[test]
fn a_post_is_not_put_on_a_connection_that_the_target_has_closed() {
    let proxy = Proxy::start(&["--workers", "1"]);
    // Closes each connection right after its first answer, without saying so.
    let backend = Backend::raw(|_, mut client| {
        if client.read().is_ok() {
            client.send(&ok("once"));
        }
    });
    let addresses = [backend.address];
    proxy.apply(shop("v1", &[("v1", &addresses)]));
    let mut client = proxy.client();
    for round in 1..=100 {
        assert_eq!(client.post("/", "order").unwrap().status(), 200);
        assert_eq!(backend.connections(), round);
        // Its end is on the way; a real race is a matter of prevention, not of proof.
        thread::sleep(Duration::from_millis(1));
    }
    assert_eq!(proxy.statistics("v1").failed, 0);
}

#[test]
fn no_request_waits_on_a_connection_that_ended_while_it_was_idle() {
    let proxy = Proxy::start(&["--workers", "1"]);
    // Closes each connection a moment after its first answer, without saying so.
    let backend = Backend::raw(|_, mut client| {
        if client.read().is_ok() {
            client.send(&ok("once"));
        }
    });
    let addresses = [backend.address];
    let limits = Limits {
        response_ms: 2_000,
        ..Limits::default()
    };
    proxy.apply(shop_with("v1", &[("v1", &addresses)], limits));
    let mut client = proxy.client();
    for _ in 0..100 {
        assert_eq!(client.get("/").unwrap().text(), "once");
        // Now early and now late for the end that is on its way.
        thread::sleep(Duration::from_micros(500));
    }
    assert_eq!(proxy.statistics("v1").failed, 0);
}

#[test]
fn a_post_goes_on_a_kept_connection_only_when_the_target_is_known_to_keep_it() {
    let check = |fields: &'static str, connections: usize| {
        let proxy = Proxy::start(&["--workers", "1"]);
        let backend = Backend::answering(move |_| {
            format!("HTTP/1.1 200 OK\r\n{fields}Content-Length: 2\r\n\r\nok")
        });
        let addresses = [backend.address];
        proxy.apply(shop("v1", &[("v1", &addresses)]));
        let mut client = proxy.client();
        for _ in 0..3 {
            assert_eq!(client.post("/", "order").unwrap().status(), 200);
        }
        assert_eq!(backend.connections(), connections, "{fields:?}");
    };
    // Nobody has seen yet how long it keeps one.
    check("", 3);
    // It says so.
    check("Keep-Alive: timeout=60\r\n", 1);
    // So short that the end may be on the way.
    check("Keep-Alive: timeout=0\r\n", 3);
}

#[test]
fn nothing_is_sent_again_after_a_byte_of_an_answer() {
    let proxy = Proxy::start(&["--workers", "1"]);
    let backend = Backend::raw(|_, mut client| {
        client.read().unwrap();
        client.send(&ok("first"));
        client.read().unwrap();
        client.send("HTTP/1.1 200 OK\r\nConte");
    });
    let addresses = [backend.address];
    proxy.apply(shop("v1", &[("v1", &addresses)]));
    let mut client = proxy.client();
    assert_eq!(client.get("/").unwrap().text(), "first");
    assert_eq!(client.get("/").unwrap().status(), 502);
    assert_eq!(backend.connections(), 1);
}

#[test]
fn an_answer_that_breaks_off_is_seen_as_broken() {
    let broken = [
        "HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nhalf",
        "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n4\r\nhalf\r\n",
    ];
    for text in broken {
        let proxy = Proxy::start(&[]);
        let backend = Backend::raw(move |_, mut client| {
            client.read().unwrap();
            client.send(text);
        });
        let addresses = [backend.address];
        proxy.apply(shop("v1", &[("v1", &addresses)]));
        assert!(proxy.client().get("/").is_err(), "{text}");
        until("it is counted", || proxy.statistics("v1").failed == 1);
        // To a client of HTTP/1.0 a plain end of the connection would be the whole answer.
        let mut client = proxy.client();
        client.send("GET / HTTP/1.0\r\n\r\n");
        let told = client.read();
        assert!(told.is_err(), "{text}: {told:?}");
    }
}

#[test]
fn a_target_that_does_not_answer_in_time_is_504() {
    let proxy = Proxy::start(&[]);
    let backend = Backend::raw(|_, mut client| {
        client.read().unwrap();
        client.is_ended();
    });
    let addresses = [backend.address];
    let limits = Limits {
        response_ms: 150,
        ..Limits::default()
    };
    proxy.apply(shop_with("v1", &[("v1", &addresses)], limits));
    let mut client = proxy.client();
    let began = Instant::now();
    assert_eq!(client.get("/").unwrap().status(), 504);
    let took = began.elapsed();
    assert!(took >= Duration::from_millis(100) && took < Duration::from_secs(3));
    // The client's connection goes on; nothing was sent twice.
    assert_eq!(client.post("/", "order").unwrap().status(), 504);
    assert_eq!(
        (backend.connections(), proxy.statistics("v1").failed),
        (2, 2)
    );
}

#[test]
fn a_client_that_leaves_is_counted_as_abandoned_and_frees_the_target() {
    let proxy = Proxy::start(&[]);
    let ended = Arc::new(AtomicUsize::new(0));
    let count = Arc::clone(&ended);
    let backend = Backend::raw(move |_, mut client| {
        client.read().unwrap();
        client.is_ended();
        count.fetch_add(1, SeqCst);
    });
    let addresses = [backend.address];
    proxy.apply(shop("v1", &[("v1", &addresses)]));
    let mut client = proxy.client();
    client.send("GET / HTTP/1.1\r\nHost: a\r\n\r\n");
    until("the target has it", || backend.connections() == 1);
    drop(client);
    until("it is counted", || proxy.statistics("v1").abandoned == 1);
    until("the target sees it", || ended.load(SeqCst) == 1);
    let told = proxy.statistics("v1");
    assert_eq!((told.requests_open, told.finished()), (0, 0));
}
