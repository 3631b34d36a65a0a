//! What breaks on one side is seen as broken on the other, and only there.

use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering::SeqCst};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use bytes::Bytes;
use cutover_wire::table::Target;
use h2::Reason;
use http::{HeaderMap, HeaderValue, Response};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;

use super::frames::{self, DATA, END_HEADERS, END_STREAM, HEADERS, RawClient, frame};
use super::peers::{H2Client, H2Target, answer, asking, get, read, read_body, run, soon};
use super::{proxy_to, proxy_to_h2c};
use crate::common::{Backend, DEADLINE, Proxy, ok};

/// What a target has seen of streams: how many began, and how many were reset.
#[derive(Debug, Default)]
struct Seen {
    begun: AtomicUsize,
    reset: AtomicUsize,
}

/// The client resets a stream before its answer and one in the middle of it.
fn check_reset_by_client(target: SocketAddr, make: fn(SocketAddr) -> Proxy, seen: &Seen) {
    let proxy = make(target);
    run(async {
        let mut client = H2Client::connect(&proxy).await;
        let (waiting, mut up) = client.begin(asking("POST", "/silent")).await;
        soon("the target has it", || seen.begun.load(SeqCst) == 1).await;
        up.send_reset(Reason::CANCEL);
        assert!(waiting.await.is_err());
        let mut stream = client
            .start(get("/endless"))
            .await
            .await
            .unwrap()
            .into_body();
        let some = stream.data().await.unwrap().unwrap();
        assert!(!some.is_empty());
        drop(stream);
        soon("both are counted, and the target has seen both", || {
            let told = proxy.statistics("v1");
            told.abandoned == 2 && told.requests_open == 0 && seen.reset.load(SeqCst) == 2
        })
        .await;
        // The connection is none the worse.
        assert_eq!(client.ask(get("/")).await.unwrap().text(), "well");
    });
}

#[test]
fn a_stream_that_its_client_resets_ends_at_a_target_of_http1() {
    let seen = Arc::new(Seen::default());
    let count = Arc::clone(&seen);
    let target = Backend::raw(move |_, mut client| {
        let Ok(asked) = client.head() else { return };
        count.begun.fetch_add(1, SeqCst);
        if asked.line.contains("/silent") {
            while client.chunk().is_ok() {}
            count.reset.fetch_add(1, SeqCst);
        } else if asked.line.contains("/endless") {
            use std::io::Write as _;
            client.send("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n");
            while client.stream.write_all(b"1\r\nx\r\n").is_ok() {
                std::thread::sleep(Duration::from_millis(1));
            }
            count.reset.fetch_add(1, SeqCst);
        } else {
            client.send(&ok("well"));
        }
    });
    check_reset_by_client(target.address, proxy_to, &seen);
}

#[test]
fn a_stream_that_its_client_resets_is_reset_at_a_target_of_http2() {
    let seen = Arc::new(Seen::default());
    let count = Arc::clone(&seen);
    let target = H2Target::serving(move |request, mut respond| {
        let count = Arc::clone(&count);
        async move {
            count.begun.fetch_add(1, SeqCst);
            match request.uri().path() {
                "/silent" => {
                    let told = std::future::poll_fn(|cx| respond.poll_reset(cx)).await;
                    assert_eq!(told.unwrap(), Reason::CANCEL);
                    count.reset.fetch_add(1, SeqCst);
                }
                "/endless" => {
                    let mut rest = respond.send_response(Response::new(()), false).unwrap();
                    while rest.send_data(Bytes::from_static(b"x"), false).is_ok() {
                        tokio::time::sleep(Duration::from_millis(1)).await;
                    }
                    count.reset.fetch_add(1, SeqCst);
                }
                _ => answer(respond, "well"),
            }
        }
    });
    check_reset_by_client(target.address, proxy_to_h2c, &seen);
    assert!((1..=2).contains(&target.connections()));
}

