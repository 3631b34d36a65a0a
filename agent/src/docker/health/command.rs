//! A command that is run in a container to ask for its health: the engine runs
//! it, no shell reads it, and its exit code is the answer.
//!
//! The engine cannot end what it runs so. A command that is too slow goes on
//! in the container; while it does, it is waited for and not run again, so
//! that slow ones do not pile up. It was too slow, so its end is no good answer.
//!
//! What it writes is not repeated: it may be an address with a password in it,
//! and a reason is shown in public.

use std::time::Duration;

use bollard::exec::{CreateExecOptions, StartExecResults};
use bollard::models::ExecInspectResponse;
use cutover_plan::spec::render_duration;
use futures_util::StreamExt as _;

use crate::containers::{Container, ContainerError, HealthAnswer};

use super::super::connection::{Connection, QUESTION};
use super::super::failure::Fault;
use super::super::sight;

/// From one look at a command that runs to the next.
const PAUSE: Duration = Duration::from_millis(50);

/// Runs the command, all in all within `limit`.
pub(super) async fn run(
    engine: &Connection,
    container: &Container,
    command: &[String],
    limit: Duration,
) -> Result<HealthAnswer, ContainerError> {
    match tokio::time::timeout(limit, ask(engine, container, command)).await {
        Ok(answer) => Ok(answer?),
        Err(_) => {
            let limit = render_duration(limit);
            Ok(HealthAnswer::Bad(format!("did not end within {limit}")))
        }
    }
}

async fn ask(
    engine: &Connection,
    container: &Container,
    command: &[String],
) -> Result<HealthAnswer, Fault> {
    let Some(seen) = sight::inspect(engine, &container.id).await? else {
        return Ok(HealthAnswer::Bad("it was removed".to_owned()));
    };
    for id in seen.exec_ids.unwrap_or_default() {
        let before = look(engine, &id).await?;
        if before.is_some_and(|one| one.running == Some(true) && is(&one, command)) {
            end(engine, &id).await?;
            let reason = "the one before took too long".to_owned();
            return Ok(HealthAnswer::Bad(reason));
        }
    }
    let options = CreateExecOptions {
        attach_stdout: Some(true),
        attach_stderr: Some(true),
        cmd: Some(command.to_vec()),
        ..CreateExecOptions::default()
    };
    let created = engine
        .call("preparing the health command", QUESTION, async |client| {
            client.create_exec(&container.id, options).await
        })
        .await?;
    engine
        .call("running the health command", QUESTION, async |client| {
            let started = client.start_exec(&created.id, None).await?;
            if let StartExecResults::Attached { mut output, .. } = started {
                // It is read to its end: a full pipe would stop the command.
                while let Some(piece) = output.next().await {
                    piece?;
                }
            }
            Ok(())
        })
        .await?;
    Ok(judge(end(engine, &created.id).await?))
}

/// Whether it is this command.
fn is(one: &ExecInspectResponse, command: &[String]) -> bool {
    let Some(process) = &one.process_config else {
        return false;
    };
    let arguments = process.arguments.iter().flatten();
    process.entrypoint.iter().chain(arguments).eq(command)
}

/// Waits for its end and gives its exit code; the caller has a deadline.
async fn end(engine: &Connection, id: &str) -> Result<Option<i64>, Fault> {
    loop {
        match look(engine, id).await? {
            Some(seen) if seen.running == Some(true) => tokio::time::sleep(PAUSE).await,
            Some(seen) => return Ok(seen.exit_code),
            None => return Ok(None),
        }
    }
}

async fn look(engine: &Connection, id: &str) -> Result<Option<ExecInspectResponse>, Fault> {
    let what = "looking at the health command";
    let seen = engine
        .call(what, QUESTION, async |client| client.inspect_exec(id).await)
        .await;
    match seen {
        Ok(seen) => Ok(Some(seen)),
        Err(fault) if fault.is_missing() => Ok(None),
        Err(fault) => Err(fault),
    }
}

fn judge(code: Option<i64>) -> HealthAnswer {
    match code {
        Some(0) => HealthAnswer::Good,
        Some(code @ (126 | 127)) => HealthAnswer::Bad(format!(
            "exit code {code}: the image has no such program, or it cannot be run"
        )),
        Some(code) => HealthAnswer::Bad(format!("exit code {code}")),
        None => HealthAnswer::Bad("the container engine does not say how it ended".to_owned()),
    }
}
