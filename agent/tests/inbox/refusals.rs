//! What is refused, in which words, and that it leaves no trace.

use cutover_wire::request::MAX_BODY;
use cutover_wire::signature::Secret;
use tokio::io::AsyncWriteExt as _;

use crate::host::{Answer, Call, Host, NOW, ROLLBACK, id, token};

/// Asserts that a request is refused in the one shape, and changes nothing.
async fn check(host: &Host, request: &str, status: u16, code: &str) {
    let before = host.disk();
    let answer = host.ask(request).await;
    let shown = &request[..request.len().min(300)];
    assert_eq!(answer.status, status, "{shown}\n{answer:?}");
    let problem = answer.problem();
    assert_eq!(problem.code, code, "{shown}\n{answer:?}");
    assert!(!problem.message.is_empty());
    assert!(host.disk() == before, "the journal changed: {shown}");
}

async fn check_call(host: &Host, spoil: impl FnOnce(&mut Call), status: u16, code: &str) {
    let mut call = Call::new("/v1/deploys", ROLLBACK);
    spoil(&mut call);
    check(host, &call.request(), status, code).await;
}

#[tokio::test]
async fn calls_that_nobody_with_the_secret_signed_now_are_refused() {
    let host = Host::new().await;
    let stranger = Secret::parse(&"x".repeat(32)).unwrap();
    check_call(&host, |call| call.timestamp = NOW - 301, 401, "unsigned").await;
    check_call(&host, |call| call.timestamp = NOW + 301, 401, "unsigned").await;
    check_call(&host, |call| call.secret = stranger, 401, "unsigned").await;
    check_call(
        &host,
        |call| call.sent = ROLLBACK.replace("shop", "shoq"),
        401,
        "unsigned",
    )
    .await;
    check_call(&host, |call| call.sent.truncate(20), 401, "unsigned").await;
    check_call(&host, |call| call.id = "a.b".to_owned(), 401, "unsigned").await;
    check_call(
        &host,
        |call| call.headers = "webhook-id: call-2\r\n".to_owned(),
        401,
        "unsigned",
    )
    .await;
    for body in ["", "garbage", ROLLBACK] {
        let length = body.len();
        let head = "POST /v1/deploys HTTP/1.1\r\nhost: h\r\n";
        let unsigned = format!("{head}content-length: {length}\r\n\r\n{body}");
        check(&host, &unsigned, 401, "unsigned").await;
        let half = format!(
            "{head}webhook-id: a\r\nwebhook-timestamp: {NOW}\r\ncontent-length: {length}\r\n\r\n{body}"
        );
        check(&host, &half, 401, "unsigned").await;
    }
}

#[tokio::test]
async fn bodies_that_are_signed_and_wrong_are_refused_with_the_way_to_write_them() {
    let host = Host::new().await;
    for body in [
        "garbage",
        "",
        "{}",
        r#"{"app":"shop","change":{"rollback":{}},"run":"sh"}"#,
    ] {
        let call = Call::new("/v1/deploys", body);
        check(&host, &call.request(), 400, "bad_request").await;
        let answer = host.ask(&call.request()).await;
        let problem = answer.problem();
        assert!(problem.message.contains("line 1"), "{problem:?}");
        assert!(problem.hint.unwrap().contains("for example"));
    }
    let other = ROLLBACK.replace("shop", "other");
    check(
        &host,
        &Call::new("/v1/deploys", &other).request(),
        404,
        "unknown_app",
    )
    .await;
    check(
        &host,
        &Call::new("/v1/queries", ROLLBACK).request(),
        400,
        "bad_request",
    )
    .await;
}

#[tokio::test]
async fn credentials_that_were_in_the_clear_are_refused() {
    let host = Host::new().await;
    let body = r#"{"app":"shop","change":{"rollback":{}},"registry":{"username":"ada","password":"hunter2-hunter2"}}"#;
    let mut call = Call::new("/v1/deploys", body);
    call.headers = "x-forwarded-proto: http\r\n".to_owned();
    check(&host, &call.request(), 400, "credentials_in_the_clear").await;
    call.headers = "x-forwarded-proto: https\r\n".to_owned();
    assert_eq!(host.ask(&call.request()).await.status, 202);
    let disk = host.disk().into_values().flatten().collect::<Vec<_>>();
    let secret = b"hunter2";
    assert!(!disk.windows(secret.len()).any(|bytes| bytes == secret));
}

