//! Says a person's word to a deploy: approve, reject, promote.
//!
//! It does not follow the deploy afterwards: whoever deployed does, and the
//! status shows it.

use std::time::Duration;

use cutover_plan::id::DeployId;
use cutover_wire::agent::{DeployView, decision_path};
use cutover_wire::exit::Exit;
use cutover_wire::request::{Decision, DecisionRequest};
use tokio::time::Instant;

use crate::abort;
use crate::arguments::Which;
use crate::caller::{Call, Caller};
use crate::failure::Failure;
use crate::output::{Output, plain};
use crate::secret::from_environment;
use crate::waiting;

/// The longest that it is sent again; `--retry-for` is usually shorter.
const LIMIT: Duration = Duration::from_secs(5 * 60);

/// Says it, and prints what the deploy does now.
pub(crate) async fn decide(
    caller: &Caller,
    output: &Output,
    which: &Which,
    decision: Decision,
) -> Result<(), Failure> {
    let word = decision.name();
    let Some(deploy) = abort::find(caller, which).await? else {
        let message = format!("there is nothing to {word}: nothing is being deployed");
        let failure = Failure::new(Exit::Refused, message);
        return Err(failure.hint(format!(
            "see what serves: cutover status{}",
            caller.endpoint.options()
        )));
    };
    let request = DecisionRequest {
        deploy: deploy.clone(),
        decision,
        by: from_environment("GITHUB_TRIGGERING_ACTOR").or_else(|| from_environment("USER")),
    };
    if let Some(problem) = request.problem() {
        let mut failure = Failure::usage("the call cannot be made");
        failure.causes.push(problem);
        return Err(failure);
    }
    let call = Call::new(decision_path(&deploy, word), &request);
    let until = Instant::now() + LIMIT;
    let view = caller.persist::<DeployView>(&call, until, |_, _| {}).await;
    let view = view.map_err(|error| error.failure(&format!("to {word} deploy {deploy}")))?;
    output.answer(&render(caller, &deploy, &request.decision, &view), &view);
    Ok(())
}

fn render(caller: &Caller, deploy: &DeployId, decision: &Decision, view: &DeployView) -> String {
    let said = match decision {
        Decision::Approve {} => "was approved",
        Decision::Reject { .. } => "was rejected",
        Decision::Promote { full: false } => "goes on to its next step",
        Decision::Promote { full: true } => "goes on to all users",
    };
    let mut rows = vec![
        ("now", plain(&view.phase)),
        ("serving", plain(&view.serving)),
    ];
    if let Some(waits) = &view.waits {
        rows.push(("waits", waiting::shown(waits)));
        rows.push(("answer", waiting::answers(&caller.endpoint, deploy)));
    }
    let rows: String = rows
        .iter()
        .map(|(name, value)| format!("\n  {name:<8} {value}"))
        .collect();
    format!("deploy {deploy} of {} {said}{rows}", view.app)
}
