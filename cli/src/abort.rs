//! Aborts a deploy that somebody else may have begun, and waits for its end.
//!
//! It has no token of the deploy, so it signs its call and learns the end from
//! the status.

use std::time::Duration;

use cutover_plan::id::DeployId;
use cutover_plan::outcome::Outcome;
use cutover_wire::agent::{AppView, DeployView};
use cutover_wire::exit::Exit;
use tokio::time::{Instant, sleep};

use crate::arguments::Which;
use crate::caller::Caller;
use crate::failure::Failure;
use crate::look::ask_status;
use crate::output::{Output, plain};
use crate::secret::from_environment;

/// How often the status is asked for.
const POLL: Duration = Duration::from_millis(500);

/// Aborts and prints how the deploy ended.
pub(crate) async fn abort(
    caller: &Caller,
    output: &Output,
    which: &Which,
    limit: Duration,
) -> Result<(), Failure> {
    let until = Instant::now() + limit;
    let Some(deploy) = find(caller, which).await? else {
        output.answer("nothing is being deployed", &None::<DeployView>);
        return Ok(());
    };
    let by = from_environment("GITHUB_TRIGGERING_ACTOR").or_else(|| from_environment("USER"));
    let asked = caller.abort(&deploy, None, by, until).await;
    asked.map_err(|error| error.failure(&format!("for the abort of {deploy}")))?;
    output.note(&format!("the agent aborts deploy {deploy}"));
    let view = wait(caller, which, &deploy, until).await?;
    match view.outcome {
        Some(Outcome::Aborted) => {
            let text = format!(
                "deploy {deploy} of {} was aborted\n  serving  {}",
                view.app,
                plain(&view.serving)
            );
            output.answer(&text, &view);
            Ok(())
        }
        outcome => {
            let word = outcome.map_or("not over", Outcome::as_str);
            let failure = Failure::new(
                Exit::Refused,
                format!("deploy {deploy} was not aborted: it ended as {word}"),
            );
            Err(failure.hint(format!(
                "to bring the release before it back: cutover rollback --app {}",
                view.app
            )))
        }
    }
}

/// The deploy that is meant, if there is one.
pub(crate) async fn find(caller: &Caller, which: &Which) -> Result<Option<DeployId>, Failure> {
    if let Some(deploy) = &which.deploy {
        return Ok(Some(deploy.clone()));
    }
    let apps = ask_status(caller, which.app.clone()).await?;
    let deploying = apps.into_iter().filter_map(|view| view.deploying);
    Ok(deploying.map(|view| view.deploy).next())
}

async fn wait(
    caller: &Caller,
    which: &Which,
    deploy: &DeployId,
    until: Instant,
) -> Result<DeployView, Failure> {
    loop {
        let late = Instant::now() >= until;
        let why = match ask_status(caller, which.app.clone()).await {
            Ok(apps) => match ended(&apps, deploy) {
                Seen::Over(view) => return Ok(*view),
                Seen::UnderWay => "it is still under way".to_owned(),
                Seen::Gone => "the agent's status no longer shows it".to_owned(),
            },
            // A restarting agent answers a moment later.
            Err(failure) => failure.sentence(),
        };
        if late {
            let failure = Failure::new(
                Exit::Unreachable,
                format!("the abort of {deploy} was asked for, its end was not seen"),
            );
            let mut failure = failure.hint(format!(
                "look with: cutover status{}",
                caller.endpoint.options()
            ));
            failure.causes.push(why);
            return Err(failure);
        }
        sleep(POLL).await;
    }
}

enum Seen {
    Over(Box<DeployView>),
    UnderWay,
    Gone,
}

fn ended(apps: &[AppView], deploy: &DeployId) -> Seen {
    for view in apps {
        let shown = [&view.last, &view.deploying];
        let Some(found) = shown
            .into_iter()
            .flatten()
            .find(|view| view.deploy == *deploy)
        else {
            continue;
        };
        return match found.outcome {
            Some(_) => Seen::Over(Box::new(found.clone())),
            None => Seen::UnderWay,
        };
    }
    Seen::Gone
}
