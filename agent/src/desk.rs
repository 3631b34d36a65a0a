//! Where calls become deploys: the one door between the inbox and the engines.
//!
//! The inbox verifies and parses; the desk finds the app's engine and hands the
//! call over. It does not speak HTTP and decides nothing about a deploy.

mod refusal;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use cutover_plan::id::{AppName, DeployId};
use cutover_plan::spec::AppSpec;
use cutover_wire::agent::{AppView, DeployView, PlanView};
use cutover_wire::request::{Change, Decision, DeployRequest};
use futures_util::future::join_all;
use tokio::sync::{mpsc, oneshot};
use tokio::time::timeout;

use crate::journal::Journal;
use crate::view;

pub use refusal::Refusal;

/// Commands that may wait for one engine: it answers in milliseconds, and more
/// callers than this are told to come back.
pub const QUEUE: usize = 32;

/// What the inbox asks; cheap to clone.
#[derive(Clone)]
pub struct Desk {
    apps: Arc<BTreeMap<AppName, AppDesk>>,
    journal: Journal,
}

/// The way to one engine.
pub struct AppDesk {
    /// What the host's configuration says of the app.
    pub spec: AppSpec,
    /// Where its engine listens.
    pub engine: mpsc::Sender<Command>,
}

/// The id of a call that was verified, or came over the local socket.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CallId(pub String);

impl CallId {
    /// The name under which a person's word is remembered: an id has no space, so
    /// a deploy is never taken for a word, nor a word for a deploy.
    fn of_word(&self) -> Self {
        Self(format!("word {}", self.0))
    }
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
    /// Hear what a person says to a deploy that waits or bides its time.
    Decide {
        /// The call's id, by which a repeat is known.
        call: CallId,
        /// Which one.
        deploy: DeployId,
        /// What is said.
        decision: Decision,
        /// Who says it.
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
    /// Show that the engine gets somewhere.
    Ping {
        /// Answered at once.
        reply: oneshot::Sender<()>,
    },
    /// Tell what serves.
    Status {
        /// Answered with the view.
        reply: oneshot::Sender<Result<Box<AppView>, Refusal>>,
    },
}

impl Desk {
    /// A desk before these engines.
    pub fn new(apps: BTreeMap<AppName, AppDesk>, journal: Journal) -> Self {
        Self {
            apps: Arc::new(apps),
            journal,
        }
    }

    /// Begins a deploy; a call that was taken before is answered as it was then.
    pub async fn deploy(&self, call: CallId, request: DeployRequest) -> Result<DeployId, Refusal> {
        // A repeat is answered even if its app is gone from the configuration.
        if let Some(first) = self.journal.find_call(&call.0)? {
            return Ok(first);
        }
        if let Some(first) = self.journal.find_call(&call.of_word().0)? {
            return Err(Refusal::used(&call, &first));
        }
        let app = request.app.clone();
        let request = Box::new(request);
        self.ask(&app, |reply| Command::Deploy {
            call,
            request,
            reply,
        })
        .await?
    }

    /// Aborts a deploy.
    pub async fn abort(&self, deploy: DeployId, by: String) -> Result<(), Refusal> {
        let Some(record) = self.journal.deploy(&deploy)? else {
            return Err(Refusal::unknown_deploy(&deploy));
        };
        self.ask(&record.app, |reply| Command::Abort { deploy, by, reply })
            .await?
    }

    /// Says something to a deploy that waits or bides its time. A call that was
    /// taken before does nothing, though the deploy may wait again by now.
    pub async fn decide(
        &self,
        call: CallId,
        deploy: DeployId,
        decision: Decision,
        by: String,
    ) -> Result<(), Refusal> {
        let Some(record) = self.journal.deploy(&deploy)? else {
            return Err(Refusal::unknown_deploy(&deploy));
        };
        let word = call.of_word();
        match self.journal.find_call(&word.0)? {
            Some(first) if first == deploy => return Ok(()),
            Some(first) => return Err(Refusal::used(&call, &first)),
            None => {}
        }
        if let Some(first) = self.journal.find_call(&call.0)? {
            return Err(Refusal::used(&call, &first));
        }
        self.ask(&record.app, |reply| Command::Decide {
            call: word,
            deploy,
            decision,
            by,
            reply,
        })
        .await?
    }

    /// Makes a plan and does nothing.
    pub async fn plan(&self, app: AppName, change: Change) -> Result<PlanView, Refusal> {
        let plan = self
            .ask(&app, |reply| Command::Plan { change, reply })
            .await?;
        plan.map(|plan| *plan)
    }

    /// Tells what serves, for one app or all.
    pub async fn status(&self, app: Option<AppName>) -> Result<Vec<AppView>, Refusal> {
        let apps = app.map_or_else(|| self.apps(), |app| vec![app]);
        let mut views = Vec::new();
        for app in apps {
            views.push(*self.ask(&app, |reply| Command::Status { reply }).await??);
        }
        Ok(views)
    }

    /// A deploy, as it is shown.
    pub fn view(&self, deploy: &DeployId) -> Result<Option<DeployView>, Refusal> {
        let Some(record) = self.journal.deploy(deploy)? else {
            return Ok(None);
        };
        let spec = self.apps.get(&record.app).map(|desk| &desk.spec);
        Ok(Some(view::deploy(&self.journal, spec, &record)?))
    }

    /// The newest deploys of an app, or of all, as they are shown: without the
    /// lines of the app, which only the view of one deploy has.
    pub fn history(&self, app: Option<&AppName>, limit: u32) -> Result<Vec<DeployView>, Refusal> {
        if let Some(app) = app.filter(|app| !self.apps.contains_key(*app)) {
            return Err(Refusal::unknown_app(app));
        }
        let records = self.journal.newest(app, limit)?;
        let shown = records.iter().map(|record| {
            let spec = self.apps.get(&record.app).map(|desk| &desk.spec);
            let mut view = view::deploy(&self.journal, spec, record)?;
            view.log.clear();
            Ok(view)
        });
        shown.collect()
    }

    /// The first app whose engine does not answer within `limit`, if there is one.
    pub async fn silent(&self, limit: Duration) -> Option<AppName> {
        let asked = self.apps.iter().map(|(app, desk)| async move {
            let (reply, answer) = oneshot::channel();
            let ping = Command::Ping { reply };
            // A mailbox that is full is emptied by an engine that works.
            let asked = async { desk.engine.send(ping).await.is_ok() && answer.await.is_ok() };
            let answered = timeout(limit, asked).await;
            (!answered.unwrap_or(false)).then(|| app.clone())
        });
        join_all(asked).await.into_iter().flatten().next()
    }

    /// The names of the apps.
    pub fn apps(&self) -> Vec<AppName> {
        self.apps.keys().cloned().collect()
    }

    async fn ask<A>(
        &self,
        app: &AppName,
        command: impl FnOnce(oneshot::Sender<A>) -> Command,
    ) -> Result<A, Refusal> {
        let Some(desk) = self.apps.get(app) else {
            return Err(Refusal::unknown_app(app));
        };
        let (reply, answer) = oneshot::channel();
        desk.engine
            .try_send(command(reply))
            .map_err(|error| match error {
                mpsc::error::TrySendError::Full(_) => Refusal::crowded(app),
                mpsc::error::TrySendError::Closed(_) => Refusal::stopping(),
            })?;
        answer.await.map_err(|_| Refusal::stopping())
    }
}
