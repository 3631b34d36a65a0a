//! TLS as clients see it: which certificate, which protocol, and what is refused.

use std::collections::BTreeMap;
use std::fs;
use std::io::{Read, Write};
use std::net::SocketAddr;
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use cutover_wire::proxy::{KeyText, Reply, Request};
use cutover_wire::table::{AcmeAnswers, Certificate};
use rustls::pki_types::ServerName;
use rustls::version::{TLS12, TLS13};
use rustls::{ClientConfig, HandshakeKind};

use crate::common::{Backend, Client, Proxy, shop, until};
use crate::given::Given;
use crate::secure::{Secure, secure, trusting, trusting_in};
use crate::upgrade::successor;

const TLS: [&str; 2] = ["--listen", "https=127.0.0.1:0"];

/// A proxy with a plain and a TLS listener, one release, and these certificates.
fn serving(certificates: &[(&str, Certificate)]) -> (Proxy, Backend, SocketAddr) {
    let (proxy, backend) = (Proxy::start(&TLS), Backend::named("v1"));
    proxy.apply(shop("v1", &[("v1", &[backend.address])]));
    name(&proxy, certificates);
    let address = proxy.listener(1);
    (proxy, backend, address)
}

/// Names these certificates in the table and no others.
fn name(proxy: &Proxy, certificates: &[(&str, Certificate)]) {
    let named = certificates.iter().cloned();
    let named = named.map(|(name, paths)| (name.to_owned(), paths));
    proxy.change(|table| table.certificates = named.collect());
}

fn connect(address: SocketAddr, name: &str) -> Secure {
    secure(address, &trusting(&[]), name).unwrap()
}

fn works(client: &mut Secure) {
    assert_eq!(client.get("/").unwrap().text(), "v1");
}

#[test]
fn the_certificate_is_the_one_of_the_name_that_is_asked_for() {
    let directory = tempfile::tempdir().unwrap();
    let names = ["a.example", "*.shop.example", "other.example"];
    let given = names.map(|name| Given::of(&[name]));
    let served = ["a.example", "*.shop.example", "*"];
    let files = given.each_ref().map(|given| given.write(directory.path()));
    let table: Vec<(&str, Certificate)> = served.into_iter().zip(files).collect();
    let (_proxy, _backend, address) = serving(&table);
    let check = |name: &str, expected: usize| {
        let mut client = connect(address, name);
        assert!(client.shown() == given[expected].der, "{name}");
        works(&mut client);
    };
    check("a.example", 0);
    check("A.EXAMPLE", 0);
    check("b.shop.example", 1);
    check("c.b.shop.example", 2);
    check("unknown.example", 2);
    check("127.0.0.1", 2);
}

#[test]
fn a_name_without_certificate_is_refused_and_others_are_served() {
    let directory = tempfile::tempdir().unwrap();
    let given = Given::of(&["a.example"]).write(directory.path());
    let (proxy, backend, address) = serving(&[("a.example", given)]);
    for name in ["b.example", "x.a.example", "127.0.0.1"] {
        for version in [&TLS12, &TLS13] {
            let refused = secure(address, &trusting_in(&[version], &[]), name);
            let error = refused.err().unwrap().to_string();
            assert!(error.contains("alert"), "{name}: {error}");
        }
    }
    assert_eq!(backend.connections(), 0);
    until("they are counted", || {
        proxy.counts().proxy.handshakes_failed == 6
    });
    works(&mut connect(address, "a.example"));
}

