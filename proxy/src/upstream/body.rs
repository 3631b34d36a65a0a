//! Where the body of an answer ends, and what of it is for the client.
//!
//! ```text
//!  Length(n) ──n bytes──▶ Ended            UntilClose ──end of the connection──▶ Ended
//!  Size ──n──▶ Data(n) ──▶ Return ──▶ Size          Size ──0──▶ Trailers ──▶ Ended
//! ```
//!
//! It reads and writes nothing itself. Pieces share the bytes that were read.
//!
//! Invariant: a body has ended only where its framing says so. After a fault, or an
//! end of the connection too soon, there is never an end.

use bytes::{Buf as _, Bytes};
use http::{HeaderMap, HeaderName, HeaderValue, header};
use httparse::{EMPTY_HEADER, Status};
use memchr::memchr;

use super::fault::Fault;
use crate::framing::chunk_size;

/// The longest line before a chunk, as for a request's: its size, and an extension
/// that nobody reads.
const MAX_CHUNK_LINE: usize = 256;

/// Bytes and fields behind the last chunk, as for a request's.
const MAX_TRAILERS: usize = 8 * 1024;
const MAX_TRAILER_FIELDS: usize = 32;

/// What stands behind the last byte of most chunked bodies.
const LAST: &[u8] = b"\r\n0\r\n\r\n";

/// How the rest of a body is told from what comes behind it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Framing {
    /// There is no more.
    Ended,
    /// So many bytes come.
    Length(u64),
    /// It ends with its connection.
    UntilClose,
    /// It comes in chunks.
    Chunked(Chunks),
    /// It broke off, and never ends.
    Broken(Fault),
}

/// Where in a chunked body the next byte stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Chunks {
    /// In the line before a chunk.
    Size,
    /// In a chunk, of which so much is left.
    Data(u64),
    /// In the line's end behind it.
    Return,
    /// Behind the last chunk.
    Trailers,
}

/// What of a body is next.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Piece {
    Data(Bytes),
    /// With them the body has ended.
    Trailers(HeaderMap),
    /// More must be read first.
    More,
    End,
}

impl Framing {
    /// Takes the next piece from what was read.
    pub(super) fn next(&mut self, read: &mut Bytes) -> Result<Piece, Fault> {
        let told = self.advance(read);
        if let Err(fault) = told {
            *self = Self::Broken(fault);
        }
        told
    }

    fn advance(&mut self, read: &mut Bytes) -> Result<Piece, Fault> {
        loop {
            match *self {
                Self::Ended => return Ok(Piece::End),
                Self::Broken(fault) => return Err(fault),
                Self::Length(_) | Self::UntilClose | Self::Chunked(Chunks::Data(_))
                    if read.is_empty() =>
                {
                    return Ok(Piece::More);
                }
                Self::UntilClose => return Ok(Piece::Data(std::mem::take(read))),
                Self::Length(left) => {
                    let (data, left) = take(read, left);
                    *self = match left {
                        0 => Self::Ended,
                        left => Self::Length(left),
                    };
                    return Ok(Piece::Data(data));
                }
                Self::Chunked(Chunks::Data(left)) => {
                    let (data, left) = take(read, left);
                    *self = match left {
                        0 if read[..] == *LAST => {
                            *read = Bytes::new();
                            Self::Ended
                        }
                        0 => Self::Chunked(Chunks::Return),
                        left => Self::Chunked(Chunks::Data(left)),
                    };
                    return Ok(Piece::Data(data));
                }
                Self::Chunked(Chunks::Size) => {
                    let Some(size) = size(read)? else {
                        return Ok(Piece::More);
                    };
                    *self = Self::Chunked(match size {
                        0 => Chunks::Trailers,
                        size => Chunks::Data(size),
                    });
                }
                Self::Chunked(Chunks::Return) => {
                    let end = &read[..read.len().min(2)];
                    if !b"\r\n".starts_with(end) {
                        return Err(Fault::ChunkLine);
                    }
                    if end.len() < 2 {
                        return Ok(Piece::More);
                    }
                    read.advance(2);
                    *self = Self::Chunked(Chunks::Size);
                }
                Self::Chunked(Chunks::Trailers) => {
                    let Some(fields) = trailers(read)? else {
                        return Ok(Piece::More);
                    };
                    *self = Self::Ended;
                    return Ok(if fields.is_empty() {
                        Piece::End
                    } else {
                        Piece::Trailers(fields)
                    });
                }
            }
        }
    }

