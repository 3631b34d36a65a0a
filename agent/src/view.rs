//! Deploys and apps as they are shown: folds of the journal, for reading only.

use cutover_plan::event::{Event, Failure};
use cutover_plan::id::{DeployId, ReleaseNumber};
use cutover_plan::outcome::Outcome;
use cutover_plan::plan::Users;
use cutover_plan::release::Releases;
use cutover_plan::spec::AppSpec;
use cutover_plan::state::{DeployState, IllegalEvent, Phase};
use cutover_wire::agent::{AppView, DeployView, ReleaseView, WaitView};

use crate::containers::{Container, ContainerError, ContainerState};
use crate::engine::shown_at;
use crate::journal::{DeployRecord, Journal, JournalError, Recorded};
use crate::texts;

/// Events read from the journal at a time.
const PAGE: usize = 500;

/// Every event of a deploy. The engine bounds how many there are.
pub(crate) fn history(journal: &Journal, deploy: &DeployId) -> Result<Vec<Recorded>, JournalError> {
    let mut all: Vec<Recorded> = Vec::new();
    loop {
        let after = all.last().map_or(0, |recorded| recorded.seq);
        let page = journal.events(deploy, after, PAGE)?;
        let full = page.len() == PAGE;
        all.extend(page);
        if !full {
            return Ok(all);
        }
    }
}

/// The state that the events of a deploy lead to.
pub(crate) fn fold(history: &[Recorded]) -> Result<DeployState, IllegalEvent> {
    let Some((first, rest)) = history.split_first() else {
        let phase = "no event at all".to_owned();
        return Err(IllegalEvent {
            event: "nothing".to_owned(),
            phase,
        });
    };
    let mut state = DeployState::begin(&first.event)?;
    for recorded in rest {
        state = state.apply(&recorded.event)?;
    }
    Ok(state)
}

/// A deploy, as it is shown.
pub(crate) fn deploy(
    journal: &Journal,
    spec: Option<&AppSpec>,
    record: &DeployRecord,
) -> Result<DeployView, JournalError> {
    let history = history(journal, &record.deploy)?;
    let releases = journal.releases(&record.app)?;
    let image = history.first().and_then(|recorded| match &recorded.event {
        Event::Accepted { image, .. } => image.as_ref().map(ToString::to_string),
        _ => None,
    });
    let mut view = DeployView {
        deploy: record.deploy.clone(),
        app: record.app.clone(),
        kind: None,
        by: record.source.actor.clone(),
        release: None,
        image,
        phase: String::new(),
        waits: None,
        outcome: None,
        serving: serving(&releases),
        reason: None,
        hint: None,
        log: Vec::new(),
        accepted_at: record.accepted_at,
        ended_at: record.ended_at,
        url: spec.and_then(shown_at),
    };
    match fold(&history) {
        Ok(state) => fill(&mut view, &state),
        // Shown as it is: an unreadable history must not look like a good end.
        Err(error) => view.reason = Some(format!("its history makes no sense: {error}")),
    }
    Ok(view)
}

fn fill(view: &mut DeployView, state: &DeployState) {
    view.kind = Some(state.kind);
    view.release = state.release();
    view.waits = state.waiting.as_ref().map(|waiting| WaitView {
        because: waiting.because.clone(),
        until: waiting.until,
    });
    if let Some(plan) = &state.plan {
        view.image = Some(plan.release.image.to_string());
    }
    view.outcome = state.outcome();
    view.phase = texts::phase(state);
    view.reason = reason(state);
    if let Some(failure) = told(state) {
        view.hint = failure.hint.clone();
        view.log = failure.log.clone();
    }
    if let Phase::Back {
        users: Users::Stay, ..
    } = state.phase
    {
        view.phase = "staying: there is no better release".to_owned();
    }
}

/// The failure that tells most about how the deploy went.
fn told(state: &DeployState) -> Option<&Failure> {
    state.failure.as_ref().or(match state.outcome() {
        Some(Outcome::Failed) => state.setbacks.last(),
        _ => None,
    })
}

/// Why a deploy did not go as it was asked for, in a sentence.
pub(crate) fn reason(state: &DeployState) -> Option<String> {
    if let Some(Failure { reason, .. }) = told(state) {
        return Some(match (&state.failure, state.setbacks.last()) {
            (Some(_), Some(setback)) => format!("{reason}; and then: {}", setback.reason),
            _ => reason.clone(),
        });
    }
    if let Some(by) = &state.superseded_by {
        return Some(format!("the newer deploy {by} took its place"));
    }
    let by = state.aborted_by.as_ref()?;
    Some(format!("aborted by {by}"))
}

/// What serves the app's users, in a sentence.
pub(crate) fn serving(releases: &Releases) -> String {
    let serving = releases.serving.and_then(|number| releases.find(number));
    match serving {
        Some(known) => format!("{} serves ({})", known.release.number, known.release.image),
        None => "nothing serves".to_owned(),
    }
}

/// An app, as it is shown.
pub(crate) fn app(
    journal: &Journal,
    spec: &AppSpec,
    releases: &Releases,
    containers: &Result<Vec<Container>, ContainerError>,
    [deploying, waiting]: [Option<&DeployId>; 2],
) -> Result<AppView, JournalError> {
    let release = |number: Option<ReleaseNumber>, replicas: Option<u16>| {
        let known = releases.find(number?)?;
        Some(ReleaseView {
            number: known.release.number,
            image: known.release.image.to_string(),
            standing: known.standing,
            condition: condition(containers, known.release.number, replicas),
        })
    };
    let record = |id: Option<&DeployId>| match id {
        Some(id) => journal.deploy(id),
        None => Ok(None),
    };
    // The journal has ended it a moment before its engine turns to the next, and may
    // do so while we read: what ended is shown as that alone.
    let deploying = record(deploying)?.filter(|record| record.ended_at.is_none());
    let last = journal.last_ended(&spec.app)?;
    let ended = last.as_ref().map(|last| &last.deploy);
    let deploying = deploying.filter(|record| Some(&record.deploy) != ended);
    let show = |record: Option<DeployRecord>| {
        record
            .map(|record| deploy(journal, Some(spec), &record))
            .transpose()
    };
    Ok(AppView {
        app: spec.app.clone(),
        domains: spec.domains.clone(),
        serving: release(releases.serving, Some(spec.replicas)),
        standby: release(releases.standby, None),
        deploying: show(deploying)?,
        waiting: show(record(waiting)?)?,
        last: show(last)?,
    })
}

/// How it runs, in a word; of the release that serves, with how many containers
/// the app's file `wanted`.
fn condition(
    containers: &Result<Vec<Container>, ContainerError>,
    release: ReleaseNumber,
    wanted: Option<u16>,
) -> String {
    let containers = match containers {
        Ok(containers) => containers,
        Err(error) => return format!("unknown: {}", error.reason),
    };
    let of_release: Vec<_> = containers
        .iter()
        .filter(|container| container.release == release)
        .collect();
    let runs = |one: &&&Container| matches!(one.state, ContainerState::Running { .. });
    let running = of_release.iter().filter(runs).count();
    let wanted = wanted.map_or(of_release.len(), usize::from);
    if running > 0 && running != wanted {
        return format!("running {running} containers, not {wanted}");
    }
    match of_release.first().map(|container| &container.state) {
        Some(ContainerState::Running { .. }) => "running".to_owned(),
        Some(ContainerState::Starting) => "starting".to_owned(),
        Some(ContainerState::Exited { code, .. }) => format!("exited with {code}"),
        None => "no container".to_owned(),
    }
}
