//! The vocabulary of steps: all that a deploy can do to the world.
//!
//! A step carries every choice that it needs, and can be done twice: the
//! second time finds the work done. The engine knows steps, not strategies.

mod show;
mod time;
mod watch;

use std::collections::BTreeSet;
use std::fmt;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::id::{Digest, ImageReference, ReleaseNumber, Replica, Slot};
use crate::spec::{Bytes, OnTimeout, Rate};
use crate::traffic::{Replicas, Traffic};

pub(crate) use time::{millis, optional_millis};
pub use watch::{Beside, HealthCheck, Question, SeenBy, WatchRule, WithoutVerdict};

/// One thing to do.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "step", rename_all = "snake_case")]
pub enum Step {
    /// Check that the host can hold the release, before anything is touched.
    Preflight {
        /// The image that will be pulled.
        image: ImageReference,
        /// The memory that its containers are limited to, together.
        memory: Option<Bytes>,
    },
    /// Bring the image to the host.
    Pull {
        /// The image.
        image: ImageReference,
    },
    /// Run a one-shot container of the new image.
    Hook {
        /// The place in the deploy that it belongs to.
        point: HookPoint,
        /// The release whose image and run spec it gets.
        release: ReleaseNumber,
        /// The image.
        image: ImageReference,
        /// What it runs.
        command: Vec<String>,
        /// From its start to its end.
        #[serde(with = "millis")]
        deadline: Duration,
    },
    /// Start containers of a release; no request reaches them yet.
    Start {
        /// The release.
        release: ReleaseNumber,
        /// Its image.
        image: ImageReference,
        /// The place it starts in.
        slot: Slot,
        /// Which of them.
        replicas: BTreeSet<Replica>,
    },
    /// Ask containers for their health until they may get requests.
    Gate {
        /// The release.
        release: ReleaseNumber,
        /// Which of them.
        replicas: Replicas,
        /// How they are asked.
        check: HealthCheck,
        /// From the begin of the step to the last good answer.
        #[serde(with = "millis")]
        deadline: Duration,
    },
    /// Let those who know the app's secret reach a release, or nobody any more.
    Preview {
        /// The release; none withdraws it.
        release: Option<ReleaseNumber>,
    },
    /// Copy safe requests to a release whose answers nobody gets, or stop that.
    Mirror {
        /// The release and the share; none stops it.
        to: Option<Mirrored>,
    },
    /// Hold new requests, so that no release needs to answer for a while.
    Park {
        /// How many are held at the most.
        requests: u32,
        /// How long one is held at the most; a shift lets them go on.
        #[serde(with = "millis")]
        deadline: Duration,
    },
    /// Change who gets new requests.
    Shift {
        /// Who gets them; nobody withdraws the app's route.
        to: Traffic,
        /// Who had them, and may still hold open ones.
        from: Traffic,
    },
    /// Judge a release under traffic.
    Watch {
        /// The release.
        release: ReleaseNumber,
        /// How its health is asked meanwhile.
        check: HealthCheck,
        /// What makes it bad.
        rule: WatchRule,
    },
    /// Wait for a person.
    Approve {
        /// What is approved, in a few words.
        what: String,
        /// How long.
        #[serde(with = "millis")]
        deadline: Duration,
        /// What happens then.
        on_timeout: OnTimeout,
    },
    /// Wait until containers that get no new requests hold none.
    Drain {
        /// The release.
        release: ReleaseNumber,
        /// Which of them.
        replicas: Replicas,
        /// How long to wait; what is left then is told, not cut.
        #[serde(with = "millis")]
        deadline: Duration,
    },
    /// Keep a release running without requests, for the way back.
    Standby {
        /// The release.
        release: ReleaseNumber,
        /// How long; none is until the next deploy needs its place.
        #[serde(with = "optional_millis")]
        keep: Option<Duration>,
    },
    /// Stop and remove containers that get no requests.
    Retire {
        /// The release.
        release: ReleaseNumber,
        /// Which of them.
        replicas: Replicas,
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

/// The place of a hook in a deploy.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum HookPoint {
    /// Before the containers of the release start.
    BeforeStart,
    /// Once they are healthy, before they get users.
    BeforeShift,
    /// Once they have users.
    AfterShift,
    /// Once the release has proved itself.
    AfterSuccess,
    /// Once all was taken back.
    OnFailure,
}

impl HookPoint {
    /// Every point, in the order of a deploy.
    pub const ALL: [Self; 5] = [
        Self::BeforeStart,
        Self::BeforeShift,
        Self::AfterShift,
        Self::AfterSuccess,
        Self::OnFailure,
    ];

