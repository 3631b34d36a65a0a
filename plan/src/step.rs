//! The vocabulary of steps: all that a deploy can do to the world.
//!
//! A step carries every choice that it needs, and can be done twice: the
//! second time finds the work done. The engine knows steps, not strategies.

use std::fmt;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::id::{Digest, ImageReference, ReleaseNumber, Slot};
use crate::spec::{Bytes, OnNoVerdict, Rate, render_duration};

/// One thing to do.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "step", rename_all = "snake_case")]
pub enum Step {
    /// Check that the host can hold the release, before anything is touched.
    Preflight {
        /// The image that will be pulled.
        image: ImageReference,
        /// The memory that its containers are limited to.
        memory: Option<Bytes>,
    },
    /// Bring the image to the host.
    Pull {
        /// The image.
        image: ImageReference,
    },
    /// Start the containers of a release; no request reaches them yet.
    Start {
        /// The release.
        release: ReleaseNumber,
        /// Its image.
        image: ImageReference,
        /// The place it starts in.
        slot: Slot,
    },
    /// Ask a release for its health until it may get requests.
    Gate {
        /// The release.
        release: ReleaseNumber,
        /// How it is asked.
        check: HealthCheck,
        /// From the begin of the step to the last good answer.
        #[serde(with = "millis")]
        deadline: Duration,
    },
    /// Send all new requests to a release, or to none.
    Shift {
        /// The release that gets them; none withdraws the app's route.
        to: Option<ReleaseNumber>,
        /// The release that had them, and may still hold open ones.
        from: Option<ReleaseNumber>,
    },
    /// Judge a release under the traffic of its users.
    Watch {
        /// The release.
        release: ReleaseNumber,
        /// How its health is asked meanwhile.
        check: HealthCheck,
        /// What makes it bad.
        rule: WatchRule,
    },
    /// Wait until a release that gets no new requests holds none.
    Drain {
        /// The release.
        release: ReleaseNumber,
        /// How long to wait; what is left then is told, not cut.
        #[serde(with = "millis")]
        deadline: Duration,
    },
    /// Keep a release running without requests, for the way back.
    Standby {
        /// The release.
        release: ReleaseNumber,
    },
    /// Stop and remove the containers of a release that gets no requests.
    Retire {
        /// The release.
        release: ReleaseNumber,
        /// From the stop signal to the kill.
        #[serde(with = "millis")]
        grace: Duration,
    },
    /// Remove images of the app that no release needs.
    Prune {
        /// The images that stay.
        keep: Vec<Digest>,
    },
}

/// How a container is asked for its health: GET, any 2xx is good.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct HealthCheck {
    /// The path.
    pub path: String,
    /// From one question to the next.
    #[serde(with = "millis")]
    pub interval: Duration,
    /// How long an answer may take.
    #[serde(with = "millis")]
    pub timeout: Duration,
    /// How many good answers in a row make it healthy.
    pub successes: u32,
}

/// What makes a release bad under traffic.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct WatchRule {
    /// How long it is watched.
    #[serde(with = "millis")]
    pub window: Duration,
    /// The share of requests it may fail.
    pub max_error_rate: Rate,
    /// The 99th percentile of the time to the head of its answers.
    #[serde(with = "optional_millis")]
    pub max_latency_p99: Option<Duration>,
    /// Below it there is no verdict on rates.
    pub min_requests: u64,
    /// What happens without a verdict.
    pub on_no_verdict: OnNoVerdict,
}

/// What a failed step means for the deploy.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum IfFails {
    /// The deploy has failed: what was done is undone.
    Undo,
    /// It is told, and the deploy goes on: the release has proved itself already.
    GoOn,
}

/// How a step that was begun is undone.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Undo {
    /// By these steps, in this order; none where nothing is to be done.
    Steps(Vec<Step>),
    /// Not at all, and what was before it neither: there is no better release to go back to.
    Stay,
}

impl Step {
    /// Preflight asks the engine three questions.
    pub const PREFLIGHT_DEADLINE: Duration = Duration::from_secs(60);
    /// A large image over a slow line; the pull is told to make progress, too.
    pub const PULL_DEADLINE: Duration = Duration::from_secs(30 * 60);
    /// Creating and starting containers takes the engine seconds, a loaded one longer.
    pub const START_DEADLINE: Duration = Duration::from_secs(120);
    /// The proxy answers in milliseconds; the rest is room for its restart.
    pub const SHIFT_DEADLINE: Duration = Duration::from_secs(60);
    /// What the engine needs beyond the grace to stop and remove containers.
    pub const ENGINE_MARGIN: Duration = Duration::from_secs(60);
    /// What a watch needs beyond its window: the front-door probe and a restart of the agent.
    pub const WATCH_MARGIN: Duration = Duration::from_secs(60);
    /// Removing images is disk work.
    pub const PRUNE_DEADLINE: Duration = Duration::from_secs(120);
    /// Standby is a word in the journal.
    pub const STANDBY_DEADLINE: Duration = Duration::from_secs(60);
    /// The longest watch is a day; the rest is room for its margin.
    pub const MAX_DEADLINE: Duration = Duration::from_secs(25 * 3600);

