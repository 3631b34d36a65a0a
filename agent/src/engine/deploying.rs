//! Carrying out one deploy, from wherever its state is to its end.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use cutover_plan::event::{Cursor, Event, Failure, FailureClass};
use cutover_plan::state::{MAX_ATTEMPTS, Next, Phase};
use cutover_plan::step::Step;
use tokio::sync::watch as watch_channel;

use super::keep::Keeper;
use super::steps::Steps;
use super::{Deploy, Engine, EngineError, KEEP_EVERY, Wanted, respond};
use crate::containers::Containers;
use crate::desk::{Command, Refusal};
use crate::journal::Record;
use crate::traffic::Traffic;

/// Sentences about how far one step is that are kept: the history has a limit.
const MAX_NOTES: usize = 200;

/// How a step ended.
enum End {
    Event(Event),
    Aborted,
}

impl<C: Containers, T: Traffic, R: Record> Engine<C, T, R> {
    pub(super) async fn carry_out(
        &mut self,
        mut deploy: Deploy,
        keeper: &mut Keeper,
    ) -> Result<(), EngineError> {
        loop {
            let event = match deploy.state.next() {
                Next::Nothing => return Ok(()),
                Next::End(outcome) => Event::Ended { outcome },
                Next::Plan => self.plan_event(&deploy).await,
                Next::GiveUp { at } => Event::StepFailed {
                    at,
                    failure: gave_up(),
                },
                Next::Step { at, step, attempt } => {
                    let step = step.clone();
                    let now = (self.drivers.clock)();
                    let running = deploy.state.running.filter(|running| running.at == at);
                    let since = running.map_or(now, |running| running.since);
                    self.append(&mut deploy, Event::StepStarted { at, attempt, since })?;
                    match self.do_step(&mut deploy, at, &step, keeper).await? {
                        End::Event(event) => event,
                        End::Aborted => continue,
                    }
                }
            };
            self.append(&mut deploy, event)?;
        }
    }

    async fn plan_event(&mut self, deploy: &Deploy) -> Event {
        if let Err(failure) = self.adopt().await {
            return Event::PlanRefused { failure };
        }
        let wanted = deploy.image.clone().map_or(Wanted::Rollback, Wanted::Image);
        match self
            .look()
            .plan(&wanted, deploy.source.sha.as_deref())
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
        keeper: &mut Keeper,
    ) -> Result<End, EngineError> {
        let (progress, mut notes) = watch_channel::channel(String::new());
        let mut noted = 0;
        let steps = Steps {
            lease: Arc::clone(&self.lease),
            drivers: self.drivers.clone(),
            spec: self.spec.clone(),
            plan: deploy.state.plan.clone(),
            deploy: deploy.id.clone(),
            registry: deploy.registry.clone(),
            progress,
            trouble: Mutex::new(None),
        };
        let running = deploy.state.running;
        let work = steps.perform(step, running);
        tokio::pin!(work);
        let mut tick = tokio::time::interval(KEEP_EVERY);
        tick.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        tick.reset();
        let mut keeping = None;
        loop {
            tokio::select! {
                // An abort that is there wins over a step that ends now.
                biased;
                command = self.commands.recv() => {
                    let Some(command) = command else { return Err(EngineError::Closed) };
                    if let Command::Abort { deploy: id, by, reply } = command {
                        let answer = self.abort(deploy, &id, by)?;
                        let aborted = answer.is_ok();
                        respond(reply, answer);
                        if aborted {
                            return Ok(End::Aborted);
                        }
                    } else {
                        self.obey(command, Some(deploy)).await?;
                    }
                }
                result = &mut work => {
                    return Ok(End::Event(match result {
                        Ok(finding) => Event::StepFinished { at, finding },
                        Err(failure) => Event::StepFailed { at, failure },
                    }));
                }
                Ok(()) = notes.changed(), if noted < MAX_NOTES => {
                    noted += 1;
                    let note = notes.borrow_and_update().clone();
                    self.append(deploy, Event::StepProgressed { at, note })?;
                }
                _ = tick.tick(), if leaves_routes_alone(step) && keeping.is_none() => {
                    keeping = Some(Box::pin(self.keep()));
                }
                // Looked at beside the step, which must not wait for it.
                Some(looked) = async { Some(keeping.as_mut()?.await) } => {
                    keeping = None;
                    keeper.hear(self.lease.app(), looked);
                }
            }
        }
    }

    fn abort(
        &mut self,
        deploy: &mut Deploy,
        asked: &cutover_plan::id::DeployId,
        by: String,
    ) -> Result<Result<(), Refusal>, EngineError> {
        if *asked != deploy.id {
            return Ok(Err(match self.drivers.journal.deploy(asked)? {
                Some(record) if record.app == *self.lease.app() => Refusal::over(asked),
                _ => Refusal::unknown_deploy(asked),
            }));
        }
        let event = Event::AbortRequested { by };
        if deploy.state.clone().apply(&event).is_err() {
            let back = matches!(deploy.state.phase, Phase::Back { .. });
            return Ok(Err(Refusal::too_late(asked, back)));
        }
        self.append(deploy, event)?;
        Ok(Ok(()))
    }
}

/// While these steps run nobody else changes the app's route.
fn leaves_routes_alone(step: &Step) -> bool {
    match step {
        Step::Preflight { .. }
        | Step::Pull { .. }
        | Step::Gate { .. }
        | Step::Watch { .. }
        | Step::Prune { .. } => true,
        Step::Start { .. }
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
