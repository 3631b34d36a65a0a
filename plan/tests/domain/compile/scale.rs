//! More or fewer containers of the release that serves.

use cutover_plan::compile::Request;
use cutover_plan::event::FailureClass;
use cutover_plan::id::Replica;
use cutover_plan::observed::Condition;
use cutover_plan::outcome::Outcome;
use cutover_plan::spec::Bytes;
use cutover_plan::step::Step;
use insta::assert_snapshot;

use super::{after, check};
use crate::host::{Fate, Host, scale};

/// A host whose release has so many containers, and whose file says another number.
fn from_to(from: u16, to: u16) -> Host {
    let mut host = Host::new();
    host.spec.replicas = from;
    assert_eq!(host.deploy(1).outcome, Outcome::Promoted);
    host.spec.replicas = to;
    host
}

fn replicas(host: &Host) -> Vec<u16> {
    let there = host.seen.replicas_of(1.into());
    there.into_iter().map(|Replica(number)| number).collect()
}

#[test]
fn more_containers_are_gated_before_they_get_users() {
    let mut host = from_to(1, 3);
    host.spec.run.memory = Some(Bytes(256 << 20));
    assert_snapshot!(check(&host, &scale()), @r"
shop: scale v1 (image 1)
v1 has 1 container, the app's file says 3
  1. preflight engine, registry, disk and memory (its limit is 512 MiB)
  2. pull      image 1
  3. shift     all requests to v1
  4. start     v1 (replicas 1, 2) in blue
  5. gate      v1 (replicas 1, 2) must answer GET / well 2 times in a row within 30s
  6. shift     all requests to v1 (replicas 0, 1, 2)
if it goes bad, it is taken back:
   - shift     all requests to v1
   - drain     v1 (replicas 1, 2): wait up to 30s for its open requests
   - retire    v1 (replicas 1, 2): stop with 10s of grace, remove
");
    assert_eq!(
        host.carry_out(&scale(), |_, _| Fate::Done).outcome,
        Outcome::Promoted
    );
    assert_eq!(replicas(&host), [0, 1, 2]);
    assert_snapshot!(check(&host, &scale()), @r"
shop: scale v1 (image 1)
v1 has its containers: nothing to do
");
}

#[test]
fn what_somebody_removed_altogether_is_started_again_and_stays() {
    let mut host = from_to(2, 2);
    host.spec.run.memory = Some(Bytes(256 << 20));
    host.seen.containers.clear();
    assert_snapshot!(check(&host, &scale()), @r"
shop: scale v1 (image 1)
no container of v1 is left, which should serve
  1. preflight engine, registry, disk and memory (its limit is 512 MiB)
  2. pull      image 1
  3. start     v1 (replicas 0, 1) in blue
  4. gate      v1 (replicas 0, 1) must answer GET / well 2 times in a row within 30s
  5. shift     all requests to v1 (replicas 0, 1)
if it goes bad, it stays: there is no better release
");
    let mut failed = from_to(2, 2);
    failed.seen.containers.clear();
    let told = failed.carry_out(&scale(), |_, step| match step.name() {
        "gate" => Fate::Fails(FailureClass::Release),
        _ => Fate::Done,
    });
    assert_eq!(told.outcome, Outcome::Failed);
    assert_eq!(replicas(&failed), [0, 1]);
    assert_eq!(
        host.carry_out(&scale(), |_, _| Fate::Done).outcome,
        Outcome::Promoted
    );
    assert_eq!(replicas(&host), [0, 1]);
    assert_eq!(host.seen.releases.serving, Some(1.into()));
}

#[test]
fn fewer_containers_are_asked_before_they_have_all_users() {
    let mut host = from_to(3, 1);
    assert_snapshot!(check(&host, &scale()), @r"
shop: scale v1 (image 1)
v1 has 3 containers, the app's file says 1
  1. gate      v1 must answer GET / well 2 times in a row within 30s
  2. shift     all requests to v1
  3. drain     v1 (replicas 1, 2): wait up to 30s for its open requests
  4. retire    v1 (replicas 1, 2): stop with 10s of grace, remove
if it goes bad, it is taken back:
   - shift     all requests to v1 (replicas 0, 1, 2)
");
    host.carry_out(&scale(), |_, _| Fate::Done);
    assert_eq!(replicas(&host), [0]);
}

#[test]
fn container_that_somebody_removed_comes_back_and_one_that_ended_is_the_engines() {
    let mut host = from_to(3, 3);
    host.seen.containers.retain(|one| one.replica != Replica(1));
    host.seen.containers[1].condition = Condition::Stopped;
    let plan = host.plan(&scale()).expect("a plan");
    let started = plan.steps.iter().find_map(|planned| match &planned.step {
        Step::Start { replicas, .. } => Some(replicas.clone()),
        _ => None,
    });
    assert_eq!(started, Some([Replica(1)].into()));
    host.carry_out(&scale(), |_, _| Fate::Done);
    assert_eq!(replicas(&host), [0, 1, 2]);
}

#[test]
fn what_was_left_behind_stands_in_no_deploys_way_whatever_ended_since() {
    let mut host = from_to(2, 3);
    let told = host.carry_out(&scale(), |_, step| match step.name() {
        "gate" | "retire" => Fate::Fails(FailureClass::Host),
        _ => Fate::Done,
    });
    assert_eq!(told.outcome, Outcome::Failed);
    assert_eq!(replicas(&host), [0, 1, 2]);
    host.seen.containers[1].condition = Condition::Stopped;
    host.plan(&scale()).expect("a plan");
    assert_eq!(host.deploy(2).outcome, Outcome::Promoted);
}

#[test]
fn containers_that_do_not_answer_go_again_and_the_release_serves() {
    let mut host = from_to(1, 2);
    let told = host.carry_out(&scale(), |_, step| match step.name() {
        "gate" => Fate::Fails(FailureClass::Release),
        _ => Fate::Done,
    });
    assert_eq!(told.outcome, Outcome::Failed);
    assert_eq!(replicas(&host), [0]);
    assert_snapshot!(host.told(), @r"
v1 serves, nobody stands by; run: v1; v1 proven
");
}

#[test]
fn what_a_failed_change_left_behind_goes_first() {
    let mut host = from_to(1, 2);
    let told = host.carry_out(&scale(), |_, step| match step.name() {
        "gate" | "retire" => Fate::Fails(FailureClass::Host),
        _ => Fate::Done,
    });
    assert_eq!(told.outcome, Outcome::Failed);
    assert_eq!(replicas(&host), [0, 1]);
    assert_snapshot!(check(&host, &scale()), @r"
shop: scale v1 (image 1)
v1 has 1 container, the app's file says 2
  1. shift     all requests to v1
  2. drain     v1 (replica 1): wait up to 30s for its open requests
  3. retire    v1 (replica 1): stop with 10s of grace, remove
  4. preflight engine, registry, disk and memory
  5. pull      image 1
  6. start     v1 (replica 1) in blue
  7. gate      v1 (replica 1) must answer GET / well 2 times in a row within 30s
  8. shift     all requests to v1 (replicas 0, 1)
if it goes bad, it is taken back:
   - shift     all requests to v1
   - drain     v1 (replica 1): wait up to 30s for its open requests
   - retire    v1 (replica 1): stop with 10s of grace, remove
");
    assert_snapshot!(check(&host, &super::image(2)), @r"
shop: deploy v2 (image 2)
v1 serves until v2 is healthy
  1. shift     all requests to v1
  2. drain     v1 (replica 1): wait up to 30s for its open requests
  3. retire    v1 (replica 1): stop with 10s of grace, remove
  4. preflight engine, registry, disk and memory
  5. pull      image 2
  6. start     v2 (replicas 0, 1) in green
  7. gate      v2 (replicas 0, 1) must answer GET / well 2 times in a row within 30s
  8. shift     all new requests from v1 to v2
  9. watch     v2 for 1m: at most 5% errors; with fewer than 20 requests it stays
 10. drain     v1: wait up to 30s for its open requests
 11. standby   v1 stays warm for a rollback
 12. prune     images of the app, all but 2
if it goes bad, it is taken back:
   - shift     all new requests from v2 to v1
   - drain     v2: wait up to 30s for its open requests
   - retire    v2 (replicas 0, 1): stop with 10s of grace, remove
   - prune     images of the app, all but 1
");
}

#[test]
fn there_must_be_one_that_serves_all_users_and_whose_configuration_is_the_same() {
    let mut host = from_to(1, 2);
    let other = Request::Scale {
        fingerprint: "f2".to_owned(),
    };
    assert_snapshot!(check(&host, &other), @r"
the configuration of v1 was changed beside the number of its containers
hint: deploy the same image again: that brings both
");
    host.set(1, Condition::Stopped);
    assert_snapshot!(check(&host, &scale()), @r"
no release serves all users with a container that runs
hint: deploy an image, or roll back
");
    assert_snapshot!(check(&after(&[]), &scale()), @r"
no release serves all users with a container that runs
hint: deploy an image, or roll back
");
}

#[test]
fn warm_release_with_more_containers_than_the_file_says_is_gone_back_to_at_once() {
    let mut host = Host::new();
    host.spec.replicas = 3;
    host.deploy(1);
    host.deploy(2);
    let first = |host: &Host| {
        let plan = host.plan(&Request::Rollback).expect("a plan");
        plan.steps[0].step.name()
    };
    host.spec.replicas = 2;
    assert_eq!(first(&host), "gate");
    host.rollback();
    assert_eq!(
        host.carry_out(&scale(), |_, _| Fate::Done).outcome,
        Outcome::Promoted
    );
    assert_eq!(replicas(&host), [0, 1]);
    // Fewer would be less than was asked for.
    let mut host = from_to(2, 2);
    host.deploy(2);
    host.spec.replicas = 3;
    assert_eq!(first(&host), "preflight");
}