    /// How long the step may take before it has failed. Every step has one.
    pub fn deadline(&self) -> Duration {
        match self {
            Self::Preflight { .. } => Self::PREFLIGHT_DEADLINE,
            Self::Pull { .. } => Self::PULL_DEADLINE,
            Self::Start { .. } => Self::START_DEADLINE,
            Self::Gate {
                deadline, check, ..
            } => deadline.saturating_add(check.timeout),
            Self::Shift { .. } => Self::SHIFT_DEADLINE,
            Self::Watch { rule, .. } => rule.window.saturating_add(Self::WATCH_MARGIN),
            Self::Drain { deadline, .. } => deadline.saturating_add(Self::ENGINE_MARGIN),
            Self::Standby { .. } => Self::STANDBY_DEADLINE,
            Self::Retire { grace, .. } => grace.saturating_add(Self::ENGINE_MARGIN),
            Self::Prune { .. } => Self::PRUNE_DEADLINE,
        }
    }

    /// Its word in the vocabulary.
    pub fn name(&self) -> &'static str {
        match self {
            Self::Preflight { .. } => "preflight",
            Self::Pull { .. } => "pull",
            Self::Start { .. } => "start",
            Self::Gate { .. } => "gate",
            Self::Shift { .. } => "shift",
            Self::Watch { .. } => "watch",
            Self::Drain { .. } => "drain",
            Self::Standby { .. } => "standby",
            Self::Retire { .. } => "retire",
            Self::Prune { .. } => "prune",
        }
    }
}

impl fmt::Display for Step {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:<10}", self.name())?;
        match self {
            Self::Preflight { memory, .. } => {
                write!(f, "engine, disk and memory")?;
                match memory {
                    Some(bytes) => write!(f, " (its limit is {bytes})"),
                    None => Ok(()),
                }
            }
            Self::Pull { image } => write!(f, "{image}"),
            Self::Start { release, slot, .. } => write!(f, "{release} in {slot}"),
            Self::Gate {
                release,
                check,
                deadline,
            } => write!(
                f,
                "{release} must answer GET {} well {} times in a row within {}",
                check.path,
                check.successes,
                render_duration(*deadline)
            ),
            Self::Shift {
                to: Some(to),
                from: Some(from),
            } => {
                write!(f, "all new requests from {from} to {to}")
            }
            Self::Shift {
                to: Some(to),
                from: None,
            } => write!(f, "all requests to {to}"),
            Self::Shift { to: None, .. } => write!(f, "withdraw the route: no release is left"),
            Self::Watch { release, rule, .. } => {
                let window = render_duration(rule.window);
                write!(
                    f,
                    "{release} for {window}: at most {} errors",
                    rule.max_error_rate
                )?;
                if let Some(p99) = rule.max_latency_p99 {
                    write!(f, ", p99 at most {}", render_duration(p99))?;
                }
                let then = match rule.on_no_verdict {
                    OnNoVerdict::Promote => "it stays",
                    OnNoVerdict::Rollback => "it goes back, where there is a way back",
                };
                match rule.min_requests.max(1) {
                    1 => write!(f, "; without a request {then}"),
                    enough => write!(f, "; with fewer than {enough} requests {then}"),
                }
            }
            Self::Drain { release, deadline } => {
                let deadline = render_duration(*deadline);
                write!(f, "{release}: wait up to {deadline} for its open requests")
            }
            Self::Standby { release } => write!(f, "{release} stays warm for a rollback"),
            Self::Retire { release, grace } => {
                let grace = render_duration(*grace);
                write!(f, "{release}: stop with {grace} of grace, remove")
            }
            Self::Prune { keep } => write!(f, "images of the app, all but {}", keep.len()),
        }
    }
}

/// Durations in the journal are whole milliseconds.
pub(crate) mod millis {
    use std::time::Duration;

    use serde::{Deserialize, Deserializer, Serializer};

    pub(crate) fn serialize<S: Serializer>(value: &Duration, to: S) -> Result<S::Ok, S::Error> {
        to.serialize_u64(u64::try_from(value.as_millis()).unwrap_or(u64::MAX))
    }

    pub(crate) fn deserialize<'de, D: Deserializer<'de>>(from: D) -> Result<Duration, D::Error> {
        u64::deserialize(from).map(Duration::from_millis)
    }
}

pub(crate) mod optional_millis {
    use std::time::Duration;

    use serde::{Deserialize, Deserializer, Serialize, Serializer};

    pub(crate) fn serialize<S: Serializer>(
        value: &Option<Duration>,
        to: S,
    ) -> Result<S::Ok, S::Error> {
        let millis = value.map(|v| u64::try_from(v.as_millis()).unwrap_or(u64::MAX));
        millis.serialize(to)
    }

    pub(crate) fn deserialize<'de, D: Deserializer<'de>>(
        from: D,
    ) -> Result<Option<Duration>, D::Error> {
        let millis = Option::<u64>::deserialize(from)?;
        Ok(millis.map(Duration::from_millis))
    }
}
