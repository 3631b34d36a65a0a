//! A step's outputs and its summary, as the runner's files want them. Pure but
//! for the chance that the outputs' delimiter is made of.
//!
//! Texts of the agent and the app are untrusted: no line of them ends a
//! delimiter or a fence, and none of them is markup.

use std::fmt::Write as _;

use cutover_plan::outcome::Outcome;
use cutover_wire::agent::DeployView;

use crate::duration::render;
use crate::ending::{End, Ending};
use crate::output::plain;

/// Lines of the app's log that are shown: what a person reads.
const MAX_LOG: usize = 200;
/// The longest line that is shown. A summary may have 1 MiB.
const MAX_LINE: usize = 2_000;

/// The lines of `GITHUB_OUTPUT`. Every output is written, empty if unknown.
pub(super) fn outputs(ending: &Ending, delimiter: impl Fn() -> String) -> String {
    let view = ending.view.as_ref();
    let release = view.and_then(|view| view.release);
    let values = [
        ("deploy-id", ending.deploy.as_ref().map(ToString::to_string)),
        ("outcome", Some(ending.word().to_owned())),
        ("release", release.map(|number| number.0.to_string())),
        ("digest", ending.digest()),
        ("environment-url", view.and_then(|view| view.url.clone())),
        ("duration", Some(ending.duration().as_secs().to_string())),
    ];
    values
        .into_iter()
        .fold(String::new(), |mut text, (name, value)| {
            let end = format!("cutover_{}", delimiter());
            let value = plain(&value.unwrap_or_default());
            let _ = writeln!(text, "{name}<<{end}\n{value}\n{end}");
            text
        })
}

/// The summary of the step, in Markdown.
pub(super) fn summary(ending: &Ending) -> String {
    let mark = match &ending.end {
        End::Known(Outcome::Promoted | Outcome::Shadowed) | End::Detached | End::Answered => "✅",
        End::Known(_) | End::Unknown(_) => "❌",
    };
    let mut text = format!(
        "### {mark} {}\n\n| | |\n|---|---|\n",
        inline(&ending.headline())
    );
    let view = ending.view.as_ref();
    let rows = [
        ("app", ending.app.as_ref().map(ToString::to_string)),
        ("outcome", Some(ending.word().to_owned())),
        (
            "release",
            view.and_then(|view| view.release)
                .map(|number| number.to_string()),
        ),
        ("image", ending.image_text()),
        ("serving", view.map(|view| view.serving.clone())),
        ("address", view.and_then(|view| view.url.clone())),
        ("deploy", ending.deploy.as_ref().map(ToString::to_string)),
        ("duration", Some(render(ending.duration()))),
    ];
    for (name, value) in rows {
        let Some(value) = value.filter(|value| !value.is_empty()) else {
            continue;
        };
        let _ = writeln!(text, "| {name} | {} |", inline(&value));
    }
    if let Some(reason) = ending.reason() {
        let _ = writeln!(text, "\n**Why:** {}", inline(&reason));
    }
    if let Some(hint) = ending.hint() {
        let _ = writeln!(text, "\n**Hint:** {}", inline(&hint));
    }
    text.push_str(&view.map_or_else(String::new, log));
    text.push('\n');
    text
}

/// The app's last lines in a fence that none of them ends.
fn log(view: &DeployView) -> String {
    if view.log.is_empty() {
        return String::new();
    }
    format!("\n**The app's last lines:**\n\n{}", fenced(&view.log))
}

/// Lines in a fence that none of them ends; the last of too many.
pub(super) fn fenced(lines: &[String]) -> String {
    let from = lines.len().saturating_sub(MAX_LOG);
    let short = |line: &String| plain(line).chars().take(MAX_LINE).collect::<String>();
    let lines: Vec<String> = lines.iter().skip(from).map(short).collect();
    let fence = "`".repeat(3.max(1 + longest_run(&lines)));
    format!("{fence}text\n{}\n{fence}\n", lines.join("\n"))
}

fn longest_run(lines: &[String]) -> usize {
    let runs = lines.iter().flat_map(|line| line.split(|c| c != '`'));
    runs.map(str::len).max().unwrap_or(0)
}

