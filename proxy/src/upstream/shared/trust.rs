//! Whether a target keeps its connections of HTTP/2 under requests.
//!
//! A target that goes says so (GOAWAY), and what it has not looked at is sent again.
//! One that closes without a word loses what is open there and what is on its way,
//! and nobody knows how much of that it has done. Which kind a target is, is seen
//! by what it does with a connection after an answer:
//!
//! ```text
//!          enough answers on one connection, and it stands
//!  Unknown ──────────────────────────────────────────────▶ Trusted
//!     │          closed without a word       ▲                │
//!     └──────────────────────────▶ Wary ─────┘◀───────────────┘
//!                                      more of them each time
//! ```

use std::time::Duration;

use super::super::patience::KEPT_MIN;

/// Answers on one connection that show that the target keeps it, the first time. Who
/// closes by count does so after more, or is known by then.
const FIRST_WANTED: u32 = 16;

/// By how much more is wanted after each time that it was not so.
const MORE: u32 = 4;

/// What is wanted at most: at one answer in [`KEPT_MIN`], a connection shows it
/// within a minute.
const MOST_WANTED: u32 = 1024;

/// How a connection ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum End {
    /// By us, or the target has said before that it goes.
    Told,
    /// Without a word.
    Silent,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    Unknown,
    Trusted,
    Wary,
}

/// See the module.
#[derive(Debug)]
pub(super) struct Trust {
    state: State,
    wanted: u32,
}

impl Default for Trust {
    fn default() -> Self {
        Self {
            state: State::Unknown,
            wanted: FIRST_WANTED,
        }
    }
}

impl Trust {
    /// Whether requests may share connections.
    pub(super) fn is_whole(&self) -> bool {
        self.state == State::Trusted
    }

    /// Whether also what can be sent again needs a connection that is past the danger.
    pub(super) fn is_wary(&self) -> bool {
        self.state == State::Wary
    }

    /// Whether nothing was seen yet that is worth keeping.
    pub(super) fn is_blank(&self) -> bool {
        self.state == State::Unknown
    }

    /// A connection stands for [`KEPT_MIN`] after so many answers on it.
    pub(super) fn stood(&mut self, answers: u32) {
        if answers >= self.wanted {
            self.state = State::Trusted;
        }
    }

    /// The target closed a connection without a word that was open, or had been
    /// for less than [`KEPT_MIN`] not.
    pub(super) fn lost(&mut self) {
        self.state = State::Wary;
        self.wanted = self.wanted.saturating_mul(MORE).min(MOST_WANTED);
    }
}

/// Whether a connection without a request was closed so soon after an answer that the
/// next request would have been lost with it.
pub(super) fn is_sudden(age: Duration) -> bool {
    age < KEPT_MIN
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What was seen of a target: `Some` of a connection that stands after so many
    /// answers, `None` of one that was lost; and what it is taken for then.
    fn check(seen: &[Option<u32>], state: State) {
        let mut trust = Trust::default();
        for &one in seen {
            match one {
                Some(answers) => trust.stood(answers),
                None => trust.lost(),
            }
        }
        assert_eq!(trust.state, state, "{seen:?}");
    }

    #[test]
    fn a_target_that_loses_connections_has_more_to_show_each_time() {
        check(&[], State::Unknown);
        check(&[Some(15), Some(15)], State::Unknown);
        check(&[Some(16)], State::Trusted);
        check(&[None], State::Wary);
        check(&[None, Some(63)], State::Wary);
        check(&[None, Some(64)], State::Trusted);
        check(&[None, Some(64), None, Some(255)], State::Wary);
        check(&[None, Some(64), None, Some(256)], State::Trusted);
        check(&[None; 9], State::Wary);
        let often = [&[None; 9][..], &[Some(1024)]].concat();
        check(&often, State::Trusted);
    }
}
