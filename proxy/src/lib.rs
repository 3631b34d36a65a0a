//! The proxy that owns the public ports and loses no request.
//!
//! It obeys the routing table that the agent puts through a Unix socket, and
//! goes on with the stored table when there is no agent. It knows no Docker, no
//! GitHub and no deploy: only hosts, pools and targets.
//!
//! ```text
//!            accept            mailbox              per worker: one thread, one runtime
//!  users ──▶ acceptor ───────▶ worker ──▶ connection ──▶ forward ──▶ upstream ──▶ target
//!                                             │             ▲
//!  agent ──▶ control ──▶ switchboard ─────────┼─ snapshot ──┘
//!                │           │                └─ ticket ──▶ counters, target's open requests
//!              store ◀───────┘
//! ```
//!
//! Invariant: a request is bound to a target when its head is complete, and the
//! target's open count tells of it from then until its answer has ended.
//! Invariant: after a table was acknowledged no request is bound by an older one.
//! Invariant: no request costs a wake of another thread.

mod abilities;
mod accept;
mod access_log;
mod admin;
mod admission;
mod answer;
mod aside;
mod binding;
mod check;
mod client;
mod clock;
mod connection;
mod control;
mod counters;
mod crowd;
mod cutting;
mod door;
mod errand;
mod forward;
mod forwarded;
mod frame;
mod frames;
mod framing;
mod greeting;
mod haste;
mod headers;
mod health;
mod http2;
mod listen;
mod metrics;
mod mirror;
mod numbers;
mod options;
mod origin;
mod park;
mod peer;
mod piece;
mod proxy_protocol;
mod retry;
mod route;
mod run;
mod scratch;
mod socket;
#[cfg(test)]
mod stand_in;
mod store;
mod switchboard;
mod takeover;
mod tally;
mod target;
mod ticket;
mod tls;
mod tunnel;
mod upload;
mod upstream;
mod worker;

pub use access_log::{NoShare, Share};
pub use check::{Checked, check};
pub use door::{Door, DoorError, Kind, KindError};
pub use options::Options;
pub use origin::Scheme;
pub use run::{RunError, run};
