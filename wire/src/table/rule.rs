//! Requests that go to a certain pool whatever the weights say.

use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256};

use super::affinity::check_header;
use super::fault::{Faults, is_digest, is_token, shown};

/// Rules of one app: they are gone through for each request.
pub(super) const MAX_RULES: usize = 64;
/// Conditions of one rule.
const MAX_CONDITIONS: usize = 8;
/// Bytes of a value that is compared; cookies of sessions have a few hundred.
const MAX_VALUE: usize = 500;
/// Bytes of a regular expression: enough for a list of countries or versions.
const MAX_REGEX: usize = 250;

/// Sends requests to a pool; the first rule that holds decides.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Rule {
    /// What must hold, all of it.
    pub when: Vec<Condition>,
    /// Where the request goes then.
    pub pool: String,
}

/// What must hold of one part of a request's head.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Condition {
    /// Which part; a request without it does not meet the condition.
    pub of: Field,
    /// What its value must be.
    pub is: Match,
}

/// A part of a request's head.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Field {
    /// The header of this lower-case name.
    Header(String),
    /// The cookie of this name.
    Cookie(String),
}

/// What a value must be.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Match {
    /// This text.
    Exact(String),
    /// A text that begins so.
    Prefix(String),
    /// A text that matches this regular expression as a whole. Whether it is
    /// one, the proxy finds out, which refuses the table otherwise.
    Regex(String),
}

/// Shows a pool to those who know a secret, before it has users.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Preview {
    /// The lower-case name of the header that brings the secret.
    pub header: String,
    /// The SHA-256 digest of the secret in lower-case hexadecimal digits: the
    /// table is stored and shown, so the secret is not in it.
    pub sha256: String,
    /// The pool that is shown.
    pub pool: String,
}

impl Preview {
    /// Shows `pool` to requests whose `header` has the value `secret`.
    pub fn new(header: impl Into<String>, secret: &str, pool: impl Into<String>) -> Self {
        Self {
            header: header.into(),
            sha256: crate::signature::hex(&Sha256::digest(secret.as_bytes())),
            pool: pool.into(),
        }
    }

    pub(super) fn check(&self, place: &str, faults: &mut Faults) {
        check_header(&self.header, &format!("{place}.header"), faults);
        if !is_digest(&self.sha256) {
            let fault = "a digest has 64 lower-case hexadecimal digits";
            faults.add(&format!("{place}.sha256"), fault);
        }
    }
}

impl Rule {
    pub(super) fn check(&self, place: &str, faults: &mut Faults) {
        let place = format!("{place}.when");
        faults.within(&place, self.when.len(), 1, MAX_CONDITIONS);
        for condition in &self.when {
            match &condition.of {
                Field::Header(name) => check_header(name, &place, faults),
                Field::Cookie(name) if is_token(name) => {}
                Field::Cookie(name) => {
                    faults.add(&place, format!("{:?} is no name of a cookie", shown(name)));
                }
            }
            let (text, limit) = match &condition.is {
                Match::Exact(text) | Match::Prefix(text) => (text, MAX_VALUE),
                Match::Regex(text) => (text, MAX_REGEX),
            };
            faults.at_most(&place, "bytes of a value", text.len(), limit);
            if text.chars().any(char::is_control) {
                faults.add(&place, "a value with control characters never comes");
            }
        }
    }
}
