//! Rolling: replicas are replaced a few at a time, each gated before it gets
//! users, and the old ones in its place are stopped after they lost theirs.
//! On the way back the replaced ones return, batch by batch.
//!
//! Capacity never falls: a batch starts before the one that it replaces ends.
//! The old replicas of the last batch stay until the release has proved itself.

use std::collections::BTreeSet;

use super::draft::Draft;
use crate::id::{ReleaseNumber, Replica};
use crate::spec::{ApprovedBefore, Weight};
use crate::step::{HookPoint, SeenBy, Step, Undo};
use crate::traffic::{Replicas, Traffic};

/// The steps that replace `old`, which serves and answers.
pub(super) fn steps(draft: &mut Draft<'_>, old: ReleaseNumber) {
    draft.fetch();
    draft.make_room();
    draft.hook(HookPoint::BeforeStart);
    let mut change = Change::begin(draft, old);
    let batches = batches(draft.spec.replicas, draft.spec.rolling.batch);
    for (index, batch) in batches.iter().enumerate() {
        let is_last = index + 1 == batches.len();
        draft.start(batch.clone());
        draft.gate(Replicas::Only(batch.clone()));
        if index == 0 {
            draft.before_shift();
        }
        if is_last {
            draft.approve(ApprovedBefore::Full);
        }
        let gone = change.replace(draft, batch, is_last);
        if index == 0 {
            // Replicas come and go from here on, also on the way back.
            draft.end_preview();
            draft.hook(HookPoint::AfterShift);
        }
        if !is_last {
            change.retire(draft, gone);
            let bake = draft.spec.rolling.bake;
            if !bake.is_zero() {
                draft.compare(bake, old, SeenBy::Users);
            }
        }
    }
    draft.watch();
    draft.retire_for_good(old);
    draft.close();
}

/// The replicas of a release, a few at a time.
fn batches(replicas: u16, batch: u16) -> Vec<BTreeSet<Replica>> {
    let all: Vec<_> = (0..replicas.max(1)).map(Replica).collect();
    let batches = all.chunks(usize::from(batch.max(1)));
    batches
        .map(|batch| batch.iter().copied().collect())
        .collect()
}

/// How far the one release has taken the place of the other.
struct Change {
    old: ReleaseNumber,
    /// Of the old release, those that get requests.
    left: BTreeSet<Replica>,
    /// Of the old release, those that answer nobody. They are no capacity: they
    /// go with the first batch, and are not started again.
    broken: BTreeSet<Replica>,
    /// Of the new release, those that get requests.
    risen: BTreeSet<Replica>,
}

impl Change {
    fn begin(draft: &Draft<'_>, old: ReleaseNumber) -> Self {
        let left = draft.observed.healthy_replicas_of(old);
        let mut broken = draft.observed.replicas_of(old);
        broken.retain(|replica| !left.contains(replica));
        Self {
            old,
            left,
            broken,
            risen: BTreeSet::new(),
        }
    }

    /// Users move from old replicas to a batch of new ones. Those that lost
    /// theirs are returned; the last batch takes all that is left.
    fn replace(
        &mut self,
        draft: &mut Draft<'_>,
        batch: &BTreeSet<Replica>,
        is_last: bool,
    ) -> BTreeSet<Replica> {
        self.risen.extend(batch.iter().copied());
        let mut gone: BTreeSet<_> = match is_last {
            true => self.left.clone(),
            false => self.left.intersection(batch).copied().collect(),
        };
        // At least one of the old stays to the last batch, whatever its number.
        if !is_last && gone.len() == self.left.len() {
            gone.pop_first();
        }
        self.left.retain(|replica| !gone.contains(replica));
        let new = draft.new_release();
        // Of those that served alone some are broken, and go.
        let before = match draft.traffic().sole() {
            Some(old) => Traffic::all_to(old),
            None => draft.traffic().clone(),
        };
        let to = self.shares(new);
        let undo = vec![
            Step::Shift {
                to: before,
                from: to.clone(),
            },
            draft.drain_step(new, Replicas::Only(batch.clone())),
        ];
        draft.shift(to, Undo::Steps(undo));
        gone
    }

    /// Old replicas without users go; on the way back those that were well
    /// start again.
    fn retire(&mut self, draft: &mut Draft<'_>, gone: BTreeSet<Replica>) {
        let again = match gone.is_empty() {
            true => Vec::new(),
            false => draft.start_again(self.old, gone.clone()),
        };
        let mut leaving = gone;
        leaving.append(&mut self.broken);
        if leaving.is_empty() {
            return;
        }
        let drain = draft.drain_step(self.old, Replicas::Only(leaving.clone()));
        let retire = draft.retire_step(self.old, Replicas::Only(leaving));
        draft.must(drain, Undo::NOTHING);
        draft.must(retire, Undo::Steps(again));
    }

    /// Each container has the same share; a release of which nothing is left has none.
    fn shares(&self, new: ReleaseNumber) -> Traffic {
        if self.left.is_empty() {
            return Traffic::all_to(new);
        }
        let (risen, all) = (self.risen.len(), self.risen.len() + self.left.len());
        let whole = usize::from(Weight::FULL.0);
        let weight = u16::try_from(whole * risen / all).map_or(Weight::FULL, Weight);
        Traffic::of([
            (self.old, weight.rest(), Replicas::Only(self.left.clone())),
            (new, weight, Replicas::Only(self.risen.clone())),
        ])
    }
}
