//! The state of a deploy: what may follow, and how it ends.

mod people;
mod table;

use cutover_plan::compile::Request;
use cutover_plan::event::{Cursor, Event, Failure, FailureClass};
use cutover_plan::observed::Condition;
use cutover_plan::outcome::Outcome;
use cutover_plan::state::{DeployState, MAX_ATTEMPTS, Next, Phase};
use insta::assert_snapshot;
use jiff::Timestamp;

use crate::host::{Fate, Host, accepted, image};

fn after(images: &[u8]) -> Host {
    let mut host = Host::new();
    for image in images {
        host.deploy(*image);
    }
    host
}

fn broken() -> Host {
    let mut host = after(&[1, 2]);
    host.set(2, Condition::Unhealthy);
    host
}

/// How a deploy ends for each class of failure and each step of the plan, then
/// for an abort: `step: release request host no_verdict abort`.
fn check(host: &Host, request: &Request) -> String {
    let classes = [
        Fate::Fails(FailureClass::Release),
        Fate::Fails(FailureClass::Request),
        Fate::Fails(FailureClass::Host),
        Fate::Fails(FailureClass::NoVerdict),
        Fate::Aborted,
    ];
    let plan = host.plan(request).expect("a plan");
    let line = |(index, planned): (usize, &cutover_plan::plan::PlannedStep)| {
        let outcomes = classes.map(|fate| {
            let mut host = host.clone();
            let here = |at, _: &_| match at == Cursor::Forward(index) {
                true => fate,
                false => Fate::Done,
            };
            host.carry_out(request, here).outcome.as_str()
        });
        format!("{}: {}", planned.step.name(), outcomes.join(" "))
    };
    let lines: Vec<_> = plan.steps.iter().enumerate().map(line).collect();
    lines.join("\n")
}