    /// Its name, as the app's file writes it.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::BeforeStart => "before_start",
            Self::BeforeShift => "before_shift",
            Self::AfterShift => "after_shift",
            Self::AfterSuccess => "after_success",
            Self::OnFailure => "on_failure",
        }
    }
}

impl fmt::Display for HookPoint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// Where copies of requests go.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Mirrored {
    /// The release.
    pub release: ReleaseNumber,
    /// Of the safe requests, how many are copied.
    pub share: Rate,
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
    /// By these steps, which take the place of undoing what was before it: that
    /// cannot be brought back.
    Instead(Vec<Step>),
    /// Not at all, and what was before it neither: there is no better release to go back to.
    Stay,
}

impl Undo {
    /// Nothing is to be done.
    pub const NOTHING: Self = Self::Steps(Vec::new());
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
    /// What the engine may take beyond what a step waits for: it stands still for
    /// some tens of seconds on a busy disk.
    pub const ENGINE_MARGIN: Duration = Duration::from_secs(60);
    /// What a watch needs beyond its window: the front-door probe and a restart of the agent.
    pub const WATCH_MARGIN: Duration = Duration::from_secs(60);
    /// Removing images is disk work.
    pub const PRUNE_DEADLINE: Duration = Duration::from_secs(120);
    /// Standby is a word in the journal.
    pub const STANDBY_DEADLINE: Duration = Duration::from_secs(60);
    /// The longest wait is for a person: a week. The rest is room for margins.
    pub const MAX_DEADLINE: Duration = Duration::from_secs((7 * 24 + 1) * 3600);

    /// How long the step may take before it has failed. Every step has one.
    pub fn deadline(&self) -> Duration {
        match self {
            Self::Preflight { .. } => Self::PREFLIGHT_DEADLINE,
            Self::Pull { .. } => Self::PULL_DEADLINE,
            Self::Hook { deadline, .. } => deadline.saturating_add(Self::ENGINE_MARGIN),
            Self::Start { .. } => Self::START_DEADLINE,
            Self::Gate {
                deadline, check, ..
            } => {
                let last = deadline.saturating_add(check.timeout);
                last.saturating_add(Self::ENGINE_MARGIN)
            }
            Self::Preview { .. } | Self::Mirror { .. } | Self::Park { .. } | Self::Shift { .. } => {
                Self::SHIFT_DEADLINE
            }
            Self::Watch { rule, .. } => rule.longest().saturating_add(Self::WATCH_MARGIN),
            Self::Approve { deadline, .. } => *deadline,
            Self::Drain { deadline, .. } => deadline.saturating_add(Self::ENGINE_MARGIN),
            Self::Standby { .. } => Self::STANDBY_DEADLINE,
            Self::Retire { grace, .. } => grace.saturating_add(Self::ENGINE_MARGIN),
            Self::Prune { .. } => Self::PRUNE_DEADLINE,
        }
    }

    /// Whether the step takes its time by design, so that none of it is a lack of progress.
    pub fn bides(&self) -> bool {
        match self {
            Self::Watch { .. } | Self::Approve { .. } => true,
            Self::Preflight { .. }
            | Self::Pull { .. }
            | Self::Hook { .. }
            | Self::Start { .. }
            | Self::Gate { .. }
            | Self::Preview { .. }
            | Self::Mirror { .. }
            | Self::Park { .. }
            | Self::Shift { .. }
            | Self::Drain { .. }
            | Self::Standby { .. }
            | Self::Retire { .. }
            | Self::Prune { .. } => false,
        }
    }

    /// Its word in the vocabulary.
    pub fn name(&self) -> &'static str {
        match self {
            Self::Preflight { .. } => "preflight",
            Self::Pull { .. } => "pull",
            Self::Hook { .. } => "hook",
            Self::Start { .. } => "start",
            Self::Gate { .. } => "gate",
            Self::Preview { .. } => "preview",
            Self::Mirror { .. } => "mirror",
            Self::Park { .. } => "park",
            Self::Shift { .. } => "shift",
            Self::Watch { .. } => "watch",
            Self::Approve { .. } => "approve",
            Self::Drain { .. } => "drain",
            Self::Standby { .. } => "standby",
            Self::Retire { .. } => "retire",
            Self::Prune { .. } => "prune",
        }
    }
}
