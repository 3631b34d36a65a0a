//! The engine of one app: carries its deploys out, one at a time.
//!
//! Sources (a command, the end of a step, the clock) become an event, the event
//! is appended to the journal, then applied, then the next step is asked of the
//! state. Effects come after the append, and there is no state but the fold of
//! the journal: an engine that starts reads it and goes on where the last one
//! stopped. That is the only recovery there is.
//!
//! The engine knows steps, not strategies; containers and traffic, not Docker
//! and not the proxy.
//!
//! Invariant: only the holder of an app's [`Lease`] changes the app.

mod accept;
mod casualty;
mod counting;
mod deploying;
mod gate;
mod hook;
mod housekeeping;
mod keep;
mod lease;
mod look;
mod observe;
mod route;
mod shift;
mod side;
mod steps;
mod tell;
mod watch;
mod window;

use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::time::Duration;

use cutover_plan::event::{Event, Failure, FailureClass};
use cutover_plan::history;
use cutover_plan::id::DeployId;
use cutover_plan::plan::Kind;
use cutover_plan::release::Releases;
use cutover_plan::spec::AppSpec;
use cutover_plan::state::{DeployState, IllegalEvent};
use cutover_wire::agent::PlanView;
use cutover_wire::request::{Change, RegistryCredentials, Source};
use tokio::sync::{Semaphore, mpsc, oneshot, watch as watch_channel};

use crate::clock::{Clock, Ids, measured};
use crate::containers::Containers;
use crate::desk::{CallId, Command, Refusal};
use crate::fingerprint::EnvFileError;
use crate::journal::{Journal, JournalError, Record};
use crate::traffic::Traffic;

use deploying::reached;
pub use lease::{Lease, Leases};
use look::Look;
pub(crate) use tell::shown_at;

/// Plans and views that are made at once: people and their scripts look.
const LOOKERS: usize = 8;

/// What an engine works with, beside the app itself.
pub struct Drivers<C, T, R> {
    /// Starts and stops containers.
    pub containers: Arc<C>,
    /// Switches traffic.
    pub traffic: Arc<T>,
    /// Reads the journal.
    pub journal: Journal,
    /// Writes the journal.
    pub record: Arc<R>,
    /// Tells the time.
    pub clock: Clock,
    /// Makes ids.
    pub ids: Ids,
}

impl<C, T, R> Clone for Drivers<C, T, R> {
    fn clone(&self) -> Self {
        Self {
            containers: Arc::clone(&self.containers),
            traffic: Arc::clone(&self.traffic),
            journal: self.journal.clone(),
            record: Arc::clone(&self.record),
            clock: Arc::clone(&self.clock),
            ids: Arc::clone(&self.ids),
        }
    }
}

/// Why an engine stops: what it would do next could not be made durable. It
/// does nothing more; a new process reads the journal and goes on.
#[derive(Debug, thiserror::Error)]
pub enum EngineError {
    /// The journal does not take or give events.
    #[error("the journal failed")]
    Journal(#[from] JournalError),
    /// The journal holds events that cannot follow each other.
    #[error("the journal of the deploy {deploy} makes no sense")]
    Illegal {
        /// The deploy.
        deploy: DeployId,
        /// The event that cannot follow.
        #[source]
        source: IllegalEvent,
    },
    /// Nobody can command it any more: the process is ending.
    #[error("the desk is closed")]
    Closed,
}

/// The engine of one app.
pub struct Engine<C, T, R> {
    /// Shared with the step that runs, which is a part of this engine.
    lease: Arc<Lease>,
    spec: AppSpec,
    drivers: Drivers<C, T, R>,
    commands: mpsc::Receiver<Command>,
    releases: Releases,
    /// Those who look at the app, apart from the engine, have so many places.
    lookers: Arc<Semaphore>,
    /// The call that waits for the end of the deploy that is under way.
    waiting: Option<Deploy>,
    /// Whether there may be hooks that no step waits for.
    hooks_left: Arc<AtomicBool>,
    /// Measures what a deploy waits for, from its beginning in this process on.
    time: Clock,
}

/// What becomes of the deploy that is under way.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Course {
    /// It goes on.
    Same,
    /// It is elsewhere: on its way back, over, or sent on.
    Turned,
}

