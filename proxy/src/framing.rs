//! A strict look at the bytes of requests, in front of the HTTP library.
//!
//! The library folds equal lengths, drops a length beside an encoding, takes bare
//! line feeds and does not tell. This scanner follows the same bytes by the grammar
//! of RFC 9112 without any of its leniencies, and names the first fault together
//! with the request it is in. It forwards nothing and changes nothing: framing
//! towards a target is always made anew by the library, so a wrong scan can refuse
//! but never smuggle.
//!
//! ```text
//!  Head ──no body──▶ Head       Head ──length──▶ Body(n) ──▶ Head
//!  Head ──chunked──▶ ChunkSize ──n──▶ ChunkData(n) ──▶ ChunkReturn ──▶ ChunkFeed ──▶ ChunkSize
//!                    ChunkSize ──0──▶ Trailer ──▶ Head
//!  any ──fault──▶ stays where it is, and reads no more       any ──stop──▶ Off
//! ```
//!
//! Invariant: it has seen each byte before the library does, so a request without
//! a fault when its end is passed on has none.
//! Invariant: between two requests it holds no memory of its own.

use memchr::memchr;

mod fault;
mod head;
mod octets;

pub(crate) use fault::Fault;
pub(crate) use head::chunk_size;
pub(crate) use head::is_lookalike;
use head::{Follows, Head, trailer};

/// The longest line of a head: the library takes no larger head.
const MAX_LINE: usize = 16 * 1024;

/// All lines of extensions and trailers of one body; half of what a head may have,
/// and far more than any use of them.
const MAX_EXTRA: usize = 8 * 1024;

/// The longest line between two chunks: its size, and an extension that nobody reads.
const MAX_CHUNK_LINE: usize = 256;

/// Trailers of one body; gRPC has the most, three and a few of the app's own.
const MAX_TRAILERS: u8 = 32;

/// Where in the stream of requests the next byte stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    Head,
    Body(u64),
    ChunkSize,
    ChunkData(u64),
    ChunkReturn,
    ChunkFeed,
    Trailer,
    Off,
}

/// The scanner of one client connection.
#[derive(Debug)]
pub(crate) struct Scanner {
    state: State,
    head: Head,
    /// The beginning of a line whose end has not come yet.
    kept: Vec<u8>,
    /// Heads that have ended, which is the number of the next request.
    heads: u64,
    /// The first fault, and the number of the request it is in.
    fault: Option<(Fault, u64)>,
    /// Bytes of extensions and trailers of this body.
    extra: usize,
    trailers: u8,
}

impl Scanner {
    /// A scanner before the first head.
    pub(crate) fn new() -> Self {
        Self {
            state: State::Head,
            head: Head::default(),
            kept: Vec::new(),
            heads: 0,
            fault: None,
            extra: 0,
            trailers: 0,
        }
    }

    /// Follows the bytes that were read, up to the first fault.
    pub(crate) fn feed(&mut self, mut bytes: &[u8]) {
        while !bytes.is_empty() && self.fault.is_none() {
            match self.state {
                State::Off => return,
                State::Body(left) => {
                    bytes = self.skip(bytes, left, State::Body, State::Head);
                }
                State::ChunkData(left) => {
                    bytes = self.skip(bytes, left, State::ChunkData, State::ChunkReturn);
                }
                State::ChunkReturn => {
                    bytes = self.expect(bytes, b'\r', State::ChunkFeed);
                }
                State::ChunkFeed => {
                    bytes = self.expect(bytes, b'\n', State::ChunkSize);
                }
                State::Head | State::ChunkSize | State::Trailer => {
                    bytes = self.line(bytes);
                }
            }
        }
    }

    /// The first fault that was seen.
    pub(crate) fn fault(&self) -> Option<Fault> {
        self.fault.map(|(fault, _)| fault)
    }

    /// The fault for which a request must not be served: its own, or that of one
    /// before it. Requests are counted from 0.
    pub(crate) fn fault_of(&self, request: u64) -> Option<Fault> {
        self.fault
            .filter(|(_, at)| *at <= request)
            .map(|(fault, _)| fault)
    }

    /// How many heads have ended.
    pub(crate) fn heads(&self) -> u64 {
        self.heads
    }

