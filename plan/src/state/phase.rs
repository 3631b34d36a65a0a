//! Where a deploy is, and what is done next there.

use std::fmt;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use crate::event::Cursor;
use crate::outcome::Outcome;
use crate::plan::Users;
use crate::step::Step;

/// How far a deploy is.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Phase {
    /// The call is durable, there is no plan yet.
    Accepted,
    /// The steps of the plan, of which `next` is to be done.
    Forward {
        /// The index of the step.
        next: usize,
    },
    /// The steps of the way back, of which `next` is to be done.
    Back {
        /// The way back, fixed when the deploy turned.
        steps: Vec<Step>,
        /// The index of the step.
        next: usize,
        /// Where the users are when it is done.
        users: Users,
    },
    /// All is done but the word about it.
    Closing {
        /// How it ended.
        outcome: Outcome,
    },
    /// The deploy is over.
    Over {
        /// How it ended.
        outcome: Outcome,
    },
}

/// A step that was started.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Running {
    /// Which one.
    pub at: Cursor,
    /// How often it was started.
    pub attempt: u32,
    /// When it was started first.
    pub since: Timestamp,
}

/// What a deploy waits for a person for.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Waiting {
    /// The step that asks.
    pub at: Cursor,
    /// How long the person has.
    pub until: Timestamp,
    /// What the person should know.
    pub because: String,
}

/// What the engine does next.
#[derive(Debug, Clone, PartialEq)]
pub enum Next<'a> {
    /// Look at the world and make the plan.
    Plan,
    /// Do this step, after writing down that it starts.
    Step {
        /// Its place.
        at: Cursor,
        /// What to do.
        step: &'a Step,
        /// Which try this is, from 1.
        attempt: u32,
    },
    /// Wait for a person, and write down when nobody came in time.
    Wait {
        /// The step that asks.
        at: Cursor,
        /// How long.
        until: Timestamp,
    },
    /// Write down that this step failed: it was tried too often.
    GiveUp {
        /// Its place.
        at: Cursor,
    },
    /// Write down the end.
    End(Outcome),
    /// Nothing: it is over.
    Nothing,
}

impl fmt::Display for Phase {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Accepted => f.write_str("accepted"),
            Self::Forward { next } => write!(f, "forward, step {}", next + 1),
            Self::Back { next, .. } => write!(f, "back, step {}", next + 1),
            Self::Closing { outcome } => write!(f, "closing as {outcome}"),
            Self::Over { outcome } => write!(f, "over as {outcome}"),
        }
    }
}
