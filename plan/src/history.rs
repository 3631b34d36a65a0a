//! How the events of deploys change what is known of an app's releases.

use crate::event::{Cursor, Event, Failure, FailureClass, Finding};
use crate::id::ReleaseNumber;
use crate::outcome::Outcome;
use crate::plan::{Kind, Plan};
use crate::release::{Releases, Standing};
use crate::state::{DeployState, Phase};
use crate::step::Step;
use crate::traffic::Traffic;

/// Folds one event into the releases of its app. `before` is the state of the
/// deploy that the event was applied to.
pub fn fold(releases: &mut Releases, before: &DeployState, event: &Event) {
    match event {
        Event::Planned { plan } if !plan.steps.is_empty() => releases.learn(&plan.release),
        Event::StepFinished { at, finding } => {
            if let Some(step) = before.step(*at) {
                step_finished(releases, before, *at, step, finding);
            }
        }
        Event::Ended { outcome } => ended(releases, before, *outcome),
        // A person who lets it go on vouches for it.
        Event::Approved { .. } | Event::PromoteRequested { .. } => vouched(releases, before),
        Event::Accepted { .. }
        | Event::Planned { .. }
        | Event::PlanRefused { .. }
        | Event::StepStarted { .. }
        | Event::StepProgressed { .. }
        | Event::StepFailed { .. }
        | Event::TargetHealthy { .. }
        | Event::Held { .. }
        | Event::Rejected { .. }
        | Event::HoldExpired { .. }
        | Event::Stalled { .. }
        | Event::AbortRequested { .. }
        | Event::SupersedeRequested { .. } => {}
    }
}

fn step_finished(
    releases: &mut Releases,
    deploy: &DeployState,
    at: Cursor,
    step: &Step,
    finding: &Finding,
) {
    match step {
        Step::Shift { to, .. } => shifted(releases, to),
        Step::Standby { release, .. } => {
            releases.standby = Some(*release);
            releases.standby_until = match finding {
                Finding::StandsBy { until } => *until,
                Finding::Done
                | Finding::Note { .. }
                | Finding::Judged { .. }
                | Finding::Drained { .. } => None,
            };
        }
        Step::Retire { release, .. } if releases.standby == Some(*release) => {
            forget_standby(releases);
        }
        Step::Watch { release, .. } if is_proof(releases, deploy, at, *release) => {
            releases.judge(*release, Standing::Proven);
        }
        Step::Preflight { .. }
        | Step::Pull { .. }
        | Step::Hook { .. }
        | Step::Start { .. }
        | Step::Gate { .. }
        | Step::Preview { .. }
        | Step::Mirror { .. }
        | Step::Park { .. }
        | Step::Watch { .. }
        | Step::Approve { .. }
        | Step::Drain { .. }
        | Step::Retire { .. }
        | Step::Prune { .. } => {}
    }
}

/// While requests are split, the release that had them all serves still: it is
/// the one to go back to.
pub fn shifted(releases: &mut Releases, to: &Traffic) {
    releases.traffic = to.clone();
    let reached = to.releases();
    match to.sole() {
        Some(sole) => releases.serving = Some(sole),
        None if releases.serving.is_some_and(|old| reached.contains(&old)) => {}
        None => {
            let heaviest = reached.iter().max_by_key(|one| to.weight_of(**one));
            releases.serving = heaviest.copied();
        }
    }
    if releases.standby.is_some_and(|one| reached.contains(&one)) {
        forget_standby(releases);
    }
}

fn forget_standby(releases: &mut Releases) {
    releases.standby = None;
    releases.standby_until = None;
}

/// A watch that a person ended is as good as one that found nothing.
fn vouched(releases: &mut Releases, deploy: &DeployState) {
    let Phase::Forward { next } = deploy.phase else {
        return;
    };
    let at = Cursor::Forward(next);
    if let Some(Step::Watch { release, .. }) = deploy.step(at)
        && is_proof(releases, deploy, at, *release)
    {
        releases.judge(*release, Standing::Proven);
    }
}

/// Whether this was the watch after which the release has proved itself: the
/// last one of the plan, with all users on it.
fn is_proof(releases: &Releases, deploy: &DeployState, at: Cursor, release: ReleaseNumber) -> bool {
    let last = deploy.plan.as_ref().map(|plan| plan.proved_after());
    let is_last = matches!((at, last), (Cursor::Forward(index), Some(last)) if index + 1 == last);
    is_last && releases.traffic.sole() == Some(release)
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
        (Kind::Rollback | Kind::Retire | Kind::Scale, _) => {}
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
    let warm = steps.any(|step| matches!(step, Step::Standby { release, .. } if *release == left));
    if warm && !deploy.is_proven() {
        releases.standby = Some(left);
    }
}
