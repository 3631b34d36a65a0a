//! Doing one step. Each step finds out what is already there, does what is
//! missing, and can be done again from any place where it was interrupted.
//!
//! A driver that does not answer is asked again until the step's deadline; the
//! last trouble is told when the deadline has passed.

use std::collections::BTreeSet;
use std::future::Future;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use cutover_plan::compile::CompileError;
use cutover_plan::event::{Cursor, Failure, FailureClass, Finding};
use cutover_plan::id::{DeployId, Digest, ImageReference, ReleaseNumber, Replica, Slot};
use cutover_plan::plan::{Kind, Plan};
use cutover_plan::release::{KnownRelease, Releases, Standing};
use cutover_plan::spec::{AppSpec, render_duration};
use cutover_plan::state::Running;
use cutover_plan::step::Step;
use cutover_plan::traffic::Replicas;
use cutover_wire::proxy::Cut;
use cutover_wire::request::RegistryCredentials;
use jiff::Timestamp;

use super::counting::Memory;
use super::deploying::RESUMED_AT_LEAST;
use super::{Drivers, Lease, Progress, env_file_failure};
use crate::clock::Clock;
use crate::containers::{Container, ContainerError, ContainerErrorKind, Containers, StartOrder};
use crate::fingerprint;
use crate::traffic::{Traffic, TrafficError};

/// Lines of the app that a failure carries: a stack trace fits.
const LOG_LINES: usize = 40;

/// How long the engine may take to read them: users may be waiting for the way back.
const LOG_PATIENCE: Duration = Duration::from_secs(5);

/// How often a pull is begun when the registry or the engine does not answer:
/// half a minute of waiting, in which either may be restarted.
const PULL_TRIES: u32 = 6;

/// They are in memory only.
const CREDENTIALS_LOST: &str = "the agent was started anew in the middle, and what a call brings for the registry goes with the agent that took it: deploy again";

/// The first pause before a driver is asked again; doubles up to the longest.
pub(super) const FIRST_PAUSE: Duration = Duration::from_millis(100);
const LONGEST_PAUSE: Duration = Duration::from_secs(3);

/// How a step ended well.
pub(super) enum Done {
    /// With this.
    Found(Finding),
    /// It is done as far as it can be without a person.
    Held { because: String, until: Timestamp },
}

/// All that the steps of one deploy work with. Holding the lease is what
/// allows them to change the app.
pub(super) struct Steps<C, T, R> {
    pub(super) lease: Arc<Lease>,
    pub(super) drivers: Drivers<C, T, R>,
    /// Measures what the deploy waits for.
    pub(super) time: Clock,
    pub(super) spec: AppSpec,
    /// The step behind the one that is done.
    pub(super) then: Option<Step>,
    pub(super) plan: Option<Box<Plan>>,
    pub(super) deploy: DeployId,
    pub(super) registry: Option<RegistryCredentials>,
    /// Whether it was begun by an agent before this one.
    pub(super) resumed: bool,
    pub(super) progress: Progress,
    /// What the watches of the deploy pass on.
    pub(super) compared: Memory,
    pub(super) trouble: Mutex<Option<String>>,
}

