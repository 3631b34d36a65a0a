//! What a request must be before it is routed.
//!
//! Everything that two programs could read in two ways is refused here, and the
//! connection ends with the refusal. It looks at no table.

use std::borrow::Cow;

use http::request::Parts;
use http::{HeaderValue, Method, StatusCode, Uri, Version, header};

use crate::framing::Fault;
use crate::headers;

/// Why a request is not served, and what the client is told.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Refused {
    pub(crate) status: StatusCode,
    pub(crate) text: &'static str,
}

/// Shorthand for the most common refusal.
const fn bad(text: &'static str) -> Refused {
    Refused {
        status: StatusCode::BAD_REQUEST,
        text,
    }
}

/// What was learned of a request on the way.
#[derive(Debug)]
pub(crate) struct Admitted {
    /// The declared length of its body; none where it is chunked.
    pub(crate) length: Option<u64>,
    /// Whether it asks for a WebSocket.
    pub(crate) websocket: bool,
}

/// Checks a request, and brings its address into the form without authority.
pub(crate) fn admit(parts: &mut Parts, fault: Option<Fault>) -> Result<Admitted, Refused> {
    if let Some(fault) = fault {
        return Err(bad(fault.text()));
    }
    if parts.method == Method::CONNECT {
        return Err(Refused {
            status: StatusCode::METHOD_NOT_ALLOWED,
            text: "this is no forward proxy",
        });
    }
    check_host(parts)?;
    let encoded = check_encoding(parts)?;
    let declared = parts.headers.get(header::CONTENT_LENGTH);
    let length = match (encoded, declared) {
        (true, _) => None,
        (false, None) => Some(0),
        (false, Some(value)) => Some(number(value).ok_or(bad("no Content-Length"))?),
    };
    let mut websocket = false;
    if parts.headers.contains_key(header::CONNECTION) {
        if headers::names_forbidden(&parts.headers) {
            return Err(bad("Connection names a field that must pass"));
        }
        websocket = parts.version == Version::HTTP_11
            && parts.method == Method::GET
            && headers::is_websocket(&parts.headers);
    }
    if websocket && length != Some(0) {
        return Err(bad("an upgrade with a body"));
    }
    Ok(Admitted { length, websocket })
}

fn number(value: &HeaderValue) -> Option<u64> {
    value.to_str().ok()?.parse().ok()
}

fn check_host(parts: &mut Parts) -> Result<(), Refused> {
    let mut hosts = parts.headers.get_all(header::HOST).into_iter();
    let host = hosts.next();
    if hosts.next().is_some() {
        return Err(bad("more than one Host"));
    }
    if host.is_none() && parts.version == Version::HTTP_11 {
        return Err(bad("no Host"));
    }
    let letter = |b: &u8| b.is_ascii_alphanumeric() || b"-._:[]".contains(b);
    let text = host.map_or(&b""[..], HeaderValue::as_bytes);
    if !text.iter().all(letter) {
        return Err(bad("a Host that is no host"));
    }
    if let Some(authority) = parts.uri.authority() {
        let http = parts.uri.scheme_str().is_some_and(|scheme| {
            scheme.eq_ignore_ascii_case("http") || scheme.eq_ignore_ascii_case("https")
        });
        if !http || !authority.as_str().as_bytes().eq_ignore_ascii_case(text) {
            return Err(bad("the address and Host do not agree"));
        }
        let path = parts.uri.path_and_query().cloned();
        parts.uri = path.map_or_else(|| Uri::from_static("/"), Uri::from);
    }
    let path = parts.uri.path();
    if path.starts_with('/') || (path == "*" && parts.method == Method::OPTIONS) {
        Ok(())
    } else {
        Err(bad("no path"))
    }
}

/// Whether the body is chunked; no other encoding is taken.
fn check_encoding(parts: &Parts) -> Result<bool, Refused> {
    let mut encodings = parts.headers.get_all(header::TRANSFER_ENCODING).into_iter();
    match (encodings.next(), encodings.next()) {
        (None, _) => Ok(false),
        (Some(only), None) if only.as_bytes().eq_ignore_ascii_case(b"chunked") => Ok(true),
        _ => Err(bad("a Transfer-Encoding other than chunked")),
    }
}

/// The host that a request is routed by: lower case, without port or final dot.
pub(crate) fn routed_host(host: Option<&HeaderValue>) -> Cow<'_, str> {
    let text = host.and_then(|host| host.to_str().ok()).unwrap_or_default();
    let name = match text.rfind(']') {
        Some(end) => &text[..=end],
        None => text.split(':').next().unwrap_or_default(),
    };
    let name = name.strip_suffix('.').unwrap_or(name);
    if name.bytes().any(|b| b.is_ascii_uppercase()) {
        Cow::Owned(name.to_ascii_lowercase())
    } else {
        Cow::Borrowed(name)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(method: &str, uri: &str, fields: &[(&str, &str)], expected: Result<&str, &str>) {
        let mut request = http::Request::builder().method(method).uri(uri);
        for (name, value) in fields {
            request = request.header(*name, *value);
        }
        let (mut parts, ()) = request.body(()).unwrap().into_parts();
        let told = admit(&mut parts, None).map(|_| parts.uri.to_string());
        let told = told.as_deref().map_err(|refused| refused.text);
        assert_eq!(told, expected, "{method} {uri} {fields:?}");
    }

    #[test]
    fn requests_of_one_meaning_are_admitted() {
        let host = ("Host", "a.example");
        check("GET", "/x?y", &[host], Ok("/x?y"));
        check("GET", "http://a.example/x?y", &[host], Ok("/x?y"));
        check("GET", "http://A.example", &[host], Ok("/"));
        check("OPTIONS", "*", &[host], Ok("*"));
        check(
            "POST",
            "/",
            &[host, ("Transfer-Encoding", "Chunked")],
            Ok("/"),
        );
    }

    #[test]
    fn requests_of_two_meanings_are_refused() {
        let host = ("Host", "a.example");
        check("GET", "/", &[], Err("no Host"));
        check("GET", "/", &[host, host], Err("more than one Host"));
        check(
            "GET",
            "/",
            &[("Host", "a b")],
            Err("a Host that is no host"),
        );
        check(
            "GET",
            "/",
            &[("Host", "a@b")],
            Err("a Host that is no host"),
        );
        let differ = Err("the address and Host do not agree");
        check("GET", "http://b.example/", &[host], differ);
        check("GET", "http://a.example:81/", &[host], differ);
        check("GET", "ftp://a.example/", &[host], differ);
        check("GET", "*", &[host], Err("no path"));
        check(
            "CONNECT",
            "a.example:443",
            &[host],
            Err("this is no forward proxy"),
        );
        let encoding = Err("a Transfer-Encoding other than chunked");
        check(
            "POST",
            "/",
            &[host, ("Transfer-Encoding", "gzip, chunked")],
            encoding,
        );
        let chunked = ("Transfer-Encoding", "chunked");
        check("POST", "/", &[host, chunked, chunked], encoding);
        let named = Err("Connection names a field that must pass");
        check("GET", "/", &[host, ("Connection", "close, cookie")], named);
    }

    #[test]
    fn hosts_are_routed_without_case_port_and_final_dot() {
        let check = |host: &'static str, expected: &str| {
            let value = HeaderValue::from_static(host);
            assert_eq!(routed_host(Some(&value)), expected, "{host}");
        };
        check("a.example", "a.example");
        check("A.Example:8080", "a.example");
        check("a.example.", "a.example");
        check("[::1]:80", "[::1]");
        check("", "");
        assert_eq!(routed_host(None), "");
    }
}
