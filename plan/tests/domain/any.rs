//! Any host: any spec that a file can say, and any world that could be found,
//! also those that no deploy leaves behind.

use std::collections::BTreeSet;
use std::time::Duration;

use cutover_plan::compile::Request;
use cutover_plan::event::{FailureClass, Promotion};
use cutover_plan::id::{ReleaseNumber, Replica, Slot};
use cutover_plan::observed::Condition;
use cutover_plan::release::{KnownRelease, Release, Standing};
use cutover_plan::spec::{
    self, AppSpec, ApprovalSpec, ApprovedBefore, HookSpec, HooksSpec, Matching, OnNoVerdict,
    OnTimeout, PreviewSpec, RollingSpec, Rule, Subject, Then, Weight,
};
use cutover_plan::traffic::{Replicas, Traffic};
use proptest::collection::vec;
use proptest::option;
use proptest::prelude::{Just, Strategy, any, prop_oneof};
use proptest::sample::{select, subsequence};

use crate::host::{Fate, Host, image, reference, scale, spec};

/// Releases that the journal knows, at the most.
const KNOWN: usize = 5;

/// Images that they have, so that some have the same.
const IMAGES: u8 = 3;

pub(crate) fn request() -> impl Strategy<Value = Request> {
    prop_oneof![
        2 => (1..=IMAGES).prop_map(image),
        2 => Just(Request::Rollback),
        1 => Just(scale()),
    ]
}

/// What becomes of the steps of a deploy, one after the other; mostly good.
pub(crate) fn fates() -> impl Strategy<Value = Vec<Fate>> {
    let class = select(vec![
        FailureClass::Release,
        FailureClass::Request,
        FailureClass::Host,
        FailureClass::NoVerdict,
    ]);
    let fate = prop_oneof![
        18 => Just(Fate::Done),
        1 => class.clone().prop_map(Fate::Fails),
        1 => class.prop_map(Fate::FailsLate),
        1 => Just(Fate::Aborted),
        1 => Just(Fate::Superseded),
        1 => Just(Fate::Hurried(Promotion::Next)),
        1 => Just(Fate::Hurried(Promotion::Full)),
        1 => Just(Fate::Rejected),
        1 => Just(Fate::Unanswered),
        1 => Just(Fate::Stalled),
        1 => Just(Fate::Crash),
        1 => Just(Fate::Died),
    ];
    vec(fate, 0..60)
}

pub(crate) fn host() -> impl Strategy<Value = Host> {
    let slot = || select(vec![Slot::Blue, Slot::Green]);
    let condition = || {
        select(vec![
            Condition::Healthy,
            Condition::Unhealthy,
            Condition::Stopped,
        ])
    };
    let standing = select(vec![
        Standing::Unproven,
        Standing::Proven,
        Standing::Proven,
        Standing::Rejected,
    ]);
    let known = vec((standing, 1..=IMAGES), 0..=KNOWN);
    // Two more than the journal knows: orphans.
    let there = vec(option::of((slot(), vec(condition(), 1..4))), KNOWN + 2);
    let places = (any::<usize>(), any::<usize>(), 0..4_u8);
    // Of the release that serves: which containers are gone, and which are named.
    let parts = (0..8_u16, option::of(0..8_u16));
    let app = app_spec();
    (app, known, there, places, parts).prop_map(|(spec, known, there, places, parts)| {
        let (serving, standby, split) = places;
        let mut host = Host::new();
        host.spec = spec;
        let count = known.len();
        let releases = &mut host.seen.releases;
        for (number, (standing, image)) in (1..).zip(known) {
            let number = ReleaseNumber(number);
            let release = Release {
                number,
                image: reference(image),
                fingerprint: "f1".to_owned(),
                commit: None,
            };
            releases.last = Some(number);
            releases
                .known
                .insert(number, KnownRelease { release, standing });
        }
        // One of them, or none.
        let pick = |any: usize| {
            let number = u32::try_from(any % (count + 1)).ok()?;
            (number > 0).then_some(ReleaseNumber(number))
        };
        releases.serving = pick(serving);
        releases.standby = pick(standby).filter(|standby| Some(*standby) != releases.serving);
        releases.traffic = releases.serving.map_or_else(Traffic::none, Traffic::all_to);
        // Left by a way back that failed.
        if let (0, Some(old), Some(new)) = (split, releases.serving, releases.standby) {
            releases.traffic = Traffic::split(old, new, Weight(2_500));
            releases.standby = None;
        }
        host.routed = releases.traffic.clone();
        for (number, place) in (1..).zip(there.into_iter().take(count + 2)) {
            let (slot, conditions) = place.unwrap_or((Slot::Blue, Vec::new()));
            for condition in conditions {
                host.add(number, slot, condition);
            }
        }
        if let Some(serving) = host.routed.sole() {
            only_some(&mut host, serving, parts);
        }
        host
    })
}

