//! Certificates, and what proves to an authority that we hold a domain.
//!
//! The table has the paths of keys and no key: it is stored and shown.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::fault::{Faults, TableProblem, is_digest, shown};
use super::host;

/// The longest path of a file; the kernel's limit (PATH_MAX).
const MAX_PATH: usize = 4096;

/// Answers at once: an order has one for each of its domains, and few orders are open.
const MAX_ANSWERS: usize = 1_000;

/// The longest token or key authorization: both are base64 of some 32 bytes.
const MAX_TOKEN: usize = 256;

/// A certificate with its key, in files that the proxy can read.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Certificate {
    /// The absolute path of the chain, its own certificate first, as PEM.
    pub chain: String,
    /// The absolute path of its private key, as PEM.
    pub key: String,
}

impl Certificate {
    /// The place in a table of the certificate for a name.
    pub fn place(name: &str) -> String {
        format!("certificates.{}", shown(name))
    }

    /// The mistakes in a name that a certificate is to be served for.
    pub fn name_problems(name: &str) -> Vec<TableProblem> {
        let mut faults = Faults::default();
        host::check(name, &Self::place(name), &mut faults);
        faults.into_problems()
    }

    pub(super) fn check(&self, name: &str, faults: &mut Faults) {
        let place = Self::place(name);
        host::check(name, &place, faults);
        for (part, path) in [("chain", &self.chain), ("key", &self.key)] {
            let plain = !path.chars().any(char::is_control);
            let upward = path.split('/').any(|part| part == "..");
            if !path.starts_with('/') || path.len() > MAX_PATH || !plain || upward {
                let fault = format!("{:?} is no absolute path of a file", shown(path));
                faults.add(&format!("{place}.{part}"), fault);
            }
        }
    }
}

/// The answers to open challenges (RFC 8555 and RFC 8737).
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct AcmeAnswers {
    /// For http-01: the key authorization of each token.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub http: BTreeMap<String, String>,
    /// For tls-alpn-01: the SHA-256 digest of the key authorization of each
    /// domain, in hexadecimal digits.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub tls_alpn: BTreeMap<String, String>,
}

impl AcmeAnswers {
    /// Whether no challenge is open.
    pub fn is_empty(&self) -> bool {
        self.http.is_empty() && self.tls_alpn.is_empty()
    }

    pub(super) fn check(&self, faults: &mut Faults) {
        let letter = |b: u8| b.is_ascii_alphanumeric() || b"-_".contains(&b);
        faults.at_most("acme.http", "answers", self.http.len(), MAX_ANSWERS);
        for (token, authorization) in &self.http {
            let place = format!("acme.http.{}", shown(token));
            if token.is_empty() || token.len() > MAX_TOKEN || !token.bytes().all(letter) {
                faults.add(&place, "the token is no base64 for URLs");
            }
            let thumbprint = authorization
                .strip_prefix(token.as_str())
                .and_then(|rest| rest.strip_prefix('.'));
            let sound = |text: &str| !text.is_empty() && text.bytes().all(letter);
            if authorization.len() > 2 * MAX_TOKEN || !thumbprint.is_some_and(sound) {
                faults.add(
                    &place,
                    "the answer is not the token, a full stop and a thumbprint",
                );
            }
        }
        faults.at_most("acme.tls_alpn", "answers", self.tls_alpn.len(), MAX_ANSWERS);
        for (domain, digest) in &self.tls_alpn {
            let place = format!("acme.tls_alpn.{}", shown(domain));
            if !host::is_exact(domain) {
                faults.add(&place, "a challenge is for one exact host");
            }
            if !is_digest(digest) {
                faults.add(&place, "a digest has 64 lower-case hexadecimal digits");
            }
        }
    }
}
