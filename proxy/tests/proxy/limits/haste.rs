//! Who is too slow and who is not: a client that stands still is cut at the stated
//! rate, and time that a target or a silent talk takes costs nobody anything.

use std::future::poll_fn;
use std::io::Write;
use std::sync::mpsc;
use std::thread;
use std::time::{Duration, Instant};

use bytes::Bytes;
use h2::client::{ResponseFuture, SendRequest};
use http::Request;
use socket2::SockRef;

use super::{counted, drain, large, put};
use crate::common::{Backend, Client, Proxy, ok, until};
use cutover_wire::table::Connections;

/// A tenth of what real ones have, and a rate that a test can keep.
const OPTIONS: [&str; 4] = ["--min-rate", "20000", "--patience", "1s"];

/// Longer than the patience, by far.
const LONG: Duration = Duration::from_millis(2_000);

fn served(backend: &Backend, more: &[&str]) -> Proxy {
    let options: Vec<&str> = OPTIONS.iter().chain(more).copied().collect();
    let proxy = Proxy::start(&options);
    put(&proxy, backend.address, Connections::default());
    proxy
}

/// A client whose kernel takes little that it does not read.
fn narrow(proxy: &Proxy) -> Client {
    let client = proxy.client();
    SockRef::from(&client.stream)
        .set_recv_buffer_size(16 * 1024)
        .unwrap();
    client
}

#[test]
fn a_reader_that_stands_still_is_cut_and_one_that_keeps_the_rate_is_not() {
    const LENGTH: usize = 6 * 1024 * 1024;
    let backend = large(LENGTH);
    let proxy = served(&backend, &[]);
    thread::scope(|scope| {
        scope.spawn(|| {
            let mut still = narrow(&proxy);
            still.send("GET /large HTTP/1.1\r\nHost: a\r\n\r\n");
            thread::sleep(LONG);
            let came = drain(&mut still.stream);
            assert!(came < LENGTH, "it was waited for");
        });
        scope.spawn(|| {
            let mut steady = narrow(&proxy);
            steady.send("GET /large HTTP/1.1\r\nHost: a\r\n\r\n");
            assert_eq!(steady.head().unwrap().status(), 200);
            // Ten times the rate, for longer than the patience, and then the rest.
            let began = Instant::now();
            let mut came = 0;
            while began.elapsed() < LONG {
                came += steady.exactly(20_000).unwrap().len();
                thread::sleep(Duration::from_millis(100));
            }
            came += steady.exactly(LENGTH - came).unwrap().len();
            assert_eq!(came, LENGTH);
            assert_eq!(steady.get("/").unwrap().text(), "short");
        });
    });
}

#[test]
fn the_end_of_an_answer_is_waited_for_like_the_rest_of_it() {
    // Less than the buffers between target and client: all of it is ours at once.
    const LENGTH: usize = 4 * 1024 * 1024;
    let backend = large(LENGTH);
    // Idle ones are closed sooner than it is taken.
    let proxy = served(&backend, &["--idle-timeout", "700ms"]);
    let mut client = narrow(&proxy);
    client.send("GET /large HTTP/1.1\r\nHost: a\r\n\r\n");
    client.head().unwrap();
    let mut came = 0;
    while came < LENGTH {
        let count = (LENGTH - came).min(80_000);
        came += client.exactly(count).unwrap().len();
        thread::sleep(Duration::from_millis(40));
    }
}

#[test]
fn what_the_kernel_has_of_an_answer_is_taken_as_slowly_as_one_likes_and_holds_nothing() {
    // Less than the client's and our side of the kernel hold together.
    const LENGTH: usize = 60 * 1024;
    let backend = large(LENGTH);
    let proxy = served(&backend, &["--idle-timeout", "700ms"]);
    for fields in ["", "Connection: close\r\n"] {
        let mut client = narrow(&proxy);
        client.send(&format!("GET /large HTTP/1.1\r\nHost: a\r\n{fields}\r\n"));
        client.head().unwrap();
        let open = || counted(&proxy).connections_open;
        until("we are done with it", || open() == 0);
        // Below the lowest rate, for longer than the patience.
        let began = Instant::now();
        let mut came = 0;
        while began.elapsed() < LONG {
            came += client.exactly(1_000).unwrap().len();
            thread::sleep(Duration::from_millis(100));
        }
        assert!(came < LENGTH / 2, "{came}");
        came += client.exactly(LENGTH - came).unwrap().len();
        assert_eq!(came, LENGTH);
        assert!(client.is_ended());
    }
}

