//! The lines of a request's head, each for itself and what they add up to.

use memchr::memchr3;

use super::fault::Fault;
use super::octets::{has_control, name};

/// Names that decide where a request ends, where it goes or who sent it. Written
/// with underscores they are the same to programs that turn names into variables
/// (CGI and what came of it), and different to everybody before them.
const PRECISE: [&[u8]; 8] = [
    b"content-length",
    b"transfer-encoding",
    b"x-forwarded-for",
    b"x-forwarded-host",
    b"x-forwarded-port",
    b"x-forwarded-prefix",
    b"x-forwarded-proto",
    b"x-real-ip",
];

/// Names that no trailer may have: they frame, route, authorise or describe a
/// request, which is in a target's hands already (RFC 9110, section 6.5.1).
const NO_TRAILER: [&[u8]; 27] = [
    b"authorization",
    b"cache-control",
    b"connection",
    b"content-encoding",
    b"content-length",
    b"content-range",
    b"content-type",
    b"cookie",
    b"expect",
    b"forwarded",
    b"host",
    b"if-match",
    b"if-modified-since",
    b"if-none-match",
    b"if-range",
    b"if-unmodified-since",
    b"keep-alive",
    b"max-forwards",
    b"pragma",
    b"proxy-authorization",
    b"proxy-connection",
    b"range",
    b"te",
    b"trailer",
    b"transfer-encoding",
    b"upgrade",
    b"x-real-ip",
];

/// The version a request line names.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Version {
    Old,
    Current,
}

/// What the lines of a head said so far.
#[derive(Debug, Default)]
pub(super) struct Head {
    /// Named by the request line, which comes first.
    version: Option<Version>,
    empty_line: bool,
    host: bool,
    encoded: bool,
    length: Option<u64>,
}

/// What comes after a head.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Follows {
    Nothing,
    Length(u64),
    Chunks,
}

impl Head {
    /// Whether the request line was there.
    pub(super) fn has_begun(&self) -> bool {
        self.version.is_some()
    }

    /// An empty line before the request line; old clients send one after a body.
    pub(super) fn empty_line(&mut self) -> Result<(), Fault> {
        if self.empty_line {
            return Err(Fault::EmptyLines);
        }
        self.empty_line = true;
        Ok(())
    }

    /// The line `METHOD TARGET HTTP/1.1`.
    pub(super) fn request_line(&mut self, line: &[u8]) -> Result<(), Fault> {
        let (method, rest) = line.split_at(name(line).end);
        let rest = rest.strip_prefix(b" ").ok_or(Fault::RequestLine)?;
        let (target, version) = rest.split_last_chunk::<9>().ok_or(Fault::RequestLine)?;
        let version = match version {
            b" HTTP/1.1" => Version::Current,
            b" HTTP/1.0" => Version::Old,
            _ => return Err(Fault::RequestLine),
        };
        if method.is_empty() || target.is_empty() {
            return Err(Fault::RequestLine);
        }
        // The library drops a fragment, so that the target would be asked for another address.
        if memchr3(b' ', b'\t', b'#', target).is_some() || has_control(target) {
            return Err(Fault::Target);
        }
        self.version = Some(version);
        Ok(())
    }

    /// A line `Name: value`.
    pub(super) fn field(&mut self, line: &[u8]) -> Result<(), Fault> {
        let (name, value) = field(line)?;
        match name.len() {
            4 if name.eq_ignore_ascii_case(b"host") => {
                if self.host {
                    return Err(Fault::RepeatedHost);
                }
                self.host = true;
            }
            14 if name.eq_ignore_ascii_case(b"content-length") => self.content_length(value)?,
            17 if name.eq_ignore_ascii_case(b"transfer-encoding") => self.encoding(value)?,
            _ => {}
        }
        Ok(())
    }

    fn content_length(&mut self, value: &[u8]) -> Result<(), Fault> {
        if self.length.is_some() {
            return Err(Fault::RepeatedLength);
        }
        if self.encoded {
            return Err(Fault::LengthAndEncoding);
        }
        self.length = Some(number(value.trim_ascii()).ok_or(Fault::BadLength)?);
        Ok(())
    }

