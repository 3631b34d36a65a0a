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

mod deploying;
mod gate;
mod keep;
mod lease;
mod look;
mod observe;
mod route;
mod steps;
mod tell;
mod watch;

use std::sync::Arc;
use std::time::Duration;

use cutover_plan::compile;
use cutover_plan::event::{Event, Failure, FailureClass};
use cutover_plan::history;
use cutover_plan::id::DeployId;
use cutover_plan::plan::Kind;
use cutover_plan::release::Releases;
use cutover_plan::spec::AppSpec;
use cutover_plan::state::{DeployState, IllegalEvent};
use cutover_wire::agent::PlanView;
use cutover_wire::request::{Change, DeployRequest, RegistryCredentials, Source};
use tokio::sync::{Semaphore, mpsc, oneshot, watch as watch_channel};

use crate::clock::{Clock, Ids};
use crate::containers::Containers;
use crate::desk::{CallId, Command, Refusal};
use crate::fingerprint::EnvFileError;
use crate::journal::{Acceptance, Journal, JournalError, Record};
use crate::traffic::Traffic;
use crate::view;

pub use lease::{Lease, Leases};
use look::Look;
pub(crate) use tell::url_of;

/// How often an idle engine compares the routes with the containers.
const KEEP_EVERY: Duration = Duration::from_secs(2);

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
}

/// The deploy that is under way.
struct Deploy {
    id: DeployId,
    source: Source,
    state: DeployState,
    image: Option<cutover_plan::id::ImageReference>,
    /// Lives in memory only: a deploy that goes on after a restart pulls with
    /// what the host itself knows.
    registry: Option<RegistryCredentials>,
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
        Ok(Self {
            lease: Arc::new(lease),
            spec,
            drivers,
            commands,
            releases,
            lookers: Arc::new(Semaphore::new(LOOKERS)),
        })
    }

    /// Works until the desk is closed or the journal fails.
    pub async fn run(mut self) -> Result<(), EngineError> {
        let mut current = self.resume()?;
        // A proxy that does not answer yet is asked again before a plan is made.
        if let Err(failure) = self.adopt().await {
            tracing::warn!(app = %self.lease.app(), "{}", failure.reason);
        }
        let mut keeper = keep::Keeper::default();
        loop {
            if let Some(deploy) = current.take() {
                self.carry_out(deploy, &mut keeper).await?;
                continue;
            }
            tokio::select! {
                command = self.commands.recv() => match command {
                    Some(command) => current = self.obey(command, None).await?,
                    None => return Ok(()),
                },
                () = tokio::time::sleep(KEEP_EVERY) => {
                    let looked = self.keep().await;
                    keeper.hear(self.lease.app(), looked);
                }
            }
        }
    }

    /// The deploy that the journal has no end of.
    fn resume(&self) -> Result<Option<Deploy>, EngineError> {
        let Some(record) = self.drivers.journal.unfinished(self.lease.app())? else {
            return Ok(None);
        };
        let history = view::history(&self.drivers.journal, &record.deploy)?;
        let illegal = |source| EngineError::Illegal {
            deploy: record.deploy.clone(),
            source,
        };
        let state = view::fold(&history).map_err(illegal)?;
        let image = history.first().and_then(|recorded| match &recorded.event {
            Event::Accepted { image, .. } => image.clone(),
            _ => None,
        });
        tracing::info!(deploy = %record.deploy, phase = %state.phase, "going on with a deploy");
        Ok(Some(Deploy {
            id: record.deploy,
            source: record.source,
            state,
            image,
            registry: None,
        }))
    }

    /// Does what the desk asks. A new deploy is returned; `running` is the one
    /// that is under way, which stands in the way of another.
    async fn obey(
        &mut self,
        command: Command,
        running: Option<&Deploy>,
    ) -> Result<Option<Deploy>, EngineError> {
        match command {
            Command::Deploy {
                call,
                request,
                reply,
            } => {
                let answer = self.accept(call, *request, running)?;
                let (told, deploy) = match answer {
                    Ok((id, deploy)) => (Ok(id), deploy),
                    Err(refusal) => (Err(refusal), None),
                };
                respond(reply, told);
                return Ok(deploy);
            }
            Command::Abort { deploy, reply, .. } => {
                let refusal = match self.drivers.journal.deploy(&deploy)? {
                    Some(record) if record.app == *self.lease.app() => Refusal::over(&deploy),
                    _ => Refusal::unknown_deploy(&deploy),
                };
                respond(reply, Err(refusal));
            }
            Command::Plan { change, reply } if !reply.is_closed() => {
                let Ok(place) = Arc::clone(&self.lookers).try_acquire_owned() else {
                    respond(reply, Err(Refusal::crowded(self.lease.app())));
                    return Ok(None);
                };
                let look = self.look();
                tokio::spawn(async move {
                    let plan = look.plan(&change.into(), None).await;
                    let view = plan.map(|plan| {
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
                    return Ok(None);
                };
                let look = self.look();
                let running = running.map(|deploy| deploy.id.clone());
                tokio::spawn(async move {
                    let view = look.status(running.as_ref()).await;
                    respond(reply, view.map(Box::new).map_err(Refusal::from));
                    drop(place);
                });
            }
            // Whoever asked has left.
            Command::Plan { .. } | Command::Status { .. } => {}
        }
        Ok(None)
    }

    /// Makes a call durable, unless it was taken before, is in the way, or
    /// brings what the host never runs.
    fn accept(
        &self,
        call: CallId,
        request: DeployRequest,
        running: Option<&Deploy>,
    ) -> Result<Result<(DeployId, Option<Deploy>), Refusal>, EngineError> {
        if let Some(first) = self.drivers.journal.find_call(&call.0)? {
            return Ok(Ok((first, None)));
        }
        if let Change::Deploy { image } = &request.change
            && let Err(error) = compile::check_image(&self.spec, image)
        {
            return Ok(Err(Refusal::foreign_image(&error)));
        }
        if let Some(deploy) = running {
            return Ok(Err(Refusal::busy(self.lease.app(), &deploy.id)));
        }
        let now = (self.drivers.clock)();
        let id = (self.drivers.ids)(now);
        let (kind, image) = match request.change {
            Change::Deploy { image } => (Kind::Deploy, Some(image)),
            Change::Rollback {} => (Kind::Rollback, None),
        };
        let event = Event::Accepted {
            app: self.lease.app().clone(),
            kind,
            image: image.clone(),
            by: request.source.actor.clone(),
        };
        let illegal = |source| EngineError::Illegal {
            deploy: id.clone(),
            source,
        };
        let state = DeployState::begin(&event).map_err(illegal)?;
        let deploy = Deploy {
            id: id.clone(),
            source: request.source,
            state,
            image,
            registry: request.registry,
        };
        let messages = tell::messages(&self.spec, &deploy, &event, now);
        let taken =
            self.drivers
                .record
                .accept(&call.0, &id, now, &event, &deploy.source, &messages)?;
        match taken {
            Acceptance::New(_) => {
                tracing::info!(app = %self.lease.app(), deploy = %id, "accepted a call");
                Ok(Ok((id, Some(deploy))))
            }
            Acceptance::Replay(first) => Ok(Ok((first, None))),
        }
    }

    /// Appends an event, and only then lets the state follow it.
    fn append(&mut self, deploy: &mut Deploy, event: Event) -> Result<(), EngineError> {
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
        let written = self
            .drivers
            .record
            .append(&deploy.id, now, &event, &releases, &messages);
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
