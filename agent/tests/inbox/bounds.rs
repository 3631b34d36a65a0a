//! What a flood costs, and that it keeps nobody out for long.

use std::time::{Duration, Instant};

use cutover_agent::inbox::Limits;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

use crate::host::{Answer, Call, Host, ROLLBACK, until};

#[tokio::test]
async fn an_unsigned_call_is_refused_before_its_body_is_sent() {
    let host = Host::new().await;
    let mut stream = host.connect().await;
    let head = "POST /v1/deploys HTTP/1.1\r\nhost: h\r\ncontent-length: 1000\r\n\r\n";
    stream.write_all(head.as_bytes()).await.unwrap();
    let begun = Instant::now();
    let mut answer = [0; 12];
    stream.read_exact(&mut answer).await.unwrap();
    assert_eq!(&answer, b"HTTP/1.1 401");
    assert!(begun.elapsed() < host.inbox.limits.body);
}

#[tokio::test]
async fn slow_heads_and_bodies_are_cut() {
    let limits = Limits {
        head: Duration::from_millis(200),
        body: Duration::from_millis(200),
        ..Limits::default()
    };
    let host = Host::with(limits).await;
    let request = Call::new("/v1/deploys", ROLLBACK).request();
    for cut in [0, 10, 100] {
        let mut stream = host.connect().await;
        stream.write_all(&request.as_bytes()[..cut]).await.unwrap();
        let begun = Instant::now();
        let mut rest = Vec::new();
        // Closed with or without a word; what counts is that it is closed.
        let _ = stream.read_to_end(&mut rest).await;
        assert!(begun.elapsed() < Duration::from_secs(5), "{cut}");
    }
    let mut stream = host.connect().await;
    let cut = request.len() - 5;
    stream.write_all(&request.as_bytes()[..cut]).await.unwrap();
    let answer = Answer::read(&mut stream).await;
    assert_eq!(
        (answer.status, answer.problem().code.as_str()),
        (408, "slow_body")
    );
}

#[tokio::test]
async fn idle_connections_beyond_the_bound_keep_others_waiting_and_not_out() {
    let limits = Limits {
        connections: 4,
        head: Duration::from_millis(500),
        ..Limits::default()
    };
    let host = Host::with(limits).await;
    let mut idle = Vec::new();
    for _ in 0..20 {
        idle.push(host.connect().await);
    }
    let begun = Instant::now();
    let answer = host
        .ask(&Call::new("/v1/deploys", ROLLBACK).request())
        .await;
    assert_eq!(answer.status, 202);
    assert!(begun.elapsed() >= limits.head, "the bound was not reached");
}

#[tokio::test]
async fn requests_beyond_the_bound_are_told_to_come_back() {
    let limits = Limits {
        requests: 2,
        body: Duration::from_secs(2),
        ..Limits::default()
    };
    let host = Host::with(limits).await;
    let request = Call::new("/v1/deploys", ROLLBACK).request();
    let mut slow = Vec::new();
    for _ in 0..2 {
        let mut stream = host.connect().await;
        stream
            .write_all(&request.as_bytes()[..request.len() - 1])
            .await
            .unwrap();
        slow.push(stream);
    }
    until("the bound", async || host.ask(&request).await.status == 503).await;
    let answer = host.ask(&request).await;
    assert_eq!(
        (answer.status, answer.problem().code.as_str()),
        (503, "busy_agent")
    );
    assert!(answer.head.contains("retry-after: "), "{answer:?}");
    let health = host.ask("GET /healthz HTTP/1.1\r\nhost: h\r\n\r\n").await;
    assert_eq!(health.status, 200);
    until("room", async || host.ask(&request).await.status == 202).await;
}

#[tokio::test]
async fn a_shutdown_answers_what_is_open_and_takes_nothing_new() {
    let host = Host::new().await;
    let request = Call::new("/v1/deploys", ROLLBACK).request();
    let (most, rest) = request.as_bytes().split_at(request.len() - 5);
    let mut open = host.connect().await;
    open.write_all(most).await.unwrap();
    let mut idle = host.connect().await;
    // Until both are in the hands of the server.
    assert_eq!(
        host.ask("GET /healthz HTTP/1.1\r\nhost: h\r\n\r\n")
            .await
            .status,
        200
    );
    tokio::time::sleep(Duration::from_millis(100)).await;
    host.shutdown.send(true).unwrap();
    let mut nothing = Vec::new();
    let _ = idle.read_to_end(&mut nothing).await;
    assert!(nothing.is_empty(), "{nothing:?}");
    until("the closed door", async || {
        tokio::net::TcpStream::connect(host.address).await.is_err()
    })
    .await;
    open.write_all(rest).await.unwrap();
    assert_eq!(Answer::read(&mut open).await.status, 202);
    let served = tokio::time::timeout(Duration::from_secs(4), host.served).await;
    served.expect("before the time is over").unwrap();
}

#[tokio::test]
async fn a_shutdown_does_not_wait_for_those_who_never_finish() {
    let limits = Limits {
        farewell: Duration::from_millis(300),
        ..Limits::default()
    };
    let host = Host::with(limits).await;
    let request = Call::new("/v1/deploys", ROLLBACK).request();
    let mut open = host.connect().await;
    open.write_all(&request.as_bytes()[..request.len() - 5])
        .await
        .unwrap();
    tokio::time::sleep(Duration::from_millis(100)).await;
    host.shutdown.send(true).unwrap();
    let served = tokio::time::timeout(Duration::from_secs(3), host.served).await;
    served.expect("when its time is over").unwrap();
}
