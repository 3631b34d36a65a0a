//! A strict second look at the bytes of requests, where the HTTP library is lax.
//!
//! The library folds equal lengths, drops a length beside an encoding and takes
//! bare line feeds, and does not tell. This scanner follows the same bytes,
//! finds the heads, and names the fault; the connection is refused then. It
//! forwards nothing and changes nothing: framing towards a target is always
//! made anew by the library, so a wrong scan can refuse but never smuggle.
//!
//! ```text
//!  Head ──no body──▶ Head       Head ──length──▶ Body(n) ──▶ Head
//!  Head ──chunked──▶ ChunkSize ──n──▶ ChunkData(n) ──▶ ChunkSize ──0──▶ Trailer ──▶ Head
//!  any ──not understood, or a tunnel──▶ Off
//! ```

use memchr::memchr;

/// The part of a line that is kept when it comes in pieces. Only the two framing
/// fields are looked at, and a number of 64 bits has 20 digits.
const KEPT: usize = 128;

/// Why a request is refused although the library took it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Fault {
    /// More than one `Content-Length`.
    RepeatedLength,
    /// `Content-Length` beside `Transfer-Encoding`.
    LengthAndEncoding,
    /// A line of the head that ends without a carriage return.
    BareLineFeed,
    /// A `Content-Length` that is no number.
    BadLength,
}

impl Fault {
    /// What the client is told.
    pub(crate) fn text(self) -> &'static str {
        match self {
            Self::RepeatedLength => "more than one Content-Length",
            Self::LengthAndEncoding => "both Content-Length and Transfer-Encoding",
            Self::BareLineFeed => "a line of the head ends without a carriage return",
            Self::BadLength => "a Content-Length that is no number",
        }
    }
}

/// Where in the stream of requests the next byte stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    Head,
    Body(u64),
    ChunkSize,
    ChunkData(u64),
    Trailer,
    Off,
}

/// The scanner of one client connection.
#[derive(Debug)]
pub(crate) struct Scanner {
    state: State,
    /// The beginning of a line whose end has not come yet.
    kept: Vec<u8>,
    /// The last byte of that line, which tells a bare line feed.
    last: u8,
    in_line: bool,
    first_line_seen: bool,
    length: Option<u64>,
    encoded: bool,
    fault: Option<Fault>,
}

impl Scanner {
    /// A scanner before the first head.
    pub(crate) fn new() -> Self {
        Self {
            state: State::Head,
            kept: Vec::new(),
            last: 0,
            in_line: false,
            first_line_seen: false,
            length: None,
            encoded: false,
            fault: None,
        }
    }

    /// Follows the bytes that were read; the first fault stays.
    pub(crate) fn feed(&mut self, mut bytes: &[u8]) {
        while !bytes.is_empty() {
            match self.state {
                State::Off => return,
                State::Body(left) => {
                    bytes = self.skip(bytes, left, State::Body, State::Head);
                }
                State::ChunkData(left) => {
                    bytes = self.skip(bytes, left, State::ChunkData, State::ChunkSize);
                }
                State::Head | State::ChunkSize | State::Trailer => {
                    bytes = self.line(bytes);
                }
            }
        }
    }

    /// The first fault that was seen.
    pub(crate) fn fault(&self) -> Option<Fault> {
        self.fault
    }

    /// Whether a head has begun and not ended.
    pub(crate) fn in_head(&self) -> bool {
        self.state == State::Head && (self.in_line || self.first_line_seen)
    }

    /// Whether a body has begun and not ended.
    pub(crate) fn in_body(&self) -> bool {
        !matches!(self.state, State::Head | State::Off)
    }

    /// From here on the bytes are no requests.
    pub(crate) fn stop(&mut self) {
        self.state = State::Off;
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

    fn line<'a>(&mut self, bytes: &'a [u8]) -> &'a [u8] {
        let Some(end) = memchr(b'\n', bytes) else {
            let room = KEPT.saturating_sub(self.kept.len()).min(bytes.len());
            self.kept.extend_from_slice(&bytes[..room]);
            self.last = bytes[bytes.len() - 1];
            self.in_line = true;
            return &[];
        };
        let (piece, rest) = (&bytes[..end], &bytes[end + 1..]);
        if self.in_line {
            let room = KEPT.saturating_sub(self.kept.len()).min(piece.len());
            let mut whole = std::mem::take(&mut self.kept);
            whole.extend_from_slice(&piece[..room]);
            let last = piece.last().copied().unwrap_or(self.last);
            self.in_line = false;
            let kept_all = room == piece.len() && whole.last() == Some(&last);
            if kept_all && last == b'\r' {
                whole.pop();
            }
            self.ended(&whole, last == b'\r');
            whole.clear();
            self.kept = whole;
        } else {
            match piece.split_last() {
                Some((b'\r', text)) => self.ended(text, true),
                _ => self.ended(piece, false),
            }
        }
        rest
    }

    fn ended(&mut self, line: &[u8], strict: bool) {
        if !strict {
            self.report(Fault::BareLineFeed);
        }
        match self.state {
            State::Head if line.is_empty() => self.head_ended(),
            State::Head if !self.first_line_seen => self.first_line_seen = true,
            State::Head => self.field(line),
            State::ChunkSize => self.state = chunk(line),
            State::Trailer if line.is_empty() => self.state = State::Head,
            State::Trailer | State::Body(_) | State::ChunkData(_) | State::Off => {}
        }
    }

    fn field(&mut self, line: &[u8]) {
        match line.first() {
            Some(b'c' | b'C') => {
                if let Some(value) = value_of(line, b"content-length") {
                    self.content_length(value);
                }
            }
            Some(b't' | b'T') if value_of(line, b"transfer-encoding").is_some() => {
                self.encoded = true;
                if self.length.is_some() {
                    self.report(Fault::LengthAndEncoding);
                }
            }
            _ => {}
        }
    }

    fn content_length(&mut self, value: &[u8]) {
        if self.length.is_some() {
            self.report(Fault::RepeatedLength);
        }
        if self.encoded {
            self.report(Fault::LengthAndEncoding);
        }
        let value = value.trim_ascii();
        let digits = !value.is_empty() && value.iter().all(u8::is_ascii_digit);
        let number = str::from_utf8(value)
            .ok()
            .and_then(|text| text.parse().ok());
        match number.filter(|_| digits) {
            Some(number) => self.length = Some(number),
            None => self.report(Fault::BadLength),
        }
    }

    fn head_ended(&mut self) {
        // Empty lines before a request are ignored, as the library does.
        if !self.first_line_seen {
            return;
        }
        self.first_line_seen = false;
        let length = self.length.take().unwrap_or(0);
        let encoded = std::mem::take(&mut self.encoded);
        self.state = match (encoded, length) {
            (true, _) => State::ChunkSize,
            (false, 0) => State::Head,
            (false, length) => State::Body(length),
        };
    }

    fn report(&mut self, fault: Fault) {
        self.fault.get_or_insert(fault);
    }
}