#[test]
fn a_request_that_a_target_refuses_is_sent_again_whatever_it_asks_for() {
    let tries = Arc::new(AtomicUsize::new(0));
    let count = Arc::clone(&tries);
    let target = H2Target::serving(move |mut request, mut respond| {
        let count = Arc::clone(&count);
        async move {
            let first = count.fetch_add(1, SeqCst) == 0;
            if first || request.uri().path() == "/never" {
                return respond.send_reset(Reason::REFUSED_STREAM);
            }
            let body = read_body(request.body_mut()).await.unwrap();
            answer(respond, &String::from_utf8(body).unwrap());
        }
    });
    let proxy = proxy_to_h2c(target.address);
    run(async {
        let mut client = H2Client::connect(&proxy).await;
        for length in [None, Some("4")] {
            tries.store(0, SeqCst);
            let mut request = asking("POST", "/");
            if let Some(length) = length {
                let length = HeaderValue::from_static(length);
                request.headers_mut().insert("content-length", length);
            }
            let (told, mut up) = client.begin(request).await;
            up.send_data(Bytes::from_static(b"once"), true).unwrap();
            let told = read(told).await.unwrap();
            assert_eq!((told.status, told.text().as_str()), (200, "once"));
            assert_eq!(tries.load(SeqCst), 2);
        }
        tries.store(0, SeqCst);
        let told = client.post("/never", "never").await.unwrap();
        assert_eq!(told.status, 502);
    });
    // Three on new connections, and one before where there was a used one.
    let never = tries.load(SeqCst);
    assert!((3..=4).contains(&never), "{never}");
    let told = proxy.statistics("v1");
    let retries = u64::try_from(never).unwrap() + 1;
    assert_eq!((told.succeeded, told.failed, told.retries), (2, 1, retries));
}

#[test]
fn a_target_that_refuses_every_stream_leaves_its_requests_to_the_other() {
    let refusing = H2Target::serving(|_, mut respond| async move {
        respond.send_reset(Reason::REFUSED_STREAM);
    });
    let sound = H2Target::serving(|_, respond| async move { answer(respond, "sound") });
    let proxy = proxy_to_h2c(refusing.address);
    proxy.change_shop(|shop| {
        let targets = &mut shop.pools.get_mut("v1").unwrap().targets;
        targets.push(Target {
            id: "v1-1".to_owned(),
            address: sound.address,
        });
    });
    run(async {
        let mut client = H2Client::connect(&proxy).await;
        for _ in 0..20 {
            let told = client.post("/", "order").await.unwrap();
            assert_eq!((told.status, told.text().as_str()), (200, "sound"));
        }
    });
    assert_eq!(proxy.statistics("v1").failed, 0);
}

/// A target by hand. When it is to go, it takes one stream of two on its first
/// connection, says that it goes and has not looked at the second, and answers the first.
async fn half_hearted(
    number: usize,
    mut stream: TcpStream,
    answered: Arc<AtomicUsize>,
    goes: Arc<AtomicBool>,
) {
    let mut preface = [0; 24];
    stream.read_exact(&mut preface).await.unwrap();
    let hello = frame(frames::SETTINGS, 0, 0, &[]);
    stream.write_all(&hello).await.unwrap();
    let mut open = Vec::new();
    loop {
        let mut head = [0; 9];
        if stream.read_exact(&mut head).await.is_err() {
            return;
        }
        let length = u32::from_be_bytes([0, head[0], head[1], head[2]]);
        let mut payload = vec![0; length as usize];
        stream.read_exact(&mut payload).await.unwrap();
        let id = u32::from_be_bytes(head[5..].try_into().unwrap());
        if head[3] == frames::SETTINGS && head[4] == 0 {
            let ack = frame(frames::SETTINGS, frames::ACK, 0, &[]);
            stream.write_all(&ack).await.unwrap();
        }
        if head[3] != frames::HEADERS {
            continue;
        }
        // An answer 204: its field is in the table that both sides know.
        let told = |id| frame(frames::HEADERS, END_STREAM | END_HEADERS, id, &[0x89]);
        if number > 0 || !goes.load(SeqCst) {
            answered.fetch_add(1, SeqCst);
            stream.write_all(&told(id)).await.unwrap();
            continue;
        }
        open.push(id);
        if let [first, _second] = open[..] {
            let mut last = first.to_be_bytes().to_vec();
            last.extend([0; 4]);
            let bye = frame(frames::GOAWAY, 0, 0, &last);
            stream.write_all(&bye).await.unwrap();
            tokio::time::sleep(Duration::from_millis(50)).await;
            answered.fetch_add(1, SeqCst);
            stream.write_all(&told(first)).await.unwrap();
        }
    }
}

