//! The plan of each strategy, as a person reads it before a deploy.

use std::time::Duration;

use cutover_plan::compile::Request;
use cutover_plan::event::FailureClass;
use cutover_plan::observed::Condition;
use cutover_plan::outcome::Outcome;
use cutover_plan::spec::{
    ApprovalSpec, ApprovedBefore, Bytes, HookSpec, HooksSpec, Matching, OnNoVerdict, OnTimeout,
    PreviewSpec, Rule, Strategy, Subject, Then, Weight,
};
use cutover_plan::step::Step;
use cutover_plan::traffic::Traffic;
use insta::assert_snapshot;

use super::{after, check};
use crate::host::{Host, image};

const BAD: FailureClass = FailureClass::Release;

/// A host on which v1 serves, of an app that takes over so from now on.
fn one(strategy: Strategy, change: impl FnOnce(&mut Host)) -> Host {
    let mut host = after(&[1]);
    host.spec.strategy = strategy;
    change(&mut host);
    host
}

fn hook(command: &str) -> Option<HookSpec> {
    Some(HookSpec {
        command: command.split(' ').map(str::to_owned).collect(),
        timeout: Duration::from_secs(300),
    })
}

fn approval(before: ApprovedBefore) -> Option<ApprovalSpec> {
    Some(ApprovalSpec {
        before,
        deadline: Duration::from_secs(3_600),
        on_timeout: OnTimeout::Abort,
    })
}

