//! Reads `[windows]`: when deploys of the app may begin.

use std::collections::BTreeSet;

use crate::spec::reader::{Fault, Table, Value};
use crate::windows::{Span, Timezone, Windows};

/// More than a person keeps in mind; it bounds the work of each judgement.
const SPANS: usize = 100;

/// An absent table is an empty one, which allows any time.
pub(super) fn windows(table: &mut Table<'_>) -> Option<Windows> {
    let timezone = table.or_default("timezone", Timezone::default(), |v| {
        v.parse(Timezone::parse)
    });
    let allow = table.or_default("allow", Vec::new(), spans);
    let deny = table.or_default("deny", Vec::new(), spans);
    let windows = Windows::new(timezone?, allow?, deny?);
    match windows.ever_open() {
        true => Some(windows),
        // What is allowed is never nothing, so it is the denials that take all of it.
        false => table.fault(
            "deny",
            Fault::new("leaves no time at which a deploy may begin")
                .hint("take out a span, or shorten it"),
        ),
    }
}

fn spans(value: &Value<'_>) -> Option<Vec<Span>> {
    let mut seen = BTreeSet::new();
    value.array(0..=SPANS, |item| {
        let span = item.parse(Span::parse)?;
        match seen.insert(span.to_string()) {
            true => Some(span),
            false => item.fault("is listed twice"),
        }
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::spec::reader::{Mistake, read};

    fn check(lines: &str, expected: &[&str]) {
        let text = format!("[windows]\n{lines}");
        let read = read("shop.toml", &text, |root| root.table("windows", windows));
        let shown = |mistake: &Mistake| mistake.to_string().replace("shop.toml:", "");
        let mistakes: Vec<String> = read.err().iter().flatten().map(shown).collect();
        assert_eq!(mistakes, expected, "{lines}");
    }

    #[test]
    fn a_table_that_is_right_gives_its_windows() {
        let text =
            "[windows]\ntimezone = 'Asia/Seoul'\nallow = ['mon-thu']\ndeny = ['12:00-13:00']";
        let found = read("shop.toml", text, |root| root.table("windows", windows));
        let span = |text| vec![Span::parse(text).unwrap()];
        let zone = Timezone::parse("Asia/Seoul").unwrap();
        let expected = Windows::new(zone, span("mon-thu"), span("12:00-13:00"));
        assert_eq!(found, Ok(expected));
    }

    #[test]
    fn an_absent_table_allows_any_time() {
        let found = read("shop.toml", "", |root| root.table("windows", windows));
        assert_eq!(found, Ok(Windows::default()));
        check("", &[]);
        check("allow = []\ndeny = []", &[]);
    }

    #[test]
    fn all_mistakes_show_at_once_in_their_places() {
        check(
            "timezone = 'Asia/Soul'\nallow = ['mon-thu', 'Monday']\ndeny = [2026-12-24, 'fri', 'fri']\ndney = []",
            &[
                "2:12: timezone \"Asia/Soul\": is not a time zone (hint: did you mean Asia/Seoul?)",
                "3:21: allow \"Monday\": writes a day otherwise (hint: write mon)",
                "4:9: deny 2026-12-24: expected a string, found a date (hint: put it in quotes)",
                "4:28: deny \"fri\": is listed twice",
                "5:1: dney: is not known in [windows] (hint: did you mean deny?)",
            ],
        );
    }

    #[test]
    fn a_list_has_a_limit() {
        let many = |count: u32| {
            let span = |i| format!("'00:00-{:02}:{:02}'", i / 60, i % 60);
            let spans: Vec<String> = (1..=count).map(span).collect();
            format!("deny = [{}]", spans.join(","))
        };
        check(&many(100), &[]);
        check(&many(101), &["2:8: deny: must have 0 to 100 items"]);
    }

    #[test]
    fn what_never_opens_is_refused() {
        let closed = |at: &str| {
            format!(
                "{at}: deny: leaves no time at which a deploy may begin (hint: take out a span, or shorten it)"
            )
        };
        check("deny = ['mon-sun']", &[&closed("2:8")]);
        check(
            "allow = ['fri']\ndeny = ['thu-sat 12:00-12:00']",
            &[&closed("3:8")],
        );
        check("allow = ['fri']\ndeny = ['fri 12:00-12:00']", &[]);
        check(
            "allow = ['2026-12-24']\ndeny = ['2026-12-23..2026-12-25']",
            &[&closed("3:8")],
        );
        // Whether a date has passed is not known here.
        check("allow = ['2001-01-01']", &[]);
        check("deny = ['0000-01-01..9999-12-31']", &[]);
    }
}
