//! Whether a release is good: what is ruled, why, and by which figures.
//!
//! The [`gate`] asks before there is traffic; the [`watch`] judges one release
//! by fixed bounds; the [`canary`] judges a new release against the old one
//! that runs beside it, with the tests of [`sequential`]. All of them are folds:
//! nothing here waits or counts, and time is an argument.

pub mod canary;
pub mod gate;
pub mod sequential;
pub mod watch;

use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::spec::Rate;
use crate::step::millis;

pub use watch::{Evidence, judge};

/// A judgement with what it rests on.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "verdict", rename_all = "snake_case")]
pub enum Verdict {
    /// It may stay.
    Good {
        /// One sentence.
        because: String,
        /// What it rests on.
        #[serde(default)]
        figures: Figures,
    },
    /// It must go.
    Bad {
        /// One sentence.
        because: String,
        /// What it rests on.
        #[serde(default)]
        figures: Figures,
    },
    /// Nothing can be said.
    NoVerdict {
        /// What was wanting.
        #[serde(default)]
        lack: Lack,
        /// One sentence.
        because: String,
        /// What it rests on.
        #[serde(default)]
        figures: Figures,
    },
}

impl Verdict {
    /// That nothing was judged, because somebody decided.
    pub fn none(because: impl Into<String>) -> Self {
        Self::NoVerdict {
            lack: Lack::default(),
            because: because.into(),
            figures: Figures::default(),
        }
    }

    /// One sentence.
    pub fn because(&self) -> &str {
        match self {
            Self::Good { because, .. }
            | Self::Bad { because, .. }
            | Self::NoVerdict { because, .. } => because,
        }
    }
}

/// Why nothing can be said.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Lack {
    /// Too little was counted, or nothing could be.
    #[default]
    InsufficientData,
    /// There is data, but the old release is as bad: what is wrong is around both.
    Inconclusive,
}

/// The figures of a verdict, whole numbers that compare exactly.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Figures {
    /// What decided; where nothing was over its bound, what was looked at.
    pub test: Test,
    /// Counts of the release that is judged.
    pub new: Counts,
    /// Counts of the release beside it, where there is one.
    pub old: Option<Counts>,
    /// What was measured, in the unit of the test.
    pub value: u64,
    /// From where on it is bad, in the same unit.
    pub threshold: u64,
    /// How long the release had been watched.
    #[serde(with = "millis")]
    pub elapsed: Duration,
}

/// What a figure measures.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Test {
    /// Containers that died; one is enough.
    #[default]
    Casualty,
    /// Bad health answers in a row.
    Health,
    /// Failed requests in a row.
    Run,
    /// The share of failed requests, in hundred-thousandths.
    ErrorRate,
    /// The share of answers later than the bound, in hundred-thousandths.
    Latency,
    /// Errors beside the old release's: hundredths of a likelihood ratio.
    Errors,
    /// Errors against the limit of the app: hundredths of a likelihood ratio.
    ErrorLimit,
    /// Slow answers against one in a hundred: hundredths of a likelihood ratio.
    SlowLimit,
}

/// What was counted of one release.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Counts {
    /// Requests that ended; of clients that left first, none.
    pub requests: u64,
    /// Those the release failed: answers of 500 and above, and none at all.
    pub errors: u64,
    /// Those whose answer began later than the latency bound; without one, none.
    pub slow: u64,
}

impl Counts {
    /// Adds what was counted later.
    pub fn add(&mut self, later: Self) {
        self.requests = self.requests.saturating_add(later.requests);
        self.errors = self.errors.saturating_add(later.errors);
        self.slow = self.slow.saturating_add(later.slow);
    }
}

/// A p99 bound holds while at most one answer in a hundred is slower.
const SLOW_SHARE: Rate = Rate(1_000);

/// Bad health answers in a row that make a release bad: one may be chance.
pub const MAX_BAD_ANSWERS: u32 = 3;

/// How long after the window a release may leave a bad health answer open:
/// who answers well by then had a bad moment, who does not is bad. It is well
/// within [`Step::WATCH_MARGIN`](crate::step::Step::WATCH_MARGIN).
pub const LOOK_ON: Duration = Duration::from_secs(30);

/// Why a release with bad health answers is bad.
fn ill(bad_answers: u32, last: Option<&str>) -> String {
    let last = last.unwrap_or("no answer");
    match bad_answers {
        1 => format!("its last health answer was bad: {last}"),
        bad => format!("{bad} bad health answers in a row, the last: {last}"),
    }
}
