//! Which fields pass, in both directions.
//!
//! Fields of one hop end here (RFC 9110, section 7.6.1), with those that
//! `Connection` names. What tells an app who called is not here but in
//! `forwarded`. Bodies are framed anew by
//! the HTTP library, so a framing field that passes here is checked by it.

use http::header::{self, HeaderMap, HeaderName, HeaderValue};

use crate::forwarded;
use cutover_wire::proxy::{MIRROR_HEADER, POOL_HEADER, PROBE_HEADER};

static REQUEST_ID: HeaderName = HeaderName::from_static("x-request-id");
static POOL: HeaderName = HeaderName::from_static(POOL_HEADER);

/// Names that do not pass, each with a bit of its place. Those of `ONE_HOP` are
/// dropped in both directions.
static DROPPED: [HeaderName; 15] = [
    header::CONNECTION,
    HeaderName::from_static("keep-alive"),
    HeaderName::from_static("proxy-connection"),
    header::TE,
    header::TRANSFER_ENCODING,
    header::UPGRADE,
    HeaderName::from_static(PROBE_HEADER),
    HeaderName::from_static(POOL_HEADER),
    HeaderName::from_static(MIRROR_HEADER),
    // Only we may tell a target. `Forwarded` and its relatives say the same as ours
    // and would contradict them.
    header::FORWARDED,
    HeaderName::from_static("x-forwarded-port"),
    HeaderName::from_static("x-forwarded-prefix"),
    HeaderName::from_static("x-forwarded-server"),
    HeaderName::from_static("x-real-ip"),
    // We answer the expectation ourselves when the target takes the body.
    header::EXPECT,
];

const ONE_HOP: u32 = (1 << 9) - 1;
const CONNECTION: u32 = 1;
const TRAILERS: u32 = 1 << 3;
const ENCODING: u32 = 1 << 4;
const PROBE: u32 = 1 << 6;

/// One that passes, but is looked for.
const ID: u32 = 1 << 15;

/// The bit of a name; none of most.
fn bit(name: &str) -> u32 {
    // The compiler compares with names of the same length only.
    match name {
        "connection" => CONNECTION,
        "keep-alive" => 1 << 1,
        "proxy-connection" => 1 << 2,
        "te" => TRAILERS,
        "transfer-encoding" => ENCODING,
        "upgrade" => 1 << 5,
        PROBE_HEADER => PROBE,
        POOL_HEADER => 1 << 7,
        MIRROR_HEADER => 1 << 8,
        "forwarded" => 1 << 9,
        "x-forwarded-port" => 1 << 10,
        "x-forwarded-prefix" => 1 << 11,
        "x-forwarded-server" => 1 << 12,
        "x-real-ip" => 1 << 13,
        "expect" => 1 << 14,
        "x-request-id" => ID,
        _ => 0,
    }
}

/// Fields that a client must not have dropped on the way: an app relies on them.
const NOT_TO_NAME: [&str; 6] = [
    "host",
    "authorization",
    "cookie",
    "content-length",
    "content-type",
    "x-request-id",
];

/// Whether `Connection` names a field that it must not.
pub(crate) fn names_forbidden(headers: &HeaderMap) -> bool {
    nominated(headers).any(|name| {
        let is = |other: &&str| name.eq_ignore_ascii_case(other.as_bytes());
        let forwarded = b"x-forwarded-";
        NOT_TO_NAME.iter().any(is)
            || name
                .get(..forwarded.len())
                .is_some_and(|start| start.eq_ignore_ascii_case(forwarded))
    })
}

fn nominated(headers: &HeaderMap) -> impl Iterator<Item = &[u8]> {
    headers
        .get_all(header::CONNECTION)
        .into_iter()
        .flat_map(|value| value.as_bytes().split(|&b| b == b','))
        .map(<[u8]>::trim_ascii)
        .filter(|name| !name.is_empty())
}

/// Whether `Connection` says what it mostly says, and names no field but those that
/// never pass.
fn is_plain(headers: &HeaderMap) -> bool {
    let mut values = headers.get_all(header::CONNECTION).into_iter();
    let (Some(only), None) = (values.next(), values.next()) else {
        return false;
    };
    let plain = [&b"keep-alive"[..], b"close", b"upgrade"];
    plain
        .iter()
        .any(|plain| only.as_bytes().eq_ignore_ascii_case(plain))
}

/// The bits of the names that occur.
fn seen(headers: &HeaderMap) -> u32 {
    headers
        .keys()
        .fold(0, |seen, name| seen | bit(name.as_str()))
}

