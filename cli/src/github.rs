//! What a workflow step sees: where it was called from, and what it gets back.
//!
//! It reads the runner's environment once and writes the runner's files at the
//! end. What is printed is returned as text to [`crate::output`].

mod command;
mod report;
mod source;

use std::env;
use std::fs::{self, OpenOptions};
use std::io::Write as _;
use std::path::{Path, PathBuf};

use cutover_plan::outcome::Outcome;
use cutover_wire::request::Source;

use crate::arguments::Switch;
use crate::caller::chance;
use crate::ending::{End, Ending};
use crate::output::plain;

/// The largest event file that is read: GitHub's payloads end at 25 MB.
const MAX_EVENT: u64 = 32 * 1024 * 1024;

/// The workflow that this program runs in.
pub(crate) struct Workflow {
    outputs: Option<PathBuf>,
    summary: Option<PathBuf>,
    /// Nobody can write a fence whose name they cannot guess.
    fence: String,
}

impl Workflow {
    /// The workflow, if this is one and the person has not said otherwise.
    pub(crate) fn detect(switch: Switch) -> Option<Self> {
        let on = match switch {
            Switch::On => true,
            Switch::Off => false,
            Switch::Auto => variable("GITHUB_ACTIONS").as_deref() == Some("true"),
        };
        on.then(|| Self {
            outputs: variable("GITHUB_OUTPUT").map(PathBuf::from),
            summary: variable("GITHUB_STEP_SUMMARY").map(PathBuf::from),
            fence: chance(),
        })
    }

    /// Where the call comes from, by the runner's word.
    pub(crate) fn source(&self) -> Source {
        let event = variable("GITHUB_EVENT_PATH").and_then(|path| event(Path::new(&path)));
        let event = event.unwrap_or(serde_json::Value::Null);
        Source {
            // Who runs a workflow again is who asked.
            actor: variable("GITHUB_TRIGGERING_ACTOR").or_else(|| variable("GITHUB_ACTOR")),
            sha: source::sha(&event, variable("GITHUB_SHA").as_deref()),
            run_url: source::run_url(
                variable("GITHUB_SERVER_URL").as_deref(),
                variable("GITHUB_REPOSITORY").as_deref(),
                variable("GITHUB_RUN_ID").as_deref(),
                variable("GITHUB_RUN_ATTEMPT").as_deref(),
            ),
        }
    }

    /// Commands that hide values in the log from now on.
    pub(crate) fn masks(&self, secrets: &[String]) -> String {
        let lines = secrets.iter().flat_map(|secret| secret.lines());
        let lines = lines.map(str::trim).filter(|line| !line.is_empty());
        let masks: Vec<_> = lines
            .map(|line| command::command("add-mask", &[], line))
            .collect();
        masks.join("\n")
    }

    /// Opens a group whose lines are no commands.
    pub(crate) fn open(&self, title: &str) -> String {
        let group = command::command("group", &[], &plain(title));
        format!("{group}\n{}", self.fence().0)
    }

    /// Closes it.
    pub(crate) fn close(&self) -> String {
        format!("{}\n::endgroup::", self.fence().1)
    }

    /// The lines between which nothing is a command.
    pub(crate) fn fence(&self) -> (String, String) {
        let name = &self.fence;
        (format!("::stop-commands::{name}"), format!("::{name}::"))
    }

    /// What stands on the run's page; empty when all went well.
    pub(crate) fn annotation(&self, ending: &Ending) -> String {
        let level = match &ending.end {
            End::Known(Outcome::Promoted | Outcome::Shadowed) | End::Detached | End::Answered => {
                return String::new();
            }
            End::Known(Outcome::Superseded | Outcome::Aborted | Outcome::NoVerdict) => "warning",
            End::Known(Outcome::Failed | Outcome::RolledBack) | End::Unknown(_) => "error",
        };
        let serving = ending.view.as_ref().map(|view| view.serving.clone());
        let parts = [ending.reason(), serving, ending.hint()];
        let parts: Vec<_> = parts
            .into_iter()
            .flatten()
            .filter(|part| !part.is_empty())
            .collect();
        let headline = plain(&ending.headline());
        let text = match parts.is_empty() {
            true => headline.clone(),
            false => parts
                .iter()
                .map(|part| plain(part))
                .collect::<Vec<_>>()
                .join("\n"),
        };
        command::command(level, &[("title", &headline)], &text)
    }

    /// Writes the outputs and the summary of an ending. This and the two
    /// below give a sentence for each file that could not be written.
    pub(crate) fn report(&self, ending: &Ending) -> Vec<String> {
        let mut faults = self.outputs(ending);
        faults.extend(append(self.summary.as_deref(), &report::summary(ending)));
        faults
    }

    /// Writes the outputs alone.
    pub(crate) fn outputs(&self, ending: &Ending) -> Vec<String> {
        let text = report::outputs(ending, chance);
        append(self.outputs.as_deref(), &text).into_iter().collect()
    }

    /// Shows the answer to a question in the summary.
    pub(crate) fn show(&self, text: &str) -> Vec<String> {
        let lines: Vec<_> = text.lines().map(str::to_owned).collect();
        let text = report::fenced(&lines);
        append(self.summary.as_deref(), &text).into_iter().collect()
    }
}

fn append(path: Option<&Path>, text: &str) -> Option<String> {
    let path = path?;
    let mut options = OpenOptions::new();
    let file = options.create(true).append(true).open(path);
    let fault = file
        .and_then(|mut file| file.write_all(text.as_bytes()))
        .err()?;
    Some(format!("{} cannot be written: {fault}", path.display()))
}

fn variable(name: &str) -> Option<String> {
    env::var(name).ok().filter(|value| !value.is_empty())
}

/// The event that started the workflow. Without it the run's commit is used.
fn event(path: &Path) -> Option<serde_json::Value> {
    let length = fs::metadata(path).ok()?.len();
    let text = (length <= MAX_EVENT).then(|| fs::read(path).ok())??;
    serde_json::from_slice(&text).ok()
}
