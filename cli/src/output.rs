//! All that this program prints.
//!
//! What comes from the agent or the app is untrusted: control characters are
//! taken out, so that it cannot drive a terminal, and in a workflow it stands
//! between `::stop-commands::` fences, so that it cannot command the runner.
//! Answers go to standard output; notices and failures to standard error,
//! except in a workflow, where one stream keeps their order.
//! A reader that went away stops the printing and never the deploy.

use std::io::{self, IsTerminal as _, Write as _};
use std::time::Duration;
use std::{env, fmt::Write as _};

use cutover_plan::outcome::Outcome;
use cutover_wire::event::Told;
use serde::Serialize;

use crate::arguments::{Format, Switch};
use crate::duration::render;
use crate::ending::{End, Ending};
use crate::failure::Failure;
use crate::github::Workflow;

/// Where and how to print.
pub(crate) struct Output {
    format: Format,
    paint: Paint,
    workflow: Option<Workflow>,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Paint {
    Colours,
    Plain,
}

/// A colour by what it means.
#[derive(Clone, Copy)]
enum Mood {
    Good,
    Bad,
    Doubtful,
    Faint,
}

impl Output {
    /// Looks at the terminal and the environment once.
    pub(crate) fn new(format: Format, github: Switch) -> Self {
        let unset = |name| env::var_os(name).is_none_or(|value| value.is_empty());
        let dumb = env::var_os("TERM").is_some_and(|term| term == "dumb");
        let colours = io::stdout().is_terminal() && unset("NO_COLOR") && !dumb;
        Self {
            format,
            paint: if colours {
                Paint::Colours
            } else {
                Paint::Plain
            },
            workflow: Workflow::detect(github),
        }
    }

    /// The workflow that this runs in.
    pub(crate) fn workflow(&self) -> Option<&Workflow> {
        self.workflow.as_ref()
    }

    /// Before anything else is printed: values that the runner must hide.
    pub(crate) fn mask(&self, secrets: &[String]) {
        if let Some(workflow) = &self.workflow {
            self.command(&workflow.masks(secrets));
        }
    }

    /// A deploy begins: in a workflow its events fold into a group.
    pub(crate) fn begin(&self, title: &str) {
        match (&self.workflow, self.format) {
            (Some(workflow), Format::Text) => self.command(&workflow.open(title)),
            (None, Format::Text) => self.line(&plain(title)),
            (_, Format::Json) => {}
        }
    }

    /// The agent took the call.
    pub(crate) fn accepted(&self, deploy: &str) {
        match self.format {
            Format::Text => self.line(&self.painted(
                Mood::Faint,
                &format!("   0.0s  accepted as deploy {deploy}"),
            )),
            Format::Json => self.json_line("accepted", &serde_json::json!({ "deploy": deploy })),
        }
    }

    /// An event of the deploy.
    pub(crate) fn told(&self, elapsed: Duration, told: &Told) {
        match self.format {
            Format::Text => {
                let time = format!("{:>7}", render(elapsed));
                let time = self.painted(Mood::Faint, &time);
                self.line(&format!("{time}  {}", plain(&told.text)));
            }
            Format::Json => self.json_line("told", told),
        }
    }

    /// Something about this program's own work, such as a broken connection.
    pub(crate) fn note(&self, text: &str) {
        let line = format!("         {}", plain(text));
        match (&self.workflow, self.format) {
            (Some(_), Format::Text) => self.line(&line),
            _ => complain(&line),
        }
    }

    /// A deploy, or what was to become one, is over: tells it everywhere.
    pub(crate) fn end(&self, ending: &Ending) {
        let workflow = self.workflow.as_ref();
        if let (Some(workflow), Format::Text) = (workflow, self.format) {
            self.command(&workflow.close());
        }
        match self.format {
            Format::Text => self.ended(ending),
            Format::Json => self.json_line("ended", &Ended::of(ending)),
        }
        if let Some(workflow) = workflow {
            self.command(&workflow.annotation(ending));
            self.faults(&workflow.report(ending));
        }
    }

    /// The answer to a question: text for people, the document for programs.
    pub(crate) fn answer(&self, text: &str, document: &impl Serialize) {
        if let Some(workflow) = &self.workflow {
            self.faults(&workflow.show(text));
        }
        match self.format {
            Format::Text => self.fenced(text, |text| self.line(text)),
            Format::Json => match serde_json::to_string_pretty(document) {
                Ok(json) => self.line(&self.unmistakable(&json)),
                Err(error) => complain(&format!("the answer cannot be written: {error}")),
            },
        }
    }

    /// A question was answered: only a workflow is told that too.
    pub(crate) fn answered(&self, ending: &Ending) {
        if let Some(workflow) = &self.workflow {
            self.faults(&workflow.outputs(ending));
        }
    }

    fn faults(&self, faults: &[String]) {
        faults.iter().for_each(|fault| complain(fault));
    }

