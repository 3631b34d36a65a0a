//! The hosts of a route: exact names, wildcards, and hosts that moved.

use serde::{Deserialize, Serialize};

use super::fault::{Faults, shown};

/// The host that matches every request that no other route takes.
pub const ANY_HOST: &str = "*";

/// Hosts of one app, those that moved included.
pub(super) const MAX_HOSTS: usize = 100;

/// Bytes of a host name (RFC 1035).
const MAX_HOST: usize = 253;

/// Where the clients of a host are sent.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Redirect {
    /// The exact host that they are sent to; path and query stay.
    pub to: String,
    /// With which status.
    #[serde(default)]
    pub status: RedirectStatus,
}

/// The status of a redirect, a number in JSON.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "u16", into = "u16")]
pub enum RedirectStatus {
    /// 301: old clients make a GET of a POST.
    MovedPermanently,
    /// 308: the method stays, so no form is lost.
    #[default]
    PermanentRedirect,
}

impl From<RedirectStatus> for u16 {
    fn from(status: RedirectStatus) -> Self {
        match status {
            RedirectStatus::MovedPermanently => 301,
            RedirectStatus::PermanentRedirect => 308,
        }
    }
}

impl TryFrom<u16> for RedirectStatus {
    type Error = String;

    fn try_from(status: u16) -> Result<Self, String> {
        match status {
            301 => Ok(Self::MovedPermanently),
            308 => Ok(Self::PermanentRedirect),
            other => Err(format!(
                "the status of a redirect is 301 or 308, not {other}"
            )),
        }
    }
}

/// What becomes of requests that come over plain HTTP.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Https {
    /// They are answered like all others.
    #[default]
    Optional,
    /// They are sent to the same URL over HTTPS, with a 308.
    Redirect,
}

/// Whether a host stands for one label before the rest of it.
pub(super) fn is_wildcard(host: &str) -> bool {
    host.starts_with("*.")
}

/// Whether a text is a lower-case host name without port.
pub(super) fn is_exact(host: &str) -> bool {
    let letter = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit() || b"-._".contains(&b);
    !host.is_empty() && host.len() <= MAX_HOST && host.bytes().all(letter)
}

/// A host of a route: exact, a wildcard of one label, or any.
pub(super) fn check(host: &str, place: &str, faults: &mut Faults) {
    let rest = host.strip_prefix("*.").unwrap_or(host);
    if host != ANY_HOST && !is_exact(rest) {
        let fault = format!("{:?} is no lower-case host name without port", shown(host));
        faults.add(place, fault);
    }
}

pub(super) fn check_redirect(host: &str, redirect: &Redirect, place: &str, faults: &mut Faults) {
    if host == ANY_HOST {
        faults.add(place, "every host cannot move to one of them");
    } else {
        check(host, place, faults);
    }
    if !is_exact(&redirect.to) {
        let fault = format!("{:?} is no host to be sent to", shown(&redirect.to));
        faults.add(place, fault);
    }
}
