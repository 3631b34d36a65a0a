//! HTTP/2 on both sides: what goes in comes out, whatever each side speaks.

mod bodies;
mod breaks;
mod closing;
pub(crate) mod frames;
mod leaving;
pub(crate) mod peers;
mod websocket;

use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, Ordering::SeqCst};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::Duration;

use bytes::Bytes;
use http::{HeaderMap, HeaderValue, Request, Response};
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, ServerName};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;

use cutover_wire::proxy::{KeyText, Reply, Request as Call};

use crate::certificates::pair;
use crate::common::{Backend, Proxy, ok, shop, until};
use peers::{
    Answer, DOOR, H2Client, H2Target, answer, asking, get, read, read_body, run, send, to_h2c,
};

/// A proxy where HTTP/2 begins without asking, with one target.
fn proxy_to(target: SocketAddr) -> Proxy {
    let proxy = Proxy::at(DOOR, &[]);
    proxy.apply(shop("v1", &[("v1", &[target])]));
    proxy
}

/// The same, with a target that speaks HTTP/2.
fn proxy_to_h2c(target: SocketAddr) -> Proxy {
    let proxy = Proxy::at(DOOR, &[]);
    proxy.apply(to_h2c(shop("v1", &[("v1", &[target])])));
    proxy
}

#[test]
fn many_streams_at_once_share_a_connection_and_each_has_its_own_answer() {
    let target = Backend::answering(|asked| {
        let path = asked.line.split(' ').nth(1).unwrap();
        ok(&format!("{path} {}", asked.text()))
    });
    let proxy = proxy_to(target.address);
    run(async {
        let mut client = H2Client::connect(&proxy).await;
        let mut open = Vec::new();
        for number in 0..100 {
            let (answer, mut body) = client.begin(asking("POST", &format!("/{number}"))).await;
            body.send_data(Bytes::from(format!("body {number}")), true)
                .unwrap();
            open.push(answer);
        }
        for (number, answer) in open.into_iter().enumerate().rev() {
            let answer = read(answer).await.unwrap();
            assert_eq!(answer.text(), format!("/{number} body {number}"));
        }
    });
    let told = proxy.statistics("v1");
    assert_eq!((told.succeeded, told.failed, told.abandoned), (100, 0, 0));
}

#[test]
fn a_switch_under_load_loses_no_stream_and_keeps_the_connection() {
    let (v1, v2) = (H2Target::named("v1"), Backend::named("v2"));
    let (a1, a2) = ([v1.address], [v2.address]);
    let proxy = Proxy::at(DOOR, &[]);
    let apps = |serving| {
        let mut apps = shop(serving, &[("v1", &a1), ("v2", &a2)]);
        let pool = apps.get_mut("shop").unwrap().pools.get_mut("v1").unwrap();
        pool.protocol = cutover_wire::table::Protocol::H2c;
        apps
    };
    proxy.apply(apps("v1"));
    let done = AtomicBool::new(false);
    thread::scope(|scope| {
        let (proxy, done) = (&proxy, &done);
        scope.spawn(move || {
            for round in 0..20 {
                thread::sleep(Duration::from_millis(20));
                proxy.apply(apps(if round % 2 == 0 { "v2" } else { "v1" }));
            }
            done.store(true, SeqCst);
        });
        run(async {
            let mut client = H2Client::connect(proxy).await;
            let mut seen = [0, 0];
            while !done.load(SeqCst) {
                let mut open = Vec::new();
                for number in 0..16 {
                    if number % 2 == 0 {
                        open.push(client.start(get("/")).await);
                    } else {
                        let (answer, mut body) = client.begin(asking("POST", "/")).await;
                        body.send_data(Bytes::from_static(b"body"), true).unwrap();
                        open.push(answer);
                    }
                }
                for answer in open {
                    let answer = read(answer).await.unwrap();
                    assert_eq!(answer.status, 200);
                    seen[usize::from(answer.text() == "v2")] += 1;
                }
            }
            assert!(seen[0] > 0 && seen[1] > 0, "{seen:?}");
            assert!(!client.ended.is_finished());
        });
    });
    let (first, second) = (proxy.statistics("v1"), proxy.statistics("v2"));
    assert_eq!(
        (
            first.failed + second.failed,
            first.abandoned + second.abandoned
        ),
        (0, 0)
    );
}

