mod reference;

use jiff::Timestamp;
use proptest::prelude::*;

use super::{Closed, Span, Timezone, Windows};

fn windows(zone: &str, allow: &[&str], deny: &[&str]) -> Windows {
    let spans = |texts: &[&str]| texts.iter().map(|t| Span::parse(t).unwrap()).collect();
    Windows::new(Timezone::parse(zone).unwrap(), spans(allow), spans(deny))
}

fn at(text: &str) -> Timestamp {
    text.parse().unwrap()
}

/// Checks the next opening after each moment; an equal one means that it is open then.
fn check(windows: &Windows, cases: &[(&str, &str)]) {
    for (now, expected) in cases {
        let found = windows.next_open(at(now));
        assert_eq!(found, Some(at(expected)), "{now}");
        assert_eq!(windows.judge(at(now)).is_ok(), now == expected, "{now}");
    }
}

fn closed(windows: &Windows, now: &str) -> String {
    windows
        .judge(at(now))
        .as_ref()
        .map_or_else(Closed::to_string, |()| String::new())
}

#[test]
fn a_refusal_names_the_span_and_the_opening() {
    let denied = windows("Asia/Seoul", &[], &["fri 17:00-24:00"]);
    let expected = "deploys are closed by deny \"fri 17:00-24:00\" (Asia/Seoul); they open on Sat 2026-11-28 00:00 +09:00";
    assert_eq!(closed(&denied, "2026-11-27T17:00+09:00"), expected);
    assert_eq!(closed(&denied, "2026-11-27T16:59:59.9+09:00"), "");
    let allowed = windows("UTC", &["2001-01-01", "mon", "tue", "wed"], &["mon-wed"]);
    let expected = "deploys are closed outside allow \"2001-01-01\", \"mon\", \"tue\" and 1 more (UTC); they do not open within 400 days";
    assert_eq!(closed(&allowed, "2026-11-27T17:00Z"), expected);
}

#[test]
fn deny_wins_and_ends_are_outside() {
    let both = windows(
        "UTC",
        &["mon-fri 09:00-17:00"],
        &["12:00-13:00", "2026-11-24"],
    );
    check(
        &both,
        &[
            ("2026-11-23T08:59:59Z", "2026-11-23T09:00Z"),
            ("2026-11-23T09:00Z", "2026-11-23T09:00Z"),
            ("2026-11-23T12:00Z", "2026-11-23T13:00Z"),
            ("2026-11-23T17:00Z", "2026-11-25T09:00Z"),
            ("2026-11-28T10:00Z", "2026-11-30T09:00Z"),
        ],
    );
}

#[test]
fn a_span_past_midnight_belongs_to_the_day_it_begins_on() {
    check(
        &windows("UTC", &[], &["fri 22:00-02:00"]),
        &[
            ("2026-11-27T01:00Z", "2026-11-27T01:00Z"),
            ("2026-11-28T01:00Z", "2026-11-28T02:00Z"),
        ],
    );
    check(
        &windows("UTC", &[], &["fri-mon"]),
        &[("2026-11-27T00:00Z", "2026-12-01T00:00Z")],
    );
    check(
        &windows(
            "UTC",
            &[],
            &[
                "2026-12-24 18:00..2026-12-27 06:00",
                "2026-12-27..2026-12-28",
            ],
        ),
        &[
            ("2026-12-24T17:59Z", "2026-12-24T17:59Z"),
            ("2026-12-24T18:00Z", "2026-12-29T00:00Z"),
        ],
    );
}

