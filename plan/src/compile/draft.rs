//! A plan while it is made: each call adds the steps of one thing, so that a
//! strategy reads as the list of what happens.

mod parts;

use std::collections::BTreeSet;
use std::time::Duration;

use crate::id::{Digest, ReleaseNumber, Replica, Slot};
use crate::observed::{Condition, Observed, ObservedContainer};
use crate::plan::{Kind, Plan, PlannedStep};
use crate::release::{KnownRelease, Release, Standing};
use crate::spec::{AppSpec, ApprovedBefore, Bytes, OnNoVerdict, Strategy, Then};
use crate::step::{Beside, HookPoint, IfFails, SeenBy, Step, Undo, WatchRule, WithoutVerdict};
use crate::traffic::{Replicas, Traffic};

/// A plan while it is made.
pub(super) struct Draft<'a> {
    pub(super) spec: &'a AppSpec,
    pub(super) observed: &'a Observed,
    /// The release that the plan is about.
    release: &'a Release,
    kind: Kind,
    /// The release that has all requests, once they are settled.
    old: Option<ReleaseNumber>,
    steps: Vec<PlannedStep>,
    /// Who gets new requests after the steps so far.
    traffic: Traffic,
}

impl<'a> Draft<'a> {
    pub(super) fn new(
        spec: &'a AppSpec,
        observed: &'a Observed,
        release: &'a Release,
        kind: Kind,
    ) -> Self {
        Self {
            spec,
            observed,
            release,
            kind,
            old: settled(observed, kind),
            steps: Vec::new(),
            traffic: observed.releases.traffic.clone(),
        }
    }

    /// Containers of the release that serves and that no user gets to go.
    pub(super) fn drop_idle(&mut self, idle: &BTreeSet<Replica>) {
        if let (Some(serving), false) = (self.traffic.sole(), idle.is_empty()) {
            // A shift whose answer was lost may have sent some there.
            if self.observed.runs(serving) {
                self.shift(self.traffic.clone(), Undo::NOTHING);
            }
            self.must_retire(serving, Replicas::Only(idle.clone()));
        }
    }

    /// The plan.
    pub(super) fn finish(self, because: String) -> Plan {
        let fails = self.kind == Kind::Deploy && !self.steps.is_empty();
        Plan {
            app: self.spec.app.clone(),
            kind: self.kind,
            strategy: self.spec.strategy,
            release: self.release.clone(),
            from: self.observed.releases.serving,
            because,
            notes: super::notes(self.spec, self.observed, &self.steps),
            progress_deadline: self.spec.progress_deadline,
            on_failure: self.hook_step(HookPoint::OnFailure),
            prune: fails.then(|| self.prune_step(self.may_stay())),
            steps: self.steps,
        }
    }

    pub(super) fn new_release(&self) -> ReleaseNumber {
        self.release.number
    }

    pub(super) fn is_rollback(&self) -> bool {
        self.kind == Kind::Rollback
    }

    /// Whether the release is gone back to, and enough of it is still there, or
    /// users have nowhere else to be. What is more than enough goes later.
    pub(super) fn is_warm_rollback(&self) -> bool {
        let new = self.release.number;
        let healthy = self.observed.healthy_replicas_of(new);
        let enough = healthy.len() >= usize::from(self.spec.replicas);
        let warm = enough && healthy == self.observed.replicas_of(new);
        self.is_rollback() && (warm || self.old == Some(new))
    }

    /// The release that has all requests, once they are settled.
    pub(super) fn old(&self) -> Option<ReleaseNumber> {
        self.old
    }

    /// The same, if it answers: one that can be gone back to.
    pub(super) fn good_old(&self) -> Option<ReleaseNumber> {
        self.old.filter(|old| self.observed.is_healthy(*old))
    }

    /// The same, if it runs, well or not: it takes room.
    pub(super) fn running_old(&self) -> Option<ReleaseNumber> {
        self.old.filter(|old| self.observed.runs(*old))
    }

    /// Whether the release is only compared, and retired then.
    pub(super) fn is_only_shadow(&self) -> bool {
        let shadow = self.spec.strategy == Strategy::Shadow && self.spec.shadow.then == Then::Stop;
        shadow && self.good_old().is_some()
    }

    /// Nothing is begun while requests are split, as a way back that failed
    /// may have left them.
    pub(super) fn settle(&mut self) {
        let to = self.old.map_or_else(Traffic::none, Traffic::all_to);
        let is_settled = self.traffic.sole() == self.old;
        if is_settled && (self.old.is_some() || self.traffic == to) {
            return;
        }
        if let Some(old) = self.old.filter(|old| !self.traffic.reaches(*old)) {
            let gate = self.gate_step(old, Replicas::All);
            self.must(gate, Undo::NOTHING);
        }
        self.shift(to, Undo::NOTHING);
    }

