//! How the copies of an app's requests compare with the requests themselves.

use serde::{Deserialize, Serialize};

use super::{Histogram, is_default};

/// The counts of the copies of one app. A copy that was made is compared when
/// both it and its request were answered, and has failed when it was not.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct MirrorStatistics {
    /// Copies that were sent.
    #[serde(skip_serializing_if = "is_default")]
    pub copied: u64,
    /// Copies that were not made, for want of a place in the queue.
    #[serde(skip_serializing_if = "is_default")]
    pub dropped: u64,
    /// Copies that were sent and got no whole answer.
    #[serde(skip_serializing_if = "is_default")]
    pub failed: u64,
    /// Copies whose answer had the status of the request's.
    #[serde(skip_serializing_if = "is_default")]
    pub same_status: u64,
    /// Copies whose answer had another status.
    #[serde(skip_serializing_if = "is_default")]
    pub other_status: u64,
    /// Copies whose answer had a status of 500 or above.
    #[serde(skip_serializing_if = "is_default")]
    pub server_errors: u64,
    /// The same of the requests that they are copies of.
    #[serde(skip_serializing_if = "is_default")]
    pub primary_server_errors: u64,
    /// Copies whose answer had the body of the request's, where bodies are compared.
    #[serde(skip_serializing_if = "is_default")]
    pub same_body: u64,
    /// Copies whose answer had another body.
    #[serde(skip_serializing_if = "is_default")]
    pub other_body: u64,
    /// Time to the head of the answer to the copies that were compared.
    #[serde(skip_serializing_if = "is_default")]
    pub latency: Histogram,
    /// All these times together, in microseconds.
    #[serde(skip_serializing_if = "is_default")]
    pub latency_micros: u64,
    /// The same of the requests that they are copies of.
    #[serde(skip_serializing_if = "is_default")]
    pub primary_latency: Histogram,
    /// All these times together, in microseconds.
    #[serde(skip_serializing_if = "is_default")]
    pub primary_latency_micros: u64,
}

impl MirrorStatistics {
    /// Copies whose answer could be compared.
    pub fn compared(&self) -> u64 {
        self.same_status.saturating_add(self.other_status)
    }

    /// Adds the counts of another time.
    pub fn merge(&mut self, later: &Self) {
        self.latency.merge(&later.latency);
        self.primary_latency.merge(&later.primary_latency);
        let mut theirs = later.clone();
        for (sum, count) in self.totals().into_iter().zip(theirs.totals()) {
            *sum = sum.saturating_add(*count);
        }
    }

    /// What was counted since `earlier`, which the same process must have told.
    pub fn since(&self, earlier: &Self) -> Self {
        let mut difference = self.clone();
        difference.latency = self.latency.since(&earlier.latency);
        difference.primary_latency = self.primary_latency.since(&earlier.primary_latency);
        let mut before = earlier.clone();
        for (count, before) in difference.totals().into_iter().zip(before.totals()) {
            *count = count.saturating_sub(*before);
        }
        difference
    }

    fn totals(&mut self) -> [&mut u64; 11] {
        [
            &mut self.copied,
            &mut self.dropped,
            &mut self.failed,
            &mut self.same_status,
            &mut self.other_status,
            &mut self.server_errors,
            &mut self.primary_server_errors,
            &mut self.same_body,
            &mut self.other_body,
            &mut self.latency_micros,
            &mut self.primary_latency_micros,
        ]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn counted(total: u64) -> MirrorStatistics {
        let mut counted = MirrorStatistics::default();
        for (add, count) in (0..).zip(counted.totals()) {
            *count = total + add;
        }
        counted.latency.add(3, total);
        counted.primary_latency.add(4, total);
        counted
    }

    #[test]
    fn a_difference_and_what_was_before_make_the_whole() {
        let (earlier, now) = (counted(10), counted(25));
        let between = now.since(&earlier);
        assert_eq!((between.copied, between.compared()), (15, 30));
        assert_eq!(between.primary_latency.count(), 15);
        let mut sum = earlier;
        sum.merge(&between);
        assert_eq!(sum, now);
    }
}
