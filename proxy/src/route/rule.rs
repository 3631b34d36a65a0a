//! Requests that go to a certain pool whatever the weights say.
//!
//! A condition holds if one of the values of its header or cookie is what it
//! should be. A regular expression must match the value as a whole. It is
//! compiled once, with bounds; matching takes time in proportion to the value's
//! length whatever the expression, and allocates nothing of its own.

use std::collections::HashMap;
use std::sync::Arc;

use cutover_wire::table::{self, Field, Match, Table, TableProblem};
use http::{HeaderMap, HeaderName};
use regex::bytes::{Regex, RegexBuilder};

use super::pool::Pool;
use super::{cookie, is_among};

/// Bytes that one expression may take when compiled. An app's file may ask for
/// what unfolds to 20,000 characters; that takes up to one and a half million.
const MAX_COMPILED: usize = 2 << 20;

/// Different expressions in all apps together: one for each app that a table may
/// have. Most compile to a few thousand bytes.
const MAX_EXPRESSIONS: usize = table::MAX_APPS;

/// Bytes of a value that is held against an expression, as many as browsers let
/// a cookie have (RFC 6265, section 6.1). A longer value matches none, so that
/// nobody can make a slow expression take long.
const MAX_MATCHED: usize = 4_096;

/// Mistakes that are told of one table; more are not read.
const MAX_PROBLEMS: usize = 20;

/// Characters of a name or an expression that are repeated in a mistake.
const MAX_SHOWN: usize = 80;

/// The rules of a route, in the order in which they are tried.
#[derive(Debug, Default)]
pub(super) struct Rules(Vec<Rule>);

#[derive(Debug)]
struct Rule {
    when: Vec<Condition>,
    pool: Arc<Pool>,
}

#[derive(Debug)]
struct Condition {
    of: Part,
    is: Value,
}

#[derive(Debug)]
enum Part {
    Header(HeaderName),
    Cookie(Box<str>),
}

#[derive(Debug)]
enum Value {
    Exact(Box<str>),
    Prefix(Box<str>),
    Whole(Regex),
}

/// The regular expressions of a table, each compiled once.
#[derive(Debug, Default)]
pub(super) struct Expressions<'t>(HashMap<&'t str, Result<Regex, regex::Error>>);

/// The expressions of a table's rules that cannot be used, each with its place.
/// To be asked of tables without other mistakes, which have not too many.
pub(crate) fn rule_problems(table: &Table) -> Vec<TableProblem> {
    let mut expressions = Expressions::default();
    let mut problems = Vec::new();
    for (app, number, text) in texts(table) {
        let full = expressions.0.len() >= MAX_EXPRESSIONS && !expressions.0.contains_key(text);
        let fault = if full {
            format!("more than {MAX_EXPRESSIONS} different regular expressions")
        } else if let Err(error) = expressions.compiled(text) {
            fault(text, error)
        } else {
            continue;
        };
        let place = format!("apps.{}.rules.{number}.when", shown(app));
        problems.push(TableProblem { place, fault });
        if full || problems.len() >= MAX_PROBLEMS {
            break;
        }
    }
    problems
}

/// The expressions of a table, each with its app and the number of its rule.
fn texts(table: &Table) -> impl Iterator<Item = (&str, usize, &str)> {
    let rules = table.apps.iter().flat_map(|(app, route)| {
        let rules = route.rules.iter().enumerate();
        rules.map(move |(number, rule)| (app, number, rule))
    });
    rules.flat_map(|(app, number, rule)| {
        let texts = rule.when.iter().filter_map(|when| match &when.is {
            Match::Regex(text) => Some(text),
            Match::Exact(_) | Match::Prefix(_) => None,
        });
        texts.map(move |text| (app.as_str(), number, text.as_str()))
    })
}

fn fault(text: &str, error: &regex::Error) -> String {
    let text = shown(text);
    match error {
        regex::Error::CompiledTooBig(_) => format!(
            "{text:?} takes more than {MAX_COMPILED} bytes when compiled: repeat less, or use [0-9] and [a-z] rather than \\d and \\w"
        ),
        error => {
            // The first lines of the error show the expression once more.
            let told = error.to_string();
            let why = told.lines().last().unwrap_or_default();
            let why = shown(why.trim_start_matches("error: "));
            format!(
                "{text:?} is no regular expression: {why}; it must be one of Rust's regex crate, without look-around and backreferences"
            )
        }
    }
}

