//! Hooks: containers that run once, of the new image.
//!
//! The name and the deploy's label are the identity: what stands under them,
//! running or ended, is the hook, and is not started again.

use std::time::Duration;

use bollard::models::{
    ContainerInspectResponse, ContainerStateStatusEnum as Status, RestartPolicy,
    RestartPolicyNameEnum,
};
use bollard::query_parameters::{CreateContainerOptions, StartContainerOptions};
use cutover_plan::id::{AppName, Replica, Slot};
use cutover_plan::spec::DockerHealth;
use tokio::time::sleep;

use crate::containers::{ContainerError, ContainerErrorKind, HookEnd, HookOrder, StartOrder};

use super::connection::{Connection, QUESTION};
use super::failure::{WithHint as _, error};
use super::{create, environment, labels, lines, network, removal, sight};

/// Between two looks whether it has ended.
const LOOK: Duration = Duration::from_millis(250);

/// Between two looks at what it wrote.
const LISTEN: Duration = Duration::from_secs(2);

/// Lines of a hook that are told: a stack trace fits.
const LINES: usize = 40;

/// Runs the hook to its end; the network is there.
pub(super) async fn run(
    engine: &Connection,
    order: &HookOrder,
    progress: &(dyn Fn(String) + Send + Sync),
) -> Result<HookEnd, ContainerError> {
    let name = order.name();
    let id = begin(engine, order, &name).await?;
    let mut told = None;
    let mut silent = Duration::ZERO;
    loop {
        let Some(seen) = sight::inspect(engine, &id).await? else {
            let reason = format!("the container {name} was removed by somebody while it ran");
            return Err(error(ContainerErrorKind::Unavailable, reason));
        };
        if let Some((code, out_of_memory)) = ended(&seen) {
            // Its result counts, whether or not its log can be read.
            let lines = lines::last_of(engine, &id, &name, LINES).await;
            let unreadable = |error: ContainerError| {
                vec![format!("(its log could not be read: {})", error.reason)]
            };
            return Ok(HookEnd {
                code,
                out_of_memory,
                lines: lines.unwrap_or_else(unreadable),
            });
        }
        if silent >= LISTEN {
            silent = Duration::ZERO;
            let newest = lines::last_of(engine, &id, &name, 1).await;
            let newest = newest.unwrap_or_default().pop();
            if newest.is_some() && newest != told {
                progress(newest.clone().unwrap_or_default());
                told = newest;
            }
        }
        sleep(LOOK).await;
        silent += LOOK;
    }
}

/// Stops the hook and tells what it wrote last.
pub(super) async fn stop(
    engine: &Connection,
    order: &HookOrder,
    grace: Duration,
) -> Result<Vec<String>, ContainerError> {
    let name = order.name();
    let Some(seen) = sight::inspect(engine, &name).await? else {
        return Ok(Vec::new());
    };
    let id = own(&seen, &name)?;
    removal::stop(engine, &id, &name, grace).await?;
    lines::last_of(engine, &id, &name, LINES).await
}

/// Removes every hook of the app.
pub(super) async fn remove_all(
    engine: &Connection,
    app: &AppName,
    grace: Duration,
) -> Result<(), ContainerError> {
    for one in sight::all(engine).await? {
        if one.is_of(app) && one.is_hook() {
            removal::remove(engine, &one.id, &one.id, grace).await?;
        }
    }
    Ok(())
}

/// The id of the container of the hook, which runs or has ended.
async fn begin(
    engine: &Connection,
    order: &HookOrder,
    name: &str,
) -> Result<String, ContainerError> {
    if let Some(seen) = sight::inspect(engine, name).await? {
        let id = own(&seen, name)?;
        let same = sight::label(&seen, labels::DEPLOY) == Some(order.deploy.as_str());
        if same && has_begun(&seen) {
            return Ok(id);
        }
        removal::remove(engine, &id, name, order.run.stop_grace).await?;
    }
    for network in &order.run.networks {
        network::must_be_there(engine, network).await?;
    }
    let id = make(engine, order, name).await?;
    // One that is left unstarted is replaced by the next try and removed with the others.
    for network in &order.run.networks {
        network::join(engine, network, &id, name).await?;
    }
    let what = format!("starting the container {name}");
    let started = engine
        .call(what, QUESTION, async |client| {
            client
                .start_container(&id, None::<StartContainerOptions>)
                .await
        })
        .await;
    match started {
        Ok(()) => Ok(id),
        Err(fault) if fault.status.is_none() => Err(fault.into()),
        // The engine has an answer, so it is the command that is at fault.
        Err(fault) => Err(fault
            .into_error(ContainerErrorKind::Release)
            .with_hint("see the hook's command in the app's file, and whether the image has it")),
    }
}

