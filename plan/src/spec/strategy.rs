//! How a new release takes over.

use std::fmt;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::quantity::{Rate, Weight};

/// How a new release takes over.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Strategy {
    /// Start beside, gate, shift at once, watch; the old release stays warm.
    BlueGreen,
    /// The same, but the old release is retired after a while.
    RedBlack,
    /// Start beside, gate, shift in stages, each judged against the old release.
    Canary,
    /// Replace the replicas a few at a time, each gated before the next.
    Rolling,
    /// Hold the requests, stop the old release, start the new one in its place.
    InPlace,
    /// Start beside, gate, compare on copies of requests; then stop or go on.
    Shadow,
}

impl Strategy {
    /// Every strategy.
    pub const ALL: [Self; 6] = [
        Self::BlueGreen,
        Self::RedBlack,
        Self::Canary,
        Self::Rolling,
        Self::InPlace,
        Self::Shadow,
    ];

    /// Its name, as the app's file writes it.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::BlueGreen => "blue-green",
            Self::RedBlack => "red-black",
            Self::Canary => "canary",
            Self::Rolling => "rolling",
            Self::InPlace => "in-place",
            Self::Shadow => "shadow",
        }
    }
}

impl fmt::Display for Strategy {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// The stages of a canary, and who takes part in them.
#[derive(Debug, Clone, PartialEq)]
pub struct CanarySpec {
    /// `weights`: the share of clients at each stage, in percent, rising to 100;
    /// default 5, 25, 50, 100. A first weight of 0 is for those whom a rule sends.
    pub weights: Vec<Weight>,
    /// `bake`: how long each stage before the last is watched; default `2m`.
    pub bake: Duration,
    /// `affinity`: what keeps a client where it is; default `cookie`.
    pub affinity: Affinity,
    /// `new_sessions_only`: whether clients of the old release stay there until
    /// its end; default false.
    pub new_sessions_only: bool,
    /// `[[canary.rules]]`: clients that go to the new release whatever the weight.
    pub rules: Vec<Rule>,
}

/// What keeps a client of a canary where it is.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Affinity {
    /// `none`: each request goes its own way.
    None,
    /// `cookie`: a cookie of the proxy.
    Cookie,
    /// `address`: the client's address.
    Address,
    /// `header:NAME`: a header that the client sends.
    Header(String),
}

/// Clients that go to the new release: all of the conditions hold.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Rule {
    /// The conditions, at least one.
    pub all: Vec<Condition>,
}

/// Something that a request has.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Condition {
    /// Where it is looked for.
    pub subject: Subject,
    /// What stands there.
    pub matching: Matching,
}

/// A part of a request.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Subject {
    /// A header by its name, in lower case.
    Header(String),
    /// A cookie by its name.
    Cookie(String),
}

/// How a text is compared.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Matching {
    /// `equals`: it is this.
    Exact(String),
    /// `starts_with`: it begins so.
    Prefix(String),
    /// `matches`: a regular expression finds something in it.
    Regex(String),
}

/// How replicas are replaced.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RollingSpec {
    /// `batch`: how many at a time; default 1.
    pub batch: u16,
    /// `bake`: how long each batch before the last is watched; default `0s`, not at all.
    pub bake: Duration,
}

/// How requests are held while the old release makes room.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct InPlaceSpec {
    /// `park_requests`: how many are held at the most; default 1000.
    pub park_requests: u32,
    /// `park_deadline`: how long one is held at the most; default `30s`.
    pub park_deadline: Duration,
}

/// How copies of requests are compared.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ShadowSpec {
    /// `share`: of the safe requests, how many are copied; default `100%`.
    pub share: Rate,
    /// `window`: how long; default `5m`.
    pub window: Duration,
    /// `then`: what follows a good comparison; default `continue`.
    pub then: Then,
}

/// What follows the comparison of a shadow.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Then {
    /// As blue-green.
    Continue,
    /// The new release is retired: only the comparison was wanted.
    Stop,
}

/// Who reaches a release before its users.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PreviewSpec {
    /// `header`: the header that they send; default `cutover-preview`.
    pub header: String,
    /// `secret_file`: an absolute path; the header's value is the file's first line.
    pub secret_file: String,
}
