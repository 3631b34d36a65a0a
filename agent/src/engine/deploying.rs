//! Carrying out one deploy, from wherever its state is to its end.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use cutover_plan::event::{Cursor, Event, Failure, FailureClass, Promotion};
use cutover_plan::outcome::Outcome;
use cutover_plan::plan::Kind;
use cutover_plan::state::{MAX_ATTEMPTS, Next, Phase};
use cutover_plan::step::Step;
use cutover_wire::request::Decision;
use jiff::Timestamp;
use tokio::sync::watch as watch_channel;

use super::keep::{Aside, Rounds};
use super::steps::{Done, Steps};
use super::{Course, Deploy, Engine, EngineError, Wanted, respond, window};
use crate::clock::{Clock, measured};
use crate::containers::Containers;
use crate::desk::{CallId, Command, Refusal};
use crate::journal::Record;
use crate::traffic::Traffic;

/// Sentences about how far one step is that are kept: the history has a limit.
const MAX_NOTES: usize = 200;

/// How long an engine of containers that does not answer is asked before there
/// is no plan: what its restart takes.
const PLAN_PATIENCE: Duration = Duration::from_secs(15);

/// How often the clock of the host is looked at by who waits for a time of it.
const CLOCK_LOOK: Duration = Duration::from_secs(2);

/// How a step ended.
enum End {
    Event(Event),
    /// Not by itself: somebody turned the deploy.
    Turned,
}

impl<C: Containers, T: Traffic, R: Record> Engine<C, T, R> {
    pub(super) async fn carry_out(
        &mut self,
        mut deploy: Deploy,
        rounds: &mut Rounds<C>,
    ) -> Result<Option<Outcome>, EngineError> {
        self.time = measured(&self.drivers.clock);
        // Before anything is begun, and after a crash: what nobody waits for goes.
        self.clear_hooks_of(&deploy).await;
        loop {
            let event = match deploy.state.next() {
                Next::Nothing => return Ok(deploy.state.outcome()),
                Next::End(outcome) => Event::Ended { outcome },
                Next::Plan => self.plan_event(&deploy).await,
                Next::Wait { until, .. } => match self.wait(&mut deploy, until, rounds).await? {
                    End::Event(event) => event,
                    End::Turned => continue,
                },
                Next::GiveUp { at } => Event::StepFailed {
                    at,
                    failure: gave_up(),
                },
                Next::Step { at, step, attempt } => {
                    let step = step.clone();
                    let now = (self.time)();
                    let running = deploy.state.running.filter(|running| running.at == at);
                    let since = running.map_or(now, |running| running.since);
                    self.append(&mut deploy, Event::StepStarted { at, attempt, since })?;
                    let forward = matches!(at, Cursor::Forward(_));
                    if forward
                        && let Some(failure) =
                            window::forbids(&self.spec, &deploy, &step, (self.drivers.clock)())
                    {
                        self.append(&mut deploy, Event::StepFailed { at, failure })?;
                        continue;
                    }
                    let end = self.do_step(&mut deploy, at, &step, rounds).await?;
                    if let End::Event(event) = end {
                        self.append(&mut deploy, event)?;
                    }
                    if matches!(step, Step::Hook { .. }) {
                        self.clear_hooks_of(&deploy).await;
                    }
                    continue;
                }
            };
            self.append(&mut deploy, event)?;
        }
    }

    async fn plan_event(&mut self, deploy: &Deploy) -> Event {
        if let Err(failure) = self.adopt().await {
            return Event::PlanRefused { failure };
        }
        let wanted = match (deploy.state.kind, deploy.image.clone()) {
            (Kind::Retire, _) => Wanted::Retirement,
            (Kind::Scale, _) => Wanted::Scale,
            (_, Some(image)) => Wanted::Image(image),
            (_, None) => Wanted::Rollback,
        };
        match self
            .look()
            .plan(&wanted, deploy.source.sha.as_deref(), PLAN_PATIENCE)
            .await
        {
            Ok(plan) => Event::Planned {
                plan: Box::new(plan),
            },
            Err(failure) => Event::PlanRefused { failure },
        }
    }

