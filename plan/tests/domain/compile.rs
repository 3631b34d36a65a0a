//! What the compiler makes of a request, as a person reads it.

mod rollback;
mod scale;
mod strategies;

use cutover_plan::compile::Request;
use cutover_plan::event::FailureClass;
use cutover_plan::id::{ImageReference, ReleaseNumber, Slot};
use cutover_plan::observed::Condition;
use cutover_plan::outcome::Outcome;
use cutover_plan::spec::{Bytes, OnNoVerdict, Rate};
use cutover_plan::step::Step;
use insta::assert_snapshot;

use crate::host::{Fate, Host, digest, image};

/// The plan as a person reads it, images by their numbers; or why there is none.
fn check(host: &Host, request: &Request) -> String {
    let text = match host.plan(request) {
        Ok(plan) => plan.to_string(),
        Err(error) => format!("{error}\nhint: {}", error.hint()),
    };
    (0..10).fold(text, |text, number| {
        let long = format!("ghcr.io/acme/shop@{}", digest(number).as_str());
        text.replace(&long, &format!("image {number}"))
    })
}

/// A host on which these images were deployed one after the other, all well.
fn after(images: &[u8]) -> Host {
    let mut host = Host::new();
    for image in images {
        assert_eq!(host.deploy(*image).outcome, Outcome::Promoted);
    }
    host
}

