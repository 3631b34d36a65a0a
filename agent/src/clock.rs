//! Time and chance, as arguments: the simulation has its own.

use std::sync::Arc;

use cutover_plan::id::DeployId;
use jiff::Timestamp;

/// Tells the time.
pub type Clock = Arc<dyn Fn() -> Timestamp + Send + Sync>;

/// Makes the id of a deploy that is accepted at a time.
pub type Ids = Arc<dyn Fn(Timestamp) -> DeployId + Send + Sync>;
