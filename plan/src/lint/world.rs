//! The small model of the world that a plan is played on.

use std::collections::{BTreeMap, BTreeSet};

use super::Found;
use crate::id::{Digest, ReleaseNumber, Replica, Slot};
use crate::observed::{Condition, Observed};
use crate::outcome::Outcome;
use crate::plan::{Kind, Plan};
use crate::release::Standing;
use crate::step::{SeenBy, Step};
use crate::traffic::{Replicas, Traffic};

/// Live releases of one app.
const MAX_LIVE: usize = 2;

/// Which list of steps is played.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Way {
    /// The steps of the plan.
    Forward,
    /// The steps that take them back.
    Back,
}

/// A container: its release and its number.
type One = (ReleaseNumber, Replica);

#[derive(Debug, Clone)]
pub(super) struct World {
    /// Containers, and the slot of each.
    live: BTreeMap<One, Slot>,
    /// Those that do not run: there, but of no use.
    stopped: BTreeSet<One>,
    gated: BTreeSet<One>,
    undrained: BTreeSet<One>,
    traffic: Traffic,
    /// Whether new requests are held.
    parked: bool,
    /// Who gets copies of requests.
    mirror: Option<ReleaseNumber>,
    /// Whom those reach who know the app's secret.
    preview: Option<ReleaseNumber>,
    /// The release that served when the plan began, if it ran.
    served: Option<ReleaseNumber>,
    /// Who got requests when the plan began.
    began: Traffic,
    /// Whether every user got to a healthy release when the plan began.
    began_good: bool,
    /// The release that served when the plan began, if nothing was left of it: who
    /// gets no answer has nothing to lose by one that starts.
    deserted: Option<ReleaseNumber>,
    /// Whether a good release must be left: a deploy over one that serves could
    /// go to it, and no housekeeping takes it away. A rollback goes where a
    /// person wants it.
    keeps_good: bool,
    /// Healthy when the plan began, and known to the journal: what a way back
    /// may lead to.
    good: BTreeSet<ReleaseNumber>,
    /// There when the plan began, and not healthy.
    ill: BTreeSet<ReleaseNumber>,
    proven: BTreeSet<ReleaseNumber>,
    images: BTreeMap<ReleaseNumber, Digest>,
}

impl World {
    pub(super) fn of(observed: &Observed, kind: Kind) -> Self {
        let containers = observed.containers.iter();
        let live: BTreeMap<_, _> = containers
            .map(|c| ((c.release, c.replica), c.slot))
            .collect();
        let releases = &observed.releases;
        let traffic = releases.traffic.clone();
        let (serving, _) = observed.without_idle();
        let good = serving.present().into_iter();
        let known = releases.known.iter();
        let proven = known
            .clone()
            .filter(|(_, k)| k.standing == Standing::Proven);
        let stopped: BTreeSet<_> = observed
            .containers
            .iter()
            .filter(|c| c.condition == Condition::Stopped)
            .map(|c| (c.release, c.replica))
            .collect();
        let gets = |one: &&One| traffic.includes(one.0, one.1) && !stopped.contains(*one);
        let mut world = Self {
            // What served until now passed its gate when it came; standby
            // releases must pass it again, because they may have died since.
            gated: live.keys().filter(gets).copied().collect(),
            // Also what serves no more may hold requests from when it did.
            undrained: live.keys().copied().collect(),
            live,
            stopped,
            began: traffic.clone(),
            traffic,
            parked: false,
            mirror: None,
            preview: None,
            served: releases.serving.filter(|one| serving.runs(*one)),
            good: good
                .filter(|number| serving.is_healthy(*number) && releases.find(*number).is_some())
                .collect(),
            ill: observed
                .present()
                .into_iter()
                .filter(|number| !serving.is_healthy(*number))
                .collect(),
            proven: proven.map(|(number, _)| *number).collect(),
            images: known
                .map(|(number, known)| (*number, known.release.image.digest.clone()))
                .collect(),
            began_good: false,
            deserted: releases
                .traffic
                .sole()
                .filter(|one| !serving.present().contains(one)),
            keeps_good: matches!(kind, Kind::Deploy | Kind::Scale) && releases.serving.is_some(),
        };
        world.began_good = world.serves_good();
        world
    }

