//! Asking a container for its health, as strictly as its users would: the
//! answer is the app's own, not that of wherever a redirect leads. What does
//! not speak HTTP is asked for a connection, or by a command in it. Where the
//! check requires it, the engine is asked as well what the image's own
//! HEALTHCHECK says.

mod command;

use std::net::SocketAddr;
use std::time::Duration;

use cutover_plan::spec::{DockerHealth, Protocol, render_duration};
use cutover_plan::step::{HealthCheck, Question};

use crate::containers::{
    Container, ContainerError, ContainerErrorKind, ContainerState, HealthAnswer,
};
use crate::exchange::{self, Answer, NoAnswer};

use super::connection::Connection;
use super::failure::{error, printable};
use super::sight;

/// How much of a body or a redirect's goal is repeated.
const SHOWN: usize = 200;

/// Asks as `check` says, with this `Host`.
pub(super) async fn ask(
    engine: &Connection,
    container: &Container,
    check: &HealthCheck,
    host: &str,
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
    let said = match &check.question {
        Question::Get(path) => {
            let protocol = container.protocol;
            get(address, protocol, host, path, check.timeout).await?
        }
        Question::Connect {} => match exchange::connect(address, check.timeout).await {
            Ok(_) => HealthAnswer::Good,
            Err(reason) => HealthAnswer::Bad(reason.to_string()),
        },
        Question::Run(command) => command::run(engine, container, command, check.timeout).await?,
    };
    match (said, check.docker) {
        (HealthAnswer::Good, DockerHealth::Require) => {
            by_the_engine(engine, container, check.timeout).await
        }
        (said, _) => Ok(said),
    }
}

async fn get(
    address: SocketAddr,
    protocol: Protocol,
    host: &str,
    path: &str,
    limit: Duration,
) -> Result<HealthAnswer, ContainerError> {
    match exchange::get(address, protocol, host, path, None, limit).await {
        Ok(answer) => Ok(judge(&answer)),
        Err(NoAnswer::Unaskable) => {
            let reason = format!("GET {path:?} with the host {host:?} is no request");
            Err(error(ContainerErrorKind::Request, reason))
        }
        Err(reason) => Ok(HealthAnswer::Bad(reason.to_string())),
    }
}

/// What the image's own HEALTHCHECK says, as the engine keeps it.
async fn by_the_engine(
    engine: &Connection,
    container: &Container,
    limit: Duration,
) -> Result<HealthAnswer, ContainerError> {
    let seen = tokio::time::timeout(limit, sight::inspect(engine, &container.id)).await;
    let Ok(seen) = seen else {
        let limit = render_duration(limit);
        let reason = format!("the container engine did not say within {limit} how it is");
        return Ok(HealthAnswer::Bad(reason));
    };
    Ok(match seen? {
        Some(seen) => sight::health(&seen),
        None => HealthAnswer::Bad("it was removed".to_owned()),
    })
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