/// A target that answers as a service of gRPC does: what comes goes back message by
/// message, and behind it stands how the call ended.
fn service(name: &'static str) -> H2Target {
    H2Target::serving(move |request, mut respond| async move {
        let mut asked = request.into_body();
        let head = Response::builder()
            .header("content-type", "application/grpc")
            .body(())
            .unwrap();
        let mut rest = respond.send_response(head, false).unwrap();
        while let Some(Ok(data)) = asked.data().await {
            asked.flow_control().release_capacity(data.len()).unwrap();
            if !send(&mut rest, data).await {
                return;
            }
        }
        let mut trailers = HeaderMap::new();
        trailers.insert("grpc-status", HeaderValue::from_static("0"));
        trailers.insert("served-by", HeaderValue::from_static(name));
        let _ = rest.send_trailers(trailers);
    })
}

/// A call as gRPC makes it.
fn call(path: &str) -> Request<()> {
    let mut call = asking("POST", path);
    let fields = call.headers_mut();
    fields.insert("te", HeaderValue::from_static("trailers"));
    fields.insert("content-type", HeaderValue::from_static("application/grpc"));
    call
}

/// A message as gRPC frames it.
fn framed(text: &str) -> Bytes {
    let length = u32::try_from(text.len()).unwrap().to_be_bytes();
    [&[0][..], &length, text.as_bytes()].concat().into()
}

#[test]
fn calls_of_grpc_are_whole_over_switches() {
    let (v1, v2) = (service("v1"), service("v2"));
    let (a1, a2) = ([v1.address], [v2.address]);
    let proxy = Proxy::at(DOOR, &[]);
    let apps = |serving| to_h2c(shop(serving, &[("v1", &a1), ("v2", &a2)]));
    proxy.apply(apps("v1"));
    let done = AtomicBool::new(false);
    let served = thread::scope(|scope| {
        let (proxy, done) = (&proxy, &done);
        scope.spawn(move || {
            for round in 0..20 {
                thread::sleep(Duration::from_millis(20));
                proxy.apply(apps(if round % 2 == 0 { "v2" } else { "v1" }));
            }
            done.store(true, SeqCst);
        });
        run(async {
            let mut client = H2Client::connect(proxy).await;
            let mut served = [0, 0];
            let mut count = |answer: HeaderMap| {
                assert_eq!(answer["grpc-status"], "0");
                served[usize::from(answer["served-by"] == "v2")] += 1;
            };
            // A talk that is open over switches stays where it began, to its last word.
            while !done.load(SeqCst) {
                let (answer, mut up) = client.begin(call("/shop.Orders/Follow")).await;
                let mut down = answer.await.unwrap().into_body();
                for number in 0..10 {
                    let said = framed(&format!("word {number}"));
                    up.send_data(said.clone(), false).unwrap();
                    let mut heard = Vec::new();
                    while heard.len() < said.len() {
                        let data = down.data().await.unwrap().unwrap();
                        down.flow_control().release_capacity(data.len()).unwrap();
                        heard.extend_from_slice(&data);
                    }
                    assert_eq!(heard, said);
                    // Short calls meanwhile.
                    let (answer, mut body) = client.begin(call("/shop.Orders/Get")).await;
                    body.send_data(said.clone(), true).unwrap();
                    let answer = read(answer).await.unwrap();
                    assert_eq!((answer.status, &answer.body[..]), (200, &said[..]));
                    count(answer.trailers.unwrap());
                    tokio::time::sleep(Duration::from_millis(5)).await;
                }
                up.send_data(Bytes::new(), true).unwrap();
                assert!(read_body(&mut down).await.unwrap().is_empty());
                count(down.trailers().await.unwrap().unwrap());
            }
            assert!(!client.ended.is_finished(), "the connection stays");
            served
        })
    });
    assert!(served[0] > 10 && served[1] > 10, "{served:?}");
    let (first, second) = (proxy.statistics("v1"), proxy.statistics("v2"));
    let lost = [
        first.failed,
        second.failed,
        first.abandoned,
        second.abandoned,
    ];
    assert_eq!(lost, [0; 4]);
    assert_eq!(first.succeeded + second.succeeded, served[0] + served[1]);
}

