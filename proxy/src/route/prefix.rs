//! What a target is asked for where the app's prefix is left out.

use bytes::Bytes;
use http::uri::PathAndQuery;

use super::claims::takes;

/// A path without a prefix, which it keeps where it does not begin with it.
pub(super) fn strip(prefix: &str, path: &PathAndQuery) -> PathAndQuery {
    if prefix == "/" || !takes(prefix, path.path()) {
        return path.clone();
    }
    let rest = &path.as_str()[prefix.len()..];
    let rest = if rest.starts_with('/') {
        Bytes::copy_from_slice(rest.as_bytes())
    } else {
        Bytes::from(format!("/{rest}"))
    };
    PathAndQuery::from_maybe_shared(rest).unwrap_or_else(|_| path.clone())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_prefix_is_left_out_and_the_query_stays() {
        let check = |prefix: &str, path: &'static str, expected: &str| {
            let path = PathAndQuery::from_static(path);
            assert_eq!(strip(prefix, &path).as_str(), expected, "{path}");
        };
        check("/api", "/api/x?y", "/x?y");
        check("/api", "/api", "/");
        check("/api", "/api?y=/api", "/?y=/api");
        check("/api", "/api/", "/");
        check("/api", "/api//x", "//x");
        check("/api", "/apix", "/apix");
        check("/api", "/", "/");
        check("/api", "*", "*");
        check("/", "/api/x?y", "/api/x?y");
    }
}
