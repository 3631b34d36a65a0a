//! Mistakes in a table, told with their place and bounded in number and length.

use std::fmt;

use serde::{Deserialize, Serialize};

/// Mistakes that are told: nobody reads more, and an answer must fit in a frame.
const MAX_PROBLEMS: usize = 100;

/// Characters of a wrong text that are repeated.
const MAX_SHOWN: usize = 80;

/// One mistake in a table, with the place where it is.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct TableProblem {
    /// The place, for example `apps.shop.pools.v2`.
    pub place: String,
    /// What is wrong there.
    pub fault: String,
}

impl fmt::Display for TableProblem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.place, self.fault)
    }
}

/// The mistakes that were found so far.
#[derive(Debug, Default)]
pub(super) struct Faults {
    found: Vec<TableProblem>,
    more: usize,
}

impl Faults {
    pub(super) fn add(&mut self, place: &str, fault: impl Into<String>) {
        if self.found.len() >= MAX_PROBLEMS {
            self.more += 1;
            return;
        }
        let (place, fault) = (place.to_owned(), fault.into());
        self.found.push(TableProblem { place, fault });
    }

    /// A number of things has an upper limit.
    pub(super) fn at_most(&mut self, place: &str, things: &str, count: usize, limit: usize) {
        if count > limit {
            self.add(place, format!("{count} {things}, at most {limit}"));
        }
    }

    /// A number of things has a range.
    pub(super) fn within<N>(&mut self, place: &str, value: N, least: N, most: N)
    where
        N: PartialOrd + fmt::Display,
    {
        if value < least || value > most {
            self.add(place, format!("{value} must be {least} to {most}"));
        }
    }

    pub(super) fn into_problems(mut self) -> Vec<TableProblem> {
        if self.more > 0 {
            self.found.push(TableProblem {
                place: "table".to_owned(),
                fault: format!("{} more mistakes", self.more),
            });
        }
        self.found
    }
}

/// A text as it is repeated in a mistake: without control characters, cut where it is long.
pub(super) fn shown(text: &str) -> String {
    let plain = |c: char| if c.is_control() { '\u{FFFD}' } else { c };
    let mut shown: String = text.chars().take(MAX_SHOWN).map(plain).collect();
    if text.chars().nth(MAX_SHOWN).is_some() {
        shown.push('…');
    }
    shown
}

/// Whether a text can be the name of a header field or a cookie (RFC 9110, token).
pub(super) fn is_token(text: &str) -> bool {
    let letter = |b: u8| b.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&b);
    !text.is_empty() && text.len() <= super::MAX_NAME && text.bytes().all(letter)
}

/// Whether a text is a SHA-256 digest as 64 lower-case hexadecimal digits.
pub(super) fn is_digest(text: &str) -> bool {
    let hex = |b: u8| b.is_ascii_digit() || (b'a'..=b'f').contains(&b);
    text.len() == 64 && text.bytes().all(hex)
}
