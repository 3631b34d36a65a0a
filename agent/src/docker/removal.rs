//! Stopping and removing a container: with its own stop signal, its grace, and
//! its anonymous volumes; named volumes and folders of the host stay.

use std::time::Duration;

use bollard::query_parameters::{RemoveContainerOptions, StopContainerOptions};
use tokio::time::{Instant, sleep};

use crate::containers::{ContainerError, ContainerErrorKind};

use super::connection::{Connection, QUESTION};
use super::create::whole_seconds;
use super::failure::error;
use super::sight;

/// What the engine may take beyond the grace to end and take down a container.
const MARGIN: Duration = Duration::from_secs(60);

/// How long a removal that somebody else began may take; storage drivers need
/// some seconds for a large one.
const GONE: Duration = Duration::from_secs(60);

/// Between two looks whether it is gone.
const PAUSE: Duration = Duration::from_millis(200);

/// Stops and removes the container `id`; one that is gone is fine.
pub(super) async fn remove(
    engine: &Connection,
    id: &str,
    name: &str,
    grace: Duration,
) -> Result<(), ContainerError> {
    let Some(seen) = sight::inspect(engine, id).await? else {
        return Ok(());
    };
    if !sight::is_ours(&seen) {
        let reason = format!("the container {name} is not one that Cutover made");
        return Err(error(ContainerErrorKind::Host, reason));
    }
    stop(engine, id, name, grace).await?;
    // By force, because the engine may have begun to start it anew: the grace is over.
    let options = RemoveContainerOptions {
        v: true,
        force: true,
        link: false,
    };
    let what = format!("removing the container {name}");
    let removed = engine
        .call(what, MARGIN, async |client| {
            client.remove_container(id, Some(options)).await
        })
        .await;
    match removed {
        Ok(()) => Ok(()),
        Err(fault) if fault.is_missing() => Ok(()),
        Err(fault) if fault.is_conflict() && fault.says(&["in progress"]) => {
            wait_until_gone(engine, id, name).await
        }
        Err(fault) => Err(fault.into()),
    }
}

pub(super) async fn stop(
    engine: &Connection,
    id: &str,
    name: &str,
    grace: Duration,
) -> Result<(), ContainerError> {
    let seconds = whole_seconds(grace);
    // No signal is named: the image's own is sent.
    let options = StopContainerOptions {
        signal: None,
        t: Some(seconds),
    };
    let limit = Duration::from_secs(u64::try_from(seconds).unwrap_or(0)) + MARGIN.max(QUESTION);
    let what = format!("stopping the container {name}");
    let stopped = engine
        .call(what, limit, async |client| {
            client.stop_container(id, Some(options)).await
        })
        .await;
    match stopped {
        // One that is stopped already is fine, too: the engine answers 304.
        Ok(()) => Ok(()),
        Err(fault) if fault.is_missing() || fault.is_conflict() => Ok(()),
        Err(fault) => Err(fault.into()),
    }
}

async fn wait_until_gone(engine: &Connection, id: &str, name: &str) -> Result<(), ContainerError> {
    let end = Instant::now() + GONE;
    while sight::inspect(engine, id).await?.is_some() {
        if Instant::now() >= end {
            let reason = format!("the container {name} is still being removed");
            return Err(error(ContainerErrorKind::Unavailable, reason));
        }
        sleep(PAUSE).await;
    }
    Ok(())
}