    /// Does one step while it listens to the desk. An abort stops the step
    /// where it is; the way back finds what it left.
    async fn do_step(
        &mut self,
        deploy: &mut Deploy,
        at: Cursor,
        step: &Step,
        rounds: &mut Rounds<C>,
    ) -> Result<End, EngineError> {
        let (progress, mut notes) = watch_channel::channel(String::new());
        let mut noted = 0;
        let steps = Steps {
            lease: Arc::clone(&self.lease),
            drivers: self.drivers.clone(),
            time: Arc::clone(&self.time),
            spec: self.spec.clone(),
            then: deploy.state.step(at.next()).cloned(),
            plan: deploy.state.plan.clone(),
            deploy: deploy.id.clone(),
            registry: deploy.registry.clone(),
            resumed: deploy.resumed,
            progress,
            compared: Arc::clone(&deploy.compared),
            trouble: Mutex::new(None),
        };
        let running = deploy.state.running;
        let late = reached(Arc::clone(&self.time), deploy.state.progress_deadline());
        tokio::pin!(late);
        let work = steps.perform(step, running);
        tokio::pin!(work);
        rounds.begin_anew();
        loop {
            tokio::select! {
                // An abort that is there wins over a step that ends now.
                biased;
                command = self.commands.recv() => {
                    let Some(command) = command else { return Err(EngineError::Closed) };
                    if self.hear(deploy, command)? == Course::Turned {
                        return Ok(End::Turned);
                    }
                }
                () = &mut late => {
                    let time = (self.time)();
                    self.append(deploy, Event::Stalled { time })?;
                    return Ok(End::Turned);
                }
                result = &mut work => {
                    return Ok(End::Event(match result {
                        Ok(Done::Found(finding)) => Event::StepFinished { at, finding },
                        Ok(Done::Held { because, until }) => Event::Held { at, because, until },
                        Err(failure) => Event::StepFailed { at, failure },
                    }));
                }
                Ok(()) = notes.changed(), if noted < MAX_NOTES => {
                    noted += 1;
                    let note = notes.borrow_and_update().clone();
                    self.append(deploy, Event::StepProgressed { at, note })?;
                }
                // Looked at beside the step, which must not wait for it.
                turn = rounds.turn(), if leaves_routes_alone(step) => {
                    rounds.take(turn, || self.keep(Aside::Kept));
                }
            }
        }
    }

    /// Waits for a person, at most until the deadline of the wait.
    async fn wait(
        &mut self,
        deploy: &mut Deploy,
        until: Timestamp,
        rounds: &mut Rounds<C>,
    ) -> Result<End, EngineError> {
        let expired = reached(Arc::clone(&self.time), Some(until));
        tokio::pin!(expired);
        rounds.begin_anew();
        loop {
            tokio::select! {
                biased;
                command = self.commands.recv() => {
                    let Some(command) = command else { return Err(EngineError::Closed) };
                    if self.hear(deploy, command)? == Course::Turned {
                        return Ok(End::Turned);
                    }
                }
                () = &mut expired => {
                    let time = (self.time)();
                    return Ok(End::Event(Event::HoldExpired { time }));
                }
                turn = rounds.turn() => {
                    rounds.take(turn, || self.keep(Aside::Kept));
                }
            }
        }
    }

