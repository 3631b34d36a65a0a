//! Many clients that want nothing but the proxy's memory and descriptors.

use std::io::{ErrorKind, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::sync::Mutex;
use std::thread;
use std::time::Duration;

use cutover_wire::table::{Connections, Park};

use super::level::{Bounds, Level, bears, bears_once, raise_descriptors};
use super::secure::{connect, secure};
use super::{counted, hasty, large, put};
use crate::common::{Backend, Client, Proxy, shop, until};
use crate::secure::trusting;

const KB: u64 = 1024;

/// Clients that each begin with the same bytes.
fn begin(address: SocketAddr, count: usize, bytes: &[u8]) -> Vec<TcpStream> {
    let made = (0..count).map(|_| {
        let mut stream = TcpStream::connect(address).unwrap();
        stream.write_all(bytes).unwrap();
        stream.set_nonblocking(true).unwrap();
        stream
    });
    made.collect()
}

/// Sends a byte on each connection now and then, until the proxy has ended all.
fn dribble(mut held: Vec<TcpStream>) {
    until("every slow client was cut", || {
        thread::sleep(Duration::from_millis(50));
        held.retain_mut(|stream| {
            let _ = stream.write(b"x");
            let mut bytes = [0; 1024];
            loop {
                match stream.read(&mut bytes) {
                    Ok(0) => return false,
                    Ok(_) => {}
                    Err(error) => return error.kind() == ErrorKind::WouldBlock,
                }
            }
        });
        held.is_empty()
    });
}

/// Whether somebody who means well is served now.
fn serves(proxy: &Proxy) {
    assert_eq!(proxy.client().get("/").unwrap().status(), 200);
}

#[test]
fn slow_heads_cost_their_bytes_and_are_cut() {
    // Idle connections to this target last some seconds. Sooner, the allocator has not
    // given back what the round before took in other sizes.
    let (proxy, backend) = (Proxy::start(&[]), Backend::named("served"));
    let bound = Connections {
        head_ms: Some(2_500),
        ..Connections::default()
    };
    put(&proxy, backend.address, bound);
    // The longest head, in one line that does not end: the library has it in a buffer
    // of up to 64 KB, which grows by doubling, and the scanner in one of up to 32 KB.
    let bounds = Bounds {
        clients: 300,
        each: 128 * KB,
    };
    let head = format!("GET / HTTP/1.1\r\nHost: a\r\nA: {}", "x".repeat(14 * 1024));
    let attack = || {
        let held = begin(proxy.address, bounds.clients, head.as_bytes());
        serves(&proxy);
        held
    };
    bears(&proxy, "slow heads", bounds, attack, dribble);
}

#[test]
fn slow_bodies_cost_their_bytes_and_are_cut() {
    let proxy = Proxy::start(&["--min-rate", "1000", "--patience", "1s"]);
    let backend = hasty();
    put(&proxy, backend.address, Connections::default());
    // A short body is read whole, at most 16 KB of it; a long one has a target, and
    // with that two connections.
    let bounds = Bounds {
        clients: 300,
        each: 128 * KB,
    };
    let body = |length: usize| {
        let head = format!("POST / HTTP/1.1\r\nHost: a\r\nContent-Length: {length}\r\n\r\n");
        head + &"x".repeat(15 * 1024)
    };
    let attack = || {
        let mut held = begin(proxy.address, 200, body(16 * 1024).as_bytes());
        held.extend(begin(proxy.address, 100, body(1024 * 1024).as_bytes()));
        serves(&proxy);
        held
    };
    bears(&proxy, "slow bodies", bounds, attack, dribble);
    let told = proxy.statistics("v1");
    assert_eq!(told.failed, 0, "a slow client is no fault of the target");
}

#[test]
fn slow_readers_cost_the_buffers_between_them_and_the_target_and_are_cut() {
    let proxy = Proxy::start(&["--min-rate", "1000", "--patience", "1s"]);
    let backend = large(16 * 1024 * 1024);
    put(&proxy, backend.address, Connections::default());
    let start = Level::at_rest(&proxy).descriptors;
    // 64 KB each: what the target sent, the piece that is passed on, and what waits for
    // the client; besides, the buffers of two idle connections.
    let bounds = Bounds {
        clients: 200,
        each: 256 * KB,
    };
    let attack = || {
        let held = begin(
            proxy.address,
            bounds.clients,
            b"GET /large HTTP/1.1\r\nHost: a\r\n\r\n",
        );
        // As long as it takes to fill what can be filled.
        thread::sleep(Duration::from_millis(800));
        serves(&proxy);
        held
    };
    let gone = |held: Vec<TcpStream>| {
        until("every slow reader was cut", || {
            Level::of(&proxy).descriptors == start
        });
        drop(held);
    };
    bears(&proxy, "slow readers", bounds, attack, gone);
}

#[test]
fn ten_thousand_idle_connections_cost_little_and_leave_nothing() {
    raise_descriptors();
    let proxy = Proxy::start(&["--idle-timeout", "10m"]);
    let backend = hasty();
    put(&proxy, backend.address, Connections::default());
    // What the project allows; it is 2 to 4 KB in fact, see what is printed. Fewer are all
    // there before the first of them gives its buffers back.
    let few = Bounds {
        clients: 2_000,
        each: 32 * KB,
    };
    let many = Bounds {
        clients: 10_000,
        each: 16 * KB,
    };
    let attack = |clients: usize| {
        let held = Mutex::new(Vec::new());
        thread::scope(|scope| {
            for _ in 0..4 {
                scope.spawn(|| {
                    for _ in 0..clients / 4 {
                        let mut client = proxy.client();
                        assert_eq!(client.get("/").unwrap().status(), 200);
                        held.lock().unwrap().push(client.stream);
                    }
                });
            }
        });
        assert_eq!(counted(&proxy).connections_open, clients as u64);
        held.into_inner().unwrap()
    };
    let gone = |held: Vec<TcpStream>| {
        // They are idle and not dead.
        for stream in held.into_iter().step_by(100) {
            assert_eq!(Client::new(stream).get("/").unwrap().status(), 200);
        }
    };
    bears(&proxy, "idle", few, || attack(few.clients), gone);
    bears_once(&proxy, "idle", many, || attack(many.clients), gone);
}

#[test]
fn idle_connections_over_tls_cost_what_their_keys_need() {
    // As above, for the allocator.
    let backend = Backend::named("served");
    let (proxy, door) = secure(&backend, &["--idle-timeout", "10m"]);
    let config = trusting(&[]);
    let bounds = Bounds {
        clients: 400,
        each: 32 * KB,
    };
    let attack = || {
        let held = Mutex::new(Vec::new());
        thread::scope(|scope| {
            for _ in 0..2 {
                scope.spawn(|| {
                    for _ in 0..bounds.clients / 2 {
                        let stream = connect(door, &config);
                        held.lock().unwrap().push(stream);
                    }
                });
            }
        });
        held.into_inner().unwrap()
    };
    bears(&proxy, "idle over TLS", bounds, attack, drop);
}

#[test]
fn two_thousand_parked_clients_that_leave_free_their_places() {
    let (proxy, backend) = (Proxy::start(&[]), hasty());
    let apps = || shop("v1", &[("v1", &[backend.address])]);
    let mut parked = apps();
    parked.get_mut("shop").unwrap().park = Some(Park {
        max_requests: 2_000,
        max_bytes: 64 * 1024 * 1024,
        max_age_ms: 60_000,
    });
    proxy.apply(parked);
    let waiting = || {
        counted(&proxy)
            .parks
            .get("shop")
            .map_or(0, |park| park.waiting)
    };
    // The head and the task that waits; the body, were there one, is counted apart.
    let bounds = Bounds {
        clients: 2_000,
        each: 48 * KB,
    };
    let attack = || {
        let held = begin(
            proxy.address,
            bounds.clients,
            b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\n\r\nhello",
        );
        until("all of them wait", || waiting() == 2_000);
        // The lot is full, and who comes now is told so.
        assert_eq!(proxy.client().get("/").unwrap().status(), 503);
        held
    };
    let gone = |held: Vec<TcpStream>| {
        drop(held);
        until("their places are free", || waiting() == 0);
    };
    bears(&proxy, "parked", bounds, attack, gone);
    proxy.apply(apps());
    serves(&proxy);
    assert_eq!(backend.requests(), 1, "who left is not served");
}
