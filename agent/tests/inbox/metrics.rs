//! The figures: counted as deploys go and calls come, told to the host alone.

use std::sync::Arc;

use cutover_agent::inbox::serve_network;
use cutover_agent::metrics::Metrics;
use cutover_plan::event::Event;
use cutover_plan::outcome::Outcome;
use cutover_wire::signature::Secret;
use jiff::SignedDuration;
use tokio::net::TcpListener;

use crate::host::{Call, Host, ROLLBACK, id, now, token, until};
use crate::local::ask;

fn get(path: &str) -> String {
    format!("GET {path} HTTP/1.1\r\nhost: h\r\n\r\n")
}

/// The value of a line that begins so.
fn value(text: &str, line: &str) -> Option<f64> {
    let found = text.lines().find_map(|one| one.strip_prefix(line))?;
    Some(found.trim().parse().unwrap())
}

/// Follows the journal until the figures hold what is expected.
async fn follow(host: &Host) {
    let metrics = Arc::clone(&host.inbox.metrics);
    tokio::spawn(async move { metrics.follow(std::future::pending()).await });
}

async fn wait_for(host: &Host, line: &str, expected: f64) -> String {
    let metrics = &host.inbox.metrics;
    until(line, async || {
        value(&metrics.render().unwrap(), line) == Some(expected)
    })
    .await;
    metrics.render().unwrap()
}

