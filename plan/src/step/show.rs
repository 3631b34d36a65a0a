//! A step, as a person reads it before a deploy.

use std::fmt;

use super::{Mirrored, Step};
use crate::spec::{OnTimeout, render_duration};
use crate::traffic::Replicas;

impl fmt::Display for Step {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:<10}", self.name())?;
        match self {
            Self::Preflight { memory, .. } => {
                write!(f, "engine, registry, disk and memory")?;
                match memory {
                    Some(bytes) => write!(f, " (its limit is {bytes})"),
                    None => Ok(()),
                }
            }
            Self::Pull { image } => write!(f, "{image}"),
            Self::Hook {
                point,
                command,
                deadline,
                ..
            } => {
                let deadline = render_duration(*deadline);
                write!(f, "{point}: {} within {deadline}", command.join(" "))
            }
            Self::Start {
                release,
                slot,
                replicas,
                ..
            } => {
                let what = Replicas::Only(replicas.clone()).of(*release);
                write!(f, "{what} in {slot}")
            }
            Self::Gate {
                release,
                replicas,
                check,
                deadline,
            } => write!(
                f,
                "{} must answer {} well {} times in a row within {}",
                replicas.of(*release),
                check.question,
                check.successes,
                render_duration(*deadline)
            ),
            Self::Preview {
                release: Some(release),
            } => write!(f, "{release} for those who send the app's secret"),
            Self::Preview { release: None } => write!(f, "nobody any more"),
            Self::Mirror {
                to: Some(Mirrored { release, share }),
            } => {
                write!(f, "copies of {share} of the safe requests to {release}")
            }
            Self::Mirror { to: None } => write!(f, "no copies any more"),
            Self::Park { requests, deadline } => {
                let deadline = render_duration(*deadline);
                write!(f, "hold up to {requests} requests, each up to {deadline}")
            }
            Self::Shift { to, from } => match (to.sole(), from.sole()) {
                _ if to.shares.is_empty() && to.chosen.is_none() => {
                    write!(f, "withdraw the route: no release is left")
                }
                (Some(one), Some(from)) if one == from => {
                    let share = to.shares.get(&one);
                    let who = share.map(|share| share.replicas.of(one));
                    write!(f, "all requests to {}", who.unwrap_or_default())
                }
                (Some(to), Some(from)) => write!(f, "all new requests from {from} to {to}"),
                (Some(to), None) => write!(f, "all requests to {to}"),
                (None, _) => write!(f, "{to}"),
            },
            Self::Watch { release, rule, .. } => write!(f, "{release} for {rule}"),
            Self::Approve {
                what,
                deadline,
                on_timeout,
            } => {
                let deadline = render_duration(*deadline);
                let then = match on_timeout {
                    OnTimeout::Abort => "it is taken back",
                    OnTimeout::Promote => "it goes on",
                };
                write!(
                    f,
                    "{what}: a person decides; without an answer within {deadline} {then}"
                )
            }
            Self::Drain {
                release,
                replicas,
                deadline,
            } => {
                let deadline = render_duration(*deadline);
                let what = replicas.of(*release);
                write!(f, "{what}: wait up to {deadline} for its open requests")
            }
            Self::Standby {
                release,
                keep: None,
            } => write!(f, "{release} stays warm for a rollback"),
            Self::Standby {
                release,
                keep: Some(keep),
            } => {
                let keep = render_duration(*keep);
                write!(f, "{release} stays warm for a rollback for {keep}")
            }
            Self::Retire {
                release,
                replicas,
                grace,
            } => {
                let grace = render_duration(*grace);
                let what = replicas.of(*release);
                write!(f, "{what}: stop with {grace} of grace, remove")
            }
            Self::Prune { keep } if keep.is_empty() => f.write_str("all images of the app"),
            Self::Prune { keep } => write!(f, "images of the app, all but {}", keep.len()),
        }
    }
}
