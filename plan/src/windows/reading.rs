//! What a clock shows, as a number that can be counted with.

use jiff::Timestamp;
use jiff::civil::Date;
use jiff::tz::Offset;

/// Seconds of a minute.
const MINUTE: i64 = 60;
/// Seconds that a clock counts through in a day; a jump of it counts for nothing here.
const DAY: i64 = 24 * 60 * MINUTE;

/// Minutes that a clock counts through in a day.
pub(super) const DAY_MINUTES: u16 = 24 * 60;

/// The date and time that a clock shows, in seconds since it showed 1970-01-01 00:00.
///
/// It knows no zone: two moments can have one reading, and a reading need not have a moment.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Reading(i64);

impl Reading {
    /// As good as any.
    pub(super) const START: Self = Self(0);
    /// Later than any that a clock will show.
    pub(super) const NEVER: Self = Self(i64::MAX);

    /// What a clock at an offset shows, in whole seconds.
    pub(super) fn of(moment: Timestamp, offset: Offset) -> Self {
        // Before 1970 a part of a second counts down from the next one.
        let broken = i64::from(moment.subsec_nanosecond() < 0);
        Self(moment.as_second() - broken + i64::from(offset.seconds()))
    }

    /// When a clock at an offset shows this; none past the end of all time.
    pub(super) fn moment(self, offset: Offset) -> Option<Timestamp> {
        Timestamp::from_second(self.0 - i64::from(offset.seconds())).ok()
    }

    /// A minute of a day; it may be one of the next day's.
    pub(super) fn at(day: Day, minute: u16) -> Self {
        Self(day.0 * DAY + i64::from(minute) * MINUTE)
    }

    pub(super) fn day(self) -> Day {
        Day(self.0.div_euclid(DAY))
    }

    pub(super) fn a_week_later(self) -> Self {
        Self(self.0 + 7 * DAY)
    }
}

/// A day of the calendar, counted from 1970-01-01.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Day(i64);

impl Day {
    /// The day of a date.
    pub(super) fn of(date: Date) -> Self {
        let since = date.duration_since(Date::constant(1970, 1, 1));
        Self(since.as_secs() / DAY)
    }

    pub(super) fn plus(self, days: i64) -> Self {
        Self(self.0 + days)
    }

    /// Its place in the week, Monday being 0.
    pub(super) fn weekday(self) -> usize {
        // 1970-01-01 was a Thursday.
        usize::from((self.0 + 3).rem_euclid(7).unsigned_abs() as u8)
    }
}
