//! What a request must be before it is routed.
//!
//! Everything that two programs could read in two ways is refused here, and the
//! connection ends with the refusal. It looks at no table.

use std::borrow::Cow;

use http::request::Parts;
use http::{HeaderMap, HeaderValue, Method, StatusCode, Uri, Version, header};
use hyper::ext::Protocol;
use memchr::memchr;

use crate::framing::{Fault, is_lookalike};
use crate::headers;
use crate::tally::Form;

/// Why a request is not served, and what the client is told.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Refused {
    pub(crate) form: Form,
    pub(crate) status: StatusCode,
    pub(crate) text: &'static str,
}

/// Shorthand for the most common refusal.
const fn bad(form: Form, text: &'static str) -> Refused {
    Refused {
        form,
        status: StatusCode::BAD_REQUEST,
        text,
    }
}

/// How a request asks for a WebSocket.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum WebSocket {
    /// It does not.
    No,
    /// By an upgrade of its connection (RFC 6455).
    Upgrade,
    /// By an extended CONNECT on a stream (RFC 8441).
    Extended,
}

/// What was learned of a request on the way.
#[derive(Debug)]
pub(crate) struct Admitted {
    /// The declared length of its body; none where only its end will tell.
    pub(crate) length: Option<u64>,
    /// Whether it asks for a WebSocket.
    pub(crate) websocket: WebSocket,
}

/// Checks a request, and brings its address into the form without authority. One of
/// HTTP/2 gets the fields that it would have had in HTTP/1.1.
pub(crate) fn admit(parts: &mut Parts, fault: Option<Fault>) -> Result<Admitted, Refused> {
    if let Some(fault) = fault {
        return Err(bad(fault.form(), fault.text()));
    }
    let streamed = parts.version == Version::HTTP_2;
    let mut websocket = WebSocket::No;
    if parts.method == Method::CONNECT {
        if !(streamed && names_websocket(parts)) {
            return Err(Refused {
                form: Form::Target,
                status: StatusCode::METHOD_NOT_ALLOWED,
                text: "this is no forward proxy",
            });
        }
        websocket = WebSocket::Extended;
    }
    if streamed {
        check_stream(&parts.headers)?;
        bring_host(parts)?;
        join_cookies(&mut parts.headers);
    }
    check_host(parts)?;
    let length = check_length(parts, streamed)?;
    if parts.headers.contains_key(header::CONNECTION) {
        if headers::names_forbidden(&parts.headers) {
            return Err(bad(Form::Field, "Connection names a field that must pass"));
        }
        if parts.version == Version::HTTP_11
            && parts.method == Method::GET
            && headers::is_websocket(&parts.headers)
        {
            websocket = WebSocket::Upgrade;
        }
    }
    if websocket == WebSocket::Upgrade && length != Some(0) {
        return Err(bad(Form::Length, "an upgrade with a body"));
    }
    Ok(Admitted { length, websocket })
}

fn names_websocket(parts: &Parts) -> bool {
    let protocol = parts.extensions.get::<Protocol>();
    protocol.is_some_and(|protocol| protocol.as_ref() == b"websocket")
}

/// The length of the body as it was declared; it goes on as the plain number.
fn check_length(parts: &mut Parts, streamed: bool) -> Result<Option<u64>, Refused> {
    if check_encoding(parts)? {
        return Ok(None);
    }
    let mut declared = parts.headers.get_all(header::CONTENT_LENGTH).into_iter();
    let Some(value) = declared.next() else {
        return Ok((!streamed).then_some(0));
    };
    let only = declared.next().is_none();
    let (number, zeros) = number(value)
        .filter(|_| only)
        .ok_or(bad(Form::Length, "no Content-Length"))?;
    if zeros {
        // Some programs take leading zeros for base eight.
        let plain = HeaderValue::from(number);
        parts.headers.insert(header::CONTENT_LENGTH, plain);
    }
    Ok(Some(number))
}

/// Digits and nothing else, and whether there are zeros in front.
fn number(value: &HeaderValue) -> Option<(u64, bool)> {
    let bytes = value.as_bytes();
    if !bytes.iter().all(u8::is_ascii_digit) {
        return None;
    }
    let number = str::from_utf8(bytes).ok()?.parse().ok()?;
    Some((number, bytes.len() > 1 && bytes[0] == b'0'))
}

