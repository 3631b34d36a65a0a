//! What a client may take of the proxy, by its number, its slowness or its silence.

mod attacks;
mod haste;
mod level;
mod secure;

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::time::{Duration, Instant};

use cutover_wire::proxy::{Reply, Request};
use cutover_wire::statistics::ProxyStatistics;
use cutover_wire::table::{Connections, Limits};
use socket2::{Domain, Socket, Type};

use crate::common::{Backend, Client, Proxy, ok, shop, shop_with, until};

/// How much sooner than told something may be cut: by the step of the coarse clock.
const STEP: Duration = Duration::from_millis(50);

/// Whether something took as long as it may, however busy the machine is.
fn fits(took: Duration, allowed_ms: u64) -> bool {
    let allowed = Duration::from_millis(allowed_ms);
    took + STEP >= allowed && took < allowed + Duration::from_millis(1_500)
}

/// Puts the app of one target in force, with these bounds of connections.
fn put(proxy: &Proxy, target: SocketAddr, connections: Connections) {
    proxy.change(|table| {
        table.apps = shop("v1", &[("v1", &[target])]);
        table.connections = connections;
    });
}

/// What is counted of the process.
fn counted(proxy: &Proxy) -> ProxyStatistics {
    match proxy.call(Request::Statistics) {
        Reply::Statistics(statistics) => statistics.proxy,
        other => panic!("{other:?}"),
    }
}

/// A connection from an address of the loopback's network.
fn from(address: [u8; 4], to: SocketAddr) -> Client {
    let socket = Socket::new(Domain::IPV4, Type::STREAM, None).unwrap();
    let source = SocketAddr::from((address, 0));
    socket.bind(&source.into()).unwrap();
    socket.connect(&to.into()).unwrap();
    Client::new(socket.into())
}

/// A request behind the header of a balancer that speaks for `source`; the status of its
/// answer, none where the connection is closed.
fn introduced(door: SocketAddr, source: &str) -> (Client, Option<u16>) {
    let mut client = Client::connect(door);
    let family = if source.contains(':') { "TCP6" } else { "TCP4" };
    let other = if family == "TCP6" { "::1" } else { "127.0.0.1" };
    let text = format!(
        "PROXY {family} {source} {other} 4000 80\r\nGET / HTTP/1.1\r\nHost: shop.example\r\n\r\n"
    );
    let _ = client.stream.write_all(text.as_bytes());
    let status = client.read().ok().map(|answer| answer.status());
    (client, status)
}

#[test]
fn an_address_with_as_many_connections_as_it_may_is_closed_at_once_and_others_are_served() {
    let (proxy, backend) = (Proxy::start(&[]), Backend::named("served"));
    put(&proxy, backend.address, Connections::default());
    let mut early: Vec<Client> = (0..3)
        .map(|_| from([127, 0, 0, 2], proxy.address))
        .collect();
    early
        .iter_mut()
        .for_each(|client| assert_eq!(client.get("/").unwrap().status(), 200));
    let bound = Connections {
        per_address: Some(3),
        ..Connections::default()
    };
    put(&proxy, backend.address, bound);
    // Those from before the bound are counted, and go on.
    for _ in 0..5 {
        assert!(from([127, 0, 0, 2], proxy.address).is_ended());
    }
    for client in &mut early {
        assert_eq!(client.get("/").unwrap().status(), 200);
    }
    let mut other = from([127, 0, 0, 3], proxy.address);
    assert_eq!(other.get("/").unwrap().status(), 200);
    let told = counted(&proxy);
    assert_eq!(told.connections_refused, 5);
    assert_eq!((told.connections_accepted, told.connections_open), (4, 4));
    early.pop();
    until("a place is given back", || {
        let mut client = from([127, 0, 0, 2], proxy.address);
        client.get("/").is_ok_and(|answer| answer.status() == 200)
    });
}

#[test]
fn behind_a_balancer_the_clients_it_names_are_counted_and_not_itself() {
    let proxy = Proxy::start(&["--listen", "http+proxy=127.0.0.1:0"]);
    let backend = Backend::named("served");
    let bound = Connections {
        per_address: Some(2),
        ..Connections::default()
    };
    put(&proxy, backend.address, bound);
    let door = proxy.listener(1);
    let check = |source: &str, expected: [Option<u16>; 3]| {
        let told = [(); 3].map(|()| introduced(door, source));
        assert_eq!(told.each_ref().map(|(_, status)| *status), expected);
        told
    };
    let three = [Some(200), Some(200), None];
    let kept = check("192.0.2.1", three);
    let others = check("192.0.2.2", three);
    // One client of IPv6 has 64 bits of addresses for itself.
    let first = introduced(door, "2001:db8::1");
    let second = introduced(door, "2001:db8::2:0:0:2");
    assert_eq!((first.1, second.1), (Some(200), Some(200)));
    assert_eq!(introduced(door, "2001:db8::3").1, None);
    assert_eq!(introduced(door, "2001:db8:0:1::3").1, Some(200));
    assert_eq!(counted(&proxy).connections_refused, 3);
    drop((kept, others));
    until("their places are given back", || {
        introduced(door, "192.0.2.1").1 == Some(200)
    });
}

