//! Starting a container, or finding it started.
//!
//! The name is the identity: what stands under it and runs for the same deploy
//! is the container; what is ours and anything else is removed first; what is
//! not ours is in the way and stays untouched.

use std::net::Ipv4Addr;

use bollard::models::{ContainerCreateBody, ContainerInspectResponse};
use bollard::query_parameters::{CreateContainerOptions, StartContainerOptions};

use crate::containers::{
    Container, ContainerError, ContainerErrorKind, ContainerState, KILLED, LastEnd, StartOrder,
};

use super::address::Addresses;
use super::connection::{Connection, QUESTION};
use super::failure::{Fault, WithHint as _, error};
use super::{create, environment, events, labels, network, removal, sight};

/// Starts the container of `order`; the network is there, and has such addresses
/// to keep.
pub(super) async fn start(
    engine: &Connection,
    order: &StartOrder,
    addresses: Option<Addresses>,
) -> Result<Container, ContainerError> {
    let name = order.name();
    if let Some(seen) = sight::inspect(engine, &name).await? {
        if !sight::is_ours(&seen) {
            return Err(foreign(&name));
        }
        if let Some(running) = same_deploy(&seen, order) {
            return Ok(running);
        }
        // It may serve users, and nobody here can tell.
        sight::read(&seen).map_err(|fault| {
            let reason = format!("the container {name} cannot be read: {fault}");
            let hint = format!("if it serves nobody, remove it: docker rm --force {name}");
            error(ContainerErrorKind::Host, reason).with_hint(hint)
        })?;
        let id = seen.id.as_deref().unwrap_or(&name);
        removal::remove(engine, id, &name, order.run.stop_grace).await?;
    }
    for network in &order.run.networks {
        network::must_be_there(engine, network).await?;
    }
    let environment = environment::of(&order.run).await?;
    let address = match addresses {
        Some(addresses) => address(engine, addresses).await?,
        None => None,
    };
    let body = create::body(order, environment, address);
    let id = make(engine, order, &name, body).await?;
    if let Err(failure) = run(engine, order, &name, &id).await {
        discard(engine, order, &name, &id).await;
        return Err(failure);
    }
    look(engine, &name, &id).await
}

/// One that no container keeps, of any app. Two that start at once may choose the
/// same, and then one of them chooses again.
async fn address(
    engine: &Connection,
    addresses: Addresses,
) -> Result<Option<Ipv4Addr>, ContainerError> {
    let all = sight::all(engine).await?;
    let taken = all.iter().filter_map(sight::Listed::address).collect();
    // Without chance the first one that is free must do.
    let chance = getrandom::u32().unwrap_or_default();
    Ok(addresses.free(&taken, chance))
}

fn foreign(name: &str) -> ContainerError {
    let reason = format!("there is a container named {name} that Cutover did not make");
    let hint = format!("rename or remove it by hand: docker rename {name} OTHER-NAME");
    error(ContainerErrorKind::Host, reason).with_hint(hint)
}

fn same_deploy(seen: &ContainerInspectResponse, order: &StartOrder) -> Option<Container> {
    let same = sight::label(seen, labels::DEPLOY) == Some(order.deploy.as_str());
    let container = sight::read(seen).ok().filter(|_| same)?;
    let runs = matches!(container.state, ContainerState::Running { .. });
    runs.then_some(container)
}

async fn make(
    engine: &Connection,
    order: &StartOrder,
    name: &str,
    body: ContainerCreateBody,
) -> Result<String, ContainerError> {
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
        Ok(created) => {
            for warning in &created.warnings {
                tracing::warn!(container = name, %warning, "the engine warned");
            }
            Ok(created.id)
        }
        Err(fault) if fault.is_missing() && fault.says(&["no such image"]) => {
            let reason = format!("the image {} is not on the host", order.image);
            Err(error(ContainerErrorKind::Request, reason)
                .with_hint("deploy it again: that pulls it"))
        }
        Err(fault) if fault.says(&["no command specified"]) => Err(fault
            .into_error(ContainerErrorKind::Release)
            .with_hint(ENTRYPOINT)),
        Err(fault) => Err(fault.into()),
    }
}

