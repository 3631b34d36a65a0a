//! Docker Engine as what runs containers.
//!
//! It touches nothing that does not carry our [`labels`]: a container, network
//! or image of somebody else is read at most, and refused with a sentence when
//! it is in the way. It decides nothing about a deploy, keeps no state of its
//! own, and gives a container nothing but what the host's configuration says:
//! never a privilege, never a published port.
//!
//! Each call makes a client of its own, so an engine that is down, restarted
//! or upgraded in between is a matter of that call alone. Requests name no
//! version of the engine's interface; the engine answers in its newest, and
//! everything read from an answer may be missing. Tried with Engine
//! 20.10 and 28.5, the latter with both of its image stores, and with Podman 4.3.

mod address;
mod connection;
mod create;
mod environment;
mod events;
mod failure;
mod health;
mod hook;
mod image;
mod keyring;
pub mod labels;
mod lines;
mod network;
mod processor;
mod progress;
mod prune;
mod registry;
mod removal;
mod room;
mod sight;
mod start;

use std::time::Duration;

use cutover_plan::id::{AppName, Digest, ImageReference};
use cutover_plan::spec::Bytes;
use cutover_plan::step::HealthCheck;
use cutover_wire::request::RegistryCredentials;

use crate::containers::{
    Container, ContainerError, Containers, HealthAnswer, HookEnd, HookOrder, LastEnd, Room,
    StartOrder,
};

use connection::Connection;

pub use connection::HostError;
pub use keyring::Keyring;

/// A Docker Engine.
#[derive(Debug)]
pub struct Docker {
    connection: Connection,
    keyring: Keyring,
}

impl Docker {
    /// The engine at `host`, in the form of `DOCKER_HOST`: `unix:///path`,
    /// a path alone, or `tcp://127.0.0.1:2375`; by default the socket that
    /// Docker Engine makes. Nothing is sent yet, and the environment is not
    /// read: whoever wants `DOCKER_HOST` obeyed passes it.
    ///
    /// # Errors
    ///
    /// The text is none of these forms.
    pub fn connect(host: Option<&str>) -> Result<Self, HostError> {
        let connection = Connection::parse(host)?;
        let keyring = Keyring::default();
        Ok(Self {
            connection,
            keyring,
        })
    }

    /// The same with the credentials for registries that are kept elsewhere.
    #[must_use]
    pub fn with_keyring(self, keyring: Keyring) -> Self {
        Self { keyring, ..self }
    }
}

impl Containers for Docker {
    async fn preflight(
        &self,
        image: &ImageReference,
        credentials: Option<&RegistryCredentials>,
        memory: Option<Bytes>,
    ) -> Result<String, ContainerError> {
        room::look(&self.connection, &self.keyring, image, credentials, memory).await
    }

    async fn room(&self) -> Result<Room, ContainerError> {
        room::free(&self.connection).await
    }

    async fn pull(
        &self,
        image: &ImageReference,
        credentials: Option<&RegistryCredentials>,
        progress: &(dyn Fn(String) + Send + Sync),
    ) -> Result<String, ContainerError> {
        image::pull(
            &self.connection,
            &self.keyring,
            image,
            credentials,
            progress,
        )
        .await
    }

    async fn start(&self, order: &StartOrder) -> Result<Container, ContainerError> {
        let addresses = network::ensure(&self.connection).await?;
        start::start(&self.connection, order, addresses).await
    }

    async fn list(&self, app: &AppName) -> Result<Vec<Container>, ContainerError> {
        sight::list(&self.connection, app).await
    }

    async fn last_end(&self, container: &Container) -> Result<Option<LastEnd>, ContainerError> {
        events::last_end(&self.connection, container).await
    }

    async fn stirred(&self, app: &AppName) {
        events::stirred(&self.connection, app).await;
    }

    async fn ask(
        &self,
        container: &Container,
        check: &HealthCheck,
        host: &str,
    ) -> Result<HealthAnswer, ContainerError> {
        health::ask(&self.connection, container, check, host).await
    }

    async fn last_lines(
        &self,
        container: &Container,
        count: usize,
    ) -> Result<Vec<String>, ContainerError> {
        lines::last(&self.connection, container, count).await
    }

    async fn remove(&self, container: &Container, grace: Duration) -> Result<(), ContainerError> {
        removal::remove(&self.connection, &container.id, &container.name, grace).await
    }

    async fn run_hook(
        &self,
        order: &HookOrder,
        progress: &(dyn Fn(String) + Send + Sync),
    ) -> Result<HookEnd, ContainerError> {
        network::ensure(&self.connection).await?;
        hook::run(&self.connection, order, progress).await
    }

    async fn stop_hook(
        &self,
        order: &HookOrder,
        grace: Duration,
    ) -> Result<Vec<String>, ContainerError> {
        hook::stop(&self.connection, order, grace).await
    }

    async fn remove_hooks(&self, app: &AppName, grace: Duration) -> Result<(), ContainerError> {
        hook::remove_all(&self.connection, app, grace).await
    }

    async fn prune(&self, repository: &str, keep: &[Digest]) -> Result<String, ContainerError> {
        prune::prune(&self.connection, repository, keep).await
    }
}
