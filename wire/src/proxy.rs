//! The talk on the proxy's socket: frames of JSON over a Unix stream.
//!
//! A frame is a length of four bytes, big end first, and that many bytes of
//! JSON. The agent sends a [`Call`], the proxy answers with one [`Reply`];
//! several calls may follow each other on a connection. A call of another
//! [`VERSION`] is answered with [`Refusal::Version`], so an old agent and a
//! new proxy tell each other plainly that they do not fit.

use std::collections::BTreeSet;
use std::fmt;
use std::net::SocketAddr;
use std::path::PathBuf;

use serde::{Deserialize, Serialize};

use crate::statistics::Statistics;
use crate::table::{Ability, Table, TableProblem};

/// The version of this talk. It counts up when an old program would take a
/// message for something else. What is left out has its old meaning, and what a
/// reader does not know it refuses, so new parts of a table need no new version.
pub const VERSION: u32 = 1;

/// The largest frame: a thousand apps of fifty targets fit well.
pub const MAX_FRAME: usize = 8 * 1024 * 1024;

/// The request header of a front-door probe. From a loopback address, or from
/// the address it is sent to, it makes the proxy name the answering pool in
/// [`POOL_HEADER`]; it is never passed on.
pub const PROBE_HEADER: &str = "x-cutover-probe";

/// The answer header that tells a probe which pool answered.
pub const POOL_HEADER: &str = "x-cutover-pool";

/// The request header, with the value `1`, that tells a target that it is asked
/// by a copy, whose answer no user gets. It comes from no client.
pub const MIRROR_HEADER: &str = "x-cutover-mirror";

/// One question of the agent, with the version it speaks.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Call {
    /// See [`VERSION`].
    pub version: u32,
    /// What is asked.
    pub request: Request,
}

/// What the agent asks.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Request {
    /// Who are you, and what do you serve?
    Status,
    /// The table in force.
    Table,
    /// Put this table in place of the generation `expected`. Answered when it
    /// is stored and every new request follows it.
    Apply {
        /// The generation that the maker had read.
        expected: u64,
        /// The new table, whose generation is `expected + 1`.
        table: Table,
    },
    /// Give these targets no new request, and answer when the last open one
    /// has ended or the deadline passed. A target stays so until a table puts
    /// it in a serving pool again.
    Drain {
        /// The app.
        app: String,
        /// The ids of its targets; unknown ones hold nothing.
        targets: Vec<String>,
        /// How long to wait for the last request.
        deadline_ms: u64,
        /// When long answers are ended; none lets them be.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        cut: Option<Cut>,
        /// Whether it is the successor that asks, of one that was taken over.
        #[serde(default, skip_serializing_if = "std::ops::Not::not")]
        of_successor: bool,
    },
    /// What was counted.
    Statistics,
    /// Serve this certificate for a name, in place of the table's for the same
    /// name. It stays in memory: no file has it, and no answer tells it back.
    PutCertificate {
        /// A host, a wildcard, or [`crate::table::ANY_HOST`], as in a table.
        name: String,
        /// The chain, its own certificate first, as PEM.
        chain: String,
        /// Its private key, as PEM.
        key: KeyText,
    },
    /// Serve what the table says for this name again; a name that has no such
    /// certificate needs no more.
    DropCertificate {
        /// As it was put.
        name: String,
    },
    /// Another instance of the proxy wants to take over. Answered with
    /// [`Reply::HandOver`], whose first byte brings the listening descriptors, and
    /// a frame of secrets behind it. Nothing is changed before [`Request::Taken`]
    /// but that no table is applied meanwhile.
    TakeOver,
    /// The other instance is ready, on the connection that asked to take over.
    Taken,
    /// To an instance that was taken over: route what you still carry by this
    /// table, which is stored and in force at your successor.
    Follow {
        /// The table in force.
        table: Table,
    },
}

/// A private key as PEM, on its way through the socket. It cannot be printed.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct KeyText(pub String);

impl fmt::Debug for KeyText {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("KeyText(…)")
    }
}

/// What the proxy answers.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Reply {
    /// To [`Request::Status`].
    Status(Status),
    /// To [`Request::Table`].
    Table(Table),
    /// To [`Request::Apply`]: the table is stored and in force.
    Applied {
        /// Its generation.
        generation: u64,
    },
    /// To [`Request::Drain`].
    Drained(Drained),
    /// To [`Request::Statistics`].
    Statistics(Statistics),
    /// To [`Request::PutCertificate`]: new connections get it.
    CertificatePut,
    /// To [`Request::DropCertificate`]: no new connection gets it.
    CertificateDropped,
    /// To [`Request::TakeOver`].
    HandOver(HandOver),
    /// To [`Request::Taken`]: nothing is accepted here any more.
    Yielded,
    /// Nothing was changed.
    Refused(Refusal),
}

