//! What must hold for any plan, whatever strategy made it. The plan is played
//! on a small model of the world, forward and back from every place.
//!
//! The rules are the design's invariants that a plan alone can break: 2 (no
//! request to a container without its gate or told to stop; capacity rises
//! before weight and falls after it), 3 (two live releases at most, and while
//! a good release exists a good one serves), 6 (a rollback is never rolled
//! back), 10 (every wait has a deadline).

use std::collections::BTreeSet;
use std::fmt;

use crate::id::ReleaseNumber;
use crate::observed::Observed;
use crate::plan::{Kind, Plan};
use crate::step::{IfFails, Step, Undo};

/// A rule that a plan breaks.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Violation {
    /// The number of the design's invariant.
    pub invariant: u8,
    /// Where in the plan.
    pub place: String,
    /// What is wrong.
    pub fault: String,
}

impl fmt::Display for Violation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self {
            invariant,
            place,
            fault,
        } = self;
        write!(f, "invariant {invariant}, {place}: {fault}")
    }
}

/// More steps than any strategy needs.
const MAX_STEPS: usize = 64;

/// Live releases of one app.
const MAX_LIVE: usize = 2;

/// Every rule that the plan breaks in the observed world.
pub fn lint(plan: &Plan, observed: &Observed) -> Vec<Violation> {
    let mut found = BTreeSet::new();
    if plan.steps.len() > MAX_STEPS {
        found.insert(Violation {
            invariant: 10,
            place: "the plan".to_owned(),
            fault: format!("{} steps, at most {MAX_STEPS}", plan.steps.len()),
        });
    }
    let mut world = World::of(observed);
    for (index, planned) in plan.steps.iter().enumerate() {
        let place = format!("step {}", index + 1);
        world.play(&planned.step, &place, &mut found);
        if plan.kind == Kind::Rollback
            && let Undo::Steps(steps) = &planned.undo
            && steps.iter().any(|step| matches!(step, Step::Shift { .. }))
        {
            found.insert(Violation {
                invariant: 6,
                place: place.clone(),
                fault: "a rollback must not be rolled back".to_owned(),
            });
        }
        if planned.if_fails == IfFails::Undo {
            // Played from the state after the step as well as before it: a
            // step that is in doubt may have had its effect or not.
            let mut back = world.clone();
            for (number, step) in plan.way_back(index + 1).iter().enumerate() {
                let place = format!("way back {} from step {}", number + 1, index + 1);
                back.play(step, &place, &mut found);
            }
            back.check_rest(plan, &place, &mut found);
        }
    }
    if !plan.steps.is_empty() {
        world.check_end(plan, &mut found);
    }
    found.into_iter().collect()
}

#[derive(Debug, Clone)]
struct World {
    live: BTreeSet<ReleaseNumber>,
    gated: BTreeSet<ReleaseNumber>,
    undrained: BTreeSet<ReleaseNumber>,
    serving: Option<ReleaseNumber>,
    /// Good when the plan began; a plan may not lose the last such release.
    good: BTreeSet<ReleaseNumber>,
}

impl World {
    fn of(observed: &Observed) -> Self {
        let live: BTreeSet<_> = observed.present().into_iter().collect();
        let serving = observed.releases.serving;
        let good = live
            .iter()
            .copied()
            .filter(|n| observed.is_healthy(*n))
            .collect();
        Self {
            live,
            // What served until now passed its gate when it came; standby
            // releases must pass it again, because they may have died since.
            gated: serving.into_iter().collect(),
            undrained: serving.into_iter().collect(),
            serving,
            good,
        }
    }

    fn play(&mut self, step: &Step, place: &str, found: &mut BTreeSet<Violation>) {
        let mut report = |invariant, fault: String| {
            let place = place.to_owned();
            found.insert(Violation {
                invariant,
                place,
                fault,
            });
        };
        if step.deadline().is_zero() || step.deadline() > Step::MAX_DEADLINE {
            report(10, format!("{} has no sane deadline", step.name()));
        }
        match step {
            Step::Start { release, .. } => {
                self.live.insert(*release);
                self.gated.remove(release);
                if self.live.len() > MAX_LIVE {
                    report(
                        3,
                        format!("{release} would be live release number {}", self.live.len()),
                    );
                }
            }
            Step::Gate { release, .. } => {
                if !self.live.contains(release) {
                    report(2, format!("{release} is gated before it is started"));
                }
                self.gated.insert(*release);
            }
            Step::Shift { to, .. } => {
                if let Some(to) = to {
                    if !self.live.contains(to) {
                        report(2, format!("requests go to {to}, which does not run"));
                    }
                    if !self.gated.contains(to) {
                        report(
                            2,
                            format!("requests go to {to}, which has not passed its gate"),
                        );
                    }
                    self.undrained.insert(*to);
                } else if self.good.iter().any(|good| self.live.contains(good)) {
                    report(3, "no release serves although a good one lives".to_owned());
                }
                self.serving = *to;
            }
            Step::Retire { release, .. } => {
                if self.serving == Some(*release) {
                    report(2, format!("{release} is stopped while requests go to it"));
                } else if self.undrained.contains(release) {
                    report(2, format!("{release} is stopped before it is drained"));
                }
                self.live.remove(release);
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
                if !self.live.contains(release) {
                    report(3, format!("{release} cannot stand by: it does not run"));
                }
            }
            Step::Preflight { .. } | Step::Pull { .. } | Step::Prune { .. } => {}
        }
    }

    fn check_end(&self, plan: &Plan, found: &mut BTreeSet<Violation>) {
        let new = plan.release.number;
        if self.serving != Some(new) {
            found.insert(Violation {
                invariant: 5,
                place: "the end".to_owned(),
                fault: format!("{new} does not serve"),
            });
        }
        let watched = plan
            .steps
            .iter()
            .any(|p| matches!(&p.step, Step::Watch { release, .. } if *release == new));
        if !watched {
            found.insert(Violation {
                invariant: 5,
                place: "the end".to_owned(),
                fault: format!("{new} was never watched"),
            });
        }
    }

    /// After a way back, the release that served before must serve again,
    /// unless the plan says that there is no better one than the new.
    fn check_rest(&self, plan: &Plan, place: &str, found: &mut BTreeSet<Violation>) {
        let had_good = plan.from.is_some_and(|from| self.good.contains(&from));
        let serves_good = self.serving.is_some_and(|n| self.good.contains(&n));
        if had_good && !serves_good && plan.kind == Kind::Deploy {
            found.insert(Violation {
                invariant: 3,
                place: format!("the way back from {place}"),
                fault: "the good release before does not serve again".to_owned(),
            });
        }
    }
}
