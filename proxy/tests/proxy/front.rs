//! Who the client is: told by the connection, by a balancer, by proxies that are trusted.

use std::io::Write;
use std::net::TcpStream;

use cutover_wire::proxy::{POOL_HEADER, PROBE_HEADER};

use crate::common::{Backend, Client, Message, Proxy, shop, until};
use crate::given::Given;
use crate::secure::{over, trusting};

const FRONT: [&str; 4] = [
    "--listen",
    "http+proxy=127.0.0.1:0",
    "--listen",
    "https+proxy=127.0.0.1:0",
];

const LINE: &[u8] = b"PROXY TCP4 203.0.113.9 192.0.2.1 5000 80\r\n";

/// What a balancer of version 2 says of a client; command 1 is for one, 0 for itself.
fn binary(command: u8, source: [u8; 4]) -> Vec<u8> {
    let mut header = b"\r\n\r\n\0\r\nQUIT\n".to_vec();
    // IPv4 over TCP, twelve bytes of addresses and a vector of five behind them.
    header.extend([0x20 | command, 0x11, 0, 17]);
    header.extend(source);
    header.extend([192, 0, 2, 1, 0x13, 0x88, 0, 80]);
    header.extend([4, 0, 2, 0, 0]);
    header
}

fn serving() -> (Proxy, Backend) {
    let (proxy, backend) = (Proxy::start(&FRONT), Backend::named("v1"));
    proxy.apply(shop("v1", &[("v1", &[backend.address])]));
    (proxy, backend)
}

/// A connection to the plain listener behind a balancer, begun by these bytes.
fn begun_by(proxy: &Proxy, bytes: &[u8]) -> Client {
    let mut client = Client::connect(proxy.listener(1));
    client.stream.write_all(bytes).unwrap();
    client
}

/// A field of the last request that the target saw.
fn told(backend: &Backend, name: &str) -> Option<String> {
    let seen = backend.seen.lock().unwrap();
    seen.last().unwrap().field(name).map(str::to_owned)
}

#[test]
fn a_balancer_tells_the_address_in_both_versions_and_in_pieces() {
    let (proxy, backend) = serving();
    let check = |header: &[u8], expected: &str| {
        let mut client = begun_by(&proxy, header);
        for _ in 0..2 {
            assert_eq!(client.get("/").unwrap().text(), "v1");
            assert_eq!(told(&backend, "x-forwarded-for").as_deref(), Some(expected));
        }
    };
    check(LINE, "203.0.113.9");
    check(
        b"PROXY TCP6 2001:db8::9 2001:db8::1 5000 80\r\n",
        "2001:db8::9",
    );
    check(&binary(1, [203, 0, 113, 7]), "203.0.113.7");
    // Header and request in one segment, and byte by byte.
    let request = b"GET / HTTP/1.1\r\nHost: shop.example\r\n\r\n";
    let mut client = begun_by(&proxy, &[LINE, &request[..]].concat());
    assert_eq!(client.read().unwrap().text(), "v1");
    let mut client = begun_by(&proxy, b"");
    for byte in binary(1, [203, 0, 113, 8]).iter().chain(request) {
        client.stream.write_all(&[*byte]).unwrap();
    }
    assert_eq!(client.read().unwrap().text(), "v1");
    let address = told(&backend, "x-forwarded-for");
    assert_eq!(address.as_deref(), Some("203.0.113.8"));
}

#[test]
fn tls_is_spoken_behind_the_header_of_a_balancer() {
    let (proxy, backend) = serving();
    let directory = tempfile::tempdir().unwrap();
    let given = Given::of(&["shop.example"]).write(directory.path());
    proxy.change(|table| {
        table.certificates.insert("*".to_owned(), given);
    });
    for header in [LINE.to_vec(), binary(1, [203, 0, 113, 9])] {
        let mut stream = TcpStream::connect(proxy.listener(2)).unwrap();
        stream.write_all(&header).unwrap();
        let mut client = over(stream, &trusting(&[]), "shop.example").unwrap();
        assert_eq!(client.get("/").unwrap().text(), "v1");
        assert_eq!(
            told(&backend, "x-forwarded-for").as_deref(),
            Some("203.0.113.9")
        );
        assert_eq!(
            told(&backend, "x-forwarded-proto").as_deref(),
            Some("https")
        );
    }
    // A header within TLS is none of the balancer's.
    let stream = TcpStream::connect(proxy.listener(2)).unwrap();
    assert!(over(stream, &trusting(&[]), "shop.example").is_err());
}

