//! The cookies that a request brings.
//!
//! Read as RFC 6265 has servers do it (section 4.2), and forgiving: what has no
//! name is passed over. HTTP/2 clients send each cookie in a field of its own.

use http::{HeaderMap, header};

/// The values of the cookies of this name, in the order in which they came;
/// browsers send that of the longest path first.
pub(super) fn values<'h>(headers: &'h HeaderMap, name: &[u8]) -> impl Iterator<Item = &'h [u8]> {
    let fields = headers.get_all(header::COOKIE).into_iter();
    let pairs = fields.flat_map(|field| field.as_bytes().split(|&b| b == b';'));
    pairs.filter_map(move |pair| {
        let pair = pair.trim_ascii();
        let rest = pair.strip_prefix(name)?.trim_ascii_start();
        Some(unquoted(rest.strip_prefix(b"=")?.trim_ascii_start()))
    })
}

/// A value may stand in quotes, which are no part of it.
fn unquoted(value: &[u8]) -> &[u8] {
    let inner = value.strip_prefix(b"\"");
    inner
        .and_then(|inner| inner.strip_suffix(b"\""))
        .unwrap_or(value)
}

#[cfg(test)]
mod tests {
    use super::*;
    use http::HeaderValue;
    use proptest::prelude::*;

    fn check(fields: &[&[u8]], name: &str, expected: &[&str]) {
        let mut headers = HeaderMap::new();
        for field in fields {
            headers.append(header::COOKIE, HeaderValue::from_bytes(field).unwrap());
        }
        let found: Vec<_> = values(&headers, name.as_bytes())
            .map(String::from_utf8_lossy)
            .collect();
        assert_eq!(found, expected, "{name}");
    }

    #[test]
    fn cookies_are_found_by_their_whole_name_in_every_field() {
        check(&[], "a", &[]);
        check(&[b"a=1"], "a", &["1"]);
        check(&[b"b=2; a=1"], "a", &["1"]);
        check(&[b"b=2", b"a=1; c=3", b"a=4"], "a", &["1", "4"]);
        check(&[b"aa=1; xa=2; A=3; a"], "a", &[]);
        check(&[b"a=1;a = 2 ;\ta=\"3\""], "a", &["1", "2", "3"]);
        check(&[b"a=\"; a=\"\"; a="], "a", &["\"", "", ""]);
        check(&[b"a=b=c; =a; ;;"], "a", &["b=c"]);
        check(&[b"x=a=1"], "a", &[]);
        check(&[b"b=\xff; a=\xff"], "a", &["\u{FFFD}"]);
    }

    proptest! {
        #[test]
        fn what_a_client_sends_as_cookies_is_only_read(
            fields in prop::collection::vec("[ -~\t]{0,40}", 0..4),
            name in "[a-z]{1,3}",
        ) {
            let mut headers = HeaderMap::new();
            for field in &fields {
                headers.append(header::COOKIE, HeaderValue::from_str(field).unwrap());
            }
            for value in values(&headers, name.as_bytes()) {
                prop_assert!(!value.contains(&b';'));
            }
        }
    }
}
