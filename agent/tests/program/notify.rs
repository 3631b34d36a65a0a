//! Receivers of `[[notify]]`, told over real connections by the agent itself. The
//! deploys of these tests fail: there is no proxy.

use std::net::TcpListener;
use std::process::Stdio;
use std::time::SystemTime;

use cutover_wire::signature::{
    Headers, ID_HEADER, SIGNATURE_HEADER, Secret, TIMESTAMP_HEADER, verify,
};
use serde_json::Value;

use crate::host::{Host, Running, ask, until};
use crate::receiver::{Arrived, Receiver};

const SECRET: &str = "hunter2-hunter2-hunter2-hunter2";

/// Part of every address: who knows it may write there.
const PATH: &str = "hunter3";

fn app(host: &Host, notify: &str) {
    let text = "image = \"ghcr.io/acme/shop\"\ndomains = [\"shop.example.com\"]\nport = 8080\n";
    host.write("apps/shop.toml", &format!("{text}{notify}"));
}

/// The lines that name a receiver, whose address is written to a file.
fn receiver(host: &Host, kind: &str, name: &str, url: &str, more: &str) -> String {
    let file = format!("{name}.url");
    host.write(&file, &format!("{url}\n"));
    let file = host.path(&file);
    format!(
        "[[notify]]\nkind = \"{kind}\"\nurl_file = \"{}\"\n{more}",
        file.display()
    )
}

fn webhook(host: &Host, name: &str, url: &str) -> String {
    host.write("webhook.secret", SECRET);
    let secret = host.path("webhook.secret");
    let more = format!("secret_file = \"{}\"\n", secret.display());
    receiver(host, "webhook", name, url, &more)
}

fn start(host: &Host) -> Running {
    let log = std::fs::File::create(host.path("log")).unwrap();
    host.start(|command| {
        command.env("CUTOVER_LOG", "debug").stderr(Stdio::from(log));
    })
}

/// Asks for a deploy, which fails, and waits for its end.
fn deploy(host: &Host) {
    let image = format!("ghcr.io/acme/shop@sha256:{}", "0".repeat(64));
    let body = format!(
        r#"{{"app":"shop","change":{{"deploy":{{"image":"{image}"}}}},"source":{{"run_url":"https://e.com/run/1"}}}}"#
    );
    let socket = host.path("agent.sock");
    let answer = ask(&socket, "POST", "/v1/deploys", &body);
    assert!(answer.starts_with("HTTP/1.1 202"), "{answer}");
    until("the end of the deploy", || {
        let history = ask(&socket, "GET", "/v1/deploys", "");
        let (_, body) = history.split_once("\r\n\r\n").unwrap();
        let deploys: Value = serde_json::from_str(body).unwrap();
        let deploys = deploys.as_array().unwrap().clone();
        !deploys.is_empty() && deploys.iter().all(|deploy| deploy["outcome"] == "failed")
    });
}

fn waiting(host: &Host) -> String {
    let text = ask(&host.path("agent.sock"), "GET", "/metrics", "");
    let name = "cutover_agent_outbox_waiting ";
    let line = text.lines().find_map(|line| line.strip_prefix(name));
    line.unwrap().to_owned()
}

/// The id of a message whose signature is right.
fn verified(arrived: &Arrived) -> String {
    let header = |name: &str| arrived.headers.get(name).map(String::as_str);
    let headers = Headers {
        id: header(ID_HEADER),
        timestamp: header(TIMESTAMP_HEADER),
        signature: header(SIGNATURE_HEADER),
    };
    let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH);
    let secret = Secret::parse(SECRET).unwrap();
    let now = now.unwrap().as_secs();
    verify(&[secret], headers, &arrived.body, now).unwrap().id
}

/// Neither the journal nor the log has an address or a secret.
fn check_secrets(host: &Host) {
    let mut files = vec![host.path("log")];
    let state = std::fs::read_dir(host.path("state")).unwrap();
    files.extend(state.map(|file| file.unwrap().path()));
    for file in files {
        let bytes = std::fs::read(&file).unwrap();
        for secret in [SECRET, PATH] {
            let found = bytes
                .windows(secret.len())
                .any(|part| part == secret.as_bytes());
            assert!(!found, "{secret} is in {}", file.display());
        }
    }
}

