//! Single steps with what the app's file and the world give them.

use std::collections::BTreeSet;

use super::Draft;
use crate::id::{ImageReference, ReleaseNumber, Replica, Slot};
use crate::plan::Kind;
use crate::step::{HookPoint, Step};
use crate::traffic::Replicas;

impl Draft<'_> {
    pub(in crate::compile) fn drain_step(
        &self,
        release: ReleaseNumber,
        replicas: Replicas,
    ) -> Step {
        Step::Drain {
            release,
            replicas,
            deadline: self.spec.drain_deadline,
        }
    }

    pub(in crate::compile) fn retire_step(
        &self,
        release: ReleaseNumber,
        replicas: Replicas,
    ) -> Step {
        Step::Retire {
            release,
            replicas,
            grace: self.spec.run.stop_grace,
        }
    }

    pub(in crate::compile) fn gate_step(&self, release: ReleaseNumber, replicas: Replicas) -> Step {
        Step::Gate {
            release,
            replicas,
            check: self.spec.health.check(),
            deadline: self.spec.health.deadline,
        }
    }

    /// The steps that start containers of the old release once more. Its image
    /// is known, unless the journal was lost: then there are none.
    pub(in crate::compile) fn start_again(
        &self,
        old: ReleaseNumber,
        replicas: BTreeSet<Replica>,
    ) -> Vec<Step> {
        let Some((image, slot)) = self.old_image(old) else {
            return Vec::new();
        };
        vec![
            Step::Start {
                release: old,
                image,
                slot,
                replicas: replicas.clone(),
            },
            self.gate_step(old, Replicas::Only(replicas)),
        ]
    }

    fn old_image(&self, old: ReleaseNumber) -> Option<(ImageReference, Slot)> {
        let known = self.observed.releases.find(old)?;
        Some((known.release.image.clone(), self.observed.slot_of(old)?))
    }

    /// The slot of the release: its own if it serves, else the one that is free
    /// beside the release that does.
    pub(super) fn slot(&self) -> Slot {
        let taken = self.old.and_then(|number| self.observed.slot_of(number));
        match self.old == Some(self.release.number) {
            true => taken.unwrap_or(Slot::Blue),
            false => taken.map_or(Slot::Blue, Slot::other),
        }
    }

    pub(super) fn hook_step(&self, point: HookPoint) -> Option<Step> {
        if self.kind != Kind::Deploy {
            return None;
        }
        let hook = self.spec.hooks.at(point)?;
        Some(Step::Hook {
            point,
            release: self.release.number,
            image: self.release.image.clone(),
            command: hook.command.clone(),
            deadline: hook.timeout,
        })
    }
}
