//! Runs the steps of `action.yml` as a runner of GitHub does.
//!
//! Inputs and their defaults become the step's environment by way of `env:`,
//! each script runs under `bash -e -o pipefail` with the files that a runner
//! gives, outputs are read back, and a cancelled step gets the runner's
//! signals at the runner's times. What this does not know (`uses:`, `if:`,
//! functions in expressions) it refuses, so that it is never wrong in silence.
//!
//! The file is read with saphyr: it is maintained, pure Rust, and reads YAML
//! 1.2 as the runner does. `serde_yaml` is no longer maintained.

use std::collections::BTreeMap;
use std::os::unix::process::ExitStatusExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process};
use saphyr::{LoadableYamlNode as _, Yaml};
use tempfile::TempDir;

/// What a cancelled step gets, and how long it has until the next.
const CANCEL: [(Signal, Duration); 3] = [
    (Signal::INT, Duration::from_millis(7_500)),
    (Signal::TERM, Duration::from_millis(2_500)),
    (Signal::KILL, Duration::from_secs(60)),
];

/// The action of a repository, with what a workflow gives it.
pub(crate) struct Action {
    root: PathBuf,
    inputs: BTreeMap<String, String>,
    environment: BTreeMap<String, String>,
    event: String,
}

/// How it ended.
#[derive(Debug)]
pub(crate) struct Ran {
    /// The exit status of the step that failed, else 0; none if it was killed.
    pub(crate) status: Option<i32>,
    /// The action's outputs.
    pub(crate) outputs: BTreeMap<String, String>,
    /// The summaries of its steps.
    pub(crate) summary: String,
    /// The log as the runner shows it: masks applied.
    pub(crate) log: String,
    /// `error` and `warning` commands that the runner obeyed.
    pub(crate) annotations: Vec<String>,
}

/// A step that runs.
pub(crate) struct Running {
    child: Child,
    files: TempDir,
}

impl Action {
    /// The `action.yml` of a repository.
    pub(crate) fn new(root: impl Into<PathBuf>) -> Self {
        Self {
            root: root.into(),
            inputs: BTreeMap::new(),
            environment: BTreeMap::new(),
            event: "{}".to_owned(),
        }
    }

    /// What stands under `with:`.
    pub(crate) fn input(mut self, name: &str, value: &str) -> Self {
        self.inputs.insert(name.to_owned(), value.to_owned());
        self
    }

    /// A variable of the job.
    pub(crate) fn env(mut self, name: &str, value: &str) -> Self {
        self.environment.insert(name.to_owned(), value.to_owned());
        self
    }

    /// The event that started the workflow.
    pub(crate) fn event(mut self, json: &str) -> Self {
        json.clone_into(&mut self.event);
        self
    }

    /// Runs every step until one fails.
    pub(crate) fn run(self) -> Ran {
        self.drive(|running| running.finish(None))
    }

    /// Starts it, and cancels the workflow as soon as `now` says so.
    pub(crate) fn cancel_when(self, mut now: impl FnMut() -> bool) -> Ran {
        self.drive(|mut running| {
            let deadline = Instant::now() + Duration::from_secs(60);
            while !now() && running.child.try_wait().expect("it can be asked").is_none() {
                assert!(Instant::now() < deadline, "there was nothing to cancel");
                std::thread::sleep(Duration::from_millis(5));
            }
            running.cancel()
        })
    }

    fn drive(self, mut end: impl FnMut(Running) -> Ran) -> Ran {
        let text =
            std::fs::read_to_string(self.root.join("action.yml")).expect("action.yml is there");
        let documents = Yaml::load_from_str(&text).expect("action.yml is YAML");
        let action = &documents[0];
        let inputs = self.inputs(action);
        let mut steps = BTreeMap::new();
        let mut whole: Option<Ran> = None;
        for step in action["runs"]["steps"]
            .as_vec()
            .expect("the action has steps")
        {
            let id = step.as_mapping_get("id").and_then(Yaml::as_str);
            let mut ran = end(self.start(step, &inputs, &steps));
            if let Some(before) = whole.take() {
                ran.summary.insert_str(0, &before.summary);
                ran.log.insert_str(0, &before.log);
                ran.annotations.splice(0..0, before.annotations);
            }
            if let Some(id) = id {
                steps.insert(id.to_owned(), std::mem::take(&mut ran.outputs));
            }
            let failed = ran.status != Some(0);
            whole = Some(ran);
            if failed {
                break;
            }
        }
        let mut ran = whole.expect("the action has a step");
        // Outputs are evaluated also when a step failed.
        for (name, output) in pairs(&action["outputs"]) {
            let value = output["value"].as_str().expect("an output has a value");
            let value = evaluate(value, &inputs, &steps);
            ran.outputs.insert(name.to_owned(), value);
        }
        ran
    }

