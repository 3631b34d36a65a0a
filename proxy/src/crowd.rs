//! How many connections each client address has, so that none has too many.
//!
//! Every connection is counted, also while no table sets a bound: one that comes
//! into force finds those that are there already. An address of IPv6 stands for
//! its network of 64 bits, which one client has for itself (RFC 6177). It does not
//! know what a client does with its connections.
//!
//! Invariant: an address is remembered only while it has a connection, so there
//! are never more of them than connections.

use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::hash::{BuildHasher, RandomState};
use std::net::IpAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// Parts of the count, each with a lock of its own: the thread that accepts and the
/// workers that let clients go rarely want the same one.
const PARTS: usize = 16;

/// What counts as one address.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
enum Block {
    V4(u32),
    /// The upper half of an address.
    V6(u64),
}

impl Block {
    fn of(address: IpAddr) -> Self {
        match address.to_canonical() {
            IpAddr::V4(address) => Self::V4(address.to_bits()),
            IpAddr::V6(address) => Self::V6((address.to_bits() >> 64) as u64),
        }
    }
}

/// See the module.
#[derive(Debug, Default)]
pub(crate) struct Crowd {
    /// Keyed by chance, so that nobody can choose addresses that meet in one place.
    state: RandomState,
    parts: [Mutex<HashMap<Block, u32>>; PARTS],
}

/// One connection's part of the count; dropping it gives it back.
#[derive(Debug)]
pub(crate) struct Stay {
    crowd: Arc<Crowd>,
    block: Block,
}

impl Crowd {
    /// Counts one connection of an address in, unless it has `most` already.
    pub(crate) fn enter(self: &Arc<Self>, address: IpAddr, most: Option<u32>) -> Option<Stay> {
        let block = Block::of(address);
        let mut part = self.part(block);
        let entry = part.entry(block);
        let has = match &entry {
            Entry::Occupied(count) => *count.get(),
            Entry::Vacant(_) => 0,
        };
        if most.is_some_and(|most| has >= most) {
            return None;
        }
        *entry.or_insert(0) += 1;
        Some(Stay {
            crowd: Arc::clone(self),
            block,
        })
    }

    fn part(&self, block: Block) -> MutexGuard<'_, HashMap<Block, u32>> {
        let place = self.state.hash_one(block) as usize % PARTS;
        self.parts[place]
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Stay {
    fn drop(&mut self) {
        let mut part = self.crowd.part(self.block);
        if let Entry::Occupied(mut count) = part.entry(self.block) {
            *count.get_mut() -= 1;
            if *count.get() == 0 {
                count.remove();
            }
        }
        // A flood of addresses leaves no room behind that nobody needs.
        if part.capacity() > 64 && part.len() < part.capacity() / 8 {
            let len = part.len();
            part.shrink_to(len * 2);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// How many of these addresses come in where each may have two connections.
    fn check(addresses: &[&str], expected: usize) {
        let crowd = Arc::new(Crowd::default());
        let stays: Vec<Stay> = addresses
            .iter()
            .filter_map(|address| crowd.enter(address.parse().unwrap(), Some(2)))
            .collect();
        assert_eq!(stays.len(), expected, "{addresses:?}");
        drop(stays);
        let left: usize = crowd.parts.iter().map(|p| p.lock().unwrap().len()).sum();
        assert_eq!(left, 0, "an address without a connection is remembered");
    }

    #[test]
    fn an_address_has_as_many_connections_as_it_may_and_ipv6_counts_by_64_bits() {
        check(&["192.0.2.1"; 3], 2);
        check(&["192.0.2.1", "192.0.2.2", "192.0.2.1", "192.0.2.2"], 4);
        check(&["192.0.2.1", "::ffff:192.0.2.1", "192.0.2.1"], 2);
        check(&["2001:db8::1", "2001:db8::2", "2001:db8::ffff:0:0:3"], 2);
        check(&["2001:db8::1", "2001:db8::2", "2001:db8:0:1::1"], 3);
        check(&["::1", "::2", "0.0.0.1"], 3);
    }

    #[test]
    fn who_leaves_makes_room_and_a_bound_counts_those_that_are_there() {
        let crowd = Arc::new(Crowd::default());
        let address = IpAddr::from([192, 0, 2, 1]);
        let mut stays: Vec<Stay> = (0..5).filter_map(|_| crowd.enter(address, None)).collect();
        assert_eq!(stays.len(), 5);
        assert!(crowd.enter(address, Some(5)).is_none());
        stays.pop();
        assert!(crowd.enter(address, Some(5)).is_some());
    }

    #[test]
    fn room_for_a_flood_of_addresses_is_given_back() {
        let crowd = Arc::new(Crowd::default());
        let flood: Vec<Stay> = (0..20_000_u32)
            .filter_map(|n| crowd.enter(IpAddr::from(n.to_be_bytes()), Some(1)))
            .collect();
        assert_eq!(flood.len(), 20_000);
        drop(flood);
        let room: usize = crowd
            .parts
            .iter()
            .map(|p| p.lock().unwrap().capacity())
            .sum();
        assert!(room <= PARTS * 64, "room for {room} addresses is left");
    }
}
