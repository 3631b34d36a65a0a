//! Bodies, streams and tunnels pass as they come.

use std::io::{Read, Write};
use std::sync::mpsc;
use std::thread;
use std::time::Duration;

use crate::common::{Backend, Client, Proxy, ok, shop, shop_with, until};
use cutover_wire::table::Limits;

const UPGRADE: &str = "GET /ws HTTP/1.1\r\nHost: a\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\
                       Sec-WebSocket-Key: x\r\nSec-WebSocket-Version: 13\r\n\r\n";

/// A target that switches protocols and echoes, with its name in front.
fn echo(name: &'static str) -> Backend {
    Backend::raw(move |_, mut client| {
        let asked = client.read().unwrap();
        assert_eq!(asked.field("upgrade"), Some("websocket"), "{asked:?}");
        assert_eq!(asked.field("sec-websocket-key"), Some("x"));
        client.send(&format!(
            "HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\n\
             Upgrade: websocket\r\nSec-WebSocket-Accept: y\r\n\r\n{name}:"
        ));
        let early = std::mem::take(&mut client.buffer);
        client.stream.write_all(&early).unwrap();
        let mut bytes = [0; 1024];
        while let Ok(count @ 1..) = client.stream.read(&mut bytes) {
            client.stream.write_all(&bytes[..count]).unwrap();
        }
    })
}

#[test]
fn a_websocket_stays_with_its_target_through_a_switch() {
    let proxy = Proxy::start(&[]);
    let (v1, v2) = (echo("v1"), Backend::named("v2"));
    let (a1, a2) = ([v1.address], [v2.address]);
    proxy.apply(shop("v1", &[("v1", &a1)]));
    let mut client = proxy.client();
    // Sent before the answer: must be held, and come out behind it.
    client.send(UPGRADE);
    client.send("early");
    let answer = client.head().unwrap();
    assert_eq!(answer.status(), 101);
    assert_eq!(answer.field("upgrade"), Some("websocket"));
    assert_eq!(answer.field("sec-websocket-accept"), Some("y"));
    assert_eq!(client.exactly(8).unwrap(), b"v1:early");
    proxy.apply(shop("v2", &[("v1", &a1), ("v2", &a2)]));
    for round in 0..20 {
        let text = format!("message {round:02}");
        client.send(&text);
        assert_eq!(client.exactly(text.len()).unwrap(), text.as_bytes());
    }
    assert_eq!(proxy.client().get("/").unwrap().text(), "v2");
    let left = proxy.drain(&["v1-0"], Duration::from_millis(100));
    assert_eq!((left.requests, left.streams, left.tunnels), (0, 0, 1));
    assert_eq!(proxy.statistics("v1").tunnels_open, 1);
    thread::scope(|scope| {
        let drain = scope.spawn(|| proxy.drain(&["v1-0"], Duration::from_secs(15)));
        drop(client);
        assert!(drain.join().unwrap().is_empty());
    });
    let told = proxy.statistics("v1");
    assert_eq!((told.succeeded, told.tunnels_open), (1, 0));
}

#[test]
fn a_refused_upgrade_is_a_plain_answer_and_the_connection_goes_on() {
    let proxy = Proxy::start(&[]);
    let v1 = Backend::named("plain");
    let a1 = [v1.address];
    proxy.apply(shop("v1", &[("v1", &a1)]));
    let mut client = proxy.client();
    client.send(UPGRADE);
    assert_eq!(client.read().unwrap().text(), "plain");
    assert_eq!(client.get("/").unwrap().text(), "plain");
}

#[test]
fn an_upgrade_to_anything_else_does_not_reach_the_target() {
    let proxy = Proxy::start(&[]);
    let v1 = Backend::named("plain");
    let a1 = [v1.address];
    proxy.apply(shop("v1", &[("v1", &a1)]));
    let mut client = proxy.client();
    client.send(
        "GET / HTTP/1.1\r\nHost: a\r\nConnection: Upgrade, HTTP2-Settings\r\nUpgrade: h2c\r\n\
         HTTP2-Settings: AAMAAABkAAQAAP__\r\n\r\n",
    );
    assert_eq!(client.read().unwrap().text(), "plain");
    let seen = v1.seen.lock().unwrap();
    assert_eq!(seen[0].field("upgrade"), None);
    assert_eq!(seen[0].field("http2-settings"), None);
}

#[test]
fn events_come_one_by_one_and_are_counted_as_a_stream() {
    let proxy = Proxy::start(&[]);
    let (next, events) = mpsc::channel::<&str>();
    let events = std::sync::Mutex::new(events);
    let v1 = Backend::raw(move |_, mut client| {
        client.read().unwrap();
        client.send(
            "HTTP/1.1 200 OK\r\nContent-Type: text/event-stream; charset=utf-8\r\n\
             Transfer-Encoding: chunked\r\n\r\n",
        );
        for event in events.lock().unwrap().iter() {
            client.send(&format!("{:x}\r\n{event}\r\n", event.len()));
        }
        client.send("0\r\n\r\n");
        client.is_ended();
    });
    let a1 = [v1.address];
    proxy.apply(shop("v1", &[("v1", &a1)]));
    let mut client = proxy.client();
    client.send("GET / HTTP/1.1\r\nHost: a\r\n\r\n");
    let head = client.head().unwrap();
    assert_eq!(head.field("transfer-encoding"), Some("chunked"));
    for event in ["data: 1\n\n", "data: 2\n\n", "data: 3\n\n"] {
        // Each is seen before the next one is made: nothing holds them back.
        next.send(event).unwrap();
        assert_eq!(client.chunk().unwrap(), event.as_bytes());
    }
    let told = proxy.statistics("v1");
    assert_eq!((told.requests_open, told.streams_open), (0, 1));
    let left = proxy.drain(&["v1-0"], Duration::from_millis(100));
    assert_eq!((left.requests, left.streams, left.tunnels), (0, 1, 0));
    drop(next);
    assert_eq!(client.chunk().unwrap(), b"");
    until("the stream is counted out", || {
        let told = proxy.statistics("v1");
        told.succeeded == 1 && told.streams_open == 0
    });
}

