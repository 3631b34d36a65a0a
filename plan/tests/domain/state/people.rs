//! What people do to a deploy, and what their absence does.

use std::time::Duration;

use cutover_plan::event::{Cursor, Event, Promotion};
use cutover_plan::outcome::Outcome;
use cutover_plan::release::Standing;
use cutover_plan::spec::{
    ApprovalSpec, ApprovedBefore, Newcomer, OnNoVerdict, OnTimeout, Strategy, SupersedeSpec,
};
use cutover_plan::state::DeployState;
use insta::assert_snapshot;
use jiff::Timestamp;

use super::{after, fold};
use crate::host::{Fate, Host, image};

fn asking(before: ApprovedBefore, on_timeout: OnTimeout) -> Host {
    let mut host = after(&[1]);
    host.spec.approval = Some(ApprovalSpec {
        before,
        deadline: Duration::from_secs(60),
        on_timeout,
    });
    host
}

fn canary() -> Host {
    let mut host = after(&[1]);
    host.spec.strategy = Strategy::Canary;
    host
}

/// How a deploy of v2 ends where the step of this name has this fate, and the
/// steps that were begun.
fn check(mut host: Host, name: &str, fate: Fate) -> String {
    let told = host.deploy_but(2, name, fate);
    let why = told.state.failure.as_ref();
    let why = why.map_or_else(String::new, |failure| format!(": {}", failure.reason));
    format!("{}{why}; {}", told.outcome, told.steps())
}

#[test]
fn deploy_goes_on_with_a_person_s_word_and_back_without_one() {
    let host = || asking(ApprovedBefore::Shift, OnTimeout::Abort);
    assert_snapshot!(check(host(), "approve", Fate::Done), @"promoted; preflight pull start gate approve shift watch drain standby prune");
    assert_snapshot!(check(host(), "approve", Fate::Rejected), @"aborted: ann said no; preflight pull start gate approve -retire -prune");
    assert_snapshot!(check(host(), "approve", Fate::Unanswered), @"aborted: nobody approved within 1m that v2 gets users; preflight pull start gate approve -retire -prune");
    assert_snapshot!(check(host(), "approve", Fate::Hurried(Promotion::Next)), @"promoted; preflight pull start gate approve shift watch drain standby prune");
    let patient = asking(ApprovedBefore::Shift, OnTimeout::Promote);
    assert_snapshot!(check(patient, "approve", Fate::Unanswered), @"promoted; preflight pull start gate approve shift watch drain standby prune");
}

#[test]
fn person_decides_where_there_is_no_verdict() {
    let host = || {
        let mut host = after(&[1]);
        host.spec.watch.on_no_verdict = OnNoVerdict::Hold;
        host
    };
    assert_snapshot!(check(host(), "watch", Fate::Rejected), @"aborted: ann said no; preflight pull start gate shift watch -shift -drain -retire -prune");
    assert_snapshot!(check(host(), "watch", Fate::Unanswered), @"no_verdict: a person should see it, and nobody decided in time; preflight pull start gate shift watch -shift -drain -retire -prune");
    // Nobody is asked where the app's file does not say so.
    assert_snapshot!(check(after(&[1]), "watch", Fate::Unanswered), @"promoted; preflight pull start gate shift watch drain standby prune");
}

#[test]
fn person_who_does_not_wait_sends_the_deploy_on() {
    assert_snapshot!(check(canary(), "watch", Fate::Hurried(Promotion::Next)), @"promoted; preflight pull start gate shift watch shift watch shift watch shift watch drain standby prune");
    assert_snapshot!(check(canary(), "watch", Fate::Hurried(Promotion::Full)), @"promoted; preflight pull start gate shift watch shift watch drain standby prune");
    // Only what bides its time is hurried.
    assert_snapshot!(check(canary(), "gate", Fate::Hurried(Promotion::Full)), @"promoted; preflight pull start gate shift watch shift watch shift watch shift watch drain standby prune");
}

#[test]
fn release_that_a_person_let_through_is_one_to_go_back_to() {
    let mut host = after(&[1]);
    host.deploy_but(2, "watch", Fate::Hurried(Promotion::Next));
    let known = host.seen.releases.find(2.into()).expect("v2");
    assert_eq!(known.standing, Standing::Proven);
    let mut host = canary();
    // With a share of the users it has proved nothing yet.
    let told = host.carry_out(&image(2), |at, step| match (at, step.name()) {
        (Cursor::Forward(5), "watch") => Fate::Hurried(Promotion::Next),
        (Cursor::Forward(_), "watch") => Fate::Aborted,
        _ => Fate::Done,
    });
    assert_eq!(told.outcome, Outcome::Aborted);
    let known = host.seen.releases.find(2.into()).expect("v2");
    assert_eq!(known.standing, Standing::Unproven);
}

#[test]
fn newer_deploy_takes_the_place_of_one_that_has_proved_nothing() {
    assert_snapshot!(check(after(&[1]), "gate", Fate::Superseded), @"superseded; preflight pull start gate -retire -prune");
    assert_snapshot!(check(after(&[1]), "watch", Fate::Superseded), @"superseded; preflight pull start gate shift watch -shift -drain -retire -prune");
    assert_snapshot!(check(after(&[1]), "prune", Fate::Superseded), @"promoted; preflight pull start gate shift watch drain standby prune");
}