#[test]
fn red_black_keeps_the_old_release_warm_for_a_while() {
    let host = one(Strategy::RedBlack, |_| {});
    assert_snapshot!(check(&host, &image(2)), @r"
shop: deploy v2 (image 2)
v1 serves until v2 is healthy
  1. preflight engine, registry, disk and memory
  2. pull      image 2
  3. start     v2 in green
  4. gate      v2 must answer GET / well 2 times in a row within 30s
  5. shift     all new requests from v1 to v2
  6. watch     v2 for 1m: at most 5% errors; with fewer than 20 requests it stays
  7. drain     v1: wait up to 30s for its open requests
  8. standby   v1 stays warm for a rollback for 10m
  9. prune     images of the app, all but 2
if it goes bad, it is taken back:
   - shift     all new requests from v2 to v1
   - drain     v2: wait up to 30s for its open requests
   - retire    v2: stop with 10s of grace, remove
   - prune     images of the app, all but 1
");
}

#[test]
fn red_black_without_a_while_retires_the_old_release_at_once() {
    let host = one(Strategy::RedBlack, |host| {
        host.spec.standby = Duration::ZERO
    });
    assert_snapshot!(check(&host, &image(2)), @r"
shop: deploy v2 (image 2)
v1 serves until v2 is healthy
  1. preflight engine, registry, disk and memory
  2. pull      image 2
  3. start     v2 in green
  4. gate      v2 must answer GET / well 2 times in a row within 30s
  5. shift     all new requests from v1 to v2
  6. watch     v2 for 1m: at most 5% errors; with fewer than 20 requests it stays
  7. drain     v1: wait up to 30s for its open requests
  8. retire    v1: stop with 10s of grace, remove
  9. prune     images of the app, all but 2
if it goes bad, it is taken back:
   - shift     all new requests from v2 to v1
   - drain     v2: wait up to 30s for its open requests
   - retire    v2: stop with 10s of grace, remove
   - prune     images of the app, all but 1
");
}

#[test]
fn standby_whose_time_is_over_is_retired() {
    let mut host = one(Strategy::RedBlack, |_| {});
    host.deploy(2);
    assert_snapshot!(check(&host, &Request::RetireStandby), @r"
shop: retire v1 (image 1)
v1 has stood by for its time
  1. drain     v1: wait up to 30s for its open requests
  2. retire    v1: stop with 10s of grace, remove
  3. prune     images of the app, all but 2
");
    let told = host.carry_out(&Request::RetireStandby, |_, _| crate::host::Fate::Done);
    assert_eq!(told.outcome, Outcome::Promoted);
    assert_snapshot!(host.told(), @"v2 serves, nobody stands by; run: v2; v1 proven, v2 proven");
    assert_snapshot!(check(&host, &Request::RetireStandby), @r"
no release stands by
hint: there is nothing to do
");
}

#[test]
fn canary_shifts_in_stages_and_judges_each_against_the_old_release() {
    let host = one(Strategy::Canary, |_| {});
    assert_snapshot!(check(&host, &image(2)), @r"
shop: deploy v2 (image 2)
v1 serves until v2 is healthy
  1. preflight engine, registry, disk and memory
  2. pull      image 2
  3. start     v2 in green
  4. gate      v2 must answer GET / well 2 times in a row within 30s
  5. shift     95% to v1, 5% to v2
  6. watch     v2 for 2m against v1: at most 5% errors and 0.2% more than it; with fewer than 50 requests it goes on
  7. shift     75% to v1, 25% to v2
  8. watch     v2 for 2m against v1: at most 5% errors and 0.2% more than it; with fewer than 50 requests it goes on
  9. shift     50% to v1, 50% to v2
 10. watch     v2 for 2m against v1: at most 5% errors and 0.2% more than it; with fewer than 50 requests it goes on
 11. shift     all requests to v2
 12. watch     v2 for 1m: at most 5% errors; with fewer than 20 requests it stays
 13. drain     v1: wait up to 30s for its open requests
 14. standby   v1 stays warm for a rollback
 15. prune     images of the app, all but 2
if it goes bad, it is taken back:
   - shift     all requests to v1
   - drain     v2: wait up to 30s for its open requests
   - retire    v2: stop with 10s of grace, remove
   - prune     images of the app, all but 1
");
}

#[test]
fn canary_by_rule_alone_has_a_stage_for_those_whom_it_sends() {
    let host = one(Strategy::Canary, |host| {
        host.spec.canary.weights = vec![Weight(0), Weight::FULL];
        host.spec.canary.rules = vec![Rule {
            all: vec![cutover_plan::spec::Condition {
                subject: Subject::Cookie("beta".to_owned()),
                matching: Matching::Exact("1".to_owned()),
            }],
        }];
        host.spec.approval = approval(ApprovedBefore::Full);
    });
    assert_snapshot!(check(&host, &image(2)), @r"
shop: deploy v2 (image 2)
v1 serves until v2 is healthy
  1. preflight engine, registry, disk and memory
  2. pull      image 2
  3. start     v2 in green
  4. gate      v2 must answer GET / well 2 times in a row within 30s
  5. shift     100% to v1, clients of the rules to v2
  6. watch     v2 for 2m against v1: at most 5% errors and 0.2% more than it; with fewer than 50 requests it goes on
  7. approve   v2 gets all users: a person decides; without an answer within 1h it is taken back
  8. shift     all requests to v2
  9. watch     v2 for 1m: at most 5% errors; with fewer than 20 requests it stays
 10. drain     v1: wait up to 30s for its open requests
 11. standby   v1 stays warm for a rollback
 12. prune     images of the app, all but 2
if it goes bad, it is taken back:
   - shift     all requests to v1
   - drain     v2: wait up to 30s for its open requests
   - retire    v2: stop with 10s of grace, remove
   - prune     images of the app, all but 1
");
}

#[test]
fn canary_without_a_good_release_beside_it_is_blue_green() {
    let host = one(Strategy::Canary, |host| host.set(1, Condition::Unhealthy));
    assert_snapshot!(check(&host, &image(2)), @r"
shop: deploy v2 (image 2)
v1 serves but does not answer: no way back to it
  1. preflight engine, registry, disk and memory
  2. pull      image 2
  3. start     v2 in green
  4. gate      v2 must answer GET / well 2 times in a row within 30s
  5. shift     all new requests from v1 to v2
  6. watch     v2 for 1m: at most 5% errors; with fewer than 20 requests it stays
  7. drain     v1: wait up to 30s for its open requests
  8. retire    v1: stop with 10s of grace, remove
  9. prune     images of the app, all but 2
if it goes bad, it stays: there is no better release
");
}

#[test]
fn rolling_replaces_replicas_in_batches_and_goes_back_one_by_one() {
    let host = one(Strategy::Rolling, |host| {
        host.spec.strategy = Strategy::BlueGreen;
        host.spec.replicas = 3;
        host.deploy(2);
        host.spec.strategy = Strategy::Rolling;
        host.spec.rolling.batch = 2;
        host.spec.rolling.bake = Duration::from_secs(30);
    });
    assert_snapshot!(check(&host, &image(3)), @r"
shop: deploy v3 (image 3)
v2 serves until v3 is healthy
  1. preflight engine, registry, disk and memory
  2. pull      image 3
  3. drain     v1: wait up to 30s for its open requests
  4. retire    v1: stop with 10s of grace, remove
  5. start     v3 (replicas 0, 1) in blue
  6. gate      v3 (replicas 0, 1) must answer GET / well 2 times in a row within 30s
  7. shift     33.34% to v2 (replica 2), 66.66% to v3 (replicas 0, 1)
  8. drain     v2 (replicas 0, 1): wait up to 30s for its open requests
  9. retire    v2 (replicas 0, 1): stop with 10s of grace, remove
 10. watch     v3 for 30s against v2: at most 5% errors and 0.2% more than it; with fewer than 50 requests it goes on
 11. start     v3 (replica 2) in blue
 12. gate      v3 (replica 2) must answer GET / well 2 times in a row within 30s
 13. shift     all requests to v3
 14. watch     v3 for 1m: at most 5% errors; with fewer than 20 requests it stays
 15. drain     v2: wait up to 30s for its open requests
 16. retire    v2: stop with 10s of grace, remove
 17. prune     images of the app, all but 3
if it goes bad, it is taken back:
   - shift     33.34% to v2 (replica 2), 66.66% to v3 (replicas 0, 1)
   - drain     v3 (replica 2): wait up to 30s for its open requests
   - retire    v3 (replica 2): stop with 10s of grace, remove
   - start     v2 (replicas 0, 1) in green
   - gate      v2 (replicas 0, 1) must answer GET / well 2 times in a row within 30s
   - shift     all requests to v2
   - drain     v3 (replicas 0, 1): wait up to 30s for its open requests
   - retire    v3 (replicas 0, 1): stop with 10s of grace, remove
   - prune     images of the app, all but 2
");
}

#[test]
fn rolling_of_a_single_replica_starts_before_it_stops() {
    let host = one(Strategy::Rolling, |_| {});
    assert_snapshot!(check(&host, &image(2)), @r"
shop: deploy v2 (image 2)
v1 serves until v2 is healthy
  1. preflight engine, registry, disk and memory
  2. pull      image 2
  3. start     v2 in green
  4. gate      v2 must answer GET / well 2 times in a row within 30s
  5. shift     all new requests from v1 to v2
  6. watch     v2 for 1m: at most 5% errors; with fewer than 20 requests it stays
  7. drain     v1: wait up to 30s for its open requests
  8. retire    v1: stop with 10s of grace, remove
  9. prune     images of the app, all but 2
if it goes bad, it is taken back:
   - shift     all new requests from v2 to v1
   - drain     v2: wait up to 30s for its open requests
   - retire    v2: stop with 10s of grace, remove
   - prune     images of the app, all but 1
");
}

#[test]
fn in_place_holds_requests_while_the_old_release_makes_room() {
    let host = one(Strategy::InPlace, |host| {
        host.spec.approval = approval(ApprovedBefore::Shift);
    });
    assert_snapshot!(check(&host, &image(2)), @r"
shop: deploy v2 (image 2)
v1 makes room for v2: requests wait
note: a request is held for 30s at the most; in the worst case the change takes 1m 10s
  1. preflight engine, registry, disk and memory
  2. pull      image 2
  3. approve   v2 gets users: a person decides; without an answer within 1h it is taken back
  4. park      hold up to 1000 requests, each up to 30s
  5. drain     v1: wait up to 30s for its open requests
  6. retire    v1: stop with 10s of grace, remove
  7. start     v2 in green
  8. gate      v2 must answer GET / well 2 times in a row within 30s
  9. shift     all new requests from v1 to v2
 10. watch     v2 for 1m: at most 5% errors; with fewer than 20 requests it stays
 11. prune     images of the app, all but 2
if it goes bad, it is taken back:
   - park      hold up to 1000 requests, each up to 30s
   - drain     v2: wait up to 30s for its open requests
   - retire    v2: stop with 10s of grace, remove
   - start     v1 in blue
   - gate      v1 must answer GET / well 2 times in a row within 30s
   - shift     all requests to v1
   - prune     images of the app, all but 1
");
}

#[test]
fn in_place_asks_for_no_memory_beside_the_old_release() {
    let preflight = |strategy| {
        let host = one(strategy, |host| {
            host.spec.run.memory = Some(Bytes(64 << 20))
        });
        let plan = check(&host, &image(2));
        let line = plan.lines().find(|line| line.contains("1. preflight"));
        line.unwrap_or_default().trim().to_owned()
    };
    let asked = "1. preflight engine, registry, disk and memory";
    assert_eq!(preflight(Strategy::InPlace), asked);
    assert_eq!(
        preflight(Strategy::BlueGreen),
        format!("{asked} (its limit is 64 MiB)")
    );
}

#[test]
fn rolling_asks_for_the_memory_of_what_it_has_at_once() {
    let preflight = |there, wanted, batch| {
        let host = one(Strategy::Rolling, |host| {
            host.spec.strategy = Strategy::BlueGreen;
            host.spec.replicas = there;
            host.deploy(2);
            host.spec.strategy = Strategy::Rolling;
            host.spec.replicas = wanted;
            host.spec.rolling.batch = batch;
            host.spec.run.memory = Some(Bytes(64 << 20));
        });
        let plan = check(&host, &image(3));
        let line = plan.lines().find(|line| line.contains("1. preflight"));
        let (_, limit) = line.unwrap_or_default().split_once(" is ").unwrap();
        limit.to_owned()
    };
    assert_eq!(preflight(3, 3, 1), "64 MiB)");
    assert_eq!(preflight(3, 3, 2), "128 MiB)");
    assert_eq!(preflight(1, 3, 1), "192 MiB)");
    assert_eq!(preflight(3, 1, 2), "64 MiB)");
}

#[test]
fn in_place_of_a_broken_release_starts_nothing_again() {
    let host = one(Strategy::InPlace, |host| host.set(1, Condition::Unhealthy));
    assert_snapshot!(check(&host, &image(2)), @r"
shop: deploy v2 (image 2)
v1 serves but does not answer: no way back to it
note: a request is held for 30s at the most; in the worst case the change takes 1m 10s
  1. preflight engine, registry, disk and memory
  2. pull      image 2
  3. park      hold up to 1000 requests, each up to 30s
  4. drain     v1: wait up to 30s for its open requests
  5. retire    v1: stop with 10s of grace, remove
  6. start     v2 in green
  7. gate      v2 must answer GET / well 2 times in a row within 30s
  8. shift     all new requests from v1 to v2
  9. watch     v2 for 1m: at most 5% errors; with fewer than 20 requests it stays
 10. prune     images of the app, all but 2
if it goes bad, it stays: there is no better release
");
}

#[test]
fn shadow_compares_on_copies_and_goes_on_as_blue_green() {
    let host = one(Strategy::Shadow, |_| {});
    assert_snapshot!(check(&host, &image(2)), @r"
shop: deploy v2 (image 2)
v1 serves until v2 is healthy
  1. preflight engine, registry, disk and memory
  2. pull      image 2
  3. start     v2 in green
  4. gate      v2 must answer GET / well 2 times in a row within 30s
  5. mirror    copies of 100% of the safe requests to v2
  6. watch     v2 for 5m on copies, against v1: at most 5% errors and 0.2% more than it; with fewer than 50 requests it goes on
  7. mirror    no copies any more
  8. shift     all new requests from v1 to v2
  9. watch     v2 for 1m: at most 5% errors; with fewer than 20 requests it stays
 10. drain     v1: wait up to 30s for its open requests
 11. standby   v1 stays warm for a rollback
 12. prune     images of the app, all but 2
if it goes bad, it is taken back:
   - shift     all new requests from v2 to v1
   - drain     v2: wait up to 30s for its open requests
   - mirror    no copies any more
   - retire    v2: stop with 10s of grace, remove
   - prune     images of the app, all but 1
");
}

#[test]
fn shadow_that_stops_leaves_everything_as_it_was() {
    let mut host = one(Strategy::Shadow, |host| host.spec.shadow.then = Then::Stop);
    assert_snapshot!(check(&host, &image(2)), @r"
shop: deploy v2 (image 2)
v1 serves; v2 gets copies only
  1. preflight engine, registry, disk and memory
  2. pull      image 2
  3. start     v2 in green
  4. gate      v2 must answer GET / well 2 times in a row within 30s
  5. mirror    copies of 100% of the safe requests to v2
  6. watch     v2 for 5m on copies, against v1: at most 5% errors and 0.2% more than it; with fewer than 50 requests it goes on
  7. mirror    no copies any more
  8. drain     v2: wait up to 30s for its open requests
  9. retire    v2: stop with 10s of grace, remove
 10. prune     images of the app, all but 2
if it goes bad, it is taken back:
   - mirror    no copies any more
   - retire    v2: stop with 10s of grace, remove
   - prune     images of the app, all but 1
");
    assert_eq!(host.deploy(2).outcome, Outcome::Shadowed);
    assert_snapshot!(host.told(), @"v1 serves, nobody stands by; run: v1; v1 proven, v2 unproven");
}

#[test]
fn hooks_and_people_stand_where_the_file_puts_them() {
    let host = one(Strategy::BlueGreen, |host| {
        host.spec.hooks = HooksSpec {
            before_start: hook("bin/migrate up"),
            before_shift: hook("bin/smoke"),
            after_shift: hook("bin/warm"),
            after_success: hook("bin/announce"),
            on_failure: hook("bin/mourn"),
        };
        host.spec.approval = approval(ApprovedBefore::Shift);
        host.spec.preview = Some(PreviewSpec {
            header: "cutover-preview".to_owned(),
            secret_file: "/etc/cutover/preview".to_owned(),
        });
        host.spec.watch.on_no_verdict = OnNoVerdict::Hold;
    });
    assert_snapshot!(check(&host, &image(2)), @r"
shop: deploy v2 (image 2)
v1 serves until v2 is healthy
  1. preflight engine, registry, disk and memory
  2. pull      image 2
  3. hook      before_start: bin/migrate up within 5m
  4. start     v2 in green
  5. gate      v2 must answer GET / well 2 times in a row within 30s
  6. hook      before_shift: bin/smoke within 5m
  7. preview   v2 for those who send the app's secret
  8. approve   v2 gets users: a person decides; without an answer within 1h it is taken back
  9. shift     all new requests from v1 to v2
 10. hook      after_shift: bin/warm within 5m
 11. watch     v2 for 1m: at most 5% errors; with fewer than 20 requests a person decides within 1h
 12. drain     v1: wait up to 30s for its open requests
 13. standby   v1 stays warm for a rollback
 14. preview   nobody any more
 15. hook      after_success: bin/announce within 5m
 16. prune     images of the app, all but 2
if it goes bad, it is taken back:
   - shift     all new requests from v2 to v1
   - drain     v2: wait up to 30s for its open requests
   - preview   nobody any more
   - retire    v2: stop with 10s of grace, remove
   - hook      on_failure: bin/mourn within 5m
   - prune     images of the app, all but 1
");
}

#[test]
fn rollback_runs_no_hook_and_asks_nobody() {
    let mut host = one(Strategy::BlueGreen, |_| {});
    host.deploy(2);
    host.spec.hooks.before_start = hook("bin/migrate up");
    host.spec.hooks.on_failure = hook("bin/mourn");
    host.spec.approval = approval(ApprovedBefore::Full);
    for warm in [true, false] {
        if !warm {
            host.seen.containers.retain(|c| c.release.0 == 2);
        }
        let plan = host.plan(&Request::Rollback).expect("a plan");
        let text = plan.to_string();
        assert!(
            !text.contains("hook") && !text.contains("approve"),
            "{text}"
        );
    }
}

#[test]
fn requests_that_a_failed_way_back_left_split_are_settled_first() {
    let host = one(Strategy::BlueGreen, |host| {
        host.deploy(2);
        let split = Traffic::split(2.into(), 1.into(), Weight(2_500));
        host.seen.releases.traffic = split.clone();
        host.seen.releases.standby = None;
        host.routed = split;
    });
    assert_snapshot!(check(&host, &image(3)), @r"
shop: deploy v3 (image 3)
v2 serves until v3 is healthy
  1. shift     all requests to v2
  2. preflight engine, registry, disk and memory
  3. pull      image 3
  4. drain     v1: wait up to 30s for its open requests
  5. retire    v1: stop with 10s of grace, remove
  6. start     v3 in blue
  7. gate      v3 must answer GET / well 2 times in a row within 30s
  8. shift     all new requests from v2 to v3
  9. watch     v3 for 1m: at most 5% errors; with fewer than 20 requests it stays
 10. drain     v2: wait up to 30s for its open requests
 11. standby   v2 stays warm for a rollback
 12. prune     images of the app, all but 3
if it goes bad, it is taken back:
   - shift     all new requests from v3 to v2
   - drain     v3: wait up to 30s for its open requests
   - retire    v3: stop with 10s of grace, remove
   - prune     images of the app, all but 2
");
}

/// It serves, is proven and healthy, but not everybody gets it.
#[test]
fn image_that_only_a_part_of_the_users_gets_is_deployed_again() {
    let host = one(Strategy::BlueGreen, |host| {
        host.deploy(2);
        let split = Traffic::split(2.into(), 1.into(), Weight(2_500));
        host.seen.releases.traffic = split.clone();
        host.seen.releases.standby = None;
        host.routed = split;
    });
    let plan = host.plan(&image(2)).expect("a plan");
    assert_eq!(plan.release.number, 3.into());
    assert!(!plan.steps.is_empty(), "{plan}");
}

#[test]
fn plan_without_a_step_warns_of_none() {
    let mut host = one(Strategy::InPlace, |host| {
        host.spec.run.memory = Some(Bytes(1 << 30));
        host.seen.memory = Some(Bytes(0));
    });
    let plan = host.plan(&image(1)).expect("a plan");
    assert_eq!((plan.steps, plan.notes), (vec![], vec![]));
    host.spec.run.memory = None;
    let plan = host.plan(&image(2)).expect("a plan");
    assert_eq!(plan.notes.len(), 1, "that requests are held");
}

#[test]
fn what_the_person_should_know_stands_above_the_steps() {
    let mut host = one(Strategy::BlueGreen, |host| {
        host.spec.replicas = 2;
        host.spec.run.memory = Some(Bytes(512 << 20));
        host.seen.memory = Some(Bytes(1_000 << 20));
        host.seen.age = Duration::from_secs(90);
    });
    host.routed = Traffic::none();
    assert_snapshot!(check(&host, &image(2)), @r"
shop: deploy v2 (image 2)
v1 serves until v2 is healthy
note: the host was looked at 1m 30s ago
note: the proxy sends requests to nobody, the journal says v1
note: the release may take 1 GiB of memory, 1000 MiB are free: preflight would refuse it
  1. preflight engine, registry, disk and memory (its limit is 1 GiB)
  2. pull      image 2
  3. start     v2 (replicas 0, 1) in green
  4. gate      v2 (replicas 0, 1) must answer GET / well 2 times in a row within 30s
  5. shift     all new requests from v1 to v2
  6. watch     v2 for 1m: at most 5% errors; with fewer than 20 requests it stays
  7. drain     v1: wait up to 30s for its open requests
  8. standby   v1 stays warm for a rollback
  9. prune     images of the app, all but 2
if it goes bad, it is taken back:
   - shift     all new requests from v2 to v1
   - drain     v2: wait up to 30s for its open requests
   - retire    v2 (replicas 0, 1): stop with 10s of grace, remove
   - prune     images of the app, all but 1
");
}

#[test]
fn standby_that_is_the_only_one_to_answer_stays() {
    let mut host = one(Strategy::RedBlack, |_| {});
    host.deploy(2);
    host.set(2, Condition::Unhealthy);
    assert_snapshot!(check(&host, &Request::RetireStandby), @r"
v2 serves but does not answer, so v1 stays
hint: roll back to it, or deploy a good image
");
}

#[test]
fn same_image_with_other_replicas_is_something_to_do() {
    let mut host = one(Strategy::BlueGreen, |_| {});
    assert!(host.plan(&image(1)).expect("a plan").steps.is_empty());
    host.spec.replicas = 2;
    assert!(!host.plan(&image(1)).expect("a plan").steps.is_empty());
}

#[test]
fn standby_that_is_only_half_there_is_no_warm_one() {
    let mut host = one(Strategy::BlueGreen, |host| {
        host.spec.replicas = 2;
        host.deploy(2);
        host.deploy(3);
    });
    let warm = host.plan(&Request::Rollback).expect("a plan");
    assert_eq!(warm.steps[0].step.name(), "gate");
    let half = host.seen.containers.iter_mut().find(|c| c.release.0 == 2);
    half.expect("a container of v2").condition = Condition::Stopped;
    let cold = host.plan(&Request::Rollback).expect("a plan");
    assert_eq!(cold.steps[0].step.name(), "preflight");
}

#[test]
fn hook_on_failure_runs_also_where_the_release_stays() {
    let mut host = one(Strategy::BlueGreen, |host| {
        host.set(1, Condition::Unhealthy);
        host.spec.hooks.on_failure = hook("bin/mourn");
    });
    let told = host
        .clone()
        .deploy_but(2, "watch", crate::host::Fate::Fails(BAD));
    assert!(
        told.steps().ends_with("watch -hook -prune"),
        "{}",
        told.steps()
    );
    // Where nothing of the release was begun there is nothing to mourn.
    let told = host.deploy_but(2, "pull", crate::host::Fate::Fails(BAD));
    assert!(told.steps().ends_with("pull -prune"), "{}", told.steps());
}

#[test]
fn in_place_starts_again_only_what_was_well() {
    let host = one(Strategy::InPlace, |host| {
        host.spec.strategy = Strategy::BlueGreen;
        host.spec.replicas = 2;
        host.deploy(2);
        host.spec.strategy = Strategy::InPlace;
        let half = host.seen.containers.iter_mut().find(|c| c.release.0 == 2);
        half.expect("a container of v2").condition = Condition::Unhealthy;
    });
    let plan = host.plan(&image(3)).expect("a plan");
    let back = plan.way_back(plan.proved_after());
    let started = back.iter().find_map(|step| match step {
        Step::Start { replicas, .. } => Some(replicas.len()),
        _ => None,
    });
    assert_eq!(started, Some(1));
}
