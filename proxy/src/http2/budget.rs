//! How many frames a client may send that move nothing.
//!
//! What such frames cost in memory the library bounds; this bounds what they cost
//! in time. Frames are followed by their headers alone (RFC 9113, section 4.1),
//! nothing is held back, and whether they are right is not looked at here.
//!
//! A budget is spent by frames and filled up by time. What asks for something or
//! brings something costs nothing: requests and their bodies, and the updates of
//! windows, of which some clients send two for each frame that they take.

/// The first bytes of a connection (RFC 9113, section 3.4).
const PREFACE_LENGTH: usize = 24;

const HEADER_LENGTH: usize = 9;

/// Saved up at most. A client that leaves a page or loses its network resets what
/// is open a few times over, and pings some more.
const BURST: u64 = 5_000;

/// Earned in a second: ten times what a client does that asks for a sign of life
/// with each message of a busy talk.
const PER_SECOND: u64 = 1_000;

/// What a reset costs: its request was for nothing, at the target too.
const RESET_COST: u64 = 10;

/// See the module.
#[derive(Debug)]
pub(crate) struct Budget {
    header: [u8; HEADER_LENGTH],
    have: usize,
    /// Bytes of a payload, or of the preface, still to come.
    skip: usize,
    saved: u64,
    since: u64,
}

/// The budget is used up.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("more frames that move nothing than any client needs")]
pub(crate) struct Spent;

impl Budget {
    /// The budget of a connection that begins at `now`, in milliseconds.
    pub(crate) fn new(now: u64) -> Self {
        Self {
            header: [0; HEADER_LENGTH],
            have: 0,
            skip: PREFACE_LENGTH,
            saved: BURST,
            since: now,
        }
    }

    /// Follows bytes that came at `now`.
    pub(crate) fn feed(&mut self, mut bytes: &[u8], now: u64) -> Result<(), Spent> {
        let mut cost = 0;
        while !bytes.is_empty() {
            if self.skip > 0 {
                let count = self.skip.min(bytes.len());
                self.skip -= count;
                bytes = &bytes[count..];
                continue;
            }
            let count = (HEADER_LENGTH - self.have).min(bytes.len());
            self.header[self.have..self.have + count].copy_from_slice(&bytes[..count]);
            self.have += count;
            bytes = &bytes[count..];
            if self.have == HEADER_LENGTH {
                self.have = 0;
                let [high, middle, low, kind, ..] = self.header;
                self.skip = u32::from_be_bytes([0, high, middle, low]) as usize;
                cost += price(kind, self.skip);
            }
        }
        if cost == 0 {
            return Ok(());
        }
        self.earn(now);
        self.saved = self.saved.checked_sub(cost).ok_or(Spent)?;
        Ok(())
    }

    fn earn(&mut self, now: u64) {
        let earned = now.saturating_sub(self.since).saturating_mul(PER_SECOND) / 1_000;
        if earned > 0 {
            self.saved = self.saved.saturating_add(earned).min(BURST);
            self.since = now;
        }
    }
}

/// What a frame costs, by its kind and length (RFC 9113, section 6).
fn price(kind: u8, length: usize) -> u64 {
    match kind {
        // DATA, which may be empty only to end something.
        0 => u64::from(length == 0),
        // HEADERS, and WINDOW_UPDATE.
        1 | 8 => 0,
        // RST_STREAM.
        3 => RESET_COST,
        // PRIORITY, SETTINGS, PING, GOAWAY, CONTINUATION, and what comes later.
        _ => 1,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const DATA: u8 = 0;
    const HEADERS: u8 = 1;
    const RST_STREAM: u8 = 3;
    const PING: u8 = 6;
    const WINDOW_UPDATE: u8 = 8;

    fn frame(kind: u8, length: usize) -> Vec<u8> {
        let size = (length as u32).to_be_bytes();
        let mut bytes = vec![size[1], size[2], size[3], kind, 0, 0, 0, 0, 1];
        bytes.resize(HEADER_LENGTH + length, kind);
        bytes
    }

    fn begun() -> Budget {
        let mut budget = Budget::new(0);
        budget.feed(&[b'P'; PREFACE_LENGTH], 0).unwrap();
        budget
    }

    /// How many frames of a kind are taken at once, of 20,000.
    fn check(kind: u8, length: usize, expected: Option<u64>) {
        let mut budget = begun();
        let frame = frame(kind, length);
        let refused = (0..20_000).find(|_| budget.feed(&frame, 0).is_err());
        assert_eq!(refused, expected, "kind {kind} of {length} bytes");
    }

    #[test]
    fn frames_that_move_nothing_are_bounded_and_others_are_not() {
        check(PING, 8, Some(BURST));
        check(4, 6, Some(BURST));
        check(4, 0, Some(BURST));
        check(2, 5, Some(BURST));
        check(9, 100, Some(BURST));
        check(0xEE, 100, Some(BURST));
        check(DATA, 0, Some(BURST));
        check(RST_STREAM, 4, Some(BURST / RESET_COST));
        check(DATA, 1, None);
        check(HEADERS, 30, None);
        check(WINDOW_UPDATE, 4, None);
    }

    #[test]
    fn a_budget_is_filled_up_by_time() {
        let mut budget = begun();
        let ping = frame(PING, 8);
        let mut take = |now| (0..).find(|_| budget.feed(&ping, now).is_err()).unwrap();
        assert_eq!(take(0), BURST);
        assert_eq!(take(0), 0);
        assert_eq!(take(500), PER_SECOND / 2);
        assert_eq!(take(1_000_000), BURST);
    }

    #[test]
    fn frames_are_found_however_the_bytes_are_cut() {
        let mut bytes = vec![b'P'; PREFACE_LENGTH];
        for (kind, length) in [(PING, 8), (DATA, 70_000), (RST_STREAM, 4), (HEADERS, 9)] {
            bytes.extend(frame(kind, length));
        }
        for size in [1, 2, 8, 9, 10, 24, 25, 1_000, bytes.len()] {
            let mut budget = Budget::new(0);
            for piece in bytes.chunks(size) {
                budget.feed(piece, 0).unwrap();
            }
            assert_eq!(budget.saved, BURST - 1 - RESET_COST, "in pieces of {size}");
            assert_eq!((budget.have, budget.skip), (0, 0), "in pieces of {size}");
        }
    }
}
