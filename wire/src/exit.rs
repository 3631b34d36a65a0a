//! How the command line ends: one number for each thing a script must tell apart.

use cutover_plan::outcome::Outcome;

/// The exit status of `cutover`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Exit {
    /// The release serves and has proved itself, or the question was answered.
    Done,
    /// The deploy failed: no user saw the release, or no better one was there.
    Failed,
    /// The command was not understood.
    Usage,
    /// The new release had users, was bad, and the old one serves again.
    RolledBack,
    /// The agent understood the call and said no.
    Refused,
    /// No agent answered, or it stopped answering before the outcome was known.
    Unreachable,
    /// A newer deploy took this one's place.
    Superseded,
    /// Somebody aborted the deploy.
    Aborted,
    /// There was too little data for a judgement.
    NoVerdict,
}

impl Exit {
    /// The number that the process ends with.
    pub fn code(self) -> u8 {
        match self {
            Self::Done => 0,
            Self::Failed => 1,
            Self::Usage => 2,
            Self::RolledBack => 3,
            Self::Refused => 4,
            Self::Unreachable => 5,
            Self::Superseded => 6,
            Self::Aborted => 7,
            Self::NoVerdict => 8,
        }
    }

    /// The exit status that tells an outcome.
    pub fn of(outcome: Outcome) -> Self {
        match outcome {
            Outcome::Promoted => Self::Done,
            Outcome::Failed => Self::Failed,
            Outcome::Aborted => Self::Aborted,
            Outcome::Superseded => Self::Superseded,
            Outcome::RolledBack => Self::RolledBack,
            Outcome::NoVerdict => Self::NoVerdict,
        }
    }
}
