//! Which fields pass, in both directions.
//!
//! Fields of one hop end here (RFC 9110, section 7.6.1), with those that
//! `Connection` names. What tells an app who called is always made anew from
//! the peer: there is no trusted proxy before us yet. Bodies are framed anew by
//! the HTTP library, so a framing field that passes here is checked by it.

use http::header::{self, HeaderMap, HeaderName, HeaderValue};

use cutover_wire::proxy::{POOL_HEADER, PROBE_HEADER};

static FORWARDED_FOR: HeaderName = HeaderName::from_static("x-forwarded-for");
static FORWARDED_PROTO: HeaderName = HeaderName::from_static("x-forwarded-proto");
static FORWARDED_HOST: HeaderName = HeaderName::from_static("x-forwarded-host");
static REQUEST_ID: HeaderName = HeaderName::from_static("x-request-id");
static POOL: HeaderName = HeaderName::from_static(POOL_HEADER);
static PROBE: HeaderName = HeaderName::from_static(PROBE_HEADER);

/// Names that are dropped in both directions.
const DROPPED: [&str; 8] = [
    "connection",
    "keep-alive",
    "proxy-connection",
    "te",
    "transfer-encoding",
    "upgrade",
    PROBE_HEADER,
    POOL_HEADER,
];

/// Names that only we may tell a target. `Forwarded` and its relatives say the
/// same as ours and would contradict them.
const CLAIMS: [&str; 6] = [
    "forwarded",
    "x-forwarded-port",
    "x-forwarded-prefix",
    "x-forwarded-server",
    "x-real-ip",
    // We answer the expectation ourselves when the target takes the body.
    "expect",
];

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

/// The lengths that occur in a list, one bit each.
const fn lengths(names: &[&str]) -> u64 {
    let (mut bits, mut place) = (0, 0);
    while place < names.len() {
        bits |= 1 << names[place].len();
        place += 1;
    }
    bits
}

/// Removes the fields of one hop, and those of `more`.
fn strip(headers: &mut HeaderMap, more: &[&str]) {
    let mut found: u32 = 0;
    let lengths = lengths(&DROPPED) | lengths(more);
    for name in headers.keys() {
        let name = name.as_str();
        // Most fields are in neither list, and most of those have another length.
        if lengths & (1 << name.len().min(63)) == 0 {
            continue;
        }
        for (bit, dropped) in (0..).zip(DROPPED.iter().chain(more)) {
            if name.len() == dropped.len() && name == *dropped {
                found |= 1 << bit;
            }
        }
    }
    if found == 0 {
        return;
    }
    if found & 1 != 0 {
        let names: Vec<HeaderName> = nominated(headers)
            .filter(|name| !name.eq_ignore_ascii_case(b"close"))
            .filter_map(|name| HeaderName::from_bytes(name).ok())
            .collect();
        for name in names {
            headers.remove(name);
        }
    }
    for (bit, dropped) in (0..).zip(DROPPED.iter().chain(more)) {
        if found & (1 << bit) != 0 {
            headers.remove(*dropped);
        }
    }
}

/// Makes a client's fields fit for a target.
pub(crate) fn to_target(
    headers: &mut HeaderMap,
    forwarded_for: &HeaderValue,
    new_id: impl FnOnce() -> HeaderValue,
) {
    strip(headers, &CLAIMS);
    headers.insert(&FORWARDED_FOR, forwarded_for.clone());
    headers.insert(&FORWARDED_PROTO, HeaderValue::from_static("http"));
    match headers.get(header::HOST).cloned() {
        Some(host) => headers.insert(&FORWARDED_HOST, host),
        None => headers.remove(&FORWARDED_HOST),
    };
    if !headers.contains_key(&REQUEST_ID) {
        headers.insert(&REQUEST_ID, new_id());
    }
}

/// Makes a target's fields fit for a client.
pub(crate) fn to_client(headers: &mut HeaderMap) {
    // The library read the body by its encoding; a length beside it is untrue.
    if headers.contains_key(header::TRANSFER_ENCODING) {
        headers.remove(header::CONTENT_LENGTH);
    }
    strip(headers, &[]);
}

/// Puts the fields of a WebSocket upgrade back on a message that has it.
pub(crate) fn upgrade(headers: &mut HeaderMap) {
    headers.insert(header::CONNECTION, HeaderValue::from_static("Upgrade"));
    headers.insert(header::UPGRADE, HeaderValue::from_static("websocket"));
}

/// Tells a client that its connection ends with this answer.
pub(crate) fn close(headers: &mut HeaderMap) {
    headers.insert(header::CONNECTION, HeaderValue::from_static("close"));
}

/// Whether the request is a probe of the front door.
pub(crate) fn is_probe(headers: &HeaderMap) -> bool {
    headers.contains_key(&PROBE)
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
        let peer = HeaderValue::from_static("192.0.2.1");
        to_target(&mut headers, &peer, || HeaderValue::from_static("made"));
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
            to_target(&mut headers, &HeaderValue::from_static("192.0.2.1"), || HeaderValue::from_static("x"));
            for name in headers.keys() {
                proptest::prop_assert!(!DROPPED.contains(&name.as_str()), "{name}");
                proptest::prop_assert!(!named.contains(&name.as_str().to_owned()), "{name} was nominated");
            }
        }
    }
}
