//! What a proxy can do beyond routing by exact host and prefix to one pool.
//!
//! A proxy tells its abilities in its status, and refuses a table that needs
//! another one. So a plan that cannot be obeyed is refused before it is begun.

use std::collections::BTreeSet;
use std::fmt;

use serde::de::IntoDeserializer as _;
use serde::de::value::{Error, StrDeserializer};
use serde::{Deserialize, Deserializer, Serialize};

/// One thing that not every proxy can do.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Ability {
    /// Divide an app's requests among several pools.
    Weights,
    /// Send a client to the same pool again.
    Affinity,
    /// Choose a pool by headers and cookies.
    Rules,
    /// Show a pool to those who know a secret.
    Preview,
    /// Send copies of requests to a pool.
    Mirror,
    /// Hold requests for a while.
    Park,
    /// Hosts such as `*.example.com`.
    WildcardHosts,
    /// Send clients from one host to another.
    Redirect,
    /// Send clients from plain HTTP to HTTPS.
    HttpsRedirect,
    /// Leave the path prefix out of what a target is asked.
    StripPrefix,
    /// Answer with pages of the app's own.
    Pages,
    /// Answer every request with a page, for maintenance.
    Maintenance,
    /// HTTP/2 without TLS to targets.
    H2c,
    /// Ask targets for their health.
    ActiveHealth,
    /// Give targets requests in turn, whatever they have open.
    RoundRobin,
    /// Speak TLS with certificates of the table.
    Certificates,
    /// Answer the challenges of a certificate authority.
    Acme,
    /// Believe certain proxies about the address of a client.
    TrustedProxies,
    /// Bound the connections of one address.
    ConnectionCap,
    /// Take the deadline for a request's head from the table.
    HeadTimeout,
}

impl Ability {
    /// Every ability.
    pub const ALL: [Self; 20] = [
        Self::Weights,
        Self::Affinity,
        Self::Rules,
        Self::Preview,
        Self::Mirror,
        Self::Park,
        Self::WildcardHosts,
        Self::Redirect,
        Self::HttpsRedirect,
        Self::StripPrefix,
        Self::Pages,
        Self::Maintenance,
        Self::H2c,
        Self::ActiveHealth,
        Self::RoundRobin,
        Self::Certificates,
        Self::Acme,
        Self::TrustedProxies,
        Self::ConnectionCap,
        Self::HeadTimeout,
    ];
}

impl fmt::Display for Ability {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // The formatter is a serializer of unit variants: one name for both.
        self.serialize(f)
    }
}

/// Reads the abilities of a proxy and leaves out those of a newer one that this
/// program has no word for: no table of ours can need them.
pub(crate) fn known<'de, D: Deserializer<'de>>(from: D) -> Result<BTreeSet<Ability>, D::Error> {
    let names = Vec::<String>::deserialize(from)?;
    let known = names.iter().filter_map(|name| {
        let name: StrDeserializer<'_, Error> = name.as_str().into_deserializer();
        Ability::deserialize(name).ok()
    });
    Ok(known.collect())
}

/// How a part of the table tells what it needs: whether, what, and its place.
pub(super) type Need<'a> = dyn FnMut(bool, Ability, &str) + 'a;
