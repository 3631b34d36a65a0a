//! Canary: start beside, gate, shift in stages, each judged against the old
//! release that runs beside it; the last stage is watched as after any shift.

use super::draft::Draft;
use crate::id::ReleaseNumber;
use crate::spec::{ApprovedBefore, Weight};
use crate::step::{HookPoint, SeenBy, Undo};
use crate::traffic::Traffic;

/// The steps of a canary beside `old`, which serves and answers.
pub(super) fn steps(draft: &mut Draft<'_>, old: ReleaseNumber) {
    let canary = &draft.spec.canary;
    draft.bring_up();
    draft.gate_all();
    draft.before_shift();
    let all = Traffic::all_to(draft.new_release());
    let stages = canary.weights.iter();
    let parts = stages.filter(|weight| **weight < Weight::FULL);
    for (stage, weight) in parts.enumerate() {
        let to = share(draft, old, *weight);
        match stage {
            0 => {
                draft.shift_or_back(to, Traffic::all_to(old));
                draft.hook(HookPoint::AfterShift);
            }
            // The way back from any stage is the way back from the first.
            _ => draft.shift(to, Undo::NOTHING),
        }
        draft.compare(canary.bake, old, SeenBy::Users);
    }
    draft.approve(ApprovedBefore::Full);
    match draft.traffic().sole() {
        // There was no stage before.
        Some(old) => {
            draft.shift_or_back(all, Traffic::all_to(old));
            draft.hook(HookPoint::AfterShift);
        }
        None => draft.shift(all, Undo::NOTHING),
    }
    draft.watch();
    draft.leave();
}

fn share(draft: &Draft<'_>, old: ReleaseNumber, weight: Weight) -> Traffic {
    let new = draft.new_release();
    let to = Traffic::split(old, new, weight);
    match draft.spec.canary.rules.is_empty() {
        true => to,
        false => to.with_chosen(new),
    }
}
