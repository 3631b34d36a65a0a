//! A container as the engine shows it, read with distrust: labels can be
//! edited by hand, old engines leave fields out, and Podman has states of its own.

use std::collections::HashMap;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};

use bollard::models::{
    ContainerInspectResponse, ContainerStateStatusEnum as Status, HealthStatusEnum as Health,
};
use cutover_plan::id::{AppName, ReleaseNumber, Replica, Slot};
use cutover_plan::spec::Protocol;
use jiff::Timestamp;
use serde::Deserialize;
use serde_json::Value;

use crate::containers::{Container, ContainerError, ContainerState, HealthAnswer};

use super::connection::Connection;
use super::failure::{Fault, printable};
use super::{labels, network};

/// The longest text of the engine about a container.
const LONGEST: usize = 300;

/// A container in the engine's list, which says of its state nothing that is read.
#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
pub(super) struct Listed {
    pub(super) id: String,
    #[serde(default, rename = "ImageID")]
    pub(super) image: String,
    labels: Option<HashMap<String, String>>,
}

impl Listed {
    pub(super) fn is_of(&self, app: &AppName) -> bool {
        self.label(labels::APP) == Some(app.as_str())
    }

    pub(super) fn is_hook(&self) -> bool {
        self.label(labels::HOOK).is_some()
    }

    /// The address that it keeps.
    pub(super) fn address(&self) -> Option<Ipv4Addr> {
        self.label(labels::ADDRESS)?.parse().ok()
    }

    fn label(&self, name: &str) -> Option<&str> {
        self.labels.as_ref()?.get(name).map(String::as_str)
    }
}

/// Every container on the host, whoever made it.
pub(super) async fn all(engine: &Connection) -> Result<Vec<Listed>, Fault> {
    engine
        .read("listing the containers", "/containers/json?all=true")
        .await
}

/// Every container of the app, by name.
pub(super) async fn list(
    engine: &Connection,
    app: &AppName,
) -> Result<Vec<Container>, ContainerError> {
    let mut found = Vec::new();
    for Listed { id, .. } in all(engine).await?.iter().filter(|one| one.is_of(app)) {
        // One that is gone since the list was made is not there.
        let Some(seen) = inspect(engine, id).await? else {
            continue;
        };
        if label(&seen, labels::HOOK).is_some() {
            continue;
        }
        match read(&seen) {
            Ok(container) => found.push(container),
            Err(fault) => tracing::warn!(%app, container = %id, %fault, "container skipped"),
        }
    }
    found.sort_by(|a: &Container, b| a.name.cmp(&b.name));
    Ok(found)
}

/// What the engine says of one container, by id or name; nothing if it is not there.
pub(super) async fn inspect(
    engine: &Connection,
    container: &str,
) -> Result<Option<ContainerInspectResponse>, Fault> {
    let what = format!("looking at the container {container}");
    let path = format!("/containers/{container}/json");
    match engine.read(what.clone(), &path).await {
        Ok(seen) => match in_dockers_words(seen) {
            Ok(seen) => Ok(Some(seen)),
            Err(error) => Err(Fault::unreadable(what, &error)),
        },
        Err(fault) if fault.is_missing() => Ok(None),
        Err(fault) => Err(fault),
    }
}

/// Podman's own words for a container that has ended and is not put away yet, and
/// for one that was made and does not run yet. Any other word is none.
fn in_dockers_words(mut seen: Value) -> serde_json::Result<ContainerInspectResponse> {
    if let Some(status) = seen.pointer_mut("/State/Status") {
        match status.as_str() {
            Some("stopped") => *status = "exited".into(),
            Some("configured" | "initialized") => *status = "created".into(),
            _ if Status::deserialize(&*status).is_err() => *status = Value::Null,
            _ => {}
        }
    }
    serde_json::from_value(seen)
}

/// One of its labels.
pub(super) fn label<'a>(seen: &'a ContainerInspectResponse, name: &str) -> Option<&'a str> {
    let labels = seen.config.as_ref()?.labels.as_ref()?;
    labels.get(name).map(String::as_str)
}

/// Whether Cutover made it.
pub(super) fn is_ours(seen: &ContainerInspectResponse) -> bool {
    label(seen, labels::APP).is_some() && label(seen, labels::DEPLOY).is_some()
}

