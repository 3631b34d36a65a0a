//! The end: what became of every request and deploy, and what GitHub was told.

use std::collections::BTreeSet;
use std::path::Path;
use std::time::Duration;

use cutover_tests::load::{Kind, Record, Report};

use crate::act::Played;
use crate::screen::{Mood, grouped};
use crate::table::Table;
use crate::{APP, Stage};

/// A description longer than this is cut, so that a line stays a line.
const DESCRIPTION: usize = 96;

/// Shows it, and says whether all is as it should be.
pub(crate) fn show(
    stage: &Stage,
    acts: &[Played],
    report: &Report,
    took: Duration,
) -> anyhow::Result<bool> {
    let screen = &stage.screen;
    let mut faults = Vec::new();
    screen.headline("What became of it", &format!("after {}", seconds(took)))?;
    screen.line("")?;
    requests(stage, report, &mut faults)?;
    screen.line("")?;
    deploys(stage, acts, report, &mut faults)?;
    screen.line("")?;
    github(stage, acts, &mut faults)?;
    screen.line("")?;
    for fault in &faults {
        screen.line(&screen.paint(Mood::Bad, &format!("✗ {fault}")))?;
    }
    if faults.is_empty() {
        let good = "✓ No request was lost, and every deploy ended as it should.";
        screen.line(&screen.paint(Mood::Good, good))?;
    }
    Ok(faults.is_empty())
}

fn requests(stage: &Stage, report: &Report, faults: &mut Vec<String>) -> anyhow::Result<()> {
    let screen = &stage.screen;
    let summary = report.summary(&[]);
    let errors: Vec<&Record> = report.failed().filter(|r| r.is_error_of_app()).collect();
    let lost: Vec<&Record> = report.failed().filter(|r| !r.is_error_of_app()).collect();
    let blamed: BTreeSet<_> = errors.iter().filter_map(|r| r.version.as_deref()).collect();
    if summary.sent == 0 {
        faults.push("no request was sent".to_owned());
    }
    if errors.is_empty() {
        faults.push("v4 answered no request with an error, so the demo shows nothing".to_owned());
    }
    if blamed.iter().any(|version| *version != "4") {
        faults.push(format!("versions {blamed:?} answered with errors"));
    }
    if !lost.is_empty() {
        let first = lost.iter().take(3);
        let first: Vec<_> = first
            .map(|r| format!("{:?} {:?}", r.kind, r.outcome))
            .collect();
        let (count, first) = (lost.len(), first.join("; "));
        faults.push(format!(
            "{count} requests were lost or broken, first: {first}"
        ));
    }
    let kinds = summary.kinds.iter();
    let kinds = kinds.map(|(kind, count)| format!("{} {}", grouped(*count as u64), kind_of(*kind)));
    let kinds = kinds.collect::<Vec<_>>().join(", ");
    let sent = grouped(summary.sent as u64);
    screen.line(&format!(
        "requests          {sent} in {}: {kinds}",
        seconds(report.elapsed)
    ))?;
    let mood = if lost.is_empty() {
        Mood::Good
    } else {
        Mood::Bad
    };
    let count = screen.paint(mood, &lost.len().to_string());
    screen.line(&format!("lost or broken    {count}"))?;
    let count = grouped(errors.len() as u64);
    screen.line(&format!(
        "errors of v4      {count}, its own answers with status 500, until it was taken back"
    ))?;
    let (p50, p99) = (milliseconds(summary.p50), milliseconds(summary.p99));
    screen.line(&format!("answered within   p50 {p50}, p99 {p99}"))
}

fn deploys(
    stage: &Stage,
    acts: &[Played],
    report: &Report,
    faults: &mut Vec<String>,
) -> anyhow::Result<()> {
    let head = [
        "deploy",
        "took",
        "outcome",
        "exit",
        "served meanwhile",
        "serves after",
        "",
    ];
    let mut table = Table::new(&head);
    for act in acts {
        let during = match act.span {
            Some(span) => served(report, span, &act.serves),
            None => "nothing".to_owned(),
        };
        let mark = if act.faults.is_empty() {
            "as expected"
        } else {
            "UNEXPECTED"
        };
        let outcome = act.outcome.replace('_', " ");
        let (took, code) = (seconds(act.took), act.code.to_string());
        let after = format!("v{}", act.serves);
        table.row(&[act.name, &took, &outcome, &code, &during, &after, mark]);
        faults.extend(
            act.faults
                .iter()
                .map(|fault| format!("{}: {fault}", act.name)),
        );
    }
    table.show(&stage.screen)
}

