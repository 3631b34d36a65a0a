//! Questions that change nothing: what serves, and what a deploy would do.

use std::fmt::Write as _;

use cutover_plan::id::AppName;
use cutover_plan::release::Standing;
use cutover_wire::agent::{AppView, DeployView, PlanView, QUERIES, ReleaseView};
use cutover_wire::request::{Change, Query};

use crate::caller::{Call, Caller};
use crate::endpoint::Endpoint;
use crate::failure::Failure;
use crate::output::{Output, plain};
use crate::waiting;

/// Prints what serves.
pub(crate) async fn status(
    caller: &Caller,
    output: &Output,
    app: Option<AppName>,
) -> Result<(), Failure> {
    let apps = ask_status(caller, app).await?;
    let text = match apps.is_empty() {
        true => "the agent has no apps: put one file for each into /etc/cutover/apps".to_owned(),
        false => {
            let shown = apps.iter().map(|view| render(view, &caller.endpoint));
            shown.collect::<Vec<_>>().join("\n")
        }
    };
    output.answer(&text, &apps);
    Ok(())
}

/// Asks what serves.
pub(crate) async fn ask_status(
    caller: &Caller,
    app: Option<AppName>,
) -> Result<Vec<AppView>, Failure> {
    let call = Call::new(QUERIES, &Query::Status { app });
    let answer = caller.send::<Vec<AppView>>(&call).await;
    answer.map_err(|error| error.failure("for the status"))
}

/// Prints what a deploy would do.
pub(crate) async fn plan(
    caller: &Caller,
    output: &Output,
    app: AppName,
    change: Change,
) -> Result<(), Failure> {
    let call = Call::new(QUERIES, &Query::Plan { app, change });
    let answer = caller.send::<PlanView>(&call).await;
    let plan = answer.map_err(|error| error.failure("for a plan"))?;
    let lines: Vec<_> = plan.text.lines().map(plain).collect();
    output.answer(&lines.join("\n"), &plan);
    Ok(())
}

fn render(view: &AppView, endpoint: &Endpoint) -> String {
    let domains: Vec<_> = view.domains.iter().map(|domain| plain(domain)).collect();
    let mut text = format!("{}  {}\n", view.app, domains.join(", "));
    match &view.serving {
        Some(release) => row(&mut text, "serving", &shown(release)),
        None => row(&mut text, "serving", "nothing yet"),
    }
    if let Some(release) = &view.standby {
        row(&mut text, "standby", &shown(release));
    }
    if let Some(deploy) = &view.deploying {
        row(
            &mut text,
            "deploying",
            &format!("{} ({})", plain(&deploy.phase), deploy.deploy),
        );
        if let Some(waits) = &deploy.waits {
            row(&mut text, "for you", &waiting::shown(waits));
            row(
                &mut text,
                "answer",
                &waiting::answers(endpoint, &deploy.deploy),
            );
        }
    }
    if let Some(deploy) = &view.waiting {
        row(&mut text, "waiting", &deploy.deploy.to_string());
    }
    if let Some(deploy) = &view.last {
        row(&mut text, "last", &last(deploy));
    }
    text
}

fn row(text: &mut String, name: &str, value: &str) {
    let _ = writeln!(text, "  {name:<10} {value}");
}

fn shown(release: &ReleaseView) -> String {
    let standing = match release.standing {
        Standing::Unproven => "not proven yet",
        Standing::Proven => "proven",
        Standing::Rejected => "rejected",
    };
    let (image, condition) = (plain(&release.image), plain(&release.condition));
    format!("{}  {condition}, {standing}  {image}", release.number)
}

fn last(deploy: &DeployView) -> String {
    let outcome = deploy
        .outcome
        .map_or("not over", |outcome| outcome.as_str());
    let release = deploy
        .release
        .map(|number| format!("{number} "))
        .unwrap_or_default();
    let reason = deploy
        .reason
        .as_deref()
        .map(|reason| format!(": {}", plain(reason)));
    let when = deploy.ended_at.unwrap_or(deploy.accepted_at);
    let when = when.strftime("%Y-%m-%d %H:%M:%S UTC");
    format!(
        "{release}{outcome}{} ({when}, {})",
        reason.unwrap_or_default(),
        deploy.deploy
    )
}
