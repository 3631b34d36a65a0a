//! The state of a deploy: a fold of its events, and what comes next.
//!
//! ```text
//!             Planned                  last step
//!  Accepted ──────────▶ Forward ────────────────────▶ Closing ──Ended──▶ Over
//!     │  │               │    │ StepFailed, Stalled,      ▲
//!     │  │ PlanRefused   │    │ Rejected, HoldExpired,    │
//!     │  │               │    │ AbortRequested,           │
//!     │  │               │    ▼ SupersedeRequested        │
//!     │  └──────────────┐│   Back ────────────────────────┤ last step back
//!     └─AbortRequested──┴┼────────────────────────────────┘
//!       SupersedeRequested  Held: waits, until Approved, PromoteRequested, …
//! ```
//!
//! A step that was started and neither finished nor failed is *in doubt*: the
//! process may have died in its middle. It is done again, because every step
//! finds what is already there. There is no other recovery.
//!
//! Every time here comes in with an event, so a deadline is a point in time
//! that a crash does not move. A deploy that waits for a person is not late.

mod people;
mod phase;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use crate::event::{Cursor, Event, Failure, FailureClass, Finding};
use crate::id::{AppName, DeployId, ReleaseNumber};
use crate::outcome::Outcome;
use crate::plan::{Kind, Plan, PlannedStep, Users};
use crate::step::{IfFails, Step, Undo, WithoutVerdict};
use crate::verdict::Verdict;

pub use phase::{Next, Phase, Running, Waiting};

/// A deploy, as its events tell it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct DeployState {
    /// The app.
    pub app: AppName,
    /// What is wanted.
    pub kind: Kind,
    /// How far it is.
    pub phase: Phase,
    /// The plan, once there is one.
    pub plan: Option<Box<Plan>>,
    /// The step that was started last and is in doubt until it finishes or fails.
    pub running: Option<Running>,
    /// What a person has to decide before it goes on.
    #[serde(default)]
    pub waiting: Option<Waiting>,
    /// From when on it has got no further.
    #[serde(default)]
    pub progress_since: Option<Timestamp>,
    /// Who aborted it.
    pub aborted_by: Option<String>,
    /// The newer deploy that takes its place.
    #[serde(default)]
    pub superseded_by: Option<DeployId>,
    /// Why it ends early.
    pub failure: Option<Failure>,
    /// Steps that failed without changing the outcome.
    pub setbacks: Vec<Failure>,
    /// What the watch found, once it is over and the release stays.
    #[serde(default)]
    pub verdict: Option<Verdict>,
}

/// How often a step is begun anew after crashes before it has failed.
pub const MAX_ATTEMPTS: u32 = 10;

/// An event that cannot follow in this state.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{event} cannot follow in the state {phase}")]
pub struct IllegalEvent {
    /// The event.
    pub event: String,
    /// The state.
    pub phase: String,
}

impl DeployState {
    /// The state after the first event, which must be [`Event::Accepted`].
    pub fn begin(event: &Event) -> Result<Self, IllegalEvent> {
        match event {
            Event::Accepted { app, kind, .. } => Ok(Self {
                app: app.clone(),
                kind: *kind,
                phase: Phase::Accepted,
                plan: None,
                running: None,
                waiting: None,
                progress_since: None,
                aborted_by: None,
                superseded_by: None,
                failure: None,
                setbacks: Vec::new(),
                verdict: None,
            }),
            Event::Planned { .. }
            | Event::PlanRefused { .. }
            | Event::StepStarted { .. }
            | Event::StepProgressed { .. }
            | Event::StepFinished { .. }
            | Event::StepFailed { .. }
            | Event::TargetHealthy { .. }
            | Event::Held { .. }
            | Event::Approved { .. }
            | Event::Rejected { .. }
            | Event::HoldExpired { .. }
            | Event::PromoteRequested { .. }
            | Event::Stalled { .. }
            | Event::AbortRequested { .. }
            | Event::SupersedeRequested { .. }
            | Event::Ended { .. } => Err(IllegalEvent {
                event: format!("{event:?}"),
                phase: "nothing".to_owned(),
            }),
        }
    }

