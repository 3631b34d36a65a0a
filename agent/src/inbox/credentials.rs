//! Whether the way that a call took may carry the credentials of a registry.
//!
//! A signature keeps a call from being changed, not from being read. So
//! credentials are taken over the local socket and from this host alone. A
//! proxy on this host that ends TLS says so in `x-forwarded-proto`; from
//! anywhere else that header is only a claim.

use http::HeaderMap;

use super::{Door, Peer};
use crate::desk::Refusal;

const FORWARDED: &str = "x-forwarded-proto";

/// Refuses credentials that could have been read on their way.
pub(super) fn check_way(
    door: Door,
    peer: Option<Peer>,
    headers: &HeaderMap,
) -> Result<(), Refusal> {
    if door == Door::Local {
        return Ok(());
    }
    let local = peer.is_some_and(|Peer(address)| address.ip().to_canonical().is_loopback());
    let mut forwarded = headers.get_all(FORWARDED).iter();
    let encrypted = forwarded.all(|value| value.as_bytes().eq_ignore_ascii_case(b"https"));
    let message = match (local, encrypted) {
        (true, true) => return Ok(()),
        (true, false) => "the registry credentials came to this host without encryption",
        (false, _) => "the registry credentials came over the network without encryption",
    };
    let hint = "they may have been read: revoke them. Call the agent through the host's own proxy over https, or over its socket on the host";
    Err(Refusal::new(
        400,
        "credentials_in_the_clear",
        message.to_owned(),
        Some(hint),
    ))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::net::SocketAddr;

    fn check(door: Door, peer: Option<&str>, forwarded: &[&str], taken: bool) {
        let peer = peer.map(|ip| Peer(SocketAddr::new(ip.parse().unwrap(), 1)));
        let mut headers = HeaderMap::new();
        for value in forwarded {
            headers.append(FORWARDED, value.parse().unwrap());
        }
        let result = check_way(door, peer, &headers);
        assert_eq!(result.is_ok(), taken, "{door:?} {peer:?} {forwarded:?}");
    }

    #[test]
    fn credentials_come_encrypted_or_never_leave_the_host() {
        check(Door::Local, None, &[], true);
        check(Door::Local, None, &["http"], true);
        for host in ["127.0.0.1", "127.8.8.8", "::1", "::ffff:127.0.0.1"] {
            check(Door::Network, Some(host), &[], true);
            check(Door::Network, Some(host), &["https"], true);
            check(Door::Network, Some(host), &["HTTPS"], true);
            check(Door::Network, Some(host), &["http"], false);
            check(Door::Network, Some(host), &["https", "http"], false);
            check(Door::Network, Some(host), &["http, https"], false);
            check(Door::Network, Some(host), &[""], false);
        }
        for stranger in [
            "10.0.0.1",
            "192.0.2.1",
            "2001:db8::1",
            "::ffff:10.0.0.1",
            "0.0.0.0",
        ] {
            check(Door::Network, Some(stranger), &[], false);
            check(Door::Network, Some(stranger), &["https"], false);
        }
        check(Door::Network, None, &["https"], false);
    }
}