/// Whether the fields of a stream are those of a stream (RFC 9113, section 8.2). What
/// a name and a value are made of, the library has checked.
fn check_stream(headers: &HeaderMap) -> Result<(), Refused> {
    for (name, value) in headers {
        let value = value.as_bytes();
        let fault = match name.as_str() {
            "connection" | "keep-alive" | "proxy-connection" | "transfer-encoding" | "upgrade" => {
                Some("a field of a connection in a stream")
            }
            "te" if !value.eq_ignore_ascii_case(b"trailers") => Some("a TE other than trailers"),
            name if is_lookalike(name.as_bytes()) => Some(Fault::LookalikeName.text()),
            _ if value.trim_ascii().len() < value.len() => Some("a space around a value"),
            _ => None,
        };
        if let Some(text) = fault {
            return Err(bad(Form::Http2, text));
        }
    }
    Ok(())
}

/// Makes the authority of a stream its `Host`. Whether the two agree where both were
/// given is looked at with the requests of HTTP/1.1.
fn bring_host(parts: &mut Parts) -> Result<(), Refused> {
    if parts.headers.contains_key(header::HOST) {
        return Ok(());
    }
    let host = parts.uri.authority().map(http::uri::Authority::as_str);
    let host = host.and_then(|host| HeaderValue::from_str(host).ok());
    parts
        .headers
        .insert(header::HOST, host.ok_or(bad(Form::Host, "no Host"))?);
    Ok(())
}

/// A stream may have its cookies in pieces; HTTP/1.1 has them in one (RFC 9113,
/// section 8.2.3).
fn join_cookies(headers: &mut HeaderMap) {
    let mut pieces = headers.get_all(header::COOKIE).into_iter();
    let (Some(first), Some(second)) = (pieces.next(), pieces.next()) else {
        return;
    };
    let mut whole = first.as_bytes().to_vec();
    for piece in std::iter::once(second).chain(pieces) {
        whole.extend_from_slice(b"; ");
        whole.extend_from_slice(piece.as_bytes());
    }
    if let Ok(whole) = HeaderValue::from_bytes(&whole) {
        headers.insert(header::COOKIE, whole);
    }
}

fn check_host(parts: &mut Parts) -> Result<(), Refused> {
    let mut hosts = parts.headers.get_all(header::HOST).into_iter();
    let host = hosts.next();
    if hosts.next().is_some() {
        return Err(bad(Form::Host, "more than one Host"));
    }
    if host.is_none() && parts.version == Version::HTTP_11 {
        return Err(bad(Form::Host, "no Host"));
    }
    let text = host.map_or(&b""[..], HeaderValue::as_bytes);
    if !is_host(text) {
        return Err(bad(Form::Host, "a Host that is no host"));
    }
    if let Some(authority) = parts.uri.authority() {
        let http = parts.uri.scheme_str().is_some_and(|scheme| {
            scheme.eq_ignore_ascii_case("http") || scheme.eq_ignore_ascii_case("https")
        });
        if !http || !authority.as_str().as_bytes().eq_ignore_ascii_case(text) {
            return Err(bad(Form::Host, "the address and Host do not agree"));
        }
        let path = parts.uri.path_and_query().cloned();
        parts.uri = path.map_or_else(|| Uri::from_static("/"), Uri::from);
    }
    let path = parts.uri.path();
    if path.starts_with('/') || (path == "*" && parts.method == Method::OPTIONS) {
        Ok(())
    } else {
        Err(bad(Form::Target, "no path"))
    }
}

/// Whether a text is a name or an address, with a port or without; or empty, as in a
/// request for no host.
pub(crate) fn is_host(text: &[u8]) -> bool {
    let (name, port) = match text.strip_prefix(b"[") {
        Some(rest) => {
            let Some(end) = memchr(b']', rest) else {
                return false;
            };
            let letter = |b: &u8| b.is_ascii_hexdigit() || b":.".contains(b);
            if end == 0 || !rest[..end].iter().all(letter) {
                return false;
            }
            (&b""[..], &rest[end + 1..])
        }
        None => text.split_at(memchr(b':', text).unwrap_or(text.len())),
    };
    let letter = |b: &u8| b.is_ascii_alphanumeric() || b"-._".contains(b);
    let port = port.strip_prefix(b":").unwrap_or(port);
    name.iter().all(letter) && port.len() <= 5 && port.iter().all(u8::is_ascii_digit)
}

