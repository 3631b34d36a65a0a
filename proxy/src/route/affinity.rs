//! Sends a client to the same pool again.
//!
//! A client is known by a cookie that the proxy sets, by a header, or by its
//! address; what it is known by is the key of the [`Shares`]. The cookie holds
//! an id drawn by chance and, where only new sessions follow the weights, the
//! pool that the session began at:
//!
//! ```text
//!  0123456789abcdef.shop.v7
//!  └─── the id ───┘ └ app and pool, percent-encoded
//! ```
//!
//! Apps whose paths lie within each other see each other's cookies; the id is
//! good for both, and the app's name says whose session it is.
//!
//! The cookie carries no seal, because a forged one wins nothing: an id only
//! chooses among the pools that serve users, and a pool is obeyed only if it
//! serves users or did ([`is_kept`]), never because a preview or a mirror is all
//! that it is there for.

use std::fmt::Write as _;
use std::net::IpAddr;
use std::sync::Arc;

use cutover_wire::table::{self, Client, Moves};
use http::{HeaderName, HeaderValue};

use super::pool::Pool;
use super::shares::Shares;
use super::{Asked, cookie, hash, is_among};
use crate::origin::Scheme;

/// Digits of the id: 64 bits, so that no two clients of an app meet by chance.
const ID_DIGITS: usize = 16;

/// See the module.
#[derive(Debug)]
pub(super) struct Affinity {
    by: Known,
    moves: Moves,
    /// The pools that a session may stay at, with what a cookie calls them.
    kept: Vec<(Box<str>, Arc<Pool>)>,
}

#[derive(Debug)]
enum Known {
    Cookie {
        name: Box<str>,
        /// What follows the value, from the first semicolon.
        attributes: Box<str>,
    },
    Header(HeaderName),
    Address,
}

/// Where a client is sent.
#[derive(Debug)]
pub(super) struct Sent<'r> {
    pub(super) pool: &'r Arc<Pool>,
    /// The cookie that it is given.
    pub(super) set_cookie: Option<HeaderValue>,
}

/// A cookie of ours as it came back.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Token<'h> {
    id: u64,
    /// The app and the pool that the session began at.
    began: Option<&'h [u8]>,
}

/// Whether a session may stay at a pool of the route that has no weight (any
/// more): not where the pool is there to be looked at or to be copied to.
fn is_kept(route: &table::Route, pool: &str) -> bool {
    let shown = route
        .preview
        .as_ref()
        .is_some_and(|preview| preview.pool == pool);
    let copied = route
        .mirror
        .as_ref()
        .is_some_and(|mirror| mirror.pool == pool);
    route.is_served_by(pool) || !(shown || copied)
}

impl Affinity {
    /// The affinity of an app's route with these pools; none where it makes no difference.
    pub(super) fn of(
        app: &str,
        route: &table::Route,
        pools: &[(Arc<str>, Arc<Pool>)],
    ) -> Option<Self> {
        let affinity = route.affinity.as_ref()?;
        if affinity.moves == Moves::Everybody && route.serving.sole().is_some() {
            // A cookie that decides nothing would only keep answers out of caches.
            return None;
        }
        let by = match &affinity.by {
            Client::Cookie { name, ttl_ms } => Known::Cookie {
                name: name.as_str().into(),
                attributes: attributes(&route.path_prefix, *ttl_ms).into(),
            },
            Client::Header { name } => Known::Header(HeaderName::from_bytes(name.as_bytes()).ok()?),
            Client::Address {} => Known::Address,
        };
        let kept = pools.iter().filter(|(name, _)| is_kept(route, name));
        let kept = kept.map(|(name, pool)| (called(app, name).into(), Arc::clone(pool)));
        Some(Self {
            by,
            moves: affinity.moves,
            kept: kept.collect(),
        })
    }

