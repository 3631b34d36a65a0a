//! In-place, for hosts without room for two releases: requests are held, the
//! old release is drained and stopped, the new one starts in its place and gets
//! what was held. On the way back the old image starts again.
//!
//! Whatever can take long (the pull, a hook before the start, a person's word)
//! comes before the first request is held. There is no hook before the shift
//! and no preview: nobody should wait for those.

use super::draft::Draft;
use crate::id::{ReleaseNumber, Replica};
use crate::spec::ApprovedBefore;
use crate::step::{HookPoint, Step, Undo};
use crate::traffic::{Replicas, Traffic};

/// The steps that put the release in the place of `old`, which serves.
pub(super) fn steps(draft: &mut Draft<'_>, old: ReleaseNumber) {
    let healthy = draft.observed.is_healthy(old);
    draft.fetch();
    draft.make_room();
    draft.hook(HookPoint::BeforeStart);
    draft.approve(ApprovedBefore::Shift);
    draft.approve(ApprovedBefore::Full);
    let held = draft.traffic().clone();
    let to = |to: Traffic| Step::Shift {
        to,
        from: held.clone(),
    };
    let park = park(draft);
    let release = to(Traffic::all_to(old));
    draft.must(park.clone(), Undo::Steps(vec![release]));
    let drain = draft.drain_step(old, Replicas::All);
    draft.must(drain, Undo::NOTHING);
    let retire = draft.retire_step(old, Replicas::All);
    // A release that answered nobody is not started again: the route is
    // withdrawn, so that nobody waits in vain.
    let again = match healthy {
        true => Undo::Steps(draft.start_again(old, draft.observed.healthy_replicas_of(old))),
        false => Undo::Instead(vec![retire.clone(), to(Traffic::none())]),
    };
    draft.must(retire, again);
    draft.start((0..draft.spec.replicas).map(Replica).collect());
    draft.gate_all();
    let undo = match draft.is_rollback() || !healthy {
        true => Undo::Stay,
        false => Undo::Steps(vec![
            park,
            draft.drain_step(draft.new_release(), Replicas::All),
        ]),
    };
    draft.shift(Traffic::all_to(draft.new_release()), undo);
    draft.hook(HookPoint::AfterShift);
    draft.watch();
    draft.close();
}

fn park(draft: &Draft<'_>) -> Step {
    let in_place = draft.spec.in_place;
    Step::Park {
        requests: in_place.park_requests,
        deadline: in_place.park_deadline,
    }
}
