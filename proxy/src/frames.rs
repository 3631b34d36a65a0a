//! Where the frames of a WebSocket begin and end (RFC 6455, section 5.2).
//!
//! It follows the bytes of one direction and counts; it checks and changes
//! nothing. A frame of ours may only stand where another one could begin.

/// The longest header: two bytes, eight of length, four of mask.
const MAX_HEADER: usize = 14;

/// The opcode of a close frame.
const CLOSE: u8 = 0x8;

/// See the module.
#[derive(Debug, Default)]
pub(crate) struct Frames {
    header: [u8; MAX_HEADER],
    /// Bytes of the header that have come.
    have: usize,
    /// Bytes of the payload that are still to come.
    left: u64,
    closed: bool,
}

impl Frames {
    /// Follows bytes that passed.
    pub(crate) fn feed(&mut self, mut bytes: &[u8]) {
        while !bytes.is_empty() {
            if self.left > 0 {
                let count = usize::try_from(self.left).unwrap_or(usize::MAX);
                let count = count.min(bytes.len());
                self.left -= count as u64;
                bytes = &bytes[count..];
                continue;
            }
            self.header[self.have] = bytes[0];
            self.have += 1;
            bytes = &bytes[1..];
            if self.have >= 2 && self.have == header_length(self.header[1]) {
                self.left = payload_length(&self.header);
                self.closed |= self.header[0] & 0x0f == CLOSE;
                self.have = 0;
            }
        }
    }

    /// Whether a frame may begin here.
    pub(crate) fn at_boundary(&self) -> bool {
        self.have == 0 && self.left == 0
    }

    /// Whether a close frame has passed whole.
    pub(crate) fn is_closed(&self) -> bool {
        self.closed && self.at_boundary()
    }
}

/// The close frame of a server with a status and no reason.
pub(crate) fn close(status: u16) -> [u8; 4] {
    let [high, low] = status.to_be_bytes();
    [0x80 | CLOSE, 2, high, low]
}

/// The length of a header by its second byte.
fn header_length(second: u8) -> usize {
    let mask = if second & 0x80 == 0 { 0 } else { 4 };
    2 + mask
        + match second & 0x7f {
            126 => 2,
            127 => 8,
            _ => 0,
        }
}

fn payload_length(header: &[u8; MAX_HEADER]) -> u64 {
    let number = |bytes: &[u8]| bytes.iter().fold(0, |sum, &b| sum << 8 | u64::from(b));
    match header[1] & 0x7f {
        126 => number(&header[2..4]),
        127 => number(&header[2..10]),
        short => u64::from(short),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn frame(opcode: u8, length: usize, masked: bool) -> Vec<u8> {
        let mask = if masked { 0x80 } else { 0 };
        let mut bytes = vec![0x80 | opcode];
        match length {
            0..126 => bytes.push(mask | length as u8),
            126..65_536 => {
                bytes.push(mask | 126);
                bytes.extend((length as u16).to_be_bytes());
            }
            _ => {
                bytes.push(mask | 127);
                bytes.extend((length as u64).to_be_bytes());
            }
        }
        bytes.extend(vec![7; length + if masked { 4 } else { 0 }]);
        bytes
    }

    /// Feeds a frame in pieces: it has ended with its last byte and not before.
    fn check(opcode: u8, length: usize, masked: bool) {
        let bytes = frame(opcode, length, masked);
        for size in [1, 3, 1_000, bytes.len()] {
            let mut frames = Frames::default();
            let mut fed = 0;
            for piece in bytes.chunks(size) {
                frames.feed(piece);
                fed += piece.len();
                assert_eq!(
                    frames.at_boundary(),
                    fed == bytes.len(),
                    "{length} in {size}s"
                );
            }
            assert_eq!(frames.is_closed(), opcode == CLOSE);
        }
    }

    #[test]
    fn a_frame_ends_with_its_last_byte_whatever_its_length() {
        for length in [0, 1, 125, 126, 127, 65_535, 65_536, 70_000] {
            check(1, length, false);
            check(2, length, true);
        }
        check(CLOSE, 2, true);
    }

    #[test]
    fn our_close_frame_is_one() {
        let mut frames = Frames::default();
        frames.feed(&close(1012));
        assert!(frames.is_closed());
    }
}
