//! From a spec and the observed world to a plan. Pure: the same arguments give
//! the same plan, and carrying it out takes no decision that is not in it.

mod blue_green;

use crate::id::{ImageReference, ReleaseNumber, Slot};
use crate::observed::Observed;
use crate::plan::{Kind, Plan, PlannedStep};
use crate::release::{Release, Standing};
use crate::spec::{AppSpec, Strategy};
use crate::step::{IfFails, Step, Undo};

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
}

impl CompileError {
    /// What the person can do.
    pub fn hint(&self) -> &'static str {
        match self {
            Self::ForeignImage { .. } => {
                "change image in the app's file on the host, or deploy to the app that runs this image"
            }
            Self::NothingToRollBackTo => "deploy a good image instead: it becomes the next release",
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
            Ok(deploy(spec, observed, release))
        }
        Request::Rollback => {
            let target = observed.releases.rollback_target();
            let target = target.ok_or(CompileError::NothingToRollBackTo)?.clone();
            Ok(rollback(spec, observed, target))
        }
    }
}

fn deploy(spec: &AppSpec, observed: &Observed, release: Release) -> Plan {
    let serving = observed.releases.serving;
    let known = serving.and_then(|number| observed.releases.find(number));
    let same = known.filter(|known| {
        known.standing == Standing::Proven
            && known.release.image == release.image
            && known.release.fingerprint == release.fingerprint
            && observed.is_healthy(known.release.number)
    });
    if let Some(known) = same {
        let because = format!(
            "{} is this image and serves: nothing to do",
            known.release.number
        );
        return plan(
            spec,
            Kind::Deploy,
            known.release.clone(),
            serving,
            because,
            Vec::new(),
        );
    }
    let steps = match spec.strategy {
        Strategy::BlueGreen => blue_green::steps(spec, observed, &release),
    };
    let because = match serving {
        None => "first release: nothing to compare with, nothing to keep".to_owned(),
        Some(old) if !observed.is_healthy(old) => {
            format!("{old} serves but does not answer: no way back to it")
        }
        Some(old) => format!("{old} serves until {} is healthy", release.number),
    };
    plan(spec, Kind::Deploy, release, serving, because, steps)
}

fn rollback(spec: &AppSpec, observed: &Observed, target: Release) -> Plan {
    let serving = observed.releases.serving;
    let warm = observed.is_healthy(target.number);
    let because = match (warm, serving) {
        (true, Some(old)) => format!("{} is still warm beside {old}", target.number),
        _ => format!("{} must be started again", target.number),
    };
    let mut steps = Vec::new();
    if !warm {
        steps.extend(blue_green::bring_up(spec, observed, &target));
    }
    steps.push(blue_green::gate(spec, target.number));
    // A rollback is never rolled back: whatever follows, the users stay.
    steps.push(blue_green::shift(target.number, serving, Undo::Stay));
    steps.push(blue_green::watch(spec, target.number));
    steps.extend(blue_green::leave(spec, observed, &target));
    plan(spec, Kind::Rollback, target, serving, because, steps)
}

fn plan(
    spec: &AppSpec,
    kind: Kind,
    release: Release,
    from: Option<ReleaseNumber>,
    because: String,
    steps: Vec<PlannedStep>,
) -> Plan {
    Plan {
        app: spec.app.clone(),
        kind,
        strategy: spec.strategy,
        release,
        from,
        because,
        steps,
    }
}

/// A number that no release of the app has or had. Containers of which the
/// journal knows nothing may hold numbers that it has yet to give.
fn free_number(observed: &Observed) -> ReleaseNumber {
    let next = observed.releases.next_number();
    let highest = observed.present().into_iter().max();
    highest.map_or(next, |highest| next.max(highest.next()))
}

/// The slot that is free beside the serving release.
fn free_slot(observed: &Observed) -> Slot {
    let serving = observed.releases.serving;
    let taken = serving.and_then(|number| observed.slot_of(number));
    taken.map_or(Slot::Blue, Slot::other)
}

fn must(step: Step, undo: Vec<Step>) -> PlannedStep {
    PlannedStep {
        step,
        if_fails: IfFails::Undo,
        undo: Undo::Steps(undo),
    }
}

fn tidy(step: Step) -> PlannedStep {
    PlannedStep {
        step,
        if_fails: IfFails::GoOn,
        undo: Undo::Steps(Vec::new()),
    }
}
