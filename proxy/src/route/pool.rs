//! The targets of one release, as requests are given to them.

use std::sync::Arc;

use cutover_wire::table::{Balance, Protocol};
use http::HeaderValue;

use crate::counters::Counters;
use crate::target::Target;

/// See the module.
#[derive(Debug)]
pub(crate) struct Pool {
    /// Its name as a probe is told it; none where it does not fit in a header.
    pub(crate) name: Option<HeaderValue>,
    /// Where requests may go.
    pub(crate) targets: Vec<Arc<Target>>,
    /// What is counted of them.
    pub(crate) counters: Arc<Counters>,
    /// How the targets share the requests.
    pub(crate) balance: Balance,
    /// What is spoken to the targets.
    pub(crate) protocol: Protocol,
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;

    /// A pool with so many targets that nobody listens at.
    pub(in crate::route) fn pool(name: &str, targets: u16) -> Pool {
        let target = |n: u16| {
            let address = std::net::SocketAddr::from(([127, 0, 0, 1], 1 + n));
            Arc::new(Target::new(n.into(), address, 1))
        };
        Pool {
            name: HeaderValue::from_str(name).ok(),
            targets: (0..targets).map(target).collect(),
            counters: Arc::new(Counters::new(1)),
            balance: Balance::default(),
            protocol: Protocol::default(),
        }
    }
}
