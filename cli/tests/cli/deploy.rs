//! Deploys: what is told, how often the call is sent, how it ends.

use crate::run::{bare, cutover, deploy, run};
use crate::support::{Agent, Fault, SECRET};

const SEND: &str = "POST /v1/deploys";
const EVENTS: &str = "GET /v1/deploys/";

/// Every event of the story, once and in order.
fn told_once(stdout: &str) {
    let story = [
        "a call was accepted",
        "the plan has 4 steps",
        "pulling the image",
        "the deploy is over",
    ];
    let places: Vec<_> = story
        .map(|text| {
            assert_eq!(stdout.matches(text).count(), 1, "{text}: {stdout}");
            stdout.find(text)
        })
        .to_vec();
    assert!(places.is_sorted(), "{stdout}");
}

#[test]
fn a_good_deploy_is_told_event_by_event_and_ends_with_zero() {
    let agent = Agent::start();
    let ended = run(&mut deploy(&agent, "shop", &[]));
    assert_eq!(ended.status, 0, "{ended:?}");
    told_once(&ended.stdout);
    assert!(
        ended.stdout.contains("✓ shop v8 serves (promoted, 42s)"),
        "{}",
        ended.stdout
    );
    assert!(
        ended.stdout.contains("1.0s  the plan has 4 steps"),
        "{}",
        ended.stdout
    );
    assert!(
        !ended.stdout.contains('\u{1b}'),
        "colours without a terminal"
    );
}

#[test]
fn every_outcome_has_its_status_and_says_why_and_what_serves() {
    let agent = Agent::start();
    let ended = run(&mut deploy(&agent, "bad-image", &[]));
    assert_eq!(ended.status, 1, "{ended:?}");
    for text in [
        "the registry has no such image",
        "v7 serves all requests",
        "push the image",
    ] {
        assert!(ended.stdout.contains(text), "{text}: {}", ended.stdout);
    }
    let ended = run(&mut deploy(&agent, "sour", &[]));
    assert_eq!(ended.status, 3, "{ended:?}");
    assert!(
        ended.stdout.contains("| panic: no database"),
        "{}",
        ended.stdout
    );
    assert!(
        !ended.stdout.contains('\u{1b}'),
        "the app's colours were passed on"
    );
}

#[test]
fn a_rollback_brings_no_image() {
    let agent = Agent::start();
    let ended = run(&mut cutover(&agent, &["rollback", "--app", "shop"]));
    assert_eq!(ended.status, 0, "{ended:?}");
    assert!(
        ended.stdout.contains("shop v8 serves again"),
        "{}",
        ended.stdout
    );
}

#[test]
fn a_lost_answer_does_not_deploy_twice() {
    let agent = Agent::start();
    agent.fail(
        SEND,
        &[
            Fault::LoseAnswer,
            Fault::Drop,
            Fault::BadGateway,
            Fault::Unavailable,
        ],
    );
    let ended = run(deploy(&agent, "shop", &[]).env("CUTOVER_RETRY_FOR", "20s"));
    assert_eq!(ended.status, 0, "{ended:?}");
    let sent: Vec<_> = agent
        .state()
        .seen
        .iter()
        .filter(|seen| *seen == SEND)
        .cloned()
        .collect();
    assert_eq!(sent.len(), 5);
    assert_eq!(agent.state().deploys.len(), 1);
    assert!(ended.stderr.contains("trying again in"), "{}", ended.stderr);
}

#[test]
fn a_broken_stream_is_taken_up_after_the_last_event() {
    let agent = Agent::start();
    agent.fail(
        EVENTS,
        &[
            Fault::CutAfter(2),
            Fault::Drop,
            Fault::BadGateway,
            Fault::CutAfter(0),
            Fault::CutAfter(1),
        ],
    );
    let ended = run(&mut deploy(&agent, "shop", &[]));
    assert_eq!(ended.status, 0, "{ended:?}");
    told_once(&ended.stdout);
    // The second event of the story has the number 13.
    assert!(
        agent
            .state()
            .seen
            .iter()
            .any(|seen| seen.ends_with("after 13")),
        "{:?}",
        agent.state().seen
    );
}

