//! Networks of addresses, as `10.0.0.0/8`.

use std::collections::BTreeSet;
use std::fmt;
use std::net::IpAddr;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

use super::fault::Faults;

/// A network: the addresses that share its first bits.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Network {
    /// The first address.
    pub address: IpAddr,
    /// How many bits all of its addresses share.
    pub bits: u8,
}

/// A text is no network.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("a network is written as an address, a stroke and its bits, for example 10.0.0.0/8")]
pub struct NetworkError;

impl FromStr for Network {
    type Err = NetworkError;

    fn from_str(text: &str) -> Result<Self, NetworkError> {
        let (address, bits) = text.split_once('/').ok_or(NetworkError)?;
        let plain = !bits.is_empty() && bits.bytes().all(|b| b.is_ascii_digit());
        let bits = bits.parse().ok().filter(|_| plain).ok_or(NetworkError)?;
        let address = address.parse().map_err(|_| NetworkError)?;
        Ok(Self { address, bits })
    }
}

impl TryFrom<String> for Network {
    type Error = NetworkError;

    fn try_from(text: String) -> Result<Self, NetworkError> {
        text.parse()
    }
}

impl From<Network> for String {
    fn from(network: Network) -> Self {
        network.to_string()
    }
}

impl fmt::Display for Network {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.address, self.bits)
    }
}

impl Network {
    /// Whether an address is of this network. An IPv4 address that came as an IPv6
    /// one (`::ffff:192.0.2.1`) is an IPv4 address, on either side; no network of
    /// IPv6 has IPv4 addresses otherwise.
    pub fn contains(&self, address: IpAddr) -> bool {
        let (network, bits) = match self.address {
            IpAddr::V6(mapped) if self.bits >= 96 => match mapped.to_ipv4_mapped() {
                Some(address) => (IpAddr::V4(address), self.bits - 96),
                None => (self.address, self.bits),
            },
            address => (address, self.bits),
        };
        let address = address.to_canonical();
        let differ = from_the_left(network) ^ from_the_left(address);
        let rest = 128_u32.saturating_sub(u32::from(bits));
        network.is_ipv4() == address.is_ipv4() && differ.checked_shr(rest).unwrap_or(0) == 0
    }

    fn fault(self) -> Option<&'static str> {
        let bits = from_the_left(self.address);
        let width = if self.address.is_ipv4() { 32 } else { 128 };
        if self.bits > width {
            return Some("has more bits than its addresses");
        }
        let rest = bits.checked_shl(u32::from(self.bits)).unwrap_or(0);
        (rest != 0).then_some("is not the first address of its network")
    }
}

/// The bits of an address of either family, from the left of 128.
fn from_the_left(address: IpAddr) -> u128 {
    match address {
        IpAddr::V4(address) => u128::from(u32::from(address)) << 96,
        IpAddr::V6(address) => u128::from(address),
    }
}

pub(super) fn check(networks: &[Network], faults: &mut Faults) {
    let place = "trusted_proxies";
    faults.at_most(place, "networks", networks.len(), super::MAX_NETWORKS);
    let mut seen = BTreeSet::new();
    for network in networks {
        if let Some(fault) = network.fault() {
            faults.add(place, format!("{network} {fault}"));
        }
        if !seen.insert(network) {
            faults.add(place, format!("{network} is named twice"));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(network: &str, address: &str, expected: bool) {
        let told = network
            .parse::<Network>()
            .unwrap()
            .contains(address.parse().unwrap());
        assert_eq!(told, expected, "{address} in {network}");
    }

    #[test]
    fn a_network_has_the_addresses_with_its_first_bits() {
        check("10.0.0.0/8", "10.255.0.1", true);
        check("10.0.0.0/8", "11.0.0.0", false);
        check("192.0.2.0/25", "192.0.2.127", true);
        check("192.0.2.0/25", "192.0.2.128", false);
        check("192.0.2.1/32", "192.0.2.1", true);
        check("192.0.2.1/32", "192.0.2.0", false);
        check("0.0.0.0/0", "255.0.0.1", true);
        check("2001:db8::/32", "2001:db8:ffff::1", true);
        check("2001:db8::/32", "2001:db9::", false);
        check("2001:db8::1/128", "2001:db8::1", true);
        check("2001:db8::1/128", "2001:db8::2", false);
        check("::/0", "2001:db8::1", true);
    }

    #[test]
    fn a_network_has_addresses_of_its_own_family_alone() {
        check("::/0", "192.0.2.1", false);
        check("0.0.0.0/0", "2001:db8::1", false);
        check("::/0", "::ffff:192.0.2.1", false);
        check("192.0.2.0/24", "::ffff:192.0.2.1", true);
        check("::ffff:192.0.2.0/120", "192.0.2.1", true);
        check("::ffff:192.0.2.0/120", "::ffff:192.0.2.1", true);
        check("::ffff:192.0.2.0/120", "192.0.3.1", false);
        check("::ffff:0:0/96", "203.0.113.9", true);
    }
}
