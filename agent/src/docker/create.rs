//! What the engine is told to make of an order.
//!
//! All of it comes from the host's configuration, but the digest. There is no
//! privilege, no published port and no namespace of the host to be had here.

use std::collections::HashMap;
use std::net::Ipv4Addr;
use std::time::Duration;

use bollard::models::{
    ContainerCreateBody, EndpointIpamConfig, EndpointSettings, HealthConfig, HostConfig,
    HostConfigLogConfig, Mount, MountType, NetworkingConfig, ResourcesUlimits, RestartPolicy,
    RestartPolicyNameEnum,
};
use cutover_plan::spec::{DockerHealth, ExtraHost, Logging, RunSpec, Tmpfs, Ulimit, Volume};

use crate::containers::StartOrder;

use super::{labels, network};

/// The container of `order`, with these variables, at an address that it keeps.
///
/// There is no init process beside the app unless the engine is set up to add
/// one: images that bring their own insist on being the first process.
pub(super) fn body(
    order: &StartOrder,
    environment: Vec<String>,
    address: Option<Ipv4Addr>,
) -> ContainerCreateBody {
    ContainerCreateBody {
        image: Some(order.image.to_string()),
        env: Some(environment),
        user: order.run.user.clone(),
        cmd: order.run.command.clone(),
        entrypoint: order.run.entrypoint.clone(),
        labels: Some(labels_of(order, address)),
        networking_config: address.map(kept),
        healthcheck: healthcheck(order.run.docker_health),
        stop_signal: order.run.stop_signal.clone(),
        // So that a stop by hand or by the engine's own shutdown is as patient as ours.
        stop_timeout: Some(whole_seconds(order.run.stop_grace).into()),
        host_config: Some(host_config(&order.run)),
        ..ContainerCreateBody::default()
    }
}

fn host_config(run: &RunSpec) -> HostConfig {
    let memory = run
        .memory
        .map(|bytes| i64::try_from(bytes.0).unwrap_or(i64::MAX));
    HostConfig {
        network_mode: Some(network::NAME.to_owned()),
        restart_policy: Some(RestartPolicy {
            name: Some(RestartPolicyNameEnum::UNLESS_STOPPED),
            maximum_retry_count: None,
        }),
        mounts: Some(run.volumes.iter().map(mount).collect()),
        tmpfs: Some(run.tmpfs.iter().map(tmpfs).collect()),
        readonly_rootfs: Some(run.read_only),
        memory,
        // The same, so that the limit is on memory and swap together.
        memory_swap: memory,
        nano_cpus: run.cpus.map(|cpus| i64::from(cpus.0) * 1_000_000),
        pids_limit: run.pids.map(i64::from),
        ulimits: Some(run.ulimits.iter().map(ulimit).collect()),
        extra_hosts: Some(run.extra_hosts.iter().map(extra_host).collect()),
        log_config: Some(log(run.logging)),
        security_opt: Some(vec!["no-new-privileges".to_owned()]),
        privileged: Some(false),
        ..HostConfig::default()
    }
}

/// A folder of the host must be there: the engine's older form would make an
/// empty one of root's own in its place, and the app would start without its data.
fn mount(volume: &Volume) -> Mount {
    let folder = volume.source.starts_with('/');
    Mount {
        typ: Some(if folder {
            MountType::BIND
        } else {
            MountType::VOLUME
        }),
        source: Some(volume.source.clone()),
        target: Some(volume.target.clone()),
        read_only: Some(volume.read_only),
        ..Mount::default()
    }
}

/// The engine's own options for it hold: nothing in it is run, and no device is made.
fn tmpfs(tmpfs: &Tmpfs) -> (String, String) {
    let size = tmpfs.size.map(|size| format!("size={}", size.0));
    (tmpfs.target.clone(), size.unwrap_or_default())
}

fn ulimit((name, ulimit): (&String, &Ulimit)) -> ResourcesUlimits {
    // What is beyond the engine's numbers is no limit, which it writes as -1.
    let number = |limit: u64| Some(i64::try_from(limit).unwrap_or(-1));
    ResourcesUlimits {
        name: Some(name.clone()),
        soft: number(ulimit.soft),
        hard: number(ulimit.hard),
    }
}

fn extra_host(host: &ExtraHost) -> String {
    match host.address {
        Some(address) => format!("{}:{address}", host.name),
        None => format!("{}:host-gateway", host.name),
    }
}

/// The engine's own default has no bound, and a talkative app fills a disk.
fn log(logging: Logging) -> HostConfigLogConfig {
    let options = [
        ("max-size", logging.max_size.0.to_string()),
        ("max-file", logging.max_files.to_string()),
    ];
    HostConfigLogConfig {
        typ: Some("json-file".to_owned()),
        config: Some(options.map(|(name, value)| (name.to_owned(), value)).into()),
    }
}

/// Nothing is the image's own.
pub(super) fn healthcheck(docker: DockerHealth) -> Option<HealthConfig> {
    match docker {
        DockerHealth::Ignore => Some(HealthConfig {
            test: Some(vec!["NONE".to_owned()]),
            ..HealthConfig::default()
        }),
        DockerHealth::Require => None,
    }
}

/// Those of the app's file, and ours over them.
fn labels_of(order: &StartOrder, address: Option<Ipv4Addr>) -> HashMap<String, String> {
    let health = match order.run.docker_health {
        DockerHealth::Ignore => labels::IGNORE,
        DockerHealth::Require => labels::REQUIRE,
    };
    let ours = [
        (labels::APP, order.app.to_string()),
        (labels::DEPLOY, order.deploy.to_string()),
        (labels::RELEASE, order.release.to_string()),
        (labels::SLOT, order.slot.to_string()),
        (labels::REPLICA, order.replica.to_string()),
        (labels::IMAGE, order.image.to_string()),
        (labels::PORT, order.run.port.to_string()),
        (labels::PROTOCOL, order.run.protocol.as_str().to_owned()),
        (labels::HEALTH, health.to_owned()),
    ];
    let mut all: HashMap<String, String> = order.run.labels.clone().into_iter().collect();
    let address = address.map(|address| (labels::ADDRESS, address.to_string()));
    let ours = ours.into_iter().chain(address);
    all.extend(ours.map(|(name, value)| (name.to_owned(), value)));
    all
}

fn kept(address: Ipv4Addr) -> NetworkingConfig {
    let ipam = EndpointIpamConfig {
        ipv4_address: Some(address.to_string()),
        ..EndpointIpamConfig::default()
    };
    let endpoint = EndpointSettings {
        ipam_config: Some(ipam),
        ..EndpointSettings::default()
    };
    NetworkingConfig {
        endpoints_config: Some(HashMap::from([(network::NAME.to_owned(), endpoint)])),
    }
}

/// A grace as the engine counts it, never shorter than it was.
pub(super) fn whole_seconds(grace: Duration) -> i32 {
    let whole = grace
        .as_secs()
        .saturating_add(u64::from(grace.subsec_nanos() > 0));
    i32::try_from(whole).unwrap_or(i32::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_grace_is_never_shortened() {
        assert_eq!(whole_seconds(Duration::ZERO), 0);
        assert_eq!(whole_seconds(Duration::from_millis(1)), 1);
        assert_eq!(whole_seconds(Duration::from_secs(10)), 10);
        assert_eq!(whole_seconds(Duration::MAX), i32::MAX);
    }
}
