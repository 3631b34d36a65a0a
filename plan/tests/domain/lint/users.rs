//! Rules about where the users are, on the way there and on the way back.

use cutover_plan::compile::Request;
use cutover_plan::event::FailureClass;
use cutover_plan::id::ReleaseNumber;
use cutover_plan::observed::Condition;
use cutover_plan::plan::Plan;
use cutover_plan::release::Standing;
use cutover_plan::step::{IfFails, Step, Undo};
use cutover_plan::traffic::{Replicas, Traffic};
use insta::assert_snapshot;

use super::{V1, V2, V3, after_two, at, check, cut, must, retire, set, third, told};
use crate::host::{Fate, Host, image};

#[test]
fn rollback_that_is_rolled_back() {
    let spoil = |plan: &mut Plan| {
        let back = Step::Shift {
            to: Traffic::all_to(V2),
            from: Traffic::all_to(V1),
        };
        set(plan, "shift", |shift| shift.undo = Undo::Steps(vec![back]));
    };
    assert_snapshot!(check(&after_two(), &Request::Rollback, spoil), @"invariant 6, step 2: a rollback must not be rolled back");
}

#[test]
fn rollback_to_a_release_that_has_not_proved_itself() {
    let host = after_two();
    let plan = host.plan(&Request::Rollback).expect("a good plan");
    let fault = "invariant 6, the plan: v1 has not proved itself, no rollback goes to it";
    for standing in [Some(Standing::Unproven), Some(Standing::Rejected), None] {
        let mut host = host.clone();
        let known = &mut host.seen.releases.known;
        match standing {
            Some(standing) => known.get_mut(&V1).expect("it is known").standing = standing,
            None => drop(known.remove(&V1)),
        }
        assert_eq!(told(&plan, &host), fault, "{standing:?}");
    }
}