    /// The connection has ended; tells whether the body has, too.
    pub(super) fn close(&mut self) -> bool {
        if *self == Self::UntilClose {
            *self = Self::Ended;
        }
        if *self != Self::Ended {
            self.break_off();
        }
        *self == Self::Ended
    }

    /// What is left of the body will not come.
    pub(super) fn break_off(&mut self) {
        if !matches!(self, Self::Broken(_)) {
            *self = Self::Broken(Fault::BrokenOff);
        }
    }

    /// How many bytes are still to come, where that is known.
    pub(super) fn left(&self) -> Option<u64> {
        match *self {
            Self::Ended => Some(0),
            Self::Length(left) => Some(left),
            Self::UntilClose | Self::Chunked(_) | Self::Broken(_) => None,
        }
    }
}

/// Takes at most `left` bytes; tells how many are left then.
fn take(read: &mut Bytes, left: u64) -> (Bytes, u64) {
    match usize::try_from(left) {
        Ok(count) if count < read.len() => (read.split_to(count), 0),
        _ => {
            let data = std::mem::take(read);
            let left = left.saturating_sub(data.len() as u64);
            (data, left)
        }
    }
}

/// Takes the line before a chunk.
fn size(read: &mut Bytes) -> Result<Option<u64>, Fault> {
    let within = &read[..read.len().min(MAX_CHUNK_LINE)];
    let Some(end) = memchr(b'\n', within) else {
        return if within.len() < MAX_CHUNK_LINE {
            Ok(None)
        } else {
            Err(Fault::ChunkLine)
        };
    };
    let line = within[..end].strip_suffix(b"\r").ok_or(Fault::ChunkLine)?;
    let size = chunk_size(line).map_err(|_| Fault::ChunkLine)?;
    read.advance(end + 1);
    Ok(Some(size))
}

/// Takes what stands behind the last chunk.
fn trailers(read: &mut Bytes) -> Result<Option<HeaderMap>, Fault> {
    if read.starts_with(b"\r\n") {
        read.advance(2);
        return Ok(Some(HeaderMap::new()));
    }
    let mut space = [EMPTY_HEADER; MAX_TRAILER_FIELDS];
    let parsed = httparse::parse_headers(read, &mut space).map_err(|_| Fault::Trailers)?;
    let (length, found) = match parsed {
        Status::Partial if read.len() < MAX_TRAILERS => return Ok(None),
        Status::Complete(told) if told.0 <= MAX_TRAILERS => told,
        Status::Partial | Status::Complete(_) => return Err(Fault::Trailers),
    };
    let lines = read[..length].split_inclusive(|&b| b == b'\n');
    if !lines.into_iter().all(|line| line.ends_with(b"\r\n")) {
        return Err(Fault::Trailers);
    }
    let mut fields = HeaderMap::new();
    for field in found {
        let name = HeaderName::from_bytes(field.name.as_bytes()).map_err(|_| Fault::Trailers)?;
        let value = HeaderValue::from_bytes(field.value).map_err(|_| Fault::Trailers)?;
        if may_trail(&name) {
            fields.append(name, value);
        }
    }
    read.advance(length);
    Ok(Some(fields))
}

/// Whether a field may stand behind a body: none by which a message is framed,
/// routed or understood (RFC 9110, section 6.5.1).
pub(super) fn may_trail(name: &HeaderName) -> bool {
    const FORBIDDEN: [HeaderName; 13] = [
        header::AUTHORIZATION,
        header::CACHE_CONTROL,
        header::CONNECTION,
        header::CONTENT_ENCODING,
        header::CONTENT_LENGTH,
        header::CONTENT_RANGE,
        header::CONTENT_TYPE,
        header::HOST,
        header::MAX_FORWARDS,
        header::SET_COOKIE,
        header::TE,
        header::TRAILER,
        header::TRANSFER_ENCODING,
    ];
    !FORBIDDEN.contains(name)
}

#[cfg(test)]
mod tests;
