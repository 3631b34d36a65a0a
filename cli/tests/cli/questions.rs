//! Questions: status, plan, abort, verify, and a command line that makes no sense.

use std::io::{Read as _, Write as _};
use std::net::TcpListener;

use crate::run::{IMAGE, bare, cutover, deploy, run, start, until, wait};
use crate::support::{Agent, Fault, SECRET};

#[test]
fn the_status_shows_what_serves() {
    let agent = Agent::start();
    assert_eq!(run(&mut deploy(&agent, "bad-image", &[])).status, 1);
    let ended = run(&mut cutover(&agent, &["status"]));
    assert_eq!(ended.status, 0, "{ended:?}");
    for text in [
        "shop  shop.example.com",
        "v7  running, proven",
        "failed: the registry has no such image",
    ] {
        assert!(ended.stdout.contains(text), "{text}: {}", ended.stdout);
    }
    let ended = run(&mut cutover(
        &agent,
        &["status", "--app", "shop", "--format", "json"],
    ));
    let apps: serde_json::Value = serde_json::from_str(&ended.stdout).unwrap();
    assert_eq!(apps.as_array().unwrap().len(), 1);
    assert_eq!(apps[0]["serving"]["number"], 7);
    let ended = run(&mut cutover(&agent, &["status", "--app", "unknown"]));
    assert_eq!(ended.status, 4, "{ended:?}");
}

#[test]
fn a_plan_that_is_refused_says_why() {
    let agent = Agent::start();
    let ended = run(&mut cutover(
        &agent,
        &["plan", "--app", "shop", "--rollback"],
    ));
    assert_eq!(ended.status, 4, "{ended:?}");
    assert!(
        ended.stderr.contains("nothing to roll back to"),
        "{}",
        ended.stderr
    );
}

#[test]
fn an_abort_finds_the_deploy_of_an_app_and_waits_for_its_end() {
    let agent = Agent::start();
    let ended = run(&mut cutover(&agent, &["abort", "--app", "slow"]));
    assert_eq!(ended.status, 0, "{ended:?}");
    assert!(
        ended.stdout.contains("nothing is being deployed"),
        "{}",
        ended.stdout
    );
    let child = start(&mut deploy(&agent, "slow", &[]));
    until("waiting for the deploy", || {
        agent.state().deploys.len() == 1
    });
    let ended = run(&mut cutover(&agent, &["abort", "--app", "slow"]));
    assert_eq!(ended.status, 0, "{ended:?}");
    assert!(ended.stdout.contains("was aborted"), "{}", ended.stdout);
    assert_eq!(wait(child).status, 7, "who follows learns of it");
    let child = start(&mut deploy(&agent, "late", &[]));
    until("waiting for the deploy", || {
        agent.state().deploys.len() == 2
    });
    let id = agent.state().deploys.keys().last().unwrap().clone();
    let ended = run(&mut cutover(&agent, &["abort", "--deploy", id.as_str()]));
    assert_eq!(ended.status, 4, "{ended:?}");
    assert!(
        ended.stderr.contains("ended as promoted"),
        "{}",
        ended.stderr
    );
    assert_eq!(wait(child).status, 0);
}

#[test]
fn verify_says_what_works() {
    let agent = Agent::start();
    let ended = run(&mut cutover(&agent, &["verify"]));
    assert_eq!(ended.status, 0, "{ended:?}");
    for text in [
        "✓ reached the agent 0.0.0-stand-in",
        "✓ the signature is accepted",
        "✓ the clocks agree",
        "✓ apps: bad-image, ",
    ] {
        assert!(ended.stdout.contains(text), "{text}: {}", ended.stdout);
    }
    agent.state().clock_ahead = -100;
    let ended = run(&mut cutover(&agent, &["verify"]));
    assert!(
        ended
            .stdout
            .contains("s behind; calls are taken up to 300s"),
        "{}",
        ended.stdout
    );
    let url = format!("{}/behind/a/proxy/", agent.url());
    let ended = run(cutover(&agent, &["verify", "--format", "json"]).env("CUTOVER_URL", url));
    let findings: serde_json::Value = serde_json::from_str(&ended.stdout).unwrap();
    assert_eq!(findings["signature"], "accepted");
}

