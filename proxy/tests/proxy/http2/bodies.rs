//! Large bodies: whoever reads slowly holds up whoever sends, and nothing else.

use std::sync::atomic::{AtomicUsize, Ordering::SeqCst};
use std::sync::{Arc, mpsc};
use std::time::{Duration, Instant};

use bytes::Bytes;
use http::Response;

use super::peers::{
    DOOR, H2Client, H2Target, answer, asking, get, read, read_body, run, send, soon, to_h2c,
};
use super::{proxy_to, proxy_to_h2c};
use crate::common::{Backend, Proxy, memory, ok, shop};

/// Larger than all windows and socket buffers together.
const SIZE: usize = 48 * 1024 * 1024;

const PIECE: usize = 64 * 1024;

/// What a body that stands still may cost: the windows of both sides and buffers
/// in between, with room for what the allocator keeps.
const HELD: usize = 8 * 1024 * 1024;

/// Waits until a count stands still, and tells it.
async fn settled(count: &AtomicUsize) -> usize {
    let mut before = 0;
    loop {
        tokio::time::sleep(Duration::from_millis(200)).await;
        let now = count.load(SeqCst);
        if now == before && now > 0 {
            return now;
        }
        before = now;
    }
}

/// A target of HTTP/1.1 with a large answer, and what it could send of it.
fn large_by_http1() -> (Backend, Arc<AtomicUsize>) {
    let sent = Arc::new(AtomicUsize::new(0));
    let count = Arc::clone(&sent);
    let target = Backend::raw(move |_, mut client| {
        use std::io::Write as _;
        while let Ok(asked) = client.read() {
            if asked.line.contains("/small") {
                client.send(&ok("small"));
                continue;
            }
            client.send(&format!(
                "HTTP/1.1 200 OK\r\nContent-Length: {SIZE}\r\n\r\n"
            ));
            for _ in 0..SIZE / PIECE {
                if client.stream.write_all(&[b'x'; PIECE]).is_err() {
                    return;
                }
                count.fetch_add(PIECE, SeqCst);
            }
        }
    });
    (target, sent)
}

/// The same, of HTTP/2.
fn large_by_http2() -> (H2Target, Arc<AtomicUsize>) {
    let sent = Arc::new(AtomicUsize::new(0));
    let count = Arc::clone(&sent);
    let target = H2Target::serving(move |request, mut respond| {
        let count = Arc::clone(&count);
        async move {
            if request.uri().path() == "/small" {
                return answer(respond, "small");
            }
            let mut rest = respond.send_response(Response::new(()), false).unwrap();
            for _ in 0..SIZE / PIECE {
                // Less than a window, so that there is room for it at some time.
                for _ in 0..4 {
                    if !send(&mut rest, Bytes::from_static(&[b'x'; PIECE / 4])).await {
                        return;
                    }
                }
                count.fetch_add(PIECE, SeqCst);
            }
            let _ = rest.send_data(Bytes::new(), true);
        }
    });
    (target, sent)
}

/// A stream that is not read holds its target up, costs little memory, and comes
/// whole when it is read at last.
fn check_slow_reader(proxy: &Proxy, sent: &AtomicUsize) {
    run(async {
        let mut client = H2Client::connect(proxy).await;
        assert_eq!(client.ask(get("/small")).await.unwrap().text(), "small");
        let before = memory(proxy);
        let mut body = client.start(get("/")).await.await.unwrap().into_body();
        let taken = settled(sent).await;
        assert!(taken < SIZE / 2, "{taken} bytes were taken from the target");
        let grown = memory(proxy).saturating_sub(before);
        assert!(grown < HELD, "it holds {grown} bytes");
        assert_eq!(read_body(&mut body).await.unwrap().len(), SIZE);
        let grown = memory(proxy).saturating_sub(before);
        assert!(grown < HELD, "it holds {grown} bytes");
    });
}

#[test]
fn a_large_answer_of_http1_waits_for_a_slow_stream() {
    let (target, sent) = large_by_http1();
    check_slow_reader(&proxy_to(target.address), &sent);
}

#[test]
fn a_large_answer_of_http2_waits_for_a_slow_stream() {
    let (target, sent) = large_by_http2();
    check_slow_reader(&proxy_to_h2c(target.address), &sent);
}

#[test]
fn a_stream_that_is_not_read_holds_up_no_other_of_its_connection() {
    let (target, sent) = large_by_http1();
    let proxy = proxy_to(target.address);
    run(async {
        let mut settings = h2::client::Builder::new();
        settings.initial_connection_window_size(1024 * 1024);
        let stream = tokio::net::TcpStream::connect(proxy.address).await.unwrap();
        let mut client = H2Client::over(stream, &settings).await;
        let stuck = client.start(get("/")).await.await.unwrap();
        settled(&sent).await;
        for _ in 0..10 {
            assert_eq!(client.ask(get("/small")).await.unwrap().text(), "small");
        }
        drop(stuck);
    });
}