#[test]
fn trailers_pass_from_end_to_end() {
    let told = Arc::new(Mutex::new(Vec::new()));
    let journal = Arc::clone(&told);
    let target = H2Target::serving(move |mut request, mut respond| {
        let journal = Arc::clone(&journal);
        async move {
            let body = read_body(request.body_mut()).await.unwrap();
            let trailers = request.body_mut().trailers().await.unwrap();
            let te = request.headers().get("te").cloned();
            journal.lock().unwrap().push((body, trailers, te));
            let head = Response::builder()
                .header("content-type", "application/grpc")
                .body(())
                .unwrap();
            let mut rest = respond.send_response(head, false).unwrap();
            rest.send_data(Bytes::from_static(b"message"), false)
                .unwrap();
            let mut trailers = HeaderMap::new();
            trailers.insert("grpc-status", HeaderValue::from_static("0"));
            trailers.insert("grpc-message", HeaderValue::from_static("fine"));
            rest.send_trailers(trailers).unwrap();
        }
    });
    let proxy = proxy_to_h2c(target.address);
    run(async {
        let mut client = H2Client::connect(&proxy).await;
        let mut call = asking("POST", "/service/Method");
        let fields = call.headers_mut();
        fields.insert("te", HeaderValue::from_static("trailers"));
        fields.insert("content-type", HeaderValue::from_static("application/grpc"));
        let (answer, mut body) = client.begin(call).await;
        body.send_data(Bytes::from_static(b"\0\0\0\0\x01x"), false)
            .unwrap();
        let mut trailers = HeaderMap::new();
        trailers.insert("x-sum", HeaderValue::from_static("1"));
        body.send_trailers(trailers).unwrap();
        let answer: Answer = read(answer).await.unwrap();
        assert_eq!(answer.text(), "message");
        assert_eq!(answer.field("content-type"), Some("application/grpc"));
        let trailers = answer.trailers.unwrap();
        assert_eq!(trailers["grpc-status"], "0");
        assert_eq!(trailers["grpc-message"], "fine");
    });
    let told = told.lock().unwrap();
    let (body, trailers, te) = &told[0];
    assert_eq!(body, b"\0\0\0\0\x01x");
    assert_eq!(trailers.as_ref().unwrap()["x-sum"], "1");
    assert_eq!(te.as_ref().unwrap(), "trailers");
    assert_eq!(proxy.statistics("v1").succeeded, 1);
}

#[test]
fn an_answer_of_trailers_alone_passes() {
    // How gRPC says that a call failed before it began: one frame of fields.
    let target = H2Target::serving(|_, mut respond| async move {
        let head = Response::builder()
            .header("content-type", "application/grpc")
            .header("grpc-status", "12")
            .body(())
            .unwrap();
        respond.send_response(head, true).unwrap();
    });
    let proxy = proxy_to_h2c(target.address);
    run(async {
        let mut client = H2Client::connect(&proxy).await;
        let answer = client.ask(get("/")).await.unwrap();
        assert_eq!(
            (answer.status, answer.field("grpc-status")),
            (200, Some("12"))
        );
        assert!(answer.body.is_empty());
    });
}