    /// The state after one more event.
    pub fn apply(mut self, event: &Event) -> Result<Self, IllegalEvent> {
        let illegal = IllegalEvent {
            event: format!("{event:?}"),
            phase: self.phase.to_string(),
        };
        let taken = match event {
            Event::Accepted { .. } => false,
            Event::Planned { plan } => self.planned(plan),
            Event::PlanRefused { failure } => self.plan_refused(failure),
            Event::StepStarted { at, attempt, since } => self.started(*at, *attempt, *since),
            Event::StepProgressed { at, .. } => self.is_running(*at),
            Event::StepFinished { at, finding } => self.finished(*at, finding),
            Event::StepFailed { at, failure } => self.failed(*at, failure),
            Event::TargetHealthy { at, time, .. } => self.target_healthy(*at, *time),
            Event::Held { at, because, until } => self.held(*at, because, *until),
            Event::Approved { by, time } => self.approved(by, *time),
            Event::Rejected { by, why } => self.rejected(by, why.as_deref()),
            Event::HoldExpired { time } => self.hold_expired(*time),
            Event::PromoteRequested { by, how, time } => self.hurry(by, *how, *time),
            Event::Stalled { time } => self.stalled(*time),
            Event::AbortRequested { by } => self.abort(by),
            Event::SupersedeRequested { by } => self.supersede(by),
            Event::Ended { outcome } => self.ended(*outcome),
        };
        if taken { Ok(self) } else { Err(illegal) }
    }

