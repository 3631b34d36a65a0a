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
    fn fault(self) -> Option<&'static str> {
        // Both families as bits from the left of 128.
        let (bits, width) = match self.address {
            IpAddr::V4(address) => (u128::from(u32::from(address)) << 96, 32),
            IpAddr::V6(address) => (u128::from(address), 128),
        };
        if self.bits > width {
            return Some("has more bits than its addresses");
        }
        let rest = bits.checked_shl(u32::from(self.bits)).unwrap_or(0);
        (rest != 0).then_some("is not the first address of its network")
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