#[test]
fn a_connection_without_a_sound_header_is_closed_unanswered() {
    let (proxy, backend) = serving();
    let request = "GET / HTTP/1.1\r\nHost: shop.example\r\n\r\n";
    let headers = [
        request.as_bytes().to_vec(),
        format!("PROXY TCP4 203.0.113.9 192.0.2.1 5000\r\n{request}").into_bytes(),
        format!("PROXY TCP4 203.0.113.999 192.0.2.1 5000 80\r\n{request}").into_bytes(),
        format!(
            "PROXY TCP4 203.0.113.9 192.0.2.1 5000 80 {}\r\n",
            "x".repeat(200)
        )
        .into_bytes(),
        format!("proxy TCP4 203.0.113.9 192.0.2.1 5000 80\r\n{request}").into_bytes(),
        [&binary(7, [1, 2, 3, 4]), request.as_bytes()].concat(),
    ];
    for header in headers {
        let mut client = begun_by(&proxy, &header);
        assert!(client.is_ended(), "{}", String::from_utf8_lossy(&header));
    }
    assert_eq!(backend.connections(), 0);
    // Nor is a header believed where none is to come.
    let mut client = proxy.client();
    client.stream.write_all(LINE).unwrap();
    assert!(client.read().map_or(true, |answer| answer.status() == 400));
    assert_eq!(backend.connections(), 0);
}

#[test]
fn a_balancer_that_asks_for_itself_is_served() {
    let (proxy, backend) = serving();
    for header in [binary(0, [0; 4]), b"PROXY UNKNOWN\r\n".to_vec()] {
        let mut client = begun_by(&proxy, &header);
        assert_eq!(client.get("/").unwrap().text(), "v1");
        assert_eq!(
            told(&backend, "x-forwarded-for").as_deref(),
            Some("127.0.0.1")
        );
    }
}

#[test]
fn only_a_program_of_this_host_itself_may_probe() {
    let (proxy, backend) = serving();
    let probe = (PROBE_HEADER, "1");
    let pool = |answer: &Message| answer.field(POOL_HEADER).map(str::to_owned);
    let answer = proxy.client().ask("shop.example", "/", &[probe]);
    assert_eq!(pool(&answer).as_deref(), Some("v1"));
    for header in [
        b"PROXY TCP4 127.0.0.1 127.0.0.1 5000 80\r\n".to_vec(),
        binary(1, [127, 0, 0, 1]),
        binary(0, [0; 4]),
    ] {
        let answer = begun_by(&proxy, &header).ask("shop.example", "/", &[probe]);
        assert_eq!((answer.status(), pool(&answer)), (200, None));
    }
    // A web server of this host passes on what anybody sends, whether it is trusted or not.
    for trusted in ["192.0.2.0/24", "127.0.0.0/8"] {
        proxy.change(|table| table.trusted_proxies = vec![trusted.parse().unwrap()]);
        for field in [
            ("X-Forwarded-For", "203.0.113.9"),
            ("X-Forwarded-For", "127.0.0.1"),
            ("X-Forwarded-For", "unknown"),
            ("Forwarded", "for=203.0.113.9"),
        ] {
            let answer = proxy.client().ask("shop.example", "/", &[probe, field]);
            assert_eq!((answer.status(), pool(&answer)), (200, None), "{field:?}");
        }
    }
    assert_eq!(told(&backend, PROBE_HEADER), None);
    // All but the probe are users, and counted.
    until("they are counted", || {
        proxy.statistics("v1").succeeded == 11
    });
}

