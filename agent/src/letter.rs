//! What lies in the outbox: a status for the forge, or a notice for a receiver of
//! `[[notify]]`. Each carries all that its delivery needs but secrets.

use cutover_plan::id::{AppName, DeployId, ReleaseNumber};
use cutover_plan::outcome::Outcome;
use cutover_plan::plan::Kind;
use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use crate::forge::Message;

/// One message that is to be delivered.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Letter {
    /// For the forge.
    Status(Message),
    /// For a receiver.
    Notice(Notice),
}

impl From<Message> for Letter {
    fn from(message: Message) -> Self {
        Self::Status(message)
    }
}

impl From<Notice> for Letter {
    fn from(notice: Notice) -> Self {
        Self::Notice(notice)
    }
}

/// The end of a deploy, for one receiver.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Notice {
    /// The receiver's name: [`cutover_plan::spec::NotifySpec::name`].
    pub receiver: String,
    /// The deploy.
    pub deploy: DeployId,
    /// Its app.
    pub app: AppName,
    /// What was wanted.
    pub kind: Kind,
    /// How it ended.
    pub outcome: Outcome,
    /// The release it was about, if it came to one.
    pub release: Option<ReleaseNumber>,
    /// The image it was about.
    pub image: Option<String>,
    /// Why it did not end as promoted.
    pub reason: Option<String>,
    /// All of it in a sentence.
    pub text: String,
    /// Where the app is seen.
    pub url: Option<String>,
    /// Where the workflow run is seen.
    pub run_url: Option<String>,
    /// When it ended.
    pub at: Timestamp,
}