/// Text in which nothing is markup and nothing ends a cell of a table.
fn inline(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for c in plain(text).chars().take(MAX_LINE) {
        match c {
            '<' => out.push_str("&lt;"),
            '>' => out.push_str("&gt;"),
            '&' => out.push_str("&amp;"),
            '\\' | '`' | '*' | '_' | '[' | ']' | '|' | '#' | '!' | '~' => {
                out.push('\\');
                out.push(c);
            }
            // A mention would send somebody a message.
            '@' => out.push_str("&#64;"),
            c => out.push(c),
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

    use cutover_plan::id::{DeployId, ReleaseNumber};
    use cutover_wire::exit::Exit;

    use crate::ending::Verb;
    use crate::failure::Failure;

    fn ending(log: &[&str]) -> Ending {
        let deploy = DeployId::new(1, [7; 10]);
        let view = DeployView {
            deploy: deploy.clone(),
            app: "shop".parse().unwrap(),
            kind: None,
            by: None,
            waits: None,
            release: Some(ReleaseNumber(8)),
            image: Some(format!("ghcr.io/acme/shop@sha256:{}", "a".repeat(64))),
            phase: "over".to_owned(),
            outcome: Some(Outcome::RolledBack),
            serving: "v7 serves | all".to_owned(),
            reason: Some("2% of requests <failed>".to_owned()),
            hint: Some("look at `it`".to_owned()),
            log: log.iter().map(|line| (*line).to_owned()).collect(),
            accepted_at: "2026-01-01T00:00:00Z".parse().unwrap(),
            ended_at: Some("2026-01-01T00:01:12Z".parse().unwrap()),
            url: Some("https://shop.example.com\noutcome=promoted".to_owned()),
        };
        Ending {
            verb: Verb::Deploy,
            app: Some("shop".parse().unwrap()),
            image: None,
            deploy: Some(deploy),
            end: End::Known(Outcome::RolledBack),
            view: Some(view),
            elapsed: Duration::from_secs(5),
        }
    }

    #[test]
    fn outputs_are_complete_and_no_value_makes_another() {
        let text = outputs(&ending(&[]), || "D".to_owned());
        let expected = [
            ("deploy-id", DeployId::new(1, [7; 10]).to_string()),
            ("outcome", "rolled_back".to_owned()),
            ("release", "8".to_owned()),
            ("digest", format!("sha256:{}", "a".repeat(64))),
            (
                "environment-url",
                "https://shop.example.com outcome=promoted".to_owned(),
            ),
            ("duration", "72".to_owned()),
        ];
        let expected =
            expected.map(|(name, value)| format!("{name}<<cutover_D\n{value}\ncutover_D\n"));
        assert_eq!(text, expected.concat());
    }

    #[test]
    fn a_refusal_has_outputs_and_a_summary_too() {
        let mut refused = ending(&[]);
        refused.view = None;
        refused.deploy = None;
        let failure = Failure::new(Exit::Refused, "the agent refused the deploy");
        refused.end = End::Unknown(failure.hint("do this"));
        let text = outputs(&refused, || "D".to_owned());
        assert!(text.contains("outcome<<cutover_D\nrefused\n"), "{text}");
        assert!(text.contains("deploy-id<<cutover_D\n\n"), "{text}");
        let text = summary(&refused);
        assert!(text.contains("the agent refused the deploy"), "{text}");
        assert!(text.contains("**Hint:** do this"), "{text}");
    }

    #[test]
    fn no_line_of_the_app_leaves_its_fence() {
        let text = summary(&ending(&["```", "````` # <img src=x>", "\u{1b}[31mred"]));
        assert!(
            text.contains("\n``````text\n```\n````` # <img src=x>\nred\n``````\n"),
            "{text}"
        );
    }

    #[test]
    fn no_text_is_markup() {
        let text = summary(&ending(&[]));
        assert!(text.contains("| serving | v7 serves \\| all |"), "{text}");
        assert!(
            text.contains("**Why:** 2% of requests &lt;failed&gt;"),
            "{text}"
        );
        assert!(text.contains("**Hint:** look at \\`it\\`"), "{text}");
        assert_eq!(inline("[a](b) @me"), "\\[a\\](b) &#64;me");
    }
}
