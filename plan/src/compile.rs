//! From a spec and the observed world to a plan. Pure: the same arguments give
//! the same plan, and carrying it out takes no decision that is not in it.
//!
//! A strategy is a short list of calls on a draft; where there is no old
//! release, or it answers nobody, every strategy but in-place comes down to
//! blue-green: there is nothing to compare with and nothing to be careful of.

mod blue_green;
mod canary;
mod draft;
mod in_place;
mod rolling;
mod scale;
mod shadow;

use std::collections::BTreeSet;

use crate::id::{ImageReference, ReleaseNumber, Replica};
use crate::observed::{Observed, STALE};
use crate::plan::{Kind, Plan, PlannedStep};
use crate::release::{Release, Standing};
use crate::spec::{AppSpec, Strategy, render_duration};
use crate::step::Step;
use crate::traffic::Replicas;

use draft::Draft;

/// What is wanted.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Request {
    /// This image, with what the host's configuration gives it now.
    Deploy {
        /// The image.
        image: ImageReference,
        /// See [`Release::fingerprint`].
        fingerprint: String,
        /// See [`Release::commit`].
        commit: Option<String>,
    },
    /// The last release that proved itself.
    Rollback,
    /// That the release that stands by does so no more.
    RetireStandby,
    /// That the release that serves has as many containers as the app's file says.
    Scale {
        /// What the host's configuration gives a container now.
        fingerprint: String,
    },
}

impl Request {
    /// What a deploy of this request is for.
    pub fn kind(&self) -> Kind {
        match self {
            Self::Deploy { .. } => Kind::Deploy,
            Self::Rollback => Kind::Rollback,
            Self::RetireStandby => Kind::Retire,
            Self::Scale { .. } => Kind::Scale,
        }
    }
}

/// Why there is no plan.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum CompileError {
    /// The image is not the app's.
    #[error("the app runs images of {allowed} only, not of {asked}")]
    ForeignImage {
        /// What the host's configuration names.
        allowed: String,
        /// What the request brought.
        asked: String,
    },
    /// There is no release to go back to.
    #[error("there is no earlier release that has proved itself")]
    NothingToRollBackTo,
    /// There is no release to retire.
    #[error("no release stands by")]
    NothingStandsBy,
    /// The release that stands by is the only one that answers.
    #[error("{serving} serves but does not answer, so {standby} stays")]
    StandbyIsNeeded {
        /// The release that serves.
        serving: ReleaseNumber,
        /// The release that stands by.
        standby: ReleaseNumber,
    },
    /// There is no release that more or fewer containers could be made of.
    #[error("no release serves all users with a container that runs")]
    NothingToScale,
    /// More containers would not be of the same release.
    #[error("the configuration of {serving} was changed beside the number of its containers")]
    Reconfigured {
        /// The release that serves.
        serving: ReleaseNumber,
    },
}

impl CompileError {
    /// What the person can do.
    pub fn hint(&self) -> &'static str {
        match self {
            Self::ForeignImage { .. } => {
                "change image in the app's file on the host, or deploy to the app that runs this image"
            }
            Self::NothingToRollBackTo => "deploy a good image instead: it becomes the next release",
            Self::NothingStandsBy => "there is nothing to do",
            Self::StandbyIsNeeded { .. } => "roll back to it, or deploy a good image",
            Self::NothingToScale => "deploy an image, or roll back",
            Self::Reconfigured { .. } => "deploy the same image again: that brings both",
        }
    }
}

/// Whether the app may run the image at all, whatever else is the case.
pub fn check_image(spec: &AppSpec, image: &ImageReference) -> Result<(), CompileError> {
    if image.repository == spec.image {
        return Ok(());
    }
    Err(CompileError::ForeignImage {
        allowed: spec.image.to_string(),
        asked: image.repository.to_string(),
    })
}

/// Makes the plan of a request.
pub fn compile(
    spec: &AppSpec,
    observed: &Observed,
    request: &Request,
) -> Result<Plan, CompileError> {
    let (observed, idle) = &observed.without_idle();
    match request {
        Request::Deploy {
            image,
            fingerprint,
            commit,
        } => {
            check_image(spec, image)?;
            let release = Release {
                number: free_number(observed),
                image: image.clone(),
                fingerprint: fingerprint.clone(),
                commit: commit.clone(),
            };
            Ok(deploy(spec, observed, idle, release))
        }
        Request::Rollback => {
            let target = observed.releases.rollback_target();
            let target = target.ok_or(CompileError::NothingToRollBackTo)?.clone();
            Ok(rollback(spec, observed, idle, target))
        }
        Request::RetireStandby => {
            let standby = observed.releases.standby;
            let standby = standby.and_then(|number| observed.releases.find(number));
            let standby = standby.ok_or(CompileError::NothingStandsBy)?;
            let number = standby.release.number;
            let serving = observed.releases.serving;
            let broken = serving.filter(|serving| !observed.is_healthy(*serving));
            if let Some(serving) = broken.filter(|_| observed.is_healthy(number)) {
                let standby = number;
                return Err(CompileError::StandbyIsNeeded { serving, standby });
            }
            Ok(retire(spec, observed, standby.release.clone()))
        }
        Request::Scale { fingerprint } => {
            let serving = observed.releases.traffic.sole();
            let known = serving.and_then(|serving| observed.releases.find(serving));
            let release = &known.ok_or(CompileError::NothingToScale)?.release;
            if release.fingerprint != *fingerprint {
                let serving = release.number;
                return Err(CompileError::Reconfigured { serving });
            }
            let mut draft = Draft::new(spec, observed, release, Kind::Scale);
            draft.drop_idle(idle);
            let because = scale::steps(&mut draft, idle)?;
            Ok(draft.finish(because))
        }
    }
}

