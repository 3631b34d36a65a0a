//! Receivers of `[[notify]]`: a webhook that checks signatures, or Slack and what
//! is like it. It delivers one notice once, keeps no queue and never sleeps;
//! [`crate::reporter`] comes again.
//!
//! Invariant: an address and a secret are read from their files when they are
//! needed, and are in no error, no log and no row of the journal.
//!
//! Invariant: a notice that is sent again has the id that it had, so a receiver
//! can tell a repeat from another one.

mod body;
mod client;

use std::collections::BTreeMap;
use std::fs::File;
use std::io::Read as _;

use cutover_plan::spec::{NotifyKind, NotifySpec};
use cutover_wire::signature::{ID_HEADER, SIGNATURE_HEADER, Secret, TIMESTAMP_HEADER};
use http::Uri;
use http::header::{HeaderName, HeaderValue};

use crate::clock::Clock;
use crate::forge::DeliveryError;
use crate::letter::Notice;
use client::Client;

pub use client::ClientError;

/// The longest address or secret: addresses of webhooks have some hundred bytes.
const MAX_FILE: u64 = 4 * 1024;

/// Delivers notices.
pub struct Notifier {
    receivers: BTreeMap<String, NotifySpec>,
    /// None where there is nobody to tell.
    client: Option<Client>,
    clock: Clock,
}

impl Notifier {
    /// For these receivers; sends nothing.
    pub fn new<'a>(
        receivers: impl IntoIterator<Item = &'a NotifySpec>,
        clock: Clock,
    ) -> Result<Self, ClientError> {
        let named = receivers
            .into_iter()
            .map(|spec| (spec.name(), spec.clone()));
        let receivers: BTreeMap<_, _> = named.collect();
        let client = match receivers.is_empty() {
            true => None,
            false => Some(Client::new()?),
        };
        Ok(Self {
            receivers,
            client,
            clock,
        })
    }

    /// Sends a notice to its receiver, and says whether that took it.
    pub async fn deliver(&self, notice: &Notice) -> Result<(), DeliveryError> {
        let receiver = self.receivers.get(&notice.receiver);
        let (Some(receiver), Some(client)) = (receiver, &self.client) else {
            let reason = "the configuration names this receiver no more";
            return Err(DeliveryError::Never(reason.to_owned()));
        };
        let address = address(&read(&receiver.url_file).map_err(later)?);
        let address = address.map_err(|fault| later(format!("{}: {fault}", receiver.url_file)))?;
        let (body, headers) = match receiver.kind {
            NotifyKind::Slack => (body::slack(notice), Vec::new()),
            NotifyKind::Webhook => {
                let body = body::webhook(notice);
                let headers = self.sign(receiver, notice, &body)?;
                (body, headers)
            }
        };
        client.post(address, headers, body).await
    }

    /// The headers of Standard Webhooks. The second is that of this attempt: an
    /// old one would be refused.
    fn sign(
        &self,
        receiver: &NotifySpec,
        notice: &Notice,
        body: &[u8],
    ) -> Result<Vec<(HeaderName, HeaderValue)>, DeliveryError> {
        let file = receiver.secret_file.as_deref().unwrap_or_default();
        let secret = Secret::parse(&read(file).map_err(later)?);
        let secret = secret.map_err(|error| later(format!("{file}: {error}")))?;
        let id = id(notice);
        let now = u64::try_from((self.clock)().as_second()).unwrap_or(0);
        let values = [
            (ID_HEADER, id.clone()),
            (TIMESTAMP_HEADER, now.to_string()),
            (SIGNATURE_HEADER, secret.sign(&id, now, body)),
        ];
        let header = |(name, value): (&'static str, String)| {
            let value = HeaderValue::try_from(value).map_err(|error| later(error.to_string()))?;
            Ok((HeaderName::from_static(name), value))
        };
        values.into_iter().map(header).collect()
    }
}

/// What a receiver knows a notice by: a deploy ends once.
fn id(notice: &Notice) -> String {
    format!("deploy_{}_ended", notice.deploy)
}

/// Checks what a receiver's files hold, without telling it.
pub(crate) fn check(receiver: &NotifySpec) -> Vec<String> {
    let mut faults = Vec::new();
    let file = &receiver.url_file;
    match read(file) {
        Ok(text) => faults.extend(address(&text).err().map(|fault| format!("{file}: {fault}"))),
        Err(fault) => faults.push(fault),
    }
    if let Some(file) = &receiver.secret_file {
        let hint = "(hint: write one with: openssl rand -base64 32)";
        match read(file).map(|text| Secret::parse(&text)) {
            Ok(Ok(_)) => {}
            Ok(Err(error)) => faults.push(format!("{file}: {error} {hint}")),
            Err(fault) => faults.push(fault),
        }
    }
    faults
}

/// The address in a text. What is wrong with one is told without it.
fn address(text: &str) -> Result<Uri, &'static str> {
    let uri: Uri = text.trim().parse().map_err(|_| {
        "is no address on one line (hint: write the whole URL that the receiver gave, and nothing else)"
    })?;
    if uri
        .authority()
        .is_some_and(|authority| authority.as_str().contains('@'))
    {
        return Err(
            "has a user before its host, whom nobody would be told (hint: leave out what stands before the @)",
        );
    }
    let loopback = ["127.0.0.1", "[::1]", "localhost"];
    match (uri.scheme_str(), uri.host()) {
        (Some("https"), Some(_)) => Ok(uri),
        (Some("http"), Some(host)) if loopback.contains(&host) => Ok(uri),
        (Some("http"), Some(_)) => Err(
            "begins with http://, where everybody on the way could read it (hint: use https://, or a TLS client on this host)",
        ),
        _ => Err("is no address (hint: it begins with https://)"),
    }
}

fn read(file: &str) -> Result<String, String> {
    let mut text = String::new();
    let read = File::open(file).and_then(|opened| opened.take(MAX_FILE).read_to_string(&mut text));
    read.map_err(|error| {
        let hint = "hint: the user whom the agent runs as must be able to read it";
        format!("{file}: cannot be read: {error} ({hint})")
    })?;
    Ok(text)
}

/// What a person can repair is tried again.
fn later(reason: String) -> DeliveryError {
    DeliveryError::Later {
        reason,
        after_seconds: None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_is_one_that_nobody_on_the_way_reads_and_is_never_told() {
        let check = |text: &str, expected: &str| match address(text) {
            Ok(_) => assert_eq!(expected, "taken", "{text}"),
            Err(fault) => {
                assert!(fault.contains(expected), "{text}: {fault}");
                assert!(!fault.contains("hunter2"), "{fault}");
            }
        };
        check("https://hooks.example.com/hunter2\n", "taken");
        check("http://127.0.0.1:9000/hunter2", "taken");
        check("http://[::1]:9000/hunter2", "taken");
        check("http://hooks.example.com/hunter2", "begins with http://");
        check(
            "http://127.0.0.1.example.com/hunter2",
            "begins with http://",
        );
        check("hooks.example.com/hunter2", "no address");
        check("ftp://hooks.example.com/hunter2", "no address");
        check("https://a/hunter2\nhttps://b/", "no address on one line");
        check("https://ada:hunter2@hooks.example.com/", "has a user");
        check("", "no address");
    }
}
