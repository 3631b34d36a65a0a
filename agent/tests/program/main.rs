//! The program as a person and systemd run it. There is no engine of
//! containers and no proxy: an agent must be of use without them.

#![expect(clippy::unwrap_used, reason = "the helpers of tests are tests")]

mod check;
mod host;
mod notify;
mod plan;
mod receiver;
mod watchdog;
