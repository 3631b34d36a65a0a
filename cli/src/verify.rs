//! Says whether this machine and the agent can work together, and if not, at
//! which of three hurdles they fail: reaching it, the signature, the clocks.

use cutover_wire::agent::{QUERIES, Welcome};
use cutover_wire::request::Query;
use cutover_wire::signature::TOLERANCE_SECONDS;
use http::StatusCode;
use jiff::{SignedDuration, Timestamp};
use serde::Serialize;

use crate::answer::CallError;
use crate::caller::{Call, Caller};
use crate::endpoint::Endpoint;
use crate::failure::Failure;
use crate::output::{Output, plain};

/// Clocks that are this far apart will soon be too far.
const UNEASY: u64 = TOLERANCE_SECONDS / 5;

/// What was found, for programs.
#[derive(Debug, Serialize)]
struct Findings {
    agent: String,
    reached: bool,
    signature: Signature,
    clock_ahead_ms: Option<i128>,
    version: Option<String>,
    apps: Vec<String>,
    failure: Option<Failure>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
enum Signature {
    Accepted,
    Refused,
    NotNeeded,
    NotTried,
}

/// Prints what was found; the failure is printed by the caller too.
pub(crate) async fn verify(caller: &Caller, output: &Output) -> Result<(), Failure> {
    let begun = Timestamp::now();
    let answer = caller
        .send::<Welcome>(&Call::new(QUERIES, &Query::Verify {}))
        .await;
    // The agent read its clock about half way.
    let half = Timestamp::now().duration_since(begun) / 2;
    let mut findings = Findings {
        agent: caller.endpoint.name(),
        reached: true,
        signature: match caller.endpoint {
            Endpoint::Socket(_) => Signature::NotNeeded,
            Endpoint::Network(_) => Signature::Accepted,
        },
        clock_ahead_ms: None,
        version: None,
        apps: Vec::new(),
        failure: None,
    };
    match &answer {
        Ok(welcome) => {
            let ahead = welcome.now.duration_since(begun) - half;
            findings.clock_ahead_ms = Some(ahead.as_millis());
            findings.version = Some(plain(&welcome.version));
            findings.apps = welcome.apps.iter().map(ToString::to_string).collect();
        }
        Err(error) => {
            findings.failure = Some(error.failure("to verify the connection"));
            match error {
                CallError::Refused { status, clock, .. } => {
                    findings.clock_ahead_ms = clock.map(|clock| clock.as_millis());
                    if *status == StatusCode::UNAUTHORIZED {
                        findings.signature = Signature::Refused;
                    }
                }
                _ => {
                    findings.reached = false;
                    findings.signature = Signature::NotTried;
                }
            }
        }
    }
    output.answer(&render(&findings), &findings);
    findings.failure.map_or(Ok(()), Err)
}

fn render(findings: &Findings) -> String {
    let mut lines = Vec::new();
    let mut say = |good: bool, text: String| {
        lines.push(format!("{} {text}", if good { "✓" } else { "✗" }));
    };
    let agent = &findings.agent;
    match (&findings.version, findings.reached) {
        (Some(version), _) => say(true, format!("reached the agent {version} at {agent}")),
        (None, true) => say(true, format!("reached an agent at {agent}")),
        (None, false) => say(false, format!("no agent was reached at {agent}")),
    }
    match findings.signature {
        Signature::Accepted if findings.failure.is_none() => {
            say(true, "the signature is accepted".to_owned())
        }
        Signature::Refused => say(false, "the signature is not accepted".to_owned()),
        Signature::NotNeeded => say(true, "no signature is needed on this socket".to_owned()),
        Signature::Accepted | Signature::NotTried => {}
    }
    if let Some(millis) = findings.clock_ahead_ms {
        say_clock(&mut say, millis);
    }
    if findings.failure.is_none() {
        match findings.apps.is_empty() {
            true => say(
                false,
                "the agent has no apps: put one file for each into /etc/cutover/apps".to_owned(),
            ),
            false => say(true, format!("apps: {}", findings.apps.join(", "))),
        }
    }
    lines.join("\n")
}

fn say_clock(say: &mut impl FnMut(bool, String), millis: i128) {
    let ahead = SignedDuration::from_millis(i64::try_from(millis).unwrap_or(i64::MAX));
    let apart = ahead.as_secs().unsigned_abs();
    let direction = if ahead.is_negative() {
        "behind"
    } else {
        "ahead"
    };
    match apart {
        0..2 => say(true, "the clocks agree".to_owned()),
        _ if apart <= UNEASY => say(true, format!("the agent's clock is {apart}s {direction}")),
        _ => say(
            false,
            format!(
                "the agent's clock is {apart}s {direction}; calls are taken up to {TOLERANCE_SECONDS}s: set both by NTP (timedatectl set-ntp true)"
            ),
        ),
    }
}
