//! Asking a container for its health, as strictly as its users would: the
//! answer is the app's own, not that of wherever a redirect leads.

use std::time::Duration;

use crate::containers::{
    Container, ContainerError, ContainerErrorKind, ContainerState, HealthAnswer,
};
use crate::exchange::{self, Answer, NoAnswer};

use super::failure::{error, printable};

/// How much of a body or a redirect's goal is repeated.
const SHOWN: usize = 200;

/// Asks for `path` with this `Host`.
pub(super) async fn ask(
    container: &Container,
    path: &str,
    host: &str,
    timeout: Duration,
) -> Result<HealthAnswer, ContainerError> {
    let address = match &container.state {
        ContainerState::Running { address, .. } => *address,
        ContainerState::Starting => return Ok(HealthAnswer::Bad("it does not run yet".to_owned())),
        ContainerState::Exited { code, .. } => {
            return Ok(HealthAnswer::Bad(format!(
                "it has ended with exit code {code}"
            )));
        }
    };
    match exchange::get(address, host, path, None, timeout).await {
        Ok(answer) => Ok(judge(&answer)),
        Err(NoAnswer::Unaskable) => {
            let reason = format!("GET {path:?} with the host {host:?} is no request");
            Err(error(ContainerErrorKind::Request, reason))
        }
        Err(reason) => Ok(HealthAnswer::Bad(reason.to_string())),
    }
}

fn judge(answer: &Answer) -> HealthAnswer {
    let status = answer.status;
    if status.is_success() {
        return HealthAnswer::Good;
    }
    let number = status.as_u16();
    if status.is_redirection() {
        let goal = answer.headers.get(http::header::LOCATION);
        let goal = goal.map(|goal| printable(&String::from_utf8_lossy(goal.as_bytes()), SHOWN));
        let to = goal.map_or(String::new(), |goal| format!(" to {goal}"));
        return HealthAnswer::Bad(format!("answered {number}{to}: redirects are not followed"));
    }
    let body = printable(&String::from_utf8_lossy(&answer.body), SHOWN);
    if body.is_empty() {
        return HealthAnswer::Bad(format!("answered {number}"));
    }
    HealthAnswer::Bad(format!("answered {number}: {body}"))
}
