//! Text as GitHub takes it: cut to what is allowed, escaped for an address.

use std::error::Error;
use std::fmt::Write as _;

/// GitHub refuses a longer description of a status with 422.
pub(super) const DESCRIPTION: usize = 140;

/// The most that is repeated of what GitHub, or a gateway before it, says.
const REASON: usize = 300;

/// At most `limit` characters; what is cut off is shown by an ellipsis.
pub(super) fn cut(text: &str, limit: usize) -> String {
    if text.chars().count() <= limit {
        return text.to_owned();
    }
    let mut kept: String = text.chars().take(limit.saturating_sub(1)).collect();
    kept.truncate(kept.trim_end().len());
    kept.push('…');
    kept
}

/// One printable line of a foreign text: it goes into logs and the journal.
pub(super) fn line(text: &str) -> String {
    let printable = |c: char| if c.is_control() { ' ' } else { c };
    let plain: String = text.chars().take(4 * REASON).map(printable).collect();
    let words: Vec<&str> = plain.split_whitespace().collect();
    cut(&words.join(" "), REASON)
}

/// An error and its causes in one line. Causes that only repeat the one before
/// are left out.
pub(super) fn chain(error: &dyn Error) -> String {
    let mut text = error.to_string();
    let mut next = error.source();
    while let Some(cause) = next {
        let cause_text = cause.to_string();
        if !text.contains(&cause_text) {
            // Writing to a String does not fail.
            let _ = write!(text, ": {cause_text}");
        }
        next = cause.source();
    }
    line(&text)
}

/// Percent-encodes a value of a query.
pub(super) fn encode(value: &str) -> String {
    let mut encoded = String::with_capacity(value.len());
    for byte in value.bytes() {
        let plain = byte.is_ascii_alphanumeric() || b"-._~".contains(&byte);
        match plain {
            true => encoded.push(char::from(byte)),
            // Writing to a String does not fail.
            false => drop(write!(encoded, "%{byte:02X}")),
        }
    }
    encoded
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_description_is_cut_between_characters() {
        let long = "Größe ".repeat(40);
        let cut_text = cut(&long, DESCRIPTION);
        assert!(cut_text.chars().count() <= DESCRIPTION);
        assert!(cut_text.ends_with('…') && !cut_text.ends_with(" …"));
        let exact = "ü".repeat(DESCRIPTION);
        assert_eq!(cut(&exact, DESCRIPTION), exact);
    }

    #[test]
    fn an_environment_of_any_name_is_one_value() {
        assert_eq!(encode("pr/7 & co=ä"), "pr%2F7%20%26%20co%3D%C3%A4");
    }

    #[test]
    fn a_page_of_a_gateway_becomes_one_short_line() {
        let page = format!("<html>\n\u{1b}[31m{}</html>", "x ".repeat(2_000));
        let text = line(&page);
        assert!(text.chars().count() <= REASON && !text.chars().any(char::is_control));
    }
}