#[test]
fn a_talk_goes_both_ways_at_once() {
    let target = H2Target::serving(|request, mut respond| async move {
        let mut asked = request.into_body();
        let mut rest = respond.send_response(Response::new(()), false).unwrap();
        while let Some(Ok(data)) = asked.data().await {
            asked.flow_control().release_capacity(data.len()).unwrap();
            if !send(&mut rest, data).await {
                return;
            }
        }
        let _ = rest.send_data(Bytes::new(), true);
    });
    let proxy = proxy_to_h2c(target.address);
    run(async {
        let mut client = H2Client::connect(&proxy).await;
        let (answer, mut up) = client.begin(asking("POST", "/talk")).await;
        let mut down = answer.await.unwrap().into_body();
        for number in 0..100 {
            // Each is answered before the next one is said.
            up.send_data(Bytes::from(format!("word {number}")), false)
                .unwrap();
            let word = down.data().await.unwrap().unwrap();
            down.flow_control().release_capacity(word.len()).unwrap();
            assert_eq!(word, format!("word {number}"));
        }
        up.send_data(Bytes::new(), true).unwrap();
        assert!(read_body(&mut down).await.unwrap().is_empty());
    });
}

#[test]
fn a_client_of_http1_reaches_a_target_of_http2() {
    let target = H2Target::serving(|request: Request<_>, respond| async move {
        let (parts, mut body) = request.into_parts();
        let body = read_body(&mut body).await.unwrap();
        let authority = parts.uri.authority().unwrap().to_string();
        let body = String::from_utf8(body).unwrap();
        let fields = &parts.headers;
        assert!(!fields.contains_key("connection") && !fields.contains_key("host"));
        let cookies = fields["cookie"].to_str().unwrap();
        answer(
            respond,
            &format!(
                "{} {} {authority} {body} {cookies}",
                parts.method,
                parts.uri.path()
            ),
        );
    });
    let proxy = Proxy::at("127.0.0.1:0", &[]);
    proxy.apply(to_h2c(shop("v1", &[("v1", &[target.address])])));
    let mut client = proxy.client();
    for _ in 0..3 {
        client.send(
            "PUT /x?y HTTP/1.1\r\nHost: shop.example\r\nCookie: a=1\r\nTransfer-Encoding: chunked\r\n\r\n\
             3\r\none\r\n3\r\ntwo\r\n0\r\n\r\n",
        );
        let told = client.read().unwrap();
        assert_eq!(told.text(), "PUT /x shop.example onetwo a=1");
    }
}

#[test]
fn a_stream_reaches_a_target_of_http1_as_a_request_of_http1() {
    let target = Backend::named("ok");
    let proxy = proxy_to(target.address);
    run(async {
        let mut client = H2Client::connect(&proxy).await;
        let mut request = get("/a?b=c");
        let fields = request.headers_mut();
        for cookie in ["a=1", "b=2"] {
            fields.append("cookie", HeaderValue::from_static(cookie));
        }
        fields.insert("te", HeaderValue::from_static("trailers"));
        assert_eq!(client.ask(request).await.unwrap().text(), "ok");
        // A short body that is there at once gets its length; another goes on in chunks.
        assert_eq!(client.post("/", "short").await.unwrap().text(), "ok");
        let (answer, mut body) = client.begin(asking("POST", "/upload")).await;
        for _ in 0..2 {
            let piece = Bytes::from_static(&[b'x'; 16_000]);
            body.send_data(piece, false).unwrap();
        }
        body.send_data(Bytes::new(), true).unwrap();
        assert_eq!(read(answer).await.unwrap().text(), "ok");
    });
    let seen = target.seen.lock().unwrap();
    assert_eq!(seen[0].line, "GET /a?b=c HTTP/1.1");
    assert_eq!(seen[0].field("host"), Some("shop.example"));
    assert_eq!(seen[0].field("cookie"), Some("a=1; b=2"));
    assert_eq!(seen[0].field("te"), None);
    assert_eq!(seen[0].field("x-forwarded-proto"), Some("http"));
    for name in ["content-length", "transfer-encoding"] {
        assert_eq!(seen[0].field(name), None);
    }
    assert_eq!(seen[1].field("content-length"), Some("5"));
    assert_eq!(seen[1].text(), "short");
    assert_eq!(seen[2].field("transfer-encoding"), Some("chunked"));
    assert_eq!(seen[2].body.len(), 32_000);
}

