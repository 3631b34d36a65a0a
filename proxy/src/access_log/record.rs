//! What the access log says of one request, and how.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use serde::Serialize;
use serde::ser::{SerializeStruct as _, Serializer};

use crate::counters::Outcome;

/// Bytes of a text of the client's that are written: a line stays short enough
/// for every collector, and a head of 16 KiB fills no disk.
const MAX_TEXT: usize = 1_024;

/// How a request ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Ending {
    /// A target had it.
    Of(Outcome),
    /// The proxy answered by itself, as it was told to: a redirect, a page, a challenge.
    Answered,
    /// The proxy refused it: for its form, for want of a route or a target, or over a bound.
    Refused,
}

impl Ending {
    fn name(self) -> &'static str {
        match self {
            Self::Of(Outcome::Succeeded) => "succeeded",
            Self::Of(Outcome::ClientError) => "client_error",
            Self::Of(Outcome::ServerError) => "server_error",
            Self::Of(Outcome::Failed) => "failed",
            Self::Of(Outcome::Abandoned) => "abandoned",
            Self::Answered => "answered",
            Self::Refused => "refused",
        }
    }
}

/// One request that ended. It is made by a worker for a request that was drawn,
/// and written by another thread.
#[derive(Debug, Clone)]
pub(crate) struct Record {
    /// When its head was whole.
    pub(crate) time: SystemTime,
    /// Its id, as it was passed on.
    pub(crate) request_id: String,
    /// Who asked, as far as is believed.
    pub(crate) client: SocketAddr,
    /// The host that was asked.
    pub(crate) host: String,
    /// The method.
    pub(crate) method: http::Method,
    /// The path. A query carries secrets and personal data; what comes after a
    /// `?` is never written, also when it is given here.
    pub(crate) path: String,
    /// The protocol of the client.
    pub(crate) protocol: http::Version,
    /// Whether the client came over TLS.
    pub(crate) tls: bool,
    /// The status that the client got; none when it got no head.
    pub(crate) status: Option<http::StatusCode>,
    /// Whose request it is; none where no app takes it.
    pub(crate) app: Option<Arc<str>>,
    /// The pool that it was bound to last.
    pub(crate) pool: Option<String>,
    /// The target that it was bound to last.
    pub(crate) target: Option<String>,
    /// Bytes of its body.
    pub(crate) bytes_in: u64,
    /// Bytes of the body of the answer that were handed to the client.
    pub(crate) bytes_out: u64,
    /// From the whole head to the end of the answer.
    pub(crate) duration: Duration,
    /// From the whole head to the head of the answer.
    pub(crate) first_byte: Option<Duration>,
    /// How it ended.
    pub(crate) ending: Ending,
    /// How often it was sent once more.
    pub(crate) retries: u32,
}

impl Record {
    /// Appends the line of this record.
    pub(super) fn write(&self, into: &mut Vec<u8>) {
        let begin = into.len();
        match serde_json::to_writer(&mut *into, self) {
            Ok(()) => into.push(b'\n'),
            // There is no such record; half a line would spoil the next.
            Err(_) => into.truncate(begin),
        }
    }
}

impl Serialize for Record {
    fn serialize<S: Serializer>(&self, to: S) -> Result<S::Ok, S::Error> {
        let path = self.path.split(['?', '#']).next().unwrap_or_default();
        let mut line = to.serialize_struct("Record", 18)?;
        line.serialize_field("time", &Moment(self.time).to_string())?;
        line.serialize_field("request_id", cut(&self.request_id))?;
        line.serialize_field("client", &self.client)?;
        line.serialize_field("tls", &self.tls)?;
        line.serialize_field("protocol", protocol(self.protocol))?;
        line.serialize_field("host", cut(&self.host))?;
        line.serialize_field("method", cut(self.method.as_str()))?;
        line.serialize_field("path", cut(path))?;
        line.serialize_field("status", &self.status.map(|status| status.as_u16()))?;
        line.serialize_field("outcome", self.ending.name())?;
        line.serialize_field("app", &self.app.as_deref())?;
        line.serialize_field("pool", &self.pool)?;
        line.serialize_field("target", &self.target)?;
        line.serialize_field("retries", &self.retries)?;
        line.serialize_field("bytes_in", &self.bytes_in)?;
        line.serialize_field("bytes_out", &self.bytes_out)?;
        line.serialize_field("duration_us", &micros(self.duration))?;
        line.serialize_field("first_byte_us", &self.first_byte.map(micros))?;
        line.end()
    }
}

fn micros(duration: Duration) -> u64 {
    u64::try_from(duration.as_micros()).unwrap_or(u64::MAX)
}

fn protocol(version: http::Version) -> &'static str {
    match version {
        http::Version::HTTP_10 => "http/1.0",
        http::Version::HTTP_2 => "http/2",
        _ => "http/1.1",
    }
}

/// The beginning of a text, whole characters only.
fn cut(text: &str) -> &str {
    &text[..text.floor_char_boundary(MAX_TEXT)]
}

/// A time in UTC as RFC 3339 writes it, with milliseconds.
struct Moment(SystemTime);

impl std::fmt::Display for Moment {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let since = self.0.duration_since(SystemTime::UNIX_EPOCH);
        // A clock before 1970 was never set.
        let since = since.unwrap_or_default();
        let (seconds, millis) = (since.as_secs(), since.subsec_millis());
        let (year, month, day) = date(seconds / 86_400);
        let (hour, minute, second) = (seconds / 3_600 % 24, seconds / 60 % 60, seconds % 60);
        write!(
            f,
            "{year:04}-{month:02}-{day:02}T{hour:02}:{minute:02}:{second:02}.{millis:03}Z"
        )
    }
}

