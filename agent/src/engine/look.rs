//! Looking at an app without changing it: plans that are only shown, and
//! views. A look has its own copy of what the engine knew, so that it can take
//! its time while the engine works.

use std::time::Duration;

use cutover_plan::compile::{self, Request};
use cutover_plan::event::{Failure, FailureClass};
use cutover_plan::id::{AppName, DeployId};
use cutover_plan::lint;
use cutover_plan::plan::{Kind, Plan};
use cutover_plan::release::Releases;
use cutover_plan::spec::AppSpec;
use cutover_wire::agent::AppView;

use super::{Drivers, Wanted, env_file_failure, window};
use crate::containers::Containers;
use crate::fingerprint;
use crate::journal::{JournalError, Record};
use crate::traffic::Traffic;
use crate::view;

/// What is looked at, and with what.
pub(super) struct Look<C, T, R> {
    pub(super) app: AppName,
    pub(super) spec: AppSpec,
    pub(super) drivers: Drivers<C, T, R>,
    pub(super) releases: Releases,
}

impl<C: Containers, T: Traffic, R: Record> Look<C, T, R> {
    /// Looks at the world and makes the plan of a request. Nothing moves. An
    /// engine that does not answer is asked again for as long as `patience`.
    pub(super) async fn plan(
        &self,
        wanted: &Wanted,
        commit: Option<&str>,
        patience: Duration,
    ) -> Result<Plan, Failure> {
        let request = match wanted {
            Wanted::Rollback => Request::Rollback,
            Wanted::Retirement => Request::RetireStandby,
            Wanted::Scale => Request::Scale {
                fingerprint: self.fingerprint()?,
            },
            Wanted::Image(image) => Request::Deploy {
                image: image.clone(),
                fingerprint: self.fingerprint()?,
                commit: commit.map(str::to_owned),
            },
        };
        let observed = self.observe(patience).await?;
        let plan = compile::compile(&self.spec, &observed, &request).map_err(|error| {
            Failure::new(FailureClass::Request, error.to_string()).hint(error.hint())
        })?;
        let violations = lint::lint(&plan, &observed);
        if let Some(first) = violations.first() {
            tracing::error!(app = %self.app, %plan, ?violations, "the plan breaks a rule");
            let reason = format!("the plan is unsafe and was not begun: {first}");
            let hint = "this is a fault of Cutover: report it with the plan from the log";
            return Err(Failure::new(FailureClass::Host, reason).hint(hint));
        }
        Ok(plan)
    }

    /// What the host's configuration gives a container now.
    pub(super) fn fingerprint(&self) -> Result<String, Failure> {
        fingerprint::of(&self.spec.run).map_err(env_file_failure)
    }

    /// Why a plan that is only shown would not be begun now, each in a sentence.
    pub(super) fn obstacles(&self, plan: &Plan) -> Vec<String> {
        let mut obstacles = Vec::new();
        let now = (self.drivers.clock)();
        if plan.kind == Kind::Deploy
            && let Some(closed) = window::closed(&self.spec, now)
        {
            obstacles.push(closed.to_string());
        }
        obstacles
    }

    /// The app, as it is shown.
    pub(super) async fn status(
        &self,
        unfinished: [Option<&DeployId>; 2],
    ) -> Result<AppView, JournalError> {
        let containers = self.drivers.containers.list(&self.app).await;
        let journal = &self.drivers.journal;
        view::app(journal, &self.spec, &self.releases, &containers, unfinished)
    }
}
