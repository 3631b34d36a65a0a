//! Each rule of the lint, broken once.

mod strategies;
mod users;

use std::time::Duration;

use cutover_plan::compile::Request;
use cutover_plan::id::{ReleaseNumber, Slot};
use cutover_plan::lint::lint;
use cutover_plan::observed::Condition;
use cutover_plan::plan::{Plan, PlannedStep};
use cutover_plan::step::{IfFails, Step, Undo};
use cutover_plan::traffic::{Replicas, Traffic};
use insta::assert_snapshot;

use crate::host::{Host, image};

const V1: ReleaseNumber = ReleaseNumber(1);
const V2: ReleaseNumber = ReleaseNumber(2);
const V3: ReleaseNumber = ReleaseNumber(3);

/// What the lint finds in the good plan of a request after it was made bad.
fn check(host: &Host, request: &Request, spoil: impl FnOnce(&mut Plan)) -> String {
    let mut plan = host.plan(request).expect("a good plan");
    spoil(&mut plan);
    told(&plan, host)
}

fn told(plan: &Plan, host: &Host) -> String {
    let found = lint(plan, &host.seen);
    let lines: Vec<_> = found.iter().map(ToString::to_string).collect();
    lines.join("\n")
}

/// The same for v3 that follows v2, with v1 warm beside it.
fn third(spoil: impl FnOnce(&mut Plan)) -> String {
    check(&after_two(), &image(3), spoil)
}

fn after_two() -> Host {
    let mut host = Host::new();
    host.deploy(1);
    host.deploy(2);
    host
}

/// The last such step: of two drains, that of the release that served.
fn at(plan: &Plan, name: &str) -> usize {
    let mut steps = plan.steps.iter();
    steps
        .rposition(|p| p.step.name() == name)
        .expect("the step")
}

fn cut(plan: &mut Plan, name: &str) -> PlannedStep {
    plan.steps.remove(at(plan, name))
}

fn set(plan: &mut Plan, name: &str, change: impl FnOnce(&mut PlannedStep)) {
    let at = at(plan, name);
    change(&mut plan.steps[at]);
}

fn retire(release: ReleaseNumber) -> PlannedStep {
    let grace = Duration::from_secs(10);
    must(Step::Retire {
        release,
        replicas: Replicas::All,
        grace,
    })
}

fn must(step: Step) -> PlannedStep {
    PlannedStep {
        step,
        if_fails: IfFails::Undo,
        undo: Undo::Steps(Vec::new()),
    }
}

#[test]
fn good_plan_breaks_nothing() {
    assert_snapshot!(third(|_| {}), @"");
}

#[test]
fn shift_before_the_gate() {
    let spoil = |plan: &mut Plan| {
        let (gate, shift) = (at(plan, "gate"), at(plan, "shift"));
        plan.steps.swap(gate, shift);
    };
    assert_snapshot!(third(spoil), @"invariant 2, step 6: requests go to v3, which has not passed its gate");
    let none = third(|plan| drop(cut(plan, "gate")));
    assert_snapshot!(none, @"invariant 2, step 6: requests go to v3, which has not passed its gate");
}

