//! The inbox over real sockets: what gets in, what does not, and what it costs.

#![expect(clippy::unwrap_used, reason = "the helpers of tests are tests")]

mod bounds;
mod host;
mod local;
mod refusals;
mod replays;
mod streams;