    /// What the engine does next. For a step in doubt, that step once more.
    pub fn next(&self) -> Next<'_> {
        let at = match &self.phase {
            Phase::Accepted => return Next::Plan,
            Phase::Closing { outcome } => return Next::End(*outcome),
            Phase::Over { .. } => return Next::Nothing,
            Phase::Forward { next } => Cursor::Forward(*next),
            Phase::Back { next, .. } => Cursor::Back(*next),
        };
        let Some(step) = self.step(at) else {
            return Next::End(self.outcome_of_the_end());
        };
        if let Some(Waiting { at, until, .. }) = &self.waiting {
            return Next::Wait {
                at: *at,
                until: *until,
            };
        }
        let tried = self.running.filter(|running| running.at == at);
        match tried.map_or(0, |running| running.attempt) {
            tried if tried >= MAX_ATTEMPTS => Next::GiveUp { at },
            tried => Next::Step {
                at,
                step,
                attempt: tried + 1,
            },
        }
    }

    /// The step at a place.
    pub fn step(&self, at: Cursor) -> Option<&Step> {
        match at {
            Cursor::Forward(index) => {
                let planned = self.plan.as_ref()?.steps.get(index)?;
                Some(&planned.step)
            }
            Cursor::Back(index) => match &self.phase {
                Phase::Back { steps, .. } => steps.get(index),
                Phase::Accepted
                | Phase::Forward { .. }
                | Phase::Closing { .. }
                | Phase::Over { .. } => None,
            },
        }
    }

    /// Whether the release has been watched to the end and stays.
    pub fn is_proven(&self) -> bool {
        match (&self.phase, &self.plan) {
            (Phase::Forward { next }, Some(plan)) => *next >= plan.proved_after(),
            (Phase::Closing { outcome } | Phase::Over { outcome }, _) => {
                matches!(outcome, Outcome::Promoted | Outcome::Shadowed)
            }
            _ => false,
        }
    }

    /// How it ended, if it is over.
    pub fn outcome(&self) -> Option<Outcome> {
        match self.phase {
            Phase::Over { outcome } => Some(outcome),
            Phase::Accepted
            | Phase::Forward { .. }
            | Phase::Back { .. }
            | Phase::Closing { .. } => None,
        }
    }

    /// The release that the deploy is about.
    pub fn release(&self) -> Option<ReleaseNumber> {
        self.plan.as_ref().map(|plan| plan.release.number)
    }

    fn planned(&mut self, plan: &Plan) -> bool {
        let asked = plan.app == self.app && plan.kind == self.kind;
        if self.phase != Phase::Accepted || !asked {
            return false;
        }
        self.plan = Some(Box::new(plan.clone()));
        self.phase = match plan.steps.is_empty() {
            true => Phase::Closing {
                outcome: Outcome::Promoted,
            },
            false => Phase::Forward { next: 0 },
        };
        true
    }

    fn plan_refused(&mut self, failure: &Failure) -> bool {
        if self.phase != Phase::Accepted {
            return false;
        }
        self.failure = Some(failure.clone());
        self.phase = Phase::Closing {
            outcome: Outcome::Failed,
        };
        true
    }

    fn started(&mut self, at: Cursor, attempt: u32, since: Timestamp) -> bool {
        let due = match self.next() {
            Next::Step { at, attempt, .. } => Some((at, attempt)),
            Next::Plan | Next::Wait { .. } | Next::GiveUp { .. } | Next::End(_) | Next::Nothing => {
                None
            }
        };
        self.running = Some(Running { at, attempt, since });
        self.progress_since.get_or_insert(since);
        due == Some((at, attempt))
    }

    fn is_running(&self, at: Cursor) -> bool {
        self.running.is_some_and(|running| running.at == at)
    }

    fn finished(&mut self, at: Cursor, finding: &Finding) -> bool {
        let legal = self.is_running(at);
        if !self.may_finish(at, finding) {
            return false;
        }
        if let Finding::Judged { verdict } = finding {
            self.verdict = Some(verdict.clone());
        }
        // A target that is healthy, a watch that is over: it got further.
        if let Some(step) = self.step(at)
            && (step.bides() || matches!(step, Step::Gate { .. }))
        {
            self.progress_since = None;
        }
        self.running = None;
        legal && self.advance()
    }

    /// Whether a step may end so. A watch ends with a judgement: a bad release
    /// fails it, and without a verdict the release stays only where the app's
    /// file says so. An approval ends with a person's word, never by itself.
    fn may_finish(&self, at: Cursor, finding: &Finding) -> bool {
        let verdict = match finding {
            Finding::Judged { verdict } => Some(verdict),
            Finding::Done
            | Finding::Note { .. }
            | Finding::StandsBy { .. }
            | Finding::Drained { .. } => None,
        };
        match (self.step(at), verdict) {
            (Some(Step::Approve { .. }), _) => false,
            (Some(Step::Watch { rule, .. }), Some(verdict)) => match verdict {
                Verdict::Good { .. } => true,
                Verdict::Bad { .. } => false,
                Verdict::NoVerdict { .. } => rule.without == WithoutVerdict::Promote,
            },
            (Some(Step::Watch { .. }), None) => false,
            (_, verdict) => verdict.is_none(),
        }
    }

    fn failed(&mut self, at: Cursor, failure: &Failure) -> bool {
        if !self.is_running(at) {
            return false;
        }
        match at {
            Cursor::Forward(index) => {
                let planned = self.plan.as_ref().and_then(|plan| plan.steps.get(index));
                match planned.map(|planned| planned.if_fails) {
                    Some(IfFails::GoOn) => self.shrug(failure),
                    Some(IfFails::Undo) => {
                        let sent_nobody = self.is_refused_shift(at);
                        self.failure = Some(failure.clone());
                        self.turn_back(sent_nobody)
                    }
                    None => false,
                }
            }
            Cursor::Back(_) => match self.step(at) {
                // The old release does not serve again, so the new one must live on.
                // What is not started or not healthy must get no requests.
                Some(Step::Shift { .. } | Step::Start { .. } | Step::Gate { .. }) => {
                    self.setbacks.push(failure.clone());
                    self.running = None;
                    self.phase = Phase::Closing {
                        outcome: Outcome::Failed,
                    };
                    true
                }
                _ => self.shrug(failure),
            },
        }
    }

    fn shrug(&mut self, failure: &Failure) -> bool {
        self.setbacks.push(failure.clone());
        self.running = None;
        self.advance()
    }

    fn abort(&mut self, by: &str) -> bool {
        self.aborted_by = Some(by.to_owned());
        self.break_off(Outcome::Aborted)
    }

    fn supersede(&mut self, by: &DeployId) -> bool {
        self.superseded_by = Some(by.clone());
        self.break_off(Outcome::Superseded)
    }

    /// Stops wherever it is; what comes before a plan has nothing to undo.
    fn break_off(&mut self, outcome: Outcome) -> bool {
        if self.is_proven() {
            return false;
        }
        match &self.phase {
            Phase::Accepted => {
                self.phase = Phase::Closing { outcome };
                true
            }
            Phase::Forward { .. } => self.turn_back(false),
            // It is on its way back already; what it ends as was decided by the failure.
            Phase::Back { .. } | Phase::Closing { .. } | Phase::Over { .. } => false,
        }
    }

    fn ended(&mut self, outcome: Outcome) -> bool {
        let due = self.next() == Next::End(outcome);
        self.phase = Phase::Over { outcome };
        due
    }

    fn advance(&mut self) -> bool {
        let total = match (&self.phase, &self.plan) {
            (Phase::Forward { .. }, Some(plan)) => plan.steps.len(),
            (Phase::Back { steps, .. }, _) => steps.len(),
            _ => return false,
        };
        let (Phase::Forward { next } | Phase::Back { next, .. }) = &mut self.phase else {
            return false;
        };
        *next += 1;
        if *next >= total {
            let outcome = self.outcome_of_the_end();
            self.phase = Phase::Closing { outcome };
        }
        true
    }

    /// Onto the way back. Where the step that is left `sent_nobody`, it is
    /// undone, but no user has seen the release by it.
    fn turn_back(&mut self, sent_nobody: bool) -> bool {
        let (Phase::Forward { next }, Some(plan)) = (&self.phase, &self.plan) else {
            return false;
        };
        let begun = if self.running.is_some() || self.waiting.is_some() {
            next + 1
        } else {
            *next
        };
        let seen = begun - usize::from(sent_nobody);
        let users = plan.users_after(seen);
        let at_hand = plan.steps.get(*next);
        let mut steps = match at_hand {
            // It sent nobody to the release, so what was before it is undone.
            Some(PlannedStep {
                undo: Undo::Stay, ..
            }) if sent_nobody => plan.way_back(seen),
            _ => plan.way_back(begun),
        };
        // A shift that nobody may undo and that was left in its middle has moved
        // the users or not: it is finished, so that everybody knows where they are.
        if let Some(PlannedStep {
            step: step @ Step::Shift { .. },
            undo: Undo::Stay,
            ..
        }) = at_hand
            && self.running.is_some()
            && !sent_nobody
        {
            steps.push(step.clone());
        }
        let nothing_to_undo = steps.is_empty();
        self.running = None;
        self.waiting = None;
        self.phase = Phase::Back {
            steps,
            next: 0,
            users,
        };
        if nothing_to_undo {
            let outcome = self.outcome_of_the_end();
            self.phase = Phase::Closing { outcome };
        }
        true
    }

    /// Whether the running step is a shift whose first try failed: no user was
    /// sent to the release. The way back is walked all the same, because the
    /// answer may have been lost. A shift that was begun anew after a crash may
    /// have sent users before.
    fn is_refused_shift(&self, at: Cursor) -> bool {
        let first = self.running.is_some_and(|running| running.attempt == 1);
        first && matches!(self.step(at), Some(Step::Shift { .. }))
    }

    fn outcome_of_the_end(&self) -> Outcome {
        let Phase::Back { users, .. } = &self.phase else {
            return self
                .plan
                .as_ref()
                .map_or(Outcome::Promoted, |plan| plan.goal());
        };
        match (&self.failure, users) {
            (None, _) if self.superseded_by.is_some() => Outcome::Superseded,
            (None, _) => Outcome::Aborted,
            (Some(failure), _) if failure.class == FailureClass::Person => Outcome::Aborted,
            // Too little data is no failure, also where the users stay.
            (Some(failure), _) if failure.class == FailureClass::NoVerdict => Outcome::NoVerdict,
            (Some(_), Users::GoBack) => Outcome::RolledBack,
            (Some(_), Users::NeverCame | Users::Stay) => Outcome::Failed,
        }
    }
}