    pub(super) fn play(&mut self, step: &Step, way: Way, place: &str, found: &mut Found) {
        let mut report = |invariant, fault: String| found.report(invariant, place, fault);
        if waits_without_end(step) {
            report(10, format!("{} has no sane deadline", step.name()));
        }
        match step {
            Step::Start {
                release,
                slot,
                image,
                replicas,
            } => {
                self.start(*release, *slot, replicas, &mut report);
                self.images.insert(*release, image.digest.clone());
            }
            Step::Gate {
                release,
                replicas,
                check,
                ..
            } => {
                let these = self.meant(*release, replicas);
                let started = these.iter().all(|one| self.live.contains_key(one));
                if these.is_empty() || !started {
                    report(2, format!("{release} is gated before it is started"));
                }
                if check.successes == 0 {
                    report(2, format!("{release} passes its gate without an answer"));
                }
                // What answers runs.
                self.stopped.retain(|one| !these.contains(one));
                self.gated.extend(these);
            }
            Step::Preview { release } => {
                self.reach("people with the secret get", *release, &mut report);
                self.preview = *release;
            }
            Step::Mirror { to } => {
                let release = to.map(|to| to.release);
                self.reach("copies go", release, &mut report);
                self.mirror = release;
            }
            Step::Park { .. } => self.parked = true,
            Step::Shift { to, from } => {
                if way == Way::Forward && *from != self.traffic {
                    let fault = "requests are taken from a release that does not have them";
                    report(2, fault.to_owned());
                }
                self.shift(to, way, &mut report);
            }
            Step::Retire {
                release, replicas, ..
            } => self.retire(*release, replicas, &mut report),
            Step::Drain {
                release, replicas, ..
            } => {
                let these = self.meant(*release, replicas);
                if these.iter().any(|one| self.gets_requests(*one)) {
                    report(2, format!("{release} is drained while requests go to it"));
                }
                self.undrained.retain(|one| !these.contains(one));
            }
            Step::Watch { release, rule, .. } => {
                let seen = match rule.beside.map(|beside| beside.seen_by) {
                    Some(SeenBy::Nobody) => self.mirror == Some(*release),
                    Some(SeenBy::Users) | None => self.traffic.reaches(*release) && !self.parked,
                };
                if !seen {
                    report(5, format!("{release} is watched without the users"));
                }
            }
            Step::Standby { release, .. } => {
                if !self.lives(*release) {
                    report(3, format!("{release} cannot stand by: it does not run"));
                }
            }
            Step::Prune { keep } => {
                let pruned = |(number, _): &&One| {
                    let image = self.images.get(number);
                    image.is_some_and(|image| !keep.contains(image))
                };
                if let Some((number, _)) = self.live.keys().find(pruned) {
                    report(6, format!("the image of {number} is removed while it runs"));
                }
            }
            Step::Approve { .. } if self.parked => {
                report(3, "requests are held while a person is asked".to_owned());
            }
            Step::Hook { .. } if self.parked => {
                report(3, "requests are held while a hook runs".to_owned());
            }
            Step::Preflight { .. }
            | Step::Pull { .. }
            | Step::Hook { .. }
            | Step::Approve { .. } => {}
        }
    }

    fn start(
        &mut self,
        release: ReleaseNumber,
        slot: Slot,
        replicas: &BTreeSet<Replica>,
        report: &mut impl FnMut(u8, String),
    ) {
        // More of a release that is there take no other place.
        let is_there = self.slots_of(release).eq([slot]);
        let mut live = self.live.iter();
        let neighbour = live.find(|((n, _), s)| *n != release && **s == slot);
        if let Some(((neighbour, _), _)) = neighbour.filter(|_| !is_there) {
            report(
                3,
                format!("{release} starts in {slot}, where {neighbour} runs"),
            );
        }
        if replicas.is_empty() {
            report(2, format!("nothing of {release} is started"));
        }
        for replica in replicas {
            let one = (release, *replica);
            self.live.insert(one, slot);
            self.stopped.remove(&one);
            self.gated.remove(&one);
            if self.gets_requests(one) && self.deserted != Some(release) {
                report(2, format!("{release} gets requests as soon as it starts"));
            }
        }
        let number = self.count_live();
        if number > MAX_LIVE && !is_there {
            report(
                3,
                format!("{release} would be live release number {number}"),
            );
        }
    }

    fn slots_of(&self, release: ReleaseNumber) -> impl Iterator<Item = Slot> {
        let of_release = self.live.iter().filter(move |((n, _), _)| *n == release);
        let slots: BTreeSet<_> = of_release.map(|(_, slot)| *slot).collect();
        slots.into_iter()
    }

