//! GitHub as the [`Forge`]: each deploy is a deployment of the Deployments API,
//! each message one of its statuses.
//!
//! It keeps no queue and never sleeps: when a delivery fails it says why and how
//! long GitHub asks to wait, and [`crate::reporter`] comes again. It decides
//! nothing about a deploy.
//!
//! Invariant: a delivery can be repeated. The deployment is looked for by the
//! deploy's id in its payload before one is created, and from the second
//! attempt on a status is looked for before it is added.
//!
//! Invariant: no credential is in an error or a log. Credentials are read from
//! their file when they are needed, so that one that was replaced is taken up
//! without a restart, and they are sent to the configured address alone.

mod answer;
mod client;
mod credentials;
mod deployment;
mod failure;
mod recent;
mod replaced;
mod repository;
mod status;
mod text;

use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use cutover_plan::id::DeployId;

use crate::clock::Clock;
use crate::forge::{DeliveryError, Forge, Message};

pub use self::client::GithubError;
pub use self::credentials::Credentials;

use self::client::Client;
use self::credentials::Wallet;
use self::deployment::Delivery;
use self::failure::Failure;
use self::recent::Recent;
use self::repository::Repository;

/// How GitHub is reached.
#[derive(Debug, Clone)]
pub struct Options {
    /// The address of the API: `https://api.github.com`, or
    /// `https://HOST/api/v3` of a GitHub Enterprise Server.
    pub api_url: String,
    /// What Cutover signs in with.
    pub credentials: Credentials,
    /// The longest wait for a connection.
    pub connect_timeout: Duration,
    /// The longest silence in the middle of an answer.
    pub read_timeout: Duration,
    /// How far GitHub's lists may lag behind its writes: after a lost answer,
    /// this long passes before the effect is looked for.
    pub settle: Duration,
}

impl Options {
    /// The API of github.com.
    pub const DOTCOM: &'static str = "https://api.github.com";

    /// GitHub itself, with the timeouts that fit it: it answers within 10
    /// seconds or not at all.
    pub fn new(credentials: Credentials) -> Self {
        Self {
            api_url: Self::DOTCOM.to_owned(),
            credentials,
            connect_timeout: Duration::from_secs(5),
            read_timeout: Duration::from_secs(10),
            settle: Duration::from_secs(5),
        }
    }
}

/// The deployments of this many deploys are remembered. A host has few deploys
/// under way at once; a forgotten one costs one more call.
const REMEMBERED: usize = 256;

/// GitHub.
pub struct Github {
    client: Client,
    wallet: Wallet,
    deployments: Mutex<Recent<DeployId, u64>>,
    settle: Duration,
}

impl Github {
    /// Prepares the client; sends nothing. It must be called on a Tokio runtime.
    pub fn new(options: &Options, clock: Clock) -> Result<Self, GithubError> {
        Ok(Self {
            client: Client::new(options, clock)?,
            wallet: Wallet::new(options.credentials.clone()),
            deployments: Mutex::new(Recent::new(REMEMBERED)),
            settle: options.settle,
        })
    }
}

impl Forge for Github {
    async fn deliver(&self, message: &Message, attempt: u32) -> Result<(), DeliveryError> {
        let carried = self.carry(message, attempt).await;
        carried.map_err(|failure| failure.into_delivery(attempt, self.settle))
    }
}

impl Github {
    /// The order of work: credential, deployment, status, then what it replaces.
    async fn carry(&self, message: &Message, attempt: u32) -> Result<(), Failure> {
        let repository = Repository::parse(&message.repository)?;
        let token = self.wallet.open(&self.client, &repository).await?;
        let delivery = Delivery {
            client: &self.client,
            repository: &repository,
            token: &token,
            message,
        };
        let reported = self.report(&delivery, attempt).await;
        match &reported {
            Err(Failure::Unauthorized(_)) => self.wallet.discard(&repository),
            Err(Failure::Gone(_)) => {
                lock(&self.deployments).remove(&message.deploy);
            }
            Ok(()) | Err(_) => {}
        }
        reported
    }

    async fn report(&self, delivery: &Delivery<'_>, attempt: u32) -> Result<(), Failure> {
        let deploy = &delivery.message.deploy;
        let known = lock(&self.deployments).find(deploy).copied();
        let found = match known {
            Some(id) => Some(id),
            None => delivery.find_deployment().await?,
        };
        let id = match found {
            Some(id) => id,
            None => delivery.create_deployment().await?,
        };
        lock(&self.deployments).insert(deploy.clone(), id);

        // A deployment that did not exist yet has no status of an earlier attempt.
        let doubtful = attempt > 1 && found.is_some();
        if !(doubtful && delivery.status_is_there(id).await?) {
            delivery.add_status(id).await?;
        }
        if delivery.replaces_older() {
            delivery.retire_older(id).await?;
        }
        Ok(())
    }
}

/// What these locks guard is whole after every line, so a panic leaves no damage.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