    /// From nothing to the image on the host.
    pub(super) fn fetch(&mut self) {
        self.settle();
        self.fetch_for(memory(self.spec, self.observed, self.old));
    }

    /// The same, for so many containers more.
    pub(super) fn fetch_more(&mut self, containers: usize) {
        let count = u64::try_from(containers).unwrap_or(u64::MAX);
        let one = self.spec.run.memory;
        self.fetch_for(one.map(|one| Bytes(one.0.saturating_mul(count))));
    }

    fn fetch_for(&mut self, memory: Option<Bytes>) {
        let image = self.release.image.clone();
        let preflight = Step::Preflight {
            image: image.clone(),
            memory,
        };
        self.must(preflight, Undo::NOTHING);
        self.must(Step::Pull { image }, Undo::NOTHING);
    }

    /// At most two releases are live, so everything but the serving one goes. It
    /// may hold requests: of a drain that reached its deadline, or of a rollback
    /// that was aborted.
    pub(super) fn make_room(&mut self) {
        self.make_room_beside(self.old);
    }

    /// The same, beside this one.
    pub(super) fn make_room_beside(&mut self, stays: Option<ReleaseNumber>) {
        for number in self.observed.present() {
            if Some(number) != stays {
                self.must_retire(number, Replicas::All);
            }
        }
    }

    /// Containers without requests go, or the deploy has failed.
    pub(super) fn must_retire(&mut self, number: ReleaseNumber, replicas: Replicas) {
        let drain = self.drain_step(number, replicas.clone());
        let retire = self.retire_step(number, replicas);
        self.must(drain, Undo::NOTHING);
        self.must(retire, Undo::NOTHING);
    }

    /// From nothing to started containers beside the release that serves.
    pub(super) fn bring_up(&mut self) {
        self.fetch();
        self.make_room();
        self.hook(HookPoint::BeforeStart);
        self.start((0..self.spec.replicas).map(Replica).collect());
    }

    /// Containers of the new release.
    pub(super) fn start(&mut self, replicas: BTreeSet<Replica>) {
        let new = self.release.number;
        let undo = vec![self.retire_step(new, Replicas::Only(replicas.clone()))];
        let start = self.start_step(self.slot(), replicas);
        self.must(start, Undo::Steps(undo));
    }

    /// The same, where they stay whatever becomes of them.
    pub(super) fn start_for_good(&mut self, slot: Slot, replicas: BTreeSet<Replica>) {
        let start = self.start_step(slot, replicas);
        self.must(start, Undo::Stay);
    }

    fn start_step(&self, slot: Slot, replicas: BTreeSet<Replica>) -> Step {
        Step::Start {
            release: self.release.number,
            image: self.release.image.clone(),
            slot,
            replicas,
        }
    }

    /// Nobody is sent to a release that has not passed here.
    pub(super) fn gate(&mut self, replicas: Replicas) {
        let gate = self.gate_step(self.release.number, replicas);
        self.must(gate, Undo::NOTHING);
    }

    pub(super) fn gate_all(&mut self) {
        self.gate(Replicas::first(self.spec.replicas));
    }

    /// What stands between a healthy release and its first user.
    pub(super) fn before_shift(&mut self) {
        self.hook(HookPoint::BeforeShift);
        if self.spec.preview.is_some() && !self.is_rollback() {
            let release = Some(self.release.number);
            let undo = vec![Step::Preview { release: None }];
            self.must(Step::Preview { release }, Undo::Steps(undo));
        }
        self.approve(ApprovedBefore::Shift);
    }

    /// A person's word, where the app's file asks for it. A rollback asks nobody.
    pub(super) fn approve(&mut self, before: ApprovedBefore) {
        let Some(approval) = self.spec.approval.filter(|one| one.before == before) else {
            return;
        };
        if self.kind != Kind::Deploy {
            return;
        }
        let new = self.release.number;
        let what = match before {
            ApprovedBefore::Shift => format!("{new} gets users"),
            ApprovedBefore::Full => format!("{new} gets all users"),
        };
        let approve = Step::Approve {
            what,
            deadline: approval.deadline,
            on_timeout: approval.on_timeout,
        };
        self.must(approve, Undo::NOTHING);
    }

    /// Users move.
    pub(super) fn shift(&mut self, to: Traffic, undo: Undo) {
        let from = std::mem::replace(&mut self.traffic, to.clone());
        self.must(Step::Shift { to, from }, undo);
    }

    pub(super) fn traffic(&self) -> &Traffic {
        &self.traffic
    }

