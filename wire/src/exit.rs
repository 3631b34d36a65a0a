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
            // What was wanted was a comparison, and it went well.
            Outcome::Promoted | Outcome::Shadowed => Self::Done,
            Outcome::Failed => Self::Failed,
            Outcome::Aborted => Self::Aborted,
            Outcome::Superseded => Self::Superseded,
            Outcome::RolledBack => Self::RolledBack,
            Outcome::NoVerdict => Self::NoVerdict,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeSet;

    /// Scripts depend on these numbers: a line may be added, and none changed.
    const TABLE: [(Exit, u8); 9] = [
        (Exit::Done, 0),
        (Exit::Failed, 1),
        (Exit::Usage, 2),
        (Exit::RolledBack, 3),
        (Exit::Refused, 4),
        (Exit::Unreachable, 5),
        (Exit::Superseded, 6),
        (Exit::Aborted, 7),
        (Exit::NoVerdict, 8),
    ];

    #[test]
    fn each_ending_has_a_number_of_its_own_that_stays() {
        for (exit, code) in TABLE {
            assert_eq!(exit.code(), code, "{exit:?}");
        }
        let codes: BTreeSet<u8> = TABLE.iter().map(|(_, code)| *code).collect();
        assert_eq!(codes.len(), TABLE.len());
    }

    #[test]
    fn only_a_deploy_that_ended_as_wanted_ends_with_zero() {
        let wanted = [Outcome::Promoted, Outcome::Shadowed];
        let codes: BTreeSet<u8> = Outcome::ALL.map(|outcome| Exit::of(outcome).code()).into();
        assert_eq!(codes.len(), Outcome::ALL.len() - wanted.len() + 1);
        for outcome in Outcome::ALL {
            let zero = Exit::of(outcome).code() == 0;
            assert_eq!(zero, wanted.contains(&outcome), "{outcome}");
        }
    }
}