/// Whether the body is chunked; no other encoding is taken.
fn check_encoding(parts: &Parts) -> Result<bool, Refused> {
    let mut encodings = parts.headers.get_all(header::TRANSFER_ENCODING).into_iter();
    match (encodings.next(), encodings.next()) {
        (None, _) => Ok(false),
        (Some(only), None) if only.as_bytes().eq_ignore_ascii_case(b"chunked") => Ok(true),
        _ => Err(bad(
            Form::Encoding,
            "a Transfer-Encoding other than chunked",
        )),
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

    fn stream(
        method: &str,
        uri: &str,
        fields: &[(&str, &str)],
    ) -> Result<(Admitted, Parts), &'static str> {
        let mut request = http::Request::builder()
            .method(method)
            .uri(uri)
            .version(Version::HTTP_2);
        for (name, value) in fields {
            request = request.header(*name, *value);
        }
        let (mut parts, ()) = request.body(()).unwrap().into_parts();
        if method == "CONNECT" {
            parts.extensions.insert(Protocol::from_static("websocket"));
        }
        match admit(&mut parts, None) {
            Ok(admitted) => Ok((admitted, parts)),
            Err(refused) => Err(refused.text),
        }
    }

    #[test]
    fn a_stream_gets_the_fields_of_a_request() {
        let (admitted, parts) = stream(
            "POST",
            "https://a.example:8443/x?y",
            &[
                ("cookie", "a=1"),
                ("te", "trailers"),
                ("cookie", "b=2"),
                ("cookie", "c=3"),
            ],
        )
        .unwrap();
        assert_eq!(parts.uri, "/x?y");
        assert_eq!(parts.headers["host"], "a.example:8443");
        let cookies: Vec<_> = parts.headers.get_all("cookie").iter().collect();
        assert_eq!(cookies, ["a=1; b=2; c=3"]);
        assert_eq!((admitted.length, admitted.websocket), (None, WebSocket::No));
        let fields = [("host", "A.example"), ("content-length", "007")];
        let (admitted, parts) = stream("POST", "http://a.example/", &fields).unwrap();
        assert_eq!(admitted.length, Some(7));
        assert_eq!(parts.headers["content-length"], "7");
        let (_, parts) = stream("GET", "/x", &[("host", "a.example")]).unwrap();
        assert_eq!(parts.headers["host"], "a.example");
    }

    #[test]
    fn a_stream_may_ask_for_a_websocket() {
        let (admitted, parts) = stream("CONNECT", "https://a.example/chat", &[]).unwrap();
        assert_eq!(admitted.websocket, WebSocket::Extended);
        assert_eq!(
            (parts.uri.path(), &parts.headers["host"]),
            ("/chat", &HeaderValue::from_static("a.example"))
        );
    }

    #[test]
    fn streams_of_two_meanings_are_refused() {
        let check = |uri: &str, fields: &[(&str, &str)], expected: &str| {
            let told = stream("GET", uri, fields).map(|_| ());
            assert_eq!(told, Err(expected), "{uri} {fields:?}");
        };
        let uri = "https://a.example/";
        let connection = "a field of a connection in a stream";
        check(uri, &[("connection", "close")], connection);
        check(uri, &[("transfer-encoding", "chunked")], connection);
        check(uri, &[("upgrade", "websocket")], connection);
        check(uri, &[("keep-alive", "1")], connection);
        check(uri, &[("proxy-connection", "x")], connection);
        check(uri, &[("te", "gzip")], "a TE other than trailers");
        check(uri, &[("te", "trailers, gzip")], "a TE other than trailers");
        check(uri, &[("a", "\tb")], "a space around a value");
        check(uri, &[("a", "b ")], "a space around a value");
        check(
            uri,
            &[("x_forwarded_for", "1")],
            Fault::LookalikeName.text(),
        );
        let differ = "the address and Host do not agree";
        check(uri, &[("host", "b.example")], differ);
        check("ftp://a.example/", &[], differ);
        check("https://u@a.example/", &[("host", "a.example")], differ);
        check("https://u@a.example/", &[], "a Host that is no host");
        check(
            uri,
            &[("host", "a.example"), ("host", "a.example")],
            "more than one Host",
        );
        check("/", &[], "no Host");
        for length in ["+1", "1 1", ""] {
            check(uri, &[("content-length", length)], "no Content-Length");
        }
        let two = [("content-length", "1"), ("content-length", "1")];
        check(uri, &two, "no Content-Length");
    }

    #[test]
    fn a_host_is_a_name_or_an_address_with_a_port_or_without() {
        for host in [
            "",
            "a",
            "a.example.",
            "a_b:8080",
            "a:",
            "127.0.0.1:1",
            "[::1]",
            "[::ffff:1.2.3.4]:80",
        ] {
            assert!(is_host(host.as_bytes()), "{host}");
        }
        for host in [
            "a b", "a@b", "a:b", "a:1:2", "a:123456", "[::1", "[]", "[g]", "[::1]x", "::1", "a[",
            "a/b", "a,b", "\u{e9}",
        ] {
            assert!(!is_host(host.as_bytes()), "{host}");
        }
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
