use std::io::{Read as _, Write as _};
use std::net::{Shutdown, TcpListener, TcpStream as Peer};
use std::rc::{Rc, Weak};
use std::time::Duration;

use http::Method;
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use proptest::prelude::*;
use tokio::io::AsyncWriteExt as _;
use tokio::sync::{mpsc, oneshot};

use super::*;
use crate::client::Patience;
use crate::clock::Clock;
use crate::origin::{Origin, Scheme};
use crate::upload::Pace;

/// What came of one exchange.
#[derive(Debug, PartialEq, Eq)]
enum Told {
    /// The status, the body, whether it came whole, whether the connection rests.
    Answer(u16, Vec<u8>, bool, bool),
    Unsent,
    Silent,
    Broken,
}

/// What a target does when it has the request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Then {
    Waits,
    Ends,
}

fn client() -> Client {
    let origin = Origin::peer("127.0.0.1:1".parse().unwrap(), || None, Scheme::Http);
    let clock = Rc::new(Clock::new(Instant::now()));
    let patience = Patience {
        head_ms: u64::MAX,
        idle_ms: u64::MAX,
        min_rate: 0,
        reserve_ms: u64::MAX,
    };
    Client::new(origin, clock, Rc::new(patience), Weak::new(), 0)
}

fn request(method: Method) -> Request<RequestBody> {
    let mut request = Request::new(RequestBody::empty());
    *request.method_mut() = method;
    request
}

async fn connected() -> (Box<Own>, Peer) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let own = Own::connect(listener.local_addr().unwrap()).await.unwrap();
    (own, listener.accept().unwrap().0)
}

async fn exchanged(
    own: &mut Own,
    request: &mut Request<RequestBody>,
    act: impl AsyncFnOnce(),
) -> Told {
    let client = client();
    // The first look at the exchange sends the request.
    let (told, ()) = tokio::join!(own.exchange(request, &client), async {
        tokio::task::yield_now().await;
        act().await;
    });
    let status = match told {
        Ok(response) => response.status().as_u16(),
        Err(ExchangeError::Unsent) => return Told::Unsent,
        Err(ExchangeError::Silent(_)) => return Told::Silent,
        Err(ExchangeError::Broken(_)) => return Told::Broken,
        Err(other) => panic!("{other:?}"),
    };
    let mut body = Vec::new();
    if let Some(whole) = own.take_whole() {
        look().await;
        return Told::Answer(status, whole.to_vec(), true, own.rests());
    }
    while let Some(frame) = poll_fn(|cx| own.poll_frame(cx)).await {
        match frame {
            Ok(frame) => body.extend_from_slice(&frame.into_data().unwrap_or_default()),
            Err(_) => {
                let after = poll_fn(|cx| own.poll_frame(cx)).await;
                assert!(matches!(after, Some(Err(_))), "a broken answer has no end");
                return Told::Answer(status, body, false, own.rests());
            }
        }
    }
    look().await;
    Told::Answer(status, body, true, own.rests())
}

/// The answer to a request by a target that writes these pieces, each when the one
/// before was read.
async fn answer(method: Method, pieces: &[&[u8]], then: Then) -> Told {
    let (mut own, mut peer) = connected().await;
    let mut request = request(method);
    exchanged(&mut own, &mut request, async || {
        let mut head = [0; 1024];
        let count = peer.read(&mut head).unwrap();
        assert!(head[..count].ends_with(b"\r\n\r\n"));
        for piece in pieces {
            // What was written may be refused: then nobody listens any more.
            let _ = peer.write_all(piece);
            look().await;
        }
        if then == Then::Ends {
            let _ = peer.shutdown(Shutdown::Write);
        }
    })
    .await
}

/// Keeps the connection until the other side ends it.
fn stay(mut peer: Peer) {
    let _ = std::io::copy(&mut peer, &mut std::io::sink());
}

/// Lets the runtime see what the kernel has for it already.
async fn look() {
    tokio::time::sleep(Duration::from_millis(1)).await;
}

