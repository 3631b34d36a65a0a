//! Where a rollback goes, and how.

use cutover_plan::compile::{CompileError, Request};
use cutover_plan::event::FailureClass;
use cutover_plan::id::{ReleaseNumber, Slot};
use cutover_plan::observed::Condition;
use cutover_plan::outcome::Outcome;
use insta::assert_snapshot;

use super::{after, check};
use crate::host::{Fate, Host};

#[test]
fn warm_rollback_shifts_and_is_never_rolled_back() {
    assert_snapshot!(check(&after(&[1, 2]), &Request::Rollback), @r"
shop: roll back to v1 (image 1)
v1 is still warm beside v2
  1. gate      v1 must answer GET / well 2 times in a row within 30s
  2. shift     all new requests from v2 to v1
  3. watch     v1 for 1m: at most 5% errors; with fewer than 20 requests it stays
  4. drain     v2: wait up to 30s for its open requests
  5. standby   v2 stays warm for a rollback
  6. prune     images of the app, all but 2
if it goes bad, it stays: there is no better release
");
}

#[test]
fn warm_rollback_retires_orphans_once_it_has_proved_itself() {
    let mut host = after(&[1, 2]);
    host.add(7, Slot::Blue, Condition::Healthy);
    let steps = host.rollback().steps();
    assert_eq!(steps, "gate shift watch drain standby drain retire prune");
    assert_snapshot!(host.told(), @"v1 serves, v2 stands by; run: v1 v2; v1 proven, v2 rejected");
}

#[test]
fn cold_rollback_starts_the_old_image_again() {
    let mut host = after(&[1, 2]);
    host.set(1, Condition::Stopped);
    assert_snapshot!(check(&host, &Request::Rollback), @r"
shop: roll back to v1 (image 1)
v1 must be started again
  1. preflight engine, registry, disk and memory
  2. pull      image 1
  3. drain     v1: wait up to 30s for its open requests
  4. retire    v1: stop with 10s of grace, remove
  5. start     v1 in blue
  6. gate      v1 must answer GET / well 2 times in a row within 30s
  7. shift     all new requests from v2 to v1
  8. watch     v1 for 1m: at most 5% errors; with fewer than 20 requests it stays
  9. drain     v2: wait up to 30s for its open requests
 10. standby   v2 stays warm for a rollback
 11. prune     images of the app, all but 2
if it goes bad, it stays: there is no better release
");
}

#[test]
fn rollback_of_a_broken_release_retires_it() {
    let mut host = after(&[1, 2]);
    host.set(2, Condition::Unhealthy);
    assert_snapshot!(check(&host, &Request::Rollback), @r"
shop: roll back to v1 (image 1)
v1 is still warm beside v2
  1. gate      v1 must answer GET / well 2 times in a row within 30s
  2. shift     all new requests from v2 to v1
  3. watch     v1 for 1m: at most 5% errors; with fewer than 20 requests it stays
  4. drain     v2: wait up to 30s for its open requests
  5. retire    v2: stop with 10s of grace, remove
  6. prune     images of the app, all but 2
if it goes bad, it stays: there is no better release
");
}

#[test]
fn rollback_without_an_earlier_proven_release_is_refused_with_a_hint() {
    assert_snapshot!(check(&after(&[]), &Request::Rollback), @r"
there is no earlier release that has proved itself
hint: deploy a good image instead: it becomes the next release
");
    let refused = Err(CompileError::NothingToRollBackTo);
    assert_eq!(after(&[1]).plan(&Request::Rollback), refused);
    let mut host = Host::new();
    host.deploy_but(1, "watch", Fate::Aborted);
    host.deploy(2);
    assert_eq!(host.plan(&Request::Rollback), refused);
}

#[test]
fn rollback_after_a_rollback_never_goes_up_again() {
    let mut host = after(&[1, 2]);
    assert_eq!(host.rollback().outcome, Outcome::Promoted);
    assert_snapshot!(host.told(), @"v1 serves, v2 stands by; run: v1 v2; v1 proven, v2 rejected");
    let refused = Err(CompileError::NothingToRollBackTo);
    assert_eq!(host.plan(&Request::Rollback), refused);
}

#[test]
fn rollback_passes_over_a_release_that_a_rollback_left() {
    let mut host = after(&[1, 2]);
    host.rollback();
    host.deploy(3);
    let plan = host.plan(&Request::Rollback).unwrap();
    assert_eq!(plan.release.number, ReleaseNumber(1));
}

#[test]
fn rollback_passes_over_a_release_that_an_unfinished_rollback_left() {
    for (step, fate) in [
        ("watch", Fate::Fails(FailureClass::Host)),
        ("watch", Fate::Fails(FailureClass::NoVerdict)),
        ("watch", Fate::Aborted),
    ] {
        let mut host = after(&[1, 2]);
        assert_ne!(host.rollback_but(step, fate).outcome, Outcome::Promoted);
        assert_eq!(host.routed.sole(), Some(ReleaseNumber(1)), "{fate:?}");
        host.deploy(3);
        let plan = host.plan(&Request::Rollback).unwrap();
        assert_eq!(plan.release.number, ReleaseNumber(1), "{fate:?}");
    }
}

#[test]
fn rollback_passes_over_a_target_that_was_bad_and_goes_to_what_was_left_for_it() {
    let mut host = after(&[1, 2]);
    let bad = Fate::Fails(FailureClass::Release);
    assert_eq!(host.rollback_but("watch", bad).outcome, Outcome::Failed);
    // Not up again, although v1 is bad: that is for a person to decide.
    let refused = Err(CompileError::NothingToRollBackTo);
    assert_eq!(host.plan(&Request::Rollback), refused);
    let mut later = host.clone();
    later.deploy(3);
    let plan = later.plan(&Request::Rollback).unwrap();
    assert_eq!(plan.release.number, ReleaseNumber(2));
    // The program that was left is deployed as a new release, as any other.
    assert_eq!(host.deploy(2).outcome, Outcome::Promoted);
    assert_eq!(host.routed.sole(), Some(ReleaseNumber(3)));
}

#[test]
fn rollback_that_moved_no_user_rejects_nobody() {
    for step in ["gate", "shift"] {
        let mut host = after(&[1, 2]);
        host.rollback_but(step, Fate::Fails(FailureClass::Host));
        host.deploy(3);
        let plan = host.plan(&Request::Rollback).unwrap();
        assert_eq!(plan.release.number, ReleaseNumber(2), "{step}");
    }
}
