//! A span of local time as a person writes it: days of the week, times of the day, dates.
//!
//! ```text
//! [days] [time-time]    mon-thu 09:00-17:00 · sat,sun · 12:00-13:00
//! date[ time][..date[ time]]    2027-01-01 · 2026-12-24..2026-12-26 · 2026-12-24 18:00..2026-12-27 06:00
//! ```

use std::fmt;

use jiff::civil::Date;

use super::reading::{DAY_MINUTES, Day, Reading};

/// Why a text is not the span or the zone it was meant to be.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{fault}")]
pub struct ParseSpanError {
    /// What is wrong with it.
    pub fault: &'static str,
    /// What would be right.
    pub hint: String,
}

/// A span of local time, with the text it was read from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Span {
    text: String,
    form: Form,
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum Form {
    /// On each of the days from a minute on, for at most a day.
    Weekly { days: [bool; 7], time: Time },
    /// Once, from one reading to before another.
    Once { begin: Reading, end: Reading },
}

/// A part of a day, or of two days with the midnight between them.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Time {
    begin: u16,
    /// After the beginning by at most a day.
    end: u16,
}

const WHOLE_DAY: Time = Time {
    begin: 0,
    end: DAY_MINUTES,
};

const EVERY_DAY: [bool; 7] = [true; 7];

const WEEKDAYS: [&str; 7] = ["mon", "tue", "wed", "thu", "fri", "sat", "sun"];

impl Span {
    /// Reads a span in one of its forms; the end is outside, but a date at the end is the whole day.
    ///
    /// An end that is not after its beginning is one of the next day, and days run on over Sunday.
    pub fn parse(text: &str) -> Result<Self, ParseSpanError> {
        let form = match () {
            () if text.contains("..") || text.as_bytes().get(4) == Some(&b'-') => once(text)?,
            () if text.starts_with(|c: char| c.is_ascii_digit()) => Form::Weekly {
                days: EVERY_DAY,
                time: time(text)?,
            },
            () => weekly(text)?,
        };
        let text = text.to_owned();
        Ok(Self { text, form })
    }

    /// When it ends, if it holds a reading; always later than that.
    pub(super) fn end_at(&self, at: Reading) -> Option<Reading> {
        match &self.form {
            Form::Once { begin, end } => (*begin <= at && at < *end).then_some(*end),
            Form::Weekly { days, time } => {
                let end = |day: Day| {
                    let holds = days[day.weekday()]
                        && Reading::at(day, time.begin) <= at
                        && at < Reading::at(day, time.end);
                    holds.then(|| Reading::at(day, time.end))
                };
                // What began yesterday may last past midnight, but not past what began today.
                let today = at.day();
                end(today).or_else(|| end(today.plus(-1)))
            }
        }
    }

    /// When it begins next, after a reading.
    pub(super) fn begin_after(&self, at: Reading) -> Option<Reading> {
        match &self.form {
            Form::Once { begin, .. } => (*begin > at).then_some(*begin),
            Form::Weekly { days, time } => {
                let today = at.day();
                let ahead = (0..=7).map(|days| today.plus(days));
                ahead
                    .filter(|day| days[day.weekday()])
                    .map(|day| Reading::at(day, time.begin))
                    .find(|begin| *begin > at)
            }
        }
    }

    /// The readings at which a span that does not repeat begins and ends.
    pub(super) fn edges(&self) -> Vec<Reading> {
        match self.form {
            Form::Once { begin, end } => vec![begin, end],
            Form::Weekly { .. } => Vec::new(),
        }
    }
}