    /// Where a client is sent; to none of `excluding`.
    pub(super) fn send<'r>(
        &'r self,
        shares: &'r Shares,
        asked: &Asked<'_>,
        excluding: &[&Pool],
    ) -> Option<Sent<'r>> {
        let key = match &self.by {
            Known::Cookie { name, attributes } => {
                return self.send_by_cookie((name, attributes), shares, asked, excluding);
            }
            Known::Header(name) => {
                let value = asked.headers.get(name).filter(|value| !value.is_empty());
                value.map(|value| hash::of(value.as_bytes()))
            }
            Known::Address => Some(key_of_address(asked.address)),
        };
        let pool = match key {
            Some(key) => shares.of_key(key, excluding),
            None => shares.drawn(asked.random, excluding),
        };
        pool.map(|pool| Sent {
            pool,
            set_cookie: None,
        })
    }

    fn send_by_cookie<'r>(
        &'r self,
        (name, attributes): (&str, &str),
        shares: &'r Shares,
        asked: &Asked<'_>,
        excluding: &[&Pool],
    ) -> Option<Sent<'r>> {
        let tokens = || cookie::values(asked.headers, name.as_bytes()).filter_map(Token::parse);
        let brought = match self.moves {
            Moves::Everybody => tokens().next(),
            Moves::NewSessions => tokens()
                .find(|token| self.session(token).is_some())
                .or_else(|| tokens().next()),
        };
        let id = brought.map_or(asked.random, |token| token.id);
        let by_weight = || shares.of_key(hash::of(&id.to_le_bytes()), excluding);
        let (pool, remembered) = match self.moves {
            Moves::Everybody => (by_weight()?, None),
            Moves::NewSessions => {
                let stays = brought.and_then(|token| self.session(&token));
                let stays =
                    stays.filter(|pool| !pool.targets.is_empty() && !is_among(pool, excluding));
                let pool = stays.or_else(by_weight)?;
                (pool, self.name_of(pool))
            }
        };
        let known = brought.is_some_and(|token| {
            remembered.is_none_or(|name| token.began == Some(name.as_bytes()))
        });
        let set_cookie = if known {
            None
        } else {
            given(name, id, remembered, attributes, asked.scheme)
        };
        Some(Sent { pool, set_cookie })
    }

    /// The pool that a session of this app began at.
    fn session(&self, token: &Token<'_>) -> Option<&Arc<Pool>> {
        let began = token.began?;
        let mut kept = self.kept.iter();
        let (_, pool) = kept.find(|(name, _)| name.as_bytes() == began)?;
        Some(pool)
    }

    fn name_of(&self, pool: &Arc<Pool>) -> Option<&str> {
        let mut kept = self.kept.iter();
        let (name, _) = kept.find(|(_, kept)| Arc::ptr_eq(kept, pool))?;
        Some(name)
    }
}

impl<'h> Token<'h> {
    fn parse(value: &'h [u8]) -> Option<Self> {
        let (digits, rest) = value.split_at_checked(ID_DIGITS)?;
        let digit = |id: u64, &b: &u8| match b {
            b'0'..=b'9' => Some(id << 4 | u64::from(b - b'0')),
            b'a'..=b'f' => Some(id << 4 | u64::from(b - b'a' + 10)),
            _ => None,
        };
        let id = digits.iter().try_fold(0, digit)?;
        let began = match rest {
            [] => None,
            [b'.', began @ ..] if !began.is_empty() => Some(began),
            _ => return None,
        };
        Some(Self { id, began })
    }
}

/// The field that gives a client its cookie.
fn given(
    name: &str,
    id: u64,
    began: Option<&str>,
    attributes: &str,
    scheme: Scheme,
) -> Option<HeaderValue> {
    let (dot, began) = began.map_or(("", ""), |began| (".", began));
    let secure = match scheme {
        Scheme::Http => "",
        Scheme::Https => "; Secure",
    };
    let text = format!("{name}={id:0ID_DIGITS$x}{dot}{began}{attributes}{secure}");
    HeaderValue::try_from(text).ok()
}

/// The app's own paths, so that two apps of a host do not take each other's
/// cookies; not for scripts, and not for what other sites embed.
fn attributes(prefix: &str, ttl_ms: u64) -> String {
    // A semicolon may stand in a path, and would end it here.
    let path = if prefix.contains(';') { "/" } else { prefix };
    let seconds = ttl_ms.div_ceil(1_000);
    format!("; Path={path}; Max-Age={seconds}; HttpOnly; SameSite=Lax")
}

