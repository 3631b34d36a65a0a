//! What the host's configuration says of an app.
//!
//! A value of these types has been checked: [`parse()`] reads `apps/NAME.toml`
//! and gives either a whole spec or all mistakes at once. The spec is the only
//! source of what a container may be given; a request brings nothing but a digest.

mod notify;
mod parse;
mod people;
mod quantity;
pub mod reader;
mod run;
mod strategy;
pub mod written;

use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::id::{AppName, Repository};
use crate::step::{HealthCheck, Question};
use crate::windows::Windows;

pub use notify::{NotifyKind, NotifySpec};
pub use parse::{notify as read_notify, parse};
pub use people::{
    ApprovalSpec, ApprovedBefore, HookSpec, HooksSpec, Newcomer, OnTimeout, SupersedeSpec,
};
pub use quantity::{
    Bytes, MilliCpus, ParseQuantityError, Rate, Weight, parse_duration, render_duration,
};
pub use run::{Environment, ExtraHost, Logging, RunSpec, Tmpfs, Ulimit, Volume};
pub use strategy::{
    Affinity, CanarySpec, Condition, InPlaceSpec, Matching, PreviewSpec, RollingSpec, Rule,
    ShadowSpec, Strategy, Subject, Then,
};

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
    /// `replicas`: how many containers a release has; default 1.
    pub replicas: u16,
    /// What a container of it is given.
    pub run: RunSpec,
    /// `[health]`: when a container may get requests.
    pub health: HealthSpec,
    /// `[watch]`: when a release that gets requests is bad.
    pub watch: WatchSpec,
    /// `drain_deadline`: how long open requests of the release that leaves are waited for; default `30s`.
    pub drain_deadline: Duration,
    /// `progress_deadline`: how long a deploy may go without getting further,
    /// its watches and the waits for a person not counted; default `30m`.
    pub progress_deadline: Duration,
    /// `standby`: how long red-black keeps the old release warm; default `10m`.
    pub standby: Duration,
    /// `[canary]`: the stages of a canary, and who takes part in them.
    pub canary: CanarySpec,
    /// `[rolling]`: how replicas are replaced.
    pub rolling: RollingSpec,
    /// `[in_place]`: how requests are held while the old release makes room.
    pub in_place: InPlaceSpec,
    /// `[shadow]`: how copies of requests are compared.
    pub shadow: ShadowSpec,
    /// `[preview]`: who reaches a release before its users; absent, nobody does.
    pub preview: Option<PreviewSpec>,
    /// `[hooks]`: one-shot containers of the new image.
    pub hooks: HooksSpec,
    /// `[approval]`: where a deploy waits for a person; absent, it does not.
    pub approval: Option<ApprovalSpec>,
    /// `[supersede]`: what becomes of a call that finds a deploy under way.
    pub supersede: SupersedeSpec,
    /// `[windows]`: when deploys may begin; absent, at any time.
    pub windows: Option<Windows>,
    /// `[github]`: where deploys are reported; absent, they are not.
    pub github: Option<GithubSpec>,
    /// `[[notify]]`: who else is told how deploys end; default nobody.
    pub notify: Vec<NotifySpec>,
}

/// When a container may get requests.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HealthSpec {
    /// One of `path`, asked with GET, any 2xx is healthy, redirects are not
    /// followed; `tcp`; `command`. Default `/`.
    pub question: Question,
    /// `interval`: from one question to the next; default `1s`.
    pub interval: Duration,
    /// `timeout`: of one question; default `5s`.
    pub timeout: Duration,
    /// `successes`: how many in a row; default 2.
    pub successes: u32,
    /// `deadline`: from the start to the last of them; default `60s`.
    pub deadline: Duration,
    /// `docker`: what becomes of the image's own HEALTHCHECK; default `ignore`.
    pub docker: DockerHealth,
}

impl HealthSpec {
    /// How a container is asked.
    pub fn check(&self) -> HealthCheck {
        HealthCheck {
            question: self.question.clone(),
            interval: self.interval,
            timeout: self.timeout,
            successes: self.successes,
            docker: self.docker,
        }
    }
}

/// What an app speaks at its port.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Protocol {
    /// HTTP/1.1.
    #[default]
    Http1,
    /// HTTP/2 without TLS, known beforehand, as gRPC has it.
    H2c,
}

impl Protocol {
    /// All of them.
    pub const ALL: [Self; 2] = [Self::Http1, Self::H2c];

    /// As it stands in a file.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Http1 => "http1",
            Self::H2c => "h2c",
        }
    }
}

/// What becomes of the HEALTHCHECK that an image brings.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum DockerHealth {
    /// It is switched off: Cutover asks by itself.
    #[default]
    Ignore,
    /// It runs, and must say that the container is healthy as well.
    Require,
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
    /// `min_compared`: requests of the new release beside the old one, below which
    /// there is no verdict by comparison; default 50.
    pub min_compared: u64,
    /// `min_difference`: how much larger its share of failed requests must be
    /// than the old release's to be bad by comparison; default `0.2%`.
    pub min_difference: Rate,
    /// `on_no_verdict`: what then; default `promote`.
    pub on_no_verdict: OnNoVerdict,
    /// `extend_to`: how long `extend` watches at the most; default four windows.
    pub extend_to: Duration,
    /// `hold_deadline`: how long `hold` waits for a person; default `1h`.
    pub hold_deadline: Duration,
}

/// What happens to a release on which there is too little data.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum OnNoVerdict {
    /// It stays: its containers lived and its health answers were good.
    Promote,
    /// The old release serves again, and the outcome is `no_verdict`.
    Abort,
    /// It is watched on, up to `extend_to`; then as `abort`.
    Extend,
    /// A person decides, within `hold_deadline`; then as `abort`.
    Hold,
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
