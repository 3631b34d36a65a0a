//! `[[canary.rules]]`: who goes to the new release whatever the weight.
//!
//! A rule with one condition is written flat, one with several as a list:
//!
//! ```toml
//! [[canary.rules]]
//! cookie = "beta"
//! equals = "yes"
//!
//! [[canary.rules]]
//! all = [
//!     { header = "x-team", equals = "web" },
//!     { header = "user-agent", matches = "Firefox/1[0-9]{2}" },
//! ]
//! ```

use regex_syntax::hir::{Class, Hir, HirKind};

use crate::spec::reader::{Fault, Table, Value};
use crate::spec::{Condition, Matching, Rule, Subject};

/// Each request is held against all of them, so they are few.
const RULES: usize = 20;
/// As many conditions as a person can follow.
const CONDITIONS: usize = 10;
/// Longer than any name in use.
const NAME: usize = 100;
/// Longer than what anyone compares by hand.
const TEXT: usize = 500;
/// What a regular expression may unfold to, in characters and in ranges of
/// them. The engine's own bound of 10 MiB has room for ten times as many.
const UNFOLDED: u64 = 20_000;

/// Headers that belong to the connection or to the proxy: whoever sends one
/// means something else by it.
const TAKEN: [&str; 12] = [
    "accept",
    "authorization",
    "connection",
    "content-length",
    "content-type",
    "cookie",
    "expect",
    "host",
    "te",
    "transfer-encoding",
    "upgrade",
    "user-agent",
];

pub(super) fn rules(value: &Value<'_>) -> Option<Vec<Rule>> {
    value.array(0..=RULES, |item| item.table(rule))
}

fn rule(table: &mut Table<'_>) -> Option<Rule> {
    let all = table.optional("all", |v| {
        v.array(1..=CONDITIONS, |item| {
            item.table(|t| Written::take(t).condition(t))
        })
    });
    let flat = Written::take(table);
    if all == Some(None) {
        let all = vec![flat.condition(table)?];
        return Some(Rule { all });
    }
    let mut alone = Some(());
    for key in flat.keys() {
        let fault = Fault::new("cannot stand beside all");
        alone = table.fault(key, fault.hint("move it into all, in { and } of its own"));
    }
    alone?;
    Some(Rule { all: all?? })
}

