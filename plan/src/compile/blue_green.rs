//! Blue-green: start beside, gate, shift all at once, watch; the old release
//! stays warm until the next deploy.

use std::collections::BTreeSet;

use super::{free_slot, must, tidy};
use crate::id::{Digest, ReleaseNumber};
use crate::observed::Observed;
use crate::plan::PlannedStep;
use crate::release::{Release, Standing};
use crate::spec::AppSpec;
use crate::step::{HealthCheck, IfFails, Step, Undo, WatchRule};

/// The steps that bring `release` into service beside whatever serves now.
pub(super) fn steps(spec: &AppSpec, observed: &Observed, release: &Release) -> Vec<PlannedStep> {
    let new = release.number;
    let serving = observed.releases.serving;
    let undo = match serving {
        Some(old) if observed.is_healthy(old) => Undo::Steps(vec![
            Step::Shift {
                to: Some(old),
                from: Some(new),
            },
            drain(spec, new),
        ]),
        // The release that serves answers nobody: whatever the new one is, it is better.
        Some(_) => Undo::Stay,
        None => Undo::Steps(vec![
            Step::Shift {
                to: None,
                from: Some(new),
            },
            drain(spec, new),
        ]),
    };
    let mut steps = bring_up(spec, observed, release);
    steps.push(gate(spec, new));
    steps.push(shift(new, serving, undo));
    steps.push(watch(spec, new));
    steps.extend(leave(spec, observed, release));
    steps
}

/// From nothing to started containers; what stood in the free slot goes first.
pub(super) fn bring_up(spec: &AppSpec, observed: &Observed, release: &Release) -> Vec<PlannedStep> {
    let image = release.image.clone();
    let mut steps = vec![
        must(
            Step::Preflight {
                image: image.clone(),
                memory: spec.run.memory,
            },
            Vec::new(),
        ),
        must(
            Step::Pull {
                image: image.clone(),
            },
            Vec::new(),
        ),
    ];
    // At most two releases are live, so everything but the serving one goes. It
    // may hold requests: of a drain that reached its deadline, or of a rollback
    // that was aborted.
    for number in observed.present() {
        if Some(number) != observed.releases.serving {
            steps.push(must(drain(spec, number), Vec::new()));
            steps.push(must(retire(spec, number), Vec::new()));
        }
    }
    let start = Step::Start {
        release: release.number,
        image,
        slot: free_slot(observed),
    };
    steps.push(must(start, vec![retire(spec, release.number)]));
    steps
}

/// Nobody is sent to a release that has not passed here.
pub(super) fn gate(spec: &AppSpec, release: ReleaseNumber) -> PlannedStep {
    let deadline = spec.health.deadline;
    must(
        Step::Gate {
            release,
            check: check(spec),
            deadline,
        },
        Vec::new(),
    )
}

pub(super) fn shift(to: ReleaseNumber, from: Option<ReleaseNumber>, undo: Undo) -> PlannedStep {
    PlannedStep {
        step: Step::Shift { to: Some(to), from },
        if_fails: IfFails::Undo,
        undo,
    }
}

pub(super) fn watch(spec: &AppSpec, release: ReleaseNumber) -> PlannedStep {
    let rule = WatchRule {
        window: spec.watch.window,
        max_error_rate: spec.watch.max_error_rate,
        max_latency_p99: spec.watch.max_latency_p99,
        min_requests: spec.watch.min_requests,
        on_no_verdict: spec.watch.on_no_verdict,
    };
    must(
        Step::Watch {
            release,
            check: check(spec),
            rule,
        },
        Vec::new(),
    )
}

/// What becomes of the release that served before, of orphans that a warm
/// rollback found beside it, and of images nobody needs. The new release has
/// proved itself by then, so nothing here takes it back.
pub(super) fn leave(spec: &AppSpec, observed: &Observed, release: &Release) -> Vec<PlannedStep> {
    let mut steps = Vec::new();
    let serving = observed.releases.serving;
    if let Some(old) = serving {
        steps.push(tidy(drain(spec, old)));
        if observed.is_healthy(old) {
            steps.push(tidy(Step::Standby { release: old }));
        } else {
            steps.push(tidy(retire(spec, old)));
        }
    }
    if observed.is_healthy(release.number) {
        for number in observed.present() {
            if Some(number) != serving && number != release.number {
                steps.push(tidy(drain(spec, number)));
                steps.push(tidy(retire(spec, number)));
            }
        }
    }
    steps.push(tidy(Step::Prune {
        keep: keep(observed, release),
    }));
    steps
}

/// The images of the new release, of the one that served before, and of those
/// that the next rollbacks could go to: the last two before the new one that
/// proved themselves.
fn keep(observed: &Observed, release: &Release) -> Vec<Digest> {
    const PROVEN_KEPT: usize = 2;
    let releases = &observed.releases;
    let serving = releases.serving.and_then(|number| releases.find(number));
    let older = releases.known.range(..release.number).rev();
    let proven = older
        .map(|(_, known)| known)
        .filter(|known| known.standing == Standing::Proven);
    let kept = serving.into_iter().chain(proven.take(PROVEN_KEPT));
    let mut digests: BTreeSet<_> = kept
        .map(|known| known.release.image.digest.clone())
        .collect();
    digests.insert(release.image.digest.clone());
    digests.into_iter().collect()
}

fn drain(spec: &AppSpec, release: ReleaseNumber) -> Step {
    Step::Drain {
        release,
        deadline: spec.drain_deadline,
    }
}

fn retire(spec: &AppSpec, release: ReleaseNumber) -> Step {
    Step::Retire {
        release,
        grace: spec.run.stop_grace,
    }
}

fn check(spec: &AppSpec) -> HealthCheck {
    HealthCheck {
        path: spec.health.path.clone(),
        interval: spec.health.interval,
        timeout: spec.health.timeout,
        successes: spec.health.successes,
    }
}
