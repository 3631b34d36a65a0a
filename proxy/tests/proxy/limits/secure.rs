//! Clients over TLS that take one thing at a time, blocking.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::sync::Arc;

use rustls::pki_types::ServerName;
use rustls::{ClientConfig, ClientConnection};

use crate::common::{Backend, DEADLINE, Proxy, shop};
use crate::given::Given;
use crate::secure::trusting;
use cutover_wire::proxy::{KeyText, Reply, Request};

/// A proxy with a second door for TLS, and a certificate for `shop.example`.
pub(crate) fn secure(backend: &Backend, options: &[&str]) -> (Proxy, SocketAddr) {
    let mut all = vec!["--listen", "https=127.0.0.1:0"];
    all.extend(options);
    let proxy = Proxy::start(&all);
    proxy.apply(shop("v1", &[("v1", &[backend.address])]));
    let given = Given::of(&["shop.example"]);
    let reply = proxy.call(Request::PutCertificate {
        name: "shop.example".to_owned(),
        chain: given.chain,
        key: KeyText(given.key),
    });
    assert_eq!(reply, Reply::CertificatePut);
    let door = proxy.listener(1);
    (proxy, door)
}

/// A connection over TLS with one GET that was answered. The request goes out in one
/// packet with the last word of the handshake.
pub(crate) fn connect(door: SocketAddr, config: &Arc<ClientConfig>) -> TcpStream {
    let name = ServerName::try_from("shop.example").unwrap();
    let mut tls = ClientConnection::new(Arc::clone(config), name).unwrap();
    let mut stream = TcpStream::connect(door).unwrap();
    stream.set_read_timeout(Some(DEADLINE)).unwrap();
    stream.set_nodelay(true).unwrap();
    let mut said = false;
    let mut answer = Vec::new();
    while !answer.ends_with(b"served") {
        if !tls.is_handshaking() && !said {
            said = true;
            tls.writer()
                .write_all(b"GET / HTTP/1.1\r\nHost: shop.example\r\n\r\n")
                .unwrap();
        }
        let mut bytes = Vec::new();
        while tls.wants_write() {
            tls.write_tls(&mut bytes).unwrap();
        }
        if !bytes.is_empty() {
            stream.write_all(&bytes).unwrap();
        }
        let count = tls.read_tls(&mut stream).expect("an answer");
        assert!(count > 0, "the connection has ended");
        let state = tls.process_new_packets().unwrap();
        let mut plain = vec![0; state.plaintext_bytes_to_read()];
        tls.reader().read_exact(&mut plain).unwrap();
        answer.extend(plain);
    }
    stream
}

#[test]
fn a_request_that_comes_in_one_packet_with_the_end_of_the_handshake_is_answered() {
    let backend = Backend::named("served");
    let (_proxy, door) = secure(&backend, &[]);
    let config = trusting(&[]);
    for _ in 0..20 {
        connect(door, &config);
    }
}
