//! What the engine is told to make of an order.
//!
//! All of it comes from the host's configuration, but the digest. There is no
//! privilege, no published port and no namespace of the host to be had here.

use std::collections::HashMap;
use std::time::Duration;

use bollard::models::{
    ContainerCreateBody, HostConfig, HostConfigLogConfig, Mount, MountType, RestartPolicy,
    RestartPolicyNameEnum,
};
use cutover_plan::spec::{RunSpec, Volume};

use crate::containers::StartOrder;

use super::{labels, network};

/// A container's own log: 30 MB at most, which is some hours of a talkative
/// app and no danger to a disk. The engine's default has no bound.
const LOG: [(&str, &str); 2] = [("max-size", "10m"), ("max-file", "3")];

/// The container of `order`, with these variables.
///
/// There is no init process beside the app unless the engine is set up to add
/// one: images that bring their own insist on being the first process.
pub(super) fn body(order: &StartOrder, environment: Vec<String>) -> ContainerCreateBody {
    ContainerCreateBody {
        image: Some(order.image.to_string()),
        env: Some(environment),
        labels: Some(labels_of(order)),
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
    let log = LOG.map(|(name, value)| (name.to_owned(), value.to_owned()));
    HostConfig {
        network_mode: Some(network::NAME.to_owned()),
        restart_policy: Some(RestartPolicy {
            name: Some(RestartPolicyNameEnum::UNLESS_STOPPED),
            maximum_retry_count: None,
        }),
        mounts: Some(run.volumes.iter().map(mount).collect()),
        memory,
        // The same, so that the limit is on memory and swap together.
        memory_swap: memory,
        nano_cpus: run.cpus.map(|cpus| i64::from(cpus.0) * 1_000_000),
        pids_limit: run.pids.map(i64::from),
        log_config: Some(HostConfigLogConfig {
            typ: Some("json-file".to_owned()),
            config: Some(HashMap::from(log)),
        }),
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

fn labels_of(order: &StartOrder) -> HashMap<String, String> {
    let labels = [
        (labels::APP, order.app.to_string()),
        (labels::DEPLOY, order.deploy.to_string()),
        (labels::RELEASE, order.release.to_string()),
        (labels::SLOT, order.slot.to_string()),
        (labels::REPLICA, order.replica.to_string()),
        (labels::IMAGE, order.image.to_string()),
        (labels::PORT, order.run.port.to_string()),
    ];
    labels.map(|(name, value)| (name.to_owned(), value)).into()
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
