use super::check;

fn rule(text: &str, expected: &[&str]) {
    check(&format!("[[canary.rules]]\n{text}"), expected);
}

#[test]
fn a_rule_is_one_condition_or_several() {
    rule("header = 'X-Beta'\nequals = 'yes'", &[]);
    rule("cookie = 'beta'\nmatches = '^v[2-9]$'", &[]);
    rule(
        "all = [{ cookie = 'a', starts_with = 'b' }, { header = 'c', equals = 'd' }]",
        &[],
    );
    let subject = "(hint: write header = \"x-beta\" or cookie = \"beta\")";
    let matching = "(hint: write equals = \"yes\")";
    rule(
        "",
        &[
            &format!("4:1: header or cookie: is missing from the rule {subject}"),
            &format!("4:1: equals or starts_with or matches: is missing from the rule {matching}"),
        ],
    );
    let beside = "(hint: keep one, or write several conditions as all = [{ … }, { … }])";
    rule(
        "header = 'a'\ncookie = 'b'\nequals = 'c'\nmatches = 'd'",
        &[
            &format!("6:10: cookie \"b\": cannot stand beside header {beside}"),
            &format!("8:11: matches \"d\": cannot stand beside equals {beside}"),
        ],
    );
    rule(
        "header = 'a'\nall = [{ cookie = 'b', equals = 'c' }]",
        &[
            "5:10: header \"a\": cannot stand beside all (hint: move it into all, in { and } of its own)",
        ],
    );
    rule("all = []", &["5:7: all: must have 1 to 10 items"]);
    rule(
        "all = [{ cookie = 'b' }]",
        &[&format!(
            "5:8: equals or starts_with or matches: is missing from the rule {matching}"
        )],
    );
    rule(
        "header = 'a'\nequal = 'b'",
        &[
            &format!("4:1: equals or starts_with or matches: is missing from the rule {matching}"),
            "6:1: equal: is not known in [canary.rules] (hint: did you mean equals?)",
        ],
    );
}

#[test]
fn what_is_compared_is_bounded() {
    let token =
        "is not the name of a header or cookie (hint: write 1 to 100 letters, digits, - or _)";
    rule(
        "header = 'a b'\nequals = ''",
        &[
            &format!("5:10: header \"a b\": {token}"),
            "6:10: equals \"\": must have 1 to 500 bytes and no control characters",
        ],
    );
    rule(
        &format!("cookie = 'a'\nstarts_with = '{}'", "x".repeat(501)),
        &[&format!(
            "6:15: starts_with \"{}…\": must have 1 to 500 bytes and no control characters",
            "x".repeat(60)
        )],
    );
    let many: Vec<&str> = vec!["{ header = 'a', equals = 'b' }"; 21];
    check(
        &format!("[canary]\nrules = [{}]", many.join(", ")),
        &["5:9: rules: must have 0 to 20 items"],
    );
}

#[test]
fn expressions_are_ones_of_the_engine() {
    let regex = |pattern: &str, expected: &str| {
        rule(
            &format!("header = 'a'\nmatches = '{pattern}'"),
            &[&format!("6:11: matches {pattern:?}: {expected}")],
        );
    };
    let hint = "(hint: write it as Rust's regex crate has it: no look-around, no backreferences)";
    regex(
        "(a",
        &format!("is not a regular expression: unclosed group {hint}"),
    );
    regex(
        "a**(",
        &format!("is not a regular expression: unclosed group {hint}"),
    );
    regex(
        "(?=a)",
        &format!(
            "is not a regular expression: look-around, including look-ahead and look-behind, is not supported {hint}"
        ),
    );
    regex(
        "(a{1000}){1000}",
        "is too large when its repetitions are unfolded (hint: repeat less, or use [0-9] and [a-z] rather than \\d and \\w)",
    );
}
