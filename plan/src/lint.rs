//! What must hold for any plan, whatever strategy made it. The plan is played
//! on a small model of the world, forward and back from every place.
//!
//! The rules are the design's invariants that a plan alone can break: 2 (no
//! request to a container without its gate or told to stop; capacity rises
//! before weight and falls after it), 3 (two live releases at most, and while
//! a good release exists a good one serves), 5 (no success without users and a
//! watch), 6 (a rollback goes to a release that proved itself and is never
//! rolled back), 10 (every wait has a deadline).

mod world;

use std::collections::BTreeSet;
use std::fmt;

use crate::observed::Observed;
use crate::plan::{Kind, Plan, PlannedStep};
use crate::release::Standing;
use crate::step::{IfFails, Step, Undo};

use world::{Way, World};

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

/// More steps than any strategy needs, with an orphan container or two for
/// each release that an app remembers.
const MAX_STEPS: usize = 128;

/// Every rule that the plan breaks in the observed world.
pub fn lint(plan: &Plan, observed: &Observed) -> Vec<Violation> {
    let mut found = Found::default();
    check_frame(plan, observed, &mut found);
    let proved_after = plan.proved_after();
    let mut world = World::of(observed, plan.kind);
    for (index, planned) in plan.steps.iter().enumerate() {
        let place = format!("step {}", index + 1);
        check_place(planned, index < proved_after, plan.kind, &place, &mut found);
        let before = world.clone();
        world.play(&planned.step, Way::Forward, &place, &mut found);
        // Until the release is proven an abort turns the deploy back anywhere.
        if index < proved_after || planned.if_fails == IfFails::Undo {
            // A step that is in doubt may have had its effect or not. One that
            // nobody may undo is finished then, or was refused as a whole.
            let refused = match planned.undo {
                Undo::Steps(_) | Undo::Instead(_) => index + 1,
                Undo::Stay => index,
            };
            for (mut back, begun) in [(before, refused), (world.clone(), index + 1)] {
                for (number, step) in plan.way_back(begun).iter().enumerate() {
                    let place = format!("way back {} from step {}", number + 1, index + 1);
                    back.play(step, Way::Back, &place, &mut found);
                }
                let place = format!("the way back from step {}", index + 1);
                back.check_rest(plan.kind, &place, &mut found);
            }
        }
    }
    world.check_end(plan, &mut found);
    found.0.into_iter().collect()
}

/// The violations so far, each once.
#[derive(Debug, Default)]
struct Found(BTreeSet<Violation>);

impl Found {
    fn report(&mut self, invariant: u8, place: &str, fault: impl Into<String>) {
        self.0.insert(Violation {
            invariant,
            place: place.to_owned(),
            fault: fault.into(),
        });
    }
}

/// What the plan says of itself must agree with the world, because the way back
/// is judged by it.
fn check_frame(plan: &Plan, observed: &Observed, found: &mut Found) {
    let place = "the plan";
    let longest = plan.steps.len().max(plan.way_back(plan.steps.len()).len());
    if longest > MAX_STEPS {
        found.report(10, place, format!("{longest} steps, at most {MAX_STEPS}"));
    }
    let releases = &observed.releases;
    if plan.from != releases.serving {
        found.report(3, place, "it takes over from a release that does not serve");
    }
    if plan.kind == Kind::Retire && releases.serving == Some(plan.release.number) {
        found.report(3, place, "the release that serves is to be retired");
    }
    if plan.kind == Kind::Rollback {
        let target = plan.release.number;
        let known = releases.find(target);
        if known.is_none_or(|known| known.standing != Standing::Proven) {
            let fault = format!("{target} has not proved itself, no rollback goes to it");
            found.report(6, place, fault);
        }
        if releases.serving.is_some_and(|serving| target >= serving) {
            let fault = format!("{target} is not older than the release that serves");
            found.report(6, place, fault);
        }
    }
}

/// What a failure of the step may mean where it stands.
fn check_place(
    planned: &PlannedStep,
    before_proof: bool,
    kind: Kind,
    place: &str,
    found: &mut Found,
) {
    let name = planned.step.name();
    // Where nothing is proved there is nothing to take back.
    match (before_proof, planned.if_fails) {
        _ if kind.is_housekeeping() => {}
        (true, IfFails::Undo) | (false, IfFails::GoOn) => {}
        (true, IfFails::GoOn) => {
            found.report(
                5,
                place,
                format!("the deploy goes on although {name} failed"),
            );
        }
        (false, IfFails::Undo) => {
            let fault = format!("a failed {name} takes back a release that has proved itself");
            found.report(5, place, fault);
        }
    }
    let shifts = matches!(planned.step, Step::Shift { .. });
    if !before_proof && shifts && !kind.is_housekeeping() {
        found.report(5, place, "users are sent on after the last watch");
    }
    // To let go what was held is no way back from anywhere.
    if kind == Kind::Rollback
        && shifts
        && let Undo::Steps(steps) = &planned.undo
        && steps.iter().any(|step| matches!(step, Step::Shift { .. }))
    {
        found.report(6, place, "a rollback must not be rolled back");
    }
}
