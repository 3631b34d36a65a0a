//! The seam to where deploys are reported: GitHub ([`crate::github`]) and the
//! model of the simulation. Each call can be repeated without a second effect.

use std::future::Future;

use cutover_plan::id::DeployId;
use jiff::Timestamp;
use serde::{Deserialize, Serialize};

/// What shows deploys to people beside their pull requests.
pub trait Forge: Send + Sync + 'static {
    /// Brings one status to where people see it: finds or creates the
    /// deployment of `message.deploy`, then adds the status unless it is there
    /// already. `attempt` is 1 at first; from the second on, an earlier try
    /// may have had its effect, which must be looked for.
    fn deliver(
        &self,
        message: &Message,
        attempt: u32,
    ) -> impl Future<Output = Result<(), DeliveryError>> + Send;
}

/// One status of one deploy. It carries all that delivery needs, so that it
/// can be delivered by a later process.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Message {
    /// The deploy, by which its deployment is found again.
    pub deploy: DeployId,
    /// `owner/name`.
    pub repository: String,
    /// The commit, which the pull request shows the deployment at.
    pub sha: String,
    /// The environment's name.
    pub environment: String,
    /// The status.
    pub state: DeploymentState,
    /// One sentence of at most 140 characters.
    pub description: String,
    /// Where the app is seen.
    pub environment_url: Option<String>,
    /// Where the deploy can be followed: the workflow run.
    pub log_url: Option<String>,
    /// When it happened.
    pub at: Timestamp,
}

/// A deployment's status at GitHub.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum DeploymentState {
    /// Accepted, not begun.
    Queued,
    /// Under way.
    InProgress,
    /// It serves and has proved itself; older deployments become inactive.
    Success,
    /// The release was bad.
    Failure,
    /// The host or the request was at fault.
    Error,
    /// It does not serve any more.
    Inactive,
}

/// Why a message was not delivered.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum DeliveryError {
    /// Try again, not before this many seconds.
    #[error("GitHub did not take the status: {reason}")]
    Later {
        /// Why.
        reason: String,
        /// What GitHub asks to wait.
        after_seconds: Option<u64>,
    },
    /// Trying again will not help.
    #[error("GitHub refuses the status: {0}")]
    Never(String),
}
