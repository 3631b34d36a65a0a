//! The socket of the host: who may open it needs no signature.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;
use std::time::Duration;

use cutover_agent::inbox::{Door, SocketError, bind_local, serve_local};
use cutover_wire::agent::{Accepted, DeployView};
use tokio::io::AsyncWriteExt as _;
use tokio::net::UnixStream;

use crate::host::{Answer, Host, ROLLBACK, exists, until};

pub(crate) async fn ask(path: &Path, request: &str) -> Answer {
    let mut stream = UnixStream::connect(path).await.unwrap();
    stream.write_all(request.as_bytes()).await.unwrap();
    Answer::read(&mut stream).await
}

pub(crate) fn post(path: &str, headers: &str, body: &str) -> String {
    let length = body.len();
    format!("POST {path} HTTP/1.1\r\nhost: h\r\n{headers}content-length: {length}\r\n\r\n{body}")
}

#[tokio::test]
async fn nothing_is_signed_on_the_socket_and_a_repeat_is_still_known() {
    let host = Host::new().await;
    let path = host.folder.path().join("agent.sock");
    let listener = bind_local(&path, None).unwrap();
    let mode = fs::symlink_metadata(&path).unwrap().permissions().mode();
    assert_eq!(mode & 0o777, 0o660);
    let router = host.inbox.clone().router(Door::Local);
    let (limits, shutdown) = (host.inbox.limits, host.inbox.shutdown.clone());
    let served = tokio::spawn(serve_local(listener, router, limits, shutdown));

    let request = post("/v1/deploys", "webhook-id: once\r\n", ROLLBACK);
    let first = ask(&path, &request).await;
    assert_eq!(first.status, 202, "{first:?}");
    assert_eq!(ask(&path, &request).await.body, first.body);
    let Accepted { deploy, .. } = first.json();
    let get = |path: String| format!("GET {path} HTTP/1.1\r\nhost: h\r\n\r\n");
    assert_eq!(
        ask(&path, &get(format!("/v1/deploys/{deploy}")))
            .await
            .status,
        200
    );
    let bad = ask(&path, &post("/v1/deploys", "webhook-id: a.b\r\n", ROLLBACK)).await;
    assert_eq!(
        (bad.status, bad.problem().code.as_str()),
        (400, "bad_call_id")
    );
    let bad = ask(&path, &post("/v1/deploys", "", "garbage")).await;
    assert_eq!(
        (bad.status, bad.problem().code.as_str()),
        (400, "bad_request")
    );

    let abort = format!("/v1/deploys/{deploy}/abort");
    let named = ask(
        &path,
        &post(&abort, "", &format!(r#"{{"abort":"{deploy}","by":"ada"}}"#)),
    )
    .await;
    assert!(named.json::<DeployView>().reason.unwrap().contains("ada"));
    let wrong = ask(
        &path,
        &post(&abort, "", r#"{"abort":"00000000000000000000000000"}"#),
    )
    .await;
    assert_eq!(wrong.status, 400, "{wrong:?}");
    assert_eq!(ask(&path, &post(&abort, "", "")).await.status, 202);
    host.end(&deploy);

    // Without an id every call is a new one.
    let second: Accepted = ask(&path, &post("/v1/deploys", "", ROLLBACK)).await.json();
    assert_ne!(second.deploy, deploy);
    host.end(&second.deploy);
    let third: Accepted = ask(&path, &post("/v1/deploys", "", ROLLBACK)).await.json();
    assert_ne!(third.deploy, second.deploy);

    host.shutdown.send(true).unwrap();
    tokio::time::timeout(Duration::from_secs(4), served)
        .await
        .unwrap()
        .unwrap();
    assert!(!exists(&path));
}

#[tokio::test]
async fn credentials_are_taken_over_the_socket() {
    let host = Host::new().await;
    let path = host.socket();
    let body =
        r#"{"app":"shop","change":{"rollback":{}},"registry":{"username":"ada","password":"p"}}"#;
    assert_eq!(ask(&path, &post("/v1/deploys", "", body)).await.status, 202);
}

#[tokio::test]
async fn a_socket_is_replaced_when_nobody_answers_on_it_and_never_else() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("agent.sock");
    // What a killed agent leaves.
    drop(std::os::unix::net::UnixListener::bind(&path).unwrap());
    let first = bind_local(&path, None).unwrap();
    assert!(matches!(
        bind_local(&path, None),
        Err(SocketError::Answered(_))
    ));
    drop(first);
    assert!(!exists(&path));

    fs::write(&path, "not a socket").unwrap();
    assert!(matches!(
        bind_local(&path, None),
        Err(SocketError::Occupied(_))
    ));
    assert_eq!(fs::read(&path).unwrap(), b"not a socket");
    fs::remove_file(&path).unwrap();

    // A successor's socket is not removed with ours.
    let ours = bind_local(&path, None).unwrap();
    fs::remove_file(&path).unwrap();
    let theirs = bind_local(&path, None).unwrap();
    drop(ours);
    assert!(exists(&path));
    drop(theirs);
    until("the end of the file", async || !exists(&path)).await;
}