#[test]
fn answers_without_a_body_keep_their_form() {
    let check = |proxy: &Proxy| {
        run(async {
            let mut client = H2Client::connect(proxy).await;
            let head = client.ask(asking("HEAD", "/")).await.unwrap();
            assert_eq!(
                (head.status, head.field("content-length")),
                (200, Some("1234"))
            );
            assert!(head.body.is_empty());
            for status in [204, 304] {
                let told = client.ask(get(&format!("/{status}"))).await.unwrap();
                assert_eq!((told.status, told.field("etag")), (status, Some("x")));
                assert!(told.body.is_empty());
            }
        });
    };
    let v1 = Backend::answering(|asked| {
        let told = match &asked.line {
            line if line.starts_with("HEAD") => "200 OK\r\nContent-Length: 1234",
            line if line.contains("/204") => "204 No Content",
            _ => "304 Not Modified",
        };
        format!("HTTP/1.1 {told}\r\nETag: x\r\n\r\n")
    });
    check(&proxy_to(v1.address));
    let v2 = H2Target::serving(|request, mut respond| async move {
        let head = Response::builder().header("etag", "x");
        let head = match request.uri().path() {
            "/204" => head.status(204),
            "/304" => head.status(304),
            _ => head.header("content-length", "1234"),
        };
        respond.send_response(head.body(()).unwrap(), true).unwrap();
    });
    check(&proxy_to_h2c(v2.address));
}

#[test]
fn an_answer_before_the_answer_does_no_harm() {
    let v1 = Backend::answering(|asked| {
        let early = match asked.line.starts_with("POST") {
            true => "100 Continue",
            false => "103 Early Hints\r\nLink: </a.css>",
        };
        format!("HTTP/1.1 {early}\r\n\r\n{}", ok("late"))
    });
    let proxy = proxy_to(v1.address);
    let mut client = proxy.client();
    for _ in 0..2 {
        let told = client.get("/").unwrap();
        assert_eq!((told.status(), told.text().as_str()), (200, "late"));
        // Nothing of it is taken for a part of the answer.
        assert_eq!(told.field("link"), None);
    }
    run(async {
        let mut client = H2Client::connect(&proxy).await;
        assert_eq!(client.ask(get("/")).await.unwrap().text(), "late");
        // A stream needs no leave to send its body.
        let mut request = asking("POST", "/");
        let wish = HeaderValue::from_static("100-continue");
        request.headers_mut().insert("expect", wish);
        let (answer, mut body) = client.begin(request).await;
        body.send_data(Bytes::from_static(b"x"), true).unwrap();
        assert_eq!(read(answer).await.unwrap().text(), "late");
    });
    let told = proxy.statistics("v1");
    assert_eq!((told.succeeded, told.failed), (4, 0));
}

#[test]
fn an_answer_before_the_answer_of_a_target_of_http2_does_no_harm() {
    let target = H2Target::serving(|_, mut respond| async move {
        for status in [102, 103, 103] {
            let early = Response::builder().status(status);
            let early = early.header("link", "</a.css>").body(()).unwrap();
            respond.send_informational(early).unwrap();
        }
        answer(respond, "late");
    });
    let proxy = proxy_to_h2c(target.address);
    let mut client = proxy.client();
    let told = client.get("/").unwrap();
    assert_eq!((told.status(), told.text().as_str()), (200, "late"));
    assert_eq!(told.field("link"), None);
    run(async {
        let mut client = H2Client::connect(&proxy).await;
        for _ in 0..2 {
            let told = client.ask(get("/")).await.unwrap();
            assert_eq!((told.status, told.text().as_str()), (200, "late"));
            assert_eq!(told.field("link"), None);
        }
    });
    let told = proxy.statistics("v1");
    assert_eq!((told.succeeded, told.failed), (3, 0));
}