impl<C: Containers, T: Traffic, R: Send + Sync + 'static> Steps<C, T, R> {
    /// Does the step within its deadline. A step that goes on after a restart
    /// counts from its first start, but gets a while at the least: the agent
    /// may have been down for longer than the deadline.
    pub(super) async fn perform(
        &self,
        step: &Step,
        running: Option<Running>,
    ) -> Result<Done, Failure> {
        let spent = match step {
            Step::Watch { rule, .. } => self.watched(rule, running),
            _ => self.since(running),
        };
        let deadline = step.deadline();
        let left = deadline
            .saturating_sub(spent)
            .max(RESUMED_AT_LEAST.min(deadline));
        match tokio::time::timeout(left, self.work(step, running)).await {
            Ok(result) => result,
            Err(_) => {
                let told = self
                    .trouble
                    .lock()
                    .unwrap_or_else(PoisonError::into_inner)
                    .clone();
                let told = told.map_or_else(String::new, |trouble| {
                    format!("; the last trouble: {trouble}")
                });
                let reason = format!(
                    "{} was not done within {}{told}",
                    step.name(),
                    render_duration(deadline)
                );
                Err(Failure::new(FailureClass::Host, reason))
            }
        }
    }

    async fn work(&self, step: &Step, running: Option<Running>) -> Result<Done, Failure> {
        let found = match step {
            Step::Approve { what, deadline, .. } => {
                return Ok(self.held(what.clone(), *deadline, running));
            }
            Step::Watch {
                release,
                check,
                rule,
            } => return self.watch(*release, check, rule, running).await,
            step => self.change(step, running).await?,
        };
        Ok(Done::Found(found))
    }

    async fn change(&self, step: &Step, running: Option<Running>) -> Result<Finding, Failure> {
        match step {
            Step::Preflight { image, memory } => {
                self.ask_traffic(|| self.drivers.traffic.status()).await?;
                let registry = self.registry.as_ref();
                let preflight = || {
                    let containers = &self.drivers.containers;
                    containers.preflight(image, registry, *memory)
                };
                let text = self.ask_containers(preflight).await?;
                Ok(Finding::Note { text })
            }
            Step::Pull { image } => self.pull(image).await,
            Step::Start {
                release,
                image,
                slot,
                replicas,
            } => match is_back(running) {
                false => {
                    self.is_same_configuration()?;
                    self.start(*release, image, *slot, replicas).await
                }
                true => self.start_again(*release, image, *slot, replicas).await,
            },
            Step::Gate {
                release,
                replicas,
                check,
                deadline,
            } => {
                let spent = self.since(running);
                self.gate(*release, replicas, check, *deadline, spent).await
            }
            Step::Shift { to, from } => self.shift(to, from, is_back(running)).await,
            Step::Drain {
                release,
                replicas,
                deadline,
            } => self.drain(*release, replicas, *deadline).await,
            Step::Standby { keep, .. } => {
                self.stand_by().await?;
                Ok(self.standby(*keep))
            }
            Step::Retire {
                release,
                replicas,
                grace,
            } => self.retire(*release, replicas, *grace).await,
            Step::Prune { keep } => self.prune(keep).await,
            Step::Preview { release } => self.preview(*release).await,
            Step::Mirror { to } => self.mirror(to.as_ref()).await,
            Step::Park { requests, deadline } => self.park(*requests, *deadline).await,
            Step::Hook { .. } => self.hook(step, running).await,
            // What bides is not done here.
            Step::Watch { .. } | Step::Approve { .. } => Ok(Finding::Done),
        }
    }

    async fn pull(&self, image: &ImageReference) -> Result<Finding, Failure> {
        let progress = |note: String| {
            // Nobody reads any more when the deploy was aborted.
            let _ = self.progress.send(note);
        };
        let mut pause = Duration::from_secs(1);
        for attempt in 1.. {
            let registry = self.registry.as_ref();
            match self
                .drivers
                .containers
                .pull(image, registry, &progress)
                .await
            {
                Ok(text) => return Ok(Finding::Note { text }),
                Err(error)
                    if error.kind == ContainerErrorKind::Unavailable && attempt < PULL_TRIES =>
                {
                    progress(format!(
                        "{}; asking again in {}",
                        error.reason,
                        render_duration(pause)
                    ));
                    tokio::time::sleep(pause).await;
                    pause *= 2;
                }
                Err(error) => return Err(self.refusal(error)),
            }
        }
        unreachable!("the attempts have no end")
    }

    /// More containers of a release are given what the others were. The file may
    /// have changed since the plan was made.
    fn is_same_configuration(&self) -> Result<(), Failure> {
        let scales = |plan: &&Plan| plan.kind == Kind::Scale;
        let Some(plan) = self.plan.as_deref().filter(scales) else {
            return Ok(());
        };
        let fingerprint = fingerprint::of(&self.spec.run).map_err(env_file_failure)?;
        if fingerprint == plan.release.fingerprint {
            return Ok(());
        }
        let serving = plan.release.number;
        let error = CompileError::Reconfigured { serving };
        Err(Failure::new(FailureClass::Request, error.to_string()).hint(error.hint()))
    }

    async fn start(
        &self,
        release: ReleaseNumber,
        image: &ImageReference,
        slot: Slot,
        replicas: &BTreeSet<Replica>,
    ) -> Result<Finding, Failure> {
        let mut started = Vec::new();
        for replica in replicas {
            let order = StartOrder {
                app: self.lease.app().clone(),
                deploy: self.deploy.clone(),
                release,
                slot,
                replica: *replica,
                image: image.clone(),
                run: self.spec.run.clone(),
            };
            let start = self.ask_containers(|| self.drivers.containers.start(&order));
            match start.await {
                Ok(container) => started.push(container.name),
                // A container that ended right away may have said why.
                Err(failure) => {
                    let containers = self.containers().await.unwrap_or_default();
                    let log = self.log_of(&containers, release).await;
                    return Err(failure.log(log));
                }
            }
        }
        let text = match started.as_slice() {
            [one] => format!("container {one}"),
            all => format!("containers {}", all.join(", ")),
        };
        Ok(Finding::Note { text })
    }

    /// On the way back requests wait for what is started, or too few answer them,
    /// and there is no other road: whatever refuses is asked again until the deadline.
    async fn start_again(
        &self,
        release: ReleaseNumber,
        image: &ImageReference,
        slot: Slot,
        replicas: &BTreeSet<Replica>,
    ) -> Result<Finding, Failure> {
        let mut pause = FIRST_PAUSE;
        loop {
            match self.start(release, image, slot, replicas).await {
                Err(failure) => self.pause(&mut pause, failure.reason).await,
                started => return started,
            }
        }
    }

    /// The journal remembers what stands by, and until when.
    fn standby(&self, keep: Option<Duration>) -> Finding {
        let Some(keep) = keep else {
            return Finding::Done;
        };
        let until = (self.time)().checked_add(keep);
        // A time that no calendar has does not come.
        Finding::StandsBy { until: until.ok() }
    }

    pub(super) fn held(
        &self,
        because: String,
        deadline: Duration,
        running: Option<Running>,
    ) -> Done {
        let now = (self.time)();
        let since = running.map_or(now, |running| running.since);
        let until = since.checked_add(deadline).unwrap_or(Timestamp::MAX);
        Done::Held { because, until }
    }

    /// Waits for the open requests of a release. What follows may stop it, so a
    /// refusal is no reason to go on: it is asked again until the deadline, by
    /// which the requests had their time in any case.
    async fn drain(
        &self,
        release: ReleaseNumber,
        replicas: &Replicas,
        deadline: Duration,
    ) -> Result<Finding, Failure> {
        let mut pause = FIRST_PAUSE;
        loop {
            match self.try_drain(release, replicas, deadline).await {
                Err(failure) => self.pause(&mut pause, failure.reason).await,
                ended => return ended,
            }
        }
    }

    async fn try_drain(
        &self,
        release: ReleaseNumber,
        replicas: &Replicas,
        deadline: Duration,
    ) -> Result<Finding, Failure> {
        let targets = self.names_of(release, replicas).await?;
        let (traffic, app) = (&self.drivers.traffic, self.lease.app());
        let stops =
            matches!(&self.then, Some(Step::Retire { release: next, .. }) if *next == release);
        let cut = stops.then(|| cut(deadline));
        let left = self
            .ask_traffic(|| traffic.drain(app, &targets, deadline, cut))
            .await?;
        Ok(Finding::Drained {
            requests: left.requests,
            streams: left.streams,
            tunnels: left.tunnels,
        })
    }

    /// Removes images of the app's repository. Another app may run images of the
    /// same one, so what it could roll back to stays, too.
    async fn prune(&self, keep: &[Digest]) -> Result<Finding, Failure> {
        let others = self.drivers.journal.releases_of_others(self.lease.app());
        let others = others.map_err(|error| Failure::new(FailureClass::Host, error.to_string()))?;
        let wanted = |releases: &Releases, known: &KnownRelease| {
            let number = Some(known.release.number);
            let live = number == releases.serving || number == releases.standby;
            // The newest may be pulled and not started yet.
            live || number == releases.last || known.standing == Standing::Proven
        };
        let mut keep = keep.to_vec();
        for releases in &others {
            let theirs = releases
                .known
                .values()
                .filter(|known| wanted(releases, known));
            keep.extend(theirs.map(|known| known.release.image.digest.clone()));
        }
        let repository = self.spec.image.as_str();
        let prune = || self.drivers.containers.prune(repository, &keep);
        let text = self.ask_containers(prune).await?;
        Ok(Finding::Note { text })
    }

    /// Every container of the app.
    pub(super) async fn containers(&self) -> Result<Vec<Container>, Failure> {
        self.ask_containers(|| self.drivers.containers.list(self.lease.app()))
            .await
    }

    async fn names_of(
        &self,
        release: ReleaseNumber,
        replicas: &Replicas,
    ) -> Result<Vec<String>, Failure> {
        let containers = self.containers().await?;
        let meant = |c: &Container| c.release == release && replicas.contains(c.replica);
        let these = containers.into_iter().filter(meant);
        Ok(these.map(|container| container.name).collect())
    }

    /// The last lines of a release's container; a log that cannot be read is
    /// no reason to hide why the release failed.
    pub(super) async fn log_of(&self, all: &[Container], release: ReleaseNumber) -> Vec<String> {
        let Some(container) = all.iter().find(|c| c.release == release) else {
            return Vec::new();
        };
        let unread = |reason: &str| vec![format!("(its log could not be read: {reason})")];
        let lines = self.drivers.containers.last_lines(container, LOG_LINES);
        match tokio::time::timeout(LOG_PATIENCE, lines).await {
            Ok(Ok(lines)) => lines,
            Ok(Err(error)) => unread(&error.reason),
            Err(_) => unread("the engine did not answer"),
        }
    }

    /// Asks the engine until it answers; the step's deadline ends the asking.
    pub(super) async fn ask_containers<A, F>(&self, ask: impl Fn() -> F) -> Result<A, Failure>
    where
        F: Future<Output = Result<A, ContainerError>>,
    {
        let mut pause = FIRST_PAUSE;
        loop {
            match ask().await {
                Ok(answer) => return Ok(answer),
                Err(error) if error.kind == ContainerErrorKind::Unavailable => {
                    self.pause(&mut pause, error.reason).await;
                }
                Err(error) => return Err(self.refusal(error)),
            }
        }
    }

    /// What a refusal means for the deploy.
    fn refusal(&self, error: ContainerError) -> Failure {
        let lost = self.resumed && self.registry.is_none();
        let lost = lost && error.kind == ContainerErrorKind::Denied;
        let failure = failure_of(error);
        match lost {
            true => failure.hint(CREDENTIALS_LOST),
            false => failure,
        }
    }

    /// Asks the proxy until it answers; the step's deadline ends the asking.
    pub(super) async fn ask_traffic<A, F>(&self, ask: impl Fn() -> F) -> Result<A, Failure>
    where
        F: Future<Output = Result<A, TrafficError>>,
    {
        let mut pause = FIRST_PAUSE;
        loop {
            match ask().await {
                Ok(answer) => return Ok(answer),
                Err(error @ (TrafficError::Unavailable(_) | TrafficError::Generation(_))) => {
                    self.pause(&mut pause, error.to_string()).await;
                }
                Err(error @ TrafficError::Refused(_)) => {
                    return Err(Failure::new(FailureClass::Host, error.to_string()));
                }
            }
        }
    }

    pub(super) async fn pause(&self, pause: &mut Duration, trouble: String) {
        tracing::debug!(%trouble, "asking again");
        self.remember(trouble);
        tokio::time::sleep(*pause).await;
        *pause = (*pause * 2).min(LONGEST_PAUSE);
    }

    /// Keeps what should be told if the step is not done within its deadline.
    pub(super) fn remember(&self, trouble: String) {
        *self.trouble.lock().unwrap_or_else(PoisonError::into_inner) = Some(trouble);
    }

    /// How long ago the step was started first; across processes, by the clock of
    /// the host.
    pub(super) fn since(&self, running: Option<Running>) -> Duration {
        let Some(running) = running else {
            return Duration::ZERO;
        };
        let since = (self.time)().duration_since(running.since);
        // A clock that was set back must not give a negative time.
        Duration::try_from(since).unwrap_or(Duration::ZERO)
    }
}

/// Whether a step belongs to a way back.
fn is_back(running: Option<Running>) -> bool {
    running.is_some_and(|running| matches!(running.at, Cursor::Back(_)))
}

/// When streams and tunnels are ended whose containers are stopped next: they have
/// half of the time to end by themselves, and come back over a quarter. A release
/// that stands by keeps them.
fn cut(deadline: Duration) -> Cut {
    let millis = |time: Duration| u64::try_from(time.as_millis()).unwrap_or(u64::MAX);
    let begin = Some(millis(deadline / 2));
    Cut {
        streams_ms: begin,
        tunnels_ms: begin,
        spread_ms: millis(deadline / 4),
    }
}

pub(super) fn failure_of(error: ContainerError) -> Failure {
    let class = match error.kind {
        ContainerErrorKind::Unavailable | ContainerErrorKind::Host => FailureClass::Host,
        ContainerErrorKind::Request | ContainerErrorKind::Denied => FailureClass::Request,
        ContainerErrorKind::Release => FailureClass::Release,
    };
    let failure = Failure::new(class, error.reason);
    match error.hint {
        Some(hint) => failure.hint(hint),
        None => failure,
    }
}
