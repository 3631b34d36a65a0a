//! `action.yml` run step by step as a runner does, against an agent: what a
//! workflow sees when a deploy is good, when the image is bad, when the secret
//! is wrong, when nobody answers, and when the workflow is cancelled.

#![expect(clippy::unwrap_used, reason = "a test ends where its set-up fails")]

use std::io::{BufRead as _, BufReader};
use std::path::Path;
use std::process::{Child, Command, Stdio};

#[path = "../action/runner.rs"]
mod runner;

use runner::{Action, Ran, program};

/// The secret of the stand-in agent.
const SECRET: &str = "whsec_dGhlIHNlY3JldCBvZiB0aGUgc3RhbmQtaW4gYWdlbnQ=";
const DIGEST: &str = "sha256:0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef";

/// The stand-in agent as a process; it ends with the test.
struct Agent {
    process: Child,
    url: String,
}

impl Agent {
    fn start() -> Self {
        let mut command = Command::new(program("examples/stand_in"));
        let mut process = command.stdout(Stdio::piped()).spawn().unwrap();
        let mut url = String::new();
        let stdout = process.stdout.take().unwrap();
        BufReader::new(stdout).read_line(&mut url).unwrap();
        let url = url.trim().to_owned();
        Self { process, url }
    }

    /// Whether the agent says that a deploy of the app is under way.
    fn deploys(&self, app: &str) -> bool {
        let mut status = Command::new(program("cutover"));
        let asked = status.args(["status", "--format", "json", "--app", app]);
        let asked = asked
            .env("CUTOVER_URL", &self.url)
            .env("CUTOVER_SECRET", SECRET);
        let answer = asked.output().unwrap().stdout;
        let answer: serde_json::Value = serde_json::from_slice(&answer).unwrap();
        !answer[0]["deploying"].is_null()
    }
}