/// The deploy that is under way.
struct Deploy {
    id: DeployId,
    source: Source,
    state: DeployState,
    image: Option<cutover_plan::id::ImageReference>,
    /// Why a closed deploy window does not count.
    window_override: Option<String>,
    /// Lives in memory only: a deploy that goes on after a restart pulls with
    /// what the host itself knows.
    registry: Option<RegistryCredentials>,
    /// Whether it was begun by an agent before this one.
    resumed: bool,
    /// What its watches pass on; it lives in memory only, too.
    compared: counting::Memory,
}

impl<C: Containers, T: Traffic, R: Record> Engine<C, T, R> {
    /// An engine for the app of the lease; it reads what the journal knows.
    pub fn new(
        lease: Lease,
        spec: AppSpec,
        drivers: Drivers<C, T, R>,
        commands: mpsc::Receiver<Command>,
    ) -> Result<Self, EngineError> {
        let releases = drivers.journal.releases(lease.app())?;
        let time = measured(&drivers.clock);
        Ok(Self {
            lease: Arc::new(lease),
            spec,
            drivers,
            commands,
            releases,
            lookers: Arc::new(Semaphore::new(LOOKERS)),
            waiting: None,
            hooks_left: Arc::default(),
            time,
        })
    }

    /// Works until the desk is closed or the journal fails.
    pub async fn run(mut self) -> Result<(), EngineError> {
        let mut current = self.resume()?;
        // A proxy that does not answer yet is asked again before a plan is made.
        if let Err(failure) = self.adopt().await {
            tracing::warn!(app = %self.lease.app(), "{}", failure.reason);
        }
        let mut rounds = keep::Rounds::new(&self.drivers.containers, self.lease.app());
        let mut housekeeper = housekeeping::Housekeeper::default();
        loop {
            if let Some(deploy) = current.take() {
                let kind = deploy.state.kind;
                let outcome = self.carry_out(deploy, &mut rounds).await?;
                rounds.begin_anew();
                housekeeper.hear(kind, outcome, (self.time)());
                current = self.waiting.take();
                continue;
            }
            let due = housekeeper.due(self.releases.standby_until);
            let due = reached(Arc::clone(&self.time), due);
            tokio::select! {
                // A person who wants to go back to what stands by comes first.
                biased;
                command = self.commands.recv() => match command {
                    Some(command) => current = self.obey(command, None)?.0,
                    None => return Ok(()),
                },
                () = due => current = Some(self.begin_housekeeping(Kind::Retire)?),
                turn = rounds.turn() => {
                    let seen = rounds.take(turn, || self.keep(keep::Aside::Ended));
                    let now = (self.time)();
                    if seen.is_some_and(|seen| housekeeper.may_scale(seen, now)) {
                        current = Some(self.begin_housekeeping(Kind::Scale)?);
                    }
                }
            }
        }
    }

