//! A request through the front door, as a user would send it, that asks which
//! pool answered.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::time::Duration;

use cutover_plan::spec::Protocol;
use cutover_wire::proxy::{POOL_HEADER, PROBE_HEADER};
use cutover_wire::table::ANY_HOST;

use crate::exchange::{self, NoAnswer};
use crate::traffic::{Knock, TrafficError};

/// As long as a container has for an answer about its health.
const LIMIT: Duration = Duration::from_secs(5);

pub(super) async fn knock(door: SocketAddr, host: &str, path: &str) -> Result<Knock, TrafficError> {
    let door = reachable(door);
    // An app for every host has no name of its own; an address is nobody's name.
    let address = door.to_string();
    let host = if host == ANY_HOST {
        address.as_str()
    } else {
        host
    };
    match exchange::get(
        door,
        Protocol::Http1,
        host,
        path,
        Some((PROBE_HEADER, "1")),
        LIMIT,
    )
    .await
    {
        Ok(answer) => {
            let pool = answer
                .headers
                .get(POOL_HEADER)
                .and_then(|pool| pool.to_str().ok());
            Ok(Knock {
                status: answer.status.as_u16(),
                pool: pool.map(str::to_owned),
            })
        }
        Err(NoAnswer::Unaskable) => Err(TrafficError::Refused(format!(
            "GET {path:?} with the host {host:?} is no request"
        ))),
        Err(reason) => Err(TrafficError::Unavailable(format!(
            "its door {door}: {reason}"
        ))),
    }
}

/// Where a listener is reached from its own host: one on all addresses, at
/// loopback; one on a single address, there, and the kernel then sends from
/// the same. From these two the proxy answers a probe.
fn reachable(door: SocketAddr) -> SocketAddr {
    let ip = match door.ip() {
        IpAddr::V4(ip) if ip.is_unspecified() => Ipv4Addr::LOCALHOST.into(),
        IpAddr::V6(ip) if ip.is_unspecified() => Ipv6Addr::LOCALHOST.into(),
        ip => ip,
    };
    SocketAddr::new(ip, door.port())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(door: &str, expected: &str) {
        assert_eq!(reachable(door.parse().unwrap()), expected.parse().unwrap());
    }

    #[test]
    fn a_listener_on_all_addresses_is_reached_at_loopback() {
        check("0.0.0.0:80", "127.0.0.1:80");
        check("[::]:80", "[::1]:80");
        check("192.0.2.1:80", "192.0.2.1:80");
    }
}