#[test]
fn an_address_is_believed_from_trusted_proxies_alone_and_hop_by_hop() {
    let (proxy, backend) = serving();
    let check = |client: &mut Client, chain: &[&str], expected: &str| {
        let fields: Vec<_> = chain
            .iter()
            .map(|value| ("X-Forwarded-For", *value))
            .collect();
        assert_eq!(client.ask("shop.example", "/", &fields).status(), 200);
        let seen = told(&backend, "x-forwarded-for");
        assert_eq!(seen.as_deref(), Some(expected), "{chain:?}");
    };
    let mut plain = proxy.client();
    check(&mut plain, &["203.0.113.9"], "127.0.0.1");
    let trusted = ["127.0.0.0/8", "10.0.0.0/8"];
    proxy.change(|table| table.trusted_proxies = trusted.map(|n| n.parse().unwrap()).to_vec());
    // The table counts from the next request on, also of an open connection.
    check(&mut plain, &["203.0.113.9"], "203.0.113.9, 127.0.0.1");
    check(
        &mut plain,
        &["6.6.6.6, 203.0.113.9, 10.0.0.2"],
        "203.0.113.9, 10.0.0.2, 127.0.0.1",
    );
    check(
        &mut plain,
        &["6.6.6.6", "203.0.113.9,10.0.0.2"],
        "203.0.113.9, 10.0.0.2, 127.0.0.1",
    );
    check(&mut plain, &["6.6.6.6, nonsense"], "127.0.0.1");
    check(&mut plain, &[], "127.0.0.1");
    // Whom a balancer introduces is the peer that may be trusted.
    let mut stranger = begun_by(&proxy, LINE);
    check(&mut stranger, &["6.6.6.6"], "203.0.113.9");
    let mut inner = begun_by(&proxy, &binary(1, [10, 0, 0, 1]));
    check(&mut inner, &["203.0.113.7"], "203.0.113.7, 10.0.0.1");
}

#[test]
fn a_trusted_proxy_tells_host_and_scheme_and_a_stranger_does_not() {
    let (proxy, backend) = serving();
    let claims = [
        ("X-Forwarded-Proto", "https"),
        ("X-Forwarded-Host", "public.example"),
    ];
    let mut client = proxy.client();
    let mut check = |scheme: &str, host: &str| {
        client.ask("shop.example", "/", &claims);
        assert_eq!(told(&backend, "x-forwarded-proto").as_deref(), Some(scheme));
        assert_eq!(told(&backend, "x-forwarded-host").as_deref(), Some(host));
        assert_eq!(told(&backend, "host").as_deref(), Some("shop.example"));
    };
    check("http", "shop.example");
    proxy.change(|table| table.trusted_proxies = vec!["127.0.0.1/32".parse().unwrap()]);
    check("https", "public.example");
}

#[test]
fn what_ties_a_request_to_its_trace_passes_and_rival_claims_do_not() {
    let (proxy, backend) = serving();
    let trace = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01";
    let mut client = proxy.client();
    for trusted in [None, Some("127.0.0.1/32")] {
        let networks = trusted.iter().map(|network| network.parse().unwrap());
        proxy.change(|table| table.trusted_proxies = networks.collect());
        client.ask(
            "shop.example",
            "/",
            &[
                ("X-Request-Id", "id-of-the-client"),
                ("Traceparent", trace),
                ("Tracestate", "a=1,b=2"),
                ("Forwarded", "for=6.6.6.6;proto=https"),
                ("X-Real-IP", "6.6.6.6"),
            ],
        );
        let told = |name| told(&backend, name);
        assert_eq!(told("x-request-id").as_deref(), Some("id-of-the-client"));
        assert_eq!(told("traceparent").as_deref(), Some(trace));
        assert_eq!(told("tracestate").as_deref(), Some("a=1,b=2"));
        assert_eq!(told("forwarded"), None);
        assert_eq!(told("x-real-ip"), None);
    }
    let mut ids = Vec::new();
    for _ in 0..2 {
        client.get("/").unwrap();
        ids.push(told(&backend, "x-request-id").unwrap());
    }
    assert!(ids[0] != ids[1] && ids[0].len() >= 16, "{ids:?}");
}