impl Drop for Agent {
    fn drop(&mut self) {
        // It is over either way.
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

fn action(url: &str, app: &str) -> Action {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap();
    Action::new(root)
        .input("url", url)
        .input("secret", SECRET)
        .input("app", app)
        .input("image", &format!("ghcr.io/acme/shop@{DIGEST}"))
        .input("cutover-path", program("cutover").to_str().unwrap())
        .env("CUTOVER_RETRY_FOR", "1s")
}

fn check(ran: &Ran, status: i32, outcome: &str) {
    assert_eq!(ran.status, Some(status), "{ran:#?}");
    assert_eq!(ran.outputs["outcome"], outcome, "{ran:#?}");
    assert!(!ran.log.contains(SECRET), "the secret is in the log");
    let annotated = !ran.annotations.is_empty();
    assert_eq!(annotated, status != 0, "{ran:#?}");
    let mark = if status == 0 { "✅" } else { "❌" };
    assert!(ran.summary.contains(mark), "{ran:#?}");
}

#[test]
fn a_good_deploy_makes_the_step_green_and_gives_its_outputs() {
    let agent = Agent::start();
    let head = "a".repeat(40);
    let event = format!(r#"{{"pull_request":{{"head":{{"sha":"{head}"}}}}}}"#);
    let ran = action(&agent.url, "shop").event(&event).run();
    check(&ran, 0, "promoted");
    assert_eq!(ran.outputs["digest"], DIGEST);
    assert_eq!(ran.outputs["environment-url"], "https://shop.example.com");
    assert_eq!(ran.outputs["deploy-id"].len(), 26);
    assert!(!ran.outputs["release"].is_empty() && !ran.outputs["duration"].is_empty());
}

#[test]
fn a_bad_image_makes_it_red_and_says_what_serves() {
    let agent = Agent::start();
    let ran = action(&agent.url, "bad-image").run();
    check(&ran, 1, "failed");
    assert!(ran.summary.contains("serving"), "{ran:#?}");
    assert!(!ran.outputs["deploy-id"].is_empty());
    let ran = action(&agent.url, "shop")
        .input("image", "ghcr.io/acme/shop:latest")
        .run();
    check(&ran, 2, "usage");
    assert!(ran.log.contains("pinned by digest"), "{ran:#?}");
}

#[test]
fn a_release_that_was_taken_back_is_never_green() {
    let agent = Agent::start();
    let ran = action(&agent.url, "sour").run();
    check(&ran, 3, "rolled_back");
    assert_eq!(
        ran.annotations.len(),
        1,
        "the app's lines are no commands: {ran:#?}"
    );
}

#[test]
fn a_wrong_secret_is_refused_and_named() {
    let agent = Agent::start();
    let ran = action(&agent.url, "shop")
        .input("secret", "another secret of twenty-four")
        .run();
    check(&ran, 4, "refused");
    assert!(ran.log.contains("are not the same"), "{ran:#?}");
    assert!(
        !ran.log.contains("twenty-four"),
        "the secret is in the log: {ran:#?}"
    );
    let ran = action(&agent.url, "shop").input("secret", "").run();
    check(&ran, 2, "usage");
}

#[test]
fn an_agent_that_is_down_is_told_as_such() {
    // Port 1 is reserved, and nothing listens there.
    let ran = action("http://127.0.0.1:1", "shop").run();
    check(&ran, 5, "unreachable");
    assert!(ran.summary.contains("nothing was started"), "{ran:#?}");
}

#[test]
fn a_cancelled_workflow_aborts_its_deploy() {
    let agent = Agent::start();
    let ran = action(&agent.url, "slow").cancel_when(|| agent.deploys("slow"));
    check(&ran, 7, "aborted");
    assert!(!agent.deploys("slow"));
}

#[test]
fn inputs_that_make_no_sense_say_what_would() {
    let refused = |action: Action, text: &str| {
        let ran = action.run();
        check(&ran, 2, "usage");
        assert!(ran.annotations[0].contains(text), "{ran:#?}");
    };
    let usual = || action("http://127.0.0.1:1", "shop");
    refused(
        usual().input("command", "destroy"),
        "deploy, rollback, plan, status or verify",
    );
    refused(usual().input("app", ""), "the input app is missing");
    refused(usual().input("image", ""), "the input image is missing");
    refused(usual().input("url", ""), "the input url is missing");
    refused(
        usual().input("cutover-path", "/nonexistent"),
        "Install it in a step before this one",
    );
    for (name, value) in [
        ("detach", "yes"),
        ("insecure-http", "1"),
        ("detach", "$(id)"),
    ] {
        let told = format!("the input {name} is neither true nor false");
        refused(usual().input(name, value), &told);
    }
    refused(
        usual().input("command", "rollback"),
        "a rollback takes no image",
    );
    let hostile = "$(touch /tmp/cutover-was-here)`id`';\"";
    assert_eq!(usual().input("app", hostile).run().status, Some(2));
    assert!(!Path::new("/tmp/cutover-was-here").exists());
}

#[test]
fn a_switch_is_true_in_every_spelling_of_yaml() {
    let agent = Agent::start();
    for (value, outcome) in [
        ("True", "accepted"),
        ("TRUE", "accepted"),
        ("", "promoted"),
        ("False", "promoted"),
    ] {
        let ran = action(&agent.url, "shop").input("detach", value).run();
        check(&ran, 0, outcome);
    }
    let ran = action(&agent.url, "shop")
        .input("command", "rollback")
        .input("image", "")
        .run();
    check(&ran, 0, "promoted");
}

#[test]
fn questions_are_answered_in_the_summary() {
    let agent = Agent::start();
    let ran = action(&agent.url, "shop").input("command", "status").run();
    assert_eq!(ran.status, Some(0), "{ran:#?}");
    assert_eq!(ran.outputs["outcome"], "answered");
    assert!(ran.summary.contains("shop.example.com"), "{ran:#?}");
    let ran = action(&agent.url, "shop").input("command", "verify").run();
    assert_eq!(ran.status, Some(0), "{ran:#?}");
}