    /// Every input with its value; one that is not declared is a mistake.
    fn inputs(&self, action: &Yaml<'_>) -> BTreeMap<String, String> {
        let mut inputs = BTreeMap::new();
        for (name, input) in pairs(&action["inputs"]) {
            let default = input
                .as_mapping_get("default")
                .map(scalar)
                .unwrap_or_default();
            let given = self.inputs.get(name).cloned();
            inputs.insert(name.to_owned(), given.unwrap_or(default));
        }
        for name in self.inputs.keys() {
            assert!(inputs.contains_key(name), "action.yml has no input {name}");
        }
        inputs
    }

    fn start(
        &self,
        step: &Yaml<'_>,
        inputs: &BTreeMap<String, String>,
        steps: &Outputs,
    ) -> Running {
        for key in pairs(step).map(|(key, _)| key) {
            let known = ["id", "name", "shell", "env", "run"];
            assert!(
                known.contains(&key),
                "the harness does not know {key}: in a step"
            );
        }
        assert_eq!(step["shell"].as_str(), Some("bash"));
        let script = step["run"].as_str().expect("a step has a script");
        assert!(
            !script.contains("${{"),
            "a text of others would be a part of the script"
        );
        let files = tempfile::tempdir().expect("there is room");
        let path = |name: &str| files.path().join(name);
        std::fs::write(path("script.sh"), script).expect("there is room");
        std::fs::write(path("event.json"), &self.event).expect("there is room");
        for name in ["output", "summary", "env", "path", "state"] {
            std::fs::write(path(name), "").expect("there is room");
        }
        let mut command = Command::new("bash");
        command
            .args(["--noprofile", "--norc", "-e", "-o", "pipefail"])
            .arg(path("script.sh"))
            .current_dir(files.path())
            .env_clear()
            .env("PATH", std::env::var_os("PATH").unwrap_or_default())
            .env("HOME", files.path());
        let github = [
            ("GITHUB_OUTPUT", "output"),
            ("GITHUB_STEP_SUMMARY", "summary"),
            ("GITHUB_ENV", "env"),
            ("GITHUB_PATH", "path"),
            ("GITHUB_STATE", "state"),
            ("GITHUB_EVENT_PATH", "event.json"),
        ];
        command.envs(github.map(|(name, file)| (name, path(file))));
        command.env("GITHUB_ACTION_PATH", &self.root).envs(job());
        command.envs(&self.environment);
        for (name, value) in pairs(&step["env"]) {
            command.env(name, evaluate(&scalar(value), inputs, steps));
        }
        // One file for both streams keeps the order that a runner sees.
        let log = std::fs::File::create(path("log")).expect("there is room");
        let copy = log.try_clone().expect("it can be shared");
        command.stdin(Stdio::null()).stdout(log).stderr(copy);
        let child = command.spawn().expect("bash is there");
        Running { child, files }
    }
}

impl Running {
    /// Cancels it as a runner does: the entry process alone gets the signals.
    fn cancel(mut self) -> Ran {
        for (signal, patience) in CANCEL {
            let id = i32::try_from(self.child.id()).ok().and_then(Pid::from_raw);
            // It may have ended in between.
            let _ = kill_process(id.expect("it has an id"), signal);
            let until = Instant::now() + patience;
            while Instant::now() < until {
                if self.child.try_wait().expect("it can be asked").is_some() {
                    return self.finish(Some(signal));
                }
                std::thread::sleep(Duration::from_millis(10));
            }
        }
        panic!("it outlived a kill");
    }

    fn finish(mut self, killed_by: Option<Signal>) -> Ran {
        let status = self.child.wait().expect("it can be waited for");
        if let (Some(sent), Some(got)) = (killed_by, status.signal()) {
            assert_eq!(sent.as_raw(), got, "another signal ended it");
        }
        let read =
            |name: &str| std::fs::read_to_string(self.files.path().join(name)).expect("UTF-8");
        let (log, annotations) = obey(&read("log"));
        Ran {
            status: status.code(),
            outputs: outputs(&read("output")),
            summary: read("summary"),
            log,
            annotations,
        }
    }
}

type Outputs = BTreeMap<String, BTreeMap<String, String>>;