fn check_verify(url: &str, status: i32, expected: &[&str]) {
    let mut verify = bare(&["verify", "--url", url]);
    let ended = run(verify.env("CUTOVER_SECRET", SECRET));
    assert_eq!(ended.status, status, "{url}: {ended:?}");
    let all = format!("{}{}", ended.stdout, ended.stderr);
    for text in expected {
        assert!(all.contains(text), "{url}: {text}: {all}");
    }
}

#[test]
fn verify_tells_each_failure_with_its_cause_and_its_cure() {
    let agent = Agent::start();
    let mut wrong = cutover(&agent, &["verify"]);
    let ended = run(wrong.env("CUTOVER_SECRET", "another secret of twenty-four"));
    assert_eq!(ended.status, 4, "{ended:?}");
    assert!(
        ended.stdout.contains("✗ the signature is not accepted"),
        "{}",
        ended.stdout
    );
    assert!(
        ended.stderr.contains("copy the agent's again"),
        "{}",
        ended.stderr
    );
    agent.fail("POST /v1/queries", &[Fault::BadGateway]);
    check_verify(
        &agent.url(),
        5,
        &[
            "✗ no agent was reached",
            "a proxy before the agent answered",
        ],
    );
    check_verify(
        "http://127.0.0.1:1",
        5,
        &[
            "nobody answers at 127.0.0.1:1",
            "nothing listens on that port",
        ],
    );
    // RFC 6761: this name never has an address.
    check_verify(
        "https://cutover.invalid",
        5,
        &["cutover.invalid has no address", "spelt right"],
    );
    check_verify(
        &agent.url().replace("http:", "https:"),
        5,
        &["no encrypted connection", "does that port speak TLS"],
    );
    check_verify(
        "http://deploy.example.com",
        2,
        &["read by everybody", "--insecure-http"],
    );
    check_verify(
        &redirecting(),
        5,
        &["it points to https://elsewhere.example"],
    );
}

/// A server that sends everybody elsewhere, once.
fn redirecting() -> String {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    std::thread::spawn(move || {
        let (mut stream, _) = listener.accept().unwrap();
        let _ = stream.read(&mut [0; 4096]);
        let answer = "HTTP/1.1 301 Moved\r\nlocation: https://elsewhere.example\r\ncontent-length: 0\r\n\r\n";
        stream.write_all(answer.as_bytes()).unwrap();
    });
    url
}

#[test]
fn a_command_line_that_makes_no_sense_says_what_would() {
    let check = |command: &mut std::process::Command, text: &str| {
        let ended = run(command);
        assert_eq!(ended.status, 2, "{ended:?}");
        assert!(ended.stderr.contains(text), "{text}: {}", ended.stderr);
    };
    check(
        &mut bare(&["deploy", "--app", "shop", "--image", "ghcr.io/acme/shop:v1"]),
        "pinned by digest",
    );
    check(
        &mut bare(&["deploy", "--app", "Shop", "--image", IMAGE]),
        "lower-case",
    );
    check(&mut bare(&["plan", "--app", "shop"]), "--image");
    check(&mut bare(&["abort"]), "--app");
    check(
        &mut bare(&["status", "--url", "https://e.com"]),
        "CUTOVER_SECRET",
    );
    check(
        bare(&["status", "--url", "https://e.com"]).env("CUTOVER_SECRET", "short"),
        "at least 24",
    );
    check(
        &mut bare(&[
            "status",
            "--url",
            "https://e.com",
            "--secret-file",
            "/nonexistent",
        ]),
        "cannot be read",
    );
    assert_eq!(run(&mut bare(&["--help"])).status, 0);
    assert_eq!(run(&mut bare(&["--version"])).status, 0);
}

#[test]
fn a_secret_file_signs_as_the_environment_does() {
    let agent = Agent::start();
    let mut file = tempfile::NamedTempFile::new().unwrap();
    writeln!(file, "{SECRET}").unwrap();
    let path = file.path().to_str().unwrap();
    let ended = run(&mut bare(&[
        "verify",
        "--url",
        &agent.url(),
        "--secret-file",
        path,
    ]));
    assert_eq!(ended.status, 0, "{ended:?}");
}
