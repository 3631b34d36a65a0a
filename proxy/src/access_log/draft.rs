//! What is known of a request while it goes on, for its line in the log.
//!
//! There is none where there is no log, so that a request costs nothing then.

use std::sync::Arc;
use std::time::{Instant, SystemTime};

use http::request::Parts;
use http::{HeaderValue, StatusCode};

use super::AccessLog;
use super::record::{Ending, Record};
use crate::forwarded::Caller;
use crate::headers;
use crate::origin::{Origin, Scheme};

/// See the module.
#[derive(Debug)]
pub(crate) struct Draft {
    log: AccessLog,
    drawn: bool,
    begun: Instant,
    /// Whether the status is one that the proxy gave.
    own: bool,
    record: Record,
}

impl Draft {
    /// Of a request whose head was complete at `begun`; none where nothing is written.
    pub(crate) fn begin(
        log: &AccessLog,
        random: u64,
        begun: Instant,
        parts: &Parts,
        origin: &Origin,
        caller: Option<&Caller>,
    ) -> Option<Box<Self>> {
        if !log.is_on() {
            return None;
        }
        let mut client = origin.address;
        if let Some(caller) = caller {
            client.set_ip(caller.address);
        }
        let text = |value: Option<&HeaderValue>| {
            let bytes = value.map_or(&b""[..], HeaderValue::as_bytes);
            String::from_utf8_lossy(bytes).into_owned()
        };
        let host = text(parts.headers.get(http::header::HOST));
        Some(Box::new(Self {
            log: log.clone(),
            drawn: log.sampled(random),
            begun,
            own: false,
            record: Record {
                time: SystemTime::now(),
                request_id: text(headers::request_id(&parts.headers)),
                client,
                host,
                method: parts.method.clone(),
                path: parts.uri.path().to_owned(),
                protocol: parts.version,
                tls: origin.scheme == Scheme::Https,
                status: None,
                app: None,
                pool: None,
                target: None,
                bytes_in: 0,
                bytes_out: 0,
                duration: std::time::Duration::ZERO,
                first_byte: None,
                ending: Ending::Refused,
                retries: 0,
            },
        }))
    }

    /// The request is one of this app, and goes on under this name.
    pub(crate) fn name(&mut self, app: &Arc<str>, id: Option<&HeaderValue>) {
        self.record.app = Some(Arc::clone(app));
        if let Some(id) = id.filter(|_| self.record.request_id.is_empty()) {
            self.record.request_id = String::from_utf8_lossy(id.as_bytes()).into_owned();
        }
    }

    /// The record, to note down what happens.
    pub(crate) fn record(&mut self) -> &mut Record {
        &mut self.record
    }

    /// The head of a target's answer came.
    pub(crate) fn answered(&mut self, status: StatusCode, now: Instant) {
        self.record.status = Some(status);
        self.record.first_byte = Some(now.saturating_duration_since(self.begun));
    }

    /// The proxy answers instead of a target.
    pub(crate) fn own(&mut self, status: StatusCode) {
        self.own = true;
        self.record.status = Some(status);
    }

    /// The request has ended.
    pub(crate) fn end(mut self: Box<Self>, ending: Ending) {
        let failed = self.own
            && self
                .record
                .status
                .is_some_and(|status| status.as_u16() >= 500);
        if self.drawn || failed {
            self.record.ending = ending;
            self.record.duration = self.begun.elapsed();
            self.log.write(self.record);
        }
    }
}
