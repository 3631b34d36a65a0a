//! How a release is asked for its health, and what makes it bad under traffic.

use std::fmt;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::{millis, optional_millis};
use crate::id::ReleaseNumber;
use crate::spec::{DockerHealth, Rate, render_duration};

/// What a container is asked. It is written as the one key that it has in an
/// app's file.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum Question {
    /// GET of this path; any 2xx is good.
    #[serde(rename = "path")]
    Get(String),
    /// A connection to its port; that it is taken is good.
    #[serde(rename = "tcp")]
    Connect {},
    /// This command in it; that it ends with 0 is good.
    #[serde(rename = "command")]
    Run(Vec<String>),
}

impl fmt::Display for Question {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Get(path) => write!(f, "GET {path}"),
            Self::Connect {} => f.write_str("TCP"),
            // Its arguments may be long, and nobody's to read.
            Self::Run(command) => f.write_str(command.first().map_or("", String::as_str)),
        }
    }
}

/// How a container is asked for its health.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct HealthCheck {
    /// What it is asked.
    #[serde(flatten)]
    pub question: Question,
    /// From one question to the next.
    #[serde(with = "millis")]
    pub interval: Duration,
    /// How long an answer may take.
    #[serde(with = "millis")]
    pub timeout: Duration,
    /// How many good answers in a row make it healthy.
    pub successes: u32,
    /// What the image's own HEALTHCHECK has to do with it.
    #[serde(default)]
    pub docker: DockerHealth,
}

/// What makes a release bad under traffic.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct WatchRule {
    /// How long it is watched.
    #[serde(with = "millis")]
    pub window: Duration,
    /// The share of requests it may fail.
    pub max_error_rate: Rate,
    /// The 99th percentile of the time to the head of its answers.
    #[serde(with = "optional_millis")]
    pub max_latency_p99: Option<Duration>,
    /// Below it there is no verdict on rates.
    pub min_requests: u64,
    /// What happens without a verdict.
    pub without: WithoutVerdict,
    /// The release beside it that it is compared with.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub beside: Option<Beside>,
}

/// What happens to a release on which there is too little data.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum WithoutVerdict {
    /// It stays: its containers lived and its health answers were good.
    Promote,
    /// It is taken back.
    Abort,
    /// It is watched on, until so long after the begin; then as `Abort`.
    Extend {
        /// How long in all.
        #[serde(with = "millis")]
        to: Duration,
    },
    /// A person decides, within so long; then as `Abort`.
    Hold {
        /// How long the person has.
        #[serde(with = "millis")]
        deadline: Duration,
    },
}

/// What a release is compared with: the old one, which runs beside it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Beside {
    /// The old release.
    pub old: ReleaseNumber,
    /// How much larger the share of failed requests of the new one must be to
    /// be bad by comparison.
    pub min_difference: Rate,
    /// Whether the new one gets copies of requests, or users of its own.
    pub seen_by: SeenBy,
}

/// Who sees the answers of a release that is compared.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum SeenBy {
    /// A share of the users.
    Users,
    /// Nobody: it gets copies.
    Nobody,
}

impl WatchRule {
    /// The longest time that the watch may take.
    pub fn longest(&self) -> Duration {
        match self.without {
            WithoutVerdict::Extend { to } => to.max(self.window),
            WithoutVerdict::Promote | WithoutVerdict::Abort | WithoutVerdict::Hold { .. } => {
                self.window
            }
        }
    }
}

impl fmt::Display for WatchRule {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let window = render_duration(self.window);
        match self.beside {
            None => write!(f, "{window}: at most {} errors", self.max_error_rate)?,
            Some(Beside {
                old,
                seen_by,
                min_difference,
            }) => {
                let how = match seen_by {
                    SeenBy::Users => "against",
                    SeenBy::Nobody => "on copies, against",
                };
                let most = self.max_error_rate;
                write!(
                    f,
                    "{window} {how} {old}: at most {most} errors and {min_difference} more than it"
                )?;
            }
        }
        if let Some(p99) = self.max_latency_p99 {
            write!(f, ", p99 at most {}", render_duration(p99))?;
        }
        let then = match self.without {
            WithoutVerdict::Promote if self.beside.is_some() => "it goes on".to_owned(),
            WithoutVerdict::Promote => "it stays".to_owned(),
            WithoutVerdict::Abort => "it goes back, where there is a way back".to_owned(),
            WithoutVerdict::Extend { to } => {
                format!("it is watched on, up to {}", render_duration(to))
            }
            WithoutVerdict::Hold { deadline } => {
                format!("a person decides within {}", render_duration(deadline))
            }
        };
        match self.min_requests.max(1) {
            1 => write!(f, "; without a request {then}"),
            enough => write!(f, "; with fewer than {enough} requests {then}"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_question_is_stored_under_its_own_key_and_older_ones_are_read() {
        let check = |question: Question, json: &str| {
            let rest = r#""interval":1000,"timeout":5000,"successes":2,"docker":"ignore"}"#;
            let (interval, timeout) = (Duration::from_secs(1), Duration::from_secs(5));
            let docker = DockerHealth::Ignore;
            let stored = HealthCheck {
                question,
                interval,
                timeout,
                successes: 2,
                docker,
            };
            let text = format!("{{{json},{rest}");
            assert_eq!(serde_json::to_string(&stored).unwrap(), text);
            assert_eq!(serde_json::from_str::<HealthCheck>(&text).unwrap(), stored);
            // As agents wrote it that knew nothing of `docker`.
            let text = text.replace(",\"docker\":\"ignore\"", "");
            assert_eq!(serde_json::from_str::<HealthCheck>(&text).unwrap(), stored);
        };
        check(Question::Get("/up".to_owned()), r#""path":"/up""#);
        check(Question::Connect {}, r#""tcp":{}"#);
        let command = ["pg_isready", "-q"].map(str::to_owned).into();
        check(Question::Run(command), r#""command":["pg_isready","-q"]"#);
    }
}