#[test]
fn gate_of_a_release_that_does_not_run() {
    let spoil = |plan: &mut Plan| {
        let (start, gate) = (at(plan, "start"), at(plan, "gate"));
        plan.steps.swap(start, gate);
    };
    assert_snapshot!(third(spoil), @r"
invariant 2, step 5: v3 is gated before it is started
invariant 2, step 7: requests go to v3, which has not passed its gate
");
}

#[test]
fn gate_that_asks_for_nothing() {
    let spoil = |plan: &mut Plan| {
        set(plan, "gate", |gate| {
            if let Step::Gate { check, .. } = &mut gate.step {
                check.successes = 0;
            }
        });
    };
    assert_snapshot!(third(spoil), @"invariant 2, step 6: v3 passes its gate without an answer");
}

#[test]
fn failed_step_before_the_proof_that_is_shrugged_off() {
    for name in ["preflight", "pull", "start", "gate", "shift", "watch"] {
        let found = third(|plan| set(plan, name, |step| step.if_fails = IfFails::GoOn));
        let fault = format!("the deploy goes on although {name} failed");
        assert!(found.contains(&fault), "{name}: {found}");
        assert!(found.starts_with("invariant 5"), "{found}");
    }
}

#[test]
fn failed_step_after_the_proof_that_takes_the_release_back() {
    let spoil = |plan: &mut Plan| set(plan, "prune", |step| step.if_fails = IfFails::Undo);
    assert_snapshot!(third(spoil), @"invariant 5, step 11: a failed prune takes back a release that has proved itself");
}

#[test]
fn retire_while_it_serves() {
    let spoil = |plan: &mut Plan| {
        let gate = at(plan, "gate");
        plan.steps.insert(gate, retire(V2));
    };
    assert_snapshot!(third(spoil), @r"
invariant 2, step 6: v2 is stopped while requests go to it
invariant 2, way back 1 from step 8: requests go to v2, which does not run
invariant 2, way back 1 from step 9: requests go to v2, which does not run
invariant 3, step 11: v2 cannot stand by: it does not run
invariant 3, step 6: v2 is stopped, the last good release
");
}

#[test]
fn retire_before_the_drain() {
    let spoil = |plan: &mut Plan| {
        cut(plan, "drain");
        cut(plan, "standby");
        let mut step = retire(V2);
        step.if_fails = IfFails::GoOn;
        let prune = at(plan, "prune");
        plan.steps.insert(prune, step);
    };
    assert_snapshot!(third(spoil), @"invariant 2, step 9: v2 is stopped before it is drained");
}

/// It may hold requests from when it served.
#[test]
fn retire_of_a_standby_before_its_drain() {
    let spoil = |plan: &mut Plan| {
        let first = plan.steps.iter().position(|p| p.step.name() == "drain");
        plan.steps.remove(first.expect("a drain"));
    };
    assert_snapshot!(third(spoil), @"invariant 2, step 3: v1 is stopped before it is drained");
    let mut host = after_two();
    host.add(7, Slot::Blue, Condition::Healthy);
    let orphan = |plan: &mut Plan| drop(cut(plan, "drain"));
    assert_snapshot!(check(&host, &Request::Rollback, orphan), @"invariant 2, step 6: v7 is stopped before it is drained");
}

#[test]
fn way_back_that_retires_before_it_drains() {
    let spoil = |plan: &mut Plan| {
        set(plan, "shift", |shift| {
            if let Undo::Steps(steps) = &mut shift.undo {
                steps.pop();
            }
        });
    };
    assert_snapshot!(third(spoil), @r"
invariant 2, way back 2 from step 7: v3 is stopped before it is drained
invariant 2, way back 2 from step 8: v3 is stopped before it is drained
");
}

#[test]
fn drain_while_it_serves() {
    let spoil = |plan: &mut Plan| {
        let mut drain = cut(plan, "drain");
        drain.if_fails = IfFails::Undo;
        let gate = at(plan, "gate");
        plan.steps.insert(gate, drain);
    };
    assert_snapshot!(third(spoil), @"invariant 2, step 6: v2 is drained while requests go to it");
}

#[test]
fn old_release_retired_before_the_new_one_is_proven() {
    let spoil = |plan: &mut Plan| {
        let mut drain = cut(plan, "drain");
        drain.if_fails = IfFails::Undo;
        cut(plan, "standby");
        let watch = at(plan, "watch");
        plan.steps.insert(watch, drain);
        plan.steps.insert(watch + 1, retire(V2));
    };
    assert_snapshot!(third(spoil), @r"
invariant 2, way back 1 from step 10: requests go to v2, which does not run
invariant 2, way back 1 from step 9: requests go to v2, which does not run
");
}

#[test]
fn three_live_releases() {
    let mut host = after_two();
    host.set(1, Condition::Healthy);
    let spoil = |plan: &mut Plan| drop(cut(plan, "retire"));
    assert_snapshot!(check(&host, &image(3), spoil), @r"
invariant 3, step 4: v3 starts in blue, where v1 runs
invariant 3, step 4: v3 would be live release number 3
invariant 3, the end: 3 releases are left live
");
}

#[test]
fn three_releases_left_live() {
    let mut host = after_two();
    host.add(7, Slot::Green, Condition::Healthy);
    let spoil = |plan: &mut Plan| drop(cut(plan, "retire"));
    assert_snapshot!(check(&host, &Request::Rollback, spoil), @"invariant 3, the end: 3 releases are left live");
}

#[test]
fn start_where_the_serving_release_runs() {
    let spoil = |plan: &mut Plan| {
        set(plan, "start", |start| {
            if let Step::Start { slot, .. } = &mut start.step {
                *slot = slot.other();
            }
        });
    };
    assert_snapshot!(third(spoil), @"invariant 3, step 5: v3 starts in green, where v2 runs");
}

#[test]
fn waits_without_an_end_or_of_no_time() {
    let day = Duration::from_secs(24 * 3600);
    let gate = |deadline| {
        third(|plan| {
            set(plan, "gate", |gate| {
                if let Step::Gate { deadline: d, .. } = &mut gate.step {
                    *d = deadline;
                }
            });
        })
    };
    let watch = |window| {
        third(|plan| {
            set(plan, "watch", |watch| {
                if let Step::Watch { rule, .. } = &mut watch.step {
                    rule.window = window;
                }
            });
        })
    };
    assert_eq!(gate(7 * day), "");
    assert_eq!(watch(7 * day), "");
    assert_snapshot!(gate(8 * day), @"invariant 10, step 6: gate has no sane deadline");
    assert_snapshot!(gate(Duration::ZERO), @"invariant 10, step 6: gate has no sane deadline");
    assert_snapshot!(gate(Duration::MAX), @"invariant 10, step 6: gate has no sane deadline");
    assert_snapshot!(watch(8 * day), @"invariant 10, step 8: watch has no sane deadline");
    assert_snapshot!(watch(Duration::ZERO), @"invariant 10, step 8: watch has no sane deadline");
    assert_snapshot!(watch(Duration::MAX), @"invariant 10, step 8: watch has no sane deadline");
    let drain = third(|plan| {
        set(plan, "drain", |drain| {
            if let Step::Drain { deadline, .. } = &mut drain.step {
                *deadline = Duration::MAX;
            }
        });
    });
    assert_snapshot!(drain, @"invariant 10, step 9: drain has no sane deadline");
}

#[test]
fn more_steps_than_any_strategy_needs() {
    let spoil = |plan: &mut Plan| {
        let pull = plan.steps[1].clone();
        plan.steps.splice(1..1, vec![pull; 200]);
    };
    assert_snapshot!(third(spoil), @"invariant 10, the plan: 211 steps, at most 128");
}

#[test]
fn shift_that_takes_requests_from_the_wrong_release() {
    let spoil = |plan: &mut Plan| {
        set(plan, "shift", |shift| {
            shift.step = Step::Shift {
                to: Traffic::all_to(V3),
                from: Traffic::none(),
            };
        });
    };
    assert_snapshot!(third(spoil), @"invariant 2, step 7: requests are taken from a release that does not have them");
}

#[test]
fn standby_that_does_not_run() {
    let spoil = |plan: &mut Plan| {
        set(plan, "standby", |standby| {
            standby.step = Step::Standby {
                release: V1,
                keep: None,
            }
        });
    };
    assert_snapshot!(third(spoil), @"invariant 3, step 10: v1 cannot stand by: it does not run");
}

#[test]
fn prune_of_an_image_that_runs() {
    let spoil = |plan: &mut Plan| {
        set(plan, "prune", |prune| {
            prune.step = Step::Prune { keep: Vec::new() };
        });
    };
    assert_snapshot!(third(spoil), @"invariant 6, step 11: the image of v2 is removed while it runs");
}
