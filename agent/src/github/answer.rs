//! An answer of GitHub, read whole and not yet judged.

use bytes::Bytes;
use http::{HeaderMap, StatusCode};
use serde::Deserialize;
use serde::de::DeserializeOwned;

use super::failure::Failure;

/// An answer of GitHub.
pub(super) struct Answer {
    pub(super) status: StatusCode,
    pub(super) headers: HeaderMap,
    pub(super) body: Bytes,
}

/// What GitHub says when it refuses. `errors` has texts or objects.
#[derive(Deserialize)]
struct Refusal {
    #[serde(default)]
    message: String,
    #[serde(default)]
    errors: Vec<serde_json::Value>,
}

impl Answer {
    /// Reads the body. It is not repeated in the error: it may hold a token.
    pub(super) fn read<T: DeserializeOwned>(&self, what: &str) -> Result<T, Failure> {
        serde_json::from_slice(&self.body).map_err(|error| {
            let (line, column) = (error.line(), error.column());
            Failure::Unreachable(format!(
                "{what}: the answer is not GitHub's (line {line}, column {column})"
            ))
        })
    }

    /// What GitHub says in a refusal.
    pub(super) fn message(&self) -> String {
        match serde_json::from_slice::<Refusal>(&self.body) {
            Ok(Refusal { message, errors }) => {
                let texts = errors.iter().map(ToString::to_string);
                [message]
                    .into_iter()
                    .chain(texts)
                    .collect::<Vec<_>>()
                    .join("; ")
            }
            Err(_) => String::from_utf8_lossy(&self.body).into_owned(),
        }
    }

    /// A header that is a whole number.
    pub(super) fn number(&self, header: &str) -> Option<u64> {
        self.headers.get(header)?.to_str().ok()?.trim().parse().ok()
    }
}
