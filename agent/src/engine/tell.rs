//! What GitHub is told of an event: the messages that go into the outbox in
//! the same transaction as the event, so that neither is without the other.

use cutover_plan::event::{Event, FailureClass};
use cutover_plan::outcome::Outcome;
use cutover_plan::plan::Kind;
use cutover_plan::spec::AppSpec;
use cutover_plan::step::Step;
use cutover_wire::table::ANY_HOST;
use jiff::Timestamp;

use super::Deploy;
use crate::forge::{DeploymentState, Message};
use crate::texts;

/// The messages of an event that was just applied to the deploy. There is one
/// for each change that a person waits for, and none for the rest: GitHub
/// bounds the statuses of a deployment.
pub(super) fn messages(
    spec: &AppSpec,
    deploy: &Deploy,
    event: &Event,
    at: Timestamp,
) -> Vec<Message> {
    let Some(github) = &spec.github else {
        return Vec::new();
    };
    let sha = match deploy.state.kind {
        Kind::Deploy => deploy.source.sha.clone(),
        // A rollback is shown at the commit that it goes back to, once that is known.
        // Nobody called for it, so nobody is told.
        Kind::Retire => None,
        Kind::Rollback => deploy
            .state
            .plan
            .as_ref()
            .and_then(|plan| plan.release.commit.clone()),
    };
    let Some(sha) = sha else { return Vec::new() };
    let Some((state, description)) = status(deploy, event) else {
        return Vec::new();
    };
    vec![Message {
        deploy: deploy.id.clone(),
        repository: github.repository.clone(),
        sha,
        environment: github.environment.clone(),
        state,
        description: texts::cut(&description, texts::MAX_DESCRIPTION),
        environment_url: github.url.clone().or_else(|| url_of(spec)),
        log_url: deploy.source.run_url.clone(),
        at,
    }]
}

fn status(deploy: &Deploy, event: &Event) -> Option<(DeploymentState, String)> {
    let state = &deploy.state;
    let description = texts::description(event, state)?;
    let told = match event {
        Event::Accepted { .. } => DeploymentState::Queued,
        Event::Planned { .. } => DeploymentState::InProgress,
        // Once, when the users come; not again after a restart.
        Event::StepStarted { at, attempt: 1, .. } => match state.step(*at) {
            Some(Step::Watch { .. }) => DeploymentState::InProgress,
            _ => return None,
        },
        Event::Ended { outcome } => match outcome {
            Outcome::Promoted => DeploymentState::Success,
            // It is nowhere to be seen, as was wanted.
            Outcome::Shadowed => DeploymentState::Inactive,
            Outcome::RolledBack | Outcome::NoVerdict => DeploymentState::Failure,
            Outcome::Aborted => DeploymentState::Error,
            Outcome::Superseded => DeploymentState::Inactive,
            Outcome::Failed => match state.failure.as_ref().map(|failure| failure.class) {
                Some(FailureClass::Release) => DeploymentState::Failure,
                _ => DeploymentState::Error,
            },
        },
        Event::StepStarted { .. }
        | Event::PlanRefused { .. }
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
        | Event::SupersedeRequested { .. } => return None,
    };
    Some((told, description))
}

/// Where the app is seen, as far as its domains tell.
pub(crate) fn url_of(spec: &AppSpec) -> Option<String> {
    let domain = spec.domains.iter().find(|domain| *domain != ANY_HOST)?;
    let path = if spec.path_prefix == "/" {
        ""
    } else {
        &spec.path_prefix
    };
    Some(format!("http://{domain}{path}"))
}
