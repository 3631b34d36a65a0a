//! A deploy that waits for a person, and the commands that answer it.

use cutover_plan::id::DeployId;
use cutover_wire::agent::WaitView;

use crate::endpoint::Endpoint;
use crate::output::plain;

/// What it waits for, and how long.
pub(crate) fn shown(waits: &WaitView) -> String {
    let until = waits.until.strftime("%Y-%m-%d %H:%M:%S UTC");
    format!("{}, until {until}", plain(&waits.because))
}

/// The commands that say yes and no.
pub(crate) fn answers(endpoint: &Endpoint, deploy: &DeployId) -> String {
    let options = endpoint.options();
    format!(
        "cutover approve --deploy {deploy}{options}, or cutover reject --deploy {deploy}{options}"
    )
}