#[test]
fn an_upload_that_stands_still_is_cut_and_one_that_keeps_the_rate_is_not() {
    let backend = Backend::answering(|asked| ok(&asked.body.len().to_string()));
    let proxy = served(&backend, &[]);
    thread::scope(|scope| {
        for (length, pause) in [(10_000, 80), (200_000, 200)] {
            let proxy = &proxy;
            let head = format!("POST / HTTP/1.1\r\nHost: a\r\nContent-Length: {length}\r\n\r\n");
            let begun = head.clone();
            scope.spawn(move || {
                let mut still = proxy.client();
                still.send(&begun);
                let began = Instant::now();
                assert_eq!(still.read().unwrap().status(), 408, "{length}");
                let took = began.elapsed();
                assert!(took >= Duration::from_millis(950), "{took:?}");
                assert!(took < LONG, "{took:?}");
                assert!(still.is_ended());
            });
            scope.spawn(move || {
                let mut steady = proxy.client();
                steady.send(&head);
                // The short one below the rate, within what the patience allows beyond it.
                let pieces = 10;
                for _ in 0..pieces {
                    thread::sleep(Duration::from_millis(pause));
                    steady.send(&"x".repeat(length / pieces));
                }
                let answer = steady.read().unwrap();
                let told = (answer.status(), answer.text());
                assert_eq!(told, (200, length.to_string()));
            });
        }
    });
}

#[test]
fn a_target_that_is_slow_costs_its_client_nothing() {
    // It takes no body and gives no answer for long, and then an answer in two parts.
    let backend = Backend::raw(|_, mut client| {
        thread::sleep(LONG);
        let asked = client.read().unwrap();
        thread::sleep(LONG);
        let length = asked.body.len().to_string();
        let total = length.len() + 5;
        client.send(&format!(
            "HTTP/1.1 200 OK\r\nContent-Length: {total}\r\n\r\nhalf "
        ));
        thread::sleep(LONG);
        client.send(&length);
        client.is_ended();
    });
    let proxy = served(&backend, &[]);
    let length = 8 * 1024 * 1024;
    let mut client = proxy.client();
    let answer = client.post("/", &"x".repeat(length)).unwrap();
    assert_eq!(answer.text(), format!("half {length}"));
}

#[test]
fn silent_events_and_websockets_are_not_slow() {
    let backend = Backend::raw(|_, mut client| {
        let asked = client.read().unwrap();
        if asked.field("upgrade").is_some() {
            client.send(
                "HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\n\
                 Upgrade: websocket\r\nSec-WebSocket-Accept: y\r\n\r\n",
            );
            let said = client.exactly(4).unwrap();
            client.stream.write_all(&said).unwrap();
        } else {
            client.send(
                "HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\n\
                 Transfer-Encoding: chunked\r\n\r\n9\r\ndata: 1\n\n\r\n",
            );
            thread::sleep(LONG);
            client.send("9\r\ndata: 2\n\n\r\n");
        }
        client.is_ended();
    });
    let proxy = served(&backend, &[]);
    let mut events = proxy.client();
    events.send("GET / HTTP/1.1\r\nHost: a\r\n\r\n");
    events.head().unwrap();
    assert_eq!(events.chunk().unwrap(), b"data: 1\n\n");
    let mut tunnel = proxy.client();
    tunnel.send(
        "GET /ws HTTP/1.1\r\nHost: a\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\
         Sec-WebSocket-Key: x\r\nSec-WebSocket-Version: 13\r\n\r\n",
    );
    assert_eq!(tunnel.head().unwrap().status(), 101);
    assert_eq!(events.chunk().unwrap(), b"data: 2\n\n");
    tunnel.send("late");
    assert_eq!(tunnel.exactly(4).unwrap(), b"late");
}

/// A proxy with a second door where HTTP/2 begins without asking, and a client there.
async fn talk(proxy: &Proxy) -> SendRequest<Bytes> {
    let stream = tokio::net::TcpStream::connect(proxy.listener(1))
        .await
        .unwrap();
    // Much for the connection, so that one stream cannot hold up another.
    let (client, connection) = h2::client::Builder::new()
        .initial_window_size(32 * 1024)
        .initial_connection_window_size(64 * 1024 * 1024)
        .handshake(stream)
        .await
        .unwrap();
    tokio::spawn(connection);
    client
}

async fn get(client: &mut SendRequest<Bytes>, path: &str) -> ResponseFuture {
    let uri = format!("http://shop.example{path}");
    let request = Request::get(uri).body(()).unwrap();
    poll_fn(|cx| client.poll_ready(cx)).await.unwrap();
    client.send_request(request, true).unwrap().0
}

/// The body, as long as it comes, with its window kept open.
async fn whole(answer: ResponseFuture) -> Result<usize, h2::Error> {
    let mut body = answer.await?.into_body();
    let mut sum = 0;
    while let Some(data) = body.data().await {
        let count = data?.len();
        sum += count;
        body.flow_control().release_capacity(count)?;
    }
    Ok(sum)
}