/// Why the proxy did nothing.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, thiserror::Error)]
#[serde(rename_all = "snake_case")]
pub enum Refusal {
    /// Somebody changed the table in between: read it and decide anew.
    #[error("the table in force is generation {actual}, not {expected}")]
    Generation {
        /// What the maker had read.
        expected: u64,
        /// What is in force.
        actual: u64,
    },
    /// The table is wrong.
    #[error("the table is wrong: {}", list(.0))]
    Invalid(Vec<TableProblem>),
    /// The certificate that was put is wrong.
    #[error("the certificate is wrong: {}", list(.0))]
    Certificate(Vec<TableProblem>),
    /// The table could not be stored, so it was not put in force.
    #[error("the table could not be stored: {0}")]
    Storage(String),
    /// The two programs do not fit.
    #[error("this proxy speaks version {VERSION}, not {0}: upgrade the older program")]
    Version(u32),
    /// The frame was no call.
    #[error("the call could not be read: {0}")]
    Malformed(String),
    /// A table that came during a drain gives one of its targets requests again.
    #[error("a newer table gives the drained target requests again")]
    Overtaken,
    /// Another instance of the proxy takes over just now, or has taken over.
    #[error("another instance of the proxy takes over: ask again")]
    HandingOver,
    /// Why there is no take-over.
    #[error("there is nothing to take over: {0}")]
    TakeOver(String),
}

fn list(problems: &[TableProblem]) -> String {
    let lines: Vec<String> = problems.iter().map(ToString::to_string).collect();
    lines.join("; ")
}

/// Who a proxy is and what it serves.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Status {
    /// A new name for each process, so that a restart is seen.
    pub instance: String,
    /// The version of the program.
    pub program: String,
    /// The generation in force.
    pub generation: u64,
    /// Where users reach it; those where a plain request is served come first.
    pub listeners: Vec<SocketAddr>,
    /// What it can do beyond what every proxy can; it refuses a table that
    /// needs more. A proxy that tells none is of a time when there were none.
    #[serde(default, deserialize_with = "crate::table::known_abilities")]
    pub abilities: BTreeSet<Ability>,
}

/// What a running proxy gives to the one that takes over from it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct HandOver {
    /// The name of the running process.
    pub instance: String,
    /// The version of its program.
    pub program: String,
    /// The generation in force, which is the stored one.
    pub generation: u64,
    /// What each descriptor is, in their order.
    pub doors: Vec<Door>,
    /// The sockets of this instance and of those before it that have not ended
    /// yet: whoever puts a table in force tells them.
    pub followers: Vec<PathBuf>,
    /// The targets that take requests, or go on with those of their sessions: of
    /// those that the table only lists, the others have been drained.
    #[serde(default)]
    pub open: Vec<OpenTarget>,
}

/// A target by all its names.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct OpenTarget {
    /// The app.
    pub app: String,
    /// The name in its pool.
    pub id: String,
    /// Where it listens.
    pub address: SocketAddr,
}

/// A listener that is handed over.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Door {
    /// What is spoken there, in the words of the proxy's own option.
    pub kind: String,
    /// Where.
    pub address: SocketAddr,
    /// Whether the service manager holds it, too.
    #[serde(default)]
    pub held: bool,
}

/// When a drain ends answers that may never end by themselves. A stream of events
/// ends behind an event, a WebSocket with a close frame (1012, service restart):
/// their clients come back, to the release that serves now. Times count from the
/// beginning of the drain.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Cut {
    /// From when on streams are ended; none lets them be.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub streams_ms: Option<u64>,
    /// From when on tunnels are ended; none lets them be.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tunnels_ms: Option<u64>,
    /// Over how long they are spread, so that not all clients come back at once.
    #[serde(default)]
    pub spread_ms: u64,
}

/// What became of a drain: nothing is open when every request had its answer.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Drained {
    /// Requests still open.
    pub requests: u64,
    /// Streams still open.
    pub streams: u64,
    /// Tunnels still open.
    pub tunnels: u64,
    /// Streams that the drain ended.
    #[serde(default)]
    pub streams_cut: u64,
    /// Tunnels that the drain ended.
    #[serde(default)]
    pub tunnels_cut: u64,
}

impl Drained {
    /// Whether everything has ended.
    pub fn is_empty(&self) -> bool {
        (self.requests, self.streams, self.tunnels) == (0, 0, 0)
    }

    /// What became of two together.
    #[must_use]
    pub fn plus(self, other: Self) -> Self {
        Self {
            requests: self.requests.saturating_add(other.requests),
            streams: self.streams.saturating_add(other.streams),
            tunnels: self.tunnels.saturating_add(other.tunnels),
            streams_cut: self.streams_cut.saturating_add(other.streams_cut),
            tunnels_cut: self.tunnels_cut.saturating_add(other.tunnels_cut),
        }
    }
}

