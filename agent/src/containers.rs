//! The seam to the container engine: what the engine of deploys asks of it.
//!
//! Two implementations exist: Docker ([`crate::docker`]) and the model of the
//! simulation. Every call can be repeated: the second time finds the work done.
//! Nothing here decides anything about a deploy.

use std::future::Future;
use std::net::SocketAddr;
use std::time::Duration;

use cutover_plan::id::{AppName, DeployId, Digest, ImageReference, ReleaseNumber, Replica, Slot};
use cutover_plan::spec::{Bytes, Protocol, RunSpec};
use cutover_plan::step::{HealthCheck, HookPoint};
use cutover_wire::request::RegistryCredentials;
use jiff::Timestamp;

/// What starts, stops and shows containers.
pub trait Containers: Send + Sync + 'static {
    /// Checks that the engine answers, the host has room for one more container
    /// of the app, and the image can be had and runs here, as far as that can be
    /// known; the answer is a sentence about what was found.
    fn preflight(
        &self,
        image: &ImageReference,
        credentials: Option<&RegistryCredentials>,
        memory: Option<Bytes>,
    ) -> impl Future<Output = Result<String, ContainerError>> + Send;

    /// The room that is free on the host, as far as the engine can tell.
    fn room(&self) -> impl Future<Output = Result<Room, ContainerError>> + Send;

    /// Brings the image to the host, verifies its digest, and tells how far it
    /// is through `progress` (about once a second, a short sentence).
    fn pull(
        &self,
        image: &ImageReference,
        credentials: Option<&RegistryCredentials>,
        progress: &(dyn Fn(String) + Send + Sync),
    ) -> impl Future<Output = Result<String, ContainerError>> + Send;

    /// Starts the container of `order`, or finds it started. One that is there
    /// under the same name but is stopped or of another deploy is replaced.
    fn start(
        &self,
        order: &StartOrder,
    ) -> impl Future<Output = Result<Container, ContainerError>> + Send;

    /// Every container of a release of the app, running or not; no hooks.
    fn list(
        &self,
        app: &AppName,
    ) -> impl Future<Output = Result<Vec<Container>, ContainerError>> + Send;

    /// How a container that was started anew had ended, if the engine still knows.
    fn last_end(
        &self,
        container: &Container,
    ) -> impl Future<Output = Result<Option<LastEnd>, ContainerError>> + Send;

    /// Completes when something happened to a container of the app that is worth
    /// a look. It may miss what happens, and says nothing of what: whoever waits
    /// for it looks in any case after a while.
    fn stirred(&self, app: &AppName) -> impl Future<Output = ()> + Send;

    /// Asks a container for its health: GET with this `Host`, redirects not
    /// followed; and the engine for that of the image's own HEALTHCHECK, where
    /// the check requires it.
    fn ask(
        &self,
        container: &Container,
        check: &HealthCheck,
        host: &str,
    ) -> impl Future<Output = Result<HealthAnswer, ContainerError>> + Send;

    /// The last lines a container wrote, oldest first, each cut to a printable length.
    fn last_lines(
        &self,
        container: &Container,
        count: usize,
    ) -> impl Future<Output = Result<Vec<String>, ContainerError>> + Send;

    /// Stops a container with its own stop signal and this grace, and removes
    /// it; one that is gone already is fine.
    fn remove(
        &self,
        container: &Container,
        grace: Duration,
    ) -> impl Future<Output = Result<(), ContainerError>> + Send;

    /// Runs a hook to its end: starts its container, or finds the one that the
    /// same deploy started before, running or ended. It is not started again
    /// while there is anything of it. Its newest line is told through `progress`.
    fn run_hook(
        &self,
        order: &HookOrder,
        progress: &(dyn Fn(String) + Send + Sync),
    ) -> impl Future<Output = Result<HookEnd, ContainerError>> + Send;

    /// Stops a hook with this grace and tells what it wrote last; what is left
    /// of it stays to be found.
    fn stop_hook(
        &self,
        order: &HookOrder,
        grace: Duration,
    ) -> impl Future<Output = Result<Vec<String>, ContainerError>> + Send;

    /// Stops and removes every hook of the app, whatever it does.
    fn remove_hooks(
        &self,
        app: &AppName,
        grace: Duration,
    ) -> impl Future<Output = Result<(), ContainerError>> + Send;

    /// Removes the images of `repository` whose digest is not kept and that no
    /// container uses; the answer is a sentence.
    fn prune(
        &self,
        repository: &str,
        keep: &[Digest],
    ) -> impl Future<Output = Result<String, ContainerError>> + Send;
}

/// Room on the host; what is not known is none.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Room {
    /// Free disk where the engine keeps images.
    pub disk: Option<Bytes>,
    /// Free memory.
    pub memory: Option<Bytes>,
}

