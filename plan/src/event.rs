//! What happened in a deploy. The journal holds nothing else: every state is
//! a fold of these.

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use crate::id::{AppName, DeployId, ImageReference};
use crate::outcome::Outcome;
use crate::plan::{Kind, Plan};
use crate::verdict::Verdict;

/// One thing that happened, in the past tense.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(tag = "event", rename_all = "snake_case")]
pub enum Event {
    /// A call was verified and made durable.
    Accepted {
        /// The app.
        app: AppName,
        /// What is wanted.
        kind: Kind,
        /// The image of a deploy; a rollback brings none.
        image: Option<ImageReference>,
        /// Who asked, as the call told it.
        by: Option<String>,
        /// Why a closed deploy window does not count for it, where somebody said so.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        window_override: Option<String>,
    },
    /// The plan was made; it leaves no choice.
    Planned {
        /// The plan.
        plan: Box<Plan>,
    },
    /// There is no plan for what was asked.
    PlanRefused {
        /// Why.
        failure: Failure,
    },
    /// A step is about to change the world.
    StepStarted {
        /// Which one.
        at: Cursor,
        /// 1 at first, more after a crash.
        attempt: u32,
        /// When it was started first; its deadline counts from there.
        since: Timestamp,
    },
    /// A step tells how far it is.
    StepProgressed {
        /// Which one.
        at: Cursor,
        /// A sentence.
        note: String,
    },
    /// A step has changed the world.
    StepFinished {
        /// Which one.
        at: Cursor,
        /// What it found or did.
        finding: Finding,
    },
    /// A step could not be done.
    StepFailed {
        /// Which one.
        at: Cursor,
        /// Why.
        failure: Failure,
    },
    /// A container of the release became healthy: the deploy got further.
    TargetHealthy {
        /// The step that found it out.
        at: Cursor,
        /// The container.
        name: String,
        /// When.
        time: Timestamp,
    },
    /// A step is done as far as it can be without a person.
    Held {
        /// Which one.
        at: Cursor,
        /// What the person should know, in a sentence.
        because: String,
        /// How long the person has.
        until: Timestamp,
    },
    /// A person said yes to what the deploy waits for.
    Approved {
        /// Who.
        by: String,
        /// When.
        time: Timestamp,
    },
    /// A person said no to what the deploy waits for.
    Rejected {
        /// Who.
        by: String,
        /// Why, in the person's words.
        why: Option<String>,
    },
    /// Nobody said yes or no in time.
    HoldExpired {
        /// When that was found.
        time: Timestamp,
    },
    /// A person did not wait for the end of a watch or an approval.
    PromoteRequested {
        /// Who.
        by: String,
        /// How far.
        how: Promotion,
        /// When.
        time: Timestamp,
    },
    /// The deploy got no further for too long.
    Stalled {
        /// When that was found.
        time: Timestamp,
    },
    /// A person stopped the deploy.
    AbortRequested {
        /// Who.
        by: String,
    },
    /// A newer deploy takes its place.
    SupersedeRequested {
        /// The newer one.
        by: DeployId,
    },
    /// The deploy is over.
    Ended {
        /// How.
        outcome: Outcome,
    },
}

/// How far a person sends a deploy on.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Promotion {
    /// To the next step.
    Next,
    /// To all users: every watch is only a look, every approval is given, and
    /// the shares in between are left out.
    Full,
}

/// The place of a step: which list, and which one of it, from 0.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Cursor {
    /// A step of the plan.
    Forward(usize),
    /// A step of the way back.
    Back(usize),
}

impl Cursor {
    /// The place behind it.
    #[must_use]
    pub fn next(self) -> Self {
        match self {
            Self::Forward(index) => Self::Forward(index + 1),
            Self::Back(index) => Self::Back(index + 1),
        }
    }
}

/// What a finished step found or did.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(tag = "found", rename_all = "snake_case")]
pub enum Finding {
    /// Nothing that is worth a word.
    Done,
    /// A sentence about what was found.
    Note {
        /// The sentence.
        text: String,
    },
    /// The watch has judged, and the release stays.
    Judged {
        /// The judgement.
        verdict: Verdict,
    },
    /// A release is kept warm.
    StandsBy {
        /// Until when; none is until the next deploy needs its place.
        until: Option<Timestamp>,
    },
    /// A drain has ended.
    Drained {
        /// Requests that were still open.
        requests: u64,
        /// Streams that were still open.
        streams: u64,
        /// Tunnels that were still open.
        tunnels: u64,
    },
}

/// Why something could not be done, for the person who has to mend it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Failure {
    /// Whose fault it is.
    pub class: FailureClass,
    /// What failed, in a sentence.
    pub reason: String,
    /// What the person can do.
    pub hint: Option<String>,
    /// The last lines that the app wrote.
    pub log: Vec<String>,
}

/// Whose fault a failure is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum FailureClass {
    /// The release is bad: it did not start, was not healthy, failed its users.
    Release,
    /// The request cannot be carried out: no such image, nothing to roll back to.
    Request,
    /// The host could not do it: engine, disk, memory, proxy, registry.
    Host,
    /// There was too little data for a judgement.
    NoVerdict,
    /// A person said no, or did not say yes in time.
    Person,
}

impl Failure {
    /// A failure of a class for a reason.
    pub fn new(class: FailureClass, reason: impl Into<String>) -> Self {
        Self {
            class,
            reason: reason.into(),
            hint: None,
            log: Vec::new(),
        }
    }

    /// The same, with what the person can do.
    #[must_use]
    pub fn hint(mut self, hint: impl Into<String>) -> Self {
        self.hint = Some(hint.into());
        self
    }

    /// The same, with the last lines that the app wrote.
    #[must_use]
    pub fn log(mut self, log: Vec<String>) -> Self {
        self.log = log;
        self
    }
}
