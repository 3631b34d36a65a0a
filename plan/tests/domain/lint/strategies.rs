//! Rules that only some strategies can break.

use std::time::Duration;

use cutover_plan::compile::Request;
use cutover_plan::plan::Plan;
use cutover_plan::spec::{ApprovalSpec, ApprovedBefore, OnTimeout, PreviewSpec, Strategy, Weight};
use cutover_plan::step::{Step, Undo};
use cutover_plan::traffic::Replicas;
use insta::assert_snapshot;

use super::{V2, at, check, cut, set};
use crate::host::{Host, image};

/// What the lint finds in v2's good plan after v1, by this strategy, made bad.
fn second(strategy: Strategy, spoil: impl FnOnce(&mut Plan)) -> String {
    check(&one(strategy), &image(2), spoil)
}

fn one(strategy: Strategy) -> Host {
    let mut host = Host::new();
    host.deploy(1);
    host.spec.strategy = strategy;
    host
}

#[test]
fn shares_that_are_not_a_whole() {
    let spoil = |plan: &mut Plan| {
        let first = plan.steps.iter_mut().find(|p| p.step.name() == "shift");
        if let Step::Shift { to, .. } = &mut first.unwrap().step {
            to.shares.get_mut(&V2).unwrap().weight = Weight(400);
        }
    };
    assert_snapshot!(second(Strategy::Canary, spoil), @r"
invariant 2, step 5: the shares of 95% to v1, 4% to v2 are not a whole
invariant 2, step 7: requests are taken from a release that does not have them
");
}

#[test]
fn shares_that_are_more_than_a_whole() {
    let spoil = |plan: &mut Plan| {
        let first = plan.steps.iter_mut().find(|p| p.step.name() == "shift");
        if let Step::Shift { to, .. } = &mut first.unwrap().step {
            to.shares.get_mut(&V2).unwrap().weight = Weight(600);
        }
    };
    assert_snapshot!(second(Strategy::Canary, spoil), @r"
invariant 2, step 5: the shares of 95% to v1, 6% to v2 are not a whole
invariant 2, step 7: requests are taken from a release that does not have them
");
}

#[test]
fn last_good_release_that_is_stopped_beside_a_broken_one() {
    let mut host = one(Strategy::BlueGreen);
    host.deploy(2);
    host.set(2, cutover_plan::observed::Condition::Unhealthy);
    let spoil = |plan: &mut Plan| {
        for planned in &mut plan.steps[4..6] {
            if let Step::Drain { release, .. } | Step::Retire { release, .. } = &mut planned.step {
                *release = super::V1;
            }
        }
        plan.steps.drain(..2);
        if let Step::Shift { from, .. } = &mut plan.steps[6].step {
            *from = cutover_plan::traffic::Traffic::all_to(V2);
        }
    };
    let found = check(&host, &image(3), spoil);
    assert!(
        found.contains("v1 is stopped, the last good release"),
        "{found}"
    );
}

#[test]
fn canary_that_takes_requests_from_where_they_are_not() {
    let spoil = |plan: &mut Plan| drop(plan.steps.remove(6));
    assert_snapshot!(second(Strategy::Canary, spoil), @"invariant 2, step 8: requests are taken from a release that does not have them");
}

#[test]
fn canary_that_ends_before_all_users_are_watched() {
    let spoil = |plan: &mut Plan| drop(cut(plan, "watch"));
    assert_snapshot!(second(Strategy::Canary, spoil), @r"
invariant 5, step 11: a failed shift takes back a release that has proved itself
invariant 5, step 11: users are sent on after the last watch
invariant 5, the end: v2 was never watched
");
}

#[test]
fn replica_that_is_stopped_while_its_share_is_not_taken() {
    let mut host = one(Strategy::BlueGreen);
    host.spec.replicas = 2;
    host.deploy(2);
    host.spec.strategy = Strategy::Rolling;
    let spoil = |plan: &mut Plan| {
        let retire = plan.steps.iter().rposition(|p| {
            matches!(&p.step, Step::Retire { release, replicas: Replicas::Only(_), .. } if *release == V2)
        });
        let retire = plan.steps.remove(retire.unwrap());
        let shift = plan.steps.iter().position(|p| p.step.name() == "shift");
        plan.steps.insert(shift.unwrap(), retire);
    };
    assert_snapshot!(check(&host, &image(3), spoil), @r"
invariant 2, step 7: v2 is stopped while requests go to it
invariant 2, way back 1 from step 7: v2 gets requests as soon as it starts
invariant 2, way back 3 from step 8: v2 gets requests as soon as it starts
invariant 2, way back 3 from step 9: v2 gets requests as soon as it starts
invariant 2, way back 4 from step 10: v2 gets requests as soon as it starts
invariant 2, way back 4 from step 11: v2 gets requests as soon as it starts
invariant 2, way back 6 from step 12: v2 gets requests as soon as it starts
invariant 2, way back 6 from step 13: v2 gets requests as soon as it starts
");
}

#[test]
fn requests_that_nothing_lets_go() {
    let spoil = |plan: &mut Plan| set(plan, "park", |park| park.undo = Undo::NOTHING);
    assert_snapshot!(second(Strategy::InPlace, spoil), @r"
invariant 3, the way back from step 3: requests are held, and nothing lets them go
invariant 3, the way back from step 4: requests are held, and nothing lets them go
invariant 3, the way back from step 5: requests are held, and nothing lets them go
invariant 3, the way back from step 6: requests are held, and nothing lets them go
invariant 3, the way back from step 7: requests are held, and nothing lets them go
invariant 3, the way back from step 8: requests are held, and nothing lets them go
invariant 3, the way back from step 8: the good release before does not serve again
invariant 3, the way back from step 9: requests are held, and nothing lets them go
invariant 3, the way back from step 9: the good release before does not serve again
");
    let park = |plan: &mut Plan| {
        let park = plan.steps[at(plan, "park")].clone();
        plan.steps.push(park);
    };
    assert_snapshot!(second(Strategy::InPlace, park), @r"
invariant 2, way back 1 from step 11: requests go to v1, which does not run
invariant 3, the end: requests are held, and nothing lets them go
invariant 5, step 11: a failed park takes back a release that has proved itself
");
}

#[test]
fn old_release_that_is_stopped_before_its_requests_are_held() {
    let spoil = |plan: &mut Plan| drop(cut(plan, "park"));
    assert_snapshot!(second(Strategy::InPlace, spoil), @r"
invariant 2, step 3: v1 is drained while requests go to it
invariant 2, step 4: v1 is stopped while requests go to it
invariant 2, way back 1 from step 4: v1 gets requests as soon as it starts
invariant 2, way back 2 from step 5: v1 gets requests as soon as it starts
invariant 2, way back 2 from step 6: v1 gets requests as soon as it starts
invariant 3, step 4: v1 is stopped, the last good release
invariant 3, the way back from step 7: requests are held, and nothing lets them go
invariant 3, the way back from step 7: the good release before does not serve again
invariant 3, the way back from step 8: requests are held, and nothing lets them go
invariant 3, the way back from step 8: the good release before does not serve again
");
}

#[test]
fn old_release_that_gets_its_requests_back_before_it_was_asked() {
    let spoil = |plan: &mut Plan| {
        let retire = plan.steps.iter_mut().find(|p| p.step.name() == "retire");
        if let Undo::Steps(undo) = &mut retire.unwrap().undo {
            undo.pop();
        }
    };
    assert_snapshot!(second(Strategy::InPlace, spoil), @r"
invariant 2, way back 2 from step 5: requests go to v1, which has not passed its gate
invariant 2, way back 3 from step 6: requests go to v1, which has not passed its gate
invariant 2, way back 3 from step 7: requests go to v1, which has not passed its gate
invariant 2, way back 5 from step 8: requests go to v1, which has not passed its gate
invariant 2, way back 5 from step 9: requests go to v1, which has not passed its gate
");
}

#[test]
fn person_who_is_asked_while_requests_are_held() {
    let mut host = one(Strategy::InPlace);
    host.spec.approval = Some(ApprovalSpec {
        before: ApprovedBefore::Shift,
        deadline: Duration::from_secs(60),
        on_timeout: OnTimeout::Abort,
    });
    let spoil = |plan: &mut Plan| {
        let (approve, park) = (at(plan, "approve"), at(plan, "park"));
        plan.steps.swap(approve, park);
    };
    assert_snapshot!(check(&host, &image(2), spoil), @"invariant 3, step 4: requests are held while a person is asked");
}

#[test]
fn copies_for_a_release_that_has_not_passed_its_gate() {
    let spoil = |plan: &mut Plan| {
        let gate = cut(plan, "gate");
        let mirror = plan.steps.iter().position(|p| p.step.name() == "mirror");
        plan.steps.insert(mirror.unwrap() + 1, gate);
    };
    assert_snapshot!(second(Strategy::Shadow, spoil), @"invariant 2, step 4: copies go to v2, which has not passed its gate");
}

#[test]
fn copies_that_never_end() {
    let spoil = |plan: &mut Plan| drop(cut(plan, "mirror"));
    assert_snapshot!(second(Strategy::Shadow, spoil), @"invariant 3, the end: copies go to v2 for ever");
    let undo = |plan: &mut Plan| {
        let mirror = plan.steps.iter_mut().find(|p| p.step.name() == "mirror");
        mirror.unwrap().undo = Undo::NOTHING;
    };
    assert_snapshot!(second(Strategy::Shadow, undo), @r"
invariant 2, way back 1 from step 5: v2 is stopped while copies go to it
invariant 2, way back 1 from step 6: v2 is stopped while copies go to it
invariant 2, way back 1 from step 7: v2 is stopped while copies go to it
invariant 3, the way back from step 5: copies go to v2 for ever
invariant 3, the way back from step 6: copies go to v2 for ever
invariant 3, the way back from step 7: copies go to v2 for ever
");
}

#[test]
fn comparison_on_copies_that_nobody_makes() {
    let spoil = |plan: &mut Plan| {
        let first = plan.steps.iter().position(|p| p.step.name() == "mirror");
        plan.steps.remove(first.unwrap());
    };
    assert_snapshot!(second(Strategy::Shadow, spoil), @"invariant 5, step 5: v2 is watched without the users");
}

#[test]
fn shadow_that_moves_users_or_stays() {
    let mut host = one(Strategy::Shadow);
    host.spec.shadow.then = cutover_plan::spec::Then::Stop;
    let stays = |plan: &mut Plan| drop(cut(plan, "retire"));
    assert_snapshot!(check(&host, &image(2), stays), @"invariant 3, the end: v2 is left live");
}

#[test]
fn preview_that_never_ends() {
    let mut host = one(Strategy::BlueGreen);
    host.spec.preview = Some(PreviewSpec {
        header: "cutover-preview".to_owned(),
        secret_file: "/etc/cutover/preview".to_owned(),
    });
    let spoil = |plan: &mut Plan| drop(cut(plan, "preview"));
    assert_snapshot!(check(&host, &image(2), spoil), @"invariant 3, the end: people with the secret get to v2 for ever");
    let undo = |plan: &mut Plan| {
        let preview = plan.steps.iter_mut().find(|p| p.step.name() == "preview");
        preview.unwrap().undo = Undo::NOTHING;
    };
    assert_snapshot!(check(&host, &image(2), undo), @r"
invariant 2, way back 1 from step 5: v2 is stopped while people with the secret get to it
invariant 2, way back 3 from step 6: v2 is stopped while people with the secret get to it
invariant 2, way back 3 from step 7: v2 is stopped while people with the secret get to it
invariant 3, the way back from step 5: people with the secret get to v2 for ever
invariant 3, the way back from step 6: people with the secret get to v2 for ever
invariant 3, the way back from step 7: people with the secret get to v2 for ever
");
}

#[test]
fn standby_that_is_retired_though_it_serves() {
    let mut host = one(Strategy::RedBlack);
    host.deploy(2);
    let spoil = |plan: &mut Plan| plan.release.number = V2;
    assert_snapshot!(check(&host, &Request::RetireStandby, spoil), @r"
invariant 3, the end: v2 is left live
invariant 3, the plan: the release that serves is to be retired
");
    let retire = |plan: &mut Plan| {
        for planned in &mut plan.steps {
            if let Step::Drain { release, .. } | Step::Retire { release, .. } = &mut planned.step {
                *release = V2;
            }
        }
    };
    assert_snapshot!(check(&host, &Request::RetireStandby, retire), @r"
invariant 2, step 1: v2 is drained while requests go to it
invariant 2, step 2: v2 is stopped while requests go to it
invariant 3, the end: v1 is left live
");
}