#[test]
fn a_span_that_begins_in_a_gap_begins_at_its_end() {
    // 02:00 becomes 03:00.
    check(
        &windows("Europe/Berlin", &["02:30-04:00"], &[]),
        &[("2026-03-29T01:59+01:00", "2026-03-29T03:00+02:00")],
    );
    check(
        &windows("America/New_York", &[], &["01:00-02:30"]),
        &[("2026-03-08T01:00-05:00", "2026-03-08T03:00-04:00")],
    );
    // A span that lies in the gap whole is left out that day; 02:00 becomes 02:30 here.
    check(
        &windows("Australia/Lord_Howe", &["02:00-02:30"], &[]),
        &[("2026-10-04T01:59+10:30", "2026-10-05T02:00+11:00")],
    );
    // A day that never was, and the hours after it.
    check(
        &windows(
            "Pacific/Apia",
            &["2011-12-30..2011-12-31"],
            &["fri 22:00-02:00"],
        ),
        &[("2011-12-29T23:59-10:00", "2011-12-31T02:00+14:00")],
    );
}

#[test]
fn a_time_that_is_shown_twice_is_in_the_span_twice() {
    // 03:00 becomes 02:00.
    check(
        &windows("Europe/Berlin", &[], &["02:00-03:00"]),
        &[("2026-10-25T02:00+02:00", "2026-10-25T03:00+01:00")],
    );
    check(
        &windows("Europe/Berlin", &[], &["02:30-04:00"]),
        &[
            ("2026-10-25T02:30+02:00", "2026-10-25T02:00+01:00"),
            ("2026-10-25T02:30+01:00", "2026-10-25T04:00+01:00"),
        ],
    );
    check(
        &windows("America/New_York", &["00:00-01:30"], &[]),
        &[
            ("2026-11-01T01:30-04:00", "2026-11-01T01:00-05:00"),
            ("2026-11-01T01:30-05:00", "2026-11-02T00:00-05:00"),
        ],
    );
    check(
        &windows("Australia/Lord_Howe", &[], &["01:30-02:00"]),
        &[("2026-04-05T01:30+11:00", "2026-04-05T02:00+10:30")],
    );
}

#[test]
fn texts_that_are_no_span_are_refused() {
    let refused = [
        "",
        " ",
        "fri ",
        "fri  09:00-10:00",
        "Fri",
        "fri-fri",
        "fri,fri",
        "mon-wed,tue",
        "fri 9:00-10:00",
        "fri 24:00-01:00",
        "fri 09:60-10:00",
        "09:00",
        "09:00-24:01",
        "2026-02-30",
        "2026-12-26..2026-12-24",
        "2026-12-24 18:00",
        "2026-12-24 18:00..2026-12-24 18:00",
        "2026-1-1",
        "2026-12-24..",
        "é",
        "..",
    ];
    for text in refused {
        assert!(Span::parse(text).is_err(), "{text}");
    }
}

#[test]
fn a_zone_that_is_meant_is_named() {
    let hint = |text| Timezone::parse(text).unwrap_err().hint;
    for text in ["asia/seoul", "Seoul", "Asia/Soul"] {
        assert_eq!(hint(text), "did you mean Asia/Seoul?");
    }
    assert_eq!(hint("new york"), "did you mean America/New_York?");
    assert!(hint("+09:00:00:00:00:00").contains("IANA"));
    assert!(Timezone::parse("Etc/Unknown").is_err());
    assert_eq!(Timezone::parse("UTC"), Ok(Timezone::default()));
}

proptest! {
    #[test]
    fn no_text_is_too_strange_to_refuse(any: String, near in "[a-z0-9:., -]{0,24}|[a-zA-Z/_+0-9]{0,20}") {
        for text in [any, near] {
            let _ = Timezone::parse(&text);
            if let Ok(span) = Span::parse(&text) {
                prop_assert_eq!(span.to_string(), text);
            }
        }
    }

    #[test]
    fn any_moment_can_be_judged(second in Timestamp::MIN.as_second()..=Timestamp::MAX.as_second()) {
        let now = Timestamp::from_second(second).unwrap();
        let windows = windows("Europe/Berlin", &["mon-thu"], &["wed 23:00-01:00"]);
        prop_assert_eq!(windows.judge(now).is_ok(), windows.next_open(now) == Some(now));
    }
}
