//! WebSockets on streams (RFC 8441), and where there can be none.

use std::io::{Read as _, Write as _};
use std::net::Shutdown;
use std::thread;
use std::time::Duration;

use bytes::Bytes;
use h2::ext::Protocol;
use h2::{Reason, RecvStream, SendStream};
use http::Request;

use cutover_wire::proxy::Cut;

use super::peers::{DOOR, H2Client, H2Target, answer, get, read_body, run, soon, to_h2c};
use super::proxy_to;
use crate::common::{Backend, Proxy, ok, shop};

/// A frame of a client: text, masked with zeros.
const WORD: &[u8] = b"\x81\x85\0\0\0\0hello";

/// What a target sends right behind its answer.
const EARLY: &[u8] = b"\x81\x05early";

/// A close frame of a client (1001), and one of ours (1012).
const CLIENT_CLOSES: &[u8] = b"\x88\x82\0\0\0\0\x03\xe9";
const WE_CLOSE: &[u8] = b"\x88\x02\x03\xf4";

/// The question for a WebSocket on a stream.
fn wish(path: &str) -> Request<()> {
    let mut request = Request::builder()
        .method("CONNECT")
        .uri(format!("http://shop.example{path}"))
        .header("sec-websocket-version", "13")
        .header("sec-websocket-protocol", "chat")
        .header("origin", "http://shop.example")
        .body(())
        .unwrap();
    let protocol = Protocol::from_static("websocket");
    request.extensions_mut().insert(protocol);
    request
}

/// A target that echoes what comes behind a good beginning.
fn echo() -> Backend {
    Backend::raw(|_, mut client| {
        let Ok(asked) = client.read() else { return };
        if !asked.line.contains("/ws") {
            client.send(&ok("plain"));
            return;
        }
        assert_eq!(asked.line, "GET /ws?a=b HTTP/1.1");
        assert_eq!(asked.field("host"), Some("shop.example"));
        assert_eq!(asked.field("upgrade"), Some("websocket"));
        assert_eq!(asked.field("connection"), Some("Upgrade"));
        assert_eq!(asked.field("sec-websocket-version"), Some("13"));
        // Sixteen bytes, in base 64.
        assert_eq!(asked.field("sec-websocket-key").map(str::len), Some(24));
        client.send(
            "HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\
             Sec-WebSocket-Accept: y\r\nSec-WebSocket-Protocol: chat\r\n\r\n",
        );
        client.stream.write_all(EARLY).unwrap();
        let mut bytes = [0; 16 * 1024];
        while let Ok(count @ 1..) = client.stream.read(&mut bytes) {
            if client.stream.write_all(&bytes[..count]).is_err() {
                return;
            }
        }
        let _ = client.stream.write_all(b"bye");
        let _ = client.stream.shutdown(Shutdown::Write);
    })
}

/// Opens a tunnel and reads what comes first.
async fn open(client: &mut H2Client) -> (SendStream<Bytes>, RecvStream) {
    let mut sender = client.sender.clone().ready().await.unwrap();
    soon("the proxy takes WebSockets on streams", || {
        sender.is_extended_connect_protocol_enabled()
    })
    .await;
    let (told, up) = sender.send_request(wish("/ws?a=b"), false).unwrap();
    let told = told.await.unwrap();
    assert_eq!(told.status(), 200);
    assert_eq!(told.headers()["sec-websocket-protocol"], "chat");
    for name in ["connection", "upgrade", "sec-websocket-accept"] {
        assert!(!told.headers().contains_key(name), "{name}");
    }
    let mut down = told.into_body();
    assert_eq!(exactly(&mut down, EARLY.len()).await, EARLY);
    (up, down)
}

async fn exactly(from: &mut RecvStream, count: usize) -> Vec<u8> {
    let mut whole = Vec::new();
    while whole.len() < count {
        let data = from.data().await.expect("more").unwrap();
        from.flow_control().release_capacity(data.len()).unwrap();
        whole.extend_from_slice(&data);
    }
    whole
}

#[test]
fn a_stream_becomes_a_tunnel_to_a_target_of_http1() {
    let target = echo();
    let proxy = proxy_to(target.address);
    run(async {
        let mut client = H2Client::connect(&proxy).await;
        let (mut up, mut down) = open(&mut client).await;
        assert_eq!(proxy.statistics("v1").tunnels_open, 1);
        for number in 0..50 {
            let word = format!("word {number}");
            up.send_data(Bytes::from(word.clone()), false).unwrap();
            assert_eq!(exactly(&mut down, word.len()).await, word.as_bytes());
            if number % 10 == 0 {
                assert_eq!(client.ask(get("/")).await.unwrap().text(), "plain");
            }
        }
        // Each side ends by itself.
        up.send_data(Bytes::new(), true).unwrap();
        assert_eq!(read_body(&mut down).await.unwrap(), b"bye");
        soon("the tunnel is counted out", || {
            let told = proxy.statistics("v1");
            told.tunnels_open == 0 && told.succeeded == 6
        })
        .await;
        assert_eq!(client.ask(get("/")).await.unwrap().text(), "plain");
    });
}

