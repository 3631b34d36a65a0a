use super::{EXAMPLE, parse};

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
        let env = "[env]\nTOKEN = \"hunter-two\"\nMORE = 'x'\n     ";
        let text = format!("{}{put}{}", &env[..at], &env[at..]);
        // Marks put into the secret itself split it; the longer half must not show either.
        for mistake in parse("f", "shop", &text).unwrap_err() {
            let shown = mistake.to_string();
            assert!(!shown.contains("hunter") && !shown.contains("two"), "{text}\n{shown}");
        }
    }
}
