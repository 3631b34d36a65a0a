//! A map that keeps what was put in last and forgets the oldest.

use std::collections::VecDeque;

/// At most `limit` pairs. It is searched one by one: it is small, and each
/// search saves a call over the network.
pub(super) struct Recent<K, V> {
    pairs: VecDeque<(K, V)>,
    limit: usize,
}

impl<K: PartialEq, V> Recent<K, V> {
    pub(super) fn new(limit: usize) -> Self {
        assert!(limit > 0, "a map that keeps nothing is a mistake");
        Self {
            pairs: VecDeque::new(),
            limit,
        }
    }

    pub(super) fn find(&self, key: &K) -> Option<&V> {
        let found = self.pairs.iter().find(|(known, _)| known == key);
        found.map(|(_, value)| value)
    }

    pub(super) fn insert(&mut self, key: K, value: V) {
        self.remove(&key);
        if self.pairs.len() == self.limit {
            self.pairs.pop_front();
        }
        self.pairs.push_back((key, value));
    }

    pub(super) fn remove(&mut self, key: &K) {
        self.pairs.retain(|(known, _)| known != key);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_oldest_is_forgotten_first() {
        let mut recent = Recent::new(2);
        recent.insert("a", 1);
        recent.insert("b", 2);
        recent.insert("a", 3);
        recent.insert("c", 4);
        let found = ["a", "b", "c"].map(|key| recent.find(&key).copied());
        assert_eq!(found, [Some(3), None, Some(4)]);
        recent.remove(&"c");
        assert_eq!(recent.find(&"c"), None);
    }
}
