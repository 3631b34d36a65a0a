//! `[health]` and `[watch]` as they are written.

use schemars::JsonSchema;

use super::scalar::{Percentage, Time};

/// When a container may get requests: when it answered enough questions well.
#[derive(JsonSchema)]
#[schemars(deny_unknown_fields)]
pub struct Health {
    /// What is asked for with GET. Any 2xx is good; redirects are not followed.
    #[schemars(extend("default" = "/"), regex(pattern = "^/"), length(max = 2048))]
    pub path: Option<String>,
    /// Instead of `path`, for what does not speak HTTP: that the port takes a connection is good.
    #[schemars(extend("default" = false))]
    pub tcp: Option<bool>,
    /// Instead of `path`: a program of the image with its arguments, which is run in the
    /// container. No shell reads it; it ends with 0 when the container is well. One that
    /// is too slow goes on in the container, and is waited for instead of run again.
    /// Plans and logs show it, but nothing that it writes.
    #[schemars(extend("examples" = [["pg_isready", "-q"]]), length(min = 1, max = 100), inner(length(min = 1, max = 16384)))]
    pub command: Option<Vec<String>>,
    /// From one question to the next. From `10ms` to `1h`.
    #[schemars(extend("default" = "1s"))]
    pub interval: Option<Time>,
    /// How long one answer may take. From `1ms` to `1h`, at most the deadline.
    #[schemars(extend("default" = "5s"))]
    pub timeout: Option<Time>,
    /// How many good answers in a row make a container healthy.
    #[schemars(extend("default" = 2), range(min = 1))]
    pub successes: Option<u32>,
    /// From the start to the last of them. From `1ms` to `1h`.
    #[schemars(extend("default" = "1m"))]
    pub deadline: Option<Time>,
    /// What becomes of the HEALTHCHECK that the image brings.
    #[schemars(extend("default" = "ignore"))]
    pub docker: Option<DockerHealth>,
}

/// What becomes of the HEALTHCHECK that the image brings.
#[derive(JsonSchema)]
#[schemars(rename_all = "kebab-case")]
pub enum DockerHealth {
    /// It is switched off: Cutover asks by itself.
    Ignore,
    /// It runs, and must say that the container is healthy as well. Docker asks
    /// it for the first time after its own interval, so the deadline must be later.
    Require,
}

/// When a release that gets requests is bad: it is taken back then.
#[derive(JsonSchema)]
#[schemars(deny_unknown_fields)]
pub struct Watch {
    /// How long the release is watched once it has users. From `1s` to `24h`.
    #[schemars(extend("default" = "1m"))]
    pub window: Option<Time>,
    /// The share of requests that it may fail.
    #[schemars(extend("default" = "5%"))]
    pub max_error_rate: Option<Percentage>,
    /// The 99th percentile of the time until an answer begins. From `1ms` to
    /// `24h`. By default it is not looked at, beside the old release neither.
    #[schemars(extend("examples" = ["800ms"]))]
    pub max_latency_p99: Option<Time>,
    /// With fewer requests there is no verdict on rates.
    #[schemars(extend("default" = 20), range(min = 1, max = 1_000_000_000))]
    pub min_requests: Option<u64>,
    /// With fewer requests of the new release beside the old one there is no verdict by comparison.
    #[schemars(extend("default" = 50), range(min = 1, max = 1_000_000_000))]
    pub min_compared: Option<u64>,
    /// How much larger its share of failed requests must be than that of the old
    /// release beside it to be bad by comparison.
    #[schemars(extend("default" = "0.2%"))]
    pub min_difference: Option<Percentage>,
    /// What happens when there is no verdict.
    #[schemars(extend("default" = "promote"))]
    pub on_no_verdict: Option<OnNoVerdict>,
    /// How long `extend` watches at the most, all in all. From the window to
    /// `168h`; by default four windows.
    #[schemars(extend("examples" = ["10m"]))]
    pub extend_to: Option<Time>,
    /// How long `hold` waits for a person. From `1m` to `168h`.
    #[schemars(extend("default" = "1h"))]
    pub hold_deadline: Option<Time>,
}

/// What happens when there is no verdict.
#[derive(JsonSchema)]
#[schemars(rename_all = "kebab-case")]
pub enum OnNoVerdict {
    /// The release stays: its containers lived and answered their health questions well.
    Promote,
    /// The old release serves again.
    Abort,
    /// It is watched on, up to `extend_to`; then as `abort`.
    Extend,
    /// A person decides, within `hold_deadline`; then as `abort`.
    Hold,
}