    /// Users move to the new release. Those that it fails go `back`; not at all
    /// where nothing is better.
    pub(super) fn shift_or_back(&mut self, to: Traffic, back: Traffic) {
        let new = self.release.number;
        let broken = self.old.is_some() && self.good_old().is_none();
        // Whatever the new release is, it is better than one that answers nobody.
        let undo = match self.is_rollback() || broken {
            true => {
                // What nobody undoes must not leave a side door open.
                self.end_preview();
                Undo::Stay
            }
            false => {
                let from = to.clone();
                let drain = self.drain_step(new, Replicas::All);
                Undo::Steps(vec![Step::Shift { to: back, from }, drain])
            }
        };
        self.shift(to, undo);
    }

    /// The judgement of the release under all users.
    pub(super) fn watch(&mut self) {
        let watch = &self.spec.watch;
        let rule = WatchRule {
            window: watch.window,
            max_error_rate: watch.max_error_rate,
            max_latency_p99: watch.max_latency_p99,
            min_requests: watch.min_requests,
            without: self.without(watch.window),
            beside: None,
        };
        self.watch_by(rule);
    }

    /// The judgement of the release beside the old one.
    pub(super) fn compare(&mut self, window: Duration, old: ReleaseNumber, seen_by: SeenBy) {
        let watch = &self.spec.watch;
        let beside = Beside {
            old,
            min_difference: watch.min_difference,
            seen_by,
        };
        let rule = WatchRule {
            window,
            max_error_rate: watch.max_error_rate,
            max_latency_p99: watch.max_latency_p99,
            min_requests: watch.min_compared,
            without: self.without(window),
            beside: Some(beside),
        };
        self.watch_by(rule);
    }

    fn watch_by(&mut self, rule: WatchRule) {
        let watch = Step::Watch {
            release: self.release.number,
            check: self.spec.health.check(),
            rule,
        };
        self.must(watch, Undo::NOTHING);
    }

    fn without(&self, window: Duration) -> WithoutVerdict {
        let watch = &self.spec.watch;
        match watch.on_no_verdict {
            OnNoVerdict::Promote => WithoutVerdict::Promote,
            OnNoVerdict::Abort => WithoutVerdict::Abort,
            // As many windows as the watch of all users may have.
            OnNoVerdict::Extend => WithoutVerdict::Extend {
                to: scaled(watch.extend_to, watch.window, window).max(window),
            },
            OnNoVerdict::Hold => WithoutVerdict::Hold {
                deadline: watch.hold_deadline,
            },
        }
    }

    /// The app's hook at a place, where it has one. A rollback runs none: what
    /// they do was done when its release came first.
    pub(super) fn hook(&mut self, point: HookPoint) {
        if let Some(hook) = self.hook_step(point) {
            match point {
                HookPoint::AfterSuccess => self.tidy(hook),
                HookPoint::BeforeStart
                | HookPoint::BeforeShift
                | HookPoint::AfterShift
                | HookPoint::OnFailure => self.must(hook, Undo::NOTHING),
            }
        }
    }

    /// What becomes of the release that served before, of orphans that a warm
    /// rollback found beside it, and of images nobody needs. The new release has
    /// proved itself by then, so nothing here takes it back.
    pub(super) fn leave(&mut self) {
        // Split requests may have been settled on the release itself.
        if let Some(old) = self.old.filter(|old| *old != self.release.number) {
            self.part_from(old);
        }
        if self.observed.runs(self.release.number) {
            for number in self.observed.present() {
                if Some(number) != self.old && number != self.release.number {
                    self.retire_for_good(number);
                }
            }
        }
        self.close();
    }

    /// The old release stands by, unless it is of no use or not wanted.
    fn part_from(&mut self, old: ReleaseNumber) {
        let keep = match self.spec.strategy {
            Strategy::RedBlack => Some(self.spec.standby),
            Strategy::BlueGreen
            | Strategy::Canary
            | Strategy::Rolling
            | Strategy::InPlace
            | Strategy::Shadow => None,
        };
        let unwanted = keep.is_some_and(|keep| keep.is_zero());
        if !self.observed.is_healthy(old) || unwanted {
            self.retire_for_good(old);
            return;
        }
        let drain = self.drain_step(old, Replicas::All);
        self.tidy(drain);
        self.tidy(Step::Standby { release: old, keep });
    }

    /// The end of every plan whose release has proved itself.
    pub(super) fn close(&mut self) {
        if self.is_previewed() {
            self.tidy(Step::Preview { release: None });
        }
        self.hook(HookPoint::AfterSuccess);
        self.prune();
    }

    pub(super) fn end_preview(&mut self) {
        if self.is_previewed() {
            self.must(Step::Preview { release: None }, Undo::NOTHING);
        }
    }

    /// Whether people with the secret get to the release after the steps so far.
    fn is_previewed(&self) -> bool {
        let previews = self
            .steps
            .iter()
            .rev()
            .find_map(|planned| match planned.step {
                Step::Preview { release } => Some(release),
                _ => None,
            });
        previews.flatten().is_some()
    }

