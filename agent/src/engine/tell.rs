//! What GitHub and other receivers are told of an event: the messages that go into the outbox in
//! the same transaction as the event, so that neither is without the other.

use cutover_plan::event::{Event, FailureClass};
use cutover_plan::outcome::Outcome;
use cutover_plan::plan::Kind;
use cutover_plan::spec::{AppSpec, NotifySpec};
use cutover_plan::step::Step;
use cutover_wire::table::ANY_HOST;
use jiff::Timestamp;

use super::Deploy;
use crate::forge::{DeploymentState, Message};
use crate::letter::{Letter, Notice};
use crate::{texts, view};

/// The messages of an event that was just applied to the deploy.
pub(super) fn messages(
    spec: &AppSpec,
    deploy: &Deploy,
    event: &Event,
    at: Timestamp,
) -> Vec<Letter> {
    let status = status_of(spec, deploy, event, at).map(Letter::from);
    let notices = notices(spec, deploy, event, at);
    status.into_iter().chain(notices).collect()
}

/// What the receivers of `[[notify]]` are told: the end of what somebody called for.
fn notices(
    spec: &AppSpec,
    deploy: &Deploy,
    event: &Event,
    at: Timestamp,
) -> impl Iterator<Item = Letter> {
    let outcome = match event {
        Event::Ended { outcome } if !deploy.state.kind.is_housekeeping() => Some(*outcome),
        _ => None,
    };
    let told = outcome.into_iter().flat_map(|outcome| {
        let wants = move |receiver: &&NotifySpec| receiver.on.contains(&outcome);
        let receivers = spec.notify.iter().filter(wants);
        receivers.map(move |receiver| (receiver.name(), outcome))
    });
    told.map(move |(receiver, outcome)| {
        let state = &deploy.state;
        let image = state.plan.as_ref().map(|plan| &plan.release.image);
        let said = texts::description(event, state).unwrap_or_else(|| outcome.to_string());
        Letter::from(Notice {
            receiver,
            deploy: deploy.id.clone(),
            app: state.app.clone(),
            kind: state.kind,
            outcome,
            release: state.release(),
            image: image.or(deploy.image.as_ref()).map(ToString::to_string),
            reason: view::reason(state),
            text: format!("{}: {said}", state.app),
            url: shown_at(spec),
            run_url: deploy.source.run_url.clone(),
            at,
        })
    })
}

/// What GitHub is told. There is a status for each change that a person waits
/// for, and none for the rest: GitHub bounds the statuses of a deployment.
fn status_of(spec: &AppSpec, deploy: &Deploy, event: &Event, at: Timestamp) -> Option<Message> {
    let github = spec.github.as_ref()?;
    let sha = match deploy.state.kind {
        Kind::Deploy => deploy.source.sha.clone(),
        // Nobody called for it, so nobody is told.
        Kind::Retire | Kind::Scale => None,
        // A rollback is shown at the commit that it goes back to, once that is known.
        Kind::Rollback => deploy
            .state
            .plan
            .as_ref()
            .and_then(|plan| plan.release.commit.clone()),
    };
    let (sha, (state, description)) = (sha?, status(deploy, event)?);
    Some(Message {
        deploy: deploy.id.clone(),
        repository: github.repository.clone(),
        sha,
        environment: github.environment.clone(),
        state,
        description: texts::cut(&description, texts::MAX_DESCRIPTION),
        environment_url: shown_at(spec),
        log_url: deploy.source.run_url.clone(),
        at,
    })
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

/// Where the app is seen: where its file says, else where its domains tell.
pub(crate) fn shown_at(spec: &AppSpec) -> Option<String> {
    let written = spec.github.as_ref().and_then(|github| github.url.clone());
    written.or_else(|| url_of(spec))
}

/// Where the app is seen, as far as its domains tell.
fn url_of(spec: &AppSpec) -> Option<String> {
    let domain = spec.domains.iter().find(|domain| *domain != ANY_HOST)?;
    let path = if spec.path_prefix == "/" {
        ""
    } else {
        &spec.path_prefix
    };
    Some(format!("http://{domain}{path}"))
}
