//! What became of the requests of an app that was parked.

use serde::{Deserialize, Serialize};

use super::is_default;

/// The counts of the parked requests of one app. Each that was held leaves in
/// one of three ways; one that overflowed was never held.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct ParkStatistics {
    /// Requests that are held now.
    #[serde(skip_serializing_if = "is_default")]
    pub waiting: u64,
    /// Bytes of their bodies that are held now.
    #[serde(skip_serializing_if = "is_default")]
    pub bytes: u64,
    /// Requests that went on to a target.
    #[serde(skip_serializing_if = "is_default")]
    pub released: u64,
    /// Requests that found no place and were refused.
    #[serde(skip_serializing_if = "is_default")]
    pub overflowed: u64,
    /// Requests that were held too long and were refused.
    #[serde(skip_serializing_if = "is_default")]
    pub timed_out: u64,
    /// Requests whose client left while they were held.
    #[serde(skip_serializing_if = "is_default")]
    pub left: u64,
}

impl ParkStatistics {
    /// Adds the counts of another time; what is held now is the other's.
    pub fn merge(&mut self, later: &Self) {
        self.waiting = later.waiting;
        self.bytes = later.bytes;
        self.released = self.released.saturating_add(later.released);
        self.overflowed = self.overflowed.saturating_add(later.overflowed);
        self.timed_out = self.timed_out.saturating_add(later.timed_out);
        self.left = self.left.saturating_add(later.left);
    }

    /// What was counted since `earlier`, which the same process must have told.
    pub fn since(&self, earlier: &Self) -> Self {
        Self {
            waiting: self.waiting,
            bytes: self.bytes,
            released: self.released.saturating_sub(earlier.released),
            overflowed: self.overflowed.saturating_sub(earlier.overflowed),
            timed_out: self.timed_out.saturating_sub(earlier.timed_out),
            left: self.left.saturating_sub(earlier.left),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn counted(waiting: u64, total: u64) -> ParkStatistics {
        ParkStatistics {
            waiting,
            bytes: waiting * 100,
            released: total,
            overflowed: total + 1,
            timed_out: total + 2,
            left: total + 3,
        }
    }

    #[test]
    fn a_difference_and_what_was_before_make_the_whole() {
        let (earlier, now) = (counted(9, 10), counted(4, 25));
        let between = now.since(&earlier);
        assert_eq!((between.waiting, between.released), (4, 15));
        let mut sum = earlier;
        sum.merge(&between);
        assert_eq!(sum, now);
    }
}