fn value_of<'a>(line: &'a [u8], name: &[u8]) -> Option<&'a [u8]> {
    let (found, rest) = line.split_at_checked(name.len())?;
    let value = rest.strip_prefix(b":")?;
    found.eq_ignore_ascii_case(name).then_some(value)
}

fn chunk(line: &[u8]) -> State {
    let digits = line.iter().take_while(|b| b.is_ascii_hexdigit()).count();
    let number = str::from_utf8(&line[..digits])
        .ok()
        .and_then(|text| u64::from_str_radix(text, 16).ok());
    match number {
        Some(0) => State::Trailer,
        // The two bytes are the line end after the data.
        Some(number) => number.checked_add(2).map_or(State::Off, State::ChunkData),
        None => State::Off,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Feeds whole, byte by byte, and cut in two at each place: all must agree.
    fn check(text: &str, expected: Option<Fault>, in_head: bool, in_body: bool) {
        let bytes = text.as_bytes();
        let told = |cuts: &[&[u8]]| {
            let mut scanner = Scanner::new();
            cuts.iter().for_each(|piece| scanner.feed(piece));
            (scanner.fault(), scanner.in_head(), scanner.in_body())
        };
        let expected = (expected, in_head, in_body);
        assert_eq!(told(&[bytes]), expected, "{text:?}");
        let single: Vec<&[u8]> = bytes.chunks(1).collect();
        assert_eq!(told(&single), expected, "{text:?} byte by byte");
        for cut in 0..bytes.len() {
            let (left, right) = bytes.split_at(cut);
            assert_eq!(told(&[left, right]), expected, "{text:?} cut at {cut}");
        }
    }

    #[test]
    fn sound_requests_have_no_fault() {
        check("GET / HTTP/1.1\r\nHost: a\r\n\r\n", None, false, false);
        check(
            "\r\n\r\nGET / HTTP/1.1\r\nHost: a\r\n\r\n",
            None,
            false,
            false,
        );
        check("GET / HTTP/1.1\r\nHo", None, true, false);
        check(
            "POST / HTTP/1.1\r\nContent-Length: 5\r\n\r\nab\n",
            None,
            false,
            true,
        );
        check(
            "POST / HTTP/1.1\r\ncontent-length:5\r\n\r\na\nb\ncGET / HTTP/1.1\r\n",
            None,
            true,
            false,
        );
        check(
            "POST / HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n3;x=y\r\na\nb\r\n0\r\nT: x\r\n\r\nGET",
            None,
            true,
            false,
        );
    }

    #[test]
    fn each_fault_is_named() {
        let cases = [
            (
                "Content-Length: 1\r\nContent-Length: 1\r\n\r\nx",
                Fault::RepeatedLength,
            ),
            (
                "Content-Length: 1\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
                Fault::LengthAndEncoding,
            ),
            (
                "transfer-encoding: chunked\r\ncontent-length: 1\r\n\r\n0\r\n\r\n",
                Fault::LengthAndEncoding,
            ),
            ("Host: a\n\r\n", Fault::BareLineFeed),
            ("Content-Length: +1\r\n\r\n", Fault::BadLength),
            ("Content-Length: 1, 1\r\n\r\n", Fault::BadLength),
        ];
        for (rest, fault) in cases {
            check(
                &format!("POST / HTTP/1.1\r\n{rest}"),
                Some(fault),
                false,
                false,
            );
        }
    }

    #[test]
    fn a_fault_of_the_second_request_is_seen() {
        let first = "POST / HTTP/1.1\r\nContent-Length: 3\r\n\r\nabc";
        let second = "POST / HTTP/1.1\r\nContent-Length: 0\r\nContent-Length: 0\r\n\r\n";
        check(
            &format!("{first}{second}"),
            Some(Fault::RepeatedLength),
            false,
            false,
        );
    }

    #[test]
    fn a_long_line_in_pieces_keeps_its_end() {
        let long = "x".repeat(1000);
        check(
            &format!("GET / HTTP/1.1\r\nA: {long}\r\n\r\n"),
            None,
            false,
            false,
        );
        check(
            &format!("GET / HTTP/1.1\r\nA: {long}\n\r\n"),
            Some(Fault::BareLineFeed),
            false,
            false,
        );
    }
}