#[test]
fn clients_that_do_not_read_hold_up_no_other_of_a_shared_connection_to_a_target() {
    let (target, sent) = large_by_http2();
    let proxy = Proxy::at(DOOR, &["--workers", "1"]);
    proxy.apply(to_h2c(shop("v1", &[("v1", &[target.address])])));
    run(async {
        let mut client = H2Client::connect(&proxy).await;
        client.acquaint("/small").await;
        let before = target.connections();
        let mut stuck = Vec::new();
        for _ in 0..40 {
            let mut client = H2Client::connect(&proxy).await;
            stuck.push(client.start(get("/")).await.await.unwrap());
        }
        settled(&sent).await;
        assert_eq!(client.ask(get("/small")).await.unwrap().text(), "small");
        assert_eq!(target.connections(), before);
    });
}

/// An upload to a target that reads only when it is let holds the client up, costs
/// little memory, and arrives whole.
fn check_slow_target(proxy: &Proxy, go: &dyn Fn()) {
    run(async {
        let mut client = H2Client::connect(proxy).await;
        let (told, mut body) = client.begin(asking("POST", "/upload")).await;
        let sent = Arc::new(AtomicUsize::new(0));
        let count = Arc::clone(&sent);
        let before = memory(proxy);
        let upload = tokio::task::spawn_local(async move {
            for _ in 0..SIZE / (16 * 1024) {
                assert!(send(&mut body, Bytes::from_static(&[b'x'; 16 * 1024])).await);
                count.fetch_add(16 * 1024, SeqCst);
            }
            body.send_data(Bytes::new(), true).unwrap();
        });
        let taken = settled(&sent).await;
        assert!(taken < SIZE / 2, "{taken} bytes were taken from the client");
        let grown = memory(proxy).saturating_sub(before);
        assert!(grown < HELD, "it holds {grown} bytes");
        go();
        assert_eq!(read(told).await.unwrap().text(), SIZE.to_string());
        upload.await.unwrap();
        let grown = memory(proxy).saturating_sub(before);
        assert!(grown < HELD, "it holds {grown} bytes");
    });
}

#[test]
fn a_large_upload_waits_for_a_slow_target_of_http1() {
    let (release, gate) = mpsc::channel::<()>();
    let gate = std::sync::Mutex::new(gate);
    let target = Backend::raw(move |_, mut client| {
        client.head().unwrap();
        gate.lock().unwrap().recv().unwrap();
        let mut size = 0;
        loop {
            match client.chunk().unwrap().len() {
                0 => break,
                count => size += count,
            }
        }
        client.send(&ok(&size.to_string()));
        client.is_ended();
    });
    let proxy = proxy_to(target.address);
    check_slow_target(&proxy, &|| release.send(()).unwrap());
}

#[test]
fn a_large_upload_waits_for_a_slow_target_of_http2() {
    let gate = Arc::new(tokio::sync::Semaphore::new(0));
    let held = Arc::clone(&gate);
    let target = H2Target::serving(move |request, respond| {
        let gate = Arc::clone(&held);
        async move {
            let _let_go = gate.acquire().await.unwrap();
            let mut body = request.into_body();
            let mut size = 0;
            while let Some(data) = body.data().await {
                let count = data.unwrap().len();
                body.flow_control().release_capacity(count).unwrap();
                size += count;
            }
            answer(respond, &size.to_string());
        }
    });
    let proxy = proxy_to_h2c(target.address);
    check_slow_target(&proxy, &|| gate.add_permits(1));
}

#[test]
fn a_stream_that_is_never_read_is_reset_in_time_and_its_connection_goes_on() {
    let (target, _) = large_by_http1();
    let proxy = Proxy::at(DOOR, &["--patience", "1s"]);
    proxy.apply(shop("v1", &[("v1", &[target.address])]));
    run(async {
        let mut settings = h2::client::Builder::new();
        settings.initial_connection_window_size(1024 * 1024);
        let stream = tokio::net::TcpStream::connect(proxy.address).await.unwrap();
        let mut client = H2Client::over(stream, &settings).await;
        let began = Instant::now();
        let mut stuck = client.start(get("/")).await.await.unwrap().into_body();
        // As long as the patience, and then the stream alone ends.
        soon("it is given up", || proxy.statistics("v1").abandoned == 1).await;
        let took = began.elapsed();
        assert!(took >= Duration::from_millis(900), "{took:?}");
        let error = loop {
            match stuck.data().await {
                Some(Ok(_)) => {}
                told => break told.expect("no clean end").unwrap_err(),
            }
        };
        assert!(error.is_reset() && error.is_remote(), "{error}");
        assert_eq!(client.ask(get("/small")).await.unwrap().text(), "small");
    });
}