    fn ended(&self, ending: &Ending) {
        let (mood, mark) = match &ending.end {
            End::Known(Outcome::Promoted | Outcome::Shadowed) | End::Detached | End::Answered => {
                (Mood::Good, "✓")
            }
            End::Known(Outcome::Superseded | Outcome::Aborted | Outcome::NoVerdict) => {
                (Mood::Doubtful, "!")
            }
            End::Known(Outcome::Failed | Outcome::RolledBack) | End::Unknown(_) => (Mood::Bad, "✗"),
        };
        let mut text = format!("{mark} {}", plain(&ending.headline()));
        if let End::Known(outcome) = &ending.end {
            let took = render(ending.duration());
            let _ = write!(text, " ({outcome}, {took})");
        }
        let mut text = self.painted(mood, &text);
        let view = ending.view.as_ref();
        let rows = [
            ("why", ending.reason()),
            ("serving", view.map(|view| view.serving.clone())),
            ("see", view.and_then(|view| view.url.clone())),
            ("hint", ending.hint()),
        ];
        for (name, value) in rows {
            let Some(value) = value.filter(|value| !value.is_empty()) else {
                continue;
            };
            let _ = write!(text, "\n  {name:<8} {}", plain(&value));
        }
        let log = view.map_or(&[][..], |view| view.log.as_slice());
        if !log.is_empty() {
            text.push_str("\n  the app's last lines:");
            for line in log {
                let _ = write!(text, "\n  | {}", plain(line));
            }
        }
        self.fenced(&text, |text| match (&ending.end, &self.workflow) {
            (End::Unknown(_), None) => complain(text),
            _ => self.line(text),
        });
    }

    /// Prints text that others wrote.
    fn fenced(&self, text: &str, print: impl FnOnce(&str)) {
        let fence = self.workflow.as_ref().map(Workflow::fence);
        match fence {
            Some((open, close)) => print(&format!("{open}\n{}\n{close}", text.trim_end())),
            None => print(text.trim_end()),
        }
    }

    fn json_line(&self, key: &str, value: &impl Serialize) {
        match serde_json::to_string(value) {
            Ok(json) => self.line(&self.unmistakable(&format!("{{\"{key}\":{json}}}"))),
            Err(error) => complain(&format!("the event cannot be written: {error}")),
        }
    }

    /// The runner takes `##[` for a command wherever it stands in a line; in
    /// JSON it can only be within a text, where it can be written otherwise.
    fn unmistakable(&self, json: &str) -> String {
        match &self.workflow {
            Some(_) => json.replace("##[", "#\\u0023["),
            None => json.to_owned(),
        }
    }

    /// A command to the runner. JSON keeps standard output for itself.
    fn command(&self, text: &str) {
        match (text.is_empty(), self.format) {
            (true, _) => {}
            (false, Format::Text) => self.line(text),
            (false, Format::Json) => complain(text),
        }
    }

    fn line(&self, text: &str) {
        let mut stdout = io::stdout().lock();
        // A reader that went away must not end the following of a deploy.
        let _ = writeln!(stdout, "{text}").and_then(|()| stdout.flush());
    }

    fn painted(&self, mood: Mood, text: &str) -> String {
        let code = match (self.paint, mood) {
            (Paint::Plain, _) => return text.to_owned(),
            (Paint::Colours, Mood::Good) => "1;32",
            (Paint::Colours, Mood::Bad) => "1;31",
            (Paint::Colours, Mood::Doubtful) => "1;33",
            (Paint::Colours, Mood::Faint) => "2",
        };
        format!("\u{1b}[{code}m{text}\u{1b}[0m")
    }
}

/// The last line of a JSON stream.
#[derive(Serialize)]
struct Ended<'a> {
    outcome: &'static str,
    exit: u8,
    deploy: Option<&'a str>,
    view: Option<&'a cutover_wire::agent::DeployView>,
    failure: Option<&'a Failure>,
}

impl<'a> Ended<'a> {
    fn of(ending: &'a Ending) -> Self {
        Self {
            outcome: ending.word(),
            exit: ending.exit().code(),
            deploy: ending.deploy.as_ref().map(|deploy| deploy.as_str()),
            view: ending.view.as_ref(),
            failure: match &ending.end {
                End::Unknown(failure) => Some(failure),
                End::Known(_) | End::Detached | End::Answered => None,
            },
        }
    }
}

/// Prints to standard error.
pub(crate) fn complain(text: &str) {
    let _ = writeln!(io::stderr().lock(), "{text}");
}

/// One line without control characters and terminal sequences: what others
/// wrote may only be read.
pub(crate) fn plain(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    let mut rest = text.chars().peekable();
    while let Some(c) = rest.next() {
        match c {
            '\u{1b}' if rest.peek() == Some(&'[') => {
                rest.next();
                // A sequence ends with its first letter or sign from @ to ~.
                while rest.next_if(|c| !('@'..='~').contains(c)).is_some() {}
                rest.next();
            }
            '\t' | '\n' => out.push(' '),
            c if c.is_control() => {}
            // They change the order in which a line is read.
            '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}' => {}
            c => out.push(c),
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_others_wrote_cannot_drive_a_terminal() {
        let check = |text: &str, expected: &str| assert_eq!(plain(text), expected);
        check("\u{1b}[31mred\u{1b}[0m", "red");
        check("a\r\nb\tc", "a b c");
        check("\u{1b}]0;title\u{7}x", "]0;titlex");
        check("\u{9b}31mred", "31mred");
        check("\u{202e}evil", "evil");
        check("\u{1b}[", "");
        check("é ✓ 漢", "é ✓ 漢");
    }
}
