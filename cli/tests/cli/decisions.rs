//! A deploy that waits for a person: how it is shown, and how it is answered.

use cutover_plan::id::DeployId;

use crate::run::{bare, cutover, deploy, run, start, text, until, wait};
use crate::support::{Agent, Fault};

/// A deploy that was told to wait for a person, and who follows it.
fn waiting(agent: &Agent, extra: &[&str]) -> (DeployId, std::process::Child) {
    let child = start(&mut deploy(agent, "asks", extra));
    let told = || {
        let state = agent.state();
        let deploy = state.deploys.values().next_back();
        deploy.is_some_and(|deploy| deploy.told.len() == 5)
    };
    until("waiting for the deploy to ask", told);
    let id = agent.state().deploys.keys().next_back().unwrap().clone();
    (id, child)
}

#[test]
fn who_follows_and_who_looks_is_told_how_to_answer() {
    let agent = Agent::start();
    let (id, child) = waiting(&agent, &[]);
    let url = agent.url();
    let answers = format!(
        "cutover approve --deploy {id} --url {url}, or cutover reject --deploy {id} --url {url}"
    );
    let status = run(&mut cutover(&agent, &["status", "--app", "asks"]));
    for expected in [
        "for you    v8 serves 5% of the users, until 2026-01-01 12:00:00 UTC",
        &answers,
    ] {
        assert!(status.stdout.contains(expected), "{}", status.stdout);
    }
    let json = run(&mut cutover(
        &agent,
        &["status", "--app", "asks", "--format", "json"],
    ));
    let apps: serde_json::Value = serde_json::from_str(&json.stdout).unwrap();
    assert_eq!(
        apps[0]["deploying"]["waits"]["because"],
        "v8 serves 5% of the users"
    );
    let approved = run(&mut cutover(&agent, &["approve", "--app", "asks"]));
    assert_eq!(approved.status, 0, "{approved:?}");
    let ended = wait(child);
    assert_eq!(ended.status, 0, "{ended:?}");
    // A terminal shows both streams; a program reads events only.
    let followed = format!("{}{}", ended.stdout, ended.stderr);
    assert!(
        followed.contains(&format!("answer with: {answers}")),
        "{followed}"
    );
}