    /// Nothing but the word itself: what stands around it is what others disagree on.
    fn encoding(&mut self, value: &[u8]) -> Result<(), Fault> {
        if self.length.is_some() {
            return Err(Fault::LengthAndEncoding);
        }
        let word = value.strip_prefix(b" ").unwrap_or(value);
        if self.encoded || !word.eq_ignore_ascii_case(b"chunked") {
            return Err(Fault::Encoding);
        }
        self.encoded = true;
        Ok(())
    }

    /// The empty line after the fields.
    pub(super) fn end(&mut self) -> Result<Follows, Fault> {
        let head = std::mem::take(self);
        let old = head.version == Some(Version::Old);
        if head.encoded && old {
            return Err(Fault::OldEncoding);
        }
        if !head.host && !old {
            return Err(Fault::NoHost);
        }
        Ok(match (head.encoded, head.length) {
            (true, _) => Follows::Chunks,
            (false, None | Some(0)) => Follows::Nothing,
            (false, Some(length)) => Follows::Length(length),
        })
    }
}

/// The name and value of a field, where both are made of what they may be made of.
fn field(line: &[u8]) -> Result<(&[u8], &[u8]), Fault> {
    let found = name(line);
    let (name, rest) = line.split_at(found.end);
    let Some(value) = rest.strip_prefix(b":").filter(|_| !name.is_empty()) else {
        return Err(match (rest.first(), name.is_empty()) {
            (Some(b' ' | b'\t'), true) => Fault::Folded,
            (Some(b' ' | b'\t'), false) => Fault::SpaceBeforeColon,
            _ => Fault::FieldName,
        });
    };
    if has_control(value) {
        return Err(Fault::Control);
    }
    if found.underscored && is_lookalike(name) {
        return Err(Fault::LookalikeName);
    }
    Ok((name, value))
}

/// A line of a trailer.
pub(super) fn trailer(line: &[u8]) -> Result<(), Fault> {
    let (name, _) = field(line)?;
    let forwarded = b"x-forwarded-";
    let claims = name
        .get(..forwarded.len())
        .is_some_and(|start| start.eq_ignore_ascii_case(forwarded));
    if claims || NO_TRAILER.iter().any(|no| no.eq_ignore_ascii_case(name)) {
        return Err(Fault::Trailer);
    }
    Ok(())
}

/// Whether a name with underscores is one of [`PRECISE`] with hyphens.
pub(crate) fn is_lookalike(name: &[u8]) -> bool {
    let same = |byte: u8, other: u8| match byte {
        b'_' => other == b'-',
        byte => byte.to_ascii_lowercase() == other,
    };
    let is = |other: &&[u8]| {
        name.len() == other.len() && name.iter().zip(*other).all(|(&a, &b)| same(a, b))
    };
    name.contains(&b'_') && PRECISE.iter().any(is)
}

/// Digits and nothing else, as a number of 64 bits.
fn number(text: &[u8]) -> Option<u64> {
    if text.is_empty() || !text.iter().all(u8::is_ascii_digit) {
        return None;
    }
    str::from_utf8(text).ok()?.parse().ok()
}

/// Digits of the largest number of 64 bits, base sixteen.
const MAX_SIZE_DIGITS: usize = 16;

/// The size at the beginning of a chunk's line. Extensions are let be: the library
/// drops them.
pub(crate) fn chunk_size(line: &[u8]) -> Result<u64, Fault> {
    let digits = line.iter().take_while(|b| b.is_ascii_hexdigit()).count();
    let (size, rest) = line.split_at(digits);
    if !(rest.is_empty() || rest[0] == b';') || digits > MAX_SIZE_DIGITS {
        return Err(Fault::ChunkSize);
    }
    if has_control(rest) {
        return Err(Fault::Control);
    }
    let text = str::from_utf8(size).map_err(|_| Fault::ChunkSize)?;
    u64::from_str_radix(text, 16).map_err(|_| Fault::ChunkSize)
}