/// The date so many days after 1970-01-01. Years are counted from March, so
/// that the leap day is the last of a year, in cycles of 400 years.
fn date(days: u64) -> (u64, u64, u64) {
    /// Days of 400 years, and from 0000-03-01 to 1970-01-01.
    const CYCLE: u64 = 146_097;
    const TO_1970: u64 = 719_468;
    let days = days + TO_1970;
    let (cycle, day) = (days / CYCLE, days % CYCLE);
    // Leap days that have passed: each fourth year, no hundredth, the last of all.
    let year = (day - day / 1_460 + day / 36_524 - day / 146_096) / 365;
    let day = day - (365 * year + year / 4 - year / 100);
    // Months from March are 31, 30, 31, 30, 31 days long, over and over.
    let month = (5 * day + 2) / 153;
    let day = day - (153 * month + 2) / 5 + 1;
    let (month, next) = if month < 10 {
        (month + 3, 0)
    } else {
        (month - 9, 1)
    };
    (cycle * 400 + year + next, month, day)
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;
    use proptest::prelude::*;
    use serde_json::{Value, json};

    /// A record of a good request.
    pub(in super::super) fn record() -> Record {
        Record {
            time: SystemTime::UNIX_EPOCH + Duration::from_millis(1_767_323_045_678),
            request_id: "7f".to_owned(),
            client: SocketAddr::from(([192, 0, 2, 7], 4711)),
            host: "shop.example".to_owned(),
            method: http::Method::GET,
            path: "/cart".to_owned(),
            protocol: http::Version::HTTP_2,
            tls: true,
            status: Some(http::StatusCode::OK),
            app: Some(Arc::from("shop")),
            pool: Some("v7".to_owned()),
            target: Some("v7-0".to_owned()),
            bytes_in: 0,
            bytes_out: 512,
            duration: Duration::from_micros(1_500),
            first_byte: Some(Duration::from_micros(1_200)),
            ending: Ending::Of(Outcome::Succeeded),
            retries: 1,
        }
    }

    fn written(record: &Record) -> Value {
        let mut line = Vec::new();
        record.write(&mut line);
        assert_eq!(line.iter().filter(|&&byte| byte == b'\n').count(), 1);
        serde_json::from_slice(&line).unwrap()
    }

    #[test]
    fn a_line_has_all_that_is_known() {
        let expected = json!({
            "time": "2026-01-02T03:04:05.678Z", "request_id": "7f", "client": "192.0.2.7:4711",
            "tls": true, "protocol": "http/2", "host": "shop.example", "method": "GET",
            "path": "/cart", "status": 200, "outcome": "succeeded", "app": "shop", "pool": "v7",
            "target": "v7-0", "retries": 1, "bytes_in": 0, "bytes_out": 512,
            "duration_us": 1_500, "first_byte_us": 1_200,
        });
        assert_eq!(written(&record()), expected);
    }

    #[test]
    fn a_query_is_never_written() {
        for path in [
            "/cart?token=secret",
            "/cart#secret",
            "/cart?a=?secret#secret",
        ] {
            let mut asked = record();
            asked.path = path.to_owned();
            assert_eq!(written(&asked)["path"], "/cart");
        }
    }

    #[test]
    fn what_is_not_known_is_null() {
        let mut refused = record();
        (refused.app, refused.pool, refused.target) = (None, None, None);
        (refused.status, refused.first_byte) = (None, None);
        refused.ending = Ending::Refused;
        let line = written(&refused);
        for key in ["app", "pool", "target", "status", "first_byte_us"] {
            assert_eq!(line[key], Value::Null, "{key}");
        }
        assert_eq!(line["outcome"], "refused");
    }

    #[test]
    fn times_are_those_of_the_calendar() {
        let check = |seconds: u64, expected: &str| {
            let time = SystemTime::UNIX_EPOCH + Duration::from_secs(seconds);
            assert_eq!(Moment(time).to_string(), expected);
        };
        check(0, "1970-01-01T00:00:00.000Z");
        check(951_782_399, "2000-02-28T23:59:59.000Z");
        check(951_782_400, "2000-02-29T00:00:00.000Z");
        check(951_868_800, "2000-03-01T00:00:00.000Z");
        check(4_107_542_399, "2100-02-28T23:59:59.000Z");
        check(4_107_542_400, "2100-03-01T00:00:00.000Z");
        check(13_574_649_600, "2400-03-01T00:00:00.000Z");
    }

    #[test]
    fn each_day_follows_the_one_before() {
        let leap = |year: u64| {
            year.is_multiple_of(4) && (!year.is_multiple_of(100) || year.is_multiple_of(400))
        };
        let (mut year, mut month, mut day) = (1970, 1, 1);
        for days in 0..300_000 {
            assert_eq!(date(days), (year, month, day));
            let last = match month {
                2 if leap(year) => 29,
                2 => 28,
                4 | 6 | 9 | 11 => 30,
                _ => 31,
            };
            day += 1;
            if day > last {
                (month, day) = (month + 1, 1);
            }
            if month > 12 {
                (year, month) = (year + 1, 1);
            }
        }
    }

    proptest! {
        #[test]
        fn whatever_the_client_sends_is_one_line_of_bounded_length(text in any::<String>(), times in 1_usize..500) {
            let mut asked = record();
            let text = text.repeat(times);
            (asked.host, asked.path, asked.request_id) = (text.clone(), text.clone(), text.clone());
            let mut line = Vec::new();
            asked.write(&mut line);
            // A control character is written as six.
            prop_assert!(line.len() < 3 * 6 * MAX_TEXT + 1_000);
            let host = written(&asked)["host"].as_str().unwrap().to_owned();
            prop_assert!(text.starts_with(&host) && host.len() + 4 > text.len().min(MAX_TEXT));
        }
    }
}