#[test]
fn a_webhook_that_fails_first_gets_the_message_signed_under_the_same_id() {
    let host = Host::new();
    let receiver = Receiver::start(&[500, 503]);
    app(&host, &webhook(&host, "webhook", &receiver.url(PATH)));
    let _agent = start(&host);
    deploy(&host);
    until("the third attempt", || receiver.arrived().len() == 3);
    until("an empty outbox", || waiting(&host) == "0");
    let arrived = receiver.arrived();
    let ids: Vec<_> = arrived.iter().map(verified).collect();
    assert!(ids.iter().all(|id| *id == ids[0]), "{ids:?}");
    assert_eq!(arrived[0].line, format!("POST /{PATH} HTTP/1.1"));
    let taken: Vec<_> = arrived.iter().filter(|one| one.status == 204).collect();
    assert_eq!(taken.len(), 1, "it is sent no more once it was taken");
    let body: Value = serde_json::from_slice(&taken[0].body).unwrap();
    assert_eq!(arrived[0].body, taken[0].body);
    assert_eq!(
        ids[0],
        format!("deploy_{}_ended", body["deploy"].as_str().unwrap())
    );
    for (key, expected) in [
        ("type", "deploy.ended"),
        ("app", "shop"),
        ("outcome", "failed"),
        ("url", "http://shop.example.com"),
        ("run_url", "https://e.com/run/1"),
    ] {
        assert_eq!(body[key], expected, "{key}");
    }
    assert!(body["reason"].as_str().unwrap().contains("proxy"), "{body}");
    assert!(
        body["image"]
            .as_str()
            .unwrap()
            .starts_with("ghcr.io/acme/shop@sha256:")
    );
    // Another deploy is another message.
    deploy(&host);
    until("the second message", || receiver.arrived().len() == 4);
    assert_ne!(verified(&receiver.arrived()[3]), ids[0]);
    check_secrets(&host);
}

#[test]
fn a_dead_receiver_and_a_slow_one_delay_nobody() {
    let host = Host::new();
    // It takes connections and answers none.
    let silent = TcpListener::bind("127.0.0.1:0").unwrap();
    let silent = format!("http://{}/{PATH}", silent.local_addr().unwrap());
    let refused = TcpListener::bind("127.0.0.1:0")
        .unwrap()
        .local_addr()
        .unwrap();
    let refused = format!("http://{refused}/{PATH}");
    let slack = Receiver::start(&[]);
    let hook = Receiver::start(&[]);
    let choosy = Receiver::start(&[]);
    let notify = [
        receiver(&host, "slack", "silent", &silent, ""),
        receiver(&host, "slack", "refused", &refused, ""),
        receiver(
            &host,
            "slack",
            "choosy",
            &choosy.url(PATH),
            "on = [\"promoted\"]\n",
        ),
        receiver(&host, "slack", "slack", &slack.url(PATH), ""),
        webhook(&host, "webhook", &hook.url(PATH)),
    ];
    app(&host, &notify.concat());
    let _agent = start(&host);
    deploy(&host);
    deploy(&host);
    until("both messages at both", || {
        slack.arrived().len() == 2 && hook.arrived().len() == 2
    });
    until("four messages that are not taken", || waiting(&host) == "4");
    let body: Value = serde_json::from_slice(&slack.arrived()[0].body).unwrap();
    let text = body["text"].as_str().unwrap();
    assert!(text.starts_with("❌ shop: "), "{text}");
    assert!(text.contains("<https://e.com/run/1|run>"), "{text}");
    assert!(choosy.arrived().is_empty(), "it asked for other ends");
    check_secrets(&host);
}

#[test]
fn what_a_dead_agent_could_not_tell_the_next_one_tells() {
    let host = Host::new();
    let address = TcpListener::bind("127.0.0.1:0")
        .unwrap()
        .local_addr()
        .unwrap();
    app(
        &host,
        &webhook(&host, "webhook", &format!("http://{address}/{PATH}")),
    );
    let agent = start(&host);
    deploy(&host);
    assert_eq!(waiting(&host), "1");
    drop(agent);
    // The receiver has another address by now.
    let receiver = Receiver::start(&[]);
    host.write("webhook.url", &receiver.url(PATH));
    let agent = start(&host);
    until("the message", || receiver.arrived().len() == 1);
    verified(&receiver.arrived()[0]);
    until("an empty outbox", || waiting(&host) == "0");
    // A receiver that is named no more holds nothing up.
    drop(agent);
    host.write("webhook.url", &format!("http://{address}/{PATH}"));
    let agent = start(&host);
    deploy(&host);
    assert_eq!(waiting(&host), "1");
    drop(agent);
    app(&host, "");
    let _agent = start(&host);
    until("an outbox that was given up", || waiting(&host) == "0");
    check_secrets(&host);
}
