//! Which bytes may stand where (RFC 9110, section 5.6.2, and RFC 9112).

/// Not part of a name.
const NONE: u8 = 0;
/// Part of a name.
const TOKEN: u8 = 1;
/// Part of a name, and read as a hyphen by programs that turn names into variables.
const UNDERSCORE: u8 = 2;

const CLASSES: [u8; 256] = {
    let mut classes = [NONE; 256];
    let mut byte = 0_u8;
    while byte < 128 {
        if byte.is_ascii_alphanumeric() {
            classes[byte as usize] = TOKEN;
        }
        byte += 1;
    }
    let marks = b"!#$%&'*+-.^`|~";
    let mut place = 0;
    while place < marks.len() {
        classes[marks[place] as usize] = TOKEN;
        place += 1;
    }
    classes[b'_' as usize] = UNDERSCORE;
    classes
};

/// The name that a line begins with.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Name {
    /// Where it ends.
    pub(super) end: usize,
    /// Whether an underscore is in it.
    pub(super) underscored: bool,
}

/// How far the name at the beginning of a line goes.
pub(super) fn name(line: &[u8]) -> Name {
    let mut seen = 0;
    let mut end = 0;
    for &byte in line {
        let class = CLASSES[byte as usize];
        if class == NONE {
            break;
        }
        seen |= class;
        end += 1;
    }
    Name {
        end,
        underscored: seen & UNDERSCORE != 0,
    }
}

/// What is looked at in one step; the compiler makes a few instructions of it.
const WIDE: usize = 16;

/// Whether a control character other than a tab is among the bytes.
pub(super) fn has_control(bytes: &[u8]) -> bool {
    let any = |bytes: &[u8]| bytes.iter().fold(false, |any, &byte| any | control(byte));
    let Some(last) = bytes.last_chunk::<WIDE>() else {
        return any(bytes);
    };
    let (chunks, _) = bytes.as_chunks::<WIDE>();
    // The last step looks at some bytes again rather than at a rest one by one.
    chunks
        .iter()
        .fold(any(last), |found, chunk| found | any(chunk))
}

fn control(byte: u8) -> bool {
    (byte < b' ') & (byte != b'\t') | (byte == 0x7f)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_control_character_is_found_at_every_place_of_every_length() {
        for length in 0..70 {
            let mut bytes = vec![b'\t'; length];
            assert!(!has_control(&bytes));
            for place in 0..length {
                for byte in [0, 8, 10, 13, 31, 127] {
                    bytes[place] = byte;
                    assert!(has_control(&bytes), "{byte} at {place} of {length}");
                }
                bytes[place] = 0xff;
                assert!(!has_control(&bytes));
                bytes[place] = b' ';
            }
        }
    }

    #[test]
    fn a_name_ends_before_the_first_byte_that_is_none_of_a_token() {
        let check = |line: &str, end: usize, underscored: bool| {
            assert_eq!(name(line.as_bytes()), Name { end, underscored }, "{line:?}");
        };
        check("Content-Length: 5", 14, false);
        check("x_y:", 3, true);
        check("!#$%&'*+-.^`|~09azAZ:", 20, false);
        check("é:", 0, false);
        check("a b", 1, false);
        check("", 0, false);
        for mark in "\"(),/:;<=>?@[\\]{} \t\r\n\0\u{7f}".chars() {
            check(&mark.to_string(), 0, false);
        }
    }
}
