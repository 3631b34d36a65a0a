//! What a caller asks of the agent: the bodies of signed calls.
//!
//! A body names an app and brings a digest; it brings no host, path, command
//! or URL that the agent would use. Every text in it has a limit.

use std::fmt;

use cutover_plan::id::{AppName, DeployId, ImageReference};
use serde::{Deserialize, Serialize};

/// The largest body of a call in bytes; a deploy request has a few hundred.
pub const MAX_BODY: usize = 64 * 1024;

/// The longest text in a request: URLs of workflow runs have about a hundred.
const MAX_TEXT: usize = 500;

/// `POST /v1/deploys`: bring an app to a release.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct DeployRequest {
    /// The app.
    pub app: AppName,
    /// What is wanted.
    pub change: Change,
    /// Where the call comes from.
    #[serde(default)]
    pub source: Source,
    /// What the registry asks for, used for this pull only and never stored.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub registry: Option<RegistryCredentials>,
}

/// What is wanted of an app.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
pub enum Change {
    /// This image.
    Deploy {
        /// Pinned by digest.
        image: ImageReference,
    },
    /// The last release that proved itself.
    Rollback {},
}

/// Where a call comes from; only shown and reported, never trusted.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Source {
    /// Who asked.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub actor: Option<String>,
    /// The commit that the image was built of: the pull request's head.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub sha: Option<String>,
    /// Where the workflow run can be seen.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub run_url: Option<String>,
}

/// A user and a password of the registry. They cannot be printed.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RegistryCredentials {
    /// The user.
    pub username: String,
    /// The password or token.
    pub password: String,
}

impl fmt::Debug for RegistryCredentials {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("RegistryCredentials(…)")
    }
}

/// `POST /v1/queries`: a question that changes nothing.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
pub enum Query {
    /// Are we talking? Answered with [`crate::agent::Welcome`].
    Verify {},
    /// What serves? Answered with [`crate::agent::AppView`]s.
    Status {
        /// One app, or all.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        app: Option<AppName>,
    },
    /// What would a deploy do? Answered with [`crate::agent::PlanView`].
    Plan {
        /// The app.
        app: AppName,
        /// What would be wanted.
        change: Change,
    },
}

/// `POST /v1/deploys/{id}/abort`, where no capability token is at hand.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct AbortRequest {
    /// The deploy; must be the one of the path.
    pub abort: DeployId,
    /// Who aborts.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub by: Option<String>,
}

impl DeployRequest {
    /// The first mistake that the types do not catch, as a sentence.
    pub fn problem(&self) -> Option<String> {
        let Source {
            actor,
            sha,
            run_url,
        } = &self.source;
        let texts = [("source.actor", actor), ("source.run_url", run_url)];
        for (place, text) in texts {
            let Some(text) = text else { continue };
            if text.len() > MAX_TEXT {
                return Some(format!(
                    "{place} has {} bytes, at most {MAX_TEXT}",
                    text.len()
                ));
            }
            if text.chars().any(char::is_control) {
                return Some(format!("{place} has control characters"));
            }
        }
        let is_url = |text: &String| text.starts_with("https://") || text.starts_with("http://");
        if run_url.as_ref().is_some_and(|url| !is_url(url)) {
            return Some("source.run_url must begin with https://".to_owned());
        }
        if let Some(sha) = sha {
            let hex = |b: u8| b.is_ascii_digit() || (b'a'..=b'f').contains(&b);
            if ![40, 64].contains(&sha.len()) || !sha.bytes().all(hex) {
                return Some(
                    "source.sha must be 40 or 64 lower-case hexadecimal digits".to_owned(),
                );
            }
        }
        if let Some(RegistryCredentials { username, password }) = &self.registry {
            // Tokens of cloud registries have up to a few thousand bytes.
            if username.is_empty() || username.len() > MAX_TEXT || password.len() > 16 * 1024 {
                return Some(
                    "registry.username or registry.password has no sane length".to_owned(),
                );
            }
        }
        None
    }
}