/// What a container is started with: all of it from the host's configuration,
/// but the digest.
#[derive(Debug, Clone)]
pub struct StartOrder {
    /// The app.
    pub app: AppName,
    /// The deploy that starts it.
    pub deploy: DeployId,
    /// The release it runs.
    pub release: ReleaseNumber,
    /// The slot it is in.
    pub slot: Slot,
    /// Its number among the containers of the release.
    pub replica: Replica,
    /// The image, present on the host.
    pub image: ImageReference,
    /// What it is given.
    pub run: RunSpec,
}

impl StartOrder {
    /// The name of the container, which is its identity on the host.
    pub fn name(&self) -> String {
        let Self {
            app,
            release,
            replica,
            ..
        } = self;
        format!("cutover-{app}-{release}-{replica}")
    }
}

/// What a hook is run with: as a container of its release, but for the
/// command, and without a port.
#[derive(Debug, Clone)]
pub struct HookOrder {
    /// The app.
    pub app: AppName,
    /// The deploy that runs it.
    pub deploy: DeployId,
    /// The release whose image it runs.
    pub release: ReleaseNumber,
    /// Its place in the deploy.
    pub point: HookPoint,
    /// The image, present on the host.
    pub image: ImageReference,
    /// What is run.
    pub command: Vec<String>,
    /// What a container of the release is given.
    pub run: RunSpec,
}

impl HookOrder {
    /// The name of its container.
    pub fn name(&self) -> String {
        let Self {
            app,
            release,
            point,
            ..
        } = self;
        format!("cutover-{app}-{release}-{point}")
    }

    /// What a hook learns of the deploy it is part of.
    pub fn variables(&self) -> [(&'static str, String); 4] {
        [
            ("CUTOVER_APP", self.app.to_string()),
            ("CUTOVER_DEPLOY", self.deploy.to_string()),
            ("CUTOVER_RELEASE", self.release.to_string()),
            ("CUTOVER_HOOK", self.point.to_string()),
        ]
    }
}

/// How a hook ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HookEnd {
    /// Its exit status.
    pub code: i64,
    /// Whether the kernel ended it for its memory.
    pub out_of_memory: bool,
    /// What it wrote last, oldest first.
    pub lines: Vec<String>,
}

/// A container of an app, as the engine shows it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Container {
    /// The engine's id of it.
    pub id: String,
    /// Its name; the proxy knows it by this name.
    pub name: String,
    /// The app.
    pub app: AppName,
    /// The deploy that started it.
    pub deploy: DeployId,
    /// The release it runs.
    pub release: ReleaseNumber,
    /// Its number among the containers of the release.
    pub replica: Replica,
    /// The slot it is in.
    pub slot: Slot,
    /// Its image.
    pub image: ImageReference,
    /// What it speaks to those who ask it.
    pub protocol: Protocol,
    /// What it does now.
    pub state: ContainerState,
    /// How often the engine has started it anew.
    pub restarts: u32,
}

/// What a container does.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ContainerState {
    /// It runs.
    Running {
        /// Where the app listens, as reached from the host.
        address: SocketAddr,
        /// Since when.
        since: Timestamp,
    },
    /// It was created and not started, or is starting.
    Starting,
    /// It has ended, and the engine may start it anew.
    Exited {
        /// Its exit status.
        code: i64,
        /// Whether the kernel ended it for its memory.
        out_of_memory: bool,
        /// What the engine says of it, if anything.
        error: Option<String>,
    },
}

/// What a program ends with that was killed, as the kernel does for memory.
pub const KILLED: i64 = 137;

/// How a container ended that runs again.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct LastEnd {
    /// Its exit status.
    pub code: i64,
    /// Whether the kernel ended it for its memory.
    pub out_of_memory: bool,
}

impl Container {
    /// Where it listens, while it runs.
    pub fn address(&self) -> Option<SocketAddr> {
        match self.state {
            ContainerState::Running { address, .. } => Some(address),
            ContainerState::Starting | ContainerState::Exited { .. } => None,
        }
    }
}

/// What a container said when it was asked for its health.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum HealthAnswer {
    /// Any 2xx.
    Good,
    /// Anything else, in a sentence: the status and the first words of the
    /// body, or why there was no answer.
    Bad(String),
}

/// Why the engine did not do it.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{reason}")]
pub struct ContainerError {
    /// Whether trying again may help.
    pub kind: ContainerErrorKind,
    /// What failed, on which object, and why, without secrets.
    pub reason: String,
    /// What the person can do.
    pub hint: Option<String>,
}

/// What kind of failure it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ContainerErrorKind {
    /// The engine or the registry did not answer, or was busy: try again.
    Unavailable,
    /// What was asked for is not there or not allowed: no such image.
    Request,
    /// The registry does not let us in, or not with what it was shown.
    Denied,
    /// The release cannot run: its container does not start.
    Release,
    /// The host lacks disk, memory or a port.
    Host,
}
