//! A short number that stands for a body.
//!
//! It tells apart what two releases answer by themselves. It is no protection
//! against somebody who wants two bodies to look alike.

/// Bytes of a body that are compared: most pages and answers of an API are
/// shorter, and what is longer costs more to read than a comparison is worth.
const MAX_BYTES: u64 = 1024 * 1024;

/// An odd number with as many ones as zeros: the golden ratio.
const FACTOR: u64 = 0x9E37_79B9_7F4A_7C15;

/// What two bodies are compared by.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Told {
    /// The number of a whole body.
    Whole(u64),
    /// It is longer than what is compared.
    TooLong,
}

impl Told {
    /// Whether both are of one body; none where that is not known.
    pub(super) fn is_same(self, other: Self) -> Option<bool> {
        (self != Self::TooLong || other != Self::TooLong).then_some(self == other)
    }
}

/// See the module. However a body is divided, its number is the same.
#[derive(Debug, Clone)]
pub(crate) struct Digest {
    state: u64,
    length: u64,
    /// The bytes that make no whole word yet, the first one lowest.
    rest: u64,
}

impl Digest {
    /// The digest of an empty body.
    pub(crate) fn new() -> Self {
        Self {
            state: 0,
            length: 0,
            rest: 0,
        }
    }

    /// Takes the next bytes.
    pub(crate) fn update(&mut self, mut bytes: &[u8]) {
        let held = self.length % 8;
        self.length = self.length.saturating_add(bytes.len() as u64);
        if self.is_too_long() {
            return;
        }
        if held > 0 {
            let missing = bytes.len().min(8 - held as usize);
            let (first, others) = bytes.split_at(missing);
            for (place, &byte) in (held..).zip(first) {
                self.rest |= u64::from(byte) << (8 * place);
            }
            if held + (missing as u64) < 8 {
                return;
            }
            self.step(self.rest);
            self.rest = 0;
            bytes = others;
        }
        let (words, rest) = bytes.as_chunks::<8>();
        for word in words {
            self.step(u64::from_le_bytes(*word));
        }
        for (place, &byte) in (0..).zip(rest) {
            self.rest |= u64::from(byte) << (8 * place);
        }
    }

    /// Whether more bytes change nothing.
    pub(crate) fn is_too_long(&self) -> bool {
        self.length > MAX_BYTES
    }

    /// What stands for the bytes so far.
    pub(super) fn told(&self) -> Told {
        if self.is_too_long() {
            return Told::TooLong;
        }
        let mut end = self.clone();
        end.step(end.rest);
        end.step(end.length);
        Told::Whole(end.state)
    }

    /// Each step is reversible, so bodies that differ in one word never meet again.
    fn step(&mut self, word: u64) {
        self.state = (self.state.rotate_left(23) ^ word).wrapping_mul(FACTOR);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn of(bytes: &[u8]) -> Told {
        let mut digest = Digest::new();
        digest.update(bytes);
        digest.told()
    }

    #[test]
    fn bodies_of_zeros_differ_by_their_length() {
        let zeros = [0; 100];
        for length in 0..zeros.len() {
            assert_ne!(of(&zeros[..length]), of(&zeros[..=length]), "{length}");
        }
    }

    #[test]
    fn a_body_over_the_bound_is_not_compared_with_its_like() {
        let most = vec![b'x'; MAX_BYTES as usize];
        let over = vec![b'x'; MAX_BYTES as usize + 1];
        assert_eq!(of(&most).is_same(of(&most)), Some(true));
        assert_eq!(of(&over).is_same(of(&over)), None);
        assert_eq!(of(&over).is_same(of(&most)), Some(false), "lengths differ");
    }

    proptest! {
        #[test]
        fn however_a_body_is_divided_its_number_is_the_same(
            parts in prop::collection::vec(prop::collection::vec(any::<u8>(), 0..20), 0..20),
        ) {
            let mut digest = Digest::new();
            parts.iter().for_each(|part| digest.update(part));
            prop_assert_eq!(digest.told(), of(&parts.concat()));
        }

        #[test]
        fn bodies_that_differ_in_a_byte_have_different_numbers(
            mut body in prop::collection::vec(any::<u8>(), 1..200),
            place in any::<prop::sample::Index>(),
            change in 1_u8..,
        ) {
            let before = of(&body);
            let place = place.index(body.len());
            body[place] ^= change;
            prop_assert_ne!(before, of(&body));
        }
    }
}
