//! What a container of an app is given; the same for every replica.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::net::IpAddr;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::quantity::{Bytes, MilliCpus};
use super::{DockerHealth, Protocol};

/// What a container of the app is given; the same for every replica.
#[derive(Debug, Clone, PartialEq)]
pub struct RunSpec {
    /// `port`: where the app listens inside the container.
    pub port: u16,
    /// `protocol`: what it speaks there; default `http1`.
    pub protocol: Protocol,
    /// `[env]`: variables set in the container.
    pub env: Environment,
    /// `env_file`: an absolute path of `NAME=value` lines, read at each start; `[env]` wins.
    pub env_file: Option<String>,
    /// `volumes`: `source:target[:ro]`, where the source is an absolute path or a volume's name.
    pub volumes: Vec<Volume>,
    /// `tmpfs`: `target[:size]`, memory in the place of a folder.
    pub tmpfs: Vec<Tmpfs>,
    /// `user`: `user[:group]` in the container; default the image's.
    pub user: Option<String>,
    /// `read_only`: whether the container's own file system may not be written; default false.
    pub read_only: bool,
    /// `command`: what the entry point gets; default the image's.
    pub command: Option<Vec<String>>,
    /// `entrypoint`: what is started; default the image's.
    pub entrypoint: Option<Vec<String>>,
    /// `[labels]`: labels of the container, beside Cutover's own.
    pub labels: BTreeMap<String, String>,
    /// `[limits] memory`: bytes of memory, for example `512MiB`.
    pub memory: Option<Bytes>,
    /// `[limits] cpus`: shares of cores, for example `1.5`.
    pub cpus: Option<MilliCpus>,
    /// `[limits] pids`: processes and threads.
    pub pids: Option<u32>,
    /// `[limits.ulimits]`: the kernel's limits of a process, by name.
    pub ulimits: BTreeMap<String, Ulimit>,
    /// `stop_signal`: what asks the app to end; default the image's.
    pub stop_signal: Option<String>,
    /// `stop_grace`: from the stop signal to the kill; default `10s`.
    pub stop_grace: Duration,
    /// `[logging]`: how much of the container's output the engine keeps.
    pub logging: Logging,
    /// `networks`: networks of the engine that it joins beside Cutover's own; they must be there.
    pub networks: BTreeSet<String>,
    /// `extra_hosts`: `name:address`, names that the container resolves by itself.
    pub extra_hosts: Vec<ExtraHost>,
    /// `[health] docker` once more: whether the image's own HEALTHCHECK runs is
    /// a part of what a container is given.
    pub docker_health: DockerHealth,
}

/// Variables whose values never show in a debug print.
#[derive(Clone, Default, PartialEq, Eq)]
pub struct Environment(pub BTreeMap<String, String>);

impl fmt::Debug for Environment {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_set().entries(self.0.keys()).finish()
    }
}

/// A folder or volume of the host inside the container.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Volume {
    /// An absolute path of the host, or the name of a volume.
    pub source: String,
    /// An absolute path in the container.
    pub target: String,
    /// Whether the container may only read it.
    pub read_only: bool,
}

/// Memory in the place of a folder.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Tmpfs {
    /// An absolute path in the container.
    pub target: String,
    /// How much it may hold; default half of the host's memory, as the kernel has it.
    pub size: Option<Bytes>,
}

/// A limit of the kernel on one process: what it has, and what it may raise it to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Ulimit {
    /// In force.
    pub soft: u64,
    /// The most.
    pub hard: u64,
}

impl Ulimit {
    /// No limit, as Linux itself writes it.
    pub const UNLIMITED: u64 = u64::MAX;
}

/// How much of a container's output the engine keeps.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Logging {
    /// `max_size`: of one file; default `10MB`.
    pub max_size: Bytes,
    /// `max_files`: how many; default 3.
    pub max_files: u16,
}

/// A name that the container resolves by itself.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ExtraHost {
    /// The name.
    pub name: String,
    /// Where it leads; none is the host that the container runs on (`host-gateway`).
    pub address: Option<IpAddr>,
}