/// Why bytes are no frame.
#[derive(Debug, thiserror::Error)]
pub enum FrameError {
    /// The message is larger than [`MAX_FRAME`].
    #[error("a frame of {0} bytes is over the limit of {MAX_FRAME}")]
    TooLarge(usize),
    /// The message is no JSON of the expected form.
    #[error("the frame's JSON is not understood")]
    Json(#[source] serde_json::Error),
}

/// The bytes of the length before a frame.
pub const LENGTH_BYTES: usize = 4;

/// A message as the bytes of its frame, length first.
pub fn encode<T: Serialize>(message: &T) -> Result<Vec<u8>, FrameError> {
    let mut frame = vec![0; LENGTH_BYTES];
    serde_json::to_writer(&mut frame, message).map_err(FrameError::Json)?;
    let length = frame.len() - LENGTH_BYTES;
    let short = u32::try_from(length).ok().filter(|_| length <= MAX_FRAME);
    let short = short.ok_or(FrameError::TooLarge(length))?;
    frame[..LENGTH_BYTES].copy_from_slice(&short.to_be_bytes());
    Ok(frame)
}

/// The length that a frame's first bytes announce, checked against the limit.
pub fn length(announced: [u8; LENGTH_BYTES]) -> Result<usize, FrameError> {
    let length = usize::try_from(u32::from_be_bytes(announced)).unwrap_or(usize::MAX);
    if length > MAX_FRAME {
        return Err(FrameError::TooLarge(length));
    }
    Ok(length)
}

/// The message of a frame's body.
pub fn decode<'a, T: Deserialize<'a>>(body: &'a [u8]) -> Result<T, FrameError> {
    serde_json::from_slice(body).map_err(FrameError::Json)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn a_status_of_an_older_and_of_a_newer_proxy_is_read() {
        let status = |abilities: &str| {
            let text = format!(
                r#"{{"instance":"a","program":"1","generation":0,"listeners":[]{abilities}}}"#
            );
            serde_json::from_str::<Status>(&text).unwrap()
        };
        assert_eq!(status("").abilities, BTreeSet::new());
        let newer = status(r#","abilities":["weights","levitation"]"#);
        assert_eq!(newer.abilities, BTreeSet::from([Ability::Weights]));
        let again: Status = serde_json::from_slice(&serde_json::to_vec(&newer).unwrap()).unwrap();
        assert_eq!(again, newer);
    }

    #[test]
    fn a_frame_reads_back() {
        let call = Call {
            version: VERSION,
            request: Request::Drain {
                app: "shop".into(),
                targets: vec!["v1-0".into()],
                deadline_ms: 500,
                cut: None,
                of_successor: false,
            },
        };
        let frame = encode(&call).unwrap();
        let (head, body) = frame.split_at(LENGTH_BYTES);
        assert_eq!(length(head.try_into().unwrap()).unwrap(), body.len());
        assert_eq!(decode::<Call>(body).unwrap(), call);
    }

    #[test]
    fn a_key_is_on_the_wire_and_nowhere_else() {
        let request = Request::PutCertificate {
            name: "a.example".into(),
            chain: "chain".into(),
            key: KeyText("hush".into()),
        };
        assert!(!format!("{request:?}").contains("hush"));
        let version = VERSION;
        let frame = encode(&Call { version, request }).unwrap();
        let call: Call = decode(&frame[LENGTH_BYTES..]).unwrap();
        let Request::PutCertificate { key, .. } = call.request else {
            panic!("another request");
        };
        assert_eq!(key.0, "hush");
    }

    #[test]
    fn a_frame_over_the_limit_is_refused_before_it_is_read() {
        assert!(length(u32::MAX.to_be_bytes()).is_err());
        assert!(encode(&"x".repeat(MAX_FRAME + 1)).is_err());
    }

    proptest! {
        #[test]
        fn no_bytes_make_a_panic_and_no_length_is_over_the_limit(
            head in any::<[u8; LENGTH_BYTES]>(),
            body in prop::collection::vec(any::<u8>(), 0..200),
        ) {
            match length(head) {
                Ok(length) => prop_assert!(length <= MAX_FRAME),
                Err(error) => prop_assert!(matches!(error, FrameError::TooLarge(n) if n > MAX_FRAME)),
            }
            let _ = decode::<Call>(&body);
            let _ = decode::<Reply>(&body);
        }

        #[test]
        fn a_damaged_frame_is_an_error_or_a_message(place in any::<prop::sample::Index>(), byte in any::<u8>()) {
            let table = Table { generation: 1, ..Table::default() };
            let request = Request::Apply { expected: 0, table };
            let mut frame = encode(&Call { version: VERSION, request }).unwrap();
            let body = &mut frame[LENGTH_BYTES..];
            let place = place.index(body.len());
            body[place] = byte;
            let _ = decode::<Call>(body);
        }
    }

    #[test]
    fn json_that_nests_without_end_is_an_error() {
        let deep = "[".repeat(MAX_FRAME);
        assert!(decode::<Reply>(deep.as_bytes()).is_err());
    }
}
