//! Why the command did not do what was asked, for the person who reads it.
//!
//! Every failure says what failed, why, and one thing to do. It carries the
//! exit status, so that no caller decides it a second time. It holds no secret.

use std::error::Error;

use cutover_wire::exit::Exit;
use serde::Serialize;

/// Why a command ends before it has an answer.
#[derive(Debug, Clone, Serialize)]
pub(crate) struct Failure {
    /// How the process ends.
    #[serde(skip)]
    pub(crate) exit: Exit,
    /// What failed.
    pub(crate) message: String,
    /// Why, from the nearest cause to the farthest.
    pub(crate) causes: Vec<String>,
    /// What the person can do.
    pub(crate) hint: Option<String>,
}

impl Failure {
    /// A failure without a cause of its own.
    pub(crate) fn new(exit: Exit, message: impl Into<String>) -> Self {
        Self {
            exit,
            message: message.into(),
            causes: Vec::new(),
            hint: None,
        }
    }

    /// The command line was understood, but makes no sense.
    pub(crate) fn usage(message: impl Into<String>) -> Self {
        Self::new(Exit::Usage, message)
    }

    /// The same, with an error and all of its sources as the causes.
    #[must_use]
    pub(crate) fn because(mut self, error: &(dyn Error + 'static)) -> Self {
        let mut next = Some(error);
        while let Some(error) = next {
            let text = error.to_string();
            // Some libraries repeat the source in their own text.
            if !self.causes.iter().any(|cause| cause.contains(&text)) {
                self.causes.push(text);
            }
            next = error.source();
        }
        self
    }

    /// The same, with what the person can do.
    #[must_use]
    pub(crate) fn hint(mut self, hint: impl Into<String>) -> Self {
        self.hint = Some(hint.into());
        self
    }

    /// The message and its causes in one line.
    pub(crate) fn sentence(&self) -> String {
        let mut text = self.message.clone();
        for cause in &self.causes {
            text.push_str(": ");
            text.push_str(cause);
        }
        text
    }
}