#[test]
fn each_word_reaches_the_deploy_that_waits_with_who_says_it() {
    for (words, outcome, said) in [
        (&["approve"][..], 0, r#"Approve"#),
        (
            &["reject", "--why", "too slow"],
            7,
            r#"Reject { why: Some("too slow") }"#,
        ),
        (&["promote"], 0, "Promote { full: false }"),
        (&["promote", "--full"], 0, "Promote { full: true }"),
    ] {
        let agent = Agent::start();
        let (id, child) = waiting(&agent, &[]);
        let mut command = cutover(&agent, words);
        command
            .args(["--deploy", id.as_str(), "--format", "json"])
            .env("USER", "grace");
        let ended = run(&mut command);
        assert_eq!(ended.status, 0, "{words:?}: {ended:?}");
        let view: serde_json::Value = serde_json::from_str(&ended.stdout).unwrap();
        assert_eq!(view["deploy"], id.as_str());
        assert_eq!(wait(child).status, outcome, "{words:?}");
        let state = agent.state();
        let taken: Vec<_> = state.decisions.values().collect();
        assert_eq!(taken.len(), 1);
        assert_eq!(format!("{:?}", taken[0].decision), said);
        assert_eq!(taken[0].by.as_deref(), Some("grace"));
    }
}

#[test]
fn a_word_whose_answer_was_lost_is_sent_again_and_taken_once() {
    let agent = Agent::start();
    let (id, child) = waiting(&agent, &[]);
    agent.fail(
        "POST /v1/deploys/",
        &[Fault::LoseAnswer, Fault::Unavailable],
    );
    let ended = run(&mut cutover(&agent, &["approve", "--deploy", id.as_str()]));
    assert_eq!(ended.status, 0, "{ended:?}");
    assert!(ended.stdout.contains("was approved"), "{}", ended.stdout);
    assert_eq!(agent.state().decisions.len(), 1);
    assert_eq!(agent.count(&format!("POST /v1/deploys/{id}/approve")), 3);
    assert_eq!(wait(child).status, 0);
}

#[test]
fn a_word_that_nobody_waits_for_is_refused() {
    let agent = Agent::start();
    let nothing = run(&mut cutover(&agent, &["approve", "--app", "shop"]));
    assert_eq!(nothing.status, 4, "{nothing:?}");
    assert!(
        nothing.stderr.contains("nothing is being deployed"),
        "{}",
        nothing.stderr
    );
    let child = start(&mut deploy(&agent, "slow", &[]));
    until("waiting for the deploy", || {
        agent.state().deploys.len() == 1
    });
    let refused = run(&mut cutover(&agent, &["promote", "--app", "slow"]));
    assert_eq!(refused.status, 4, "{refused:?}");
    assert!(refused.stderr.contains("waits for nobody's word"));
    let unknown = "00000000000000000000000000";
    let unknown = run(&mut cutover(&agent, &["reject", "--deploy", unknown]));
    assert_eq!(unknown.status, 4, "{unknown:?}");
    for wrong in [
        &["approve"][..],
        &["approve", "--app", "a", "--deploy", "b"],
        &["history", "--limit", "0"],
        &["history", "--limit", "101"],
    ] {
        assert_eq!(run(&mut cutover(&agent, wrong)).status, 2, "{wrong:?}");
    }
    let control = run(&mut cutover(
        &agent,
        &["reject", "--app", "slow", "--why", "a\u{1b}[2J"],
    ));
    assert_eq!(control.status, 2, "{control:?}");
    assert_eq!(
        run(&mut cutover(&agent, &["abort", "--app", "slow"])).status,
        0
    );
    assert_eq!(wait(child).status, 7);
}

#[test]
fn on_the_host_no_secret_is_needed_and_the_command_is_short() {
    let agent = Agent::start();
    let folder = tempfile::tempdir().unwrap();
    let socket = folder.path().join("agent.sock");
    agent.also_at(&socket);
    let socket = socket.to_str().unwrap();
    let (id, child) = waiting(&agent, &[]);
    let on_host = |words: &[&str]| run(bare(words).args(["--socket", socket]));
    let status = on_host(&["status", "--app", "asks"]);
    let answer = format!("cutover approve --deploy {id} --socket {socket}");
    assert!(status.stdout.contains(&answer), "{}", status.stdout);
    assert_eq!(on_host(&["approve", "--app", "asks"]).status, 0);
    assert_eq!(wait(child).status, 0);
    let history = on_host(&["history"]);
    assert!(history.stdout.contains(id.as_str()), "{}", history.stdout);
}

#[test]
fn the_history_shows_the_newest_deploy_first() {
    let agent = Agent::start();
    let none = run(&mut cutover(&agent, &["history"]));
    assert_eq!(
        (none.status, none.stdout.trim()),
        (0, "nothing was deployed yet")
    );
    assert_eq!(run(&mut deploy(&agent, "bad-image", &[])).status, 1);
    assert_eq!(run(&mut deploy(&agent, "shop", &[])).status, 0);
    let all = run(&mut cutover(&agent, &["history"]));
    let lines: Vec<_> = all.stdout.lines().collect();
    assert_eq!(lines.len(), 2, "{}", all.stdout);
    for part in ["shop ", "v8", "promoted", "42s", "by ada"] {
        assert!(lines[0].contains(part), "{part}: {}", lines[0]);
    }
    assert!(lines[1].ends_with("by ada: the registry has no such image"));
    let one = run(&mut cutover(
        &agent,
        &[
            "history",
            "--app",
            "bad-image",
            "--limit",
            "1",
            "--format",
            "json",
        ],
    ));
    let views: serde_json::Value = serde_json::from_str(&one.stdout).unwrap();
    assert_eq!(views.as_array().unwrap().len(), 1);
    assert_eq!(views[0]["outcome"], "failed");
}

#[test]
fn in_a_workflow_the_way_to_answer_stands_in_the_log() {
    let agent = Agent::start();
    let folder = tempfile::tempdir().unwrap();
    let output = folder.path().join("output");
    let child = start(deploy(&agent, "asks", &["--github", "on"]).env("GITHUB_OUTPUT", &output));
    until("waiting for the deploy to ask", || {
        let state = agent.state();
        let mut deploys = state.deploys.values();
        deploys.any(|deploy| deploy.told.len() == 5)
    });
    let rejected = run(&mut cutover(&agent, &["reject", "--app", "asks"]));
    assert_eq!(rejected.status, 0, "{rejected:?}");
    let ended = wait(child);
    assert_eq!(ended.status, 7, "{ended:?}");
    assert!(
        ended.stdout.contains("answer with: cutover approve"),
        "{}",
        ended.stdout
    );
    assert!(text(&output).contains("aborted"));
}
