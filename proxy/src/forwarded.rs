//! Who the client is, and what targets are told of it.
//!
//! Whoever connects may claim anything. Only a peer within `trusted_proxies` is
//! believed, and only for the hop that it saw itself: `X-Forwarded-For` is read from
//! the right, where each proxy put whom it saw, over trusted proxies to the first
//! address that is none. That is the client; what stands further left it wrote itself.
//!
//! ```text
//!  X-Forwarded-For: 6.6.6.6, 203.0.113.9, 10.0.0.2      peer 10.0.0.1   trusted 10.0.0.0/8
//!                   claimed  ▲ the client   ◀─ trusted ─ trusted
//!  told to a target:         203.0.113.9, 10.0.0.2, 10.0.0.1
//! ```
//!
//! `Forwarded` (RFC 7239) is not read and never passed on: hardly any proxy writes it,
//! and an app that reads both must not find them at odds. `headers` drops it.
//!
//! Invariant: a peer that is not trusted is its own client, whatever it sends.

use std::net::{IpAddr, SocketAddr};

use cutover_wire::table::Network;
use http::header::{self, HeaderMap, HeaderName, HeaderValue};

use crate::admission::is_host;
use crate::origin::Scheme;

static FORWARDED_FOR: HeaderName = HeaderName::from_static("x-forwarded-for");
static FORWARDED_PROTO: HeaderName = HeaderName::from_static("x-forwarded-proto");
static FORWARDED_HOST: HeaderName = HeaderName::from_static("x-forwarded-host");

/// Trusted proxies in a row; a CDN before a balancer before an ingress are three.
const MAX_HOPS: usize = 16;

/// Who called.
#[derive(Debug, Clone)]
pub(crate) struct Caller {
    /// Its address; an IPv4 one that came as IPv6 is an IPv4 one.
    pub(crate) address: IpAddr,
    /// What a trusted proxy told of it.
    told: Option<Box<Told>>,
}

#[derive(Debug, Clone)]
struct Told {
    /// From the client to the peer.
    chain: HeaderValue,
    scheme: Option<Scheme>,
    host: Option<HeaderValue>,
}

impl Caller {
    /// How the client speaks, where the connection to us is of `own`.
    pub(crate) fn scheme(&self, own: Scheme) -> Scheme {
        let told = self.told.as_ref().and_then(|told| told.scheme);
        told.unwrap_or(own)
    }
}

/// The client of a request that `peer` brought.
pub(crate) fn client(peer: IpAddr, headers: &HeaderMap, trusted: &[Network]) -> Caller {
    let peer = peer.to_canonical();
    let is_trusted = |address| trusted.iter().any(|network| network.contains(address));
    if !is_trusted(peer) {
        return Caller {
            address: peer,
            told: None,
        };
    }
    let mut chain = vec![peer];
    for entry in from_the_right(headers, &FORWARDED_FOR).take(MAX_HOPS) {
        // What is no address ends what is known.
        let Some(address) = address(entry) else { break };
        chain.push(address);
        if !is_trusted(address) {
            break;
        }
    }
    let scheme = from_the_right(headers, &FORWARDED_PROTO).next();
    let scheme = scheme.and_then(|name| {
        let mut known = [Scheme::Http, Scheme::Https].into_iter();
        known.find(|scheme| name.eq_ignore_ascii_case(scheme.name().as_bytes()))
    });
    let host = from_the_right(headers, &FORWARDED_HOST).next();
    let host = host.filter(|host| is_host(host));
    Caller {
        address: chain.last().copied().unwrap_or(peer),
        told: Some(Box::new(Told {
            chain: written(&chain),
            scheme,
            host: host.and_then(|host| HeaderValue::from_bytes(host).ok()),
        })),
    }
}

/// Whether a proxy says that it passes the request on for somebody else. Whether it is
/// believed is another matter: it is enough to know that its own address is not the
/// client's.
pub(crate) fn is_passed_on(headers: &HeaderMap) -> bool {
    headers.contains_key(&FORWARDED_FOR) || headers.contains_key(header::FORWARDED)
}

/// Writes what a target is told over what the request brought. `peer` is the address
/// of the peer as text, made once for its connection.
pub(crate) fn rewrite(headers: &mut HeaderMap, caller: &Caller, peer: &HeaderValue, own: Scheme) {
    let told = caller.told.as_deref();
    let chain = told.map_or(peer, |told| &told.chain).clone();
    headers.insert(&FORWARDED_FOR, chain);
    let scheme = HeaderValue::from_static(caller.scheme(own).name());
    headers.insert(&FORWARDED_PROTO, scheme);
    let host = told.and_then(|told| told.host.clone());
    match host.or_else(|| headers.get(header::HOST).cloned()) {
        Some(host) => headers.insert(&FORWARDED_HOST, host),
        None => headers.remove(&FORWARDED_HOST),
    };
}