    fn shift(&mut self, to: &Traffic, way: Way, report: &mut impl FnMut(u8, String)) {
        if !to.is_whole() {
            report(2, format!("the shares of {to} are not a whole"));
        }
        for release in to.releases() {
            let replicas = to
                .shares
                .get(&release)
                .map_or(Replicas::All, |share| share.replicas.clone());
            let mut these = self.meant(release, &replicas);
            // One that does not run gets nothing, by whatever name.
            these.retain(|one| !self.stopped.contains(one));
            let rises = to.weight_of(release) > self.traffic.weight_of(release);
            if these.is_empty() || these.iter().any(|one| !self.live.contains_key(one)) {
                report(2, format!("requests go to {release}, which does not run"));
            } else if these.iter().any(|one| !self.gated.contains(one)) {
                let fault = format!("requests go to {release}, which has not passed its gate");
                report(2, fault);
            } else if way == Way::Back && rises && !self.good.contains(&release) {
                let fault = format!("requests go back to {release}, which does not answer");
                report(3, fault);
            }
            self.undrained.extend(these);
        }
        if to.releases().is_empty() && self.good.iter().any(|good| self.lives(*good)) {
            report(3, "no release serves although a good one lives".to_owned());
        }
        self.traffic = to.clone();
        self.parked = false;
    }

    fn retire(
        &mut self,
        release: ReleaseNumber,
        replicas: &Replicas,
        report: &mut impl FnMut(u8, String),
    ) {
        let these = self.meant(release, replicas);
        if these.iter().any(|one| self.gets_requests(*one)) {
            report(2, format!("{release} is stopped while requests go to it"));
        } else if these.iter().any(|one| self.undrained.contains(one)) {
            report(2, format!("{release} is stopped before it is drained"));
        }
        if self.mirror == Some(release) {
            report(2, format!("{release} is stopped while copies go to it"));
        }
        if self.preview == Some(release) {
            let fault = format!("{release} is stopped while people with the secret get to it");
            report(2, fault);
        }
        self.live.retain(|one, _| !these.contains(one));
        let good = |one: &One| {
            let came_well = self.gated.contains(one) && !self.ill.contains(&one.0);
            self.good.contains(&one.0) || came_well
        };
        let last =
            self.keeps_good && !self.parked && !self.lives(release) && !self.live.keys().any(good);
        if last && self.good.contains(&release) && self.proven.contains(&release) {
            report(3, format!("{release} is stopped, the last good release"));
        }
        self.gated.retain(|one| !these.contains(one));
        self.undrained.retain(|one| !these.contains(one));
    }

    /// That somebody beside the users may get to a release.
    fn reach(
        &self,
        who: &str,
        release: Option<ReleaseNumber>,
        report: &mut impl FnMut(u8, String),
    ) {
        let Some(release) = release else { return };
        let these = self.meant(release, &Replicas::All);
        if these.is_empty() || these.iter().any(|one| !self.gated.contains(one)) {
            let fault = format!("{who} to {release}, which has not passed its gate");
            report(2, fault);
        }
    }

    /// After the last step the release serves and was watched; a plan without
    /// steps says that all of this was so before.
    pub(super) fn check_end(&self, plan: &Plan, found: &mut Found) {
        let place = "the end";
        self.check_left(place, found);
        let new = plan.release.number;
        match (plan.kind, plan.goal()) {
            (Kind::Deploy | Kind::Rollback, Outcome::Promoted) => {
                self.check_promoted(plan, place, found);
            }
            (Kind::Scale, _) => self.check_scaled(plan, place, found),
            (Kind::Retire, _) | (_, _) => {
                if self.lives(new) {
                    found.report(3, place, format!("{new} is left live"));
                }
                // Split requests are settled, which moves some, and so are those
                // at a release that answers nobody.
                let settled = self.began.sole().is_some() && self.began_good;
                let moved = settled && self.traffic != self.began;
                if moved {
                    found.report(5, place, "users were moved, which nobody asked for");
                }
            }
        }
    }