/// Variables that every job has.
fn job() -> [(&'static str, &'static str); 8] {
    [
        ("CI", "true"),
        ("GITHUB_ACTIONS", "true"),
        ("GITHUB_ACTOR", "ada"),
        ("GITHUB_REPOSITORY", "acme/shop"),
        ("GITHUB_RUN_ATTEMPT", "1"),
        ("GITHUB_RUN_ID", "77"),
        ("GITHUB_SERVER_URL", "https://github.com"),
        ("GITHUB_SHA", "ffffffffffffffffffffffffffffffffffffffff"),
    ]
}

/// Puts values in the place of `${{ inputs.… }}` and `${{ steps.….outputs.… }}`.
fn evaluate(text: &str, inputs: &BTreeMap<String, String>, steps: &Outputs) -> String {
    let mut parts = text.split("${{");
    let mut out = parts.next().unwrap_or_default().to_owned();
    for part in parts {
        let (expression, rest) = part.split_once("}}").expect("an expression ends");
        let path: Vec<_> = expression.trim().split('.').collect();
        match path.as_slice() {
            ["inputs", name] => {
                let value = inputs.get(*name);
                out.push_str(value.unwrap_or_else(|| panic!("there is no input {name}")));
            }
            // The runner evaluates an output that was not written to nothing.
            ["steps", id, "outputs", name] => {
                let value = steps.get(*id).and_then(|outputs| outputs.get(*name));
                out.push_str(value.map_or("", String::as_str));
            }
            _ => panic!("the harness does not know {expression}"),
        }
        out.push_str(rest);
    }
    out
}

/// Reads an outputs file: `name=value`, or `name<<delimiter` and lines.
fn outputs(text: &str) -> BTreeMap<String, String> {
    let mut outputs = BTreeMap::new();
    let mut lines = text.lines();
    while let Some(line) = lines.next() {
        let (name, value) = match (line.find("<<"), line.find('=')) {
            (Some(at), equals) if equals.is_none_or(|equals| at < equals) => {
                let delimiter = &line[at + 2..];
                let value: Vec<_> = lines
                    .by_ref()
                    .take_while(|line| *line != delimiter)
                    .collect();
                (&line[..at], value.join("\n"))
            }
            (_, Some(equals)) => (&line[..equals], line[equals + 1..].to_owned()),
            (_, None) => panic!("the runner refuses the output {line:?}"),
        };
        outputs.insert(name.to_owned(), value);
    }
    outputs
}

/// Reads a log as the runner does: masks, fences and annotations.
fn obey(text: &str) -> (String, Vec<String>) {
    let mut masks: Vec<String> = Vec::new();
    let mut fence: Option<String> = None;
    let (mut log, mut annotations) = (String::new(), Vec::new());
    for line in text.lines() {
        let line = masks
            .iter()
            .fold(line.to_owned(), |line, mask| line.replace(mask, "***"));
        let command = line.trim_start().strip_prefix("::").map(str::to_owned);
        match (&fence, command) {
            (Some(end), Some(command)) if command == format!("{end}::") => fence = None,
            (None, Some(command)) => {
                if let Some(mask) = command.strip_prefix("add-mask::") {
                    masks.push(mask.to_owned());
                    continue;
                }
                if let Some(name) = command.strip_prefix("stop-commands::") {
                    fence = Some(name.to_owned());
                    continue;
                }
                if command.starts_with("error") || command.starts_with("warning") {
                    annotations.push(command);
                }
            }
            (Some(_) | None, _) => {}
        }
        log.push_str(&line);
        log.push('\n');
    }
    assert_eq!(fence, None, "commands were left stopped");
    (log, annotations)
}

fn pairs<'a, 'b>(mapping: &'a Yaml<'b>) -> impl Iterator<Item = (&'a str, &'a Yaml<'b>)> {
    let mapping = mapping.as_mapping().expect("it is a mapping");
    mapping
        .iter()
        .map(|(key, value)| (key.as_str().expect("keys are texts"), value))
}

/// A scalar as the runner turns it into text.
fn scalar(value: &Yaml<'_>) -> String {
    match (value.as_str(), value.as_bool(), value.as_integer()) {
        (Some(text), _, _) => text.to_owned(),
        (_, Some(truth), _) => truth.to_string(),
        (_, _, Some(number)) => number.to_string(),
        _ => panic!("the harness does not know {value:?}"),
    }
}

/// A program of this workspace, built beside this test.
pub(crate) fn program(name: &str) -> PathBuf {
    let test = std::env::current_exe().expect("this test is a program");
    let directory = test
        .parent()
        .and_then(Path::parent)
        .expect("it lies in target/…/deps");
    let path = directory.join(name);
    assert!(
        path.exists(),
        "{} is missing: cargo build --workspace --all-targets",
        path.display()
    );
    path
}