    /// Does what the desk asks. A deploy that may begin is returned; one that
    /// finds another under way waits, and what that means for the `running` one
    /// is returned, too.
    fn obey(
        &mut self,
        command: Command,
        running: Option<&mut Deploy>,
    ) -> Result<(Option<Deploy>, Course), EngineError> {
        match command {
            Command::Deploy {
                call,
                request,
                reply,
            } => {
                let answer = self.accept(call, *request, running.as_deref())?;
                let (told, deploy) = match answer {
                    Ok((id, deploy)) => (Ok(id), deploy),
                    Err(refusal) => (Err(refusal), None),
                };
                respond(reply, told);
                return match (deploy, running) {
                    (Some(deploy), Some(running)) => Ok((None, self.line_up(deploy, running)?)),
                    (deploy, _) => Ok((deploy, Course::Same)),
                };
            }
            // While a deploy is under way these are heard before.
            Command::Abort { deploy, reply, .. } | Command::Decide { deploy, reply, .. } => {
                let refusal = match self.drivers.journal.deploy(&deploy)? {
                    Some(record) if record.app == *self.lease.app() => Refusal::over(&deploy),
                    _ => Refusal::unknown_deploy(&deploy),
                };
                respond(reply, Err(refusal));
            }
            Command::Plan { change, reply } if !reply.is_closed() => {
                let Ok(place) = Arc::clone(&self.lookers).try_acquire_owned() else {
                    respond(reply, Err(Refusal::crowded(self.lease.app())));
                    return Ok((None, Course::Same));
                };
                let look = self.look();
                tokio::spawn(async move {
                    let plan = look.plan(&change.into(), None, Duration::ZERO).await;
                    let view = plan.map(|mut plan| {
                        plan.notes.extend(look.obstacles(&plan));
                        let text = plan.to_string();
                        Box::new(PlanView { text, plan })
                    });
                    respond(reply, view.map_err(|failure| Refusal::no_plan(&failure)));
                    drop(place);
                });
            }
            Command::Status { reply } if !reply.is_closed() => {
                let Ok(place) = Arc::clone(&self.lookers).try_acquire_owned() else {
                    respond(reply, Err(Refusal::crowded(self.lease.app())));
                    return Ok((None, Course::Same));
                };
                let look = self.look();
                let running = running.map(|deploy| deploy.id.clone());
                let waiting = self.waiting.as_ref().map(|deploy| deploy.id.clone());
                tokio::spawn(async move {
                    let view = look.status([running.as_ref(), waiting.as_ref()]).await;
                    respond(reply, view.map(Box::new).map_err(Refusal::from));
                    drop(place);
                });
            }
            Command::Ping { reply } => respond(reply, ()),
            // Whoever asked has left.
            Command::Plan { .. } | Command::Status { .. } => {}
        }
        Ok((None, Course::Same))
    }

    /// Appends an event, and only then lets the state follow it.
    fn append(&mut self, deploy: &mut Deploy, event: Event) -> Result<(), EngineError> {
        self.append_asked(deploy, event, None)
    }

    /// The same for an event that a call asked for, which is taken once.
    fn append_asked(
        &mut self,
        deploy: &mut Deploy,
        event: Event,
        call: Option<&CallId>,
    ) -> Result<(), EngineError> {
        let now = (self.drivers.clock)();
        let illegal = |source| EngineError::Illegal {
            deploy: deploy.id.clone(),
            source,
        };
        let after = deploy.state.clone().apply(&event).map_err(illegal)?;
        let mut releases = self.releases.clone();
        history::fold(&mut releases, &deploy.state, &event);
        let before = std::mem::replace(&mut deploy.state, after);
        let messages = tell::messages(&self.spec, deploy, &event, now);
        let record = &self.drivers.record;
        let written = match call {
            Some(CallId(call)) => {
                record.append_called(call, &deploy.id, now, &event, &releases, &messages)
            }
            None => record.append(&deploy.id, now, &event, &releases, &messages),
        };
        if let Err(error) = written {
            // The engine stops here: what is not durable has not happened.
            deploy.state = before;
            return Err(error.into());
        }
        self.releases = releases;
        tracing::info!(
            app = %self.lease.app(),
            deploy = %deploy.id,
            "{}",
            crate::texts::told(&event, Some(&before))
        );
        Ok(())
    }

    /// What can be looked at, as of now, apart from the engine.
    fn look(&self) -> Look<C, T, R> {
        Look {
            app: self.lease.app().clone(),
            spec: self.spec.clone(),
            drivers: self.drivers.clone(),
            releases: self.releases.clone(),
        }
    }
}

/// What a plan is asked for.
enum Wanted {
    Image(cutover_plan::id::ImageReference),
    Rollback,
    /// That nothing stands by any more.
    Retirement,
    /// As many containers as the app's file says.
    Scale,
}

impl From<Change> for Wanted {
    fn from(change: Change) -> Self {
        match change {
            Change::Deploy { image } => Self::Image(image),
            Change::Rollback {} => Self::Rollback,
        }
    }
}

fn env_file_failure(error: EnvFileError) -> Failure {
    Failure::new(FailureClass::Host, error.to_string())
        .hint("mend env_file on the host and deploy again")
}

/// A caller that does not wait for the answer any more has lost nothing by it.
fn respond<A>(reply: oneshot::Sender<A>, answer: A) {
    if reply.send(answer).is_err() {
        tracing::debug!("the caller left before the answer");
    }
}

/// How a running step tells how far it is: only the newest sentence counts.
type Progress = watch_channel::Sender<String>;
