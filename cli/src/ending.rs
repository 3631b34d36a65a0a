//! How a deploy or a rollback ended, as far as this program knows.
//!
//! One value from which the terminal's text, the outputs, the summary and the
//! exit status are made, so that they cannot differ. It renders nothing.

use std::time::Duration;

use cutover_plan::id::{AppName, DeployId, ImageReference};
use cutover_plan::outcome::Outcome;
use cutover_wire::agent::DeployView;
use cutover_wire::exit::Exit;

use crate::failure::Failure;

/// How it ended.
#[derive(Debug)]
pub(crate) struct Ending {
    /// What was asked.
    pub(crate) verb: Verb,
    /// Of which app.
    pub(crate) app: Option<AppName>,
    /// With which image; a rollback names none.
    pub(crate) image: Option<ImageReference>,
    /// The deploy, if the agent took the call.
    pub(crate) deploy: Option<DeployId>,
    /// What is known of its end.
    pub(crate) end: End,
    /// What the agent last said of it.
    pub(crate) view: Option<DeployView>,
    /// How long this program ran.
    pub(crate) elapsed: Duration,
}

/// What was asked.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Verb {
    /// Bring an image into service.
    Deploy,
    /// Bring the last proven release back.
    Rollback,
    /// Something that deploys nothing.
    Other,
}

/// What is known of the end.
#[derive(Debug)]
pub(crate) enum End {
    /// The deploy is over.
    Known(Outcome),
    /// The agent took the call and nobody follows.
    Detached,
    /// The question was answered.
    Answered,
    /// There is no outcome, or none that we know.
    Unknown(Failure),
}

impl Verb {
    /// The noun of it, for titles.
    pub(crate) fn noun(self) -> &'static str {
        match self {
            Self::Deploy => "deploy",
            Self::Rollback => "rollback",
            Self::Other => "call",
        }
    }
}

impl Ending {
    /// How the process ends.
    pub(crate) fn exit(&self) -> Exit {
        match &self.end {
            End::Known(outcome) => Exit::of(*outcome),
            End::Detached | End::Answered => Exit::Done,
            End::Unknown(failure) => failure.exit,
        }
    }

    /// One word for programs: the outcome, or why there is none.
    pub(crate) fn word(&self) -> &'static str {
        match &self.end {
            End::Known(outcome) => outcome.as_str(),
            End::Detached => "accepted",
            End::Answered => "answered",
            End::Unknown(failure) => match failure.exit {
                Exit::Usage => "usage",
                Exit::Refused => "refused",
                Exit::Aborted => "aborting",
                _ => "unreachable",
            },
        }
    }

    /// A headline without colours: what happened to which release, how long it took.
    pub(crate) fn headline(&self) -> String {
        let app = self.app.as_ref().map_or("", AppName::as_str);
        let view = self.view.as_ref();
        let release = match view.and_then(|view| view.release) {
            Some(number) => format!("{app} {number}"),
            None => app.to_owned(),
        };
        let noun = self.verb.noun();
        match &self.end {
            End::Known(outcome) => match (outcome, self.verb) {
                (Outcome::Promoted, Verb::Rollback) => format!("{release} serves again"),
                (Outcome::Promoted, _) => format!("{release} serves"),
                (Outcome::Shadowed, _) => format!("{release} was compared and got no users"),
                (Outcome::Failed, _) => format!("{noun} of {release} failed"),
                (Outcome::Aborted, _) => format!("{noun} of {release} was aborted"),
                (Outcome::Superseded, _) => {
                    format!("{noun} of {release} gave way to a newer deploy")
                }
                (Outcome::RolledBack, _) => format!("{noun} of {release} was taken back"),
                (Outcome::NoVerdict, _) => {
                    format!("{noun} of {release} ended without a verdict")
                }
            },
            End::Detached => format!("{noun} of {release} is under way"),
            End::Answered => "answered".to_owned(),
            End::Unknown(failure) => failure.message.clone(),
        }
    }

    /// Why it is no success.
    pub(crate) fn reason(&self) -> Option<String> {
        match &self.end {
            End::Known(_) => self.view.as_ref()?.reason.clone(),
            End::Detached | End::Answered => None,
            End::Unknown(failure) if failure.causes.is_empty() => None,
            End::Unknown(failure) => Some(failure.causes.join(": ")),
        }
    }

    /// What the person can do.
    pub(crate) fn hint(&self) -> Option<String> {
        match &self.end {
            End::Known(_) => self.view.as_ref()?.hint.clone(),
            End::Detached | End::Answered => None,
            End::Unknown(failure) => failure.hint.clone(),
        }
    }

    /// How long the deploy took by the agent's clock, else how long we ran.
    pub(crate) fn duration(&self) -> Duration {
        let view = self.view.as_ref();
        let by_agent = view.and_then(|view| {
            let took = view.ended_at?.duration_since(view.accepted_at);
            Duration::try_from(took).ok()
        });
        by_agent.unwrap_or(self.elapsed)
    }

    /// The image it was about: the agent's word first.
    pub(crate) fn image_text(&self) -> Option<String> {
        let viewed = self.view.as_ref().and_then(|view| view.image.clone());
        viewed.or_else(|| self.image.as_ref().map(ToString::to_string))
    }

    /// The digest of that image.
    pub(crate) fn digest(&self) -> Option<String> {
        let image = self.image_text()?;
        Some(image.split_once('@')?.1.to_owned())
    }
}