    /// The release that serves serves still, with all that it has.
    fn check_scaled(&self, plan: &Plan, place: &str, found: &mut Found) {
        let new = plan.release.number;
        if self.traffic.sole() != Some(new) || self.began.sole() != Some(new) {
            found.report(5, place, "users were moved, which nobody asked for");
        }
        let mut live = self.live.keys().filter(|(number, _)| *number == new);
        if live.any(|one| !self.traffic.includes(one.0, one.1)) {
            found.report(
                5,
                place,
                format!("containers of {new} are left without users"),
            );
        }
    }

    fn check_promoted(&self, plan: &Plan, place: &str, found: &mut Found) {
        let new = plan.release.number;
        if self.traffic.sole() != Some(new) {
            found.report(5, place, format!("{new} does not serve"));
        }
        if plan.steps.is_empty() {
            if !self.good.contains(&new) || !self.proven.contains(&new) {
                found.report(5, place, format!("{new} is not known to be good"));
            }
            return;
        }
        // With all of its users, not with copies or a share of them.
        let under_all = |step: &Step| {
            matches!(step, Step::Watch { release, rule, .. }
                if *release == new && rule.beside.is_none())
        };
        if !plan.steps.iter().any(|planned| under_all(&planned.step)) {
            found.report(5, place, format!("{new} was never watched"));
        }
        let number = self.count_live();
        if number > MAX_LIVE {
            found.report(3, place, format!("{number} releases are left live"));
        }
    }

    /// After a way back, the release that served before must serve again,
    /// unless the plan says that there is no better one than the new.
    pub(super) fn check_rest(&self, kind: Kind, place: &str, found: &mut Found) {
        self.check_left(place, found);
        let nobody = self.traffic.releases().is_empty();
        if nobody && self.served.is_some_and(|served| self.lives(served)) {
            found.report(3, place, "no release serves although one did before");
        }
        let keeps = matches!(kind, Kind::Deploy | Kind::Scale);
        if self.began_good && !self.serves_good() && keeps {
            let fault = "the good release before does not serve again";
            found.report(3, place, fault);
        }
    }

    /// Whether every user gets to a release that was healthy when the plan began.
    fn serves_good(&self) -> bool {
        let mut serving = self.traffic.releases().into_iter().peekable();
        serving.peek().is_some() && serving.all(|n| self.good.contains(&n))
    }

    /// What must not be left behind by any end.
    fn check_left(&self, place: &str, found: &mut Found) {
        if self.parked {
            found.report(3, place, "requests are held, and nothing lets them go");
        }
        if let Some(release) = self.mirror {
            found.report(3, place, format!("copies go to {release} for ever"));
        }
        if let Some(release) = self.preview {
            let fault = format!("people with the secret get to {release} for ever");
            found.report(3, place, fault);
        }
    }

    /// The containers that a step means; of all of a release, those that live.
    fn meant(&self, release: ReleaseNumber, replicas: &Replicas) -> BTreeSet<One> {
        match replicas {
            Replicas::All => {
                let of_release = self.live.keys().filter(|(n, _)| *n == release);
                of_release.copied().collect()
            }
            Replicas::Only(these) => these.iter().map(|replica| (release, *replica)).collect(),
        }
    }

    fn gets_requests(&self, (release, replica): One) -> bool {
        !self.parked && self.traffic.includes(release, replica)
    }

    fn lives(&self, release: ReleaseNumber) -> bool {
        self.live.keys().any(|(number, _)| *number == release)
    }

    fn count_live(&self) -> usize {
        let releases: BTreeSet<_> = self.live.keys().map(|(number, _)| number).collect();
        releases.len()
    }
}

/// Whether the step waits longer than any step may, or not at all where
/// nothing could be learned in no time.
fn waits_without_end(step: &Step) -> bool {
    let empty = match step {
        Step::Gate {
            deadline, check, ..
        } => deadline.is_zero() || check.timeout.is_zero(),
        Step::Watch { check, rule, .. } => rule.window.is_zero() || check.timeout.is_zero(),
        Step::Hook { deadline, .. }
        | Step::Approve { deadline, .. }
        | Step::Park { deadline, .. } => deadline.is_zero(),
        // A drain of nothing and a stop without grace are what the app's file may ask for.
        Step::Preflight { .. }
        | Step::Pull { .. }
        | Step::Start { .. }
        | Step::Preview { .. }
        | Step::Mirror { .. }
        | Step::Shift { .. }
        | Step::Drain { .. }
        | Step::Standby { .. }
        | Step::Retire { .. }
        | Step::Prune { .. } => false,
    };
    empty || step.deadline() > Step::MAX_DEADLINE
}
