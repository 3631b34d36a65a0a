//! Scaling: the release that serves gets more containers, or has fewer. No user
//! changes the release, so nothing is watched: containers that answer as their
//! neighbours do are the same program.
//!
//! Those that have users are named first, or one that is not gated yet would
//! get its share as soon as it runs. Where none is left, nobody answers, and
//! whatever starts is better.

use std::collections::BTreeSet;

use super::CompileError;
use super::draft::{Draft, newest_good};
use crate::id::{ReleaseNumber, Replica, Slot};
use crate::spec::Weight;
use crate::step::{Step, Undo};
use crate::traffic::{Replicas, Traffic};

/// The steps, and why. One that is there and does not run is the engine's to start
/// again: it may do so at any moment. What is `idle` goes before.
pub(super) fn steps(
    draft: &mut Draft<'_>,
    idle: &BTreeSet<Replica>,
) -> Result<String, CompileError> {
    let release = draft.new_release();
    let there = draft.observed.replicas_of(release);
    let wanted: BTreeSet<_> = (0..draft.spec.replicas).map(Replica).collect();
    if there.is_empty() {
        return Ok(from_nothing(draft, wanted));
    }
    if !draft.observed.runs(release) {
        return Err(CompileError::NothingToScale);
    }
    let missing: BTreeSet<_> = wanted.difference(&there).copied().collect();
    let surplus: BTreeSet<_> = there.difference(&wanted).copied().collect();
    let because = match (there.len(), wanted.len()) {
        (has, wants) if has == wants => format!("{release} has {has} containers by other numbers"),
        (1, wants) => format!("{release} has 1 container, the app's file says {wants}"),
        (has, wants) => format!("{release} has {has} containers, the app's file says {wants}"),
    };
    if there == wanted {
        return Ok(match idle.is_empty() {
            true => format!("{release} has its containers: nothing to do"),
            false => format!("containers of {release} that serve nobody were left behind"),
        });
    }
    let only = |these: &BTreeSet<Replica>| all_to(release, these);
    if !missing.is_empty() {
        draft.fetch_more(missing.len());
        if *draft.traffic() != only(&there) {
            draft.shift(only(&there), Undo::NOTHING);
        }
        draft.start(missing.clone());
    }
    // Whoever takes the users of others must answer.
    let gated = match surplus.is_empty() {
        true => missing.clone(),
        false => wanted.clone(),
    };
    draft.gate(Replicas::Only(gated));
    let mut back = vec![Step::Shift {
        to: only(&there),
        from: only(&wanted),
    }];
    if !missing.is_empty() {
        back.push(draft.drain_step(release, Replicas::Only(missing)));
    }
    draft.shift(only(&wanted), Undo::Steps(back));
    if !surplus.is_empty() {
        let these = Replicas::Only(surplus);
        draft.tidy(draft.drain_step(release, these.clone()));
        draft.tidy(draft.retire_step(release, these));
    }
    Ok(because)
}

/// Somebody removed all that there was of the release. What starts stays, healthy
/// or not: the engine goes on with it as it did with those before.
fn from_nothing(draft: &mut Draft<'_>, wanted: BTreeSet<Replica>) -> String {
    let release = draft.new_release();
    let to = all_to(release, &wanted);
    draft.fetch_more(wanted.len());
    let beside = newest_good(draft.observed);
    draft.make_room_beside(beside);
    let taken = beside.and_then(|one| draft.observed.slot_of(one));
    draft.start_for_good(taken.map_or(Slot::Blue, Slot::other), wanted);
    draft.gate_all();
    draft.shift(to, Undo::Stay);
    format!("no container of {release} is left, which should serve")
}

fn all_to(release: ReleaseNumber, these: &BTreeSet<Replica>) -> Traffic {
    Traffic::of([(release, Weight::FULL, Replicas::Only(these.clone()))])
}
