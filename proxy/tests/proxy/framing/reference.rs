//! Requests read straight by RFC 9112, one byte after the other and with no leniency.
//! It shares no line with the proxy, so that the two can be held against each other.

/// A request as a strict reader sees it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Request {
    pub(crate) method: String,
    pub(crate) target: Vec<u8>,
    pub(crate) version: u8,
    /// Names in lower case.
    pub(crate) fields: Vec<(String, Vec<u8>)>,
    pub(crate) body: Vec<u8>,
    pub(crate) trailers: Vec<(String, Vec<u8>)>,
}

impl Request {
    /// The only value of a field.
    pub(crate) fn field(&self, name: &str) -> Option<&[u8]> {
        only(&self.fields, name).ok().flatten()
    }
}

/// What comes after the last whole request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Rest {
    Nothing,
    Unfinished,
    Fault(&'static str),
}

enum Stop {
    Unfinished,
    Fault(&'static str),
}

impl From<&'static str> for Stop {
    fn from(text: &'static str) -> Self {
        Self::Fault(text)
    }
}

/// All whole requests from the beginning on, and what stopped the reading.
pub(crate) fn parse(bytes: &[u8]) -> (Vec<Request>, Rest) {
    let mut reader = Reader { bytes, at: 0 };
    let mut requests = Vec::new();
    loop {
        if reader.bytes[reader.at..].is_empty() {
            return (requests, Rest::Nothing);
        }
        match reader.request() {
            Ok(request) => requests.push(request),
            Err(Stop::Unfinished) => return (requests, Rest::Unfinished),
            Err(Stop::Fault(text)) => return (requests, Rest::Fault(text)),
        }
    }
}

struct Reader<'a> {
    bytes: &'a [u8],
    at: usize,
}

impl<'a> Reader<'a> {
    fn byte(&mut self) -> Result<u8, Stop> {
        let byte = *self.bytes.get(self.at).ok_or(Stop::Unfinished)?;
        self.at += 1;
        Ok(byte)
    }