#[test]
fn a_view_that_was_lost_is_asked_for() {
    let agent = Agent::start();
    agent.fail(EVENTS, &[Fault::CutAfter(5)]);
    let ended = run(&mut deploy(&agent, "shop", &[]));
    assert_eq!(ended.status, 0, "{ended:?}");
    assert!(
        ended.stdout.contains("v8 serves all requests"),
        "{}",
        ended.stdout
    );
}

#[test]
fn a_dead_agent_is_told_apart_from_one_that_may_have_taken_the_call() {
    let agent = Agent::start();
    let mut dead = bare(&["deploy", "--app", "shop", "--image", crate::run::IMAGE]);
    // Port 1 is reserved, and nothing listens there.
    dead.env("CUTOVER_URL", "http://127.0.0.1:1")
        .env("CUTOVER_SECRET", SECRET);
    let ended = run(dead.env("CUTOVER_RETRY_FOR", "1s"));
    assert_eq!(ended.status, 5, "{ended:?}");
    assert!(
        ended.stderr.contains("nothing was started"),
        "{}",
        ended.stderr
    );
    assert!(
        ended.stderr.contains("nothing listens on that port"),
        "{}",
        ended.stderr
    );
    agent.fail(SEND, &[Fault::LoseAnswer; 9]);
    let ended = run(deploy(&agent, "shop", &[]).env("CUTOVER_RETRY_FOR", "1s"));
    assert_eq!(ended.status, 5, "{ended:?}");
    assert!(
        ended.stderr.contains("may be under way"),
        "{}",
        ended.stderr
    );
    assert!(
        ended.stderr.contains("cutover status --app shop"),
        "{}",
        ended.stderr
    );
}

#[test]
fn a_refusal_is_not_sent_again() {
    let agent = Agent::start();
    let ended = run(&mut deploy(&agent, "unknown", &[]));
    assert_eq!(ended.status, 4, "{ended:?}");
    assert!(
        ended.stderr.contains("there is no app unknown"),
        "{}",
        ended.stderr
    );
    assert_eq!(agent.count(SEND), 1);
    let ended =
        run(deploy(&agent, "shop", &[]).env("CUTOVER_SECRET", "another secret of twenty-four"));
    assert_eq!(ended.status, 4, "{ended:?}");
    assert!(
        ended.stderr.contains("are not the same"),
        "{}",
        ended.stderr
    );
    assert_eq!(agent.state().deploys.len(), 0);
}

#[test]
fn a_wrong_clock_is_not_blamed_on_the_secret() {
    let agent = Agent::start();
    agent.state().clock_ahead = 400;
    let ended = run(&mut deploy(&agent, "shop", &[]));
    assert_eq!(ended.status, 4, "{ended:?}");
    assert!(
        ended.stderr.contains("seconds from now"),
        "{}",
        ended.stderr
    );
}

#[test]
fn a_deploy_that_outlasts_the_timeout_goes_on() {
    let agent = Agent::start();
    let ended = run(&mut deploy(&agent, "slow", &["--timeout", "1s"]));
    assert_eq!(ended.status, 5, "{ended:?}");
    assert!(
        ended.stderr.contains("the agent goes on without us"),
        "{}",
        ended.stderr
    );
    assert!(agent.state().deploys.values().all(|deploy| !deploy.aborted));
}

#[test]
fn the_timeout_bounds_the_sending_too() {
    // Nothing listens there; and one that takes connections and never answers.
    let silent = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let silent_port = silent.local_addr().unwrap().port();
    for (port, told) in [
        (1, "nothing was started"),
        (silent_port, "may be under way"),
    ] {
        let arguments = ["deploy", "--app", "shop", "--image", crate::run::IMAGE];
        let mut command = bare(&arguments);
        command
            .args(["--timeout", "1s", "--retry-for", "60s"])
            .env("CUTOVER_URL", format!("http://127.0.0.1:{port}"))
            .env("CUTOVER_SECRET", SECRET);
        let begun = std::time::Instant::now();
        let ended = run(&mut command);
        // An attempt alone may take 30 seconds, all of them 60.
        assert!(begun.elapsed().as_secs() < 15, "{ended:?}");
        assert_eq!(ended.status, 5, "{ended:?}");
        assert!(ended.stderr.contains(told), "{}", ended.stderr);
    }
}

