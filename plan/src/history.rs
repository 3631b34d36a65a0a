//! How the events of deploys change what is known of an app's releases.

use crate::event::{Cursor, Event};
use crate::outcome::Outcome;
use crate::plan::Kind;
use crate::release::{Releases, Standing};
use crate::state::DeployState;
use crate::step::Step;

/// Folds one event into the releases of its app. `before` is the state of the
/// deploy that the event was applied to.
pub fn fold(releases: &mut Releases, before: &DeployState, event: &Event) {
    match event {
        Event::Planned { plan } if !plan.steps.is_empty() => releases.learn(&plan.release),
        Event::StepFinished { at, .. } => {
            if let Some(step) = before.step(*at) {
                step_finished(releases, *at, step);
            }
        }
        Event::Ended { outcome } => ended(releases, before, *outcome),
        Event::Accepted { .. }
        | Event::Planned { .. }
        | Event::PlanRefused { .. }
        | Event::StepStarted { .. }
        | Event::StepProgressed { .. }
        | Event::StepFailed { .. }
        | Event::AbortRequested { .. } => {}
    }
}

fn step_finished(releases: &mut Releases, at: Cursor, step: &Step) {
    match step {
        Step::Shift { to, .. } => {
            releases.serving = *to;
            if releases.standby == *to {
                releases.standby = None;
            }
        }
        Step::Standby { release } => releases.standby = Some(*release),
        Step::Retire { release, .. } if releases.standby == Some(*release) => {
            releases.standby = None;
        }
        Step::Watch { release, .. } if matches!(at, Cursor::Forward(_)) => {
            releases.judge(*release, Standing::Proven);
        }
        Step::Preflight { .. }
        | Step::Pull { .. }
        | Step::Start { .. }
        | Step::Gate { .. }
        | Step::Watch { .. }
        | Step::Drain { .. }
        | Step::Retire { .. }
        | Step::Prune { .. } => {}
    }
}

fn ended(releases: &mut Releases, deploy: &DeployState, outcome: Outcome) {
    let Some(plan) = &deploy.plan else { return };
    match (plan.kind, outcome) {
        (Kind::Deploy, Outcome::RolledBack) => {
            releases.judge(plan.release.number, Standing::Rejected);
        }
        (Kind::Deploy, _) => {}
        // A person left this release, and the users left it too, however the
        // rollback ended: no later rollback may lead back to it.
        (Kind::Rollback, _) if releases.serving == Some(plan.release.number) => {
            if let Some(left) = plan.from {
                releases.judge(left, Standing::Rejected);
            }
        }
        (Kind::Rollback, _) => {}
    }
}
