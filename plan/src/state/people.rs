//! What people do to a deploy, and how long it may take without them.

use jiff::Timestamp;

use super::{DeployState, Phase, Waiting};
use crate::event::{Cursor, Failure, FailureClass, Promotion};
use crate::plan::Kind;
use crate::spec::{Newcomer, OnTimeout, SupersedeSpec, render_duration};
use crate::step::{Step, WithoutVerdict};
use crate::verdict::Verdict;

impl DeployState {
    /// What becomes of a newer call, by the app's file. Once the release has
    /// proved itself, or is on its way back, the running deploy is let end.
    pub fn newcomer(&self, spec: &SupersedeSpec) -> Newcomer {
        let decided = match &self.phase {
            Phase::Accepted => spec.before_shift,
            Phase::Forward { next } => {
                let plan = self.plan.as_ref();
                let begun = next + usize::from(self.running.is_some());
                let users = plan.map(|plan| plan.users_after(begun));
                match users {
                    None | Some(crate::plan::Users::NeverCame) => spec.before_shift,
                    Some(_) => spec.after_shift,
                }
            }
            Phase::Back { .. } | Phase::Closing { .. } | Phase::Over { .. } => spec.after_shift,
        };
        let turned = !matches!(self.phase, Phase::Accepted | Phase::Forward { .. });
        // Nothing takes the place of a rollback: a person left a release, and
        // no workflow brings it back over that.
        let rollback = self.kind == Kind::Rollback;
        match decided {
            Newcomer::Supersede if turned || rollback || self.is_proven() => Newcomer::Queue,
            decided => decided,
        }
    }

    /// When the deploy has got no further for too long; none while it bides its
    /// time by design, waits for a person, or has nothing more to prove.
    pub fn progress_deadline(&self) -> Option<Timestamp> {
        let plan = self.plan.as_ref()?;
        let at = self.running?.at;
        let counts = matches!(at, Cursor::Forward(_)) && !self.is_proven();
        if !counts || self.step(at)?.bides() {
            return None;
        }
        let deadline = self.progress_since?.checked_add(plan.progress_deadline);
        // A time that no calendar has is none that a clock reaches.
        deadline.ok()
    }

    pub(super) fn target_healthy(&mut self, at: Cursor, time: Timestamp) -> bool {
        self.progress_since = Some(time);
        self.is_running(at) && matches!(self.step(at), Some(Step::Gate { .. }))
    }

    pub(super) fn held(&mut self, at: Cursor, because: &str, until: Timestamp) -> bool {
        let asks = match self.step(at) {
            Some(Step::Approve { .. }) => true,
            Some(Step::Watch { rule, .. }) => matches!(rule.without, WithoutVerdict::Hold { .. }),
            _ => false,
        };
        if !asks || !self.is_running(at) || !matches!(at, Cursor::Forward(_)) {
            return false;
        }
        self.running = None;
        self.waiting = Some(Waiting {
            at,
            until,
            because: because.to_owned(),
        });
        true
    }

    pub(super) fn approved(&mut self, by: &str, time: Timestamp) -> bool {
        let Some(waiting) = self.waiting.take() else {
            return false;
        };
        if matches!(self.step(waiting.at), Some(Step::Watch { .. })) {
            let because = format!("{}; {by} let it go on", waiting.because);
            self.verdict = Some(Verdict::none(because));
        }
        self.progress_since = Some(time);
        self.advance()
    }

    pub(super) fn rejected(&mut self, by: &str, why: Option<&str>) -> bool {
        if self.waiting.is_none() {
            return false;
        }
        let reason = match why {
            Some(why) => format!("{by} said no: {why}"),
            None => format!("{by} said no"),
        };
        self.failure = Some(Failure::new(FailureClass::Person, reason));
        self.turn_back(false)
    }

    pub(super) fn hold_expired(&mut self, time: Timestamp) -> bool {
        let Some(Waiting { at, until, because }) = self.waiting.clone() else {
            return false;
        };
        if time < until {
            return false;
        }
        let failure = match self.step(at) {
            Some(Step::Approve {
                on_timeout: OnTimeout::Promote,
                ..
            }) => {
                self.waiting = None;
                self.progress_since = Some(time);
                return self.advance();
            }
            Some(Step::Approve { what, deadline, .. }) => {
                let deadline = render_duration(*deadline);
                let reason = format!("nobody approved within {deadline} that {what}");
                Failure::new(FailureClass::Person, reason)
            }
            _ => {
                let reason = format!("{because}, and nobody decided in time");
                Failure::new(FailureClass::NoVerdict, reason)
            }
        };
        self.failure = Some(failure);
        self.turn_back(false)
    }

    /// A person does not wait for the end of a step that bides its time.
    pub(super) fn hurry(&mut self, by: &str, how: Promotion, time: Timestamp) -> bool {
        let (Phase::Forward { next }, Some(plan)) = (&self.phase, &self.plan) else {
            return false;
        };
        let at = Cursor::Forward(*next);
        let there = self.is_running(at) || self.waiting.is_some();
        let Some(step) = self.step(at).filter(|step| there && step.bides()) else {
            return false;
        };
        let to = match how {
            Promotion::Next => next + 1,
            Promotion::Full => plan.hurried(*next),
        };
        if matches!(step, Step::Watch { .. }) {
            let because = format!("{by} did not wait for the end of the watch");
            self.verdict = Some(Verdict::none(because));
        }
        self.running = None;
        self.waiting = None;
        self.progress_since = Some(time);
        self.phase = Phase::Forward { next: to - 1 };
        self.advance()
    }

    pub(super) fn stalled(&mut self, time: Timestamp) -> bool {
        let late = self.progress_deadline().is_some_and(|until| time >= until);
        let (true, Some(plan)) = (late, &self.plan) else {
            return false;
        };
        let deadline = render_duration(plan.progress_deadline);
        let reason = format!("it got no further for {deadline}");
        let hint = "see what the step waits for; a slow one needs a longer progress_deadline";
        self.failure = Some(Failure::new(FailureClass::Host, reason).hint(hint));
        self.turn_back(false)
    }
}
