//! Who a request comes from, as far as its connection tells.

use std::io::Write as _;
use std::net::{IpAddr, SocketAddr};

use http::HeaderValue;

use crate::scratch;

/// How a client speaks to us.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Scheme {
    /// In the clear.
    Http,
    /// Over TLS.
    Https,
}

impl Scheme {
    /// As it stands in a URL.
    pub fn name(self) -> &'static str {
        match self {
            Self::Http => "http",
            Self::Https => "https",
        }
    }
}

/// See the module.
#[derive(Debug)]
pub(crate) struct Origin {
    /// The client: the other end of the connection, or whom the header of a
    /// balancer before us names.
    pub(crate) address: SocketAddr,
    /// It is on this host, see [`is_neighbour`].
    pub(crate) neighbour: bool,
    /// How it speaks.
    pub(crate) scheme: Scheme,
    /// The address as targets are told it.
    pub(crate) forwarded_for: HeaderValue,
}

impl Origin {
    /// A peer that is the client itself; `local` is our end of its connection, which
    /// the kernel is asked for only where it matters.
    pub(crate) fn peer(
        address: SocketAddr,
        local: impl FnOnce() -> Option<SocketAddr>,
        scheme: Scheme,
    ) -> Self {
        Self::new(address, is_neighbour(address, local), scheme)
    }

    /// The client that a balancer speaks for; it is never on this host, whatever
    /// address the balancer tells.
    pub(crate) fn introduced(address: SocketAddr, scheme: Scheme) -> Self {
        Self::new(address, false, scheme)
    }

    fn new(address: SocketAddr, neighbour: bool, scheme: Scheme) -> Self {
        Self {
            address,
            neighbour,
            scheme,
            forwarded_for: written(address.ip().to_canonical()),
        }
    }
}

/// An address as text. Most are IPv4 ones, which are made by hand: the library's way
/// takes as long as all else that is done with a new connection's address.
fn written(address: IpAddr) -> HeaderValue {
    let text = scratch::writing(|text| {
        match address {
            IpAddr::V4(address) => {
                for octet in address.octets() {
                    if octet >= 100 {
                        text.push(b'0' + octet / 100);
                    }
                    if octet >= 10 {
                        text.push(b'0' + octet / 10 % 10);
                    }
                    text.extend_from_slice(&[b'0' + octet % 10, b'.']);
                }
                text.pop();
            }
            IpAddr::V6(address) => {
                // A list of bytes takes all that is written.
                let _ = write!(text, "{address}");
            }
        }
        HeaderValue::from_bytes(text)
    });
    text.unwrap_or_else(|_| HeaderValue::from_static("unknown"))
}

/// Whether a peer is on this host: at loopback, or at the very address it is
/// connected to, as the host's own programs are with a listener that has no
/// loopback address. The kernel lets no packet with one of its own addresses
/// as the source in from outside.
fn is_neighbour(peer: SocketAddr, local: impl FnOnce() -> Option<SocketAddr>) -> bool {
    let peer = peer.ip().to_canonical();
    peer.is_loopback() || local().is_some_and(|local| local.ip().to_canonical() == peer)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(peer: &str, local: &str, expected: bool) {
        let peer = peer.parse().unwrap();
        let told = is_neighbour(peer, || local.parse().ok());
        assert_eq!(told, expected, "{peer} at {local:?}");
    }

    #[test]
    fn an_address_is_written_as_everybody_writes_it() {
        let mut texts: Vec<String> = (0..=255).map(|n| format!("{n}.0.{n}.9")).collect();
        texts.extend(["2001:db8::1", "::1"].map(str::to_owned));
        for text in texts {
            assert_eq!(written(text.parse().unwrap()), text);
        }
    }

    #[test]
    fn a_peer_at_loopback_or_at_our_own_address_is_on_this_host() {
        check("127.0.0.1:50000", "127.0.0.1:80", true);
        check("127.0.0.2:50000", "192.0.2.1:80", true);
        check("[::1]:50000", "[::1]:80", true);
        check("[::ffff:127.0.0.1]:50000", "unknown", true);
        check("192.0.2.1:50000", "192.0.2.1:80", true);
        check("[2001:db8::1]:50000", "[2001:db8::1]:80", true);
        check("[::ffff:192.0.2.1]:50000", "192.0.2.1:80", true);
        check("192.0.2.2:50000", "192.0.2.1:80", false);
        check("[2001:db8::2]:50000", "[2001:db8::1]:80", false);
        check("192.0.2.1:50000", "unknown", false);
    }
}
