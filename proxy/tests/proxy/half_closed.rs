//! A client that ends its side and listens on, which looks like one that has left.

use std::io::{Read as _, Write as _};
use std::net::Shutdown;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering::SeqCst};
use std::thread;
use std::time::{Duration, Instant};

use crate::common::{Backend, Proxy, ok, shop, until};

#[test]
fn a_client_that_ends_its_side_gets_its_answer_all_the_same() {
    let proxy = Proxy::start(&[]);
    let backend = Backend::answering(|asked| {
        if asked.line.contains("/later") {
            thread::sleep(Duration::from_millis(300));
        }
        let long = "x".repeat(3 * 1024 * 1024);
        ok(if asked.line.contains("/long") {
            &long
        } else {
            &asked.line
        })
    });
    let addresses = [backend.address];
    proxy.apply(shop("v1", &[("v1", &addresses)]));
    let check = |path: &str, fields: &str, body: &str, length: usize| {
        let mut client = proxy.client();
        let method = if body.is_empty() { "GET" } else { "POST" };
        client.send(&format!(
            "{method} {path} HTTP/1.1\r\nHost: a\r\n{fields}\r\n{body}"
        ));
        client.stream.shutdown(Shutdown::Write).unwrap();
        let answer = client.read().unwrap();
        assert_eq!(
            (answer.status(), answer.body.len()),
            (200, length),
            "{path}"
        );
        assert!(client.is_ended(), "{path}");
    };
    for fields in ["", "Connection: close\r\n"] {
        check("/", fields, "", 14);
        check("/later", fields, "", 19);
        check("/long", fields, "", 3 * 1024 * 1024);
        let framed = format!("{fields}Content-Length: 5\r\n");
        check("/short", &framed, "order", 20);
        let framed = format!("{fields}Transfer-Encoding: chunked\r\n");
        check("/chunks", &framed, "5\r\norder\r\n0\r\n\r\n", 21);
    }
    // Two requests in one go, and the end behind them.
    let mut client = proxy.client();
    let asked = "GET /1 HTTP/1.1\r\nHost: a\r\n\r\nGET /later HTTP/1.1\r\nHost: a\r\n\r\n";
    client.send(asked);
    client.stream.shutdown(Shutdown::Write).unwrap();
    for line in ["GET /1 HTTP/1.1", "GET /later HTTP/1.1"] {
        assert_eq!(client.read().unwrap().text(), line);
    }
    assert!(client.is_ended());
    // An end in the middle of a request is no end of it.
    for part in [
        "GET / HTTP/1.1\r\nHo",
        "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\n\r\nord",
    ] {
        let mut client = proxy.client();
        client.send(part);
        client.stream.shutdown(Shutdown::Write).unwrap();
        assert!(client.is_ended(), "{part}");
    }
    assert_eq!(proxy.statistics("v1").succeeded, 12);
}

#[test]
fn one_that_takes_nothing_is_given_up_in_time_and_one_that_does_is_not() {
    let ended = Arc::new(AtomicUsize::new(0));
    let count = Arc::clone(&ended);
    // A stream whose events stop for those who ask for silence.
    let backend = Backend::raw(move |_, mut client| {
        let asked = client.read().unwrap();
        client.send("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nevent\r\n");
        let silent = asked.line.contains("/silent");
        while silent || client.stream.write_all(b"5\r\nevent\r\n").is_ok() {
            let pause = Duration::from_millis(200);
            client.stream.set_read_timeout(Some(pause)).unwrap();
            if client.stream.read(&mut [0]).is_ok() {
                break;
            }
        }
        count.fetch_add(1, SeqCst);
    });
    let proxy = Proxy::start(&[]);
    proxy.apply(shop("v1", &[("v1", &[backend.address])]));
    let ask = |path: &str| {
        let mut client = proxy.client();
        client.send(&format!("GET {path} HTTP/1.1\r\nHost: a\r\n\r\n"));
        client.stream.shutdown(Shutdown::Write).unwrap();
        assert_eq!(client.head().unwrap().status(), 200);
        assert_eq!(client.chunk().unwrap(), b"event");
        client
    };
    let (mut silent, mut moving) = (ask("/silent"), ask("/moving"));
    let began = Instant::now();
    until("the silent one is given up", || {
        proxy.statistics("v1").abandoned == 1
    });
    let took = began.elapsed();
    assert!(took >= Duration::from_millis(4_900), "{took:?}");
    assert!(silent.is_ended());
    until("its target sees it", || ended.load(SeqCst) == 1);
    let moved = Instant::now();
    while moved.elapsed() < Duration::from_secs(1) {
        assert_eq!(moving.chunk().unwrap(), b"event");
    }
    drop(moving);
    until("one that left is seen by what it is sent", || {
        ended.load(SeqCst) == 2
    });
    assert_eq!(proxy.statistics("v1").requests_open, 0);
}