/// The versions that answered in a span, in the order of their first answers;
/// the one that is left at the end stands at the end. An open WebSocket stays
/// with its release until that stops, so it does not tell who serves.
fn served(report: &Report, (from, to): (Duration, Duration), after: &str) -> String {
    let mut versions: Vec<&str> = Vec::new();
    let tells =
        |record: &&Record| record.kind != Kind::WebSocket && (from..=to).contains(&record.began);
    let told = report.records.iter().filter(tells);
    for version in told.filter_map(|record| record.version.as_deref()) {
        if !versions.contains(&version) {
            versions.push(version);
        }
    }
    if versions.last() != Some(&after) {
        versions.push(after);
    }
    let versions: Vec<_> = versions
        .iter()
        .map(|version| format!("v{version}"))
        .collect();
    versions.join(" → ")
}

fn github(stage: &Stage, acts: &[Played], faults: &mut Vec<String>) -> anyhow::Result<()> {
    let mut table = Table::new(&["what GitHub was told", "state", "description"]);
    let deployments = stage.github.deployments();
    for (act, deployment) in acts.iter().zip(&deployments) {
        let mut name = act.name;
        for status in &deployment.statuses {
            let mut description = status.description.clone();
            if description.chars().count() > DESCRIPTION {
                description = description.chars().take(DESCRIPTION - 1).collect();
                description.push('…');
            }
            table.row(&[name, &status.state, &description]);
            name = "";
        }
    }
    if deployments.len() != acts.len() {
        faults.push(format!(
            "GitHub was told of {} deploys of {}",
            deployments.len(),
            acts.len()
        ));
    }
    let violations = stage.github.violations();
    faults.extend(
        violations
            .iter()
            .map(|what| format!("GitHub would not allow it: {what}")),
    );
    table.show(&stage.screen)
}

/// Says where everything is, and stays until the host ends.
pub(crate) async fn stay(stage: &Stage, status: &Path, code: u8) -> anyhow::Result<()> {
    let (screen, rig) = (&stage.screen, &stage.rig);
    let test = &cutover_tests::host::host().folder;
    let host = test.parent().unwrap_or(test);
    let first = std::fs::read_to_string(host.join("first"))?;
    let process = first.split_whitespace().next().unwrap_or_default();
    let enter = format!("sudo nsenter --target {process} --net --");
    let cutover = cutover_tests::host::program("cutover")?;
    let (cutover, folder) = (cutover.display(), rig.folder.display());
    let (front, calls) = (rig.front, rig.calls);
    screen.headline(
        "Still running",
        "on a network of its own; these lines work from any terminal",
    )?;
    let lines = [
        format!("the app as its users see it (http://{front}, Host: {APP}.test)"),
        format!("  {enter} curl -sS -i -H 'Host: {APP}.test' http://{front}/"),
        format!("the agent (http://{calls})"),
        format!("  {enter} curl -sS -i http://{calls}/healthz"),
        "what serves, and going back".to_owned(),
        format!("  sudo {cutover} status --app {APP} --socket {folder}/agent.sock"),
        format!("  sudo {cutover} rollback --app {APP} --socket {folder}/agent.sock"),
        "the end of it all".to_owned(),
        format!("  tests/host/end {}", host.display()),
    ];
    for line in lines {
        screen.line(&format!("   {line}"))?;
    }
    screen.line("")?;
    std::fs::write(status, code.to_string())?;
    // Whoever reads the output sees its end now.
    let nothing = std::fs::OpenOptions::new().write(true).open("/dev/null")?;
    rustix::stdio::dup2_stdout(&nothing)?;
    rustix::stdio::dup2_stderr(&nothing)?;
    std::future::pending().await
}

fn kind_of(kind: Kind) -> &'static str {
    match kind {
        Kind::KeepAlive => "on kept connections",
        Kind::Fresh => "on new ones",
        Kind::Slow => "that take a while",
        Kind::Post => "posts",
        Kind::Upload => "large posts",
        Kind::Http2 => "HTTP/2 streams",
        Kind::Http2Post => "posts over HTTP/2",
        Kind::WebSocket => "WebSocket messages",
        Kind::Events => "event streams",
    }
}

fn seconds(time: Duration) -> String {
    format!("{:.1} s", time.as_secs_f64())
}

fn milliseconds(time: Duration) -> String {
    format!("{:.1} ms", time.as_secs_f64() * 1000.0)
}
