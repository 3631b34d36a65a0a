//! How the events of deploys change what is known of an app's releases.

use crate::event::{Cursor, Event, Failure, FailureClass};
use crate::id::ReleaseNumber;
use crate::outcome::Outcome;
use crate::plan::{Kind, Plan};
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
        (Kind::Rollback, _) if releases.serving == Some(plan.release.number) => {
            if let Some(left) = plan.from {
                left_by_rollback(releases, deploy, plan, left);
            }
        }
        // The users never left.
        (Kind::Rollback, _) => {}
    }
}

/// What a rollback that moved the users teaches. One of two releases is
/// rejected, so that the next rollback goes to the better one:
///
/// - the target, if its watch found it bad. The release that was left keeps its
///   standing: it is the better of the two, whatever made the person leave it.
/// - else the release that was left, also where the rollback was aborted or had
///   no verdict: a person left it, and nothing says that the target is worse.
///
/// Right after the rollback its number alone keeps the left release from being
/// a target, because it is above the one that serves. Only once a later deploy
/// serves does the standing count.
///
/// A rollback that ends before its proof has retired nothing: what it meant to
/// keep warm is warm.
fn left_by_rollback(
    releases: &mut Releases,
    deploy: &DeployState,
    plan: &Plan,
    left: ReleaseNumber,
) {
    let target = plan.release.number;
    let bad = |failure: &Failure| failure.class == FailureClass::Release;
    if deploy.failure.as_ref().is_some_and(bad) {
        releases.judge(target, Standing::Rejected);
    } else {
        releases.judge(left, Standing::Rejected);
    }
    let mut steps = plan.steps.iter().map(|planned| &planned.step);
    let warm = steps.any(|step| matches!(step, Step::Standby { release } if *release == left));
    if warm && !deploy.is_proven() {
        releases.standby = Some(left);
    }
}
