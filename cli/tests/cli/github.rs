//! What a workflow gets: outputs, a summary, annotations, and no command that
//! somebody else wrote.

use std::collections::BTreeMap;
use std::path::Path;
use std::process::Command;

use crate::run::{Ended, bare, deploy, run, text};
use crate::support::{Agent, SECRET};

/// A step's files and how the program ended in it.
struct Step {
    ended: Ended,
    outputs: BTreeMap<String, String>,
    summary: String,
}

fn step(command: &mut Command, event: &str) -> Step {
    let directory = tempfile::tempdir().unwrap();
    let path = |name: &str| directory.path().join(name);
    std::fs::write(path("event.json"), event).unwrap();
    command
        .env("GITHUB_ACTIONS", "true")
        .env("GITHUB_OUTPUT", path("output"))
        .env("GITHUB_STEP_SUMMARY", path("summary"))
        .env("GITHUB_EVENT_PATH", path("event.json"))
        .env("GITHUB_ACTOR", "ada")
        .env("GITHUB_SHA", "f".repeat(40))
        .env("GITHUB_SERVER_URL", "https://github.com")
        .env("GITHUB_REPOSITORY", "acme/shop")
        .env("GITHUB_RUN_ID", "77")
        .env("GITHUB_RUN_ATTEMPT", "2");
    Step {
        ended: run(command),
        outputs: outputs(&path("output")),
        summary: text(&path("summary")),
    }
}

/// Reads outputs as the runner does: `name<<delimiter`, lines, the delimiter.
fn outputs(path: &Path) -> BTreeMap<String, String> {
    let text = text(path);
    let mut lines = text.lines();
    let mut outputs = BTreeMap::new();
    while let Some(line) = lines.next() {
        let (name, delimiter) = line.split_once("<<").expect("an output begins");
        let value: Vec<_> = lines
            .by_ref()
            .take_while(|line| *line != delimiter)
            .collect();
        outputs.insert(name.to_owned(), value.join("\n"));
    }
    outputs
}

/// The lines that the runner would carry out, fences obeyed.
fn commands(stdout: &str) -> Vec<&str> {
    let mut fence = None;
    let mut commands = Vec::new();
    for line in stdout.lines() {
        match (&fence, line.strip_prefix("::")) {
            (Some(end), Some(rest)) if rest == format!("{end}::") => fence = None,
            (None, Some(rest)) => match rest.strip_prefix("stop-commands::") {
                Some(name) => fence = Some(name.to_owned()),
                None => commands.push(line),
            },
            (Some(_) | None, _) => {}
        }
    }
    assert_eq!(fence, None, "a fence was left open");
    commands
}

#[test]
fn a_good_deploy_gives_its_outputs_and_says_where_it_came_from() {
    let agent = Agent::start();
    let head = "a".repeat(40);
    let event = format!(r#"{{"pull_request":{{"head":{{"sha":"{head}"}}}}}}"#);
    let step = step(&mut deploy(&agent, "shop", &[]), &event);
    assert_eq!(step.ended.status, 0, "{:?}", step.ended);
    let expected = [
        ("outcome", "promoted"),
        ("release", "8"),
        (
            "digest",
            "sha256:0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef",
        ),
        ("environment-url", "https://shop.example.com"),
        ("duration", "42"),
    ];
    for (name, value) in expected {
        assert_eq!(step.outputs[name], value, "{name}");
    }
    assert_eq!(step.outputs["deploy-id"].len(), 26);
    assert!(
        step.summary.contains("✅ shop v8 serves"),
        "{}",
        step.summary
    );
    let mask = format!("::add-mask::{SECRET}");
    let commands = commands(&step.ended.stdout);
    assert_eq!(commands[0], mask, "before anything else");
    assert_eq!(commands.len(), 3, "mask, group, endgroup: {commands:?}");
    let state = agent.state();
    let source = &state.deploys.values().next().unwrap().request.source;
    assert_eq!(source.sha.as_deref(), Some(head.as_str()));
    assert_eq!(source.actor.as_deref(), Some("ada"));
    let url = "https://github.com/acme/shop/actions/runs/77/attempts/2";
    assert_eq!(source.run_url.as_deref(), Some(url));
}

#[test]
fn a_bad_app_cannot_command_the_runner() {
    let agent = Agent::start();
    let step = step(&mut deploy(&agent, "sour", &[]), "{}");
    assert_eq!(step.ended.status, 3, "{:?}", step.ended);
    assert_eq!(step.outputs["outcome"], "rolled_back");
    let commands = commands(&step.ended.stdout);
    let errors: Vec<_> = commands
        .iter()
        .filter(|line| line.starts_with("::error"))
        .collect();
    let [error] = errors.as_slice() else {
        panic!("{commands:?}")
    };
    assert!(
        error
            .starts_with("::error title=deploy of sour v8 was taken back::5%25 of requests failed"),
        "{error}"
    );
    assert!(
        step.summary.contains("````text\npanic: no database"),
        "{}",
        step.summary
    );
}

#[test]
fn every_end_writes_outputs_and_a_summary() {
    let agent = Agent::start();
    let check = |command: &mut Command, status: i32, word: &str| {
        let step = step(command, "not json");
        assert_eq!(step.ended.status, status, "{:?}", step.ended);
        assert_eq!(step.outputs["outcome"], word);
        assert_eq!(step.outputs.len(), 6);
        assert!(step.summary.contains("❌"), "{}", step.summary);
        let commands = commands(&step.ended.stdout);
        assert!(
            commands
                .iter()
                .any(|line| line.starts_with("::error title=")),
            "{commands:?}"
        );
    };
    check(&mut deploy(&agent, "unknown", &[]), 4, "refused");
    check(&mut deploy(&agent, "bad-image", &[]), 1, "failed");
    check(
        &mut deploy(&agent, "slow", &["--timeout", "500ms"]),
        5,
        "unreachable",
    );
    check(
        deploy(&agent, "shop", &[])
            .env("CUTOVER_URL", "http://127.0.0.1:1")
            .env("CUTOVER_RETRY_FOR", "1s"),
        5,
        "unreachable",
    );
    check(
        deploy(&agent, "shop", &[]).env("CUTOVER_SECRET", ""),
        2,
        "usage",
    );
    check(
        &mut bare(&["deploy", "--app", "shop", "--image", "ghcr.io/acme/shop:v1"]),
        2,
        "usage",
    );
}

#[test]
fn a_question_is_answered_in_the_summary_too() {
    let agent = Agent::start();
    let step = step(
        &mut crate::run::cutover(&agent, &["status", "--app", "shop"]),
        "{}",
    );
    assert_eq!(step.ended.status, 0, "{:?}", step.ended);
    assert_eq!(step.outputs["outcome"], "answered");
    assert!(
        step.summary.contains("v7  running, proven"),
        "{}",
        step.summary
    );
}

#[test]
fn json_in_a_workflow_keeps_its_stream_clean() {
    let agent = Agent::start();
    let step = step(&mut deploy(&agent, "sour", &["--format", "json"]), "{}");
    for line in step.ended.stdout.lines() {
        let line: Result<serde_json::Value, _> = serde_json::from_str(line);
        assert!(line.is_ok(), "{:?}", step.ended);
    }
    assert_eq!(step.outputs["outcome"], "rolled_back");
    assert!(
        step.ended.stderr.contains("::error title="),
        "{:?}",
        step.ended
    );
}
