//! Whether a call is one that GitHub's description allows.

use http::request::Parts;
use serde_json::Value;

use super::description::Description;

/// A call, taken apart.
pub(super) struct Request {
    pub(super) method: String,
    pub(super) path: String,
    pub(super) query: Vec<(String, String)>,
    pub(super) bearer: Option<String>,
    pub(super) body: Option<Value>,
}

impl Request {
    pub(super) fn read(parts: &Parts, body: &[u8]) -> Self {
        let query = parts.uri.query().unwrap_or_default();
        let pair = |text: &str| {
            let (name, value) = text.split_once('=').unwrap_or((text, ""));
            (decode(name), decode(value))
        };
        let authorization = header(parts, "authorization");
        Self {
            method: parts.method.to_string(),
            path: parts.uri.path().to_owned(),
            query: query
                .split('&')
                .filter(|text| !text.is_empty())
                .map(pair)
                .collect(),
            bearer: authorization
                .and_then(|text| text.strip_prefix("Bearer "))
                .map(str::to_owned),
            body: serde_json::from_slice(body).ok(),
        }
    }

    /// A value of the query.
    pub(super) fn value(&self, name: &str) -> Option<&str> {
        let found = self.query.iter().find(|(known, _)| known == name);
        found.map(|(_, value)| value.as_str())
    }

    /// Everything about the call that the description does not allow.
    pub(super) fn objections(&self, description: &Description, parts: &Parts) -> Vec<String> {
        let mut found = headers(parts, self.method == "POST");
        if self.bearer.is_none() {
            found.push("no bearer token".to_owned());
        }
        match description.find(&self.method, &self.path) {
            None => found.push("no such call in the description".to_owned()),
            Some(operation) => {
                let query = self.query.iter();
                found.extend(query.filter_map(|(name, value)| operation.check_query(name, value)));
                found.extend(operation.check_body(self.body.as_ref()));
            }
        }
        let told = |text: String| format!("{} {}: {text}", self.method, self.path);
        found.into_iter().map(told).collect()
    }
}

/// What GitHub asks of the headers of every call.
fn headers(parts: &Parts, has_body: bool) -> Vec<String> {
    let mut wanted = vec![
        ("user-agent", "cutover/"),
        ("accept", "application/vnd.github+json"),
        ("x-github-api-version", "2022-11-28"),
    ];
    if has_body {
        wanted.push(("content-type", "application/json"));
    }
    let missing = |(name, start): &(&str, &str)| {
        let value = header(parts, name).unwrap_or_default();
        (!value.starts_with(start)).then(|| format!("the header {name} is {value:?}"))
    };
    wanted.iter().filter_map(missing).collect()
}

fn header<'a>(parts: &'a Parts, name: &str) -> Option<&'a str> {
    parts.headers.get(name)?.to_str().ok()
}

/// Undoes percent-encoding.
fn decode(text: &str) -> String {
    let mut bytes = Vec::new();
    let mut rest = text.bytes();
    while let Some(byte) = rest.next() {
        if byte != b'%' {
            bytes.push(if byte == b'+' { b' ' } else { byte });
            continue;
        }
        let digits: Vec<u8> = rest.by_ref().take(2).collect();
        let digits = String::from_utf8_lossy(&digits).into_owned();
        bytes.push(u8::from_str_radix(&digits, 16).unwrap_or(b'?'));
    }
    String::from_utf8_lossy(&bytes).into_owned()
}