#[test]
fn outcome_tells_what_failed_and_where_the_users_are() {
    assert_snapshot!(check(&after(&[]), &image(1)), @r"
preflight: failed failed failed no_verdict aborted
pull: failed failed failed no_verdict aborted
start: failed failed failed no_verdict aborted
gate: failed failed failed no_verdict aborted
shift: failed failed failed no_verdict aborted
watch: rolled_back rolled_back rolled_back no_verdict aborted
prune: promoted promoted promoted promoted promoted
");
    assert_snapshot!(check(&after(&[1, 2]), &image(3)), @r"
preflight: failed failed failed no_verdict aborted
pull: failed failed failed no_verdict aborted
drain: failed failed failed no_verdict aborted
retire: failed failed failed no_verdict aborted
start: failed failed failed no_verdict aborted
gate: failed failed failed no_verdict aborted
shift: failed failed failed no_verdict aborted
watch: rolled_back rolled_back rolled_back no_verdict aborted
drain: promoted promoted promoted promoted promoted
standby: promoted promoted promoted promoted promoted
prune: promoted promoted promoted promoted promoted
");
    assert_snapshot!(check(&broken(), &image(3)), @r"
gate: failed failed failed no_verdict aborted
shift: failed failed failed no_verdict aborted
preflight: failed failed failed no_verdict aborted
pull: failed failed failed no_verdict aborted
drain: failed failed failed no_verdict aborted
retire: failed failed failed no_verdict aborted
start: failed failed failed no_verdict aborted
gate: failed failed failed no_verdict aborted
shift: failed failed failed no_verdict aborted
watch: rolled_back rolled_back rolled_back no_verdict aborted
drain: promoted promoted promoted promoted promoted
standby: promoted promoted promoted promoted promoted
prune: promoted promoted promoted promoted promoted
");
    assert_snapshot!(check(&after(&[1, 2]), &Request::Rollback), @r"
gate: failed failed failed no_verdict aborted
shift: failed failed failed no_verdict aborted
watch: failed failed failed no_verdict aborted
drain: promoted promoted promoted promoted promoted
standby: promoted promoted promoted promoted promoted
prune: promoted promoted promoted promoted promoted
");
}

#[test]
fn refused_shift_is_no_rollback_but_is_undone() {
    for fate in [Fate::Fails, Fate::FailsLate] {
        let mut host = after(&[1]);
        let told = host.deploy_but(2, "shift", fate(FailureClass::Host));
        assert_eq!(told.outcome, Outcome::Failed);
        assert_eq!(
            told.steps(),
            "preflight pull start gate shift -shift -drain -retire -prune"
        );
        // Nobody saw it: it is not judged.
        assert_eq!(
            host.told(),
            "v1 serves, nobody stands by; run: v1; v1 proven, v2 unproven"
        );
    }
}

/// The try that died may have sent users.
#[test]
fn shift_that_fails_after_a_crash_is_a_rollback() {
    for died in [Fate::Died, Fate::Crash] {
        let mut host = after(&[1]);
        let mut tries = 0;
        let told = host.carry_out(&image(2), |at, step| match (at, step.name()) {
            (Cursor::Forward(_), "shift") if tries == 0 => {
                tries += 1;
                died
            }
            (Cursor::Forward(_), "shift") => Fate::Fails(FailureClass::Host),
            _ => Fate::Done,
        });
        assert_eq!(told.outcome, Outcome::RolledBack);
        let back = "shift shift -shift -drain -retire -prune";
        assert!(told.steps().ends_with(back));
    }
    // Tried too often is in doubt as well.
    let told = after(&[1]).deploy_but(2, "shift", Fate::Died);
    assert_eq!(told.outcome, Outcome::RolledBack);
}

#[test]
fn abort_wins_until_the_release_is_proven() {
    let abort = Event::AbortRequested { by: "ann".into() };
    for (host, request) in [
        (after(&[]), image(1)),
        (after(&[1, 2]), image(3)),
        (broken(), image(3)),
        (after(&[1, 2]), Request::Rollback),
    ] {
        let told = host.clone().carry_out(&request, |_, _| Fate::Done);
        let mut state = DeployState::begin(&told.events[0]).unwrap();
        for event in &told.events[1..] {
            let after = state.clone().apply(&abort);
            assert_eq!(after.is_ok(), !state.is_proven(), "{}", state.phase);
            if let Ok(after) = after {
                assert_eq!(after.aborted_by.as_deref(), Some("ann"));
                assert!(after.running.is_none());
                let closing = Phase::Closing {
                    outcome: Outcome::Aborted,
                };
                let back = matches!(after.phase, Phase::Back { next: 0, .. });
                assert!(back || after.phase == closing, "{}", after.phase);
                assert!(
                    after.apply(&abort).is_err(),
                    "a second abort changes nothing"
                );
            }
            state = state.apply(event).unwrap();
        }
        assert!(state.is_proven());
    }
}

#[test]
fn aborted_deploy_stays_aborted_though_steps_of_its_way_back_fail() {
    for name in ["drain", "retire"] {
        let mut host = after(&[1]);
        let told = host.carry_out(&image(2), |at, step| match at {
            Cursor::Forward(_) if step.name() == "watch" => Fate::Aborted,
            Cursor::Back(_) if step.name() == name => Fate::Fails(FailureClass::Host),
            Cursor::Forward(_) | Cursor::Back(_) => Fate::Done,
        });
        assert_eq!(told.outcome, Outcome::Aborted);
        assert_eq!(told.state.setbacks.len(), 1);
        assert!(
            told.steps().ends_with("-shift -drain -retire -prune"),
            "{}",
            told.steps()
        );
    }
}

#[test]
fn failed_shift_on_the_way_back_leaves_the_new_release_running_and_fails() {
    for end in [Fate::Fails(FailureClass::NoVerdict), Fate::Aborted] {
        let mut host = after(&[1]);
        let told = host.carry_out(&image(2), |at, step| match at {
            Cursor::Forward(_) if step.name() == "watch" => end,
            Cursor::Back(_) => Fate::Fails(FailureClass::Host),
            Cursor::Forward(_) => Fate::Done,
        });
        assert_eq!(told.outcome, Outcome::Failed);
        assert!(told.steps().ends_with("watch -shift"), "{}", told.steps());
        assert_eq!(
            host.told(),
            "v2 serves, nobody stands by; run: v1 v2; v1 proven, v2 unproven"
        );
    }
}

#[test]
fn failed_steps_after_the_proof_are_told_and_change_nothing() {
    let mut host = after(&[1]);
    let told = host.carry_out(&image(2), |_, step| match step.name() {
        "drain" | "standby" | "prune" => Fate::Fails(FailureClass::Host),
        _ => Fate::Done,
    });
    assert_eq!(told.outcome, Outcome::Promoted);
    assert_eq!(told.state.setbacks.len(), 3);
    assert!(told.state.failure.is_none());
}

#[test]
fn step_in_doubt_is_done_again_until_it_was_tried_too_often() {
    let since = Timestamp::UNIX_EPOCH;
    let mut host = after(&[1]);
    let mut deaths = 0;
    let told = host.carry_out(&image(2), |_, step| match step.name() {
        "gate" if deaths < MAX_ATTEMPTS - 1 => {
            deaths += 1;
            Fate::Died
        }
        _ => Fate::Done,
    });
    assert_eq!(told.outcome, Outcome::Promoted);
    let told = host.deploy_but(3, "gate", Fate::Died);
    assert_eq!(told.outcome, Outcome::Failed);
    let gates = told.steps().matches("gate").count();
    assert_eq!(u32::try_from(gates), Ok(MAX_ATTEMPTS));
    // Once more is not legal.
    let until = told
        .events
        .iter()
        .position(|e| matches!(e, Event::StepFailed { .. }));
    let state = fold(&told.events[..until.unwrap()]);
    assert!(matches!(state.next(), Next::GiveUp { .. }));
    let at = state.running.unwrap().at;
    let attempt = MAX_ATTEMPTS + 1;
    let again = Event::StepStarted { at, attempt, since };
    assert!(state.apply(&again).is_err());
}

#[test]
fn giving_up_on_the_way_back_ends_the_deploy_too() {
    for (step, steps) in [("-shift", 10), ("-drain", 1), ("-retire", 1)] {
        let mut host = after(&[1]);
        let told = host.carry_out(&image(2), |at, now| match at {
            Cursor::Forward(_) if now.name() == "watch" => Fate::Fails(FailureClass::Release),
            Cursor::Back(_) if step == format!("-{}", now.name()) => Fate::Died,
            Cursor::Forward(_) | Cursor::Back(_) => Fate::Done,
        });
        let outcome = match step {
            "-shift" => Outcome::Failed,
            _ => Outcome::RolledBack,
        };
        assert_eq!(told.outcome, outcome, "{step}");
        assert_eq!(told.steps().matches("-shift").count(), steps, "{step}");
    }
}

#[test]
fn plan_of_another_app_or_kind_cannot_follow() {
    let host = after(&[1, 2]);
    let state = DeployState::begin(&accepted(&image(3))).unwrap();
    let plan = |request| Box::new(host.plan(&request).unwrap());
    let planned = |plan| state.clone().apply(&Event::Planned { plan }).is_ok();
    assert!(planned(plan(image(3))));
    assert!(!planned(plan(Request::Rollback)));
    let mut other = plan(image(3));
    other.app = cutover_plan::id::AppName::parse("blog").unwrap();
    assert!(!planned(other));
}

#[test]
fn refused_request_fails_with_its_reason() {
    let told = after(&[1]).rollback();
    assert_eq!(told.outcome, Outcome::Failed);
    let failure = told.state.failure.unwrap();
    let reason = "there is no earlier release that has proved itself";
    assert_eq!(failure, Failure::new(FailureClass::Request, reason));
}

fn fold(events: &[Event]) -> DeployState {
    let first = DeployState::begin(&events[0]).expect("the first event");
    let all = events[1..].iter();
    all.fold(first, |state, event| {
        state.apply(event).expect("a legal event")
    })
}