/// A request on a stream of HTTP/2.
fn ask_over_http2(address: SocketAddr, config: &Arc<ClientConfig>, host: &str) -> (u16, String) {
    let runtime = tokio::runtime::Builder::new_current_thread();
    let runtime = { runtime }.enable_all().build().unwrap();
    runtime.block_on(async {
        let stream = tokio::net::TcpStream::connect(address).await.unwrap();
        let name = ServerName::try_from(host.to_owned()).unwrap();
        let connector = tokio_rustls::TlsConnector::from(Arc::clone(config));
        let stream = connector.connect(name, stream).await.unwrap();
        assert_eq!(stream.get_ref().1.alpn_protocol(), Some(&b"h2"[..]));
        let (mut sender, connection) = h2::client::handshake(stream).await.unwrap();
        tokio::spawn(connection);
        let request = http::Request::get(format!("https://{host}/x"))
            .body(())
            .unwrap();
        let (answer, _) = sender.send_request(request, true).unwrap();
        let mut answer = answer.await.unwrap();
        let mut text = Vec::new();
        while let Some(data) = answer.body_mut().data().await {
            text.extend_from_slice(&data.unwrap());
        }
        (answer.status().as_u16(), String::from_utf8(text).unwrap())
    })
}

#[test]
fn client_and_proxy_agree_on_the_protocol_in_both_versions_of_tls() {
    let directory = tempfile::tempdir().unwrap();
    let given = Given::of(&["a.example"]).write(directory.path());
    let (_proxy, backend, address) = serving(&[("*", given)]);
    for version in [&TLS12, &TLS13] {
        let agreed = |protocols: &[&str]| {
            let config = trusting_in(&[version], protocols);
            let mut client = secure(address, &config, "a.example").ok()?;
            let agreed = client.stream.conn.alpn_protocol().unwrap_or(b"-").to_vec();
            if agreed != b"h2" {
                works(&mut client);
            }
            assert_eq!(client.stream.conn.protocol_version(), Some(version.version));
            Some(String::from_utf8(agreed).unwrap())
        };
        assert_eq!(agreed(&["http/1.1"]).as_deref(), Some("http/1.1"));
        assert_eq!(agreed(&["http/1.1", "h2"]).as_deref(), Some("h2"));
        assert_eq!(agreed(&[]).as_deref(), Some("-"));
        assert_eq!(agreed(&["spdy/3"]), None);
        let both = trusting_in(&[version], &["h2", "http/1.1"]);
        let told = ask_over_http2(address, &both, "a.example");
        assert_eq!(told, (200, "v1".to_owned()));
    }
    let seen = backend.seen.lock().unwrap();
    let last = seen.last().unwrap();
    assert_eq!(last.field("x-forwarded-proto"), Some("https"));
    assert_eq!(last.field("host"), Some("a.example"));
}

#[test]
fn a_table_and_a_hang_up_swap_certificates_under_an_open_connection() {
    let directory = tempfile::tempdir().unwrap();
    let one = Given::of(&["one.example"]);
    let (proxy, _backend, address) = serving(&[("a.example", one.write(directory.path()))]);
    let mut open = connect(address, "a.example");
    works(&mut open);
    let two = Given::of(&["two.example"]);
    name(&proxy, &[("a.example", two.write(directory.path()))]);
    let mut second = connect(address, "a.example");
    assert!(second.shown() == two.der);
    // The same paths, with other files behind them.
    let renewed = Given::of(&["two.example"]);
    renewed.write(directory.path());
    assert!(connect(address, "a.example").shown() == two.der);
    proxy.signal("HUP");
    until("the renewed certificate is served", || {
        connect(address, "a.example").shown() == renewed.der
    });
    // A renewal that went wrong changes nothing.
    fs::write(directory.path().join("two.example.crt"), "half").unwrap();
    proxy.signal("HUP");
    let told = "certificates.a.example.chain";
    until("the bad file is told", || proxy.log().contains(told));
    assert!(connect(address, "a.example").shown() == renewed.der);
    works(&mut open);
    works(&mut second);
    assert!(open.shown() == one.der);
}

fn put(proxy: &Proxy, name: &str, given: &Given) {
    let reply = proxy.call(Request::PutCertificate {
        name: name.to_owned(),
        chain: given.chain.clone(),
        key: KeyText(given.key.clone()),
    });
    assert_eq!(reply, Reply::CertificatePut);
}

/// Whether a text is in a file of a directory or below it.
fn is_in_a_file(directory: &Path, text: &str) -> bool {
    fs::read_dir(directory).unwrap().any(|entry| {
        let entry = entry.unwrap();
        let kind = entry.file_type().unwrap();
        if kind.is_dir() {
            return is_in_a_file(&entry.path(), text);
        }
        let bytes = || fs::read(entry.path()).unwrap();
        kind.is_file()
            && bytes()
                .windows(text.len())
                .any(|part| part == text.as_bytes())
    })
}