/// A text without control characters, cut where it is long.
fn shown(text: &str) -> String {
    let plain = |c: char| if c.is_control() { '\u{FFFD}' } else { c };
    text.chars().take(MAX_SHOWN).map(plain).collect()
}

impl<'t> Expressions<'t> {
    fn compiled(&mut self, text: &'t str) -> Result<&Regex, &regex::Error> {
        let compiled = self.0.entry(text).or_insert_with(|| whole(text));
        compiled.as_ref()
    }
}

/// Compiles an expression so that it matches whole values only.
fn whole(text: &str) -> Result<Regex, regex::Error> {
    let compile = |text: &str| RegexBuilder::new(text).size_limit(MAX_COMPILED).build();
    // By itself first: `a)|(b` is none, although it would be one in brackets.
    compile(text)?;
    let bracketed = compile(&format!("\\A(?:{text})\\z"));
    // An expression that ends in a comment hides the bracket; a new line ends the comment.
    bracketed.or_else(|_| compile(&format!("\\A(?:{text}\n)\\z")))
}

impl Rules {
    /// The rules of a route with these pools.
    pub(super) fn of<'t>(
        route: &'t table::Route,
        pool: impl Fn(&str) -> Option<Arc<Pool>>,
        expressions: &mut Expressions<'t>,
    ) -> Self {
        let mut made = |rule: &'t table::Rule| {
            let when = rule
                .when
                .iter()
                .map(|condition| Condition::of(condition, expressions));
            Some(Rule {
                when: when.collect::<Option<_>>()?,
                pool: pool(&rule.pool)?,
            })
        };
        Self(route.rules.iter().filter_map(&mut made).collect())
    }

    /// Whether there is none.
    pub(super) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// The pool of the first rule that holds and whose pool is none of `excluding`.
    pub(super) fn find(&self, headers: &HeaderMap, excluding: &[&Pool]) -> Option<&Arc<Pool>> {
        let mut rules = self.0.iter();
        let first = rules.find(|rule| {
            !is_among(&rule.pool, excluding) && rule.when.iter().all(|when| when.holds(headers))
        });
        first.map(|rule| &rule.pool)
    }
}

impl Condition {
    /// None where it can never hold; such a table is refused.
    fn of<'t>(condition: &'t table::Condition, expressions: &mut Expressions<'t>) -> Option<Self> {
        let of = match &condition.of {
            Field::Header(name) => Part::Header(HeaderName::from_bytes(name.as_bytes()).ok()?),
            Field::Cookie(name) => Part::Cookie(name.as_str().into()),
        };
        let is = match &condition.is {
            Match::Exact(text) => Value::Exact(text.as_str().into()),
            Match::Prefix(text) => Value::Prefix(text.as_str().into()),
            Match::Regex(text) => Value::Whole(expressions.compiled(text).ok()?.clone()),
        };
        Some(Self { of, is })
    }

    fn holds(&self, headers: &HeaderMap) -> bool {
        match &self.of {
            Part::Header(name) => {
                let mut values = headers.get_all(name).into_iter();
                values.any(|value| self.is.fits(value.as_bytes()))
            }
            Part::Cookie(name) => {
                cookie::values(headers, name.as_bytes()).any(|value| self.is.fits(value))
            }
        }
    }
}

