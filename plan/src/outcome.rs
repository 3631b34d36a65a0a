//! How a deploy ends.

use std::fmt;

use serde::{Deserialize, Serialize};

/// The end of a deploy; there is no other.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Outcome {
    /// The release serves and has proved itself.
    Promoted,
    /// The release did not make it: no user saw it, or there was no better one
    /// to take its place.
    Failed,
    /// A person stopped it.
    Aborted,
    /// A newer deploy took its place.
    Superseded,
    /// The release had users, was bad, and the one before it serves again.
    RolledBack,
    /// There was too little data for a judgement.
    NoVerdict,
    /// The release was compared on copies of requests, as was wanted, and had
    /// no user: the one before serves.
    Shadowed,
}

impl Outcome {
    /// Every outcome.
    pub const ALL: [Self; 7] = [
        Self::Promoted,
        Self::Failed,
        Self::Aborted,
        Self::Superseded,
        Self::RolledBack,
        Self::NoVerdict,
        Self::Shadowed,
    ];

    /// The word of it, as it stands in events, outputs and logs.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Promoted => "promoted",
            Self::Failed => "failed",
            Self::Aborted => "aborted",
            Self::Superseded => "superseded",
            Self::RolledBack => "rolled_back",
            Self::NoVerdict => "no_verdict",
            Self::Shadowed => "shadowed",
        }
    }
}

impl fmt::Display for Outcome {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}