fn deploy(spec: &AppSpec, observed: &Observed, idle: &BTreeSet<Replica>, release: Release) -> Plan {
    if let Some(known) = is_there_already(spec, observed, &release) {
        let because = format!("{} is this image and serves: nothing to do", known.number);
        return Draft::new(spec, observed, known, Kind::Deploy).finish(because);
    }
    let mut draft = Draft::new(spec, observed, &release, Kind::Deploy);
    draft.drop_idle(idle);
    let new = release.number;
    let serving = observed.releases.serving;
    let because = match draft.old() {
        Some(old) if Some(old) != serving && serving.is_some() => {
            format!("what serves does not answer: {old} takes over until {new} is healthy")
        }
        None => "first release: nothing to compare with, nothing to keep".to_owned(),
        Some(old) if draft.good_old().is_none() => {
            format!("{old} serves but does not answer: no way back to it")
        }
        Some(old) if spec.strategy == Strategy::InPlace => {
            format!("{old} makes room for {new}: requests wait")
        }
        Some(old) if draft.is_only_shadow() => format!("{old} serves; {new} gets copies only"),
        Some(old) => format!("{old} serves until {new} is healthy"),
    };
    match (spec.strategy, draft.running_old(), draft.good_old()) {
        (Strategy::InPlace, Some(old), _) => in_place::steps(&mut draft, old),
        (Strategy::Canary, _, Some(old)) => canary::steps(&mut draft, old),
        (Strategy::Rolling, _, Some(old)) => rolling::steps(&mut draft, old),
        (Strategy::Shadow, _, Some(old)) => shadow::steps(&mut draft, old),
        (Strategy::BlueGreen | Strategy::RedBlack, _, _)
        | (Strategy::InPlace, None, _)
        | (Strategy::Canary | Strategy::Rolling | Strategy::Shadow, _, None) => {
            blue_green::steps(&mut draft);
        }
    }
    draft.finish(because)
}

/// The release that serves, if it is this one, proven, alone, and all of it healthy.
fn is_there_already<'o>(
    spec: &AppSpec,
    observed: &'o Observed,
    release: &Release,
) -> Option<&'o Release> {
    let serving = observed.releases.serving?;
    let known = observed.releases.find(serving)?;
    let same = known.release.image == release.image
        && known.release.fingerprint == release.fingerprint
        && known.standing == Standing::Proven
        && observed.releases.traffic.sole() == Some(serving)
        && draft::is_whole(spec, observed, serving);
    same.then_some(&known.release)
}

fn rollback(
    spec: &AppSpec,
    observed: &Observed,
    idle: &BTreeSet<Replica>,
    target: Release,
) -> Plan {
    let mut draft = Draft::new(spec, observed, &target, Kind::Rollback);
    let warm = draft.is_warm_rollback();
    if !warm {
        draft.drop_idle(idle);
    }
    let because = match (warm, draft.old()) {
        (true, Some(old)) if old != target.number => {
            format!("{} is still warm beside {old}", target.number)
        }
        (true, _) => format!("{} still runs", target.number),
        _ => format!("{} must be started again", target.number),
    };
    match (spec.strategy, draft.running_old()) {
        (Strategy::InPlace, Some(old)) if !warm => in_place::steps(&mut draft, old),
        _ => blue_green::steps(&mut draft),
    }
    draft.finish(because)
}

fn retire(spec: &AppSpec, observed: &Observed, standby: Release) -> Plan {
    let number = standby.number;
    let mut draft = Draft::new(spec, observed, &standby, Kind::Retire);
    draft.settle();
    draft.must_retire(number, Replicas::All);
    draft.prune();
    draft.finish(format!("{number} has stood by for its time"))
}

/// A number that no release of the app has or had. Containers of which the
/// journal knows nothing may hold numbers that it has yet to give.
fn free_number(observed: &Observed) -> ReleaseNumber {
    let next = observed.releases.next_number();
    let highest = observed.present().into_iter().max();
    highest.map_or(next, |highest| next.max(highest.next()))
}

/// What a person should know of the steps and of the world they were made for.
fn notes(spec: &AppSpec, observed: &Observed, steps: &[PlannedStep]) -> Vec<String> {
    let mut notes = Vec::new();
    if observed.age >= STALE {
        let age = render_duration(observed.age);
        notes.push(format!("the host was looked at {age} ago"));
    }
    match &observed.traffic {
        Some(traffic) if *traffic != observed.releases.traffic => notes.push(format!(
            "the proxy sends requests to {traffic}, the journal says {}",
            observed.releases.traffic
        )),
        Some(_) => {}
        None => notes.push("the proxy did not answer".to_owned()),
    }
    let held = spec.in_place.park_deadline;
    let longest = spec.drain_deadline + spec.run.stop_grace + spec.health.deadline;
    let parks = |p: &PlannedStep| matches!(p.step, Step::Park { .. });
    if steps.iter().any(parks) && held < longest {
        notes.push(format!(
            "a request is held for {} at the most; in the worst case the change takes {}",
            render_duration(held),
            render_duration(longest)
        ));
    }
    let wanted = steps.iter().find_map(|p| match p.step {
        Step::Preflight { memory, .. } => memory,
        _ => None,
    });
    if let (Some(wanted), Some(free)) = (wanted, observed.memory)
        && wanted > free
    {
        notes.push(format!(
            "the release may take {wanted} of memory, {free} are free: preflight would refuse it"
        ));
    }
    notes
}