fn run<R>(act: impl Future<Output = R>) -> R {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .unwrap();
    runtime.block_on(act)
}

fn check(pieces: &[&str], then: Then, expected: &Told) {
    let bytes: Vec<&[u8]> = pieces.iter().map(|piece| piece.as_bytes()).collect();
    let told = run(answer(Method::GET, &bytes, then));
    assert_eq!(told, *expected, "{pieces:?} {then:?}");
}

fn whole(status: u16, body: &str, rests: bool) -> Told {
    Told::Answer(status, body.as_bytes().to_vec(), true, rests)
}

const LENGTH: &str = "HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\n";
const CHUNKED: &str = "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n";

#[test]
fn a_connection_rests_when_its_answer_has_ended_and_nothing_is_behind_it() {
    use Then::{Ends, Waits};
    check(&[LENGTH, "hello"], Waits, &whole(200, "hello", true));
    check(&[LENGTH, "hello"], Ends, &whole(200, "hello", false));
    check(&[LENGTH, "hellomore"], Waits, &whole(200, "hello", false));
    check(
        &[&format!("{LENGTH}hello")],
        Waits,
        &whole(200, "hello", true),
    );
    check(
        &[&format!("{LENGTH}hellomore")],
        Waits,
        &whole(200, "hello", false),
    );
    check(
        &[CHUNKED, "5\r\nhello\r\n0\r\n\r\n"],
        Waits,
        &whole(200, "hello", true),
    );
    check(
        &[CHUNKED, "5\r\nhello\r\n", "0\r\n\r\n"],
        Waits,
        &whole(200, "hello", true),
    );
    check(&[CHUNKED, "0\r\n\r\nmore"], Waits, &whole(200, "", false));
    check(&["HTTP/1.1 204 None\r\n\r\n"], Waits, &whole(204, "", true));
    check(
        &["HTTP/1.1 204 None\r\n\r\nmore"],
        Waits,
        &whole(204, "", false),
    );
    check(
        &["HTTP/1.1 200 OK\r\n\r\nhello"],
        Ends,
        &whole(200, "hello", false),
    );
    let closing = "HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: 5\r\n\r\nhello";
    check(&[closing], Waits, &whole(200, "hello", false));
}

#[test]
fn interim_answers_are_passed_over_up_to_a_bound() {
    let interim = "HTTP/1.1 103 Early Hints\r\nLink: a\r\n\r\n";
    let answer = "HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhello";
    let many = interim.repeat(usize::from(MAX_INTERIM));
    let expected = whole(200, "hello", true);
    check(&[interim, interim, answer], Then::Waits, &expected);
    check(&[&format!("{many}{answer}")], Then::Waits, &expected);
    check(
        &[&format!("{many}{interim}{answer}")],
        Then::Waits,
        &Told::Broken,
    );
    // Even one is a byte of an answer: the request is not sent again.
    check(&[interim], Then::Ends, &Told::Broken);
}

#[test]
fn an_answer_that_is_cut_anywhere_is_silent_broken_or_not_whole() {
    for text in [
        format!("{LENGTH}hello"),
        format!("{CHUNKED}5\r\nhello\r\n0\r\nA: b\r\n\r\n"),
    ] {
        let head = text.find("\r\n\r\n").unwrap() + 4;
        for end in 0..text.len() {
            let told = run(answer(Method::GET, &[&text.as_bytes()[..end]], Then::Ends));
            match told {
                Told::Silent => assert_eq!(end, 0, "{text:?}"),
                Told::Broken => assert!((1..head).contains(&end), "{text:?} to {end}"),
                Told::Answer(200, _, false, false) => assert!(end >= head, "{text:?} to {end}"),
                other => panic!("{text:?} to {end}: {other:?}"),
            }
        }
        for cut in 0..text.len() {
            let (left, right) = text.as_bytes().split_at(cut);
            let told = run(answer(Method::GET, &[left, right], Then::Waits));
            assert_eq!(told, whole(200, "hello", true), "{text:?} cut at {cut}");
        }
    }
}

