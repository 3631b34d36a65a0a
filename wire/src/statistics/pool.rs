//! The counts of one pool and of its targets.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::{Histogram, is_default};

/// The counts of one pool. Each request ends in exactly one of the five outcomes.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct PoolStatistics {
    /// Answers of the target below 400.
    pub succeeded: u64,
    /// Answers of the target from 400 to 499.
    pub client_errors: u64,
    /// Answers of the target of 500 and above.
    pub server_errors: u64,
    /// Requests that got no whole answer of the target: refused, reset, timed out.
    pub failed: u64,
    /// Requests whose client left first.
    pub abandoned: u64,
    /// Repeats of a request, by the rules that say when one may be sent again.
    pub retries: u64,
    /// Requests inside now, streams and tunnels not counted.
    pub requests_open: u64,
    /// Streamed answers (server-sent events) inside now.
    pub streams_open: u64,
    /// Upgraded connections (WebSocket) inside now.
    pub tunnels_open: u64,
    /// Time from the whole head of the request to the head of the answer.
    pub latency: Histogram,
    /// All these times together, in microseconds.
    #[serde(skip_serializing_if = "is_default")]
    pub latency_micros: u64,
    /// The targets of the pool in the table in force, by id.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub targets: BTreeMap<String, TargetStatistics>,
}

/// The counts of one target. Left out where nothing is to be told, because
/// there may be very many.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct TargetStatistics {
    /// Requests that were bound to it, repeats included.
    #[serde(skip_serializing_if = "is_default")]
    pub requests: u64,
    /// Connections to it that could not be made.
    #[serde(skip_serializing_if = "is_default")]
    pub connect_failures: u64,
    /// Requests inside now, streams and tunnels not counted.
    #[serde(skip_serializing_if = "is_default")]
    pub requests_open: u64,
    /// Streamed answers inside now.
    #[serde(skip_serializing_if = "is_default")]
    pub streams_open: u64,
    /// Upgraded connections inside now.
    #[serde(skip_serializing_if = "is_default")]
    pub tunnels_open: u64,
    /// Whether it is given no new request because it was told to drain.
    #[serde(skip_serializing_if = "is_default")]
    pub draining: bool,
    /// Whether it is passed over because it refused connections.
    #[serde(skip_serializing_if = "is_default")]
    pub ejected: bool,
    /// Whether it is passed over because it does not answer for its health.
    #[serde(skip_serializing_if = "is_default")]
    pub sick: bool,
}

impl PoolStatistics {
    /// Requests that ended, those of clients that left first not counted.
    pub fn finished(&self) -> u64 {
        [self.client_errors, self.server_errors, self.failed]
            .into_iter()
            .fold(self.succeeded, u64::saturating_add)
    }

    /// Adds the counts of another time; what is open now is the other's.
    pub fn merge(&mut self, later: &Self) {
        self.succeeded = self.succeeded.saturating_add(later.succeeded);
        self.client_errors = self.client_errors.saturating_add(later.client_errors);
        self.server_errors = self.server_errors.saturating_add(later.server_errors);
        self.failed = self.failed.saturating_add(later.failed);
        self.abandoned = self.abandoned.saturating_add(later.abandoned);
        self.retries = self.retries.saturating_add(later.retries);
        self.requests_open = later.requests_open;
        self.streams_open = later.streams_open;
        self.tunnels_open = later.tunnels_open;
        self.latency.merge(&later.latency);
        self.latency_micros = self.latency_micros.saturating_add(later.latency_micros);
        let before = std::mem::take(&mut self.targets);
        self.targets = later.targets.clone();
        for (id, earlier) in before {
            // Of a target that left only its totals stay.
            let target = self.targets.entry(id).or_default();
            target.add(&earlier);
        }
    }

    /// What was counted since `earlier`, which the same process must have told.
    pub fn since(&self, earlier: &Self) -> Self {
        let targets = self.targets.iter().map(|(id, target)| {
            let before = earlier.targets.get(id).copied().unwrap_or_default();
            (id.clone(), target.since(&before))
        });
        Self {
            succeeded: self.succeeded.saturating_sub(earlier.succeeded),
            client_errors: self.client_errors.saturating_sub(earlier.client_errors),
            server_errors: self.server_errors.saturating_sub(earlier.server_errors),
            failed: self.failed.saturating_sub(earlier.failed),
            abandoned: self.abandoned.saturating_sub(earlier.abandoned),
            retries: self.retries.saturating_sub(earlier.retries),
            requests_open: self.requests_open,
            streams_open: self.streams_open,
            tunnels_open: self.tunnels_open,
            latency: self.latency.since(&earlier.latency),
            latency_micros: self.latency_micros.saturating_sub(earlier.latency_micros),
            targets: targets.collect(),
        }
    }
}

impl TargetStatistics {
    /// Adds the totals of an earlier time; the moment's figures stay.
    fn add(&mut self, earlier: &Self) {
        self.requests = self.requests.saturating_add(earlier.requests);
        let failures = earlier.connect_failures;
        self.connect_failures = self.connect_failures.saturating_add(failures);
    }

    fn since(&self, earlier: &Self) -> Self {
        let failures = earlier.connect_failures;
        Self {
            requests: self.requests.saturating_sub(earlier.requests),
            connect_failures: self.connect_failures.saturating_sub(failures),
            ..*self
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A pool with one count, one latency and these targets: id, requests, open.
    fn pool(count: u64, targets: &[(&str, u64, u64)]) -> PoolStatistics {
        let mut pool = PoolStatistics {
            succeeded: count,
            latency_micros: count * 10,
            ..PoolStatistics::default()
        };
        for &(id, requests, requests_open) in targets {
            let target = TargetStatistics {
                requests,
                connect_failures: requests,
                requests_open,
                ..TargetStatistics::default()
            };
            pool.targets.insert(id.to_owned(), target);
        }
        pool
    }

    #[test]
    fn totals_are_added_and_what_is_open_is_the_laters() {
        let mut sum = pool(1, &[("left", 5, 2), ("stays", 3, 1)]);
        sum.merge(&pool(2, &[("stays", 4, 9), ("comes", 6, 3)]));
        let expected = [("left", 5, 0), ("stays", 7, 9), ("comes", 6, 3)];
        assert_eq!(sum, pool(3, &expected));
    }

    #[test]
    fn a_difference_has_the_totals_between_and_what_is_open_now() {
        let earlier = pool(1, &[("left", 5, 2), ("stays", 3, 1)]);
        let now = pool(4, &[("stays", 4, 9), ("comes", 6, 3)]);
        let expected = pool(3, &[("stays", 1, 9), ("comes", 6, 3)]);
        assert_eq!(now.since(&earlier), expected);
    }
}
