//! What the host's configuration says of an app.
//!
//! A value of these types has been checked: [`parse()`] reads `apps/NAME.toml`
//! and gives either a whole spec or all mistakes at once. The spec is the only
//! source of what a container may be given; a request brings nothing but a digest.

mod parse;
mod quantity;
pub mod reader;

use std::collections::BTreeMap;
use std::fmt;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::id::{AppName, Repository};

pub use parse::parse;
pub use quantity::{Bytes, MilliCpus, ParseQuantityError, Rate, parse_duration, render_duration};

/// One app, as the host's configuration defines it.
#[derive(Debug, Clone, PartialEq)]
pub struct AppSpec {
    /// Its name: the name of the file.
    pub app: AppName,
    /// `image`: the only repository that the app may run.
    pub image: Repository,
    /// `domains`: the hosts it answers for; `*` is every host that no other app takes.
    pub domains: Vec<String>,
    /// `path_prefix`: the part of the hosts' paths it answers for; default `/`.
    pub path_prefix: String,
    /// `strategy`: how a new release takes over; default `blue-green`.
    pub strategy: Strategy,
    /// What a container of it is given.
    pub run: RunSpec,
    /// `[health]`: when a container may get requests.
    pub health: HealthSpec,
    /// `[watch]`: when a release that gets requests is bad.
    pub watch: WatchSpec,
    /// `drain_deadline`: how long open requests of the release that leaves are waited for; default `30s`.
    pub drain_deadline: Duration,
    /// `[github]`: where deploys are reported; absent, they are not.
    pub github: Option<GithubSpec>,
}

/// How a new release takes over.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Strategy {
    /// Start beside, gate, shift at once, watch; the old release stays warm.
    BlueGreen,
}

impl fmt::Display for Strategy {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::BlueGreen => f.write_str("blue-green"),
        }
    }
}

/// What a container of the app is given; the same for every replica.
#[derive(Debug, Clone, PartialEq)]
pub struct RunSpec {
    /// `port`: where the app listens inside the container.
    pub port: u16,
    /// `[env]`: variables set in the container.
    pub env: Environment,
    /// `env_file`: an absolute path of `NAME=value` lines, read at each start; `[env]` wins.
    pub env_file: Option<String>,
    /// `volumes`: `source:target[:ro]`, where the source is an absolute path or a volume's name.
    pub volumes: Vec<Volume>,
    /// `[limits] memory`: bytes of memory, for example `512MiB`.
    pub memory: Option<Bytes>,
    /// `[limits] cpus`: shares of cores, for example `1.5`.
    pub cpus: Option<MilliCpus>,
    /// `[limits] pids`: processes and threads.
    pub pids: Option<u32>,
    /// `stop_grace`: from the stop signal to the kill; default `10s`.
    pub stop_grace: Duration,
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

/// When a container may get requests.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HealthSpec {
    /// `path`: asked with GET, any 2xx is healthy, redirects are not followed; default `/`.
    pub path: String,
    /// `interval`: from one question to the next; default `1s`.
    pub interval: Duration,
    /// `timeout`: of one question; default `5s`.
    pub timeout: Duration,
    /// `successes`: how many in a row; default 2.
    pub successes: u32,
    /// `deadline`: from the start to the last of them; default `60s`.
    pub deadline: Duration,
}

/// When a release that gets requests is bad.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct WatchSpec {
    /// `window`: how long; default `1m`.
    pub window: Duration,
    /// `max_error_rate`: the share of requests that the release may fail; default `5%`.
    pub max_error_rate: Rate,
    /// `max_latency_p99`: the 99th percentile up to the head of the answer; default none.
    pub max_latency_p99: Option<Duration>,
    /// `min_requests`: below it there is no verdict on rates; default 20.
    pub min_requests: u64,
    /// `on_no_verdict`: what then; default `promote`.
    pub on_no_verdict: OnNoVerdict,
}

/// What happens to a release on which there is too little data.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum OnNoVerdict {
    /// It stays: its containers lived and its health answers were good.
    Promote,
    /// The old release serves again, and the outcome is `no_verdict`.
    Rollback,
}

/// Where deploys are reported.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct GithubSpec {
    /// `repository`: `owner/name`.
    pub repository: String,
    /// `environment`: its name at GitHub; default `production`.
    pub environment: String,
    /// `url`: what `View deployment` opens; default the first domain.
    pub url: Option<String>,
}