#[test]
fn a_long_body_comes_whole_however_it_is_framed() {
    let body: Vec<u8> = (0..300_000_u32).map(|n| (n % 251) as u8).collect();
    let length = format!("HTTP/1.1 200 OK\r\nContent-Length: {}\r\n\r\n", body.len());
    let mut chunked = CHUNKED.as_bytes().to_vec();
    for chunk in body.chunks(70_000) {
        chunked.extend_from_slice(format!("{:x}\r\n", chunk.len()).as_bytes());
        chunked.extend_from_slice(chunk);
        chunked.extend_from_slice(b"\r\n");
    }
    chunked.extend_from_slice(b"0\r\n\r\n");
    let until_close = [b"HTTP/1.1 200 OK\r\n\r\n", &body[..]].concat();
    for (bytes, then) in [
        ([length.as_bytes(), &body[..]].concat(), Then::Waits),
        (chunked, Then::Waits),
        (until_close, Then::Ends),
    ] {
        let told = run(async {
            let (mut own, mut peer) = connected().await;
            exchanged(&mut own, &mut request(Method::GET), async || {
                // More than the kernel holds, so it is written while it is read.
                std::thread::spawn(move || {
                    peer.write_all(&bytes).unwrap();
                    if then == Then::Ends {
                        peer.shutdown(Shutdown::Write).unwrap();
                    }
                    stay(peer);
                });
            })
            .await
        });
        assert_eq!(
            told,
            Told::Answer(200, body.clone(), true, then == Then::Waits)
        );
    }
}

#[test]
fn a_connection_that_ended_before_the_request_has_not_sent_it() {
    for early in [&b""[..], b"HTTP/1.1 408 Request Timeout\r\n\r\n"] {
        run(async {
            let (mut own, mut peer) = connected().await;
            peer.write_all(early).unwrap();
            peer.shutdown(Shutdown::Write).unwrap();
            own.stream.readable().await.unwrap();
            let mut request = request(Method::POST);
            request.headers_mut().insert("x-a", "1".parse().unwrap());
            *request.body_mut() = RequestBody::Kept(Some(Bytes::from_static(b"order")));
            let told = exchanged(&mut own, &mut request, async || {}).await;
            assert_eq!(told, Told::Unsent);
            assert_eq!(
                (request.headers().len(), request.body().kept_bytes()),
                (1, 5)
            );
            drop(own);
            let mut got = Vec::new();
            // Dropped with unread bytes it is reset, which is no request either.
            let _ = peer.read_to_end(&mut got);
            assert!(got.is_empty());
        });
    }
}

/// The request of a client that sends `first` at once and `rest` after the word, and how
/// it is given the word.
async fn streamed(
    framing: &str,
    first: &[u8],
    rest: &'static [u8],
) -> (Request<RequestBody>, oneshot::Sender<()>) {
    let (mut sender, stream) = tokio::io::duplex(1 << 16);
    let head = format!("POST / HTTP/1.1\r\nhost: a\r\n{framing}\r\n\r\n");
    sender.write_all(head.as_bytes()).await.unwrap();
    sender.write_all(first).await.unwrap();
    let (word, told) = oneshot::channel();
    tokio::spawn(async move {
        let _ = told.await;
        sender.write_all(rest).await.unwrap();
        std::future::pending::<()>().await;
    });
    let (asked, mut asks) = mpsc::channel(1);
    let service = service_fn(move |request: Request<Incoming>| {
        asked.try_send(request).unwrap();
        std::future::pending::<Result<Response<String>, io::Error>>()
    });
    let server = hyper::server::conn::http1::Builder::new();
    tokio::spawn(server.serve_connection(TokioIo::new(stream), service));
    let (parts, body) = asks.recv().await.unwrap().into_parts();
    let pace = Pace {
        idle_ms: u64::MAX,
        response_ms: u64::MAX,
        hurried: false,
    };
    let body = RequestBody::streamed(body, Rc::new(client()), None, pace);
    (Request::from_parts(parts, body), word)
}