impl fmt::Display for Span {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

fn refuse<T>(fault: &'static str, hint: impl Into<String>) -> Result<T, ParseSpanError> {
    let hint = hint.into();
    Err(ParseSpanError { fault, hint })
}

/// `DAYS` or `DAYS HH:MM-HH:MM`.
fn weekly(text: &str) -> Result<Form, ParseSpanError> {
    let (list, time) = match text.split_once(' ') {
        Some((list, text)) => (list, time(text)?),
        None => (text, WHOLE_DAY),
    };
    let mut days = [false; 7];
    for part in list.split(',') {
        let (first, last) = match part.split_once('-') {
            Some((first, last)) => (weekday(first)?, weekday(last)?),
            None => (weekday(part)?, weekday(part)?),
        };
        if first == last && part.contains('-') {
            let hint = format!("write \"{}\" for the one day", WEEKDAYS[first]);
            return refuse("goes from a day to the same day", hint);
        }
        let count = (last + 7 - first) % 7;
        for day in (first..=first + count).map(|day| day % 7) {
            if std::mem::replace(&mut days[day], true) {
                return refuse("names a day twice", format!("name {} once", WEEKDAYS[day]));
            }
        }
    }
    Ok(Form::Weekly { days, time })
}

fn weekday(text: &str) -> Result<usize, ParseSpanError> {
    if let Some(day) = WEEKDAYS.iter().position(|name| *name == text) {
        return Ok(day);
    }
    let meant = text.get(..3).map(str::to_ascii_lowercase);
    let meant = meant.filter(|meant| WEEKDAYS.contains(&meant.as_str()));
    let (fault, hint) = match meant {
        Some(meant) => ("writes a day otherwise", format!("write {meant}")),
        None => (
            "is not a span of time",
            "write \"fri 17:00-24:00\", \"12:00-13:00\" or \"2026-12-24..2026-12-26\"".to_owned(),
        ),
    };
    refuse(fault, hint)
}

/// `HH:MM-HH:MM`.
fn time(text: &str) -> Result<Time, ParseSpanError> {
    let Some((begin, end)) = text.split_once('-') else {
        return refuse("has no time at which it ends", "write \"17:00-24:00\"");
    };
    let (begin, end) = (begin_minute(begin)?, minute(end)?);
    let end = match end > begin {
        true => end,
        false => end + DAY_MINUTES,
    };
    Ok(Time { begin, end })
}

/// A minute of a day that is not the end of the day.
fn begin_minute(text: &str) -> Result<u16, ParseSpanError> {
    match minute(text)? {
        DAY_MINUTES => refuse(
            "begins at the end of a day",
            "begin at 00:00 of the next day",
        ),
        minute => Ok(minute),
    }
}

/// `HH:MM`, from `00:00` to `24:00`.
fn minute(text: &str) -> Result<u16, ParseSpanError> {
    let number = |text: &str| match text.len() == 2 && text.bytes().all(|b| b.is_ascii_digit()) {
        true => text.parse::<u16>().ok(),
        false => None,
    };
    let parts = text.split_once(':');
    match parts.and_then(|(hour, minute)| Some((number(hour)?, number(minute)?))) {
        Some((hour, minute)) if hour * 60 + minute <= DAY_MINUTES && minute < 60 => {
            Ok(hour * 60 + minute)
        }
        Some(_) => refuse("names no time of a day", "write one from 00:00 to 24:00"),
        None => refuse("has a time that is not HH:MM", "write \"09:00-17:00\""),
    }
}

/// `DATE`, or from one to another, each with a time or without.
fn once(text: &str) -> Result<Form, ParseSpanError> {
    let (first, last) = match text.split_once("..") {
        Some(parts) => parts,
        None if text.contains(' ') => {
            let hint = "write \"2026-12-24 18:00..2026-12-24 22:00\"";
            return refuse("has a date and a time, and no date at which it ends", hint);
        }
        None => (text, text),
    };
    let begin = match first.split_once(' ') {
        Some((date, time)) => Reading::at(day(date)?, begin_minute(time)?),
        None => Reading::at(day(first)?, 0),
    };
    let end = match last.split_once(' ') {
        Some((date, time)) => Reading::at(day(date)?, minute(time)?),
        None => Reading::at(day(last)?, DAY_MINUTES),
    };
    match begin < end {
        true => Ok(Form::Once { begin, end }),
        false => refuse("ends before it has begun", "write the earlier date first"),
    }
}

/// `YYYY-MM-DD`.
fn day(text: &str) -> Result<Day, ParseSpanError> {
    let number = |at: std::ops::Range<usize>| {
        let digits = text
            .get(at)
            .filter(|t| t.bytes().all(|b| b.is_ascii_digit()));
        digits.and_then(|digits| digits.parse::<i16>().ok())
    };
    let dashed = text.len() == 10 && text.get(4..5) == Some("-") && text.get(7..8) == Some("-");
    let parts = (number(0..4), number(5..7), number(8..10));
    let (true, (Some(year), Some(month), Some(day))) = (dashed, parts) else {
        let hint = "write \"2026-12-24\" or \"2026-12-24..2026-12-26\"";
        return refuse("has a date that is not YYYY-MM-DD", hint);
    };
    // Two digits fit.
    let date = Date::new(year, month as i8, day as i8);
    match date {
        Ok(date) => Ok(Day::of(date)),
        Err(_) => refuse(
            "has a date that is in no calendar",
            "look up the days of the month",
        ),
    }
}
