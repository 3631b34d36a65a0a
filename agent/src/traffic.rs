//! The seam to what switches traffic: what the engine of deploys asks of it.
//!
//! Two implementations exist: `cutover-proxy` over its socket
//! ([`crate::proxy`]) and the model of the simulation.

use std::future::Future;
use std::net::SocketAddr;
use std::time::Duration;

use cutover_plan::id::AppName;
use cutover_wire::proxy::{Cut, Drained, Status};
use cutover_wire::statistics::Statistics;
use cutover_wire::table::Table;

/// What routes the requests of users.
pub trait Traffic: Send + Sync + 'static {
    /// Who is there, and what it serves.
    fn status(&self) -> impl Future<Output = Result<Status, TrafficError>> + Send;

    /// The table in force.
    fn table(&self) -> impl Future<Output = Result<Table, TrafficError>> + Send;

    /// Puts a table in place of the generation `expected`. When this returns
    /// well, every new request follows the table.
    fn apply(
        &self,
        expected: u64,
        table: &Table,
    ) -> impl Future<Output = Result<(), TrafficError>> + Send;

    /// Waits until these targets hold no request, or the deadline passed. `cut`
    /// says when streams and tunnels are ended; none lets them be.
    fn drain(
        &self,
        app: &AppName,
        targets: &[String],
        deadline: Duration,
        cut: Option<Cut>,
    ) -> impl Future<Output = Result<Drained, TrafficError>> + Send;

    /// What was counted.
    fn statistics(&self) -> impl Future<Output = Result<Statistics, TrafficError>> + Send;

    /// Sends a request through the front door, as a user would, and tells
    /// which pool answered.
    fn knock(
        &self,
        door: SocketAddr,
        host: &str,
        path: &str,
    ) -> impl Future<Output = Result<Knock, TrafficError>> + Send;
}

/// The answer to a request through the front door.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Knock {
    /// Its status.
    pub status: u16,
    /// The pool that answered, if one did.
    pub pool: Option<String>,
}

/// Why the switch did not do it.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum TrafficError {
    /// It does not answer.
    #[error("the proxy does not answer: {0}")]
    Unavailable(String),
    /// Somebody changed the table in between: read it and decide anew.
    #[error("the table in force is generation {0}")]
    Generation(u64),
    /// It says no, and will say no again.
    #[error("the proxy refused: {0}")]
    Refused(String),
}