/// The container, or which part of it cannot be read.
pub(super) fn read(seen: &ContainerInspectResponse) -> Result<Container, String> {
    let needed = |name: &str| label(seen, name).ok_or(format!("the label {name} is missing"));
    let broken = |name: &str| format!("the label {name} cannot be read");
    let name = seen
        .name
        .as_deref()
        .unwrap_or_default()
        .trim_start_matches('/');
    let release = needed(labels::RELEASE)?
        .strip_prefix('v')
        .and_then(|n| n.parse().ok());
    let slot = match needed(labels::SLOT)? {
        "blue" => Slot::Blue,
        "green" => Slot::Green,
        _ => return Err(broken(labels::SLOT)),
    };
    let replica = needed(labels::REPLICA)?
        .parse()
        .map_err(|_| broken(labels::REPLICA))?;
    let port = needed(labels::PORT)?
        .parse()
        .map_err(|_| broken(labels::PORT))?;
    let app = needed(labels::APP)?
        .parse()
        .map_err(|_| broken(labels::APP))?;
    let deploy = needed(labels::DEPLOY)?
        .parse()
        .map_err(|_| broken(labels::DEPLOY))?;
    let image = needed(labels::IMAGE)?
        .parse()
        .map_err(|_| broken(labels::IMAGE))?;
    Ok(Container {
        id: seen.id.clone().ok_or("it has no id")?,
        name: name.to_owned(),
        app,
        deploy,
        release: ReleaseNumber(release.ok_or_else(|| broken(labels::RELEASE))?),
        replica: Replica(replica),
        slot,
        image,
        protocol: protocol(seen)?,
        state: state(seen, port),
        restarts: u32::try_from(seen.restart_count.unwrap_or(0)).unwrap_or(0),
    })
}

fn protocol(seen: &ContainerInspectResponse) -> Result<Protocol, String> {
    let Some(name) = label(seen, labels::PROTOCOL) else {
        return Ok(Protocol::Http1);
    };
    let mut all = Protocol::ALL.into_iter();
    all.find(|one| one.as_str() == name)
        .ok_or_else(|| format!("the label {} cannot be read", labels::PROTOCOL))
}

fn state(seen: &ContainerInspectResponse, port: u16) -> ContainerState {
    let Some(state) = &seen.state else {
        return ContainerState::Starting;
    };
    let said = state.error.as_deref().unwrap_or_default();
    let exited = || ContainerState::Exited {
        code: state.exit_code.unwrap_or(-1),
        out_of_memory: state.oom_killed.unwrap_or(false),
        error: (!said.is_empty()).then(|| printable(said, LONGEST)),
    };
    match state.status.unwrap_or(Status::EMPTY) {
        // A paused one is there and does not answer, which its health will say.
        Status::RUNNING | Status::PAUSED => {
            let since = state
                .started_at
                .as_deref()
                .and_then(|t| t.parse::<Timestamp>().ok());
            match (address(seen), since) {
                (Some(ip), Some(since)) => {
                    let address = SocketAddr::new(ip, port);
                    ContainerState::Running { address, since }
                }
                // It has lost our network, or has not got its address yet.
                _ => ContainerState::Starting,
            }
        }
        // A start that failed leaves a container that was never more than created.
        Status::CREATED | Status::EMPTY if said.is_empty() => ContainerState::Starting,
        // Between two starts the engine keeps how the last one ended.
        Status::CREATED | Status::EMPTY | Status::RESTARTING => exited(),
        Status::EXITED | Status::DEAD | Status::REMOVING | Status::STOPPING => exited(),
    }
}

/// What the image's own HEALTHCHECK says of it. One that was switched off when
/// the container was made has nothing to say, and does not count.
pub(super) fn health(seen: &ContainerInspectResponse) -> HealthAnswer {
    if label(seen, labels::HEALTH) == Some(labels::IGNORE) {
        return HealthAnswer::Good;
    }
    let health = seen.state.as_ref().and_then(|state| state.health.as_ref());
    let status = match health.and_then(|health| health.status) {
        Some(Health::HEALTHY) => return HealthAnswer::Good,
        Some(status @ (Health::STARTING | Health::UNHEALTHY)) => status,
        Some(Health::NONE | Health::EMPTY) | None => {
            let reason = "its image has no HEALTHCHECK, which health.docker = \"require\" asks for";
            return HealthAnswer::Bad(reason.to_owned());
        }
    };
    let log = health.and_then(|health| health.log.as_deref());
    let mut reason = format!("its HEALTHCHECK says {status}");
    if let Some(last) = log.and_then(<[_]>::last) {
        if let Some(code) = last.exit_code.filter(|code| *code != 0) {
            reason = format!("{reason}, exit code {code}");
        }
        let output = printable(last.output.as_deref().unwrap_or_default(), LONGEST);
        if !output.is_empty() {
            reason = format!("{reason}: {output}");
        }
    }
    HealthAnswer::Bad(reason)
}

