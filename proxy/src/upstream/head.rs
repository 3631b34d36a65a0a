//! Heads of HTTP/1.1 on a connection to a target: a request's is written, an
//! answer's is read.
//!
//! What says how long a body is, is made here and nowhere else. An answer's head is
//! read strictly: what two programs could read in two ways is refused. Its fields
//! share the bytes that were read.

use std::io::Write as _;
use std::mem::MaybeUninit;
use std::net::SocketAddr;

use bytes::{Buf as _, Bytes};
use http::{HeaderMap, HeaderName, HeaderValue, Method, Request, StatusCode, header};
use httparse::{ParserConfig, Status};
use hyper::ext::ReasonPhrase;

use super::body::{Chunks, Framing};
use super::fault::Fault;

/// The largest head of an answer: what servers with many cookies set stay far below.
pub(super) const MAX_HEAD: usize = 64 * 1024;

/// Fields of an answer's head, the same bound as for a request's.
const MAX_FIELDS: usize = 100;

/// How a target finds the end of a request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Length {
    /// It has no body.
    None,
    /// By its length.
    Known(u64),
    /// By its chunks.
    Chunked,
}

/// Writes the head of a request; one that names no host is for the target by its address.
pub(super) fn write<B>(to: &mut Vec<u8>, request: &Request<B>, length: Length, target: SocketAddr) {
    let fields = request.headers();
    // About what a browser sends.
    to.reserve(128 + 64 * fields.len());
    to.extend_from_slice(request.method().as_str().as_bytes());
    to.push(b' ');
    let path = request.uri().path_and_query();
    to.extend_from_slice(path.map_or("/", |path| path.as_str()).as_bytes());
    to.extend_from_slice(b" HTTP/1.1\r\n");
    let (mut named, mut counted) = (false, false);
    for (name, value) in fields {
        if name == header::TRANSFER_ENCODING {
            continue;
        } else if name == header::CONTENT_LENGTH {
            counted = true;
            continue;
        }
        named |= name == header::HOST;
        write_field(to, name, value);
    }
    if !named {
        // Only a client of HTTP/1.0 may leave it out; a target may not miss it. A
        // list of bytes takes all that is written.
        let _ = write!(to, "host: {target}\r\n");
    }
    match length {
        Length::Known(length) => {
            let _ = write!(to, "content-length: {length}\r\n");
        }
        Length::Chunked => to.extend_from_slice(b"transfer-encoding: chunked\r\n"),
        Length::None if counted => to.extend_from_slice(b"content-length: 0\r\n"),
        Length::None => {}
    }
    to.extend_from_slice(b"\r\n");
}

/// Writes one field.
pub(super) fn write_field(to: &mut Vec<u8>, name: &HeaderName, value: &HeaderValue) {
    to.extend_from_slice(name.as_str().as_bytes());
    to.extend_from_slice(b": ");
    to.extend_from_slice(value.as_bytes());
    to.extend_from_slice(b"\r\n");
}

/// The head of an answer.
#[derive(Debug)]
pub(super) struct Head {
    pub(super) status: StatusCode,
    /// What it is called, where that is not what it always is.
    pub(super) reason: Option<ReasonPhrase>,
    pub(super) fields: HeaderMap,
    /// How its body ends.
    pub(super) framing: Framing,
    /// Whether the target goes on listening behind it.
    pub(super) keeps: bool,
}

/// What stands at the beginning of the bytes.
#[derive(Debug)]
pub(super) enum Parsed {
    /// A part of a head.
    Part,
    /// An answer before the answer, of which nothing is kept.
    Interim,
    /// The head.
    Whole(Head),
}

/// What the framing of an answer is told by.
#[derive(Debug, Default)]
struct Told {
    length: Option<u64>,
    /// It has zeros in front, which some programs take for base eight.
    zeros: bool,
    chunked: bool,
    closes: bool,
    keeps: bool,
}

