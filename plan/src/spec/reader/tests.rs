use super::*;

/// Reads with a small program that takes every kind of value once.
fn sample(root: &mut Table<'_>) -> Option<()> {
    let name = root.required("name", "\"x\"", Value::string);
    let count = root.or_default("count", 1, |v| v.integer(1..=9_u8));
    let flag = root.or_default("flag", false, Value::boolean);
    let kind = root.or_default("kind", 0, |v| v.choice(&[("left", 1), ("right", 2)]));
    let secret = root.optional("secret", |v| {
        v.concealed().parse(|_| Err::<(), _>("is too short"))
    });
    let list = root.optional("list", |v| v.array(0..=2, |item| item.integer(0..=9_u8)));
    let listen = root.optional("listen", |v| {
        v.array(0..=9, |item| {
            item.table(|t| t.required("port", "80", |v| v.integer(1..=u16::MAX)))
        })
    });
    let inner = root.table("inner", |t| {
        t.or_default("depth", 0, |v| v.integer(0..=9_u8))
    });
    let (_, _, _, _) = (name?, count?, flag?, kind?);
    let (_, _, _, _) = (secret?, list?, listen?, inner?);
    Some(())
}

fn check(text: &str, expected: &[&str]) {
    let mistakes = read("f", text, sample).err().unwrap_or_default();
    let shown: Vec<String> = mistakes.iter().map(Mistake::to_string).collect();
    assert_eq!(shown, expected, "{text}");
}

#[test]
fn values_are_taken_by_type() {
    check(
        "name = 'x'\ncount = 0x9\nflag = true\nkind = 'left'\nlist = [1, 2]",
        &[],
    );
    check(
        "name = 'x'\n[[listen]]\nport = 1\n[[listen]]\nport = 2\n[inner]\ndepth = 3",
        &[],
    );
    check("name = 'x'\ninner.depth = 3", &[]);
}

#[test]
fn wrong_types_are_told_with_what_was_found() {
    check(
        "name = 1",
        &["f:1:8: name 1: expected a string, found an integer (hint: put it in quotes)"],
    );
    check(
        "name = ['s']",
        &["f:1:8: name: expected a string, found an array"],
    );
    check(
        "name = 1979-05-27",
        &["f:1:8: name 1979-05-27: expected a string, found a date (hint: put it in quotes)"],
    );
    let hint = "(hint: write it without quotes or point)";
    check(
        "name = ''\ncount = 1.5",
        &[&format!(
            "f:2:9: count 1.5: expected an integer, found a float {hint}"
        )],
    );
    let hint = "(hint: write true or false, without quotes)";
    check(
        "name = ''\nflag = 'yes'",
        &[&format!(
            "f:2:8: flag \"yes\": expected a boolean, found a string {hint}"
        )],
    );
    check(
        "name = ''\nlist = 1",
        &["f:2:8: list 1: expected an array, found an integer (hint: put it in [ and ])"],
    );
    let hint = "(hint: write [inner] and its keys below)";
    check(
        "name = ''\ninner = 1",
        &[&format!(
            "f:2:9: inner 1: expected a table, found an integer {hint}"
        )],
    );
}

#[test]
fn bounds_hold_for_numbers_of_any_length() {
    for number in ["0", "10", "-1", "99999999999999999999999"] {
        let expected = format!("f:2:9: count {number}: must be from 1 to 9");
        check(&format!("name = ''\ncount = {number}"), &[&expected]);
    }
    check(
        "name = ''\nlist = [1, 2, 3]",
        &["f:2:8: list: must have 0 to 2 items"],
    );
}

#[test]
fn each_item_is_told_at_its_own_place() {
    check(
        "name = ''\nlist = [\n  10,\n  'é', # é\n]",
        &[
            "f:3:3: list 10: must be from 0 to 9",
            "f:4:3: list \"é\": expected an integer, found a string (hint: write it without quotes or point)",
        ],
    );
    check(
        "name = ''\n[[listen]]",
        &["f:2:1: port: is missing from [listen] (hint: write port = 80)"],
    );
}