#[test]
fn who_is_trusted_to_speak_for_clients_has_as_many_connections_as_they() {
    let (proxy, backend) = (Proxy::start(&[]), Backend::named("served"));
    proxy.change(|table| {
        table.apps = shop("v1", &[("v1", &[backend.address])]);
        table.trusted_proxies = vec!["127.0.0.4/32".parse().unwrap()];
        table.connections.per_address = Some(1);
    });
    let mut many: Vec<Client> = (0..4)
        .map(|_| from([127, 0, 0, 4], proxy.address))
        .collect();
    for client in &mut many {
        assert_eq!(client.get("/").unwrap().status(), 200);
    }
    let _one = from([127, 0, 0, 5], proxy.address);
    assert!(from([127, 0, 0, 5], proxy.address).is_ended());
}

#[test]
fn the_table_says_how_long_a_head_may_take_and_the_option_where_it_does_not() {
    let proxy = Proxy::start(&["--head-timeout", "3s"]);
    let backend = Backend::named("served");
    let check = |head_ms: Option<u64>, expected_ms: u64| {
        let bound = Connections {
            head_ms,
            ..Connections::default()
        };
        put(&proxy, backend.address, bound);
        let mut client = proxy.client();
        let began = Instant::now();
        client.send("GET / HTTP/1.1\r\nHost: a\r\n");
        assert!(client.is_ended());
        let took = began.elapsed();
        assert!(fits(took, expected_ms), "{head_ms:?}: {took:?}");
    };
    check(Some(300), 300);
    check(None, 3_000);
    check(Some(900), 900);
}

#[test]
fn a_target_that_takes_no_connection_is_given_up_in_the_time_of_its_route() {
    // One that waits to be accepted fills this queue; the kernel drops what comes then.
    let full = Socket::new(Domain::IPV4, Type::STREAM, None).unwrap();
    full.bind(&SocketAddr::from(([127, 0, 0, 1], 0)).into())
        .unwrap();
    full.listen(0).unwrap();
    let target = full.local_addr().unwrap().as_socket().unwrap();
    let mut waiting = Vec::new();
    while let Ok(stream) = TcpStream::connect_timeout(&target, Duration::from_millis(200)) {
        waiting.push(stream);
    }
    let proxy = Proxy::start(&[]);
    let check = |connect_ms: u64| {
        let limits = Limits {
            connect_ms,
            ..Limits::default()
        };
        proxy.apply(shop_with("v1", &[("v1", &[target])], limits));
        let began = Instant::now();
        assert_eq!(proxy.client().get("/").unwrap().status(), 502);
        let took = began.elapsed();
        assert!(fits(took, connect_ms), "{connect_ms}: {took:?}");
    };
    check(300);
    check(2_000);
}

#[test]
fn a_target_that_does_not_answer_is_given_up_in_the_time_of_its_route() {
    let silent = TcpListener::bind("127.0.0.1:0").unwrap();
    let target = silent.local_addr().unwrap();
    let proxy = Proxy::start(&[]);
    let check = |response_ms: u64| {
        let limits = Limits {
            response_ms,
            ..Limits::default()
        };
        proxy.apply(shop_with("v1", &[("v1", &[target])], limits));
        let began = Instant::now();
        assert_eq!(proxy.client().get("/").unwrap().status(), 504);
        let took = began.elapsed();
        assert!(fits(took, response_ms), "{response_ms}: {took:?}");
    };
    check(300);
    check(2_000);
}

#[test]
fn what_stands_still_is_cut_in_the_time_of_its_route() {
    // The head and half of a body, and then nothing.
    let target = Backend::raw(|_, mut client| {
        client.read().unwrap();
        client.send("HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nhalf!");
        client.is_ended();
    });
    let proxy = Proxy::start(&[]);
    let check = |idle_ms: u64| {
        let limits = Limits {
            idle_ms,
            ..Limits::default()
        };
        proxy.apply(shop_with("v1", &[("v1", &[target.address])], limits));
        let within = |began: Instant, what: &str| {
            let took = began.elapsed();
            assert!(fits(took, idle_ms), "{what} after {took:?} of {idle_ms}");
        };
        let began = Instant::now();
        assert!(proxy.client().get("/").is_err(), "half an answer");
        within(began, "the answer");
        let mut client = proxy.client();
        let began = Instant::now();
        client.send("POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 10\r\n\r\nhalf!");
        assert_eq!(client.read().unwrap().status(), 408);
        within(began, "the upload");
    };
    check(300);
    check(1_900);
}

/// Reads until the connection ends, and tells how much came.
fn drain(stream: &mut impl Read) -> usize {
    let mut bytes = [0; 64 * 1024];
    let mut sum = 0;
    while let Ok(count @ 1..) = stream.read(&mut bytes) {
        sum += count;
    }
    sum
}

/// A short answer of a target to which no connection is kept for longer than a moment,
/// so that what is left are the clients'.
fn brief(body: &str) -> String {
    ok(body).replacen("\r\n", "\r\nKeep-Alive: timeout=0\r\n", 1)
}

/// A target with such answers.
fn hasty() -> Backend {
    Backend::answering(|_| brief("served"))
}

/// A target whose answer to `/` is short, and to `/large` so many bytes.
fn large(length: usize) -> Backend {
    Backend::raw(move |_, mut client| {
        let piece = [b'x'; 64 * 1024];
        while let Ok(asked) = client.read() {
            if !asked.line.starts_with("GET /large ") {
                client.send(&brief("short"));
                continue;
            }
            let head = format!("HTTP/1.1 200 OK\r\nContent-Length: {length}\r\n\r\n");
            if client.stream.write_all(head.as_bytes()).is_err() {
                return;
            }
            let mut left = length;
            while left > 0 {
                let count = left.min(piece.len());
                if client.stream.write_all(&piece[..count]).is_err() {
                    return;
                }
                left -= count;
            }
        }
    })
}