#[test]
fn events_come_one_by_one_on_a_stream() {
    let (next, events) = std::sync::mpsc::channel::<&str>();
    let events = Mutex::new(events);
    let v1 = Backend::raw(move |_, mut client| {
        client.read().unwrap();
        client.send(
            "HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nTransfer-Encoding: chunked\r\n\r\n",
        );
        for event in events.lock().unwrap().iter() {
            client.send(&format!("{:x}\r\n{event}\r\n", event.len()));
        }
        client.send("0\r\n\r\n");
        client.is_ended();
    });
    let proxy = proxy_to(v1.address);
    run(async {
        let mut client = H2Client::connect(&proxy).await;
        let mut stream = client.start(get("/")).await.await.unwrap().into_body();
        for event in ["data: 1\n\n", "data: 2\n\n", "data: 3\n\n"] {
            next.send(event).unwrap();
            assert_eq!(stream.data().await.unwrap().unwrap(), event);
        }
        let told = proxy.statistics("v1");
        assert_eq!((told.requests_open, told.streams_open), (0, 1));
        drop(next);
        assert_eq!(read_body(&mut stream).await.unwrap(), b"");
    });
    until("the stream is counted out", || {
        let told = proxy.statistics("v1");
        told.succeeded == 1 && told.streams_open == 0
    });
}

#[test]
fn which_http_is_spoken_is_agreed_on_in_tls() {
    let target = Backend::answering(|asked| ok(asked.field("x-forwarded-proto").unwrap()));
    let proxy = Proxy::at("https=127.0.0.1:0", &[]);
    proxy.apply(shop("v1", &[("v1", &[target.address])]));
    let (chain, key) = pair("shop.example");
    let root = CertificateDer::from_pem_slice(chain.as_bytes()).unwrap();
    let put = proxy.call(Call::PutCertificate {
        name: "shop.example".to_owned(),
        chain,
        key: KeyText(key),
    });
    assert_eq!(put, Reply::CertificatePut);
    let connect = async |offered: &[&[u8]]| {
        let mut roots = rustls::RootCertStore::empty();
        roots.add(root.clone()).unwrap();
        let mut config = rustls::ClientConfig::builder()
            .with_root_certificates(roots)
            .with_no_client_auth();
        config.alpn_protocols = offered.iter().map(|name| name.to_vec()).collect();
        let stream = TcpStream::connect(proxy.address).await.unwrap();
        let name = ServerName::try_from("shop.example").unwrap();
        let connector = TlsConnector::from(Arc::new(config));
        connector.connect(name, stream).await.unwrap()
    };
    run(async {
        let stream = connect(&[b"h2", b"http/1.1"]).await;
        assert_eq!(stream.get_ref().1.alpn_protocol(), Some(&b"h2"[..]));
        let mut client = H2Client::over(stream, &h2::client::Builder::new()).await;
        let mut request = get("/");
        *request.uri_mut() = "https://shop.example/".parse().unwrap();
        assert_eq!(client.ask(request).await.unwrap().text(), "https");
        for offered in [&[&b"http/1.1"[..]][..], &[]] {
            let mut stream = connect(offered).await;
            assert_ne!(stream.get_ref().1.alpn_protocol(), Some(&b"h2"[..]));
            let request = b"GET / HTTP/1.1\r\nHost: shop.example\r\nConnection: close\r\n\r\n";
            stream.write_all(request).await.unwrap();
            let mut told = String::new();
            stream.read_to_string(&mut told).await.unwrap();
            assert!(told.starts_with("HTTP/1.1 200 OK\r\n") && told.ends_with("https"));
        }
    });
}