/// The keys of a condition as they were found: a value, no value, or a mistake.
struct Written {
    subjects: [(&'static str, Option<Option<Subject>>); 2],
    matchings: [(&'static str, Option<Option<Matching>>); 3],
}

impl Written {
    fn take(table: &mut Table<'_>) -> Self {
        let header = table.optional("header", |v| v.parse(header).map(Subject::Header));
        let cookie = table.optional("cookie", |v| v.parse(token).map(Subject::Cookie));
        let equals = table.optional("equals", |v| v.parse(text).map(Matching::Exact));
        let begin = table.optional("starts_with", |v| v.parse(text).map(Matching::Prefix));
        let regex = table.optional("matches", |v| v.parse(regex).map(Matching::Regex));
        Self {
            subjects: [("header", header), ("cookie", cookie)],
            matchings: [
                ("equals", equals),
                ("starts_with", begin),
                ("matches", regex),
            ],
        }
    }

    /// The keys that are there.
    fn keys(&self) -> impl Iterator<Item = &'static str> {
        let subjects = self.subjects.iter().map(|(key, one)| (*key, present(one)));
        let matchings = self.matchings.iter().map(|(key, one)| (*key, present(one)));
        let all = subjects.chain(matchings);
        all.filter_map(|(key, present)| present.then_some(key))
    }

    fn condition(self, table: &Table<'_>) -> Option<Condition> {
        let subject = only(
            table,
            self.subjects,
            "header = \"x-beta\" or cookie = \"beta\"",
        );
        let matching = only(table, self.matchings, "equals = \"yes\"");
        Some(Condition {
            subject: subject?,
            matching: matching?,
        })
    }
}

/// Whether a key is there, though it may have been refused.
fn present<T>(key: &Option<Option<T>>) -> bool {
    !matches!(key, Some(None))
}

/// The only one of several keys that is there; of a key that was refused already it says no more.
fn only<T, const N: usize>(
    table: &Table<'_>,
    keys: [(&'static str, Option<Option<T>>); N],
    example: &str,
) -> Option<T> {
    let names = keys.each_ref().map(|(key, _)| *key);
    let mut found: Option<(&str, Option<T>)> = None;
    for (key, value) in keys {
        let value = match value {
            Some(None) => continue,
            present => present.flatten(),
        };
        if let Some((first, _)) = found {
            let fault = Fault::new(format!("cannot stand beside {first}"));
            let hint = "keep one, or write several conditions as all = [{ … }, { … }]";
            return table.fault(key, fault.hint(hint));
        }
        found = Some((key, value));
    }
    match found {
        Some((_, value)) => value,
        None => {
            let fault = Fault::new("is missing from the rule").hint(format!("write {example}"));
            table.fault(&names.join(" or "), fault)
        }
    }
}

/// The name of a header, in lower case as the proxy compares it.
pub(super) fn header(text: &str) -> Result<String, Fault> {
    Ok(token(text)?.to_ascii_lowercase())
}

/// A header that has no meaning yet.
pub(super) fn own_header(text: &str) -> Result<String, Fault> {
    let name = header(text)?;
    let forwarded = name == "forwarded" || name.starts_with("x-forwarded-");
    match forwarded || TAKEN.contains(&name.as_str()) {
        true => Err(Fault::new("is a header with a meaning of its own")
            .hint("take one that nobody sends by chance, like \"cutover-preview\"")),
        false => Ok(name),
    }
}

/// What HTTP allows for the name of a header or a cookie.
fn token(text: &str) -> Result<String, Fault> {
    let letter = |b: u8| b.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&b);
    match (1..=NAME).contains(&text.len()) && text.bytes().all(letter) {
        true => Ok(text.to_owned()),
        false => Err(Fault::new("is not the name of a header or cookie")
            .hint(format!("write 1 to {NAME} letters, digits, - or _"))),
    }
}

/// What a header or a cookie is compared with.
fn text(text: &str) -> Result<String, Fault> {
    match (1..=TEXT).contains(&text.len()) && !text.chars().any(char::is_control) {
        true => Ok(text.to_owned()),
        false => Err(Fault::new(format!(
            "must have 1 to {TEXT} bytes and no control characters"
        ))),
    }
}

/// A regular expression that the proxy can hold against each request.
fn regex(pattern: &str) -> Result<String, Fault> {
    use regex_syntax::Error;
    let refuse = |why: String| {
        let fault = Fault::new(format!("is not a regular expression: {why}"));
        Err(fault.hint("write it as Rust's regex crate has it: no look-around, no backreferences"))
    };
    let pattern = text(pattern)?;
    match regex_syntax::parse(&pattern) {
        Ok(parsed) if unfolded(&parsed) > UNFOLDED => {
            let fault = Fault::new("is too large when its repetitions are unfolded");
            Err(fault.hint("repeat less, or use [0-9] and [a-z] rather than \\d and \\w"))
        }
        Ok(_) => Ok(pattern),
        Err(Error::Parse(error)) => refuse(error.kind().to_string()),
        Err(Error::Translate(error)) => refuse(error.kind().to_string()),
        Err(_) => refuse("it cannot be read".to_owned()),
    }
}

/// How many characters and ranges of them an expression comes to.
fn unfolded(hir: &Hir) -> u64 {
    let sum = |parts: &[Hir]| parts.iter().map(unfolded).fold(0, u64::saturating_add);
    let inner = match hir.kind() {
        HirKind::Empty | HirKind::Look(_) => 0,
        HirKind::Literal(literal) => literal.0.len() as u64,
        HirKind::Class(Class::Unicode(class)) => class.ranges().len() as u64,
        HirKind::Class(Class::Bytes(class)) => class.ranges().len() as u64,
        HirKind::Repetition(repetition) => {
            let times = repetition.max.unwrap_or(repetition.min).max(1);
            unfolded(&repetition.sub).saturating_mul(times.into())
        }
        HirKind::Capture(capture) => unfolded(&capture.sub),
        HirKind::Concat(parts) | HirKind::Alternation(parts) => sum(parts),
    };
    inner.saturating_add(1)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn takes(pattern: &str, expected: bool) {
        assert_eq!(regex(pattern).is_ok(), expected, "{pattern}");
        if expected {
            assert!(regex::Regex::new(pattern).is_ok(), "{pattern}");
        }
    }

    #[test]
    fn what_is_taken_the_engine_compiles() {
        takes("^beta-[0-9]+$", true);
        takes("(?i)firefox/1[0-9]{2}", true);
        takes("^\\w{20}$", true);
        takes("\\w{100}", false);
        takes("((a{100}){100}){100}", false);
        takes("(a", false);
        takes("(?=a)", false);
        takes("(a)\\1", false);
        takes(&"(".repeat(300), false);
        takes("", false);
    }

    proptest::proptest! {
        #[test]
        fn no_expression_is_taken_that_the_engine_refuses(
            pattern in "([a-c.\\\\wds(|)\\[\\]{}0-9,*+?^$-]|\\\\p\\{L\\}){0,30}",
        ) {
            if regex(&pattern).is_ok() {
                assert!(regex::Regex::new(&pattern).is_ok(), "{pattern}");
            }
        }
    }
}
