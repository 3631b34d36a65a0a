//! Numbers that look drawn by chance and are the same in every process.
//!
//! A client must find its pool again after a restart and at another instance,
//! so nothing here is seeded. It is no secret: whoever chooses a key may choose
//! a pool, among those that serve users.

/// What a walk of splitmix64 adds at each step: 2^64 by the golden ratio, odd.
const STEP: u64 = 0x9E37_79B9_7F4A_7C15;

/// Splitmix64's finisher: each bit of `word` turns about half of the bits, and
/// no two words give the same.
pub(super) fn mix(word: u64) -> u64 {
    let mixed = (word ^ (word >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
    let mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
    mixed ^ (mixed >> 31)
}

/// The number of a text.
pub(super) fn of(text: &[u8]) -> u64 {
    let mut state = mix(text.len() as u64);
    for chunk in text.chunks(8) {
        let mut word = [0; 8];
        word[..chunk.len()].copy_from_slice(chunk);
        state = with(state, u64::from_le_bytes(word));
    }
    state
}

/// The number of two numbers in this order.
pub(super) fn with(first: u64, second: u64) -> u64 {
    mix(first.wrapping_add(STEP) ^ second)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_numbers_of_texts_never_change() {
        // A client's place depends on them: another number here moves every client
        // when the proxy is upgraded.
        let check = |text: &str, expected: u64| assert_eq!(of(text.as_bytes()), expected, "{text}");
        check("", 0);
        check("u1", 0x8C98_4566_2FB2_D2DC);
        check("a longer text than a word", 0x062F_6DC9_EF6D_F9AE);
    }

    #[test]
    fn one_bit_of_the_text_turns_about_half_of_the_bits() {
        let text = *b"user-0123456789";
        let (mut least, mut most) = (64, 0);
        for bit in 0..text.len() * 8 {
            let mut other = text;
            other[bit / 8] ^= 1 << (bit % 8);
            let turned = (of(&text) ^ of(&other)).count_ones();
            (least, most) = (least.min(turned), most.max(turned));
        }
        assert!(least >= 16 && most <= 48, "{least} to {most} of 64");
    }
}