#[test]
fn a_certificate_that_was_put_outlives_the_process_in_no_file() {
    let directory = tempfile::tempdir().unwrap();
    let files = tempfile::tempdir().unwrap();
    let (listed, given) = (Given::of(&["a.example"]), Given::of(&["a.example"]));
    let mut command = Proxy::command(directory.path());
    command.args(["--listen", "127.0.0.1:0"]).args(TLS);
    let old = Proxy::spawn(directory.path(), command);
    let backend = Backend::named("v1");
    old.apply(shop("v1", &[("v1", &[backend.address])]));
    name(&old, &[("a.example", listed.write(files.path()))]);
    let address = old.listener(1);
    let mut open = connect(address, "a.example");
    put(&old, "a.example", &given);
    put(&old, "put.example", &given);
    works(&mut open);
    assert!(open.shown() == listed.der);
    assert!(connect(address, "a.example").shown() == given.der);
    let new = successor(&old, &[]);
    for name in ["a.example", "put.example"] {
        let mut client = connect(address, name);
        assert!(client.shown() == given.der, "{name}");
        works(&mut client);
    }
    assert!(
        is_in_a_file(files.path(), listed.secret()),
        "the search finds what is there"
    );
    assert!(!is_in_a_file(directory.path(), given.secret()));
    for name in ["a.example", "put.example"] {
        let name = name.to_owned();
        let reply = new.call(Request::DropCertificate { name });
        assert_eq!(reply, Reply::CertificateDropped);
    }
    assert!(connect(address, "a.example").shown() == listed.der);
    assert!(secure(address, &trusting(&[]), "put.example").is_err());
}

#[test]
fn a_session_of_the_old_instance_is_resumed_at_the_new_one() {
    let directory = tempfile::tempdir().unwrap();
    let files = tempfile::tempdir().unwrap();
    let mut command = Proxy::command(directory.path());
    command.args(["--listen", "127.0.0.1:0"]).args(TLS);
    let old = Proxy::spawn(directory.path(), command);
    let backend = Backend::named("v1");
    old.apply(shop("v1", &[("v1", &[backend.address])]));
    name(
        &old,
        &[("a.example", Given::of(&["a.example"]).write(files.path()))],
    );
    let address = old.listener(1);
    let configs = [&TLS12, &TLS13].map(|version| trusting_in(&[version], &[]));
    let kind = |config| {
        let mut client = secure(address, config, "a.example").unwrap();
        // The tickets of 1.3 come behind the handshake.
        works(&mut client);
        client.stream.conn.handshake_kind().unwrap()
    };
    for config in &configs {
        assert_eq!(kind(config), HandshakeKind::Full);
        assert_eq!(kind(config), HandshakeKind::Resumed);
    }
    let _new = successor(&old, &[]);
    for config in &configs {
        assert_eq!(kind(config), HandshakeKind::Resumed);
    }
}

