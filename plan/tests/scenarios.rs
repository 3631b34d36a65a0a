//! `docs/design/scenarios.md` answers for every scenario, and each test that it
//! names is there. Whether the test shows what the page says is for people to judge.
#![expect(
    clippy::disallowed_methods,
    reason = "the files of the repository are what is looked at"
)]

use std::fs;
use std::path::Path;

const PAGE: &str = include_str!("../../docs/design/scenarios.md");

/// As many are numbered in the list that the page answers.
const SCENARIOS: usize = 68;

/// What stands in place of a test, or beside one that shows a part.
const REASONS: [&str; 2] = ["- Does not apply: ", "- No test yet: "];

/// The numbers of the scenarios, each with the lines of its answer.
fn scenarios() -> Vec<(&'static str, Vec<&'static str>)> {
    let mut found: Vec<(_, Vec<_>)> = Vec::new();
    for line in PAGE.lines() {
        let begun = line
            .strip_prefix("**")
            .and_then(|line| line.split_once(". "));
        match (begun, found.last_mut()) {
            (Some((number, _)), _) => found.push((number, Vec::new())),
            (None, Some((_, answer))) if line.starts_with("- ") => answer.push(line),
            (None, _) => {}
        }
    }
    found
}

/// Reads "- `file`: `test`, `test`".
fn tests(line: &str) -> Option<(&str, Vec<&str>)> {
    let (path, names) = line.strip_prefix("- `")?.split_once("`: `")?;
    let names = names.strip_suffix('`')?.split("`, `");
    Some((path, names.collect()))
}

/// The text of a file, or of all files of a folder.
fn sources(path: &Path) -> String {
    let Ok(folder) = fs::read_dir(path) else {
        return fs::read_to_string(path).unwrap_or_default();
    };
    let entries = folder.flatten();
    entries.map(|entry| sources(&entry.path())).collect()
}

/// Whether there is a test function of this name.
fn is_test(name: &str, source: &str) -> bool {
    let named = format!("fn {name}(");
    let lines: Vec<_> = source.lines().map(str::trim).collect();
    (0..lines.len()).any(|at| {
        // Its attributes, and what else stands above it without a gap.
        let above = lines[..at].iter().rev().take_while(|line| !line.is_empty());
        let mut attributes = above.filter(|line| line.starts_with("#["));
        lines[at].contains(&named) && attributes.any(|line| line.contains("test"))
    })
}

/// What is wrong with a line of an answer.
fn check(line: &str) -> Vec<String> {
    if REASONS.iter().any(|reason| line.starts_with(reason)) {
        return Vec::new();
    }
    let Some((path, names)) = tests(line) else {
        return vec![format!("it is neither a test nor a reason: {line}")];
    };
    let source = sources(&Path::new(env!("CARGO_MANIFEST_DIR")).join("..").join(path));
    let is_there = |name: &&str| match path {
        // A folder of scenarios that are data.
        "tests/simulation" => source.contains(&format!("name: \"{name}\"")),
        _ => is_test(name, &source),
    };
    let missing = names.iter().filter(|name| !is_there(name));
    missing
        .map(|name| format!("{path} has no {name}"))
        .collect()
}

#[test]
fn every_scenario_has_tests_that_exist_or_a_reason() {
    let scenarios = scenarios();
    let numbers: Vec<_> = scenarios
        .iter()
        .map(|(number, _)| (*number).to_owned())
        .collect();
    let expected: Vec<_> = (1..=SCENARIOS).map(|number| number.to_string()).collect();
    assert_eq!(numbers, expected);
    let mut wrong = Vec::new();
    for (number, answer) in scenarios {
        if answer.is_empty() {
            wrong.push(format!("{number}: it has no answer"));
        }
        let found = answer.iter().flat_map(|line| check(line));
        wrong.extend(found.map(|problem| format!("{number}: {problem}")));
    }
    assert!(
        wrong.is_empty(),
        "docs/design/scenarios.md:\n{}",
        wrong.join("\n")
    );
}

#[test]
fn what_is_not_there_is_found_missing() {
    let here = "- `plan/tests/scenarios.rs`: ";
    let own = "`what_is_not_there_is_found_missing`";
    assert_eq!(check(&format!("{here}{own}")), Vec::<String>::new());
    for wrong in [
        // No such test, no test at all, no such file, no such scenario, no line of an answer.
        &format!("{here}{own}, `what_nobody_wrote`"),
        &format!("{here}`scenarios`"),
        &format!("- `plan/tests/nowhere.rs`: {own}"),
        "- `tests/simulation`: `what nobody wrote`",
        "- Some prose.",
    ] {
        assert_eq!(check(wrong).len(), 1, "{wrong}");
    }
}