    fn line(&mut self) -> Result<&'a [u8], Stop> {
        let begin = self.at;
        loop {
            match self.byte()? {
                b'\n' => return Err("a bare line feed".into()),
                b'\r' if self.byte()? == b'\n' => return Ok(&self.bytes[begin..self.at - 2]),
                b'\r' => return Err("a bare carriage return".into()),
                _ => {}
            }
        }
    }

    fn exactly(&mut self, count: u64) -> Result<&'a [u8], Stop> {
        let left = &self.bytes[self.at..];
        if count > left.len() as u64 {
            self.at = self.bytes.len();
            return Err(Stop::Unfinished);
        }
        self.at += count as usize;
        Ok(&left[..count as usize])
    }

    fn request(&mut self) -> Result<Request, Stop> {
        let mut line = self.line()?;
        if line.is_empty() {
            line = self.line()?;
        }
        let words: Vec<&[u8]> = line.split(|&b| b == b' ').collect();
        let [method, target, version] = words[..] else {
            return Err("a request line of other than three words".into());
        };
        let version = match version {
            b"HTTP/1.1" => 1,
            b"HTTP/1.0" => 0,
            _ => return Err("a version".into()),
        };
        let visible = |b: &u8| *b > b' ' && *b != 0x7f && *b != b'#';
        if !is_token(method) || target.is_empty() || !target.iter().all(visible) {
            return Err("a method or target".into());
        }
        let fields = self.fields()?;
        let host = only(&fields, "host")?;
        if host.is_none() && version == 1 {
            return Err("no Host".into());
        }
        let target = origin_form(target, host.unwrap_or_default())?;
        let (body, trailers) = self.body(&fields, version)?;
        Ok(Request {
            method: String::from_utf8_lossy(method).into_owned(),
            target,
            version,
            fields,
            body,
            trailers,
        })
    }

    fn fields(&mut self) -> Result<Vec<(String, Vec<u8>)>, Stop> {
        let mut fields = Vec::new();
        loop {
            let line = self.line()?;
            if line.is_empty() {
                return Ok(fields);
            }
            let colon = line.iter().position(|&b| b == b':').ok_or("no colon")?;
            let (name, value) = (&line[..colon], &line[colon + 1..]);
            let control = |b: &u8| (*b < b' ' && *b != b'\t') || *b == 0x7f;
            if !is_token(name) || value.iter().any(control) {
                return Err("a name or value".into());
            }
            let name = String::from_utf8_lossy(name).to_ascii_lowercase();
            fields.push((name, value.trim_ascii().to_vec()));
        }
    }

    #[expect(clippy::type_complexity, reason = "a body and its trailers")]
    fn body(
        &mut self,
        fields: &[(String, Vec<u8>)],
        version: u8,
    ) -> Result<(Vec<u8>, Vec<(String, Vec<u8>)>), Stop> {
        let length = only(fields, "content-length")?;
        let encoding = only(fields, "transfer-encoding")?;
        match (length, encoding) {
            (None, None) => Ok((Vec::new(), Vec::new())),
            (Some(length), None) => {
                let digits = !length.is_empty() && length.iter().all(u8::is_ascii_digit);
                let text = String::from_utf8_lossy(length);
                let length = text.parse().ok().filter(|_| digits);
                let body = self.exactly(length.ok_or("a length")?)?;
                Ok((body.to_vec(), Vec::new()))
            }
            (None, Some(encoding)) if encoding.eq_ignore_ascii_case(b"chunked") && version == 1 => {
                self.chunks()
            }
            _ => Err("an encoding".into()),
        }
    }

    #[expect(clippy::type_complexity, reason = "a body and its trailers")]
    fn chunks(&mut self) -> Result<(Vec<u8>, Vec<(String, Vec<u8>)>), Stop> {
        let mut body = Vec::new();
        loop {
            let line = self.line()?;
            let size = line.split(|&b| b == b';').next().unwrap_or_default();
            if size.is_empty() || !size.iter().all(u8::is_ascii_hexdigit) {
                return Err("a chunk's size".into());
            }
            let size = u64::from_str_radix(&String::from_utf8_lossy(size), 16);
            let size = size.map_err(|_| "a chunk's size")?;
            if size == 0 {
                return Ok((body, self.fields()?));
            }
            body.extend_from_slice(self.exactly(size)?);
            if !self.line()?.is_empty() {
                return Err("a chunk's end".into());
            }
        }
    }
}

fn is_token(text: &[u8]) -> bool {
    let letter = |b: &u8| b.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(b);
    !text.is_empty() && text.iter().all(letter)
}

fn only<'a>(fields: &'a [(String, Vec<u8>)], name: &str) -> Result<Option<&'a [u8]>, &'static str> {
    let mut found = fields.iter().filter(|(n, _)| n == name);
    let value = found.next().map(|(_, value)| value.as_slice());
    match found.next() {
        None => Ok(value),
        Some(_) => Err("a field that is there twice"),
    }
}

/// The path of an absolute address, whose authority must be the host.
fn origin_form(target: &[u8], host: &[u8]) -> Result<Vec<u8>, &'static str> {
    if target.starts_with(b"/") || target == b"*" {
        return Ok(target.to_vec());
    }
    let text = String::from_utf8_lossy(target).into_owned();
    let (scheme, rest) = text.split_once("://").ok_or("a target without a path")?;
    let end = rest.find(['/', '?']).unwrap_or(rest.len());
    let (authority, path) = rest.split_at(end);
    let http = ["http", "https"].contains(&scheme.to_ascii_lowercase().as_str());
    if !http || !authority.as_bytes().eq_ignore_ascii_case(host) {
        return Err("an authority that is not the host");
    }
    let slash = if path.starts_with('/') { "" } else { "/" };
    Ok(format!("{slash}{path}").into_bytes())
}
