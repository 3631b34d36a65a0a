//! Event streams: nothing lost, nothing twice, and no reader holds up another.

use std::sync::Arc;
use std::time::{Duration, Instant};

use cutover_agent::inbox::Limits;
use cutover_plan::event::{Event, Failure, FailureClass};
use cutover_plan::outcome::Outcome;
use cutover_wire::agent::DeployView;
use cutover_wire::event::{Body, Told};
use tokio::task::JoinSet;

use crate::host::{Host, follow_request, until};

#[tokio::test]
async fn a_stream_tells_what_happened_and_ends_with_the_view() {
    let host = Host::new().await;
    let deploy = host.begin(1);
    let mut stream = host.follow(&deploy, None).await;
    let (name, seq, data) = stream.event().await.unwrap();
    let told: Told = serde_json::from_str(&data).unwrap();
    assert_eq!((name.as_str(), seq), ("deploy", told.seq));
    assert!(told.text.contains("shop"), "{}", told.text);
    assert!(matches!(told.event, Body::Known(_)));
    // What happens while it is followed.
    let failure = Failure::new(FailureClass::Request, "nothing to roll back to");
    host.append(&deploy, &Event::PlanRefused { failure });
    let (_, _, data) = stream.event().await.unwrap();
    assert!(data.contains("nothing to roll back to"), "{data}");
    host.end(&deploy);
    let (_, _, data) = stream.event().await.unwrap();
    assert!(data.contains("ended"), "{data}");
    let (name, _, data) = stream.event().await.unwrap();
    let view: DeployView = serde_json::from_str(&data).unwrap();
    assert_eq!(
        (name.as_str(), view.outcome),
        ("view", Some(Outcome::Failed))
    );
    assert_eq!(stream.event().await, None);
}

#[tokio::test]
async fn a_reader_that_comes_back_anywhere_misses_nothing_and_gets_nothing_twice() {
    let host = Host::new().await;
    let deploy = host.begin(1);
    for number in 0..40 {
        host.note(&deploy, &format!("note {number}"));
    }
    host.end(&deploy);
    let all: Vec<u64> = host
        .journal
        .events(&deploy, 0, 100)
        .unwrap()
        .iter()
        .map(|r| r.seq)
        .collect();
    assert_eq!(all.len(), 42);
    for (place, seen) in all.iter().enumerate() {
        let mut stream = host.follow(&deploy, Some(*seen)).await;
        let mut got = Vec::new();
        let mut last = String::new();
        while let Some((name, seq, _)) = stream.event().await {
            if name == "deploy" {
                got.push(seq);
            }
            last = name;
        }
        assert_eq!(got, all[place + 1..]);
        assert_eq!(last, "view");
    }
}

#[tokio::test]
async fn readers_that_lose_their_connection_all_the_time_get_every_event_once() {
    let host = Arc::new(Host::new().await);
    let deploy = host.begin(1);
    let mut readers = JoinSet::new();
    for reader in 1..=20 {
        let (host, deploy) = (Arc::clone(&host), deploy.clone());
        readers.spawn(async move {
            let mut got: Vec<u64> = Vec::new();
            loop {
                let mut stream = host.follow(&deploy, got.last().copied()).await;
                // Each loses its connection after another number of events.
                for _ in 0..reader {
                    match stream.event().await {
                        Some((name, seq, _)) if name == "deploy" => got.push(seq),
                        Some(_) => return got,
                        None => panic!("the stream ended before the view"),
                    }
                }
            }
        });
    }
    let mut written = vec![1];
    for number in 0..60 {
        written.push(host.note(&deploy, &format!("note {number}")));
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    written.push(host.end(&deploy));
    for got in readers.join_all().await {
        assert_eq!(got, written);
    }
}

#[tokio::test]
async fn followers_beyond_the_bound_are_told_to_come_back_and_places_are_given_back() {
    let limits = Limits {
        followers: 3,
        keep_alive: Duration::from_millis(50),
        ..Limits::default()
    };
    let host = Host::with(limits).await;
    let deploy = host.begin(1);
    let mut streams = Vec::new();
    for _ in 0..3 {
        let mut stream = host.follow(&deploy, None).await;
        stream.event().await.unwrap();
        streams.push(stream);
    }
    let request = follow_request(&deploy, None);
    let answer = host.ask(&request).await;
    assert_eq!(
        (answer.status, answer.problem().code.as_str()),
        (503, "followers")
    );
    assert!(answer.head.contains("retry-after: "), "{answer:?}");
    drop(streams);
    until("a place", async || {
        let mut stream = host.connect().await;
        tokio::io::AsyncWriteExt::write_all(&mut stream, request.as_bytes())
            .await
            .unwrap();
        let mut head = [0; 12];
        tokio::io::AsyncReadExt::read_exact(&mut stream, &mut head)
            .await
            .unwrap();
        &head == b"HTTP/1.1 200"
    })
    .await;
}

#[tokio::test]
async fn a_silent_stream_is_kept_alive_with_comments() {
    let limits = Limits {
        keep_alive: Duration::from_millis(50),
        ..Limits::default()
    };
    let host = Host::with(limits).await;
    let deploy = host.begin(1);
    let mut stream = host.follow(&deploy, None).await;
    stream.event().await.unwrap();
    for _ in 0..3 {
        let comment = stream.block().await.unwrap();
        assert!(comment.starts_with(':'), "{comment}");
    }
}

#[tokio::test]
async fn a_reader_that_does_not_read_loses_its_place_and_holds_up_nobody() {
    let limits = Limits {
        followers: 1,
        stall: Duration::from_secs(1),
        ..Limits::default()
    };
    let host = Host::with(limits).await;
    let deploy = host.begin(1);
    let page = "x".repeat(200_000);
    for _ in 0..100 {
        host.note(&deploy, &page);
    }
    let stuck = host.follow(&deploy, None).await;
    tokio::time::sleep(Duration::from_millis(300)).await;
    let request = follow_request(&deploy, Some(101));
    assert_eq!(host.ask(&request).await.status, 503);
    host.end(&deploy);
    until("the place", async || host.ask(&request).await.status == 200).await;
    drop(stuck);
}

#[tokio::test]
async fn a_shutdown_closes_streams_before_their_end() {
    let host = Host::new().await;
    let deploy = host.begin(1);
    let mut stream = host.follow(&deploy, None).await;
    stream.event().await.unwrap();
    host.shutdown.send(true).unwrap();
    let begun = Instant::now();
    assert_eq!(stream.event().await, None);
    host.served.await.unwrap();
    let farewell = host.inbox.limits.farewell;
    assert!(begun.elapsed() < farewell / 2, "it was cut, not closed");
}
