//! Prints what was deployed, newest first.

use cutover_plan::id::AppName;
use cutover_plan::plan::Kind;
use cutover_wire::agent::{DeployView, QUERIES};
use cutover_wire::request::Query;

use crate::caller::{Call, Caller};
use crate::duration::render;
use crate::failure::Failure;
use crate::output::{Output, plain};

/// Asks for the newest deploys and prints them.
pub(crate) async fn history(
    caller: &Caller,
    output: &Output,
    app: Option<AppName>,
    limit: Option<u32>,
) -> Result<(), Failure> {
    let call = Call::new(QUERIES, &Query::History { app, limit });
    let answer = caller.send::<Vec<DeployView>>(&call).await;
    let deploys = answer.map_err(|error| error.failure("for the history"))?;
    output.answer(&text(&deploys), &deploys);
    Ok(())
}

fn text(deploys: &[DeployView]) -> String {
    if deploys.is_empty() {
        return "nothing was deployed yet".to_owned();
    }
    let rows: Vec<_> = deploys.iter().map(row).collect();
    // Each column is as wide as its widest text; the last one has no end.
    let width = |column: usize| rows.iter().map(|row| row[column].chars().count()).max();
    let widths: Vec<_> = (0..COLUMNS - 1).map(width).collect();
    let line = |row: &[String; COLUMNS]| {
        let padded = row.iter().enumerate().map(|(column, text)| {
            let width = widths.get(column).copied().flatten().unwrap_or(0);
            format!("{text:<width$}")
        });
        padded.collect::<Vec<_>>().join("  ").trim_end().to_owned()
    };
    rows.iter().map(line).collect::<Vec<_>>().join("\n")
}

/// When, app, what, how it ended, how long it took, which, who and why.
const COLUMNS: usize = 7;

fn row(view: &DeployView) -> [String; COLUMNS] {
    let release = view.release.map(|number| number.to_string());
    let what = match (view.kind, release) {
        (Some(Kind::Rollback), Some(release)) => format!("back to {release}"),
        (Some(Kind::Rollback), None) => "rollback".to_owned(),
        (Some(Kind::Retire), Some(release)) => format!("retire {release}"),
        (Some(Kind::Scale), Some(release)) => format!("scale {release}"),
        (_, release) => release.unwrap_or_else(|| "deploy".to_owned()),
    };
    let took = view
        .ended_at
        .map(|end| end.duration_since(view.accepted_at));
    let took = took.map(|took| render(took.try_into().unwrap_or_default()));
    let by = view.by.as_deref().map(|by| format!("by {}", plain(by)));
    let reason = view.reason.as_deref().map(plain);
    let more: Vec<_> = by.into_iter().chain(reason).collect();
    [
        view.accepted_at
            .strftime("%Y-%m-%d %H:%M:%S UTC")
            .to_string(),
        view.app.to_string(),
        what,
        view.outcome
            .map_or_else(|| "under way".to_owned(), |outcome| outcome.to_string()),
        took.unwrap_or_default(),
        view.deploy.to_string(),
        more.join(": "),
    ]
}
