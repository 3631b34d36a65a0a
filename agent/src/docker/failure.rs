//! What went wrong at the engine, and what that means for a deploy.

use std::error::Error as _;
use std::time::Duration;

use cutover_plan::spec::render_duration;

use crate::containers::{ContainerError, ContainerErrorKind};

/// The longest text of the engine that an error repeats: runtimes quote whole
/// command lines.
const LONGEST: usize = 400;

/// A call that the engine did not do.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Fault {
    /// What was being done.
    pub(super) what: String,
    /// The status of its answer, if there was one.
    pub(super) status: Option<u16>,
    /// Its own words, or why there are none.
    pub(super) message: String,
}

impl Fault {
    pub(super) fn new(what: String, error: &bollard::errors::Error) -> Self {
        use bollard::errors::Error;
        let (status, message) = match error {
            Error::DockerResponseServerError {
                status_code,
                message,
            } => (Some(*status_code), message.clone()),
            Error::DockerStreamError { error } => (Some(500), error.clone()),
            Error::RequestTimeoutError => (None, "it did not answer in time".to_owned()),
            other => (None, chain(other)),
        };
        let message = printable(&message, LONGEST);
        Self {
            what,
            status,
            message,
        }
    }

    pub(super) fn silence(what: String, limit: Duration) -> Self {
        let message = format!("no answer within {}", render_duration(limit));
        Self {
            what,
            status: None,
            message,
        }
    }

    pub(super) fn unreadable(what: String, error: &dyn std::error::Error) -> Self {
        let message = format!("its answer cannot be read: {error}");
        Self {
            what,
            status: None,
            message,
        }
    }

    pub(super) fn no_socket(what: String, path: &str) -> Self {
        let message = format!("there is no socket {path}");
        Self {
            what,
            status: None,
            message,
        }
    }

    /// The object is not there.
    pub(super) fn is_missing(&self) -> bool {
        self.status == Some(404)
    }

    /// The object is in a state that does not allow it.
    pub(super) fn is_conflict(&self) -> bool {
        self.status == Some(409)
    }

    /// Whether the engine's words contain one of `parts`, which are in lower case.
    pub(super) fn says(&self, parts: &[&str]) -> bool {
        let message = self.message.to_lowercase();
        parts.iter().any(|part| message.contains(part))
    }

    /// The words of an error of this kind.
    pub(super) fn into_error(self, kind: ContainerErrorKind) -> ContainerError {
        let Self {
            what,
            status,
            message,
        } = self;
        let reason = match status {
            Some(_) => format!("{what}: {message}"),
            None => format!("{what}: the container engine is not reached: {message}"),
        };
        ContainerError {
            kind,
            reason,
            hint: None,
        }
    }
}

/// What the host lacks, in the engine's words.
const HOST_LACKS: [&str; 8] = [
    "no space left on device",
    "disk quota exceeded",
    "cannot allocate memory",
    "address already in use",
    "port is already allocated",
    "bind source path does not exist",
    "error while creating mount source path",
    "range of cpus is from",
];

impl From<Fault> for ContainerError {
    fn from(fault: Fault) -> Self {
        if fault.status.is_none() {
            let hint = if fault.says(&["permission denied"]) {
                "the agent's user must be in the socket's group, usually docker"
            } else {
                "see whether the engine runs: systemctl status docker"
            };
            return fault
                .into_error(ContainerErrorKind::Unavailable)
                .with_hint(hint);
        }
        if fault.says(&HOST_LACKS) {
            return fault.into_error(ContainerErrorKind::Host);
        }
        match fault.status {
            // A conflict is with something that is going on at the same time.
            Some(400..=408 | 410..=499) => fault.into_error(ContainerErrorKind::Request),
            _ => fault.into_error(ContainerErrorKind::Unavailable),
        }
    }
}

/// An error of `kind` for this reason.
pub(super) fn error(kind: ContainerErrorKind, reason: impl Into<String>) -> ContainerError {
    ContainerError {
        kind,
        reason: reason.into(),
        hint: None,
    }
}

/// What a person can do about an error.
pub(super) trait WithHint {
    fn with_hint(self, hint: impl Into<String>) -> Self;
}

impl WithHint for ContainerError {
    fn with_hint(mut self, hint: impl Into<String>) -> Self {
        self.hint = Some(hint.into());
        self
    }
}

/// An error and its causes, each said once.
fn chain(error: &bollard::errors::Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        let more = error.to_string();
        if !text.contains(&more) {
            text = format!("{text}: {more}");
        }
        cause = error.source();
    }
    text
}

/// A text of somebody else on one line, without control characters, cut.
pub(super) fn printable(text: &str, longest: usize) -> String {
    let plain: String = text
        .chars()
        .map(|c| if c.is_control() { ' ' } else { c })
        .collect();
    let words: Vec<&str> = plain.split_whitespace().collect();
    let line = words.join(" ");
    if line.chars().count() <= longest {
        return line;
    }
    line.chars().take(longest).chain(['…']).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(status: Option<u16>, message: &str, expected: ContainerErrorKind) {
        let (what, message) = ("starting it".to_owned(), message.to_owned());
        let error = ContainerError::from(Fault {
            what,
            status,
            message,
        });
        assert_eq!(error.kind, expected, "{error}");
    }

    #[test]
    fn the_kind_says_whether_trying_again_may_help() {
        use ContainerErrorKind::{Host, Request, Unavailable};
        check(None, "connection refused", Unavailable);
        check(Some(500), "context deadline exceeded", Unavailable);
        check(Some(409), "removal is in progress", Unavailable);
        check(Some(400), "invalid reference format", Request);
        check(Some(404), "no such container", Request);
        check(
            Some(500),
            "write /var/lib/docker/x: no space left on device",
            Host,
        );
        check(
            Some(400),
            "bind source path does not exist: /srv/shop",
            Host,
        );
    }

    #[test]
    fn a_text_of_others_is_one_short_line() {
        assert_eq!(printable("a\r\n\tb\u{1b}[0m", 10), "a b [0m");
        assert_eq!(printable("abcdef", 3), "abc…");
    }
}