impl Value {
    fn fits(&self, value: &[u8]) -> bool {
        match self {
            Self::Exact(text) => text.as_bytes() == value,
            Self::Prefix(text) => value.starts_with(text.as_bytes()),
            Self::Whole(regex) => value.len() <= MAX_MATCHED && regex.is_match(value),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use cutover_wire::table::Split;
    use proptest::prelude::*;
    use std::collections::BTreeMap;

    fn check(pattern: &str, value: &str, expected: bool) {
        let regex = whole(pattern).unwrap();
        let fits = Value::Whole(regex).fits(value.as_bytes());
        assert_eq!(fits, expected, "{pattern} on {value:?}");
    }

    #[test]
    fn an_expression_matches_whole_values() {
        check("beta-[0-9]+", "beta-12", true);
        check("beta-[0-9]+", "a beta-12", false);
        check("beta-[0-9]+", "beta-12 ", false);
        check("a|ab", "ab", true);
        check("a|b", "ab", false);
        check("(?i)de|at", "AT", true);
        check("^a$", "a", true);
        check("(?m)^a$", "a\nb", false);
        check("", "", true);
        check("", "a", false);
        check("(?x) a # comment", "a", true);
        check("(?x) a # comment", "ab", false);
        check("a # no comment", "a # no comment", true);
        check(".+", "\u{e9}", true);
        check("a*", &"a".repeat(MAX_MATCHED), true);
        check("a*", &"a".repeat(MAX_MATCHED + 1), false);
        let odd = Value::Whole(whole("a.").unwrap());
        assert!(!odd.fits(b"a\xff"), "what is no text matches no letter");
    }

    fn table(patterns: &[&str]) -> Table {
        let rule = |pattern: &&str| table::Rule {
            when: vec![table::Condition {
                of: Field::Cookie("beta".to_owned()),
                is: Match::Regex((*pattern).to_owned()),
            }],
            pool: "v1".to_owned(),
        };
        let (hosts, serving) = (vec!["a.example".to_owned()], Split::all_to("v1"));
        let mut route = table::Route::new(hosts, "/", serving, BTreeMap::new());
        route.rules = patterns.iter().map(rule).collect();
        Table {
            apps: BTreeMap::from([("shop".to_owned(), route)]),
            ..Table::default()
        }
    }

    fn told(patterns: &[&str]) -> Vec<String> {
        let problems = rule_problems(&table(patterns));
        problems.iter().map(ToString::to_string).collect()
    }

    #[test]
    fn an_expression_that_cannot_be_used_is_told_with_its_place_and_the_reason() {
        let check = |patterns: &[&str], expected: &str| {
            let told = told(patterns);
            assert!(told.len() == 1 && told[0].starts_with(expected), "{told:?}");
        };
        let refused = "is no regular expression: ";
        check(
            &["a", "(a"],
            &format!("apps.shop.rules.1.when: \"(a\" {refused}unclosed group; it must"),
        );
        check(
            &["a)|(?:b"],
            &format!("apps.shop.rules.0.when: \"a)|(?:b\" {refused}unopened group"),
        );
        check(
            &["(?=a)"],
            &format!("apps.shop.rules.0.when: \"(?=a)\" {refused}look-around"),
        );
        check(
            &["((a{100}){100}){100}"],
            "apps.shop.rules.0.when: \"((a{100}){100}){100}\" takes more than 2097152 bytes",
        );
        let many = ["(a"; 64];
        assert_eq!(told(&many).len(), MAX_PROBLEMS);
    }

    #[test]
    fn what_an_apps_file_may_ask_for_is_compiled() {
        // The largest that the reader of the file takes, of different kinds.
        let literal = "a".repeat(250);
        let nested = "(?:abcdefgh){100}{20}".to_owned();
        let patterns = [
            "\\w{20}",
            "(?i)\\w{20}",
            &literal,
            &nested,
            "[^a]{900}",
            "\\pL{29}",
        ];
        assert_eq!(told(&patterns), Vec::<String>::new());
    }

    #[test]
    fn different_expressions_are_bounded() {
        let texts: Vec<String> = (0..=MAX_EXPRESSIONS).map(|n| format!("a{n}")).collect();
        let patterns: Vec<&str> = texts.iter().map(String::as_str).collect();
        let expected = "apps.shop.rules.1000.when: more than 1000 different regular expressions";
        assert_eq!(told(&patterns), [expected]);
    }

    proptest! {
        #[test]
        fn an_expression_matches_a_whole_value_as_its_longest_match_does(
            pattern in "[abx()|*+?#. ]{0,10}",
            value in "[abx# ]{0,6}",
        ) {
            // Alternatives the other way round: whichever comes first, if some way
            // of matching takes the whole value, it must be found.
            let Ok(regex) = whole(&pattern) else {
                prop_assert!(Regex::new(&pattern).is_err(), "{pattern}");
                return Ok(());
            };
            let fits = regex.is_match(value.as_bytes());
            let alone = Regex::new(&format!("^({pattern})$")).unwrap();
            prop_assert_eq!(fits, alone.is_match(value.as_bytes()), "{} {}", pattern, value);
        }
    }
}