/// Removes the fields of these bits, and those that `Connection` names.
fn strip(headers: &mut HeaderMap, bits: u32) {
    if bits & CONNECTION != 0 && !is_plain(headers) {
        let names: Vec<HeaderName> = nominated(headers)
            .filter(|name| !name.eq_ignore_ascii_case(b"close"))
            .filter_map(|name| HeaderName::from_bytes(name).ok())
            .collect();
        for name in names {
            headers.remove(name);
        }
    }
    let mut left = bits;
    while let Some(name) = DROPPED.get(left.trailing_zeros() as usize) {
        headers.remove(name);
        left &= left - 1;
    }
}

/// What a client said of its connection to us.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Wishes {
    /// The request is a probe of the front door.
    pub(crate) probe: bool,
    /// The client takes trailers.
    pub(crate) trailers: bool,
}

/// Makes a client's fields fit for a target.
pub(crate) fn to_target(headers: &mut HeaderMap, new_id: impl FnOnce() -> HeaderValue) -> Wishes {
    let seen = seen(headers);
    let wishes = Wishes {
        // A web server on this host may pass on what anybody sent to it.
        probe: seen & PROBE != 0 && !forwarded::is_passed_on(headers),
        trailers: seen & TRAILERS != 0 && takes_trailers(headers),
    };
    strip(headers, seen & !ID);
    // Also where `Connection` named the one that was there.
    if seen & ID == 0 || !headers.contains_key(&REQUEST_ID) {
        headers.insert(&REQUEST_ID, new_id());
    }
    wishes
}

/// Makes a target's fields fit for a client.
pub(crate) fn to_client(headers: &mut HeaderMap) {
    let seen = seen(headers);
    // The body was read by its encoding; a length beside it is untrue.
    if seen & ENCODING != 0 {
        headers.remove(header::CONTENT_LENGTH);
    }
    strip(headers, seen & ONE_HOP);
}

/// Puts the fields of a WebSocket upgrade back on a message that has it.
pub(crate) fn upgrade(headers: &mut HeaderMap) {
    headers.insert(header::CONNECTION, HeaderValue::from_static("Upgrade"));
    headers.insert(header::UPGRADE, HeaderValue::from_static("websocket"));
}

/// The name of a request.
pub(crate) fn request_id(headers: &HeaderMap) -> Option<&HeaderValue> {
    headers.get(&REQUEST_ID)
}

/// The key that a WebSocket over HTTP/2 does not have.
pub(crate) fn websocket_key(headers: &mut HeaderMap, key: HeaderValue) {
    headers.insert(header::SEC_WEBSOCKET_KEY, key);
}

fn takes_trailers(headers: &HeaderMap) -> bool {
    headers.get(header::TE).is_some_and(|te| {
        let mut codings = te.as_bytes().split(|&b| b == b',');
        codings.any(|coding| coding.trim_ascii().eq_ignore_ascii_case(b"trailers"))
    })
}

/// Tells a client that its connection ends with this answer.
pub(crate) fn close(headers: &mut HeaderMap) {
    headers.insert(header::CONNECTION, HeaderValue::from_static("close"));
}

/// Tells a probe which pool answered.
pub(crate) fn tell_pool(headers: &mut HeaderMap, pool: &HeaderValue) {
    headers.insert(&POOL, pool.clone());
}

/// Whether the answer is a stream of events.
pub(crate) fn is_stream(headers: &HeaderMap) -> bool {
    let events = b"text/event-stream";
    headers
        .get(header::CONTENT_TYPE)
        .and_then(|kind| kind.as_bytes().get(..events.len()))
        .is_some_and(|kind| kind.eq_ignore_ascii_case(events))
}