#[test]
fn rollback_that_goes_up_again() {
    let mut host = after_two();
    let plan = host.plan(&Request::Rollback).expect("a good plan");
    host.rollback();
    assert_snapshot!(told(&plan, &host), @r"
invariant 2, step 2: requests are taken from a release that does not have them
invariant 3, the plan: it takes over from a release that does not serve
invariant 6, the plan: v1 is not older than the release that serves
");
}

#[test]
fn watch_without_the_users() {
    let spoil = |plan: &mut Plan| {
        let (shift, watch) = (at(plan, "shift"), at(plan, "watch"));
        plan.steps.swap(shift, watch);
    };
    assert_snapshot!(third(spoil), @r"
invariant 5, step 7: v3 is watched without the users
invariant 5, step 8: a failed shift takes back a release that has proved itself
invariant 5, step 8: users are sent on after the last watch
");
}

#[test]
fn success_without_a_watch_or_without_users() {
    assert_snapshot!(third(|plan| drop(cut(plan, "watch"))), @r"
invariant 5, step 1: a failed preflight takes back a release that has proved itself
invariant 5, step 2: a failed pull takes back a release that has proved itself
invariant 5, step 3: a failed drain takes back a release that has proved itself
invariant 5, step 4: a failed retire takes back a release that has proved itself
invariant 5, step 5: a failed start takes back a release that has proved itself
invariant 5, step 6: a failed gate takes back a release that has proved itself
invariant 5, step 7: a failed shift takes back a release that has proved itself
invariant 5, step 7: users are sent on after the last watch
invariant 5, the end: v3 was never watched
");
    assert_snapshot!(third(|plan| plan.steps.clear()), @r"
invariant 5, the end: v3 does not serve
invariant 5, the end: v3 is not known to be good
");
    let mut host = Host::new();
    host.deploy(1);
    let same = image(1);
    let plan = host.plan(&same).expect("nothing to do");
    host.set(1, Condition::Unhealthy);
    assert_snapshot!(told(&plan, &host), @"invariant 5, the end: v1 is not known to be good");
}

#[test]
fn withdraw_while_a_good_release_lives() {
    let spoil = |plan: &mut Plan| {
        let none = Step::Shift {
            to: Traffic::none(),
            from: Traffic::all_to(V2),
        };
        let gate = at(plan, "gate");
        plan.steps.insert(gate, must(none));
    };
    assert_snapshot!(third(spoil), @r"
invariant 2, step 8: requests are taken from a release that does not have them
invariant 3, step 6: no release serves although a good one lives
invariant 3, the way back from step 6: no release serves although one did before
invariant 3, the way back from step 6: the good release before does not serve again
invariant 3, the way back from step 7: no release serves although one did before
invariant 3, the way back from step 7: the good release before does not serve again
");
}

#[test]
fn way_back_that_leaves_nobody_good_serving() {
    let stay = third(|plan| set(plan, "shift", |shift| shift.undo = Undo::Stay));
    assert_snapshot!(stay, @r"
invariant 3, the way back from step 7: the good release before does not serve again
invariant 3, the way back from step 8: the good release before does not serve again
invariant 6, way back 1 from step 7: the image of v3 is removed while it runs
invariant 6, way back 1 from step 8: the image of v3 is removed while it runs
");
    let withdraw = |plan: &mut Plan| {
        set(plan, "shift", |shift| {
            if let Undo::Steps(steps) = &mut shift.undo {
                steps[0] = Step::Shift {
                    to: Traffic::none(),
                    from: Traffic::all_to(V3),
                };
            }
        });
    };
    assert_snapshot!(third(withdraw), @r"
invariant 3, the way back from step 7: no release serves although one did before
invariant 3, the way back from step 7: the good release before does not serve again
invariant 3, the way back from step 8: no release serves although one did before
invariant 3, the way back from step 8: the good release before does not serve again
invariant 3, way back 1 from step 7: no release serves although a good one lives
invariant 3, way back 1 from step 8: no release serves although a good one lives
");
    // Where the release before is broken as well, the new one must stay.
    let mut broken = after_two();
    broken.set(2, Condition::Unhealthy);
    assert_snapshot!(check(&broken, &image(3), withdraw_or_back(None)), @r"
invariant 3, way back 1 from step 10: no release serves although a good one lives
invariant 3, way back 1 from step 9: no release serves although a good one lives
");
    assert_snapshot!(check(&broken, &image(3), withdraw_or_back(Some(V2))), @r"
invariant 2, way back 1 from step 10: requests go to v2, which does not run
invariant 2, way back 1 from step 9: requests go to v2, which does not run
");
}

fn withdraw_or_back(to: Option<ReleaseNumber>) -> impl FnOnce(&mut Plan) {
    move |plan| {
        let shift = Step::Shift {
            to: to.map_or_else(Traffic::none, Traffic::all_to),
            from: Traffic::all_to(V3),
        };
        let drain = plan.steps[at(plan, "drain")].step.clone();
        let drain = match drain {
            Step::Drain { deadline, .. } => Step::Drain {
                release: V3,
                replicas: Replicas::All,
                deadline,
            },
            other => other,
        };
        set(plan, "shift", |planned| {
            planned.undo = Undo::Steps(vec![shift, drain]);
        });
    }
}

/// The way back is played from before a step as well: here the doubtful shift
/// did not happen, so the way back would take the users off the old release.
#[test]
fn way_back_is_played_as_if_the_last_step_had_not_happened() {
    let spoil = |plan: &mut Plan| {
        // Sound only once the first shift has happened.
        let retire_old = retire(V2).step;
        set(plan, "shift", |shift| {
            if let Undo::Steps(steps) = &mut shift.undo {
                steps.insert(0, retire_old);
            }
        });
    };
    let found = third(spoil);
    assert!(
        found.contains("v2 is stopped while requests go to it"),
        "{found}"
    );
}

#[test]
fn plan_of_another_world() {
    let host = after_two();
    let plan = host.plan(&image(3)).expect("a good plan");
    let mut later = host;
    later.deploy_but(3, "gate", Fate::Fails(FailureClass::Release));
    later.rollback();
    assert_snapshot!(told(&plan, &later), @r"
invariant 2, step 3: v1 is drained while requests go to it
invariant 2, step 4: v1 is stopped while requests go to it
invariant 2, step 7: requests are taken from a release that does not have them
invariant 2, way back 1 from step 7: requests go to v2, which has not passed its gate
invariant 2, way back 1 from step 8: requests go to v2, which has not passed its gate
invariant 3, the plan: it takes over from a release that does not serve
");
}

#[test]
fn users_sent_on_after_the_last_watch() {
    let spoil = |plan: &mut Plan| {
        let mut shift = plan.steps[at(plan, "shift")].clone();
        shift.step = Step::Shift {
            to: Traffic::all_to(V3),
            from: Traffic::all_to(V3),
        };
        shift.if_fails = IfFails::GoOn;
        plan.steps.push(shift);
    };
    assert_snapshot!(third(spoil), @"invariant 5, step 12: users are sent on after the last watch");
}