/// What a cookie calls the pool of an app.
fn called(app: &str, pool: &str) -> String {
    format!("{}.{}", encoded(app), encoded(pool))
}

/// A name in the letters that a cookie may have and that no program
/// changes; the others as percent and two digits.
fn encoded(name: &str) -> String {
    let mut encoded = String::with_capacity(name.len());
    for byte in name.bytes() {
        if byte.is_ascii_alphanumeric() || b"-._~".contains(&byte) {
            encoded.push(byte.into());
        } else {
            // Writing to a string does not fail.
            let _ = write!(encoded, "%{byte:02X}");
        }
    }
    encoded
}

/// An IPv4 address as it is; of an IPv6 address the network, within which a
/// client takes a new address every day (RFC 8981).
fn key_of_address(address: IpAddr) -> u64 {
    match address.to_canonical() {
        IpAddr::V4(address) => hash::of(&address.octets()),
        IpAddr::V6(address) => hash::of(&address.octets()[..8]),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn check_token(value: &str, expected: Option<(u64, Option<&str>)>) {
        let expected = expected.map(|(id, began)| Token {
            id,
            began: began.map(str::as_bytes),
        });
        assert_eq!(Token::parse(value.as_bytes()), expected, "{value}");
    }

    #[test]
    fn only_what_we_would_have_written_is_a_token() {
        check_token("0123456789abcdef", Some((0x0123_4567_89ab_cdef, None)));
        check_token("ffffffffffffffff.v7", Some((u64::MAX, Some("v7"))));
        check_token("0000000000000000.a.b", Some((0, Some("a.b"))));
        for garbage in [
            "",
            "0123456789abcde",
            "0123456789ABCDEF",
            "0123456789abcdeg",
            "0123456789abcdef.",
            "0123456789abcdef0",
            "0123456789abcdef v7",
            "+123456789abcdef",
        ] {
            check_token(garbage, None);
        }
    }

    #[test]
    fn an_address_is_the_same_client_in_every_form() {
        let key = |text: &str| key_of_address(text.parse().unwrap());
        assert_eq!(key("192.0.2.1"), key("::ffff:192.0.2.1"));
        assert_ne!(key("192.0.2.1"), key("192.0.2.2"));
        assert_eq!(key("2001:db8::1"), key("2001:db8::ffff:1"));
        assert_ne!(key("2001:db8::1"), key("2001:db8:0:1::1"));
    }

    #[test]
    fn a_cookie_is_for_the_app_alone_and_secure_where_it_can_be() {
        let check = |prefix: &str, pool, scheme, expected: &str| {
            let attributes = attributes(prefix, 3_600_001);
            let given = given("c", 10, pool, &attributes, scheme).unwrap();
            assert_eq!(given, expected);
        };
        check(
            "/",
            None,
            Scheme::Http,
            "c=000000000000000a; Path=/; Max-Age=3601; HttpOnly; SameSite=Lax",
        );
        check(
            "/api",
            Some("v7"),
            Scheme::Https,
            "c=000000000000000a.v7; Path=/api; Max-Age=3601; HttpOnly; SameSite=Lax; Secure",
        );
        check(
            "/a;Domain=b",
            None,
            Scheme::Http,
            "c=000000000000000a; Path=/; Max-Age=3601; HttpOnly; SameSite=Lax",
        );
    }

    proptest! {
        #[test]
        fn a_token_that_was_given_is_read_as_it_was(
            id: u64,
            began in prop::option::of((".{1,20}", ".{1,20}")),
        ) {
            let kept = began.map(|(app, pool)| called(&app, &pool));
            let kept = kept.as_deref();
            let given = given("c", id, kept, "; Path=/", Scheme::Http).unwrap();
            let mut headers = http::HeaderMap::new();
            let sent = given.to_str().unwrap().split(';').next().unwrap();
            headers.insert(http::header::COOKIE, HeaderValue::from_str(sent).unwrap());
            let brought = cookie::values(&headers, b"c").find_map(Token::parse);
            prop_assert_eq!(brought, Some(Token { id, began: kept.map(str::as_bytes) }));
        }
    }
}