#[test]
fn a_streamed_request_of_which_nothing_was_written_is_there_for_another_connection() {
    for (framing, first, rest) in [
        ("content-length: 10", &b"first"[..], &b" rest"[..]),
        ("content-length: 10", b"", b"first rest"),
        (
            "transfer-encoding: chunked",
            b"5\r\nfirst\r\n",
            b"5\r\n rest\r\n0\r\n\r\n",
        ),
        (
            "transfer-encoding: chunked",
            b"a\r\nfirst rest\r\n0\r\n\r\n",
            b"",
        ),
    ] {
        run(async {
            let (mut request, word) = streamed(framing, first, rest).await;
            look().await;
            let (mut own, peer) = connected().await;
            // The reset is in the kernel, and the runtime has not heard of it.
            let linger = Some(Duration::ZERO);
            socket2::SockRef::from(&peer).set_linger(linger).unwrap();
            drop(peer);
            let told = exchanged(&mut own, &mut request, async || {}).await;
            assert_eq!(told, Told::Unsent, "{framing}");
            let (mut own, mut peer) = connected().await;
            let told = exchanged(&mut own, &mut request, async || {
                word.send(()).unwrap();
                look().await;
                std::thread::spawn(move || {
                    let mut got = String::new();
                    while !(got.ends_with("first rest") || got.ends_with("0\r\n\r\n")) {
                        let mut piece = [0; 1024];
                        let count = peer.read(&mut piece).unwrap();
                        assert!(count > 0, "{got}");
                        got.push_str(std::str::from_utf8(&piece[..count]).unwrap());
                    }
                    let (head, body) = got.split_once("\r\n\r\n").unwrap();
                    assert!(head.contains(framing), "{head}");
                    let body: String = body.split("\r\n").filter(|line| line.len() > 1).collect();
                    assert_eq!(body, "first rest");
                    peer.write_all(LENGTH.as_bytes()).unwrap();
                    peer.write_all(b"hello").unwrap();
                    stay(peer);
                });
            })
            .await;
            assert_eq!(told, whole(200, "hello", true), "{framing}");
        });
    }
}

#[test]
fn a_request_goes_whole_to_a_target_that_reads_it_late() {
    let body = Bytes::from(vec![b'x'; 8 * 1024 * 1024]);
    for length in [0, 5, MAX_JOINED, MAX_JOINED + 1, body.len()] {
        let body = body.slice(..length);
        let kept = body.clone();
        let told = run(async {
            let (mut own, mut peer) = connected().await;
            let mut request = request(Method::PUT);
            *request.body_mut() = RequestBody::Kept(Some(kept));
            exchanged(&mut own, &mut request, async || {
                std::thread::spawn(move || {
                    let mut got = Vec::new();
                    let mut piece = vec![0; 256 * 1024];
                    let head = format!(
                        "PUT / HTTP/1.1\r\nhost: {}\r\ncontent-length: {length}\r\n\r\n",
                        peer.local_addr().unwrap()
                    );
                    while got.len() < head.len() + length {
                        let count = peer.read(&mut piece).unwrap();
                        assert!(count > 0);
                        got.extend_from_slice(&piece[..count]);
                    }
                    assert!(got == [head.as_bytes(), &body[..]].concat());
                    peer.write_all(LENGTH.as_bytes()).unwrap();
                    peer.write_all(b"hello").unwrap();
                    stay(peer);
                });
            })
            .await
        });
        assert_eq!(told, whole(200, "hello", true), "{length}");
    }
}