/// Whether the message asks for, or grants, a WebSocket.
pub(crate) fn is_websocket(headers: &HeaderMap) -> bool {
    let wished = headers.get(header::UPGRADE);
    wished.is_some_and(|wished| wished.as_bytes().eq_ignore_ascii_case(b"websocket"))
        && nominated(headers).any(|name| name.eq_ignore_ascii_case(b"upgrade"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::origin::Scheme;

    fn map(fields: &[(&str, &str)]) -> HeaderMap {
        let mut headers = HeaderMap::new();
        for (name, value) in fields {
            let name = HeaderName::from_bytes(name.as_bytes()).unwrap();
            headers.append(name, HeaderValue::from_str(value).unwrap());
        }
        headers
    }

    fn forwarded(fields: &[(&str, &str)]) -> Vec<String> {
        let mut headers = map(fields);
        to_target(&mut headers, || HeaderValue::from_static("made"));
        let peer = HeaderValue::from_static("192.0.2.1");
        let caller = forwarded::client("192.0.2.1".parse().unwrap(), &headers, &[]);
        forwarded::rewrite(&mut headers, &caller, &peer, Scheme::Http);
        let lines = headers
            .iter()
            .map(|(name, value)| format!("{name}: {}", value.to_str().unwrap()));
        let mut lines: Vec<String> = lines.collect();
        lines.sort();
        lines
    }

    #[test]
    fn fields_of_one_hop_and_claims_of_the_client_do_not_pass() {
        let told = forwarded(&[
            ("Host", "a.example"),
            ("Connection", "close, X-Secret"),
            ("Connection", "keep-alive"),
            ("Keep-Alive", "timeout=5"),
            ("Proxy-Connection", "keep-alive"),
            ("TE", "trailers"),
            ("Transfer-Encoding", "chunked"),
            ("Upgrade", "h2c"),
            ("X-Secret", "1"),
            ("X-Forwarded-For", "10.0.0.1"),
            ("X-Forwarded-For", "10.0.0.2"),
            ("X-Forwarded-Proto", "https"),
            ("X-Forwarded-Host", "evil.example"),
            ("X-Real-IP", "10.0.0.1"),
            ("Forwarded", "for=10.0.0.1"),
            ("Expect", "100-continue"),
            (PROBE_HEADER, "1"),
            (POOL_HEADER, "v1"),
            ("X-Request-Id", "kept"),
            ("Accept", "*/*"),
        ]);
        let expected = [
            "accept: */*",
            "host: a.example",
            "x-forwarded-for: 192.0.2.1",
            "x-forwarded-host: a.example",
            "x-forwarded-proto: http",
            "x-request-id: kept",
        ];
        assert_eq!(told, expected);
    }

    #[test]
    fn each_name_that_is_dropped_has_the_bit_of_its_place() {
        for (place, name) in DROPPED.iter().enumerate() {
            assert_eq!(bit(name.as_str()), 1 << place, "{name}");
        }
        assert_eq!(bit(REQUEST_ID.as_str()), 1 << DROPPED.len());
        assert_eq!((bit("host"), bit("cookie"), bit("")), (0, 0, 0));
    }

    #[test]
    fn a_client_is_heard_before_its_fields_are_dropped() {
        let check = |fields: &[(&str, &str)], probe: bool, trailers: bool| {
            let told = to_target(&mut map(fields), || HeaderValue::from_static("x"));
            assert_eq!(told, Wishes { probe, trailers }, "{fields:?}");
        };
        check(&[], false, false);
        check(&[(PROBE_HEADER, "1")], true, false);
        check(&[("TE", "trailers")], false, true);
        check(
            &[("TE", "gzip"), ("TE", "gzip;q=0, Trailers")],
            false,
            false,
        );
        check(&[("TE", "gzip, Trailers")], false, true);
        check(&[("TE", "gzip")], false, false);
    }

    #[test]
    fn a_request_without_id_gets_one() {
        assert!(forwarded(&[]).contains(&"x-request-id: made".to_owned()));
    }

    #[test]
    fn an_answer_loses_its_length_beside_an_encoding_and_the_pool() {
        let mut headers = map(&[
            ("Transfer-Encoding", "chunked"),
            ("Content-Length", "5"),
            (POOL_HEADER, "forged"),
            ("Connection", "X-Hop"),
            ("X-Hop", "1"),
            ("Server", "s"),
        ]);
        to_client(&mut headers);
        assert_eq!(headers, map(&[("Server", "s")]));
    }

    #[test]
    fn connection_must_not_name_what_apps_rely_on() {
        for name in [
            "Host",
            "X-Forwarded-For",
            "x-forwarded-anything",
            "Cookie",
            "AUTHORIZATION",
        ] {
            assert!(
                names_forbidden(&map(&[("Connection", &format!("close, {name}"))])),
                "{name}"
            );
        }
        assert!(!names_forbidden(&map(&[(
            "Connection",
            "close, X-Hop, Upgrade"
        )])));
    }

    proptest::proptest! {
        #[test]
        fn no_field_of_one_hop_is_ever_forwarded(
            fields in proptest::collection::vec(("[A-Za-z-]{1,6}|Connection|TE|Keep-Alive|Upgrade|Proxy-Connection|Transfer-Encoding", "[a-zA-Z, -]{0,20}"), 0..30),
        ) {
            let fields: Vec<(&str, &str)> = fields.iter().map(|(n, v)| (n.as_str(), v.as_str())).collect();
            let mut headers = map(&fields);
            let named: Vec<String> = nominated(&headers)
                .map(|name| String::from_utf8_lossy(name).to_ascii_lowercase())
                .filter(|name| name != "close")
                .collect();
            to_target(&mut headers, || HeaderValue::from_static("x"));
            for name in headers.keys() {
                proptest::prop_assert!(!DROPPED.contains(name), "{name}");
                proptest::prop_assert!(!named.contains(&name.as_str().to_owned()), "{name} was nominated");
            }
        }
    }
}
