//! Reads server-sent events out of bytes that come in any pieces.
//!
//! Only what the agent's stream uses: `event`, `data` and `id`; comments keep
//! a connection alive, `retry` is not ours to take. It does no IO.

/// The longest event: a plan of a hundred steps has some ten thousand bytes.
const MAX_EVENT: usize = 1024 * 1024;

/// An event of the stream.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct StreamEvent {
    /// Its name; `message` when none was sent.
    pub(crate) name: String,
    /// Its data, lines joined by a line feed.
    pub(crate) data: String,
}

/// The stream sent an event that is longer than any.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("an event of the stream has more than {MAX_EVENT} bytes")]
pub(crate) struct TooLong;

/// What has come so far of the next event.
#[derive(Debug, Default)]
pub(crate) struct Parser {
    line: Vec<u8>,
    name: String,
    data: Vec<String>,
    size: usize,
    /// A line feed after a carriage return ends no second line.
    after_return: bool,
    begun: bool,
}

impl Parser {
    /// Takes the next piece and gives the events that it completes.
    pub(crate) fn feed(&mut self, piece: &[u8]) -> Result<Vec<StreamEvent>, TooLong> {
        let mut events = Vec::new();
        for &byte in piece {
            let follows_return = std::mem::replace(&mut self.after_return, byte == b'\r');
            match byte {
                b'\n' if follows_return => {}
                b'\n' | b'\r' => {
                    let line = std::mem::take(&mut self.line);
                    events.extend(self.line(&line));
                }
                _ => {
                    self.line.push(byte);
                    self.size += 1;
                    if self.size > MAX_EVENT {
                        return Err(TooLong);
                    }
                }
            }
        }
        Ok(events)
    }

    fn line(&mut self, line: &[u8]) -> Option<StreamEvent> {
        let line = match std::mem::replace(&mut self.begun, true) {
            false => line.strip_prefix(b"\xef\xbb\xbf").unwrap_or(line),
            true => line,
        };
        if line.is_empty() {
            return self.dispatch();
        }
        let line = String::from_utf8_lossy(line);
        let (field, value) = line.split_once(':').unwrap_or((&line, ""));
        let value = value.strip_prefix(' ').unwrap_or(value);
        match field {
            "event" => self.name = value.to_owned(),
            "data" => self.data.push(value.to_owned()),
            // A comment, or a field that is not ours: it takes no room. The id
            // stands in the data too.
            _ => self.size = self.size.saturating_sub(line.len()),
        }
        None
    }

    fn dispatch(&mut self) -> Option<StreamEvent> {
        let name = std::mem::take(&mut self.name);
        let data = std::mem::take(&mut self.data);
        self.size = 0;
        if data.is_empty() {
            return None;
        }
        let name = match name.is_empty() {
            true => "message".to_owned(),
            false => name,
        };
        let data = data.join("\n");
        Some(StreamEvent { name, data })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn all(pieces: &[&[u8]]) -> Vec<(String, String)> {
        let mut parser = Parser::default();
        let events = pieces.iter().flat_map(|piece| parser.feed(piece).unwrap());
        events.map(|event| (event.name, event.data)).collect()
    }

    fn check(text: &str, expected: &[(&str, &str)]) {
        let owned = |(name, data): &(&str, &str)| ((*name).to_owned(), (*data).to_owned());
        let expected: Vec<_> = expected.iter().map(owned).collect();
        let bytes = text.as_bytes();
        assert_eq!(all(&[bytes]), expected, "{text:?} whole");
        for split in 0..=bytes.len() {
            let (left, right) = bytes.split_at(split);
            assert_eq!(all(&[left, right]), expected, "{text:?} split at {split}");
        }
        let single: Vec<&[u8]> = bytes.chunks(1).collect();
        assert_eq!(all(&single), expected, "{text:?} byte by byte");
    }

    #[test]
    fn events_are_read_wherever_the_pieces_are_cut() {
        check(
            "id: 7\nevent: deploy\ndata: {\"a\":1}\n\n",
            &[("deploy", "{\"a\":1}")],
        );
        check("event: view\r\ndata: é✓\r\n\r\n", &[("view", "é✓")]);
        check(
            "data: a\r\rdata: b\r\r",
            &[("message", "a"), ("message", "b")],
        );
        check("data: one\ndata: two\n\n", &[("message", "one\ntwo")]);
        check("data:no space\n\n", &[("message", "no space")]);
        check(": keep-alive\n\nretry: 10\n\n", &[]);
        check("data\n\n", &[("message", "")]);
        check("\u{feff}data: marked\n\n", &[("message", "marked")]);
        check("event: lost\n\ndata: x\n\n", &[("message", "x")]);
        check("data: not yet complete\n", &[]);
    }

    #[test]
    fn a_stream_without_end_is_refused_and_comments_are_not_counted() {
        let mut parser = Parser::default();
        let flood = vec![b'x'; MAX_EVENT + 1];
        assert_eq!(parser.feed(&flood), Err(TooLong));
        let mut parser = Parser::default();
        for _ in 0..200_000 {
            assert_eq!(parser.feed(b": alive\n"), Ok(Vec::new()));
        }
    }
}
