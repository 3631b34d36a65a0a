//! A second reading of the rules: minute by minute, in the civil times of jiff.

use jiff::civil::{Date, DateTime, Weekday, date};
use jiff::{SignedDuration, Timestamp, ToSpan};
use proptest::collection::vec;
use proptest::prelude::*;
use proptest::sample::select;

use super::at;
use crate::windows::{Span, Timezone, Windows};

/// A span before it is written down.
#[derive(Debug, Clone)]
enum Written {
    Days(Vec<Weekday>, Option<(i64, i64)>),
    Dates(DateTime, DateTime),
}

fn name(day: Weekday) -> &'static str {
    ["mon", "tue", "wed", "thu", "fri", "sat", "sun"][day.to_monday_zero_offset() as usize]
}

impl Written {
    fn text(&self) -> String {
        match self {
            Self::Days(days, time) => {
                let days: Vec<&str> = days.iter().map(|day| name(*day)).collect();
                let days = days.join(",");
                let clock = |m: &i64| format!("{:02}:{:02}", m / 60, m % 60);
                match time {
                    Some((from, to)) if days.is_empty() => format!("{}-{}", clock(from), clock(to)),
                    Some((from, to)) => format!("{days} {}-{}", clock(from), clock(to)),
                    None if days.is_empty() => "mon-sun".to_owned(),
                    None => days,
                }
            }
            Self::Dates(from, to) => {
                let shown = |time: &DateTime| time.strftime("%Y-%m-%d %H:%M").to_string();
                format!("{}..{}", shown(from), shown(to))
            }
        }
    }

    fn holds(&self, shown: DateTime) -> bool {
        match self {
            Self::Dates(from, to) => *from <= shown && shown < *to,
            Self::Days(days, time) => {
                let begun_on = |day: Date| {
                    let (from, to) = time.unwrap_or((0, 1440));
                    let to = if to <= from { to + 1440 } else { to };
                    let midnight = day.at(0, 0, 0, 0);
                    let fits =
                        midnight + from.minutes() <= shown && shown < midnight + to.minutes();
                    fits && (days.is_empty() || days.contains(&day.weekday()))
                };
                begun_on(shown.date()) || begun_on(shown.date().yesterday().unwrap())
            }
        }
    }
}

/// Zones with a day on which their clocks do something.
const PLACES: [(&str, &str); 11] = [
    ("Europe/Berlin", "2026-03-28T12:00Z"),
    ("Europe/Berlin", "2026-10-24T12:00Z"),
    ("America/New_York", "2026-03-07T18:00Z"),
    ("America/New_York", "2026-10-31T18:00Z"),
    ("Australia/Lord_Howe", "2026-04-04T03:00Z"),
    ("Australia/Lord_Howe", "2026-10-03T03:00Z"),
    ("Asia/Seoul", "2026-12-24T03:00Z"),
    ("Pacific/Apia", "2011-12-29T18:00Z"),
    // Midnight is in the gap, and in the hour that is shown twice.
    ("Africa/Cairo", "2026-04-23T12:00Z"),
    ("Africa/Cairo", "2026-10-29T12:00Z"),
    ("America/Havana", "2026-10-31T18:00Z"),
];

fn spans(near: Date) -> impl Strategy<Value = Vec<Written>> {
    let day = (0..7_i8).prop_map(|day| Weekday::from_monday_zero_offset(day).unwrap());
    let days = vec(day, 0..4).prop_map(|mut days| {
        days.sort_by_key(|day| day.to_monday_zero_offset());
        days.dedup();
        days
    });
    // Often at the hours at which clocks change.
    let minute = || prop_oneof![0..1440_i64, (0..8_i64).prop_map(|half| half * 30)];
    let time = proptest::option::of((minute(), prop_oneof![minute(), Just(1440)]));
    let weekly = (days, time).prop_map(|(days, time)| Written::Days(days, time));
    let dates = (-2880..4320_i64, 1..2880_i64).prop_map(move |(from, length)| {
        let from = near.at(0, 0, 0, 0) + from.minutes();
        Written::Dates(from, from + length.minutes())
    });
    vec(prop_oneof![3 => weekly, 1 => dates], 0..4)
}

fn cases() -> impl Strategy<Value = (&'static str, Timestamp, Vec<Written>, Vec<Written>)> {
    (select(PLACES.to_vec()), 0..2880_i64).prop_flat_map(|((zone, near), minute)| {
        let now = at(near) + SignedDuration::from_mins(minute);
        let day = now.to_zoned(jiff::tz::TimeZone::UTC).date();
        (Just(zone), Just(now), spans(day), spans(day))
    })
}

proptest! {
    #[test]
    fn the_next_opening_is_the_first_open_minute((zone, now, allow, deny) in cases(), second in 0..60_i64) {
        let parsed = |spans: &[Written]| spans.iter().map(|s| Span::parse(&s.text()).unwrap()).collect();
        let windows = Windows::new(Timezone::parse(zone).unwrap(), parsed(&allow), parsed(&deny));
        let place = jiff::tz::TimeZoneDatabase::bundled().get(zone).unwrap();
        let is_open = |moment: Timestamp| {
            let shown = place.to_datetime(moment);
            let allowed = allow.is_empty() || allow.iter().any(|span| span.holds(shown));
            allowed && !deny.iter().any(|span| span.holds(shown))
        };
        let late = now + SignedDuration::from_secs(second);
        let later = (1..4320).map(|minute| now + SignedDuration::from_mins(minute));
        let expected = std::iter::once(late).chain(later).find(|moment| is_open(*moment));
        let found = windows.next_open(late);
        match expected {
            Some(_) => prop_assert_eq!(found, expected),
            None => prop_assert!(found.is_none_or(|open| open >= now + SignedDuration::from_mins(4320))),
        }
        prop_assert_eq!(windows.judge(late).is_ok(), is_open(late));
        if let Some(open) = found.filter(|open| *open > late) {
            prop_assert!(windows.ever_open());
            prop_assert!(windows.judge(open).is_ok());
            prop_assert!(windows.judge(open - SignedDuration::from_secs(1)).is_err());
            for part in 0..20 {
                let between = late + (open.duration_since(late) / 20) * part;
                prop_assert!(windows.judge(between).is_err(), "{between}");
            }
        }
    }
}

#[test]
fn the_reference_knows_a_date() {
    let day = date(2026, 11, 27);
    let friday = Written::Days(vec![Weekday::Friday], Some((1020, 1440)));
    assert_eq!(friday.text(), "fri 17:00-24:00");
    assert!(friday.holds(day.at(17, 0, 0, 0)) && !friday.holds(day.at(16, 59, 0, 0)));
}
