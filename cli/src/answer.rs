//! What can come of a call: the agent's answer, its refusal, or no answer.
//!
//! The difference that matters is whether the call may have arrived: only a
//! call that was surely not sent, or surely refused, has surely done nothing.

use std::time::Duration;

use cutover_wire::agent::Problem;
use cutover_wire::exit::Exit;
use cutover_wire::signature::TOLERANCE_SECONDS;
use http::StatusCode;
use jiff::SignedDuration;

use crate::connection::ConnectError;
use crate::failure::Failure;
use crate::secret;

/// Why a call has no good answer.
#[derive(Debug, thiserror::Error)]
pub(crate) enum CallError {
    #[error(transparent)]
    Connect(#[from] ConnectError),
    #[error("the connection broke before the answer came")]
    Broken { source: hyper::Error },
    #[error("no answer in {0:?}")]
    Silent(Duration),
    #[error("{}", problem.message)]
    Refused {
        status: StatusCode,
        problem: Box<Problem>,
        clock: Option<SignedDuration>,
    },
    #[error("the answer {status} is not an agent's")]
    Foreign {
        status: StatusCode,
        location: Option<String>,
    },
    #[error("the agent's answer cannot be understood")]
    Unreadable { source: serde_json::Error },
    #[error("the agent's answer is longer than any agent's")]
    TooLong,
}

impl CallError {
    /// Whether the same call may go better a moment later.
    pub(crate) fn may_pass(&self) -> bool {
        match self {
            Self::Connect(error) => error.may_pass(),
            Self::Broken { .. } | Self::Silent(_) => true,
            Self::Refused { status, .. } | Self::Foreign { status, .. } => is_passing(*status),
            Self::Unreadable { .. } | Self::TooLong => false,
        }
    }

    /// Whether the agent may have done what the call asks.
    pub(crate) fn may_have_arrived(&self) -> bool {
        match self {
            Self::Connect(_) => false,
            // A proxy that lost the agent says 502 or 504 after it passed the call on.
            Self::Foreign { status, .. } => status.is_server_error(),
            // The contract: any answer but the good one means that nothing was done.
            Self::Refused { .. } => false,
            Self::Broken { .. } | Self::Silent(_) => true,
            Self::Unreadable { .. } | Self::TooLong => true,
        }
    }

    /// What a person is told about it: `doing` says what was tried.
    pub(crate) fn failure(&self, doing: &str) -> Failure {
        let failed = |exit, what: &str| Failure::new(exit, format!("{what} {doing}"));
        match self {
            Self::Refused {
                status,
                problem,
                clock,
            } => {
                // 5xx is an agent that could not, not one that would not.
                let exit = match status.is_client_error() {
                    true => Exit::Refused,
                    false => Exit::Unreachable,
                };
                let mut failure = failed(exit, "the agent refused");
                failure.causes = vec![problem.message.clone()];
                failure.hint = problem.hint.clone().or_else(|| refusal_hint(*status, *clock));
                failure
            }
            Self::Connect(error) => failed(Exit::Unreachable, "the agent was not reached")
                .because(error)
                .hint(error.hint()),
            Self::Broken { .. } | Self::Silent(_) => {
                failed(Exit::Unreachable, "the agent did not answer")
                    .because(self)
                    .hint("look at the agent on its host: journalctl -u cutover-agent")
            }
            Self::Foreign { status, location } => {
                failed(Exit::Unreachable, "no agent answered")
                    .because(self)
                    .hint(foreign_hint(*status, location.as_deref()))
            }
            Self::Unreadable { .. } | Self::TooLong => {
                failed(Exit::Unreachable, "the agent was not understood")
                    .because(self)
                    .hint("the agent is probably newer or older than this program: install the same version on both sides")
            }
        }
    }
}

/// Answers that a restarting or busy agent, or the proxy before it, gives.
fn is_passing(status: StatusCode) -> bool {
    [
        StatusCode::TOO_MANY_REQUESTS,
        StatusCode::BAD_GATEWAY,
        StatusCode::SERVICE_UNAVAILABLE,
        StatusCode::GATEWAY_TIMEOUT,
    ]
    .contains(&status)
}

fn refusal_hint(status: StatusCode, clock: Option<SignedDuration>) -> Option<String> {
    if status == StatusCode::UNAUTHORIZED {
        return Some(signature_hint(clock));
    }
    let fits = status == StatusCode::NOT_FOUND;
    fits.then(|| "see what the agent knows: cutover status".to_owned())
}

/// Why a signature is not taken: the clocks, if they are apart, else the secret.
fn signature_hint(clock: Option<SignedDuration>) -> String {
    let apart = clock.map_or(0, |clock| clock.as_secs().unsigned_abs());
    if apart > TOLERANCE_SECONDS {
        return format!(
            "the two clocks are {apart} seconds apart: set this machine's and the host's by NTP (timedatectl set-ntp true)"
        );
    }
    format!(
        "the secret here ({}) and the agent's are not the same: copy the agent's again, whole, and restart the agent if it was changed",
        secret::VARIABLE
    )
}

fn foreign_hint(status: StatusCode, location: Option<&str>) -> String {
    match location {
        Some(location) if status.is_redirection() => {
            format!("it points to {location}: use that address, calls do not follow redirections")
        }
        _ if is_passing(status) => {
            "a proxy before the agent answered, the agent did not: does it run (systemctl status cutover-agent)?".to_owned()
        }
        _ => "another program answers at this address: is the port right, and the path before /v1?".to_owned(),
    }
}
