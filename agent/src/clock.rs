//! Time and chance, as arguments: the simulation has its own.

use std::sync::Arc;

use cutover_plan::id::DeployId;
use jiff::Timestamp;
use tokio::time::Instant;

/// Tells the time.
pub type Clock = Arc<dyn Fn() -> Timestamp + Send + Sync>;

/// Makes the id of a deploy that is accepted at a time.
pub type Ids = Arc<dyn Fn(Timestamp) -> DeployId + Send + Sync>;

/// A clock that shows what this one shows now, and from then on only what has
/// passed: whoever sets the host's clock makes nothing last longer or shorter.
pub(crate) fn measured(clock: &Clock) -> Clock {
    let (time, begun) = (clock(), Instant::now());
    Arc::new(move || time.checked_add(begun.elapsed()).unwrap_or(Timestamp::MAX))
}
