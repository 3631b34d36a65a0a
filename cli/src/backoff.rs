//! How long to wait before the next attempt.

use std::time::Duration;

/// The first pause: a restarting agent is back within a second.
const FIRST: Duration = Duration::from_millis(250);
/// The longest pause, so that an agent that came back is found soon.
const LONGEST: Duration = Duration::from_secs(8);

/// Pauses that double.
#[derive(Debug)]
pub(crate) struct Backoff {
    next: Duration,
}

impl Backoff {
    /// Begins with the shortest pause.
    pub(crate) fn new() -> Self {
        Self { next: FIRST }
    }

    /// The pause before the next attempt.
    pub(crate) fn pause(&mut self) -> Duration {
        let pause = self.next;
        self.next = LONGEST.min(pause * 2);
        pause
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pauses_double_up_to_the_longest() {
        let mut backoff = Backoff::new();
        let pauses: Vec<_> = (0..7).map(|_| backoff.pause().as_millis()).collect();
        assert_eq!(pauses, [250, 500, 1_000, 2_000, 4_000, 8_000, 8_000]);
    }
}
