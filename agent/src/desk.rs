//! Where calls become deploys: the one door between the inbox and the engines.
//!
//! The inbox verifies and parses; the desk checks what only the host knows
//! (does the app exist, is a deploy under way), makes the call durable, and
//! hands it to the app's engine. It does not speak HTTP.

use std::collections::BTreeMap;

use cutover_plan::id::{AppName, DeployId};
use cutover_wire::agent::{AppView, DeployView, PlanView, Problem};
use cutover_wire::request::{Change, DeployRequest};
use tokio::sync::{mpsc, oneshot};

/// What the inbox asks; cheap to clone.
#[derive(Clone)]
pub struct Desk {
    engines: BTreeMap<AppName, mpsc::Sender<Command>>,
}

/// A call that was verified, or came over the local socket.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CallId(pub String);

/// Why the desk did not do it; becomes the answer's status and [`Problem`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Refusal {
    /// The HTTP status that fits.
    pub status: u16,
    /// What the caller is told.
    pub problem: Problem,
}

/// What an engine is asked to do. Each carries the way to answer.
#[derive(Debug)]
pub enum Command {
    /// Begin a deploy.
    Deploy {
        /// The call's id, by which a repeat is known.
        call: CallId,
        /// What is wanted.
        request: Box<DeployRequest>,
        /// Answered once the call is durable.
        reply: oneshot::Sender<Result<DeployId, Refusal>>,
    },
    /// Abort a deploy.
    Abort {
        /// Which one.
        deploy: DeployId,
        /// Who aborts.
        by: String,
        /// Answered once it is durable.
        reply: oneshot::Sender<Result<(), Refusal>>,
    },
    /// Make a plan and do nothing.
    Plan {
        /// What would be wanted.
        change: Change,
        /// Answered with the plan.
        reply: oneshot::Sender<Result<Box<PlanView>, Refusal>>,
    },
    /// Tell what serves.
    Status {
        /// Answered with the view.
        reply: oneshot::Sender<Box<AppView>>,
    },
}

impl Desk {
    /// Begins a deploy; a call that was taken before is answered as it was then.
    pub async fn deploy(&self, _call: CallId, _request: DeployRequest) -> Result<DeployId, Refusal> {
        unimplemented!()
    }

    /// Aborts a deploy.
    pub async fn abort(&self, _deploy: DeployId, _by: String) -> Result<(), Refusal> {
        unimplemented!()
    }

    /// Makes a plan and does nothing.
    pub async fn plan(&self, _app: AppName, _change: Change) -> Result<PlanView, Refusal> {
        unimplemented!()
    }

    /// Tells what serves, for one app or all.
    pub async fn status(&self, _app: Option<AppName>) -> Result<Vec<AppView>, Refusal> {
        unimplemented!()
    }

    /// A deploy, as it is shown.
    pub fn view(&self, _deploy: &DeployId) -> Result<Option<DeployView>, Refusal> {
        unimplemented!()
    }

    /// The names of the apps.
    pub fn apps(&self) -> Vec<AppName> {
        self.engines.keys().cloned().collect()
    }
}
