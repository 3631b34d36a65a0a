//! A map by numbers that we gave ourselves.
//!
//! Nobody outside chooses them, so they need no hash that resists an enemy.

use std::collections::HashMap;
use std::hash::{BuildHasherDefault, Hasher};

/// A map by our own numbers.
pub(crate) type NumberMap<V> = HashMap<u64, V, BuildHasherDefault<NumberHasher>>;

/// See the module.
#[derive(Debug, Default)]
pub(crate) struct NumberHasher(u64);

/// The golden ratio: numbers in a row come to lie far from each other, in the upper
/// bits as well, of which a map makes use.
const RATIO: u64 = 0x9E37_79B9_7F4A_7C15;

impl Hasher for NumberHasher {
    fn finish(&self) -> u64 {
        self.0
    }

    fn write(&mut self, bytes: &[u8]) {
        for &byte in bytes {
            self.write_u64(u64::from(byte));
        }
    }

    fn write_u64(&mut self, number: u64) {
        self.0 = (self.0 ^ number).wrapping_mul(RATIO).rotate_left(32);
    }
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use super::*;

    fn hash(number: u64) -> u64 {
        let mut hasher = NumberHasher::default();
        hasher.write_u64(number);
        hasher.finish()
    }

    #[test]
    fn numbers_in_a_row_differ_in_the_bits_that_a_map_looks_at() {
        let differing = |bits: fn(u64) -> u64| {
            let found: HashSet<u64> = (0..128).map(|number| bits(hash(number))).collect();
            found.len()
        };
        assert!(differing(|hash| hash % 128) > 64);
        assert!(differing(|hash| hash >> 57) > 64);
        let mut map = NumberMap::default();
        map.extend((0..1_000).map(|number| (number, number)));
        assert!((0..1_000).all(|number| map.get(&number) == Some(&number)));
    }
}