#[tokio::test]
async fn deploys_are_counted_as_the_journal_grows() {
    let host = Host::new().await;
    follow(&host).await;
    let deploy = host.begin(1);
    let queued = r#"cutover_agent_deploys_queued{app="shop"}"#;
    wait_for(&host, queued, 1.0).await;
    host.append(&deploy, &Event::AbortRequested { by: "ada".into() });
    let end = Event::Ended {
        outcome: Outcome::Aborted,
    };
    let later = now() + SignedDuration::from_secs(20);
    host.append_at(&deploy, later, &end);
    let ended = r#"cutover_agent_deploys_total{app="shop",outcome="aborted"}"#;
    let text = wait_for(&host, ended, 1.0).await;
    let figure = |line: &str| value(&text, line);
    assert_eq!(figure(queued), Some(0.0));
    let seconds = "cutover_agent_deploy_seconds";
    for (line, expected) in [
        (r#"_bucket{outcome="aborted",le="15"}"#, 0.0),
        (r#"_bucket{outcome="aborted",le="30"}"#, 1.0),
        (r#"_bucket{outcome="aborted",le="+Inf"}"#, 1.0),
        (r#"_sum{outcome="aborted"}"#, 20.0),
        (r#"_count{outcome="promoted"}"#, 0.0),
    ] {
        assert_eq!(
            figure(&format!("{seconds}{line}")),
            Some(expected),
            "{line}"
        );
    }
    let other = r#"cutover_agent_deploys_total{app="shop",outcome="promoted"}"#;
    assert_eq!(figure(other), Some(0.0));
    assert_eq!(figure("cutover_agent_outbox_waiting"), Some(0.0));
    assert!(figure("cutover_agent_journal_bytes").unwrap() > 4096.0);
}

#[tokio::test]
async fn what_was_under_way_before_the_process_is_known_and_not_counted_twice() {
    let host = Host::new().await;
    let promoted = host.begin(1);
    host.append(&promoted, &Event::AbortRequested { by: "ada".into() });
    let outcome = Outcome::Promoted;
    host.append(&promoted, &Event::Ended { outcome });
    let open = host.begin(2);
    let apps = host.inbox.desk.apps();
    let file = host.folder.path().join("agent.db");
    // The next process.
    let metrics = Metrics::new(host.journal.clone(), &file, apps, now()).unwrap();
    let metrics = Arc::new(metrics);
    let text = metrics.render().unwrap();
    let figure = |line: &str| value(&text, line);
    let total = r#"cutover_agent_deploys_total{app="shop",outcome="promoted"}"#;
    assert_eq!(figure(total), Some(0.0));
    let queued = r#"cutover_agent_deploys_queued{app="shop"}"#;
    assert_eq!(figure(queued), Some(1.0));
    let success = r#"cutover_agent_last_success_timestamp_seconds{app="shop"}"#;
    assert_eq!(figure(success), Some(now().as_second() as f64));
    let following = Arc::clone(&metrics);
    tokio::spawn(async move { following.follow(std::future::pending()).await });
    host.append(&open, &Event::AbortRequested { by: "ada".into() });
    let outcome = Outcome::Aborted;
    host.append(&open, &Event::Ended { outcome });
    let aborted = r#"cutover_agent_deploys_total{app="shop",outcome="aborted"}"#;
    until("the end", async || {
        value(&metrics.render().unwrap(), aborted) == Some(1.0)
    })
    .await;
}

#[tokio::test]
async fn answers_and_calls_that_nobody_proved_are_counted_by_what_was_wrong() {
    let host = Host::new().await;
    let socket = host.socket();
    let mut forged = Call::new("/v1/deploys", ROLLBACK);
    forged.secret = Secret::parse(&"x".repeat(32)).unwrap();
    let mut stale = Call::new("/v1/deploys", ROLLBACK);
    stale.timestamp -= 301;
    for _ in 0..3 {
        assert_eq!(host.ask(&forged.request()).await.status, 401);
    }
    assert_eq!(host.ask(&stale.request()).await.status, 401);
    let unsigned = "POST /v1/deploys HTTP/1.1\r\nhost: h\r\ncontent-length: 0\r\n\r\n";
    assert_eq!(host.ask(unsigned).await.status, 401);
    let path = format!("/v1/deploys/{}", id(1));
    let bearer = format!("authorization: Bearer {}\r\n", token(&id(2)));
    let wrong = format!("GET {path} HTTP/1.1\r\nhost: h\r\n{bearer}\r\n");
    assert_eq!(host.ask(&wrong).await.status, 401);
    assert_eq!(host.ask(&get("/nothing")).await.status, 404);
    assert_eq!(ask(&socket, &get("/healthz")).await.status, 200);
    let answer = ask(&socket, &get("/metrics")).await;
    assert!(answer.head.contains("text/plain; version=0.0.4"));
    for (line, expected) in [
        (
            r#"cutover_agent_inbox_distrusted_total{reason="forged"}"#,
            3.0,
        ),
        (
            r#"cutover_agent_inbox_distrusted_total{reason="stale"}"#,
            1.0,
        ),
        (
            r#"cutover_agent_inbox_distrusted_total{reason="unsigned"}"#,
            1.0,
        ),
        (
            r#"cutover_agent_inbox_distrusted_total{reason="token"}"#,
            1.0,
        ),
        (
            r#"cutover_agent_inbox_requests_total{door="network",status="401"}"#,
            6.0,
        ),
        (
            r#"cutover_agent_inbox_requests_total{door="network",status="404"}"#,
            1.0,
        ),
        (
            r#"cutover_agent_inbox_requests_total{door="local",status="200"}"#,
            1.0,
        ),
    ] {
        assert_eq!(value(&answer.body, line), Some(expected), "{line}");
    }
}

#[tokio::test]
async fn the_figures_are_told_on_an_address_of_their_own_and_never_on_the_network() {
    let host = Host::new().await;
    assert_eq!(host.ask(&get("/metrics")).await.status, 404);
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let router = Metrics::router(Arc::clone(&host.inbox.metrics));
    let (limits, shutdown) = (host.inbox.limits, host.inbox.shutdown.clone());
    tokio::spawn(serve_network(listener, router, limits, shutdown));
    let figures = Host { address, ..host };
    let answer = figures.ask(&get("/metrics")).await;
    assert_eq!(answer.status, 200);
    // Every line is a comment or a name of ours with a number.
    for line in answer.body.lines().filter(|line| !line.starts_with('#')) {
        let (name, number) = line.rsplit_once(' ').unwrap();
        assert!(name.starts_with("cutover_agent_"), "{line}");
        number.parse::<f64>().unwrap();
    }
    assert_eq!(figures.ask(&get("/v1/deploys")).await.status, 404);
    let call = Call::new("/v1/deploys", ROLLBACK);
    assert_eq!(figures.ask(&call.request()).await.status, 404);
}
