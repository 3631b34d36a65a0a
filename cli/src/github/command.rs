//! The commands that a runner reads in a log, with everything in them escaped.

/// A command with its properties and its text.
pub(super) fn command(name: &str, properties: &[(&str, &str)], text: &str) -> String {
    let written: Vec<_> = properties
        .iter()
        .map(|(key, value)| format!("{key}={}", property(value)))
        .collect();
    let written = written.join(",");
    let space = if written.is_empty() { "" } else { " " };
    format!("::{name}{space}{written}::{}", data(text))
}

fn data(text: &str) -> String {
    // The percent sign first: it begins every escape.
    text.replace('%', "%25")
        .replace('\r', "%0D")
        .replace('\n', "%0A")
}

fn property(text: &str) -> String {
    data(text).replace(':', "%3A").replace(',', "%2C")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_in_a_text_ends_its_command() {
        let check = |text: &str, expected: &str| {
            assert_eq!(command("error", &[], text), expected);
        };
        check("plain", "::error::plain");
        check(
            "100%\r\n::set-output::",
            "::error::100%25%0D%0A::set-output::",
        );
        check("%0A", "::error::%250A");
    }

    #[test]
    fn nothing_in_a_property_begins_another() {
        let written = command("warning", &[("title", "a:b,file=c\n")], "t");
        assert_eq!(written, "::warning title=a%3Ab%2Cfile=c%0A::t");
    }
}
