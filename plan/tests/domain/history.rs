//! What sequences of deploys teach of an app's releases.

use cutover_plan::event::{Event, FailureClass};
use cutover_plan::history;
use cutover_plan::id::ReleaseNumber;
use cutover_plan::observed::Condition;
use cutover_plan::outcome::Outcome;
use cutover_plan::release::{MAX_KNOWN, Releases};
use cutover_plan::state::DeployState;
use insta::assert_snapshot;

use crate::host::{Fate, Host, Told};

const BAD: Fate = Fate::Fails(FailureClass::Release);

/// A deploy or rollback, and what is known after it.
fn check(host: &mut Host, deploy: impl FnOnce(&mut Host) -> Told) -> String {
    let outcome = deploy(host).outcome;
    format!("{outcome}: {}", host.told())
}

#[test]
fn history_of_good_and_bad_deploys_and_rollbacks() {
    let mut host = Host::new();
    let host = &mut host;
    assert_snapshot!(check(host, |h| h.deploy_but(1, "watch", BAD)), @"rolled_back: nobody serves, nobody stands by; run: ; v1 rejected");
    assert_snapshot!(check(host, |h| h.deploy(2)), @"promoted: v2 serves, nobody stands by; run: v2; v1 rejected, v2 proven");
    assert_snapshot!(check(host, |h| h.deploy(3)), @"promoted: v3 serves, v2 stands by; run: v2 v3; v1 rejected, v2 proven, v3 proven");
    assert_snapshot!(check(host, Host::rollback), @"promoted: v2 serves, v3 stands by; run: v2 v3; v1 rejected, v2 proven, v3 rejected");
    assert_snapshot!(check(host, |h| h.deploy(4)), @"promoted: v4 serves, v2 stands by; run: v2 v4; v1 rejected, v2 proven, v3 rejected, v4 proven");
    assert_snapshot!(check(host, |h| h.deploy_but(5, "gate", BAD)), @"failed: v4 serves, nobody stands by; run: v4; v1 rejected, v2 proven, v3 rejected, v4 proven, v5 unproven");
    assert_snapshot!(check(host, |h| h.deploy_but(6, "watch", BAD)), @"rolled_back: v4 serves, nobody stands by; run: v4; v1 rejected, v2 proven, v3 rejected, v4 proven, v5 unproven, v6 rejected");
    assert_snapshot!(check(host, |h| h.deploy_but(7, "watch", Fate::Aborted)), @"aborted: v4 serves, nobody stands by; run: v4; v1 rejected, v2 proven, v3 rejected, v4 proven, v5 unproven, v6 rejected, v7 unproven");
    let unsure = Fate::Fails(FailureClass::NoVerdict);
    assert_snapshot!(check(host, |h| h.deploy_but(8, "watch", unsure)), @"no_verdict: v4 serves, nobody stands by; run: v4; v1 rejected, v2 proven, v3 rejected, v4 proven, v5 unproven, v6 rejected, v7 unproven, v8 unproven");
    assert_snapshot!(check(host, |h| h.deploy(4)), @"promoted: v4 serves, nobody stands by; run: v4; v1 rejected, v2 proven, v3 rejected, v4 proven, v5 unproven, v6 rejected, v7 unproven, v8 unproven");
    assert_snapshot!(check(host, Host::rollback), @"promoted: v2 serves, v4 stands by; run: v2 v4; v1 rejected, v2 proven, v3 rejected, v4 rejected, v5 unproven, v6 rejected, v7 unproven, v8 unproven");
    assert_snapshot!(check(host, Host::rollback), @"failed: v2 serves, v4 stands by; run: v2 v4; v1 rejected, v2 proven, v3 rejected, v4 rejected, v5 unproven, v6 rejected, v7 unproven, v8 unproven");
}

#[test]
fn rollback_that_fails_leaves_what_it_reached_serving() {
    let mut host = Host::new();
    host.deploy(1);
    host.deploy(2);
    let gate = check(&mut host.clone(), |h| h.rollback_but("gate", BAD));
    assert_snapshot!(gate, @"failed: v2 serves, v1 stands by; run: v1 v2; v1 proven, v2 proven");
    let watch = check(&mut host.clone(), |h| h.rollback_but("watch", BAD));
    assert_snapshot!(watch, @"failed: v1 serves, v2 stands by; run: v1 v2; v1 rejected, v2 proven");
    let unsure = Fate::Fails(FailureClass::NoVerdict);
    let unsure = check(&mut host.clone(), |h| h.rollback_but("watch", unsure));
    assert_snapshot!(unsure, @"no_verdict: v1 serves, v2 stands by; run: v1 v2; v1 proven, v2 rejected");
    let blind = Fate::Fails(FailureClass::Host);
    let blind = check(&mut host.clone(), |h| h.rollback_but("watch", blind));
    assert_snapshot!(blind, @"failed: v1 serves, v2 stands by; run: v1 v2; v1 proven, v2 rejected");
    let aborted = check(&mut host.clone(), |h| {
        h.rollback_but("watch", Fate::Aborted)
    });
    assert_snapshot!(aborted, @"aborted: v1 serves, v2 stands by; run: v1 v2; v1 proven, v2 rejected");
}