    /// A release that gets no requests goes, after the proof.
    pub(super) fn retire_for_good(&mut self, number: ReleaseNumber) {
        let drain = self.drain_step(number, Replicas::All);
        let retire = self.retire_step(number, Replicas::All);
        self.tidy(drain);
        self.tidy(retire);
    }

    /// Images that nobody needs any more go, now that the release has proved itself.
    pub(super) fn prune(&mut self) {
        let step = self.prune_step(true);
        self.tidy(step);
    }

    /// Keeps the images of the release that serves, of the one that did before, of
    /// all that run, of those that the next rollbacks could go to (the last two
    /// before the new one that proved themselves), and of the `new` one if it stays.
    fn prune_step(&self, new: bool) -> Step {
        const PROVEN_KEPT: usize = 2;
        let releases = &self.observed.releases;
        let left = releases.serving.into_iter().chain(self.old);
        let left = left.chain(self.observed.present());
        let left = left.filter_map(|number| releases.find(number));
        let older = releases.known.range(..self.release.number).rev();
        let proven = older
            .map(|(_, known)| known)
            .filter(|known| known.standing == Standing::Proven);
        let kept = left.chain(proven.take(PROVEN_KEPT));
        let mut keep: BTreeSet<Digest> = kept
            .map(|known| known.release.image.digest.clone())
            .collect();
        if new {
            keep.insert(self.release.image.digest.clone());
        }
        Step::Prune {
            keep: keep.into_iter().collect(),
        }
    }

    /// Whether there is a failure after which the new release goes on serving.
    fn may_stay(&self) -> bool {
        self.steps.iter().any(|planned| planned.undo == Undo::Stay)
    }

    pub(super) fn must(&mut self, step: Step, undo: Undo) {
        self.steps.push(PlannedStep {
            step,
            if_fails: IfFails::Undo,
            undo,
        });
    }

    pub(super) fn tidy(&mut self, step: Step) {
        self.steps.push(PlannedStep {
            step,
            if_fails: IfFails::GoOn,
            undo: Undo::NOTHING,
        });
    }
}

/// The release that requests are settled on: the one that serves. Where it does
/// not answer, one that has proved itself and does takes over first, so that no
/// good release goes while a bad one serves; a rollback goes there anyway. Where
/// it does not even run and they are split, any other that answers.
fn settled(observed: &Observed, kind: Kind) -> Option<ReleaseNumber> {
    let releases = &observed.releases;
    let serving = releases.serving;
    if kind == Kind::Deploy
        && serving.is_some_and(|serving| !observed.is_healthy(serving))
        && let Some(good) = newest_good(observed)
    {
        return Some(good);
    }
    let is_sole = releases.traffic.sole() == serving;
    if is_sole || serving.is_some_and(|serving| observed.runs(serving)) {
        return serving;
    }
    let mut others = releases.known.keys().copied().rev();
    others.find(|number| observed.is_healthy(*number))
}

/// The newest release that has proved itself and answers.
pub(super) fn newest_good(observed: &Observed) -> Option<ReleaseNumber> {
    let good = |(number, known): (&ReleaseNumber, &KnownRelease)| {
        let proven = known.standing == Standing::Proven;
        (proven && observed.is_healthy(*number)).then_some(*number)
    };
    observed.releases.known.iter().rev().find_map(good)
}

/// Whether all that a release should have runs and answers, and nothing else of it.
pub(super) fn is_whole(spec: &AppSpec, observed: &Observed, release: ReleaseNumber) -> bool {
    let healthy = observed.healthy_replicas_of(release);
    healthy.len() == usize::from(spec.replicas) && healthy == observed.replicas_of(release)
}

/// `part` of `whole`, of another whole.
fn scaled(part: Duration, whole: Duration, other: Duration) -> Duration {
    let millis = part.as_millis() * other.as_millis() / whole.as_millis().max(1);
    Duration::from_millis(u64::try_from(millis).unwrap_or(u64::MAX))
}

/// What the containers of a release may take together, beside what runs. In place
/// that is not known while the old one runs: what it takes, it gives back before.
/// Rolling has a batch more at once than there are in the end.
fn memory(spec: &AppSpec, observed: &Observed, old: Option<ReleaseNumber>) -> Option<Bytes> {
    let one = spec.run.memory?;
    let all = u64::from(spec.replicas);
    let runs =
        |one: &&ObservedContainer| Some(one.release) == old && one.condition != Condition::Stopped;
    let there = observed.containers.iter().filter(runs).count();
    let at_once = match spec.strategy {
        Strategy::InPlace if there > 0 => return None,
        Strategy::Rolling if there > 0 => {
            let more = all.saturating_sub(u64::try_from(there).unwrap_or(u64::MAX));
            (u64::from(spec.rolling.batch) + more).min(all)
        }
        _ => all,
    };
    Some(Bytes(one.0.saturating_mul(at_once)))
}
