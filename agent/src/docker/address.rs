//! Addresses that containers keep. The engine gives an address that was let go
//! to whoever starts next, also that of a container between its death and its
//! next start: until the route is mended, the requests of one app would reach
//! another. So our network is made with two halves: the engine gives addresses
//! out of the upper one, and each container of a release has one of the lower
//! one for as long as it is there, whether it runs or not.

use std::collections::BTreeSet;
use std::net::Ipv4Addr;
use std::str::FromStr;

use bollard::models::{Ipam, IpamConfig};

/// The addresses of a network that the engine gives to nobody by itself.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Addresses {
    all: Block,
    engines: Block,
    gateway: Option<Ipv4Addr>,
}

impl Addresses {
    /// None where the engine gives any address of the network by itself.
    pub(super) fn of(ipam: Option<&Ipam>) -> Option<Self> {
        let configs = ipam?.config.as_deref().unwrap_or_default();
        let mut read = configs.iter().filter_map(|config| {
            Some(Self {
                all: config.subnet.as_deref()?.parse().ok()?,
                engines: config.ip_range.as_deref()?.parse().ok()?,
                gateway: config.gateway.as_deref().and_then(|one| one.parse().ok()),
            })
        });
        read.next()
    }

    /// One that is not `taken`, looked for from `chance` on: an address that was let
    /// go must not come back soon. None if all are.
    pub(super) fn free(&self, taken: &BTreeSet<Ipv4Addr>, chance: u32) -> Option<Ipv4Addr> {
        let size = self.all.size();
        let start = chance % size;
        // From the engine's half all ways would lead to the same address.
        let start = match self.engines.has(self.all.at(start)) {
            true => start ^ (size / 2),
            false => start,
        };
        let mut tries = (0..size).map(|step| self.all.at((start + step) % size));
        tries.find(|one| {
            let outside = [self.all.at(0), self.all.at(size - 1)];
            let free = !outside.contains(one) && self.gateway != Some(*one);
            free && !self.engines.has(*one) && !taken.contains(one)
        })
    }
}

/// How a network of `subnet` is made so that containers can keep their addresses;
/// none where it is too small.
pub(super) fn halves(subnet: &str) -> Option<Ipam> {
    let all: Block = subnet.parse().ok()?;
    let upper = all.upper_half()?;
    let config = IpamConfig {
        subnet: Some(subnet.to_owned()),
        ip_range: Some(upper.to_string()),
        gateway: Some(all.at(1).to_string()),
        ..IpamConfig::default()
    };
    Some(Ipam {
        config: Some(vec![config]),
        ..Ipam::default()
    })
}

/// Addresses that have their first bits in common, as `172.18.0.0/16`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Block {
    first: u32,
    /// From 1 to 30, so that its halves have addresses.
    bits: u32,
}

impl Block {
    fn size(self) -> u32 {
        1_u32 << (32 - self.bits)
    }

    fn at(self, index: u32) -> Ipv4Addr {
        Ipv4Addr::from_bits(self.first + index)
    }

    fn has(self, one: Ipv4Addr) -> bool {
        one.to_bits()
            .checked_sub(self.first)
            .is_some_and(|index| index < self.size())
    }

    fn upper_half(self) -> Option<Self> {
        let half = Self {
            first: self.first + self.size() / 2,
            bits: self.bits + 1,
        };
        (half.bits <= 30).then_some(half)
    }
}

impl FromStr for Block {
    type Err = ();

    fn from_str(text: &str) -> Result<Self, ()> {
        let (address, bits) = text.split_once('/').ok_or(())?;
        let address: Ipv4Addr = address.parse().map_err(|_| ())?;
        let bits: u32 = bits.parse().map_err(|_| ())?;
        if !(1..=30).contains(&bits) {
            return Err(());
        }
        let first = address.to_bits() & !((1_u32 << (32 - bits)) - 1);
        Ok(Self { first, bits })
    }
}

impl std::fmt::Display for Block {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}/{}", self.at(0), self.bits)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn addresses(subnet: &str) -> Option<Addresses> {
        Addresses::of(halves(subnet).as_ref())
    }

    #[test]
    fn a_network_has_a_half_of_which_the_engine_gives_nothing_away() {
        let check = |subnet, range: &str| {
            let made = halves(subnet).unwrap().config.unwrap().remove(0);
            assert_eq!(made.ip_range.as_deref(), Some(range));
        };
        check("172.18.0.0/16", "172.18.128.0/17");
        check("192.168.16.0/20", "192.168.24.0/21");
        check("10.0.0.0/29", "10.0.0.4/30");
        assert_eq!(halves("10.0.0.0/30"), None);
        assert_eq!(halves("fd00::/64"), None);
        assert_eq!(halves("10.0.0.0"), None);
        // One that the engine made by itself.
        let any = IpamConfig {
            subnet: Some("172.18.0.0/16".to_owned()),
            gateway: Some("172.18.0.1".to_owned()),
            ..IpamConfig::default()
        };
        let any = Ipam {
            config: Some(vec![any]),
            ..Ipam::default()
        };
        assert_eq!(Addresses::of(Some(&any)), None);
        assert_eq!(Addresses::of(None), None);
    }

    #[test]
    fn an_address_that_was_let_go_does_not_come_back_soon() {
        let addresses = addresses("172.18.0.0/16").unwrap();
        let nothing = BTreeSet::new();
        let chances = (0..1000).map(|step: u32| step.wrapping_mul(0x9e37_79b9));
        let given: BTreeSet<_> = chances
            .filter_map(|chance| addresses.free(&nothing, chance))
            .collect();
        assert!(given.len() > 950, "{} of 1000", given.len());
    }

    #[test]
    fn an_address_is_nobody_elses_until_all_are_taken() {
        let addresses = addresses("10.0.0.0/28").unwrap();
        for chance in [0, 1, 5, 15, u32::MAX] {
            let mut taken = BTreeSet::new();
            while let Some(one) = addresses.free(&taken, chance) {
                assert!(taken.insert(one), "{one} was given twice");
            }
            // Neither the network's own, nor the gateway, nor the engine's half.
            let all: BTreeSet<_> = (2..8).map(|last| Ipv4Addr::new(10, 0, 0, last)).collect();
            assert_eq!(taken, all);
        }
    }
}