#[test]
fn rollback_from_a_broken_release_that_fails_leaves_no_standby() {
    let mut host = Host::new();
    host.deploy(1);
    host.deploy(2);
    host.set(2, Condition::Unhealthy);
    assert_snapshot!(check(&mut host, |h| h.rollback_but("watch", BAD)), @"failed: v1 serves, nobody stands by; run: v1 v2; v1 rejected, v2 proven");
}

#[test]
fn standby_that_could_not_be_kept_is_not_named() {
    let mut host = Host::new();
    host.deploy(1);
    host.deploy(2);
    let failed = Fate::Fails(FailureClass::Host);
    assert_snapshot!(check(&mut host, |h| h.rollback_but("standby", failed)), @"promoted: v1 serves, nobody stands by; run: v1 v2; v1 proven, v2 rejected");
}

#[test]
fn deploy_over_a_broken_release_leaves_no_standby() {
    let mut host = Host::new();
    host.deploy(1);
    host.deploy(2);
    host.set(2, Condition::Stopped);
    assert_snapshot!(check(&mut host, |h| h.deploy(3)), @"promoted: v3 serves, v1 stands by; run: v1 v3; v1 proven, v2 proven, v3 proven");
}

/// Folds the events of one more deploy.
fn learn(releases: &mut Releases, events: &[Event]) {
    let mut state = DeployState::begin(&events[0]).expect("the first event");
    for event in &events[1..] {
        history::fold(releases, &state, event);
        state = state.apply(event).expect("a legal event");
    }
}

#[test]
fn first_half_of_a_shift_changes_nothing_of_what_is_known() {
    let mut host = Host::new();
    host.deploy(1);
    let before = host.seen.releases.clone();
    let told = host.deploy(2);
    let watched = told.events.iter().position(|event| {
        matches!(event, Event::StepFinished { at, .. } if told.state.step(*at).is_some_and(
            |step| step.name() == "watch"
        ))
    });
    let shifted = watched.unwrap() - 2;
    let serving_after = |count: usize| {
        let mut releases = before.clone();
        learn(&mut releases, &told.events[..count]);
        releases.serving
    };
    assert_eq!(serving_after(shifted), Some(ReleaseNumber(1)));
    assert_eq!(serving_after(shifted + 1), Some(ReleaseNumber(2)));
}

#[test]
fn many_failed_deploys_make_nothing_forgotten_that_is_needed() {
    let mut host = Host::new();
    host.deploy(1);
    host.deploy(2);
    for number in 100..MAX_KNOWN + 110 {
        let bad = host.deploy_but(u8::try_from(number).unwrap(), "gate", BAD);
        assert_eq!(bad.outcome, Outcome::Failed);
        assert!(host.seen.releases.known.len() <= MAX_KNOWN);
    }
    let releases = &host.seen.releases;
    assert_eq!(releases.known.len(), MAX_KNOWN);
    assert_eq!(releases.serving, Some(ReleaseNumber(2)));
    assert!(releases.find(ReleaseNumber(2)).is_some());
    assert!(releases.find(ReleaseNumber(3)).is_none());
    let target = releases.rollback_target().map(|target| target.number);
    assert_eq!(target, Some(ReleaseNumber(1)));
    let next = u32::try_from(MAX_KNOWN + 13).unwrap();
    assert_eq!(releases.next_number(), ReleaseNumber(next));
}

#[test]
fn standby_is_remembered_however_many_releases_came_since() {
    let mut host = Host::new();
    host.deploy(1);
    host.deploy(2);
    let releases = &mut host.seen.releases;
    let release = releases.find(ReleaseNumber(1)).unwrap().clone();
    // Only what stands by and not proven: nothing else would keep it.
    let unproven = cutover_plan::release::Standing::Unproven;
    let entry = releases.known.get_mut(&ReleaseNumber(1)).unwrap();
    entry.standing = unproven;
    let told = host.clone().deploy_but(3, "pull", BAD);
    for number in 3..100 {
        let mut events = told.events.clone();
        if let Event::Planned { plan } = &mut events[1] {
            plan.release.number = ReleaseNumber(number);
        }
        learn(&mut host.seen.releases, &events);
    }
    let standby = host.seen.releases.standby;
    assert_eq!(standby, Some(ReleaseNumber(1)));
    let known = host.seen.releases.find(ReleaseNumber(1)).unwrap();
    assert_eq!(known.release, release.release);
}
