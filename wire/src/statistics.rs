//! What the proxy counted since it started: per pool and target, and as a whole.
//!
//! Totals only grow, so a reader takes differences; they begin at zero
//! with each proxy process, whose `instance` tells a reader to begin anew.
//! What is said to be open, waiting or so is a moment's figure.
//!
//! Both ends may be older than the other: what a proxy does not tell is read as
//! nothing counted, and what a reader does not know it passes over.

mod histogram;
mod mirror;
mod park;
mod pool;
mod proxy;

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

pub use histogram::Histogram;
pub use mirror::MirrorStatistics;
pub use park::ParkStatistics;
pub use pool::{PoolStatistics, TargetStatistics};
pub use proxy::ProxyStatistics;

/// All counts of one proxy process.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Statistics {
    /// The process that counted; see [`crate::proxy::Status::instance`].
    pub instance: String,
    /// The counts of each pool, by app and pool name.
    pub apps: BTreeMap<String, BTreeMap<String, PoolStatistics>>,
    /// What belongs to no pool.
    #[serde(default, skip_serializing_if = "is_default")]
    pub proxy: ProxyStatistics,
}

impl Statistics {
    /// Leaves the targets out, of which there may be more than fit in a frame;
    /// their pools tell the same requests.
    pub fn leave_out_targets(&mut self) {
        for pool in self.apps.values_mut().flat_map(BTreeMap::values_mut) {
            pool.targets.clear();
        }
    }
}

/// Whether nothing was counted, which need not be told.
fn is_default<T: Default + PartialEq>(part: &T) -> bool {
    *part == T::default()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn full() -> Statistics {
        let target = TargetStatistics {
            requests: 7,
            draining: true,
            ..TargetStatistics::default()
        };
        let pool = PoolStatistics {
            succeeded: 5,
            latency_micros: 12,
            targets: BTreeMap::from([("v1-0".to_owned(), target)]),
            ..PoolStatistics::default()
        };
        let proxy = ProxyStatistics {
            generation: 3,
            refused: BTreeMap::from([("host".to_owned(), 1)]),
            parks: BTreeMap::from([("shop".to_owned(), ParkStatistics::default())]),
            mirrors: BTreeMap::from([("shop".to_owned(), MirrorStatistics::default())]),
            ..ProxyStatistics::default()
        };
        Statistics {
            instance: "a".to_owned(),
            apps: BTreeMap::from([("shop".to_owned(), BTreeMap::from([("v1".to_owned(), pool)]))]),
            proxy,
        }
    }

    #[test]
    fn counts_read_back() {
        let json = serde_json::to_vec(&full()).unwrap();
        assert_eq!(serde_json::from_slice::<Statistics>(&json).unwrap(), full());
    }

    #[test]
    fn counts_of_an_older_proxy_are_read() {
        let json = r#"{"instance":"a","apps":{"shop":{"v1":{"succeeded":5,"client_errors":0,"server_errors":0,"failed":0,"abandoned":0,"retries":0,"requests_open":0,"streams_open":0,"tunnels_open":0,"latency":{"3":5}}}}}"#;
        let told: Statistics = serde_json::from_str(json).unwrap();
        assert_eq!(told.apps["shop"]["v1"].succeeded, 5);
        assert_eq!(told.proxy, ProxyStatistics::default());
        // And what is told where nothing new was counted is what was told then.
        assert_eq!(serde_json::to_string(&told).unwrap(), json);
    }

    #[test]
    fn counts_of_a_newer_proxy_are_read_without_what_is_not_known() {
        let mut json = serde_json::to_value(full()).unwrap();
        let unknown = serde_json::json!({"levitated": 1});
        for place in [
            "",
            "/apps/shop/v1",
            "/apps/shop/v1/targets/v1-0",
            "/proxy",
            "/proxy/parks/shop",
            "/proxy/mirrors/shop",
        ] {
            json.pointer_mut(place).unwrap()["later"] = unknown.clone();
        }
        assert_eq!(serde_json::from_value::<Statistics>(json).unwrap(), full());
    }

    #[test]
    fn without_targets_the_pools_stay() {
        let mut told = full();
        told.leave_out_targets();
        let pool = &told.apps["shop"]["v1"];
        assert_eq!((pool.succeeded, pool.targets.len()), (5, 0));
    }
}
