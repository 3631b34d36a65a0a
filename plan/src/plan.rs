//! A plan: every step of a deploy, every choice made.

use std::fmt;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::id::{AppName, ReleaseNumber};
use crate::outcome::Outcome;
use crate::release::Release;
use crate::spec::Strategy;
use crate::step::{IfFails, Step, Undo};

/// What a deploy is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Kind {
    /// Bring a new release into service.
    Deploy,
    /// Bring the last release that proved itself back into service.
    Rollback,
    /// Retire the release that stands by: its time is over. Nobody called for it.
    Retire,
    /// Give the release that serves as many containers as the app's file says.
    /// Nobody called for it.
    Scale,
}

impl Kind {
    /// Whether the agent does it by itself, to keep the host as the app's file
    /// says. What somebody calls for comes before.
    pub fn is_housekeeping(self) -> bool {
        match self {
            Self::Retire | Self::Scale => true,
            Self::Deploy | Self::Rollback => false,
        }
    }
}

/// All that a deploy will do.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Plan {
    /// The app.
    pub app: AppName,
    /// What the deploy is for.
    pub kind: Kind,
    /// How the release takes over.
    pub strategy: Strategy,
    /// The release that will serve.
    pub release: Release,
    /// The release that serves now.
    pub from: Option<ReleaseNumber>,
    /// Why the plan looks as it does, in a sentence for the person who reads it.
    pub because: String,
    /// What the person should know beside it, each in a sentence.
    pub notes: Vec<String>,
    /// How long the deploy may go without getting further.
    #[serde(with = "crate::step::millis")]
    pub progress_deadline: Duration,
    /// The hook that ends every way back on which something of the release was
    /// begun, wherever the way back stops.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub on_failure: Option<Step>,
    /// What every way back ends with: images that nobody needs any more go, or
    /// deploys that fail would fill the disk.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub prune: Option<Step>,
    /// The steps in order; empty when there is nothing to do.
    pub steps: Vec<PlannedStep>,
}

/// A step of a plan, with what happens when it fails.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct PlannedStep {
    /// What is done.
    pub step: Step,
    /// What a failure means.
    pub if_fails: IfFails,
    /// How it is undone once it was begun.
    pub undo: Undo,
}

impl Plan {
    /// The way back when the deploy ends early: `begun` steps were begun, the
    /// last of them perhaps not finished. A step that was begun is undone
    /// whether or not it finished, because undoing finds what is there.
    pub fn way_back(&self, begun: usize) -> Vec<Step> {
        let mut back = Vec::new();
        for planned in self.steps.iter().take(begun).rev() {
            match &planned.undo {
                Undo::Steps(steps) => back.extend(steps.iter().cloned()),
                Undo::Instead(steps) => {
                    back.extend(steps.iter().cloned());
                    break;
                }
                Undo::Stay => break,
            }
        }
        let begins = |p: &PlannedStep| {
            matches!(
                p.step,
                Step::Hook { .. } | Step::Park { .. } | Step::Start { .. }
            )
        };
        if self.steps.iter().take(begun).any(begins) {
            back.extend(self.on_failure.clone());
        }
        if begun > 0 {
            back.extend(self.prune.clone());
        }
        back
    }

    /// Whether one of the first `begun` steps sent users to the new release,
    /// and whether the way back takes them away again. Where containers of it
    /// come and go, its users are no new ones.
    pub fn users_after(&self, begun: usize) -> Users {
        if self.kind == Kind::Scale {
            return Users::NeverCame;
        }
        let new = self.release.number;
        let shifts =
            |p: &&PlannedStep| matches!(&p.step, Step::Shift { to, .. } if to.reaches(new));
        match self.steps.iter().take(begun).find(shifts) {
            None => Users::NeverCame,
            Some(PlannedStep {
                undo: Undo::Stay, ..
            }) => Users::Stay,
            Some(_) => Users::GoBack,
        }
    }

    /// Where a deploy goes on that a person hurries at the step `index`, which
    /// bides its time: at the last shift that only biding and other shifts are
    /// before; where there is none, at the next step. A shift says who gets
    /// requests as a whole, so nothing rests on one that is left out. The watch
    /// that follows the last shift stays: no release has all users unwatched.
    pub fn hurried(&self, index: usize) -> usize {
        let rest = self.steps.iter().enumerate().skip(index + 1);
        let left_out = rest
            .take_while(|(_, p)| p.step.bides() || matches!(p.step, Step::Shift { .. }))
            .filter(|(_, p)| matches!(p.step, Step::Shift { .. }))
            .last();
        left_out.map_or(index + 1, |(shift, _)| shift)
    }

    /// How the deploy ends when all goes well.
    pub fn goal(&self) -> Outcome {
        let new = self.release.number;
        let shifts = |p: &PlannedStep| matches!(&p.step, Step::Shift { to, .. } if to.reaches(new));
        let watches = |p: &PlannedStep| matches!(p.step, Step::Watch { .. });
        match self.steps.iter().any(watches) && !self.steps.iter().any(shifts) {
            true => Outcome::Shadowed,
            false => Outcome::Promoted,
        }
    }

    /// The number of steps after which the release has proved itself. One that
    /// has need not do so again to get more containers: they have users, and
    /// that is all.
    pub fn proved_after(&self) -> usize {
        let proof = |p: &PlannedStep| match p.step {
            Step::Watch { .. } => true,
            Step::Shift { .. } => self.kind == Kind::Scale,
            _ => false,
        };
        self.steps
            .iter()
            .rposition(proof)
            .map_or(0, |index| index + 1)
    }
}

/// What an early end means for the users.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Users {
    /// No user saw the release.
    NeverCame,
    /// They were sent to the release and go back to the one before.
    GoBack,
    /// They stay: there is no better release.
    Stay,
}

impl fmt::Display for Plan {
    /// The dry run, as a person reads it.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { app, release, .. } = self;
        let verb = match self.kind {
            Kind::Deploy => "deploy",
            Kind::Rollback => "roll back to",
            Kind::Retire => "retire",
            Kind::Scale => "scale",
        };
        writeln!(f, "{app}: {verb} {} ({})", release.number, release.image)?;
        writeln!(f, "{}", self.because)?;
        for note in &self.notes {
            writeln!(f, "note: {note}")?;
        }
        for (index, planned) in self.steps.iter().enumerate() {
            writeln!(f, "{:>3}. {}", index + 1, planned.step)?;
        }
        let begun = self.proved_after();
        if begun > 0 {
            let back = self.way_back(begun);
            if self.users_after(begun) == Users::Stay || back.is_empty() {
                writeln!(f, "if it goes bad, it stays: there is no better release")?;
            } else {
                writeln!(f, "if it goes bad, it is taken back:")?;
                for step in back {
                    writeln!(f, "   - {step}")?;
                }
            }
        }
        Ok(())
    }
}
