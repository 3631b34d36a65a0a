//! The small model of the world that a plan is played on.

use std::collections::{BTreeMap, BTreeSet};

use super::Found;
use crate::id::{Digest, ReleaseNumber, Slot};
use crate::observed::Observed;
use crate::plan::{Kind, Plan};
use crate::release::Standing;
use crate::step::Step;

/// Live releases of one app.
const MAX_LIVE: usize = 2;

/// Which list of steps is played.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Way {
    /// The steps of the plan.
    Forward,
    /// The steps that take them back.
    Back,
}

#[derive(Debug, Clone)]
pub(super) struct World {
    /// Releases with containers, and the slot of each.
    live: BTreeMap<ReleaseNumber, Slot>,
    gated: BTreeSet<ReleaseNumber>,
    undrained: BTreeSet<ReleaseNumber>,
    serving: Option<ReleaseNumber>,
    /// The release that served when the plan began.
    served: Option<ReleaseNumber>,
    /// Healthy when the plan began: what a way back may lead to.
    good: BTreeSet<ReleaseNumber>,
    proven: BTreeSet<ReleaseNumber>,
    images: BTreeMap<ReleaseNumber, Digest>,
}

impl World {
    pub(super) fn of(observed: &Observed) -> Self {
        let slots = |number| Some((number, observed.slot_of(number)?));
        let live: BTreeMap<_, _> = observed.present().into_iter().filter_map(slots).collect();
        let healthy = |number: &ReleaseNumber| observed.is_healthy(*number);
        let good = live.keys().copied().filter(healthy).collect();
        let releases = &observed.releases;
        let known = releases.known.iter();
        let proven = known
            .clone()
            .filter(|(_, k)| k.standing == Standing::Proven);
        let undrained = live.keys().copied().chain(releases.serving).collect();
        Self {
            live,
            // What served until now passed its gate when it came; standby
            // releases must pass it again, because they may have died since.
            gated: releases.serving.into_iter().collect(),
            // Also what serves no more may hold requests from when it did.
            undrained,
            serving: releases.serving,
            served: releases.serving,
            good,
            proven: proven.map(|(number, _)| *number).collect(),
            images: known
                .map(|(number, known)| (*number, known.release.image.digest.clone()))
                .collect(),
        }
    }

    pub(super) fn play(&mut self, step: &Step, way: Way, place: &str, found: &mut Found) {
        let mut report = |invariant, fault: String| found.report(invariant, place, fault);
        if waits_without_end(step) {
            report(10, format!("{} has no sane deadline", step.name()));
        }
        match step {
            Step::Start {
                release,
                slot,
                image,
            } => {
                let neighbour = self.live.iter().find(|(n, s)| *n != release && *s == slot);
                if let Some((neighbour, _)) = neighbour {
                    report(
                        3,
                        format!("{release} starts in {slot}, where {neighbour} runs"),
                    );
                }
                self.live.insert(*release, *slot);
                self.gated.remove(release);
                self.images.insert(*release, image.digest.clone());
                if self.live.len() > MAX_LIVE {
                    let number = self.live.len();
                    report(
                        3,
                        format!("{release} would be live release number {number}"),
                    );
                }
            }
            Step::Gate { release, check, .. } => {
                if !self.live.contains_key(release) {
                    report(2, format!("{release} is gated before it is started"));
                }
                if check.successes == 0 {
                    report(2, format!("{release} passes its gate without an answer"));
                }
                self.gated.insert(*release);
            }
            Step::Shift { to, from } => {
                if way == Way::Forward && *from != self.serving {
                    let fault = "requests are taken from a release that does not have them";
                    report(2, fault.to_owned());
                }
                self.shift(*to, way, &mut report);
            }
            Step::Retire { release, .. } => {
                if self.serving == Some(*release) {
                    report(2, format!("{release} is stopped while requests go to it"));
                } else if self.undrained.contains(release) {
                    report(2, format!("{release} is stopped before it is drained"));
                }
                self.live.remove(release);
                self.gated.remove(release);
                self.undrained.remove(release);
            }
            Step::Drain { release, .. } => {
                if self.serving == Some(*release) {
                    report(2, format!("{release} is drained while requests go to it"));
                }
                self.undrained.remove(release);
            }
            Step::Watch { release, .. } => {
                if self.serving != Some(*release) {
                    report(5, format!("{release} is watched without the users"));
                }
            }
            Step::Standby { release } => {
                if !self.live.contains_key(release) {
                    report(3, format!("{release} cannot stand by: it does not run"));
                }
            }
            Step::Prune { keep } => {
                let pruned = |number: &&ReleaseNumber| {
                    let image = self.images.get(number);
                    image.is_some_and(|image| !keep.contains(image))
                };
                if let Some(number) = self.live.keys().find(pruned) {
                    report(6, format!("the image of {number} is removed while it runs"));
                }
            }
            Step::Preflight { .. } | Step::Pull { .. } => {}
        }
    }