#[test]
fn first_deploy_compares_with_nothing_and_withdraws_the_route_when_it_is_bad() {
    assert_snapshot!(check(&after(&[]), &image(1)), @r"
shop: deploy v1 (image 1)
first release: nothing to compare with, nothing to keep
  1. preflight engine, registry, disk and memory
  2. pull      image 1
  3. start     v1 in blue
  4. gate      v1 must answer GET / well 2 times in a row within 30s
  5. shift     all requests to v1
  6. watch     v1 for 1m: at most 5% errors; with fewer than 20 requests it stays
  7. prune     images of the app, all but 1
if it goes bad, it is taken back:
   - shift     withdraw the route: no release is left
   - drain     v1: wait up to 30s for its open requests
   - retire    v1: stop with 10s of grace, remove
   - prune     all images of the app
");
}

#[test]
fn second_deploy_starts_beside_and_keeps_the_first_warm() {
    let mut host = after(&[1]);
    host.spec.run.memory = Some(Bytes(512 << 20));
    host.spec.watch.max_error_rate = Rate::parse("1%").unwrap();
    host.spec.watch.max_latency_p99 = Some(std::time::Duration::from_millis(800));
    assert_snapshot!(check(&host, &image(2)), @r"
shop: deploy v2 (image 2)
v1 serves until v2 is healthy
  1. preflight engine, registry, disk and memory (its limit is 512 MiB)
  2. pull      image 2
  3. start     v2 in green
  4. gate      v2 must answer GET / well 2 times in a row within 30s
  5. shift     all new requests from v1 to v2
  6. watch     v2 for 1m: at most 1% errors, p99 at most 800ms; with fewer than 20 requests it stays
  7. drain     v1: wait up to 30s for its open requests
  8. standby   v1 stays warm for a rollback
  9. prune     images of the app, all but 2
if it goes bad, it is taken back:
   - shift     all new requests from v2 to v1
   - drain     v2: wait up to 30s for its open requests
   - retire    v2: stop with 10s of grace, remove
   - prune     images of the app, all but 1
");
}

#[test]
fn watch_tells_what_happens_without_a_verdict() {
    let check = |min_requests, on_no_verdict| {
        let mut host = after(&[1]);
        host.spec.watch.min_requests = min_requests;
        host.spec.watch.on_no_verdict = on_no_verdict;
        let plan = check(&host, &image(2));
        let line = plan.lines().find(|line| line.contains("watch"));
        line.expect("a watch").to_owned()
    };
    assert_snapshot!(check(20, OnNoVerdict::Promote), @"  6. watch     v2 for 1m: at most 5% errors; with fewer than 20 requests it stays");
    assert_snapshot!(check(500, OnNoVerdict::Abort), @"  6. watch     v2 for 1m: at most 5% errors; with fewer than 500 requests it goes back, where there is a way back");
    assert_snapshot!(check(1, OnNoVerdict::Promote), @"  6. watch     v2 for 1m: at most 5% errors; without a request it stays");
    assert_snapshot!(check(0, OnNoVerdict::Abort), @"  6. watch     v2 for 1m: at most 5% errors; without a request it goes back, where there is a way back");
}

#[test]
fn third_deploy_retires_the_standby_before_it_starts() {
    assert_snapshot!(check(&after(&[1, 2]), &image(3)), @r"
shop: deploy v3 (image 3)
v2 serves until v3 is healthy
  1. preflight engine, registry, disk and memory
  2. pull      image 3
  3. drain     v1: wait up to 30s for its open requests
  4. retire    v1: stop with 10s of grace, remove
  5. start     v3 in blue
  6. gate      v3 must answer GET / well 2 times in a row within 30s
  7. shift     all new requests from v2 to v3
  8. watch     v3 for 1m: at most 5% errors; with fewer than 20 requests it stays
  9. drain     v2: wait up to 30s for its open requests
 10. standby   v2 stays warm for a rollback
 11. prune     images of the app, all but 3
if it goes bad, it is taken back:
   - shift     all new requests from v3 to v2
   - drain     v3: wait up to 30s for its open requests
   - retire    v3: stop with 10s of grace, remove
   - prune     images of the app, all but 2
");
}

#[test]
fn same_program_that_is_proven_and_healthy_is_nothing_to_do() {
    assert_snapshot!(check(&after(&[1, 2]), &image(2)), @r"
shop: deploy v2 (image 2)
v2 is this image and serves: nothing to do
");
}

#[test]
fn same_image_is_a_new_release_unless_it_is_proven_healthy_and_of_the_same_fingerprint() {
    let check = |change: &dyn Fn(&mut Host), request: &Request| {
        let mut host = after(&[1, 2]);
        change(&mut host);
        let plan = host.plan(request).unwrap();
        (plan.release.number, plan.steps.is_empty())
    };
    let nothing = (ReleaseNumber(2), true);
    let new = (ReleaseNumber(3), false);
    assert_eq!(check(&|_| {}, &image(2)), nothing);
    assert_eq!(
        check(&|host| host.set(2, Condition::Unhealthy), &image(2)),
        new
    );
    assert_eq!(
        check(&|host| host.set(2, Condition::Stopped), &image(2)),
        new
    );
    assert_eq!(check(&|host| host.seen.containers.clear(), &image(2)), new);
    // The image of the standby is not the one that serves.
    assert_eq!(check(&|_| {}, &image(1)), new);
    let Request::Deploy { image: two, .. } = image(2) else {
        unreachable!()
    };
    let other = Request::Deploy {
        image: two.clone(),
        fingerprint: "f2".into(),
        commit: None,
    };
    assert_eq!(check(&|_| {}, &other), new);
    // Where it was built of is no part of the program.
    let commit = Request::Deploy {
        image: two,
        fingerprint: "f1".into(),
        commit: Some("c0ffee".into()),
    };
    assert_eq!(check(&|_| {}, &commit), nothing);
}

#[test]
fn same_image_that_serves_unproven_is_deployed_again() {
    let mut host = after(&[1]);
    host.set(1, Condition::Unhealthy);
    let bad = Fate::Fails(FailureClass::Release);
    assert_eq!(host.deploy_but(2, "watch", bad).outcome, Outcome::Failed);
    assert_snapshot!(host.told(), @"v2 serves, nobody stands by; run: v1 v2; v1 proven, v2 unproven");
    assert!(!host.plan(&image(2)).unwrap().steps.is_empty());
}

#[test]
fn broken_serving_release_is_no_way_back() {
    let mut host = after(&[1, 2]);
    host.set(2, Condition::Unhealthy);
    assert_snapshot!(check(&host, &image(3)), @r"
shop: deploy v3 (image 3)
what serves does not answer: v1 takes over until v3 is healthy
  1. gate      v1 must answer GET / well 2 times in a row within 30s
  2. shift     all new requests from v2 to v1
  3. preflight engine, registry, disk and memory
  4. pull      image 3
  5. drain     v2: wait up to 30s for its open requests
  6. retire    v2: stop with 10s of grace, remove
  7. start     v3 in green
  8. gate      v3 must answer GET / well 2 times in a row within 30s
  9. shift     all new requests from v1 to v3
 10. watch     v3 for 1m: at most 5% errors; with fewer than 20 requests it stays
 11. drain     v1: wait up to 30s for its open requests
 12. standby   v1 stays warm for a rollback
 13. prune     images of the app, all but 3
if it goes bad, it is taken back:
   - shift     all new requests from v3 to v1
   - drain     v3: wait up to 30s for its open requests
   - retire    v3: stop with 10s of grace, remove
   - prune     images of the app, all but 2
");
}

#[test]
fn orphan_containers_are_retired_before_the_start_and_their_numbers_not_given_again() {
    let mut host = after(&[1, 2]);
    host.add(7, Slot::Blue, Condition::Healthy);
    host.add(9, Slot::Green, Condition::Stopped);
    assert_snapshot!(check(&host, &image(3)), @r"
shop: deploy v10 (image 3)
v2 serves until v10 is healthy
  1. preflight engine, registry, disk and memory
  2. pull      image 3
  3. drain     v1: wait up to 30s for its open requests
  4. retire    v1: stop with 10s of grace, remove
  5. drain     v7: wait up to 30s for its open requests
  6. retire    v7: stop with 10s of grace, remove
  7. drain     v9: wait up to 30s for its open requests
  8. retire    v9: stop with 10s of grace, remove
  9. start     v10 in blue
 10. gate      v10 must answer GET / well 2 times in a row within 30s
 11. shift     all new requests from v2 to v10
 12. watch     v10 for 1m: at most 5% errors; with fewer than 20 requests it stays
 13. drain     v2: wait up to 30s for its open requests
 14. standby   v2 stays warm for a rollback
 15. prune     images of the app, all but 3
if it goes bad, it is taken back:
   - shift     all new requests from v10 to v2
   - drain     v10: wait up to 30s for its open requests
   - retire    v10: stop with 10s of grace, remove
   - prune     images of the app, all but 2
");
}

#[test]
fn image_of_another_repository_is_refused_with_a_hint() {
    let text = format!("ghcr.io/evil/shop@{}", digest(1).as_str());
    let foreign = Request::Deploy {
        image: ImageReference::parse(&text).unwrap(),
        fingerprint: "f1".into(),
        commit: None,
    };
    assert_snapshot!(check(&after(&[]), &foreign), @r"
the app runs images of ghcr.io/acme/shop only, not of ghcr.io/evil/shop
hint: change image in the app's file on the host, or deploy to the app that runs this image
");
}

#[test]
fn slots_alternate() {
    let mut host = Host::new();
    let mut slots = Vec::new();
    for number in 1..=4 {
        host.deploy(number);
        let serving = host.routed.sole().unwrap();
        slots.push(host.seen.slot_of(serving).unwrap());
    }
    let (blue, green) = (Slot::Blue, Slot::Green);
    assert_eq!(slots, [blue, green, blue, green]);
    // A release that fails leaves the slot to the next.
    host.deploy_but(5, "gate", Fate::Fails(FailureClass::Release));
    host.deploy(6);
    assert_eq!(host.seen.slot_of(host.routed.sole().unwrap()), Some(blue));
}

/// The images that the plan keeps, by their numbers.
fn kept(host: &Host, request: &Request) -> Vec<u8> {
    let plan = host.plan(request).expect("a plan");
    let keep = plan.steps.iter().find_map(|planned| match &planned.step {
        Step::Prune { keep } => Some(keep.clone()),
        _ => None,
    });
    let keep = keep.expect("a prune");
    (0..20).filter(|n| keep.contains(&digest(*n))).collect()
}

#[test]
fn prune_keeps_what_this_rollback_and_the_next_need() {
    assert_eq!(kept(&after(&[]), &image(1)), [1]);
    assert_eq!(kept(&after(&[1]), &image(2)), [1, 2]);
    assert_eq!(kept(&after(&[1, 2, 3, 4, 5]), &image(6)), [4, 5, 6]);
    // Back to 4, of which the next rollback goes to 3.
    assert_eq!(
        kept(&after(&[1, 2, 3, 4, 5]), &Request::Rollback),
        [2, 3, 4, 5]
    );
    // What was taken back is needed by nobody.
    let mut host = after(&[1, 2]);
    host.deploy_but(3, "watch", Fate::Fails(FailureClass::Release));
    assert_eq!(kept(&host, &image(4)), [1, 2, 4]);
}

#[test]
fn way_back_undoes_what_was_begun_and_nothing_else() {
    let check = |host: &Host, request: &Request| {
        let plan = host.plan(request).unwrap();
        let line = |begun: usize| {
            let last = begun
                .checked_sub(1)
                .map_or("nothing", |i| plan.steps[i].step.name());
            let back = plan.way_back(begun);
            let names: Vec<_> = back.iter().map(|step| step.name()).collect();
            let names = if names.is_empty() {
                "-".to_owned()
            } else {
                names.join(" ")
            };
            format!("{last}: {:?}, {names}", plan.users_after(begun))
        };
        let lines: Vec<_> = (0..=plan.steps.len()).map(line).collect();
        lines.join("\n")
    };
    let host = after(&[1, 2]);
    assert_snapshot!(check(&host, &image(3)), @r"
nothing: NeverCame, -
preflight: NeverCame, prune
pull: NeverCame, prune
drain: NeverCame, prune
retire: NeverCame, prune
start: NeverCame, retire prune
gate: NeverCame, retire prune
shift: GoBack, shift drain retire prune
watch: GoBack, shift drain retire prune
drain: GoBack, shift drain retire prune
standby: GoBack, shift drain retire prune
prune: GoBack, shift drain retire prune
");
    assert_snapshot!(check(&Host::new(), &image(1)), @r"
nothing: NeverCame, -
preflight: NeverCame, prune
pull: NeverCame, prune
start: NeverCame, retire prune
gate: NeverCame, retire prune
shift: GoBack, shift drain retire prune
watch: GoBack, shift drain retire prune
prune: GoBack, shift drain retire prune
");
    assert_snapshot!(check(&host, &Request::Rollback), @r"
nothing: NeverCame, -
gate: NeverCame, -
shift: Stay, -
watch: Stay, -
drain: Stay, -
standby: Stay, -
prune: Stay, -
");
    let mut broken = host.clone();
    broken.set(2, Condition::Unhealthy);
    assert_snapshot!(check(&broken, &image(3)), @r"
nothing: NeverCame, -
gate: NeverCame, prune
shift: NeverCame, prune
preflight: NeverCame, prune
pull: NeverCame, prune
drain: NeverCame, prune
retire: NeverCame, prune
start: NeverCame, retire prune
gate: NeverCame, retire prune
shift: GoBack, shift drain retire prune
watch: GoBack, shift drain retire prune
drain: GoBack, shift drain retire prune
standby: GoBack, shift drain retire prune
prune: GoBack, shift drain retire prune
");
}