#[test]
fn unknown_keys_are_answered_with_what_was_meant() {
    check(
        "nmae = ''",
        &[
            "f:1:1: name: is missing (hint: write name = \"x\")",
            "f:1:1: nmae: is not known here (hint: did you mean name?)",
        ],
    );
    check(
        "name = ''\nxyz = 1",
        &[
            "f:2:1: xyz: is not known here (hint: known are count, flag, inner, kind, list, listen, name, secret)",
        ],
    );
    check(
        "name = ''\n[inner]\ncount = 1",
        &["f:3:1: count: is not known in [inner] (hint: count belongs above the first [table])"],
    );
    check(
        "name = ''\ndepth = 1",
        &["f:2:1: depth: is not known here (hint: depth belongs in [inner])"],
    );
    check(
        "name = ''\n'a b' = 1",
        &[
            "f:2:1: \"a b\": is not known here (hint: known are count, flag, inner, kind, list, listen, name, secret)",
        ],
    );
    check(
        "name = ''\nkind = 'rihgt'",
        &["f:2:8: kind \"rihgt\": is not one of left, right (hint: did you mean right?)"],
    );
}

#[test]
fn syntax_mistakes_have_their_place_and_nothing_of_the_text() {
    check(
        "name = hunter2",
        &["f:1:8: string values must be quoted, expected literal string"],
    );
    check(
        "name = 'x'\n\n  [inner",
        &["f:3:9: unclosed table, expected `]`"],
    );
    check(
        "secret = \"\"\"hunter2\nhunter2",
        &["f:2:8: invalid multi-line basic string, expected `\"`"],
    );
}

#[test]
fn keys_that_are_set_twice_hide_nothing_else() {
    check(
        "name = 'x'\nname = 'y'\ncount = 0",
        &[
            "f:2:1: name: is set twice (hint: keep one of the two)",
            "f:3:9: count 0: must be from 1 to 9",
        ],
    );
    check(
        "name = 'x'\n[inner]\n[inner]",
        &["f:3:2: inner: is set twice (hint: keep one of the two)"],
    );
    // Lines of a secret that lost its quotes look like keys; they must not show.
    let text = "secret = \"a\nhunter2 = 1\nhunter2 = 1\n\"";
    let mistakes = read("f", text, sample).unwrap_err();
    assert!(
        mistakes.iter().all(|m| !m.to_string().contains("hunter2")),
        "{mistakes:?}"
    );
}

#[test]
fn a_secret_never_shows() {
    check(
        "name = ''\nsecret = 'hunter2'",
        &["f:2:10: secret: is too short"],
    );
    check(
        "name = ''\nsecret = 2",
        &["f:2:10: secret: expected a string, found an integer (hint: put it in quotes)"],
    );
}

#[test]
fn a_file_and_its_mistakes_have_a_limit() {
    let long = format!("#{}", " ".repeat(MAX_BYTES));
    check(
        &long,
        &["f:1:1: the file has 262145 bytes, more than 262144"],
    );
    let many: String = (0..500).map(|i| format!("key{i} = 1\n")).collect();
    let mistakes = read("f", &format!("name = ''\n{many}"), sample).unwrap_err();
    assert_eq!(mistakes.len(), MAX_MISTAKES + 1);
    let last = mistakes.last().unwrap().to_string();
    assert_eq!(last, "f:501:11: 400 more mistakes are not shown");
    let long = format!(
        "name = ''\nkind = '{}'",
        "é\u{7}".repeat(900).replace('\u{7}', "")
    );
    let shown = read("f", &long, sample).unwrap_err()[0].to_string();
    assert!(
        shown.contains(&format!("kind \"{}…\": is not", "é".repeat(60))),
        "{shown}"
    );
}

#[test]
fn deep_nesting_is_refused_and_not_followed() {
    for open in ["[", "{a=", "[{a="] {
        let text = format!("name = {}", open.repeat(20_000));
        assert!(read("f", &text, sample).is_err());
    }
    let dotted = format!("{}a = 1", "a.".repeat(20_000));
    assert!(read("f", &dotted, sample).is_err());
}
