//! The counts of the process that belong to no pool.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::{MirrorStatistics, ParkStatistics, is_default};

/// See the module.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct ProxyStatistics {
    /// The generation of the table in force.
    #[serde(skip_serializing_if = "is_default")]
    pub generation: u64,
    /// How long it took, when this table was put in force, until every worker routed
    /// by it; 0 for a table from before the process.
    #[serde(skip_serializing_if = "is_default")]
    pub swap_micros: u64,
    /// How long the process has run.
    #[serde(skip_serializing_if = "is_default")]
    pub uptime_ms: u64,
    /// Client connections that are open now.
    #[serde(skip_serializing_if = "is_default")]
    pub connections_open: u64,
    /// Client connections that were taken.
    #[serde(skip_serializing_if = "is_default")]
    pub connections_accepted: u64,
    /// Client connections that were closed at once because their address had too many.
    #[serde(skip_serializing_if = "is_default")]
    pub connections_refused: u64,
    /// Client connections that did not come to speak TLS.
    #[serde(skip_serializing_if = "is_default")]
    pub handshakes_failed: u64,
    /// Requests that were refused for their form, by the kind of the fault.
    /// A reader must bear kinds that it does not know.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub refused: BTreeMap<String, u64>,
    /// Requests that no app takes.
    #[serde(skip_serializing_if = "is_default")]
    pub unrouted: u64,
    /// Requests of an app that none of its targets could take.
    #[serde(skip_serializing_if = "is_default")]
    pub unserved: u64,
    /// Repeats of requests, all apps together, also of those that are gone.
    #[serde(skip_serializing_if = "is_default")]
    pub retries: u64,
    /// Lines of the access log that were not written.
    #[serde(skip_serializing_if = "is_default")]
    pub log_lines_dropped: u64,
    /// What became of parked requests, by app.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub parks: BTreeMap<String, ParkStatistics>,
    /// How copies compare with their requests, by app.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub mirrors: BTreeMap<String, MirrorStatistics>,
    /// When the certificate of each name expires, in seconds since 1970.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub certificates: BTreeMap<String, i64>,
}