/// What came of a request that its target does not read to its end; `act` is what
/// the target does when it has the beginning.
fn unread(act: fn(Peer) -> Option<Peer>) -> Told {
    run(async {
        let (mut own, mut peer) = connected().await;
        let mut request = request(Method::PUT);
        let body = vec![b'x'; 16 * 1024 * 1024];
        *request.body_mut() = RequestBody::Kept(Some(Bytes::from(body)));
        let mut kept = None;
        exchanged(&mut own, &mut request, async || {
            peer.read_exact(&mut [0; 1000]).unwrap();
            kept = act(peer.try_clone().unwrap());
            drop(peer);
        })
        .await
    })
}

#[test]
fn an_answer_to_a_request_that_nobody_reads_to_its_end_is_passed_on() {
    fn answered(mut peer: Peer) -> Peer {
        peer.write_all(LENGTH.as_bytes()).unwrap();
        peer.write_all(b"hello").unwrap();
        peer
    }
    let expected = whole(200, "hello", false);
    assert_eq!(unread(|peer| Some(answered(peer))), expected);
    let ended = |peer| {
        let peer = answered(peer);
        peer.shutdown(Shutdown::Write).unwrap();
        Some(peer)
    };
    assert_eq!(unread(ended), expected);
    // Closed with bytes that nobody read: the rest of the request meets a reset.
    assert_eq!(unread(|peer| drop_whole(answered(peer))), expected);
}

#[test]
fn a_request_of_which_a_part_was_written_is_not_unsent() {
    assert_eq!(unread(drop_whole), Told::Silent);
    let ended = |peer: Peer| {
        peer.shutdown(Shutdown::Write).unwrap();
        Some(peer)
    };
    assert_eq!(unread(ended), Told::Silent);
}

fn drop_whole(_: Peer) -> Option<Peer> {
    None
}

/// Parts of answers, so that many of the lists are nearly sound.
fn part() -> impl Strategy<Value = Vec<u8>> {
    let known = prop::sample::select(vec![
        "HTTP/1.1 200 OK\r\n",
        "HTTP/1.0 200 OK\r\n",
        "HTTP/1.1 100 Continue\r\n\r\n",
        "HTTP/1.1 204 No Content\r\n",
        "Content-Length: 3\r\n",
        "Content-Length: 4\r\n",
        "Transfer-Encoding: chunked\r\n",
        "Connection: close\r\n",
        "\r\n",
        "abc",
        "3\r\nabc\r\n",
        "0\r\n\r\n",
        "A: b\r\n",
        "\r",
        "\n",
    ]);
    prop_oneof![
        9 => known.prop_map(|text| text.as_bytes().to_vec()),
        1 => prop::collection::vec(any::<u8>(), 1..5),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(256))]

    #[test]
    fn whatever_a_target_sends_a_clean_end_is_told_by_its_framing(
        parts in prop::collection::vec(part(), 0..10),
        head in any::<bool>(),
    ) {
        let bytes = parts.concat();
        let method = if head { Method::HEAD } else { Method::GET };
        let told = run(answer(method.clone(), &[&bytes], Then::Ends));
        if let Told::Answer(_, body, whole, rests) = told {
            // It has ended, so it is never used again.
            prop_assert!(!rests);
            let mut read = Bytes::from(bytes);
            let found = loop {
                match head::parse(&mut read, &method, http::HeaderMap::new()) {
                    Ok(Parsed::Interim) => {}
                    Ok(Parsed::Whole(found)) => break found,
                    other => return Err(TestCaseError::fail(format!("{other:?}"))),
                }
            };
            match found.framing {
                Framing::Ended => prop_assert!(whole && body.is_empty()),
                Framing::UntilClose => prop_assert!(whole && body == read),
                Framing::Length(length) => {
                    let there = (read.len() as u64).min(length);
                    prop_assert_eq!(whole, there == length);
                    prop_assert_eq!(&body[..], &read[..there as usize]);
                }
                Framing::Chunked(_) => prop_assert!(!whole || read.windows(5).any(|five| five == b"0\r\n\r\n")
                    || read.windows(3).any(|three| three == b"0\r\n")),
                Framing::Broken(_) => prop_assert!(false),
            }
        }
    }
}