    /// Whether a head has begun and not ended.
    pub(crate) fn in_head(&self) -> bool {
        let begun = self.head.has_begun() || !self.kept.is_empty() || self.fault.is_some();
        self.state == State::Head && begun
    }

    /// Whether a body has begun and not ended.
    pub(crate) fn in_body(&self) -> bool {
        !matches!(self.state, State::Head | State::Off)
    }

    /// From here on the bytes are no requests of HTTP/1, and those that were taken
    /// for one have no fault.
    pub(crate) fn stop(&mut self) {
        self.state = State::Off;
        self.kept = Vec::new();
        self.fault = None;
    }

    fn report(&mut self, fault: Fault) {
        let request = if self.in_body() {
            self.heads.saturating_sub(1)
        } else {
            self.heads
        };
        self.fault.get_or_insert((fault, request));
        self.kept = Vec::new();
    }

    fn skip<'a>(
        &mut self,
        bytes: &'a [u8],
        left: u64,
        stay: fn(u64) -> State,
        next: State,
    ) -> &'a [u8] {
        let count = usize::try_from(left).unwrap_or(usize::MAX).min(bytes.len());
        let left = left - count as u64;
        self.state = if left == 0 { next } else { stay(left) };
        &bytes[count..]
    }

    fn expect<'a>(&mut self, bytes: &'a [u8], byte: u8, next: State) -> &'a [u8] {
        if bytes[0] == byte {
            self.state = next;
        } else {
            self.report(Fault::ChunkEnd);
        }
        &bytes[1..]
    }

    fn line<'a>(&mut self, bytes: &'a [u8]) -> &'a [u8] {
        let (piece, rest) = match memchr(b'\n', bytes) {
            Some(end) => (&bytes[..end], Some(&bytes[end + 1..])),
            None => (bytes, None),
        };
        let max = match self.state {
            State::ChunkSize => MAX_CHUNK_LINE,
            _ => MAX_LINE,
        };
        let told = if self.kept.len() + piece.len() > max {
            Err(Fault::TooLong)
        } else if rest.is_none() {
            self.kept.extend_from_slice(piece);
            Ok(())
        } else if self.kept.is_empty() {
            self.ended(piece)
        } else {
            let mut whole = std::mem::take(&mut self.kept);
            whole.extend_from_slice(piece);
            self.ended(&whole)
        };
        if let Err(fault) = told {
            self.report(fault);
        }
        rest.unwrap_or_default()
    }

    fn ended(&mut self, line: &[u8]) -> Result<(), Fault> {
        let line = line.strip_suffix(b"\r").ok_or(Fault::BareLineFeed)?;
        match self.state {
            State::Head if self.head.has_begun() && line.is_empty() => {
                let follows = self.head.end()?;
                self.head_ended(follows);
                Ok(())
            }
            State::Head if self.head.has_begun() => self.head.field(line),
            State::Head if line.is_empty() => self.head.empty_line(),
            State::Head => self.head.request_line(line),
            State::ChunkSize => self.chunk(line),
            State::Trailer if line.is_empty() => {
                self.state = State::Head;
                Ok(())
            }
            State::Trailer => {
                self.trailers += 1;
                self.spend(line.len())?;
                if self.trailers > MAX_TRAILERS {
                    return Err(Fault::TooLong);
                }
                trailer(line)
            }
            State::Body(_)
            | State::ChunkData(_)
            | State::ChunkReturn
            | State::ChunkFeed
            | State::Off => Ok(()),
        }
    }

    fn head_ended(&mut self, follows: Follows) {
        self.heads += 1;
        self.extra = 0;
        self.trailers = 0;
        self.state = match follows {
            Follows::Nothing => State::Head,
            Follows::Length(length) => State::Body(length),
            Follows::Chunks => State::ChunkSize,
        };
    }

    fn chunk(&mut self, line: &[u8]) -> Result<(), Fault> {
        let size = chunk_size(line)?;
        if let Some(extension) = memchr(b';', line) {
            self.spend(line.len() - extension)?;
        }
        self.state = match size {
            0 => State::Trailer,
            size => State::ChunkData(size),
        };
        Ok(())
    }

    fn spend(&mut self, bytes: usize) -> Result<(), Fault> {
        self.extra += bytes;
        if self.extra > MAX_EXTRA {
            return Err(Fault::TooLong);
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests;
