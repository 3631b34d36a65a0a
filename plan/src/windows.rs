//! When a deploy may begin: spans of local time that allow or deny it.
//!
//! It is open when an allow span holds the time, or there is none at all, and
//! no deny span does; deny wins. The caller asks when a deploy is called for and
//! before each move of its users. Rollbacks are exempt, and a person may
//! override; both are the caller's, who also records it. Nothing here knows of
//! either.
//!
//! ```text
//!  allow  ──────[■■■■■■■■■■■■■■)──────[■■■■■■■■■■)──
//!  deny   ──[■■■■■■)───────────────[■■■■■)──────────
//!  open   ─────────[■■■■■■■■■■■)─────────[■■■■■■■)──
//! ```
//!
//! # What the clock on the wall shows decides
//!
//! A span holds a moment if the date and time that a clock in the zone shows
//! then lie in it; its end is outside. Nothing else is looked at, so that a
//! person can check a span by looking at a clock. Of this follows:
//!
//! * **The clock jumps ahead.** Times that it never shows hold nothing. A span
//!   that begins among them begins right after the jump, one that ends among
//!   them ends at the jump, and one that lies among them whole is left out
//!   that day. A day that a zone left out altogether, as Apia did with
//!   2011-12-30, is never there; the hours past midnight of a span that would
//!   have begun on it still are.
//! * **The clock jumps back.** Times that it shows twice are in the span both
//!   times. A span over the whole repeated hour is that much longer. One that
//!   begins within it stops at the jump and begins again when the clock shows
//!   its beginning again; one that ends within it comes back at the jump, until
//!   the clock shows its end again.
//!
//! A span past midnight belongs to the day on which it begins: `fri 22:00-02:00`
//! holds Saturday 01:00 and not Friday 01:00.
//!
//! The rules of the zones are those that the program was built with: the
//! host's files and `TZ` are not looked at, so one spec means one thing.

mod reading;
mod span;
mod timezone;

use std::fmt;

use jiff::{SignedDuration, Timestamp};

use reading::Reading;

pub use span::{ParseSpanError, Span};
pub use timezone::Timezone;

/// How far ahead the next opening is looked for: past every yearly freeze and
/// every clock change, while the work stays bounded however far off dates are.
pub const HORIZON: SignedDuration = SignedDuration::from_hours(400 * 24);

/// How many allow spans a refusal names: as many as fit a line.
const NAMED: usize = 3;

/// When deploys of an app may begin; the default is always.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Windows {
    timezone: Timezone,
    allow: Vec<Span>,
    deny: Vec<Span>,
}

/// That no deploy may begin now.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Closed {
    /// What closes them, in words that follow `closed`: the span as it is written, and the zone.
    pub because: String,
    /// The first moment at which they are open; none within [`HORIZON`].
    pub next_open: Option<Timestamp>,
    timezone: Timezone,
}

impl Windows {
    /// Spans in the time of a zone; without allow spans, it is open unless denied.
    pub fn new(timezone: Timezone, allow: Vec<Span>, deny: Vec<Span>) -> Self {
        Self {
            timezone,
            allow,
            deny,
        }
    }

    /// Whether a deploy may begin now.
    pub fn judge(&self, now: Timestamp) -> Result<(), Closed> {
        let at = Reading::of(now, self.timezone.offset(now));
        let Some(because) = self.closed_by(at) else {
            return Ok(());
        };
        Err(Closed {
            because,
            next_open: self.next_open(now),
            timezone: self.timezone.clone(),
        })
    }

    /// The first moment from now on at which a deploy may begin: now itself when it is open,
    /// none when there is none within [`HORIZON`].
    pub fn next_open(&self, now: Timestamp) -> Option<Timestamp> {
        let horizon = now.saturating_add(HORIZON).unwrap_or(Timestamp::MAX);
        let mut changes = self.timezone.changes(now);
        let mut from = now;
        loop {
            // Up to its next change the clock runs evenly, so it can be asked what it shows.
            let until = changes.next().unwrap_or(horizon).min(horizon);
            let offset = self.timezone.offset(from);
            let shown = Reading::of(from, offset);
            match self.first_open(shown, Reading::of(until, offset)) {
                Some(open) if open == shown => return Some(from),
                Some(open) => return open.moment(offset),
                None if until == horizon => return None,
                None => from = until,
            }
        }
    }

    /// Whether any date and time is open, be it long ago: what is not can only be a mistake.
    ///
    /// Between the edges of dates the week repeats itself, so one week from each edge shows all
    /// that there is, and one without any date shows what was before the first.
    pub fn ever_open(&self) -> bool {
        let spans = || self.allow.iter().chain(&self.deny);
        let edges: Vec<Reading> = spans().flat_map(Span::edges).collect();
        // The last edge is the end of the last date: after it, as before all, there is the week alone.
        let from = match edges.is_empty() {
            true => vec![Reading::START],
            false => edges,
        };
        let opens = |from: &Reading| self.first_open(*from, from.a_week_later()).is_some();
        from.iter().any(opens)
    }

    /// The first open reading of a clock that runs evenly, from one reading to before another.
    fn first_open(&self, from: Reading, until: Reading) -> Option<Reading> {
        let mut at = from;
        // One reading that is open is asked for even where there is no time between the two.
        loop {
            match self.closed_until(at) {
                None => return Some(at),
                Some(next) if next < until => at = next,
                Some(_) => return None,
            }
        }
    }

    /// None when it is open; else a later reading, before which it is not.
    fn closed_until(&self, at: Reading) -> Option<Reading> {
        let denied = self.deny.iter().filter_map(|span| span.end_at(at)).max();
        if denied.is_some() || self.is_allowed(at) {
            return denied;
        }
        let next = self.allow.iter().filter_map(|span| span.begin_after(at));
        Some(next.min().unwrap_or(Reading::NEVER))
    }

    fn is_allowed(&self, at: Reading) -> bool {
        self.allow.is_empty() || self.allow.iter().any(|span| span.end_at(at).is_some())
    }

    /// What closes it, with the spans as they are written.
    fn closed_by(&self, at: Reading) -> Option<String> {
        let zone = &self.timezone;
        let denied = self.deny.iter().find(|span| span.end_at(at).is_some());
        if let Some(span) = denied {
            return Some(format!("by deny \"{span}\" ({zone})"));
        }
        if self.is_allowed(at) {
            return None;
        }
        let named = self.allow.iter().take(NAMED);
        let named: Vec<String> = named.map(|span| format!("\"{span}\"")).collect();
        let more = match self.allow.len().saturating_sub(NAMED) {
            0 => String::new(),
            more => format!(" and {more} more"),
        };
        Some(format!("outside allow {}{more} ({zone})", named.join(", ")))
    }
}

impl fmt::Display for Closed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "deploys are closed {}; ", self.because)?;
        match self.next_open {
            Some(open) => write!(f, "they open on {}", self.timezone.show(open)),
            None => {
                let days = HORIZON.as_hours() / 24;
                write!(f, "they do not open within {days} days")
            }
        }
    }
}

impl std::error::Error for Closed {}

#[cfg(test)]
mod tests;