fn address(seen: &ContainerInspectResponse) -> Option<IpAddr> {
    let networks = seen.network_settings.as_ref()?.networks.as_ref()?;
    let address = networks.get(network::NAME)?.ip_address.as_deref()?;
    // Without a network it is an empty text.
    address
        .parse()
        .ok()
        .filter(|ip: &IpAddr| !ip.is_unspecified())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn seen(change: impl FnOnce(&mut serde_json::Value)) -> Result<Container, String> {
        let mut json = serde_json::json!({
            "Id": "4f1c", "Name": "/cutover-shop-v7-0", "RestartCount": 2,
            "State": { "Status": "running", "StartedAt": "2026-11-20T10:00:00.123456789Z" },
            "Config": { "Labels": {
                "cutover.app": "shop", "cutover.deploy": "01kab3f5000000000000000000",
                "cutover.release": "v7", "cutover.slot": "green", "cutover.replica": "0",
                "cutover.image": format!("localhost:5000/shop@sha256:{}", "a".repeat(64)),
                "cutover.port": "8080",
            }},
            "NetworkSettings": { "Networks": { "cutover": { "IPAddress": "172.18.0.2" } } },
        });
        change(&mut json);
        read(&in_dockers_words(json).unwrap())
    }

    #[test]
    fn a_running_container_has_the_address_on_our_network() {
        let container = seen(|_| {}).unwrap();
        assert_eq!(
            container.address(),
            Some("172.18.0.2:8080".parse().unwrap())
        );
        assert_eq!(
            (container.name.as_str(), container.restarts),
            ("cutover-shop-v7-0", 2)
        );
        assert_eq!(container.release, ReleaseNumber(7));
    }

    #[test]
    fn a_broken_label_is_named() {
        for (name, value) in [
            (labels::SLOT, "red"),
            (labels::RELEASE, "7"),
            (labels::PORT, "http"),
            (labels::PROTOCOL, "h3"),
            (labels::DEPLOY, ""),
            (labels::IMAGE, "shop:latest"),
        ] {
            let fault = seen(|json| json["Config"]["Labels"][name] = value.into()).unwrap_err();
            assert!(fault.contains(name), "{fault}");
        }
        let fault = seen(|json| json["Config"]["Labels"] = serde_json::Value::Null).unwrap_err();
        assert!(fault.contains("missing"), "{fault}");
    }

    fn state_of(status: &str, more: serde_json::Value) -> ContainerState {
        let container = seen(|json| {
            json["State"] = more;
            json["State"]["Status"] = status.into();
        });
        container.unwrap().state
    }

    #[test]
    fn the_state_says_how_it_ended() {
        let exited = |code, out_of_memory, error: Option<&str>| ContainerState::Exited {
            code,
            out_of_memory,
            error: error.map(str::to_owned),
        };
        let started = "2026-11-20T10:00:00Z";
        let killed = serde_json::json!({"ExitCode": 137, "OOMKilled": true, "StartedAt": started});
        assert_eq!(
            state_of("restarting", killed.clone()),
            exited(137, true, None)
        );
        assert_eq!(state_of("exited", killed), exited(137, true, None));
        let never = serde_json::json!({"ExitCode": 127, "Error": "no such file"});
        assert_eq!(
            state_of("created", never),
            exited(127, false, Some("no such file"))
        );
        let nothing = || serde_json::json!({});
        for status in ["created", "configured", "initialized", "", "word"] {
            assert_eq!(state_of(status, nothing()), ContainerState::Starting);
        }
        let stopped = serde_json::json!({"ExitCode": 1, "StartedAt": started});
        assert_eq!(state_of("stopped", stopped), exited(1, false, None));
        assert_eq!(
            state_of("running", serde_json::json!({})),
            ContainerState::Starting
        );
    }

    fn health_of(docker: serde_json::Value, label: Option<&str>) -> HealthAnswer {
        let mut json = serde_json::json!({
            "Config": { "Labels": {} },
            "State": { "Health": docker },
        });
        if let Some(label) = label {
            json["Config"]["Labels"][labels::HEALTH] = label.into();
        }
        health(&serde_json::from_value(json).unwrap())
    }

    #[test]
    fn the_images_own_check_is_told_with_its_last_words() {
        let check = |docker, label, expected: Option<&str>| {
            let expected = expected.map_or(HealthAnswer::Good, |text| {
                HealthAnswer::Bad(text.to_owned())
            });
            assert_eq!(health_of(docker, label), expected);
        };
        let status = |status: &str| serde_json::json!({ "Status": status });
        check(status("healthy"), Some("require"), None);
        check(status("healthy"), None, None);
        check(status("none"), Some("ignore"), None);
        check(serde_json::Value::Null, Some("ignore"), None);
        let none = "its image has no HEALTHCHECK, which health.docker = \"require\" asks for";
        check(status("none"), Some("require"), Some(none));
        check(serde_json::Value::Null, None, Some(none));
        check(
            status("starting"),
            Some("require"),
            Some("its HEALTHCHECK says starting"),
        );
        let log = serde_json::json!([
            { "ExitCode": 0, "Output": "fine" },
            { "ExitCode": 1, "Output": "no\r\n\u{1b}[31mdatabase\n" },
        ]);
        check(
            serde_json::json!({ "Status": "unhealthy", "Log": log }),
            Some("require"),
            Some("its HEALTHCHECK says unhealthy, exit code 1: no [31mdatabase"),
        );
        let long = serde_json::json!([{ "ExitCode": 0, "Output": "x".repeat(5_000) }]);
        let docker = serde_json::json!({ "Status": "starting", "Log": long });
        let HealthAnswer::Bad(reason) = health_of(docker, None) else {
            panic!("it is not healthy");
        };
        assert_eq!(
            reason.chars().count(),
            "its HEALTHCHECK says starting: ".len() + 301
        );
    }
}
