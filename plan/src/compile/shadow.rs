//! Shadow: start beside, gate, compare on copies of safe requests, whose
//! answers nobody gets; then stop, or go on as blue-green.

use super::blue_green;
use super::draft::Draft;
use crate::id::ReleaseNumber;
use crate::spec::Then;
use crate::step::{Mirrored, SeenBy, Step, Undo};
use crate::traffic::Traffic;

/// The steps of a shadow beside `old`, which serves and answers.
pub(super) fn steps(draft: &mut Draft<'_>, old: ReleaseNumber) {
    let shadow = draft.spec.shadow;
    let new = draft.new_release();
    draft.bring_up();
    draft.gate_all();
    let copies = Mirrored {
        release: new,
        share: shadow.share,
    };
    let stop = Step::Mirror { to: None };
    draft.must(
        Step::Mirror { to: Some(copies) },
        Undo::Steps(vec![stop.clone()]),
    );
    draft.compare(shadow.window, old, SeenBy::Nobody);
    match shadow.then {
        Then::Continue => {
            draft.must(stop, Undo::NOTHING);
            blue_green::to_all_users(draft, Traffic::all_to(old));
            draft.leave();
        }
        Then::Stop => {
            draft.tidy(stop);
            draft.retire_for_good(new);
            draft.close();
        }
    }
}
