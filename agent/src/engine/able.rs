//! What this agent can drive, and what it says of an app that needs more.

use cutover_plan::ability::{Ability, Need};
use cutover_plan::plan::Plan;
use cutover_plan::spec::AppSpec;

/// The abilities that this agent and its proxy have. What is not here is
/// refused at the call, and never begun.
pub const ABILITIES: &[Ability] = &Ability::ALL;

/// What a deploy of the app would need and this agent lacks, as a sentence and
/// a hint; none where it lacks nothing.
pub fn lacking(spec: &AppSpec) -> Option<(String, String)> {
    let lacks = |need: &Need| !ABILITIES.contains(&need.ability);
    let needs: Vec<_> = spec.needs().into_iter().filter(lacks).collect();
    if needs.is_empty() {
        return None;
    }
    let told: Vec<_> = needs.iter().map(Need::to_string).collect();
    let mut instead: Vec<_> = needs.iter().map(|need| need.instead).collect();
    instead.dedup();
    let reason = format!("this host cannot do it yet: {}", told.join("; "));
    let hint = format!("in the app's file on the host, {}", instead.join(", and "));
    Some((reason, hint))
}

/// What the steps of a plan need and this agent lacks, as a sentence.
pub(super) fn lacking_for(plan: &Plan) -> Option<String> {
    let needs = plan.needs();
    let lacks = needs.iter().filter(|need| !ABILITIES.contains(need));
    let told: Vec<_> = lacks.map(ToString::to_string).collect();
    let all = told.join("; ");
    (!told.is_empty()).then(|| format!("this host cannot carry it out yet, which needs {all}"))
}