#[test]
fn a_detached_deploy_is_left_alone() {
    let agent = Agent::start();
    let ended = run(&mut deploy(&agent, "slow", &["--detach"]));
    assert_eq!(ended.status, 0, "{ended:?}");
    assert!(ended.stdout.contains("is under way"), "{}", ended.stdout);
    assert_eq!(agent.count(EVENTS), 0);
}

#[test]
fn programs_get_one_line_of_json_for_each_event() {
    let agent = Agent::start();
    let ended = run(&mut deploy(&agent, "sour", &["--format", "json"]));
    assert_eq!(ended.status, 3, "{ended:?}");
    let lines: Vec<serde_json::Value> = ended
        .stdout
        .lines()
        .map(|line| serde_json::from_str(line).unwrap())
        .collect();
    assert!(lines[0]["accepted"]["deploy"].is_string());
    assert_eq!(lines[1]["told"]["seq"], 10);
    let last = &lines.last().unwrap()["ended"];
    assert_eq!(last["outcome"], "rolled_back");
    assert_eq!(last["exit"], 3);
    assert_eq!(last["view"]["serving"], "v7 serves all requests");
    assert!(!ended.stdout.contains("token"), "the token was printed");
}

#[test]
fn the_socket_needs_no_secret() {
    let agent = Agent::start();
    let directory = tempfile::tempdir().unwrap();
    let socket = directory.path().join("agent.sock");
    agent.also_at(&socket);
    let path = socket.to_str().unwrap();
    let ended = run(&mut bare(&[
        "deploy",
        "--app",
        "shop",
        "--image",
        crate::run::IMAGE,
        "--socket",
        path,
    ]));
    assert_eq!(ended.status, 0, "{ended:?}");
    let ended = run(&mut bare(&[
        "status",
        "--socket",
        "/nonexistent/agent.sock",
    ]));
    assert_eq!(ended.status, 5, "{ended:?}");
    assert!(
        ended.stderr.contains("does not run on this host"),
        "{}",
        ended.stderr
    );
}

#[test]
fn registry_credentials_travel_whole_or_not_at_all() {
    let agent = Agent::start();
    let user = ("CUTOVER_REGISTRY_USERNAME", "robot");
    let ended = run(deploy(&agent, "shop", &[]).env(user.0, user.1));
    assert_eq!(ended.status, 2, "{ended:?}");
    let mut both = deploy(&agent, "shop", &[]);
    let ended = run(both
        .env(user.0, user.1)
        .env("CUTOVER_REGISTRY_PASSWORD", "hunter2hunter2"));
    assert_eq!(ended.status, 0, "{ended:?}");
    assert!(!format!("{ended:?}").contains("hunter2"));
    let sent = agent
        .state()
        .deploys
        .values()
        .next()
        .unwrap()
        .request
        .registry
        .clone()
        .unwrap();
    assert_eq!(
        (sent.username.as_str(), sent.password.as_str()),
        ("robot", "hunter2hunter2")
    );
    let mut readable = bare(&[
        "deploy",
        "--app",
        "shop",
        "--image",
        crate::run::IMAGE,
        "--insecure-http",
        "--url",
        "http://192.0.2.1",
    ]);
    readable
        .env("CUTOVER_SECRET", SECRET)
        .env(user.0, user.1)
        .env("CUTOVER_REGISTRY_PASSWORD", "hunter2hunter2");
    let ended = run(&mut readable);
    assert_eq!(ended.status, 2, "{ended:?}");
    assert!(
        ended.stderr.contains("not sent over http"),
        "{}",
        ended.stderr
    );
}
