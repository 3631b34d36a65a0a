//! The network that all containers of all apps are in: a bridge of our own,
//! on which each has an address that the host's proxy reaches. No port of a
//! container is published, so nobody outside the host gets past the proxy.
//! Beside it, an app may join networks that people made for it.

use std::collections::HashMap;
use std::time::Duration;

use bollard::models::{Ipam, NetworkConnectRequest, NetworkCreateRequest, NetworkInspect};
use bollard::query_parameters::InspectNetworkOptions;
use tokio::time::{Instant, sleep};

use crate::containers::{ContainerError, ContainerErrorKind};

use super::address::{Addresses, halves};
use super::connection::{Connection, QUESTION};
use super::failure::{Fault, WithHint as _, error};
use super::labels;

/// Its name.
pub(super) const NAME: &str = "cutover";

/// The name of its bridge on the host. The engine lets two networks have one
/// name, but not one bridge: whoever comes second finds the network of the first.
const BRIDGE: &str = "cutover0";

/// The name of one that is there for a moment only.
const PROBE: &str = "cutover-probe";

/// How long another maker of the network may take; the engine needs a tenth of a second.
const MAKING: Duration = Duration::from_secs(10);

/// Between two looks for it meanwhile.
const PAUSE: Duration = Duration::from_millis(100);

/// Makes the network, unless it is there. The answer is which addresses of it
/// containers can keep.
pub(super) async fn ensure(engine: &Connection) -> Result<Option<Addresses>, ContainerError> {
    let end = Instant::now() + MAKING;
    loop {
        if let Some(there) = find(engine).await? {
            return Ok(Addresses::of(there.ipam.as_ref()));
        }
        match create(engine).await {
            Ok(()) if Instant::now() < end => {}
            Ok(()) => {
                let reason = "the network cutover was made, and the engine does not show it";
                return Err(error(ContainerErrorKind::Host, reason));
            }
            Err(fault) if Instant::now() < end && is_being_made(&fault) => sleep(PAUSE).await,
            Err(fault) if fault.says(&["address pool"]) => {
                let hint = "all of the engine's address pools are in use: docker network prune frees those of unused networks";
                return Err(fault.into_error(ContainerErrorKind::Host).with_hint(hint));
            }
            Err(fault) => return Err(fault.into()),
        }
    }
}

async fn find(engine: &Connection) -> Result<Option<NetworkInspect>, ContainerError> {
    let found = engine
        .call(
            "looking for the network cutover",
            QUESTION,
            async |client| {
                client
                    .inspect_network(NAME, None::<InspectNetworkOptions>)
                    .await
            },
        )
        .await;
    match found {
        Ok(network) => {
            let labels = network.labels.as_ref();
            if labels.is_some_and(|labels| labels.contains_key(labels::NETWORK)) {
                return Ok(Some(network));
            }
            let reason = "there is a network named cutover that Cutover did not make";
            Err(error(ContainerErrorKind::Host, reason).with_hint(format!(
                "remove it; the next start makes it. Or make it yourself: docker network create --label {}={NAME} --subnet 10.213.0.0/16 --ip-range 10.213.128.0/17 {NAME}",
                labels::NETWORK
            )))
        }
        Err(fault) if fault.is_missing() => Ok(None),
        Err(fault) => Err(fault.into()),
    }
}

/// Refuses a network that is not there: Cutover makes none but its own.
pub(super) async fn must_be_there(engine: &Connection, name: &str) -> Result<(), ContainerError> {
    let what = format!("looking for the network {name}");
    let found = engine
        .call(what, QUESTION, async |client| {
            client
                .inspect_network(name, None::<InspectNetworkOptions>)
                .await
        })
        .await;
    match found {
        Ok(_) => Ok(()),
        Err(fault) if fault.is_missing() => Err(is_missing(name)),
        Err(fault) => Err(fault.into()),
    }
}

fn is_missing(name: &str) -> ContainerError {
    let reason = format!("there is no network {name}, which the app's file names");
    let hint = format!("make it: docker network create {name}");
    error(ContainerErrorKind::Host, reason).with_hint(hint)
}

/// Joins the container `id` to a network, before its start so that the app
/// finds all of its networks from the first moment.
pub(super) async fn join(
    engine: &Connection,
    name: &str,
    id: &str,
    container: &str,
) -> Result<(), ContainerError> {
    let request = NetworkConnectRequest {
        container: id.to_owned(),
        ..NetworkConnectRequest::default()
    };
    let what = format!("joining {container} to the network {name}");
    let joined = engine
        .call(what, QUESTION, async |client| {
            client.connect_network(name, request).await
        })
        .await;
    match joined {
        Ok(()) => Ok(()),
        // It was removed since it was looked for.
        Err(fault) if fault.is_missing() && fault.says(&["network"]) => Err(is_missing(name)),
        Err(fault) => Err(fault.into()),
    }
}

fn is_being_made(fault: &Fault) -> bool {
    let words = [
        "same bridge name",
        "already exists",
        "already used",
        "overlaps",
    ];
    // Another maker removes the network by which free addresses were looked for.
    fault.is_conflict() || fault.is_missing() || fault.says(&words)
}

async fn create(engine: &Connection) -> Result<(), Fault> {
    let ipam = match keeps_addresses(engine).await? {
        true => free_addresses(engine).await?,
        false => None,
    };
    let request = NetworkCreateRequest {
        options: Some(pair("com.docker.network.bridge.name", BRIDGE)),
        ipam,
        ..named(NAME)
    };
    engine
        .call("making the network cutover", QUESTION, async |client| {
            client.create_network(request).await
        })
        .await?;
    Ok(())
}

fn named(name: &str) -> NetworkCreateRequest {
    NetworkCreateRequest {
        name: name.to_owned(),
        driver: Some("bridge".to_owned()),
        labels: Some(pair(labels::NETWORK, name)),
        ..NetworkCreateRequest::default()
    }
}

fn pair(name: &str, value: &str) -> HashMap<String, String> {
    HashMap::from([(name.to_owned(), value.to_owned())])
}

/// Whether its containers can keep addresses. With Podman this was not tried.
async fn keeps_addresses(engine: &Connection) -> Result<bool, Fault> {
    let asked = engine.call("asking the engine what it is", QUESTION, async |client| {
        client.version().await
    });
    let parts = asked.await?.components.unwrap_or_default();
    Ok(!parts.iter().any(|part| part.name.starts_with("Podman")))
}

/// Addresses that are in nobody's way: the engine knows which, and tells by making
/// a network of them. None if it has no two halves.
async fn free_addresses(engine: &Connection) -> Result<Option<Ipam>, Fault> {
    let what = "looking for free addresses for the network cutover";
    let made = engine.call(what, QUESTION, async |client| {
        // One may be left of a maker that was killed.
        let _ = client.remove_network(PROBE).await;
        let made = client.create_network(named(PROBE)).await?;
        let found = client
            .inspect_network(&made.id, None::<InspectNetworkOptions>)
            .await;
        // What cannot be removed now is in the way, and removed by the next try.
        let _ = client.remove_network(&made.id).await;
        found
    });
    let ipam = made.await?.ipam.unwrap_or_default();
    let mut configs = ipam.config.into_iter().flatten();
    Ok(configs.find_map(|config| halves(&config.subnet?)))
}