#[test]
fn what_a_leaving_target_has_not_looked_at_goes_to_a_new_connection() {
    let answered = Arc::new(AtomicUsize::new(0));
    let goes = Arc::new(AtomicBool::new(false));
    let (count, flag) = (Arc::clone(&answered), Arc::clone(&goes));
    let target = H2Target::raw(move |number, stream| {
        half_hearted(number, stream, Arc::clone(&count), Arc::clone(&flag))
    });
    let proxy = proxy_to_h2c(target.address);
    run(async {
        let mut client = H2Client::connect(&proxy).await;
        client.acquaint("/").await;
        answered.store(0, SeqCst);
        goes.store(true, SeqCst);
        let (first, mut up) = client.begin(asking("POST", "/first")).await;
        up.send_data(Bytes::from_static(b"body"), true).unwrap();
        soon("one is open", || proxy.statistics("v1").requests_open == 1).await;
        let (second, mut up) = client.begin(asking("POST", "/second")).await;
        up.send_data(Bytes::from_static(b"body"), true).unwrap();
        assert_eq!(read(first).await.unwrap().status, 204);
        assert_eq!(read(second).await.unwrap().status, 204);
    });
    let told = proxy.statistics("v1");
    assert_eq!((told.failed, told.retries), (0, 1));
    assert_eq!((target.connections(), answered.load(SeqCst)), (2, 2));
}

#[test]
fn a_target_that_leaves_each_connection_after_a_few_requests_loses_none() {
    let target = H2Target::raw(|_, stream| async move {
        let mut connection = h2::server::handshake(stream).await.unwrap();
        let mut count = 0;
        while let Some(Ok((request, respond))) = connection.accept().await {
            tokio::task::spawn_local(async move {
                let mut body = request.into_body();
                let _ = read_body(&mut body).await;
                tokio::time::sleep(Duration::from_millis(1)).await;
                answer(respond, "served");
            });
            count += 1;
            if count == 20 {
                connection.graceful_shutdown();
            }
        }
    });
    let proxy = proxy_to_h2c(target.address);
    run(async {
        let mut client = H2Client::connect(&proxy).await;
        for _ in 0..50 {
            let mut open = Vec::new();
            for _ in 0..16 {
                let (told, mut up) = client.begin(asking("POST", "/")).await;
                up.send_data(Bytes::from_static(b"body"), true).unwrap();
                open.push(told);
            }
            for told in open {
                assert_eq!(read(told).await.unwrap().text(), "served");
            }
        }
    });
    let told = proxy.statistics("v1");
    assert_eq!((told.succeeded, told.failed), (800, 0));
    assert!(target.connections() > 10);
}

#[test]
fn an_answer_that_breaks_off_never_ends_cleanly() {
    let by_http1 = Backend::raw(|_, mut client| {
        let Ok(asked) = client.read() else { return };
        if asked.line.contains("/short") {
            client.send("HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\nnot all");
        } else if asked.line.contains("/chunks") {
            client.send("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n7\r\nnot all\r\n");
        } else {
            client.send(&ok("well"));
        }
    });
    let by_http2 = H2Target::serving(|request, mut respond| async move {
        let head = Response::builder();
        let head = match request.uri().path() {
            "/short" => head.header("content-length", "100"),
            "/chunks" => head,
            _ => return answer(respond, "well"),
        };
        let mut rest = respond
            .send_response(head.body(()).unwrap(), false)
            .unwrap();
        rest.send_data(Bytes::from_static(b"not all"), false)
            .unwrap();
        tokio::time::sleep(Duration::from_millis(50)).await;
        rest.send_reset(Reason::INTERNAL_ERROR);
    });
    for proxy in [proxy_to(by_http1.address), proxy_to_h2c(by_http2.address)] {
        run(async {
            let mut client = H2Client::connect(&proxy).await;
            for path in ["/short", "/chunks"] {
                let error = client.ask(get(path)).await.unwrap_err();
                assert!(error.is_reset() && error.is_remote(), "{error}");
                assert_ne!(error.reason(), Some(Reason::NO_ERROR));
            }
            assert_eq!(client.ask(get("/")).await.unwrap().text(), "well");
        });
        let told = proxy.statistics("v1");
        assert_eq!((told.succeeded, told.failed, told.abandoned), (1, 2, 0));
    }
}