fn own(seen: &ContainerInspectResponse, name: &str) -> Result<String, ContainerError> {
    if !sight::is_ours(seen) {
        let reason = format!("there is a container named {name} that Cutover did not make");
        let hint = format!("rename or remove it by hand: docker rename {name} OTHER-NAME");
        return Err(error(ContainerErrorKind::Host, reason).with_hint(hint));
    }
    Ok(seen.id.clone().unwrap_or_else(|| name.to_owned()))
}

async fn make(
    engine: &Connection,
    order: &HookOrder,
    name: &str,
) -> Result<String, ContainerError> {
    // As a container of the release is made, so that it has the same of everything.
    let like = StartOrder {
        app: order.app.clone(),
        deploy: order.deploy.clone(),
        release: order.release,
        slot: Slot::Blue,
        replica: Replica(0),
        image: order.image.clone(),
        run: order.run.clone(),
    };
    let mut variables = environment::of(&order.run).await?;
    let ours = order.variables();
    variables.extend(ours.iter().map(|(name, value)| format!("{name}={value}")));
    let mut body = create::body(&like, variables, None);
    body.cmd = Some(order.command.clone());
    // It is judged by how it ends.
    body.healthcheck = create::healthcheck(DockerHealth::Ignore);
    if let Some(labels) = &mut body.labels {
        // It is no container of a release.
        for name in [labels::SLOT, labels::REPLICA, labels::PORT, labels::HEALTH] {
            labels.remove(name);
        }
        labels.insert(labels::HOOK.to_owned(), order.point.to_string());
    }
    if let Some(host) = &mut body.host_config {
        host.restart_policy = Some(RestartPolicy {
            name: Some(RestartPolicyNameEnum::NO),
            maximum_retry_count: None,
        });
    }
    let options = CreateContainerOptions {
        name: Some(name.to_owned()),
        ..CreateContainerOptions::default()
    };
    let what = format!("creating the container {name}");
    let created = engine
        .call(what, QUESTION, async |client| {
            client.create_container(Some(options), body).await
        })
        .await;
    match created {
        Ok(created) => Ok(created.id),
        Err(fault) if fault.is_missing() && fault.says(&["no such image"]) => {
            let reason = format!("the image {} is not on the host", order.image);
            Err(error(ContainerErrorKind::Request, reason)
                .with_hint("deploy it again: that pulls it"))
        }
        Err(fault) => Err(fault.into()),
    }
}

/// Whether it runs or ran; one that was only created has done nothing.
fn has_begun(seen: &ContainerInspectResponse) -> bool {
    let Some(state) = &seen.state else {
        return true;
    };
    !matches!(state.status, Some(Status::CREATED | Status::EMPTY))
}

/// Its exit status, and whether it ran out of memory, once it has ended.
fn ended(seen: &ContainerInspectResponse) -> Option<(i64, bool)> {
    let state = seen.state.as_ref()?;
    let over = matches!(state.status, Some(Status::EXITED | Status::DEAD));
    over.then(|| {
        let code = state.exit_code.unwrap_or(-1);
        (code, state.oom_killed.unwrap_or(false))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(status: &str, begun: bool, result: Option<(i64, bool)>) {
        let state = serde_json::json!({ "Status": status, "ExitCode": 7, "OOMKilled": false });
        let seen = serde_json::json!({ "State": state });
        let seen: ContainerInspectResponse = serde_json::from_value(seen).unwrap();
        assert_eq!(has_begun(&seen), begun, "{status}");
        assert_eq!(ended(&seen), result, "{status}");
    }

    #[test]
    fn a_hook_that_ran_is_known_and_one_that_was_only_created_is_begun() {
        check("created", false, None);
        check("running", true, None);
        check("paused", true, None);
        check("exited", true, Some((7, false)));
        check("dead", true, Some((7, false)));
    }
}