fn run(work: impl Future<Output = ()>) {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .unwrap();
    runtime.block_on(async {
        tokio::time::timeout(crate::common::DEADLINE, work)
            .await
            .expect("it ended in time");
    });
}

#[test]
fn streams_whose_windows_stay_closed_are_cut_and_harm_no_other_of_their_connection() {
    const LENGTH: usize = 3 * 1024 * 1024;
    for length in [LENGTH, 40 * 1024] {
        let backend = large(length);
        let proxy = served(&backend, &["--listen", "http+h2c=127.0.0.1:0"]);
        run(async {
            let mut client = talk(&proxy).await;
            let mut still = Vec::new();
            for _ in 0..20 {
                let answer = get(&mut client, "/large").await.await.unwrap();
                // 32 KB came or are to come; nothing is said to have been taken.
                still.push(answer.into_body());
            }
            let began = Instant::now();
            let mut steady = get(&mut client, "/large").await.await.unwrap().into_body();
            let mut came = 0;
            while began.elapsed() < LONG || came < length {
                // Some 25 KB in a tenth of a second, and it is served on the way.
                if came < length {
                    let count = steady.data().await.unwrap().unwrap().len();
                    came += count;
                    steady.flow_control().release_capacity(count).unwrap();
                }
                let short = get(&mut client, "/").await;
                assert_eq!(whole(short).await.unwrap(), "short".len());
                if began.elapsed() < LONG {
                    tokio::time::sleep(Duration::from_millis(20)).await;
                }
            }
            assert_eq!(came, length);
            for mut body in still {
                let mut came = 0;
                let ended = loop {
                    match body.data().await {
                        Some(Ok(data)) => came += data.len(),
                        Some(Err(error)) => break Some(error),
                        None => break None,
                    }
                };
                let error = ended.expect("it was cut, and has no end");
                assert!(error.is_reset(), "{error}");
                assert!(came < length, "{came}");
            }
            assert_eq!(whole(get(&mut client, "/").await).await.unwrap(), 5);
        });
    }
}

#[test]
fn a_stream_that_is_taken_slowly_to_its_last_byte_is_whole() {
    const LENGTH: usize = 200 * 1024;
    let backend = large(LENGTH);
    let proxy = served(&backend, &["--listen", "http+h2c=127.0.0.1:0"]);
    run(async {
        let mut client = talk(&proxy).await;
        let mut body = get(&mut client, "/large").await.await.unwrap().into_body();
        let mut came = 0;
        while let Some(data) = body.data().await {
            let count = data.unwrap().len();
            came += count;
            // About twice the rate.
            let pause = Duration::from_secs_f64(count as f64 / 45_000.0);
            tokio::time::sleep(pause).await;
            body.flow_control().release_capacity(count).unwrap();
        }
        assert_eq!(came, LENGTH);
    });
}

#[test]
fn a_talk_over_http_2_may_pause_in_both_directions() {
    // Echoes each message of a body of unknown length as it comes.
    let (heard, listened) = mpsc::channel::<()>();
    let backend = Backend::raw(move |_, mut client| {
        client.head().unwrap();
        client.send("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n");
        while let Ok(chunk) = client.chunk() {
            if chunk.is_empty() {
                client.send("0\r\n\r\n");
                break;
            }
            let text = String::from_utf8(chunk).unwrap();
            client.send(&format!("{:x}\r\n{text}\r\n", text.len()));
            let _ = heard.send(());
        }
        client.is_ended();
    });
    let proxy = served(&backend, &["--listen", "http+h2c=127.0.0.1:0"]);
    run(async {
        let mut client = talk(&proxy).await;
        poll_fn(|cx| client.poll_ready(cx)).await.unwrap();
        let request = Request::post("http://shop.example/talk").body(()).unwrap();
        let (answer, mut say) = client.send_request(request, false).unwrap();
        say.send_data(Bytes::from_static(b"one"), false).unwrap();
        let mut body = answer.await.unwrap().into_body();
        assert_eq!(body.data().await.unwrap().unwrap(), "one");
        body.flow_control().release_capacity(3).unwrap();
        tokio::time::sleep(LONG).await;
        say.send_data(Bytes::from_static(b"two"), true).unwrap();
        assert_eq!(body.data().await.unwrap().unwrap(), "two");
        body.flow_control().release_capacity(3).unwrap();
        while let Some(data) = body.data().await {
            assert_eq!(data.unwrap(), "");
        }
    });
    assert_eq!(listened.try_iter().count(), 2);
}