/// As changes of their number leave the containers of the release that serves, which
/// somebody may have removed since: one is left, and one that is left has users.
fn only_some(host: &mut Host, serving: ReleaseNumber, (gone, named): (u16, Option<u16>)) {
    let is_in = |mask: u16, replica: Replica| mask & (1 << replica.0) != 0;
    let of_serving = host.seen.replicas_of(serving);
    let left: BTreeSet<_> = of_serving
        .iter()
        .copied()
        .filter(|one| !is_in(gone, *one))
        .collect();
    if !left.is_empty() {
        host.seen
            .containers
            .retain(|one| one.release != serving || left.contains(&one.replica));
    }
    let Some(named) = named else { return };
    let named: BTreeSet<_> = host
        .seen
        .replicas_of(serving)
        .into_iter()
        .filter(|one| is_in(named, *one))
        .collect();
    if !named.is_empty() {
        let whole = Weight::FULL;
        host.routed = Traffic::of([(serving, whole, Replicas::Only(named))]);
        host.seen.releases.traffic = host.routed.clone();
    }
}

fn app_spec() -> impl Strategy<Value = AppSpec> {
    let parts = (waits(), takeover(), people());
    parts.prop_map(|(waits, takeover, people)| {
        let mut spec = spec();
        let (deadline, timeout, successes, window, drain, grace) = waits;
        spec.health.deadline = deadline;
        spec.health.timeout = timeout;
        spec.health.successes = successes;
        spec.watch.window = window;
        spec.drain_deadline = drain;
        spec.run.stop_grace = grace;
        let (strategy, replicas, batch, bake, weights, rules, then, standby) = takeover;
        spec.strategy = strategy;
        spec.replicas = replicas;
        spec.rolling = RollingSpec { batch, bake };
        spec.canary.weights = weights;
        spec.canary.bake = Duration::from_secs(60);
        spec.canary.rules = rules;
        spec.shadow.then = then;
        spec.standby = standby;
        let (hooks, approval, preview, policy) = people;
        let hook = |wanted: bool| {
            wanted.then(|| HookSpec {
                command: vec!["bin/hook".to_owned()],
                timeout: Duration::from_secs(60),
            })
        };
        let [
            before_start,
            before_shift,
            after_shift,
            after_success,
            on_failure,
        ] = hooks.map(hook);
        spec.hooks = HooksSpec {
            before_start,
            before_shift,
            after_shift,
            after_success,
            on_failure,
        };
        spec.approval = approval;
        spec.preview = preview.then(|| PreviewSpec {
            header: "cutover-preview".to_owned(),
            secret_file: "/etc/cutover/preview".to_owned(),
        });
        spec.watch.on_no_verdict = policy;
        spec
    })
}

fn millis(from: u64, to: u64) -> impl Strategy<Value = Duration> {
    (from..=to).prop_map(Duration::from_millis)
}

fn waits() -> impl Strategy<Value = (Duration, Duration, u32, Duration, Duration, Duration)> {
    let hour = 3_600_000;
    (
        millis(1, hour),
        millis(1, hour),
        1..100_u32,
        millis(1_000, 24 * hour),
        millis(0, hour),
        millis(0, 600_000),
    )
}

type Takeover = (
    spec::Strategy,
    u16,
    u16,
    Duration,
    Vec<Weight>,
    Vec<Rule>,
    Then,
    Duration,
);

/// How the release takes over.
fn takeover() -> impl Strategy<Value = Takeover> {
    let weights = subsequence(vec![0, 1, 500, 2_500, 5_000, 9_999], 0..=6);
    let stages = (weights, any::<bool>()).prop_map(|(weights, rules)| {
        // A stage for nobody but those whom a rule sends needs a rule.
        let weights = weights.into_iter().filter(|weight| rules || *weight > 0);
        let weights: Vec<_> = weights.chain([10_000]).map(Weight).collect();
        let rule = Rule {
            all: vec![spec::Condition {
                subject: Subject::Header("x-beta".to_owned()),
                matching: Matching::Exact("1".to_owned()),
            }],
        };
        (
            weights,
            rules.then_some(rule).into_iter().collect::<Vec<_>>(),
        )
    });
    (
        select(spec::Strategy::ALL.to_vec()),
        1..=4_u16,
        1..=3_u16,
        select(vec![Duration::ZERO, Duration::from_secs(10)]),
        stages,
        select(vec![Then::Continue, Then::Stop]),
        select(vec![Duration::ZERO, Duration::from_secs(600)]),
    )
        .prop_map(|(strategy, replicas, batch, bake, stages, then, standby)| {
            let (weights, rules) = stages;
            (
                strategy, replicas, batch, bake, weights, rules, then, standby,
            )
        })
}

type People = ([bool; 5], Option<ApprovalSpec>, bool, OnNoVerdict);

/// Where people have a say in it.
fn people() -> impl Strategy<Value = People> {
    let approval = (
        select(vec![ApprovedBefore::Shift, ApprovedBefore::Full]),
        select(vec![OnTimeout::Abort, OnTimeout::Promote]),
    );
    let approval = approval.prop_map(|(before, on_timeout)| ApprovalSpec {
        before,
        deadline: Duration::from_secs(3_600),
        on_timeout,
    });
    let policies = vec![
        OnNoVerdict::Promote,
        OnNoVerdict::Abort,
        OnNoVerdict::Extend,
        OnNoVerdict::Hold,
    ];
    (
        any::<[bool; 5]>(),
        option::of(approval),
        any::<bool>(),
        select(policies),
    )
}