#[test]
fn a_chunked_upload_reaches_the_target_piece_by_piece() {
    let proxy = Proxy::start(&[]);
    let (came, pieces) = mpsc::channel();
    let v1 = Backend::raw(move |_, mut client| {
        let head = client.head().unwrap();
        assert_eq!(head.field("transfer-encoding"), Some("chunked"));
        assert_eq!(head.field("expect"), None);
        loop {
            let piece = client.chunk().unwrap();
            let last = piece.is_empty();
            came.send(piece).unwrap();
            if last {
                break;
            }
        }
        client.send(&ok("stored"));
        client.is_ended();
    });
    let a1 = [v1.address];
    proxy.apply(shop("v1", &[("v1", &a1)]));
    let mut client = proxy.client();
    client.send(
        "PUT /big HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\
         Expect: 100-continue\r\n\r\n",
    );
    assert_eq!(client.head().unwrap().status(), 100);
    for piece in ["one", "two", "three"] {
        client.send(&format!("{:x}\r\n{piece}\r\n", piece.len()));
        assert_eq!(
            pieces.recv_timeout(Duration::from_secs(15)).unwrap(),
            piece.as_bytes()
        );
    }
    client.send("0\r\n\r\n");
    assert_eq!(client.read().unwrap().text(), "stored");
}

#[test]
fn a_large_answer_waits_for_a_slow_client() {
    const SIZE: usize = 64 * 1024 * 1024;
    let proxy = Proxy::start(&[]);
    let (sent, progress) = mpsc::channel();
    let v1 = Backend::raw(move |_, mut client| {
        client.read().unwrap();
        client.send(&format!(
            "HTTP/1.1 200 OK\r\nContent-Length: {SIZE}\r\n\r\n"
        ));
        let piece = vec![b'x'; 64 * 1024];
        for _ in 0..SIZE / piece.len() {
            client.stream.write_all(&piece).unwrap();
            let _ = sent.send(piece.len());
        }
        client.is_ended();
    });
    let a1 = [v1.address];
    proxy.apply(shop("v1", &[("v1", &a1)]));
    let mut client = proxy.client();
    client.send("GET / HTTP/1.1\r\nHost: a\r\n\r\n");
    client.head().unwrap();
    // The target stops sending long before the end: only socket buffers are filled.
    let mut taken = 0;
    while let Ok(count) = progress.recv_timeout(Duration::from_millis(300)) {
        taken += count;
    }
    assert!(taken < SIZE / 2, "{taken} bytes were taken from the target");
    assert_eq!(client.exactly(SIZE).unwrap().len(), SIZE);
}

#[test]
fn an_answer_to_head_and_one_without_body_keep_their_form() {
    let proxy = Proxy::start(&[]);
    let v1 = Backend::answering(|asked| match asked.line.split(' ').next() {
        Some("HEAD") => "HTTP/1.1 200 OK\r\nContent-Length: 1234\r\nETag: x\r\n\r\n".to_owned(),
        _ => "HTTP/1.1 304 Not Modified\r\nETag: x\r\n\r\n".to_owned(),
    });
    let a1 = [v1.address];
    proxy.apply(shop("v1", &[("v1", &a1)]));
    let mut client = proxy.client();
    for _ in 0..2 {
        client.send("HEAD / HTTP/1.1\r\nHost: a\r\n\r\n");
        let head = client.head().unwrap();
        assert_eq!(
            (head.status(), head.field("content-length")),
            (200, Some("1234"))
        );
        let unchanged = client.get("/").unwrap();
        assert_eq!(
            (unchanged.status(), unchanged.field("etag")),
            (304, Some("x"))
        );
    }
    assert_eq!((proxy.statistics("v1").succeeded, v1.connections()), (4, 1));
}

#[test]
fn an_answer_that_ends_with_its_connection_is_made_whole() {
    let proxy = Proxy::start(&[]);
    let v1 = Backend::raw(|_, mut client| {
        client.read().unwrap();
        client.send("HTTP/1.1 200 OK\r\n\r\nall of it");
    });
    let a1 = [v1.address];
    proxy.apply(shop("v1", &[("v1", &a1)]));
    let mut client = proxy.client();
    assert_eq!(client.get("/").unwrap().text(), "all of it");
    // The client's own connection goes on.
    assert_eq!(client.get("/").unwrap().text(), "all of it");
}

#[test]
fn a_body_that_stands_still_is_cut_and_a_moving_one_is_not() {
    let proxy = Proxy::start(&[]);
    let v1 = Backend::raw(|_, mut client| {
        client.read().unwrap();
        client.send("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n");
        for _ in 0..8 {
            client.send("1\r\nx\r\n");
            thread::sleep(Duration::from_millis(100));
        }
        client.is_ended();
    });
    let a1 = [v1.address];
    let limits = Limits {
        idle_ms: 400,
        ..Limits::default()
    };
    proxy.apply(shop_with("v1", &[("v1", &a1)], limits));
    let mut client: Client = proxy.client();
    client.send("GET / HTTP/1.1\r\nHost: a\r\n\r\n");
    client.head().unwrap();
    for _ in 0..8 {
        assert_eq!(client.chunk().unwrap(), b"x");
    }
    assert!(client.chunk().is_err());
}