    /// Does what the desk asks while a deploy is under way, and tells whether
    /// that turned the deploy.
    fn hear(&mut self, deploy: &mut Deploy, command: Command) -> Result<Course, EngineError> {
        let (answer, reply) = match command {
            Command::Abort {
                deploy: id,
                by,
                reply,
            } => {
                if self.abort_waiting(&id, &by)? {
                    respond(reply, Ok(()));
                    return Ok(Course::Same);
                }
                let back = matches!(deploy.state.phase, Phase::Back { .. });
                let refusal = Refusal::too_late(&id, back);
                let event = Event::AbortRequested { by };
                (self.turn(deploy, &id, event, refusal, None)?, reply)
            }
            Command::Decide {
                call,
                deploy: id,
                decision,
                by,
                reply,
            } => {
                // A word that is sent again must not send the deploy on twice.
                if self.drivers.journal.find_call(&call.0)?.is_some() {
                    respond(reply, Ok(()));
                    return Ok(Course::Same);
                }
                let refusal = Refusal::not_asked(&id, &decision);
                let event = decided(decision, by, (self.time)());
                (self.turn(deploy, &id, event, refusal, Some(&call))?, reply)
            }
            other => return Ok(self.obey(other, Some(deploy))?.1),
        };
        let course = match answer {
            Ok(()) => Course::Turned,
            Err(_) => Course::Same,
        };
        respond(reply, answer);
        Ok(course)
    }

    /// Lets a person's word follow, if it can; otherwise the refusal tells why not.
    fn turn(
        &mut self,
        deploy: &mut Deploy,
        asked: &cutover_plan::id::DeployId,
        event: Event,
        refusal: Refusal,
        call: Option<&CallId>,
    ) -> Result<Result<(), Refusal>, EngineError> {
        if *asked != deploy.id {
            let waits = self
                .waiting
                .as_ref()
                .is_some_and(|waiting| waiting.id == *asked);
            return Ok(Err(match self.drivers.journal.deploy(asked)? {
                Some(_) if waits => refusal,
                Some(record) if record.app == *self.lease.app() => Refusal::over(asked),
                _ => Refusal::unknown_deploy(asked),
            }));
        }
        if deploy.state.clone().apply(&event).is_err() {
            return Ok(Err(refusal));
        }
        self.append_asked(deploy, event, call)?;
        Ok(Ok(()))
    }
}

fn decided(decision: Decision, by: String, time: Timestamp) -> Event {
    match decision {
        Decision::Approve {} => Event::Approved { by, time },
        Decision::Reject { why } => Event::Rejected { by, why },
        Decision::Promote { full } => Event::PromoteRequested {
            by,
            how: match full {
                true => Promotion::Full,
                false => Promotion::Next,
            },
            time,
        },
    }
}

/// Completes when the clock has reached a time, and never without one. It is looked
/// at again and again: no sleep is longer than the host's own.
pub(super) async fn reached(clock: Clock, time: Option<Timestamp>) {
    let Some(time) = time else {
        return std::future::pending().await;
    };
    loop {
        let left = Duration::try_from(time.duration_since(clock()));
        match left.unwrap_or(Duration::ZERO) {
            Duration::ZERO => return,
            left => tokio::time::sleep(left.min(CLOCK_LOOK)).await,
        }
    }
}

/// While these steps run nobody else changes the app's route.
fn leaves_routes_alone(step: &Step) -> bool {
    match step {
        Step::Preflight { .. }
        | Step::Pull { .. }
        | Step::Gate { .. }
        | Step::Hook { .. }
        | Step::Watch { .. }
        | Step::Approve { .. }
        | Step::Prune { .. } => true,
        Step::Start { .. }
        | Step::Preview { .. }
        | Step::Mirror { .. }
        | Step::Park { .. }
        | Step::Shift { .. }
        | Step::Drain { .. }
        | Step::Standby { .. }
        | Step::Retire { .. } => false,
    }
}

fn gave_up() -> Failure {
    let reason = format!("the agent died {MAX_ATTEMPTS} times in this step");
    Failure::new(FailureClass::Host, reason).hint("look at the agent's log on the host")
}

/// How long a step that goes on after a restart gets at the least.
pub(super) const RESUMED_AT_LEAST: Duration = Duration::from_secs(60);
