//! Blue-green: start beside, gate, shift all at once, watch; the old release
//! stays warm until the next deploy. Red-black differs in how long. A rollback
//! to a release that still runs leaves out what is there already.

use super::draft::Draft;
use crate::spec::ApprovedBefore;
use crate::step::HookPoint;
use crate::traffic::{Replicas, Traffic};

/// The steps that bring the release into service beside whatever serves now.
pub(super) fn steps(draft: &mut Draft<'_>) {
    match draft.is_warm_rollback() {
        // Requests that are split need no settling: the shift takes them all.
        true => draft.gate(Replicas::All),
        false => {
            draft.bring_up();
            draft.gate_all();
        }
    }
    let back = draft.old().map_or_else(Traffic::none, Traffic::all_to);
    to_all_users(draft, back);
    draft.leave();
}

/// From a healthy release without users to one that has proved itself with all
/// of them; where it does not, they go `back`.
pub(super) fn to_all_users(draft: &mut Draft<'_>, back: Traffic) {
    draft.before_shift();
    draft.approve(ApprovedBefore::Full);
    let all = Traffic::all_to(draft.new_release());
    draft.shift_or_back(all, back);
    draft.hook(HookPoint::AfterShift);
    draft.watch();
}
