//! Runs the program with an environment of its own.

use std::path::Path;
use std::process::{Child, Command, Output, Stdio};
use std::time::{Duration, Instant};

use crate::support::{Agent, SECRET};

/// An image that a test deploys.
pub(crate) const IMAGE: &str =
    "ghcr.io/acme/shop@sha256:0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef";

/// How the program ended.
#[derive(Debug)]
pub(crate) struct Ended {
    pub(crate) status: i32,
    pub(crate) stdout: String,
    pub(crate) stderr: String,
}

/// The program against an agent, with the agent's secret and nothing else.
pub(crate) fn cutover(agent: &Agent, arguments: &[&str]) -> Command {
    let mut command = bare(arguments);
    command
        .env("CUTOVER_URL", agent.url())
        .env("CUTOVER_SECRET", SECRET);
    command
}

/// The program with an empty environment.
pub(crate) fn bare(arguments: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_cutover"));
    command.args(arguments).env_clear().stdin(Stdio::null());
    // Tests of a dead agent shall not wait a minute.
    command.env("CUTOVER_RETRY_FOR", "3s");
    command
}

/// Runs it to its end.
pub(crate) fn run(command: &mut Command) -> Ended {
    ended(&command.output().expect("the program starts"))
}

/// Starts it and leaves it running.
pub(crate) fn start(command: &mut Command) -> Child {
    command.stdout(Stdio::piped()).stderr(Stdio::piped());
    command.spawn().expect("the program starts")
}

/// Waits for the end of a started program.
pub(crate) fn wait(child: Child) -> Ended {
    ended(&child.wait_with_output().expect("the program ends"))
}

/// Waits until something is so, and not for ever.
pub(crate) fn until(what: &str, mut so: impl FnMut() -> bool) {
    let deadline = Instant::now() + Duration::from_secs(20);
    while !so() {
        assert!(Instant::now() < deadline, "{what} in vain");
        std::thread::sleep(Duration::from_millis(5));
    }
}

/// Sends a signal to a started program.
pub(crate) fn signal(child: &Child, signal: rustix::process::Signal) {
    let id = i32::try_from(child.id()).unwrap();
    let process = rustix::process::Pid::from_raw(id).expect("it has an id");
    rustix::process::kill_process(process, signal).expect("it runs");
}

/// Deploys an app with `extra` arguments.
pub(crate) fn deploy(agent: &Agent, app: &str, extra: &[&str]) -> Command {
    let mut command = cutover(agent, &["deploy", "--app", app, "--image", IMAGE]);
    command.args(extra);
    command
}

/// The text of a file that the program may not have written.
pub(crate) fn text(path: &Path) -> String {
    std::fs::read_to_string(path).unwrap_or_default()
}

fn ended(output: &Output) -> Ended {
    let ended = Ended {
        status: output.status.code().expect("it was not killed"),
        stdout: String::from_utf8(output.stdout.clone()).expect("UTF-8"),
        stderr: String::from_utf8(output.stderr.clone()).expect("UTF-8"),
    };
    let secret = SECRET.trim_start_matches("whsec_");
    let masked = format!("::add-mask::{SECRET}");
    let printed = format!("{}{}", ended.stdout, ended.stderr).replace(&masked, "");
    assert!(!printed.contains(secret), "the secret was printed");
    ended
}
