//! `[[notify]]`: who is told how deploys end, beside GitHub.

use crate::outcome::Outcome;

/// One receiver of messages about ends of deploys.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NotifySpec {
    /// `kind`: what it understands.
    pub kind: NotifyKind,
    /// `url_file`: the file with its address. Who knows the address may write
    /// there, so it is a secret, and the configuration only says where it is.
    pub url_file: String,
    /// `secret_file`: the file with what signs the messages to a webhook.
    pub secret_file: Option<String>,
    /// `on`: which ends it is told of; default all.
    pub on: Vec<Outcome>,
}

/// What a receiver understands.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum NotifyKind {
    /// Signed JSON, as Standard Webhooks has it.
    Webhook,
    /// `{"text": …}`, as Slack and those that are like it take it.
    Slack,
}

impl NotifyKind {
    /// Its name in the configuration.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Webhook => "webhook",
            Self::Slack => "slack",
        }
    }
}

impl NotifySpec {
    /// What its messages are kept under: the same for as long as the
    /// configuration names the same receiver, and no secret.
    pub fn name(&self) -> String {
        format!("{} {}", self.kind.as_str(), self.url_file)
    }
}