    fn shift(&mut self, to: Option<ReleaseNumber>, way: Way, report: &mut impl FnMut(u8, String)) {
        match to {
            Some(to) => {
                if !self.live.contains_key(&to) {
                    report(2, format!("requests go to {to}, which does not run"));
                } else if !self.gated.contains(&to) {
                    report(
                        2,
                        format!("requests go to {to}, which has not passed its gate"),
                    );
                } else if way == Way::Back && !self.good.contains(&to) {
                    report(
                        3,
                        format!("requests go back to {to}, which does not answer"),
                    );
                }
                self.undrained.insert(to);
            }
            None => {
                if self.good.iter().any(|good| self.live.contains_key(good)) {
                    report(3, "no release serves although a good one lives".to_owned());
                }
            }
        }
        self.serving = to;
    }

    /// After the last step the release serves and was watched; a plan without
    /// steps says that all of this was so before.
    pub(super) fn check_end(&self, plan: &Plan, found: &mut Found) {
        let new = plan.release.number;
        let place = "the end";
        if self.serving != Some(new) {
            found.report(5, place, format!("{new} does not serve"));
        }
        if plan.steps.is_empty() {
            if !self.good.contains(&new) || !self.proven.contains(&new) {
                found.report(5, place, format!("{new} is not known to be good"));
            }
            return;
        }
        let of_new = |step: &Step| matches!(step, Step::Watch { release, .. } if *release == new);
        if !plan.steps.iter().any(|planned| of_new(&planned.step)) {
            found.report(5, place, format!("{new} was never watched"));
        }
        if self.live.len() > MAX_LIVE {
            found.report(
                3,
                place,
                format!("{} releases are left live", self.live.len()),
            );
        }
    }

    /// After a way back, the release that served before must serve again,
    /// unless the plan says that there is no better one than the new.
    pub(super) fn check_rest(&self, kind: Kind, place: &str, found: &mut Found) {
        if self.served.is_some() && self.serving.is_none() {
            found.report(3, place, "no release serves although one did before");
        }
        let had_good = self.served.is_some_and(|n| self.good.contains(&n));
        let serves_good = self.serving.is_some_and(|n| self.good.contains(&n));
        if had_good && !serves_good && kind == Kind::Deploy {
            let fault = "the good release before does not serve again";
            found.report(3, place, fault);
        }
    }
}

/// Whether the step waits longer than any step may, or not at all where
/// nothing could be learned in no time.
fn waits_without_end(step: &Step) -> bool {
    let empty = match step {
        Step::Gate {
            deadline, check, ..
        } => deadline.is_zero() || check.timeout.is_zero(),
        Step::Watch { check, rule, .. } => rule.window.is_zero() || check.timeout.is_zero(),
        // A drain of nothing and a stop without grace are what the app's file may ask for.
        Step::Preflight { .. }
        | Step::Pull { .. }
        | Step::Start { .. }
        | Step::Shift { .. }
        | Step::Drain { .. }
        | Step::Standby { .. }
        | Step::Retire { .. }
        | Step::Prune { .. } => false,
    };
    empty || step.deadline() > Step::MAX_DEADLINE
}
