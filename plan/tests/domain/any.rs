//! Any host: any spec that a file can say, and any world that could be found,
//! also those that no deploy leaves behind.

use std::time::Duration;

use cutover_plan::compile::Request;
use cutover_plan::event::FailureClass;
use cutover_plan::id::{ReleaseNumber, Slot};
use cutover_plan::observed::Condition;
use cutover_plan::release::{KnownRelease, Release, Standing};
use cutover_plan::spec::{AppSpec, OnNoVerdict};
use proptest::collection::vec;
use proptest::option;
use proptest::prelude::{Just, Strategy, any, prop_oneof};
use proptest::sample::select;

use crate::host::{Fate, Host, image, reference, spec};

/// Releases that the journal knows, at the most.
const KNOWN: usize = 5;

/// Images that they have, so that some have the same.
const IMAGES: u8 = 3;

pub(crate) fn request() -> impl Strategy<Value = Request> {
    prop_oneof![(1..=IMAGES).prop_map(image), Just(Request::Rollback)]
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
        12 => Just(Fate::Done),
        1 => class.clone().prop_map(Fate::Fails),
        1 => class.prop_map(Fate::FailsLate),
        1 => Just(Fate::Aborted),
        1 => Just(Fate::Crash),
        1 => Just(Fate::Died),
    ];
    vec(fate, 0..30)
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
    let there = vec(option::of((slot(), vec(condition(), 1..3))), KNOWN + 2);
    let places = (any::<usize>(), any::<usize>());
    let app = app_spec();
    (app, known, there, places).prop_map(|(spec, known, there, (serving, standby))| {
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
        host.routed = releases.serving;
        for (number, place) in (1..).zip(there.into_iter().take(count + 2)) {
            let (slot, conditions) = place.unwrap_or((Slot::Blue, Vec::new()));
            for condition in conditions {
                host.add(number, slot, condition);
            }
        }
        host
    })
}

fn app_spec() -> impl Strategy<Value = AppSpec> {
    let millis = |from: u64, to: u64| (from..=to).prop_map(Duration::from_millis);
    let hour = 3_600_000;
    let policy = select(vec![OnNoVerdict::Promote, OnNoVerdict::Rollback]);
    let waits = (
        millis(1, hour),
        millis(1, hour),
        1..100_u32,
        millis(1_000, 24 * hour),
        millis(0, hour),
        millis(0, 600_000),
    );
    (waits, policy).prop_map(|(waits, policy)| {
        let mut spec = spec();
        let (deadline, timeout, successes, window, drain, grace) = waits;
        spec.health.deadline = deadline;
        spec.health.timeout = timeout;
        spec.health.successes = successes;
        spec.watch.window = window;
        spec.watch.on_no_verdict = policy;
        spec.drain_deadline = drain;
        spec.run.stop_grace = grace;
        spec
    })
}
