use super::{EVERY_KEY, EXAMPLE, parse};

/// That all mistakes lie in the file, in order, and that they show nothing of the secret.
fn lies_in_the_file(text: &str) {
    let Err(mistakes) = parse("f", "shop", text) else {
        return;
    };
    assert!(!mistakes.is_empty());
    assert!(mistakes.is_sorted_by_key(|m| (m.line, m.column)));
    for mistake in mistakes {
        let line = text.split('\n').nth(mistake.line - 1).unwrap();
        assert!(
            (1..=line.chars().count() + 1).contains(&mistake.column),
            "{mistake}"
        );
        assert!(!mistake.to_string().contains('\n'), "{mistake:?}");
    }
}

proptest::proptest! {
    #[test]
    fn no_text_is_too_strange_to_refuse(text: String, toml in "[\\[\\]{}=.,'\"\\\\#a-c1 \r\n\u{feff}é]{0,60}") {
        lies_in_the_file(&text);
        lies_in_the_file(&toml);
    }

    #[test]
    fn a_damaged_example_is_read_or_refused_in_its_place(
        at in 0..EXAMPLE.len(),
        cut in 0..40_usize,
        put in "[\\[\\]{}=.,'\"\\\\#a-c0-9 \r\n%é]{0,6}",
    ) {
        let end = (at + cut).min(EXAMPLE.len());
        lies_in_the_file(&format!("{}{put}{}", &EXAMPLE[..at], &EXAMPLE[end..]));
    }

    #[test]
    fn lines_in_any_order_keep_their_mistakes_in_place(
        lines in proptest::collection::vec(0..EXAMPLE.lines().count(), 0..60),
    ) {
        let all: Vec<&str> = EXAMPLE.lines().collect();
        let text: Vec<&str> = lines.into_iter().map(|line| all[line]).collect();
        lies_in_the_file(&text.join("\n"));
    }

    #[test]
    fn a_damaged_environment_never_shows_its_secret(
        at in 0..40_usize,
        put in "[\\[\\]{}=.,'\"#\n]{1,3}",
    ) {
        let env = "[env]\nTOKEN = \"hunter-zwei\"\nMORE = 'x'\n     ";
        let text = format!("{}{put}{}", &env[..at], &env[at..]);
        // Marks put into the secret itself split it; the longer half must not show either.
        for mistake in parse("f", "shop", &text).unwrap_err() {
            let shown = mistake.to_string();
            assert!(!shown.contains("hunter") && !shown.contains("zwei"), "{text}\n{shown}");
        }
    }
}

/// A value of any type, of which many nearly fit.
fn value() -> impl proptest::strategy::Strategy<Value = String> {
    use proptest::prelude::any;
    use proptest::strategy::{Just, Strategy as _};
    let scalar = proptest::prop_oneof![
        any::<i64>().prop_map(|number| number.to_string()),
        any::<f64>().prop_map(|number| format!("{number:?}").to_lowercase()),
        any::<bool>().prop_map(|flag| flag.to_string()),
        Just("1979-05-27".to_owned()),
        "'[ -&(-~]{0,12}'",
        "'/?[a-z0-9]{0,4}[:/.%*][a-zA-Z0-9:/]{0,6}'",
        "'[0-9]{1,20}(h|m|s|ms|%|MiB|GB| s)?'",
    ];
    let items = proptest::collection::vec(scalar, 0..4);
    let key = "(soft|hard|header|cookie|equals|matches|all|command|timeout)";
    proptest::prop_oneof![
        items
            .clone()
            .prop_map(|items| items.first().cloned().unwrap_or("''".to_owned())),
        items
            .clone()
            .prop_map(|items| format!("[{}]", items.join(", "))),
        (key, items.clone())
            .prop_map(|(key, items)| format!("{{ {key} = [{}] }}", items.join(", "))),
        (key, items).prop_map(|(key, items)| {
            format!(
                "[{{ {key} = {} }}]",
                items.first().map_or("1", String::as_str)
            )
        }),
    ]
}

proptest::proptest! {
    #![proptest_config(proptest::test_runner::Config::with_cases(2_000))]

    #[test]
    fn any_value_of_any_key_is_read_or_refused_in_its_place(
        line in 0..EVERY_KEY.lines().count(),
        value in value(),
    ) {
        let put = |(index, text): (usize, &str)| match (index == line, text.split_once(" = ")) {
            (true, Some((key, _))) => format!("{key} = {value}"),
            _ => text.to_owned(),
        };
        let lines: Vec<String> = EVERY_KEY.lines().enumerate().map(put).collect();
        lies_in_the_file(&lines.join("\n"));
    }
}