#[test]
fn an_authority_is_answered_by_both_kinds_of_challenge_and_a_user_never() {
    let directory = tempfile::tempdir().unwrap();
    let listed = Given::of(&["a.example"]);
    let (proxy, backend, address) = serving(&[("a.example", listed.write(directory.path()))]);
    let digest = "0123456789abcdef".repeat(4);
    proxy.change(|table| {
        table.acme = AcmeAnswers {
            http: BTreeMap::from([("tok_-1".to_owned(), "tok_-1.print".to_owned())]),
            tls_alpn: BTreeMap::from([("a.example".to_owned(), digest.clone())]),
        };
    });
    let authority = trusting(&["acme-tls/1"]);
    let mut client = secure(address, &authority, "a.example").unwrap();
    assert_eq!(client.stream.conn.alpn_protocol(), Some(&b"acme-tls/1"[..]));
    let bytes: Vec<u8> = (0..32)
        .map(|at| u8::from_str_radix(&digest[2 * at..2 * at + 2], 16).unwrap())
        .collect();
    let shown = client.shown();
    assert!(
        shown.windows(32).any(|part| part == bytes),
        "the digest is in it"
    );
    assert!(shown != listed.der);
    // There is nothing to be asked on such a connection.
    let _ = client
        .stream
        .write_all(b"GET / HTTP/1.1\r\nHost: a\r\n\r\n");
    assert!(client.read().is_err());
    assert!(secure(address, &authority, "b.example").is_err());
    // Whoever offers more than the authority does is a user.
    let user = secure(address, &trusting(&["acme-tls/1", "http/1.1"]), "a.example").unwrap();
    assert!(user.shown() == listed.der);
    let path = "/.well-known/acme-challenge/tok_-1";
    let answer = proxy.client().ask("of.nobody", path, &[]);
    assert_eq!(
        (answer.status(), answer.text().trim_end()),
        (200, "tok_-1.print")
    );
    assert_eq!(backend.requests(), 0);
    proxy.change(|table| table.acme = AcmeAnswers::default());
    assert!(secure(address, &authority, "a.example").is_err());
    assert_eq!(proxy.client().get(path).unwrap().text(), "v1");
}

/// The first message of a client that knows no version after 1.1.
fn hello_of_tls_1_1() -> Vec<u8> {
    let mut hello = vec![3, 2];
    hello.extend([7; 32]);
    // No session; ECDHE-RSA with AES-128, as of 1.2 and as before; no compression.
    hello.extend([0, 0, 4, 0xC0, 0x2F, 0xC0, 0x13, 1, 0]);
    let mut message = vec![1, 0, 0, hello.len() as u8];
    message.extend(hello);
    let mut record = vec![0x16, 3, 1, 0, message.len() as u8];
    record.extend(message);
    record
}

#[test]
fn what_is_no_sound_tls_is_refused_and_no_target_sees_it() {
    let directory = tempfile::tempdir().unwrap();
    let given = Given::of(&["a.example"]).write(directory.path());
    let (_proxy, backend, address) = serving(&[("*", given)]);
    let mut old = Client::connect(address);
    old.stream.write_all(&hello_of_tls_1_1()).unwrap();
    let alert = old.exactly(7).unwrap();
    // A fatal alert, of the handshake or of the version (RFC 8446, section 6.2).
    assert_eq!((alert[0], alert[5]), (0x15, 2));
    assert!([40, 70].contains(&alert[6]), "{alert:?}");
    assert!(old.is_ended());
    let mut plain = Client::connect(address);
    plain.send("GET / HTTP/1.1\r\nHost: a.example\r\n\r\n");
    let mut told = Vec::new();
    let _ = plain.stream.read_to_end(&mut told);
    assert!(!told.starts_with(b"HTTP/"));
    assert_eq!(backend.connections(), 0);
    works(&mut connect(address, "a.example"));
}

#[test]
fn a_slow_greeting_is_cut_after_ten_seconds() {
    let proxy = Proxy::start(&[
        "--listen",
        "https=127.0.0.1:0",
        "--listen",
        "https+proxy=127.0.0.1:0",
        "--listen",
        "http+proxy=127.0.0.1:0",
    ]);
    let hello = hello_of_tls_1_1();
    let begin = |place: usize, bytes: &[u8]| {
        let mut client = Client::connect(proxy.listener(place));
        client.stream.write_all(bytes).unwrap();
        client
    };
    let begun = Instant::now();
    let slow = [
        begin(1, b""),
        begin(1, &hello[..20]),
        begin(2, b"PROXY TCP4 203.0.113.9"),
        begin(2, b"PROXY TCP4 203.0.113.9 192.0.2.1 5000 443\r\n"),
        begin(3, b""),
    ];
    for (place, mut client) in slow.into_iter().enumerate() {
        assert!(client.is_ended(), "{place}");
        let took = begun.elapsed();
        let expected = Duration::from_millis(9_900)..Duration::from_secs(15);
        assert!(expected.contains(&took), "{place}: {took:?}");
    }
}
