//! Every way in which the agent says no to a call that it understood.

use cutover_plan::compile::CompileError;
use cutover_plan::event::Failure;
use cutover_plan::id::{AppName, DeployId};
use cutover_plan::windows::Closed;
use cutover_wire::agent::Problem;
use cutover_wire::request::Decision;

use super::CallId;
use crate::journal::JournalError;

/// What to do about a closed deploy window.
const OVERRIDE: &str = "wait until they open, or say why it cannot wait: --override-window \"why\"";

/// Why the desk did not do it; becomes the answer's status and [`Problem`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Refusal {
    /// The HTTP status that fits.
    pub status: u16,
    /// What the caller is told.
    pub problem: Problem,
}

impl Refusal {
    /// A refusal in a word for programs, a sentence and a hint for people.
    pub fn new(status: u16, code: &str, message: String, hint: Option<&str>) -> Self {
        let problem = Problem {
            code: code.to_owned(),
            message,
            hint: hint.map(str::to_owned),
            deploy: None,
        };
        Self { status, problem }
    }

    pub(crate) fn unknown_app(app: &AppName) -> Self {
        let message = format!("this host has no app {app}");
        let hint = "add /etc/cutover/apps/NAME.toml on the host and restart the agent";
        Self::new(404, "unknown_app", message, Some(hint))
    }

    pub(crate) fn unknown_deploy(deploy: &DeployId) -> Self {
        Self::new(
            404,
            "unknown_deploy",
            format!("there is no deploy {deploy}"),
            None,
        )
    }

    pub(crate) fn busy(app: &AppName, deploy: &DeployId) -> Self {
        let message = format!("the deploy {deploy} of {app} is under way");
        let hint = "wait for its end, or abort it";
        let mut refusal = Self::new(409, "busy", message, Some(hint));
        refusal.problem.deploy = Some(deploy.clone());
        refusal
    }

    pub(crate) fn over(deploy: &DeployId) -> Self {
        Self::new(409, "over", format!("the deploy {deploy} is over"), None)
    }

    pub(crate) fn too_late(deploy: &DeployId, on_its_way_back: bool) -> Self {
        let (message, hint) = match on_its_way_back {
            true => (
                format!("the deploy {deploy} is being taken back already"),
                None,
            ),
            false => {
                let message = format!("the release of the deploy {deploy} has proved itself");
                (message, Some("roll back instead"))
            }
        };
        Self::new(409, "too_late", message, hint)
    }

    pub(crate) fn not_asked(deploy: &DeployId, decision: &Decision) -> Self {
        let (message, hint) = match decision {
            Decision::Approve {} | Decision::Reject { .. } => (
                format!("the deploy {deploy} waits for nobody's word"),
                "see what it does with cutover status",
            ),
            Decision::Promote { .. } => (
                format!("the deploy {deploy} is in no watch or approval that could be cut short"),
                "a deploy is sent on while it watches or waits for a person",
            ),
        };
        Self::new(409, "not_asked", message, Some(hint))
    }

    pub(crate) fn used(call: &CallId, first: &DeployId) -> Self {
        let message = format!("the call {} was about the deploy {first}", call.0);
        let hint = "give each call an id of its own";
        Self::new(409, "used_id", message, Some(hint))
    }

    pub(crate) fn foreign_image(error: &CompileError) -> Self {
        Self::new(422, "foreign_image", error.to_string(), Some(error.hint()))
    }

    pub(crate) fn closed(closed: &Closed) -> Self {
        Self::new(422, "closed", closed.to_string(), Some(OVERRIDE))
    }

    pub(crate) fn no_plan(failure: &Failure) -> Self {
        Self::new(
            422,
            "no_plan",
            failure.reason.clone(),
            failure.hint.as_deref(),
        )
    }

    pub(crate) fn crowded(app: &AppName) -> Self {
        let message = format!("too many calls wait for {app}");
        Self::new(503, "crowded", message, Some("try again in a second"))
    }

    pub(crate) fn stopping() -> Self {
        let hint = "try again in a few seconds";
        Self::new(
            503,
            "stopping",
            "the agent is stopping".to_owned(),
            Some(hint),
        )
    }
}

impl From<JournalError> for Refusal {
    fn from(error: JournalError) -> Self {
        tracing::error!(
            error = &error as &dyn std::error::Error,
            "the journal failed"
        );
        let hint = "look at the agent's log on the host; traffic is not touched";
        let message = "the journal failed, so nothing was done".to_owned();
        Self::new(500, "journal", message, Some(hint))
    }
}