#[test]
fn a_body_that_its_client_breaks_off_never_ends_cleanly_at_the_target() {
    let (came, bodies) = std::sync::mpsc::channel();
    let begun = Arc::new(AtomicUsize::new(0));
    let count = Arc::clone(&begun);
    let target = Backend::raw(move |_, mut client| {
        let Ok(_) = client.head() else { return };
        let mut whole = Vec::new();
        loop {
            match client.chunk() {
                Err(_) => return came.send(Err(whole)).unwrap(),
                Ok(piece) if piece.is_empty() => return came.send(Ok(whole)).unwrap(),
                Ok(piece) => {
                    count.fetch_add(piece.len(), SeqCst);
                    whole.extend(piece);
                }
            }
        }
    });
    let proxy = proxy_to(target.address);
    run(async {
        let mut client = H2Client::connect(&proxy).await;
        let (_told, mut up) = client.begin(asking("POST", "/")).await;
        up.send_data(Bytes::from_static(b"half"), false).unwrap();
        soon("the target has a part", || begun.load(SeqCst) == 4).await;
        up.send_reset(Reason::CANCEL);
        soon("it is counted", || proxy.statistics("v1").abandoned == 1).await;
    });
    let body = bodies.recv_timeout(DEADLINE).unwrap();
    assert_eq!(body, Err(b"half".to_vec()));
}

#[test]
fn a_body_of_another_length_than_was_said_reaches_no_target_whole() {
    let target = Backend::named("taken");
    let proxy = proxy_to(target.address);
    run(async {
        let mut client = H2Client::connect(&proxy).await;
        for said in ["3", "5", "99999"] {
            let mut request = asking("POST", "/");
            let length = HeaderValue::from_static(said);
            request.headers_mut().insert("content-length", length);
            let (told, mut up) = client.begin(request).await;
            let _ = up.send_data(Bytes::from_static(b"four"), true);
            match read(told).await {
                Ok(told) => assert!(told.status >= 400, "{told:?}"),
                Err(error) => assert!(error.is_reset() && error.is_remote(), "{error}"),
            }
        }
        assert_eq!(client.ask(get("/")).await.unwrap().text(), "taken");
    });
    assert_eq!(target.requests(), 1);
}

#[test]
fn trailers_that_a_client_sends_do_not_become_fields_of_the_request() {
    let target = Backend::answering(|asked| ok(&asked.text()));
    let proxy = proxy_to(target.address);
    run(async {
        let mut client = H2Client::connect(&proxy).await;
        let (told, mut up) = client.begin(asking("POST", "/")).await;
        up.send_data(Bytes::from_static(b"body"), false).unwrap();
        let mut trailers = HeaderMap::new();
        for name in ["content-length", "host", "authorization", "x-forwarded-for"] {
            trailers.insert(name, HeaderValue::from_static("1"));
        }
        up.send_trailers(trailers).unwrap();
        assert_eq!(read(told).await.unwrap().text(), "body");
        // The target's connection is in step: it can be used again.
        assert_eq!(client.post("/", "next").await.unwrap().text(), "next");
    });
    let seen = target.seen.lock().unwrap();
    assert_eq!(seen.len(), 2);
    assert_eq!(seen[0].field("authorization"), None);
}

#[test]
fn a_pseudo_field_among_trailers_reaches_no_target() {
    // `:path: /`, alone and before a plain field that the head announced.
    let path = [0x84];
    let plain = [&path[..], &[0, 1], b"x", &[1], b"1"].concat();
    for (block, trailers) in [(&path[..], &[][..]), (&plain, &["x: 1"])] {
        let lines = Arc::<Mutex<Vec<String>>>::default();
        let journal = Arc::clone(&lines);
        let target = Backend::raw(move |_, mut client| {
            while client.line().is_ok_and(|line| line != "0") {}
            loop {
                match client.line().unwrap() {
                    line if line.is_empty() => break,
                    line => journal.lock().unwrap().push(line),
                }
            }
            client.send(&ok("served"));
        });
        let proxy = proxy_to(target.address);
        let announced = [&frames::post_head()[..], &[0, 7], b"trailer", &[1], b"x"].concat();
        let mut client = RawClient::to(&proxy);
        client.send(&frame(HEADERS, END_HEADERS, 1, &announced));
        client.send(&frame(DATA, 0, 1, b"body"));
        client.send(&frame(HEADERS, END_HEADERS | END_STREAM, 1, block));
        let answer = client.next_of(HEADERS).unwrap();
        assert_eq!(answer.payload[0], 0x88, "the status 200");
        assert_eq!(*lines.lock().unwrap(), trailers);
    }
}

#[test]
fn a_target_that_closes_after_each_answer_loses_no_stream() {
    let target = Backend::raw(|_, mut client| {
        if client.read().is_ok() {
            client.send(&ok("served"));
        }
    });
    let proxy = proxy_to(target.address);
    run(async {
        let mut client = H2Client::connect(&proxy).await;
        for _ in 0..300 {
            assert_eq!(client.ask(get("/")).await.unwrap().text(), "served");
        }
    });
    assert_eq!(proxy.statistics("v1").failed, 0);
}