#[test]
fn a_megabyte_comes_back_through_a_tunnel_as_it_went() {
    let target = echo();
    let proxy = proxy_to(target.address);
    run(async {
        let mut client = H2Client::connect(&proxy).await;
        let (mut up, mut down) = open(&mut client).await;
        let sent: Vec<u8> = (0..1_048_576_u32).map(|n| (n / 7) as u8).collect();
        let bytes = Bytes::from(sent.clone());
        tokio::task::spawn_local(async move {
            for at in (0..bytes.len()).step_by(16_384) {
                assert!(super::peers::send(&mut up, bytes.slice(at..at + 16_384)).await);
            }
            up.send_data(Bytes::new(), true).unwrap();
        });
        let came = read_body(&mut down).await.unwrap();
        assert_eq!(came.len(), sent.len() + 3);
        assert_eq!(came[..sent.len()], sent);
    });
}

#[test]
fn a_tunnel_that_its_client_resets_ends_at_the_target() {
    let target = echo();
    let proxy = proxy_to(target.address);
    run(async {
        let mut client = H2Client::connect(&proxy).await;
        let (mut up, down) = open(&mut client).await;
        up.send_reset(Reason::CANCEL);
        drop(down);
        soon("the tunnel is counted out", || {
            proxy.statistics("v1").tunnels_open == 0
        })
        .await;
        assert_eq!(client.ask(get("/")).await.unwrap().text(), "plain");
    });
}

#[test]
fn a_drain_ends_a_tunnel_on_a_stream_with_a_close_frame() {
    let target = echo();
    let proxy = proxy_to(target.address);
    let drain = || {
        let cut = Cut {
            streams_ms: None,
            tunnels_ms: Some(0),
            spread_ms: 0,
        };
        proxy.drain_and_cut(&["v1-0"], Duration::from_secs(10), Some(cut))
    };
    thread::scope(|scope| {
        run(async {
            let mut client = H2Client::connect(&proxy).await;
            let (mut up, mut down) = open(&mut client).await;
            up.send_data(Bytes::from_static(WORD), false).unwrap();
            assert_eq!(exactly(&mut down, WORD.len()).await, WORD);
            let drain = scope.spawn(drain);
            assert_eq!(exactly(&mut down, WE_CLOSE.len()).await, WE_CLOSE);
            up.send_data(Bytes::from_static(CLIENT_CLOSES), true)
                .unwrap();
            assert_eq!(read_body(&mut down).await.unwrap(), b"");
            soon("the drain ends", || drain.is_finished()).await;
            let left = drain.join().unwrap();
            assert_eq!((left.tunnels, left.tunnels_cut), (0, 1));
        });
    });
}

#[test]
fn a_refused_wish_is_a_plain_answer() {
    let target =
        Backend::answering(|_| "HTTP/1.1 403 Forbidden\r\nContent-Length: 2\r\n\r\nno".to_owned());
    let proxy = proxy_to(target.address);
    run(async {
        let mut client = H2Client::connect(&proxy).await;
        assert_eq!(client.ask(get("/")).await.unwrap().status, 403);
        let told = client.ask(wish("/ws")).await.unwrap();
        assert_eq!((told.status, told.text().as_str()), (403, "no"));
    });
}

#[test]
fn other_protocols_and_plain_connects_reach_no_target() {
    let target = Backend::named("reached");
    let proxy = proxy_to(target.address);
    run(async {
        let mut client = H2Client::connect(&proxy).await;
        assert_eq!(client.ask(get("/")).await.unwrap().status, 200);
        let mut other = wish("/ws");
        let protocol = Protocol::from_static("connect-udp");
        other.extensions_mut().insert(protocol);
        assert_eq!(client.ask(other).await.unwrap().status, 405);
        let plain = Request::builder()
            .method("CONNECT")
            .uri("shop.example:443")
            .body(())
            .unwrap();
        assert_eq!(client.ask(plain).await.unwrap().status, 405);
    });
    assert_eq!(target.requests(), 1);
}

#[test]
fn a_wish_for_a_websocket_at_a_target_of_http2_is_answered_clearly() {
    let target = H2Target::serving(|_, respond| async move { answer(respond, "plain") });
    let proxy = Proxy::at(DOOR, &[]);
    proxy.apply(to_h2c(shop("v1", &[("v1", &[target.address])])));
    let text = "a target of HTTP/2 takes no WebSocket\n";
    let mut client = proxy.client();
    client.send(
        "GET /ws HTTP/1.1\r\nHost: a\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\
         Sec-WebSocket-Key: x\r\nSec-WebSocket-Version: 13\r\n\r\n",
    );
    let told = client.read().unwrap();
    assert_eq!((told.status(), told.text().as_str()), (501, text));
    assert_eq!(client.get("/").unwrap().text(), "plain");
    run(async {
        let mut client = H2Client::connect(&proxy).await;
        assert_eq!(client.ask(get("/")).await.unwrap().text(), "plain");
        let told = client.ask(wish("/ws")).await.unwrap();
        assert_eq!((told.status, told.text().as_str()), (501, text));
    });
}