#[test]
fn newcomer_waits_once_users_are_on_the_release() {
    let told = after(&[1]).deploy(2);
    let spec = SupersedeSpec {
        before_shift: Newcomer::Supersede,
        after_shift: Newcomer::Queue,
    };
    let eager = SupersedeSpec {
        before_shift: Newcomer::Supersede,
        after_shift: Newcomer::Supersede,
    };
    let mut last = None;
    let mut lines = Vec::new();
    for count in 1..=told.events.len() {
        let state = fold(&told.events[..count]);
        let now = (state.newcomer(&spec), state.newcomer(&eager));
        if last != Some(now) {
            let (policy, eager) = now;
            lines.push(format!("{}: {policy:?}, eager {eager:?}", state.phase));
            last = Some(now);
        }
    }
    assert_snapshot!(lines.join("\n"), @r"
accepted: Supersede, eager Supersede
forward, step 5: Queue, eager Supersede
forward, step 7: Queue, eager Queue
");
}

#[test]
fn deploy_that_gets_no_further_is_taken_back() {
    for name in ["pull", "start", "gate"] {
        let told = check(after(&[1]), name, Fate::Stalled);
        assert!(
            told.starts_with("failed: it got no further for 30m"),
            "{name}: {told}"
        );
    }
    // To bide its time is not to be late, and what is proved stays.
    for name in ["watch", "prune"] {
        let told = check(after(&[1]), name, Fate::Stalled);
        assert!(told.starts_with("promoted"), "{name}: {told}");
    }
}

fn second(at: i64) -> Timestamp {
    Timestamp::from_second(at).expect("a time")
}

/// Each event with its time; the deadline after each, in seconds.
fn deadlines(events: &[Event]) -> Vec<Option<i64>> {
    let mut state = DeployState::begin(&events[0]).expect("the first event");
    let mut deadlines = Vec::new();
    for event in &events[1..] {
        state = state.apply(event).expect("a legal event");
        deadlines.push(state.progress_deadline().map(Timestamp::as_second));
    }
    deadlines
}

#[test]
fn progress_deadline_counts_from_the_last_progress_and_not_while_a_person_is_asked() {
    let mut host = asking(ApprovedBefore::Shift, OnTimeout::Abort);
    host.spec.progress_deadline = Duration::from_secs(100);
    let told = host.deploy(2);
    // The same deploy, each step ten seconds after the one before.
    let mut time = 0;
    let mut events = Vec::new();
    for event in &told.events {
        events.push(match event {
            Event::StepStarted { at, attempt, .. } => {
                time += 10;
                Event::StepStarted {
                    at: *at,
                    attempt: *attempt,
                    since: second(time),
                }
            }
            Event::Approved { by, .. } => {
                time += 1_000;
                Event::Approved {
                    by: by.clone(),
                    time: second(time),
                }
            }
            other => other.clone(),
        });
        if let Event::StepStarted { at, .. } = event
            && told
                .state
                .step(*at)
                .is_some_and(|step| step.name() == "gate")
        {
            time += 5;
            events.push(Event::TargetHealthy {
                at: *at,
                name: "shop-v2-0".to_owned(),
                time: second(time),
            });
        }
    }
    let seen: Vec<_> = deadlines(&events).into_iter().flatten().collect();
    assert_snapshot!(format!("{seen:?}"), @"[110, 110, 110, 110, 145, 1155]");
}

#[test]
fn crash_does_not_move_the_progress_deadline() {
    let mut host = after(&[1]);
    host.spec.progress_deadline = Duration::from_secs(100);
    let mut deaths = 0;
    let told = host.carry_out(&image(2), |_, step| match step.name() {
        "gate" if deaths < 2 => {
            deaths += 1;
            Fate::Died
        }
        _ => Fate::Done,
    });
    // The same deploy, each step begun ten seconds after the one before.
    let mut time = 0;
    let mut timed = |event: &Event| match event {
        Event::StepStarted { at, attempt, .. } => {
            time += 10;
            Event::StepStarted {
                at: *at,
                attempt: *attempt,
                since: second(time),
            }
        }
        other => other.clone(),
    };
    let events: Vec<_> = told.events.iter().map(&mut timed).collect();
    let seen: Vec<_> = deadlines(&events).into_iter().flatten().collect();
    // The gate is begun at 40, and again at 50 and 60; the shift at 70.
    assert_snapshot!(format!("{seen:?}"), @"[110, 110, 110, 110, 110, 110, 170]");
}

#[test]
fn progress_is_a_gate_that_opened_and_a_person_who_hurried() {
    let mut host = canary();
    host.spec.progress_deadline = Duration::from_secs(100);
    let told = host.deploy_but(2, "watch", Fate::Hurried(Promotion::Next));
    let mut time = 0;
    let events: Vec<_> = told
        .events
        .iter()
        .map(|event| match event {
            Event::StepStarted { at, attempt, .. } => {
                time += 10;
                Event::StepStarted {
                    at: *at,
                    attempt: *attempt,
                    since: second(time),
                }
            }
            Event::PromoteRequested { by, how, .. } => {
                time += 1_000;
                Event::PromoteRequested {
                    by: by.clone(),
                    how: *how,
                    time: second(time),
                }
            }
            other => other.clone(),
        })
        .collect();
    let seen: Vec<_> = deadlines(&events).into_iter().flatten().collect();
    assert_snapshot!(format!("{seen:?}"), @"[110, 110, 110, 110, 150, 1160, 2180, 3200]");
}
