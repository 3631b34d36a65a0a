//! A call is taken once, whoever sends it again.

use cutover_wire::agent::{Accepted, DeployView, Welcome};
use cutover_wire::signature::Secret;
use tokio::task::JoinSet;

use crate::host::{Answer, Call, Host, NOW, ROLLBACK, now, token};

#[tokio::test]
async fn one_call_sent_a_thousand_times_begins_one_deploy() {
    let host = std::sync::Arc::new(Host::new().await);
    let first = host
        .ask(&Call::new("/v1/deploys", ROLLBACK).request())
        .await;
    assert_eq!(first.status, 202, "{first:?}");
    let accepted: Accepted = first.json();
    assert_eq!(accepted.token, token(&accepted.deploy));
    let disk = host.disk();
    let mut senders = JoinSet::new();
    for sender in 0..20 {
        let host = std::sync::Arc::clone(&host);
        senders.spawn(async move {
            let mut answers: Vec<Answer> = Vec::new();
            for _ in 0..50 {
                let mut call = Call::new("/v1/deploys", ROLLBACK);
                // Signed anew, as a sender does that was not answered.
                call.timestamp = NOW + sender;
                answers.push(host.ask(&call.request()).await);
            }
            answers
        });
    }
    let answers = senders.join_all().await.concat();
    assert_eq!(answers.len(), 1_000);
    for answer in answers {
        assert_eq!((answer.status, &answer.body), (202, &first.body));
    }
    assert_eq!(host.disk(), disk);
    assert_eq!(
        host.journal.events(&accepted.deploy, 0, 10).unwrap().len(),
        1
    );
}

#[tokio::test]
async fn two_senders_of_one_new_call_get_the_same_deploy() {
    let host = Host::new().await;
    let request = Call::new("/v1/deploys", ROLLBACK).request();
    let (left, right) = tokio::join!(host.ask(&request), host.ask(&request));
    assert_eq!((left.status, right.status), (202, 202));
    assert_eq!(left.body, right.body);
}

#[tokio::test]
async fn the_token_shows_and_aborts_its_deploy() {
    let host = Host::new().await;
    let deploy = host.begin(1);
    let token = token(&deploy);
    let bearer = format!("host: h\r\nauthorization: Bearer {token}\r\n\r\n");
    let shown = host
        .ask(&format!("GET /v1/deploys/{deploy} HTTP/1.1\r\n{bearer}"))
        .await;
    assert_eq!(shown.status, 200, "{shown:?}");
    assert_eq!(shown.json::<DeployView>().deploy, deploy);
    assert!(shown.head.contains("cache-control: no-store"), "{shown:?}");
    let aborted = host
        .ask(&format!(
            "POST /v1/deploys/{deploy}/abort HTTP/1.1\r\n{bearer}"
        ))
        .await;
    assert_eq!(aborted.status, 202, "{aborted:?}");
    let reason = aborted.json::<DeployView>().reason.unwrap();
    assert!(reason.contains("holder of the deploy's token"), "{reason}");
}

#[tokio::test]
async fn a_signature_aborts_without_a_token() {
    let host = Host::new().await;
    let deploy = host.begin(1);
    let body = format!(r#"{{"abort":"{deploy}","by":"ada"}}"#);
    let call = Call::new(&format!("/v1/deploys/{deploy}/abort"), &body);
    let aborted = host.ask(&call.request()).await;
    assert_eq!(aborted.status, 202, "{aborted:?}");
    assert!(aborted.json::<DeployView>().reason.unwrap().contains("ada"));
}

#[tokio::test]
async fn questions_are_answered_and_write_nothing() {
    let host = Host::new().await;
    let disk = host.disk();
    let welcome = host
        .ask(&Call::new("/v1/queries", r#"{"verify":{}}"#).request())
        .await;
    assert_eq!(welcome.status, 200, "{welcome:?}");
    let welcome: Welcome = welcome.json();
    assert_eq!((welcome.now, welcome.apps.len()), (now(), 1));
    // The engine of these tests makes no plans, as one that stopped: told, not waited for.
    let plan = r#"{"plan":{"app":"shop","change":{"rollback":{}}}}"#;
    let plan = host.ask(&Call::new("/v1/queries", plan).request()).await;
    assert_eq!(
        (plan.status, plan.problem().code.as_str()),
        (503, "stopping")
    );
    let health = host.ask("GET /healthz HTTP/1.1\r\nhost: h\r\n\r\n").await;
    assert_eq!(
        (health.status, health.body.as_str()),
        (200, r#"{"status":"ok"}"#)
    );
    assert_eq!(host.disk(), disk);
}

#[tokio::test]
async fn during_a_rotation_calls_and_tokens_of_either_secret_are_taken() {
    let host = Host::new().await;
    let (old, new) = (
        crate::host::secret(),
        Secret::parse(&"n".repeat(32)).unwrap(),
    );
    let mut inbox = host.inbox.clone();
    inbox.secrets = vec![new.clone(), old.clone()].into();
    let limits = inbox.limits;
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let shutdown = inbox.shutdown.clone();
    let router = inbox.router(cutover_agent::inbox::Door::Network);
    tokio::spawn(cutover_agent::inbox::serve_network(
        listener, router, limits, shutdown,
    ));
    let rotated = Host { address, ..host };
    let by_old = rotated
        .ask(&Call::new("/v1/deploys", ROLLBACK).request())
        .await;
    let mut call = Call::new("/v1/deploys", ROLLBACK);
    call.secret = new.clone();
    let by_new = rotated.ask(&call.request()).await;
    assert_eq!((by_old.status, &by_old.body), (202, &by_new.body));
    let Accepted { deploy, token } = by_new.json();
    assert_eq!(token, new.token("deploy", deploy.as_str()));
    for token in [token, old.token("deploy", deploy.as_str())] {
        let request = format!(
            "GET /v1/deploys/{deploy} HTTP/1.1\r\nhost: h\r\nauthorization: Bearer {token}\r\n\r\n"
        );
        assert_eq!(rotated.ask(&request).await.status, 200);
    }
}
