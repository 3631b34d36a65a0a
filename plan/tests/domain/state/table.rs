//! Every kind of state with every kind of event: the whole table at once.

use std::fmt::Write;
use std::time::Duration;

use cutover_plan::event::{Cursor, Event, Failure, FailureClass, Finding, Promotion};
use cutover_plan::id::DeployId;
use cutover_plan::outcome::Outcome;
use cutover_plan::plan::Plan;
use cutover_plan::spec::{ApprovalSpec, ApprovedBefore, OnNoVerdict, OnTimeout};
use cutover_plan::state::{DeployState, MAX_ATTEMPTS, Next};
use cutover_plan::verdict::{Figures, Verdict};
use jiff::Timestamp;

use super::{after, fold};
use crate::host::{Fate, Host, Told, accepted, finding, image};

/// v2 serves; v3 needs a person's word, before its users and without a verdict.
fn host() -> Host {
    let mut host = after(&[1, 2]);
    host.spec.approval = Some(ApprovalSpec {
        before: ApprovedBefore::Shift,
        deadline: Duration::from_secs(60),
        on_timeout: OnTimeout::Abort,
    });
    host.spec.watch.on_no_verdict = OnNoVerdict::Hold;
    host
}

/// The states that a deploy of v3 over v2 goes through, by name.
fn states() -> Vec<(String, DeployState)> {
    let on = |fate: &dyn Fn(Cursor, &str) -> Fate| {
        host().carry_out(&image(3), |at, step| fate(at, step.name()))
    };
    let good = on(&|_, _| Fate::Done);
    let bad = on(&|at, name| match (at, name) {
        (Cursor::Forward(_), "watch") => Fate::Fails(FailureClass::Release),
        _ => Fate::Done,
    });
    let stuck = on(&|_, name| match name {
        "gate" => Fate::Died,
        _ => Fate::Done,
    });
    let unsure = on(&|at, name| match (at, name) {
        (Cursor::Forward(_), "watch") => Fate::Fails(FailureClass::NoVerdict),
        _ => Fate::Done,
    });
    let held = on(&|at, name| match (at, name) {
        (Cursor::Forward(_), "watch") => Fate::Unanswered,
        _ => Fate::Done,
    });
    let aborted = on(&|_, name| match name {
        "start" => Fate::Aborted,
        _ => Fate::Done,
    });
    let mut states = Vec::new();
    let mut take = |told: &Told, from: usize| {
        for end in from..=told.events.len() {
            let state = fold(&told.events[..end]);
            if let Some(name) = name_of(&state) {
                states.push((name, state));
            }
        }
    };
    let turn = |told: &Told, found: fn(&Event) -> bool| {
        let turn = told.events.iter().position(found);
        turn.expect("it turns back") + 1
    };
    let failed = |event: &Event| matches!(event, Event::StepFailed { .. });
    let tried = |event: &Event| matches!(event, Event::StepStarted { attempt, .. } if *attempt == MAX_ATTEMPTS);
    take(&good, 1);
    take(&stuck, turn(&stuck, tried));
    take(&bad, turn(&bad, failed));
    take(&unsure, unsure.events.len() - 1);
    let holds = |event: &Event| matches!(event, Event::Held { .. });
    let last = held.events.iter().rposition(holds).expect("it is held");
    take(&held, last + 1);
    take(
        &aborted,
        turn(&aborted, |e| matches!(e, Event::AbortRequested { .. })),
    );
    states
}

/// None where the same was begun anew, but not too often.
fn name_of(state: &DeployState) -> Option<String> {
    let phase = &state.phase;
    match &state.running {
        Some(running) if running.attempt >= MAX_ATTEMPTS => {
            Some(format!("{phase}, tried too often"))
        }
        Some(running) if running.attempt > 1 => None,
        Some(_) => Some(format!("{phase}, in doubt")),
        None if state.waiting.is_some() => Some(format!("{phase}, waiting")),
        None => Some(phase.to_string()),
    }
}

fn by() -> String {
    "ann".to_owned()
}