/// Reads a head from the beginning of `read`, and takes it from there. Its fields
/// come into `fields`, which is empty.
pub(super) fn parse(
    read: &mut Bytes,
    method: &Method,
    mut fields: HeaderMap,
) -> Result<Parsed, Fault> {
    if read.first().is_some_and(|&first| first != b'H') {
        // The parser would skip empty lines, which are the rest of something else.
        return Err(Fault::Head);
    }
    let mut space = [const { MaybeUninit::uninit() }; MAX_FIELDS];
    let mut response = httparse::Response::new(&mut []);
    let parsed =
        ParserConfig::default().parse_response_with_uninit_headers(&mut response, read, &mut space);
    let length = match parsed.map_err(|_| Fault::Head)? {
        Status::Partial if read.len() < MAX_HEAD => return Ok(Parsed::Part),
        Status::Complete(length) if length <= MAX_HEAD => length,
        Status::Partial | Status::Complete(_) => return Err(Fault::LongHead),
    };
    let code = response.code.ok_or(Fault::Head)?;
    let status = StatusCode::from_u16(code).map_err(|_| Fault::Head)?;
    if status.is_informational() && status != StatusCode::SWITCHING_PROTOCOLS {
        read.advance(length);
        return Ok(Parsed::Interim);
    }
    let mut told = Told::default();
    fields.reserve(response.headers.len());
    for field in response.headers.iter() {
        let name = HeaderName::from_bytes(field.name.as_bytes()).map_err(|_| Fault::Head)?;
        if told.takes(&name, field.value, status)? {
            continue;
        }
        let value = HeaderValue::from_maybe_shared(read.slice_ref(field.value));
        fields.append(name, value.map_err(|_| Fault::Head)?);
    }
    if let Some(length) = told.length.filter(|_| told.zeros) {
        fields.insert(header::CONTENT_LENGTH, HeaderValue::from(length));
    }
    let old = response.version == Some(0);
    // The parser leaves out what it cannot show as text; then the usual one stands.
    let reason = response
        .reason
        .filter(|&reason| !reason.is_empty() && Some(reason) != status.canonical_reason())
        .and_then(|reason| ReasonPhrase::try_from(reason.as_bytes()).ok());
    let framing = told.framing(status, method, old)?;
    let keeps = !told.closes
        && (told.keeps || !old)
        && !matches!(framing, Framing::UntilClose)
        && status != StatusCode::SWITCHING_PROTOCOLS;
    read.advance(length);
    Ok(Parsed::Whole(Head {
        status,
        reason,
        fields,
        framing,
        keeps,
    }))
}

impl Told {
    /// Learns from a field; tells whether it is not for the client.
    fn takes(
        &mut self,
        name: &HeaderName,
        value: &[u8],
        status: StatusCode,
    ) -> Result<bool, Fault> {
        if *name == header::CONTENT_LENGTH {
            let length = number(value).ok_or(Fault::Length)?;
            self.zeros |= value.len() > 1 && value[0] == b'0';
            return match self.length.replace(length) {
                None => Ok(false),
                Some(before) if before == length => Ok(true),
                Some(_) => Err(Fault::Length),
            };
        }
        if *name == header::TRANSFER_ENCODING {
            if self.chunked || !value.eq_ignore_ascii_case(b"chunked") {
                return Err(Fault::Encoding);
            }
            self.chunked = true;
            return Ok(true);
        }
        if *name != header::CONNECTION {
            return Ok(false);
        }
        let alone = if value.eq_ignore_ascii_case(b"keep-alive") {
            self.keeps = true;
            true
        } else if value.eq_ignore_ascii_case(b"close") {
            self.closes = true;
            true
        } else {
            for word in value.split(|&b| b == b',').map(<[u8]>::trim_ascii) {
                self.keeps |= word.eq_ignore_ascii_case(b"keep-alive");
                self.closes |= word.eq_ignore_ascii_case(b"close");
            }
            false
        };
        // To a switch of protocols it belongs.
        Ok(alone && status != StatusCode::SWITCHING_PROTOCOLS)
    }

    /// How the body ends (RFC 9112, section 6.3); `old` is an answer of HTTP/1.0.
    fn framing(&self, status: StatusCode, method: &Method, old: bool) -> Result<Framing, Fault> {
        if self.chunked && self.length.is_some() {
            return Err(Fault::TwoFramings);
        }
        if self.chunked && old {
            return Err(Fault::Encoding);
        }
        let bare = status == StatusCode::SWITCHING_PROTOCOLS
            || status == StatusCode::NO_CONTENT
            || status == StatusCode::NOT_MODIFIED
            || *method == Method::HEAD;
        Ok(match self.length {
            _ if bare => Framing::Ended,
            _ if self.chunked => Framing::Chunked(Chunks::Size),
            Some(0) => Framing::Ended,
            Some(length) => Framing::Length(length),
            None => Framing::UntilClose,
        })
    }
}

/// Digits and nothing else.
fn number(value: &[u8]) -> Option<u64> {
    if value.is_empty() || !value.iter().all(u8::is_ascii_digit) {
        return None;
    }
    str::from_utf8(value).ok()?.parse().ok()
}

#[cfg(test)]
mod tests;
