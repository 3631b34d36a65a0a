//! What is asked of the agent from outside: calls, people's words, and waits.

use std::collections::BTreeSet;
use std::time::Duration;

use cutover_agent::desk::{CallId, Desk, Refusal};
use cutover_plan::event::{Cursor, Event};
use cutover_plan::id::DeployId;
use cutover_plan::step::Step;
use cutover_wire::agent::DeployView;
use cutover_wire::request::{Change, Decision, DeployRequest, Source, WindowOverride};
use tokio::time::{Instant, sleep};

use crate::drivers::Sim;
use crate::run::{Ended, Process, app, crash_or};
use crate::scenario::{Ask, Moment, Word};

/// Sends one call, as the command line does, until it is answered.
pub(crate) async fn send(
    sim: &Sim,
    process: &mut Option<Process>,
    number: usize,
    ask: &Ask,
    change: Change,
) -> Result<DeployId, Ended> {
    let request = DeployRequest {
        app: app(),
        change,
        source: Source {
            sha: Some("a".repeat(40)),
            actor: Some("ada".to_owned()),
            ..Source::default()
        },
        window_override: matches!(ask, Ask::Override(_)).then(|| WindowOverride {
            why: "the shop is down".to_owned(),
        }),
        registry: None,
    };
    let asked = Instant::now();
    let deploy = loop {
        let desk = desk(process);
        let call = CallId(format!("call-{number}"));
        let answer = desk.deploy(call, request.clone());
        match crash_or(sim, process, answer).await {
            Some(Ok(deploy)) => break deploy,
            Some(Err(refusal)) if refusal.status == 503 => {
                crash_or(sim, process, sleep(Duration::from_millis(100))).await;
            }
            Some(Err(Refusal { problem, .. })) => return Err(Ended::Refused(problem.code)),
            None => {}
        }
    };
    if let Ask::AbortAfter(after, _) | Ask::AbortRollbackAfter(after, _) = ask {
        until(sim, process, asked + *after).await;
        say(sim, process, Some(&deploy), Word::Abort).await;
    }
    Ok(deploy)
}

/// Waits for the end of a deploy.
pub(crate) async fn end(
    sim: &Sim,
    process: &mut Option<Process>,
    sent: &Result<DeployId, Ended>,
) -> Result<DeployView, Ended> {
    let deploy = sent.clone()?;
    loop {
        // Whether it is over is cheap to know; the view is folded once.
        let record = sim.journal.deploy(&deploy).unwrap();
        match record.map(|record| record.ended_at) {
            Some(Some(_)) => {
                let view = desk(process).view(&deploy);
                let view = view.map_err(|refusal| Ended::Refused(refusal.problem.code))?;
                return view.ok_or(Ended::Forgotten);
            }
            Some(None) => {
                crash_or(sim, process, sleep(Duration::from_millis(500))).await;
            }
            None => return Err(Ended::Forgotten),
        }
    }
}

fn desk(process: &Option<Process>) -> Desk {
    process
        .as_ref()
        .map(|process| process.desk.clone())
        .unwrap()
}

/// Waits for a point in time.
pub(crate) async fn until(sim: &Sim, process: &mut Option<Process>, moment: Instant) {
    while Instant::now() < moment {
        crash_or(sim, process, tokio::time::sleep_until(moment)).await;
    }
}

/// Says something of a deploy; why it was refused, if it was.
pub(crate) async fn say(
    sim: &Sim,
    process: &mut Option<Process>,
    deploy: Option<&DeployId>,
    word: Word,
) -> Option<Refusal> {
    let deploy = deploy?;
    let by = "a person".to_owned();
    // Said again after a crash, it is the same word.
    let call = CallId(format!("said-{}", sim.begun.elapsed().as_millis()));
    loop {
        let desk = desk(process);
        let decision = match word {
            Word::Abort => None,
            Word::Approve => Some(Decision::Approve {}),
            Word::Reject => Some(Decision::Reject { why: None }),
            Word::Promote { full } => Some(Decision::Promote { full }),
        };
        let said = async {
            match decision {
                Some(decision) => {
                    let (call, deploy) = (call.clone(), deploy.clone());
                    desk.decide(call, deploy, decision, by.clone()).await
                }
                None => desk.abort(deploy.clone(), by.clone()).await,
            }
        };
        match crash_or(sim, process, said).await {
            Some(Err(refusal)) if refusal.status == 503 => {
                crash_or(sim, process, sleep(Duration::from_millis(100))).await;
            }
            Some(said) => return said.err(),
            None => {}
        }
    }
}

/// Waits until a deploy is so far, or over.
pub(crate) async fn until_moment(
    sim: &Sim,
    process: &mut Option<Process>,
    deploy: Option<&DeployId>,
    moment: Moment,
) {
    let Some(deploy) = deploy else { return };
    loop {
        let record = sim.journal.deploy(deploy).unwrap();
        let over = record.is_none_or(|record| record.ended_at.is_some());
        if over || is_so_far(sim, deploy, moment) {
            return;
        }
        crash_or(sim, process, sleep(Duration::from_millis(250))).await;
    }
}

fn is_so_far(sim: &Sim, deploy: &DeployId, moment: Moment) -> bool {
    let events = sim.journal.events(deploy, 0, 1_000).unwrap();
    let mut events = events.iter().map(|recorded| &recorded.event);
    match moment {
        Moment::Over => false,
        Moment::Parked => {
            let world = sim.world();
            let route = world.table.apps.get("shop");
            route.is_some_and(|route| route.park.is_some())
        }
        Moment::Held => events.any(|event| matches!(event, Event::Held { .. })),
        Moment::Watch(wanted) => {
            let mut plan = None;
            let mut begun = BTreeSet::new();
            for event in events {
                match event {
                    Event::Planned { plan: made } => plan = Some(made),
                    Event::StepStarted {
                        at: Cursor::Forward(index),
                        ..
                    } => {
                        let step = plan.as_ref().and_then(|plan| plan.steps.get(*index));
                        if step.is_some_and(|planned| matches!(planned.step, Step::Watch { .. })) {
                            begun.insert(*index);
                        }
                    }
                    _ => {}
                }
            }
            begun.len() >= wanted
        }
    }
}