/// Every kind of event, in the place where it could be legal and beside it.
fn events(state: &DeployState, plan: &Plan) -> Vec<(&'static str, Event)> {
    let due = match state.next() {
        Next::Step { at, attempt, .. } => (at, attempt),
        Next::GiveUp { at } => (at, MAX_ATTEMPTS + 1),
        Next::Wait { at, .. } => (at, 1),
        Next::Plan | Next::End(_) | Next::Nothing => (Cursor::Forward(0), 1),
    };
    let (at, attempt) = due;
    let beside = match at {
        Cursor::Forward(index) => Cursor::Forward(index + 1),
        Cursor::Back(index) => Cursor::Back(index + 1),
    };
    let plan = Box::new(plan.clone());
    let nothing = Box::new(Plan {
        steps: Vec::new(),
        ..(*plan).clone()
    });
    let since = Timestamp::UNIX_EPOCH;
    let started = |at, attempt| Event::StepStarted { at, attempt, since };
    let finished = |at| Event::StepFinished {
        at,
        finding: state.step(at).map_or(Finding::Done, finding),
    };
    let judged = |verdict| Event::StepFinished {
        at,
        finding: Finding::Judged { verdict },
    };
    let failure = |class| Failure::new(class, "bad");
    let failed = |at, class| Event::StepFailed {
        at,
        failure: failure(class),
    };
    let note = "half".to_owned();
    let mut events = vec![
        ("accepted", accepted(&image(3))),
        ("planned", Event::Planned { plan }),
        ("planned nothing", Event::Planned { plan: nothing }),
        (
            "refused",
            Event::PlanRefused {
                failure: failure(FailureClass::Request),
            },
        ),
        ("started", started(at, attempt)),
        ("started again", started(at, attempt + 1)),
        ("started beside", started(beside, 1)),
        ("progressed", Event::StepProgressed { at, note }),
        ("finished", finished(at)),
        ("finished beside", finished(beside)),
        (
            "judged bad",
            judged(Verdict::Bad {
                because: by(),
                figures: Figures::default(),
            }),
        ),
        ("judged unsure", judged(Verdict::none(by()))),
        ("failed", failed(at, FailureClass::Release)),
        ("failed unsure", failed(at, FailureClass::NoVerdict)),
        ("failed beside", failed(beside, FailureClass::Release)),
        ("abort", Event::AbortRequested { by: by() }),
        (
            "superseded",
            Event::SupersedeRequested {
                by: DeployId::new(1, [0; 10]),
            },
        ),
        (
            "target healthy",
            Event::TargetHealthy {
                at,
                name: "shop-v3-0".to_owned(),
                time: since,
            },
        ),
        (
            "held",
            Event::Held {
                at,
                because: "see it".to_owned(),
                until: Timestamp::MAX,
            },
        ),
        (
            "approved",
            Event::Approved {
                by: by(),
                time: since,
            },
        ),
        (
            "rejected",
            Event::Rejected {
                by: by(),
                why: None,
            },
        ),
        ("hold over early", Event::HoldExpired { time: since }),
        (
            "hold over",
            Event::HoldExpired {
                time: Timestamp::MAX,
            },
        ),
        (
            "promote next",
            Event::PromoteRequested {
                by: by(),
                how: Promotion::Next,
                time: since,
            },
        ),
        (
            "promote full",
            Event::PromoteRequested {
                by: by(),
                how: Promotion::Full,
                time: since,
            },
        ),
        ("stalled early", Event::Stalled { time: since }),
        (
            "stalled",
            Event::Stalled {
                time: Timestamp::MAX,
            },
        ),
    ];
    let ends = [
        "ends promoted",
        "ends failed",
        "ends aborted",
        "ends superseded",
        "ends rolled_back",
        "ends no_verdict",
        "ends shadowed",
    ];
    let outcomes = Outcome::ALL.into_iter();
    events.extend(
        ends.into_iter()
            .zip(outcomes.map(|outcome| Event::Ended { outcome })),
    );
    events
}

/// A block for each state: what follows each legal event. All else is illegal.
#[test]
fn whole_table() {
    let plan = host().plan(&image(3)).unwrap();
    let mut table = String::new();
    for (name, state) in states() {
        writeln!(table, "{name}").unwrap();
        for (event, what) in events(&state, &plan) {
            if let Ok(after) = state.clone().apply(&what) {
                let doubt = match (&after.running, &after.waiting) {
                    (Some(running), _) => format!(", try {}", running.attempt),
                    (None, Some(_)) => ", waiting".to_owned(),
                    (None, None) => String::new(),
                };
                writeln!(table, "  {event:<16} {}{doubt}", after.phase).unwrap();
            }
        }
    }
    insta::assert_snapshot!(table);
}

#[test]
fn nothing_begins_but_with_a_call() {
    let state = Host::new().deploy(1).state;
    let plan = after(&[1, 2]).plan(&image(3)).unwrap();
    for (name, event) in events(&state, &plan) {
        assert_eq!(
            DeployState::begin(&event).is_ok(),
            name == "accepted",
            "{name}"
        );
    }
}