const ENTRYPOINT: &str =
    "see the image's ENTRYPOINT and CMD, and run it by hand: docker run --rm IMAGE";

async fn run(
    engine: &Connection,
    order: &StartOrder,
    name: &str,
    id: &str,
) -> Result<(), ContainerError> {
    for network in &order.run.networks {
        network::join(engine, network, id, name).await?;
    }
    let what = format!("starting the container {name}");
    let started = engine
        .call(what, QUESTION, async |client| {
            client
                .start_container(id, None::<StartContainerOptions>)
                .await
        })
        .await;
    started.map_err(refusal)
}

/// It never ran, so it has no lines to show; what cannot be removed now is
/// replaced by the next start and listed until then.
async fn discard(engine: &Connection, order: &StartOrder, name: &str, id: &str) {
    if let Err(left) = removal::remove(engine, id, name, order.run.stop_grace).await {
        tracing::warn!(container = name, %left, "a container that did not start is left");
    }
}

/// What a runtime says when the image itself is at fault.
const RELEASE_AT_FAULT: [&str; 5] = [
    "executable file not found",
    "exec format error",
    "starting container process caused",
    "unable to start container process",
    "exec: ",
];

fn refusal(mut fault: Fault) -> ContainerError {
    // These are of the app's file, whatever the runtime was at when it saw them.
    if fault.says(&[
        "unable to find user",
        "unable to find group",
        "no matching entries in",
    ]) {
        let hint = "the image has no such user: write its number into user of the app's file";
        return fault
            .into_error(ContainerErrorKind::Release)
            .with_hint(hint);
    }
    if fault.says(&["address already in use"]) {
        return fault.into_error(ContainerErrorKind::Unavailable);
    }
    if fault.says(&["error setting rlimit"]) {
        let hint = "write lower limits into [limits.ulimits] of the app's file";
        return fault.into_error(ContainerErrorKind::Host).with_hint(hint);
    }
    if !fault.says(&RELEASE_AT_FAULT) || fault.says(&["no space left", "cannot allocate memory"]) {
        return fault.into();
    }
    // The runtime tells its own file and line first; the cause is at the end.
    if let Some(cause) = fault.message.find("exec: ") {
        fault.message = fault.message[cause..]
            .trim_end_matches(": unknown")
            .to_owned();
    }
    let hint = if fault.says(&["exec format error"]) {
        "the image was built for another kind of processor"
    } else {
        ENTRYPOINT
    };
    fault
        .into_error(ContainerErrorKind::Release)
        .with_hint(hint)
}

/// What became of it. One that ends a moment later is the gate's to see.
async fn look(engine: &Connection, name: &str, id: &str) -> Result<Container, ContainerError> {
    let Some(seen) = sight::inspect(engine, id).await? else {
        let reason = format!("the container {name} was removed by somebody while it started");
        return Err(error(ContainerErrorKind::Unavailable, reason));
    };
    let container = sight::read(&seen).map_err(|fault| {
        let reason = format!("the container {name} cannot be read: {fault}");
        error(ContainerErrorKind::Unavailable, reason)
    })?;
    if let ContainerState::Exited {
        code,
        out_of_memory,
        error: said,
    } = &container.state
    {
        let mut end = LastEnd {
            code: *code,
            out_of_memory: *out_of_memory,
        };
        if end.code == KILLED && !end.out_of_memory {
            // The engine may not have heard of the memory yet.
            let known = events::last_end(engine, &container).await;
            end = known.ok().flatten().unwrap_or(end);
        }
        let mut reason = format!("{name} exited with {} right away", end.code);
        if end.out_of_memory {
            reason.push_str(", out of memory");
        }
        if let Some(said) = said {
            reason = format!("{reason}: {said}");
        }
        return Err(error(ContainerErrorKind::Release, reason).with_hint(ENTRYPOINT));
    }
    Ok(container)
}