/// The members of a list that may be in several fields, the last one first. Empty ones
/// count for nothing (RFC 9110, section 5.6.1).
fn from_the_right<'a>(headers: &'a HeaderMap, name: &HeaderName) -> impl Iterator<Item = &'a [u8]> {
    headers
        .get_all(name)
        .into_iter()
        .rev()
        .flat_map(|value| value.as_bytes().rsplit(|&byte| byte == b','))
        .map(<[u8]>::trim_ascii)
        .filter(|member| !member.is_empty())
}

/// An address as proxies write it: plain, in brackets, or with a port.
fn address(text: &[u8]) -> Option<IpAddr> {
    let text = str::from_utf8(text).ok()?;
    let plain = text
        .strip_prefix('[')
        .and_then(|text| text.strip_suffix(']'))
        .unwrap_or(text);
    let address = match plain.parse::<IpAddr>() {
        Ok(address) => address,
        Err(_) => text.parse::<SocketAddr>().ok()?.ip(),
    };
    Some(address.to_canonical())
}

/// A chain that was found from the peer on, written from the client on.
fn written(chain: &[IpAddr]) -> HeaderValue {
    let texts: Vec<String> = chain.iter().rev().map(IpAddr::to_string).collect();
    HeaderValue::from_str(&texts.join(", ")).unwrap_or_else(|_| HeaderValue::from_static("unknown"))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn map(fields: &[(&str, &str)]) -> HeaderMap {
        let mut headers = HeaderMap::new();
        for (name, value) in fields {
            let name = HeaderName::from_bytes(name.as_bytes()).unwrap();
            headers.append(name, HeaderValue::from_str(value).unwrap());
        }
        headers
    }

    fn trusted() -> Vec<Network> {
        ["10.0.0.0/8", "2001:db8::/32"]
            .map(|text| text.parse().unwrap())
            .to_vec()
    }

    /// The client's address, and what a target is told: chain, scheme and host.
    fn told(peer: &str, fields: &[(&str, &str)]) -> [String; 4] {
        let peer: IpAddr = peer.parse().unwrap();
        let mut headers = map(fields);
        let caller = client(peer, &headers, &trusted());
        let text = HeaderValue::from_str(&peer.to_canonical().to_string()).unwrap();
        rewrite(&mut headers, &caller, &text, Scheme::Http);
        let field = |name: &str| {
            let values: Vec<&str> = headers
                .get_all(name)
                .iter()
                .map(|v| v.to_str().unwrap())
                .collect();
            values.join(" | ")
        };
        [
            caller.address.to_string(),
            field("x-forwarded-for"),
            field("x-forwarded-proto"),
            field("x-forwarded-host"),
        ]
    }

    fn check(peer: &str, chain: &[&str], client: &str, passed: &str) {
        let fields: Vec<_> = chain
            .iter()
            .map(|value| ("x-forwarded-for", *value))
            .collect();
        let [address, chain, ..] = told(peer, &fields);
        assert_eq!(
            (address.as_str(), chain.as_str()),
            (client, passed),
            "{peer} {fields:?}"
        );
    }

    #[test]
    fn a_peer_that_is_not_trusted_is_its_own_client() {
        check("192.0.2.1", &[], "192.0.2.1", "192.0.2.1");
        check(
            "192.0.2.1",
            &["6.6.6.6", "10.0.0.1"],
            "192.0.2.1",
            "192.0.2.1",
        );
        check("::ffff:192.0.2.1", &["6.6.6.6"], "192.0.2.1", "192.0.2.1");
        let claims = [
            ("host", "a.example"),
            ("x-forwarded-proto", "https"),
            ("x-forwarded-host", "evil.example"),
            ("x-forwarded-host", "worse.example"),
        ];
        assert_eq!(
            told("192.0.2.1", &claims),
            ["192.0.2.1", "192.0.2.1", "http", "a.example"]
        );
    }

    #[test]
    fn the_chain_is_read_from_the_right_to_the_first_that_is_not_trusted() {
        check(
            "10.0.0.1",
            &["203.0.113.9"],
            "203.0.113.9",
            "203.0.113.9, 10.0.0.1",
        );
        check("10.0.0.1", &[], "10.0.0.1", "10.0.0.1");
        check(
            "10.0.0.1",
            &["6.6.6.6, 203.0.113.9, 10.0.0.2"],
            "203.0.113.9",
            "203.0.113.9, 10.0.0.2, 10.0.0.1",
        );
        check(
            "10.0.0.1",
            &["6.6.6.6", "203.0.113.9,", " , 10.0.0.2"],
            "203.0.113.9",
            "203.0.113.9, 10.0.0.2, 10.0.0.1",
        );
        check(
            "10.0.0.1",
            &["10.0.0.3, 10.0.0.2"],
            "10.0.0.3",
            "10.0.0.3, 10.0.0.2, 10.0.0.1",
        );
        check(
            "::ffff:10.0.0.1",
            &["2001:db9::9, [2001:db8::1]:443, ::ffff:10.0.0.2"],
            "2001:db9::9",
            "2001:db9::9, 2001:db8::1, 10.0.0.2, 10.0.0.1",
        );
        check(
            "10.0.0.1",
            &["203.0.113.9:4711"],
            "203.0.113.9",
            "203.0.113.9, 10.0.0.1",
        );
        check(
            "10.0.0.1",
            &["[2001:db9::9]"],
            "2001:db9::9",
            "2001:db9::9, 10.0.0.1",
        );
    }

    #[test]
    fn what_is_no_address_ends_the_chain() {
        for garbage in [
            "unknown",
            "_hidden",
            "1.2.3",
            "01.2.3.4",
            "1.2.3.4:x",
            "\"1.2.3.4\"",
            "1.2.3.4 5.6.7.8",
        ] {
            let chain = format!("6.6.6.6, {garbage}, 10.0.0.2");
            check("10.0.0.1", &[&chain], "10.0.0.2", "10.0.0.2, 10.0.0.1");
            check("10.0.0.1", &["6.6.6.6", garbage], "10.0.0.1", "10.0.0.1");
        }
        let long = vec!["10.0.0.2"; 1000].join(",");
        let [address, chain, ..] = told("10.0.0.1", &[("x-forwarded-for", &long)]);
        assert_eq!(address, "10.0.0.2");
        assert_eq!(chain.split(',').count(), MAX_HOPS + 1);
    }

    #[test]
    fn a_trusted_proxy_tells_scheme_and_host() {
        let check = |proto: &str, host: &str, expected: [&str; 2]| {
            let fields = [
                ("host", "inner"),
                ("x-forwarded-proto", proto),
                ("x-forwarded-host", host),
            ];
            let [_, _, scheme, told] = told("10.0.0.1", &fields);
            assert_eq!([scheme.as_str(), told.as_str()], expected, "{proto} {host}");
        };
        check("https", "a.example", ["https", "a.example"]);
        check("HTTPS", "a.example:8443", ["https", "a.example:8443"]);
        check(
            "http, https",
            "evil.example, a.example",
            ["https", "a.example"],
        );
        check("gopher", "a b", ["http", "inner"]);
        check("https;x", "a@b", ["http", "inner"]);
        assert_eq!(told("10.0.0.1", &[])[2..], ["http", ""]);
    }

    #[test]
    fn the_scheme_is_the_proxys_or_that_of_the_connection() {
        let of = |peer: &str, own| {
            let headers = map(&[("x-forwarded-proto", "http")]);
            client(peer.parse().unwrap(), &headers, &trusted()).scheme(own)
        };
        assert_eq!(of("192.0.2.1", Scheme::Https), Scheme::Https);
        assert_eq!(of("10.0.0.1", Scheme::Https), Scheme::Http);
    }

    proptest! {
        #[test]
        fn who_is_not_trusted_never_chooses_the_client(
            peer in any::<IpAddr>(),
            values in proptest::collection::vec("[0-9a-f.:,\\[\\] ]{0,40}|10\\.0\\.0\\.[0-9](, ?6\\.6\\.6\\.6)?", 0..5),
        ) {
            let fields: Vec<_> = values.iter().map(|value| ("x-forwarded-for", value.as_str())).collect();
            let peer = peer.to_canonical();
            prop_assume!(!trusted().iter().any(|network| network.contains(peer)));
            let expected = peer.to_string();
            let alone = told(&expected, &fields);
            prop_assert_eq!(&alone[..2], [expected.clone(), expected.clone()]);
            // Behind a trusted proxy that adds whom it saw it does not choose either.
            let mut fields = fields;
            fields.push(("x-forwarded-for", &expected));
            let behind = told("10.0.0.1", &fields);
            prop_assert_eq!(&behind[..2], [expected.clone(), format!("{expected}, 10.0.0.1")]);
        }
    }
}