#[tokio::test]
async fn bodies_that_are_too_large_or_not_whole_are_refused() {
    let host = Host::new().await;
    let large = "x".repeat(MAX_BODY + 1);
    check_call(&host, |call| call.sent = large.clone(), 413, "too_large").await;
    // Without a length, counted while it is read.
    let request = Call::new("/v1/deploys", "").request();
    let (head, _) = request.split_once("content-length").unwrap();
    let size = large.len();
    let chunked =
        format!("{head}transfer-encoding: chunked\r\n\r\n{size:x}\r\n{large}\r\n0\r\n\r\n");
    check(&host, &chunked, 413, "too_large").await;
    let before = host.disk();
    let request = Call::new("/v1/deploys", ROLLBACK).request();
    let mut stream = host.connect().await;
    stream
        .write_all(&request.as_bytes()[..request.len() - 5])
        .await
        .unwrap();
    stream.shutdown().await.unwrap();
    let answer = Answer::read(&mut stream).await;
    assert_eq!(
        (answer.status, answer.problem().code.as_str()),
        (400, "truncated")
    );
    assert!(host.disk() == before);
}

#[tokio::test]
async fn a_deploy_is_nobodys_without_its_token() {
    let host = Host::new().await;
    let (deploy, other) = (host.begin(1), id(2));
    let get = |path: &str, header: &str| format!("GET {path} HTTP/1.1\r\nhost: h\r\n{header}\r\n");
    let wrong = format!("authorization: Bearer {}\r\n", token(&other));
    let right = format!("authorization: Bearer {}\r\n", token(&deploy));
    for path in [
        format!("/v1/deploys/{deploy}"),
        format!("/v1/deploys/{deploy}/events"),
    ] {
        for header in [
            "",
            &wrong,
            "authorization: Bearer \r\n",
            "authorization: Basic YTpi\r\n",
        ] {
            check(&host, &get(&path, header), 401, "no_token").await;
        }
    }
    // The same answer for a deploy that is not there, unless the token is right.
    let missing = format!("/v1/deploys/{other}");
    check(&host, &get(&missing, &right), 401, "no_token").await;
    check(&host, &get(&missing, &wrong), 404, "unknown_deploy").await;
    check(
        &host,
        &get(&format!("{missing}/events"), &wrong),
        404,
        "unknown_deploy",
    )
    .await;
    check(&host, &get("/v1/deploys/x", &right), 404, "unknown_deploy").await;
    let bad = format!("{right}last-event-id: x\r\n");
    check(
        &host,
        &get(&format!("/v1/deploys/{deploy}/events"), &bad),
        400,
        "bad_request",
    )
    .await;
}

#[tokio::test]
async fn an_abort_is_taken_from_the_token_or_a_signature_for_that_deploy_alone() {
    let host = Host::new().await;
    let (deploy, other) = (host.begin(1), id(2));
    let path = format!("/v1/deploys/{deploy}/abort");
    let post = |header: &str, body: &str| {
        let length = body.len();
        format!("POST {path} HTTP/1.1\r\nhost: h\r\n{header}content-length: {length}\r\n\r\n{body}")
    };
    let bearer = |deploy| format!("authorization: Bearer {}\r\n", token(deploy));
    check(&host, &post("", ""), 401, "unsigned").await;
    check(&host, &post(&bearer(&other), ""), 401, "no_token").await;
    check(&host, &post(&bearer(&deploy), "{}"), 400, "bad_request").await;
    let wrong = Call::new(&path, &format!(r#"{{"abort":"{other}"}}"#));
    check(&host, &wrong.request(), 400, "bad_request").await;
    check(
        &host,
        &Call::new(&path, ROLLBACK).request(),
        400,
        "bad_request",
    )
    .await;
    let missing = Call::new(
        &format!("/v1/deploys/{other}/abort"),
        &format!(r#"{{"abort":"{other}"}}"#),
    );
    check(&host, &missing.request(), 404, "unknown_deploy").await;
}

#[tokio::test]
async fn what_is_not_there_is_said_in_the_same_shape() {
    let host = Host::new().await;
    for (line, status, code) in [
        ("GET /", 404, "not_found"),
        ("GET /v1/deploy", 404, "not_found"),
        ("POST /healthz", 405, "wrong_method"),
        ("GET /v1/deploys", 405, "wrong_method"),
        ("DELETE /v1/queries", 405, "wrong_method"),
    ] {
        check(
            &host,
            &format!("{line} HTTP/1.1\r\nhost: h\r\n\r\n"),
            status,
            code,
        )
        .await;
    }
    let answer = host
        .ask("GET /v1/deploys HTTP/1.1\r\nhost: h\r\n\r\n")
        .await;
    assert!(answer.head.contains("allow: post"), "{answer:?}");
}
