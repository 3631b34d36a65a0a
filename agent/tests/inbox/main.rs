//! The inbox over real sockets: what gets in, what does not, and what it costs.

#![expect(clippy::unwrap_used, reason = "the helpers of tests are tests")]

mod bounds;
mod decisions;
mod host;
mod local;
mod looks;
mod metrics;
mod refusals;
mod replays;
mod streams;
