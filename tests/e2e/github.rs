//! What Cutover tells GitHub, through the real client and the real outbox, to a
//! model that checks every call against GitHub's own description of its API.
//!
//! The wall clock runs: what is waited for is counted in milliseconds, and the
//! waits that GitHub asks for are of one second.

#![cfg(test)]

#[path = "github/bench.rs"]
mod bench;
#[path = "github/crash.rs"]
mod crash;
#[path = "github/deliver.rs"]
mod deliver;
#[path = "github/outage.rs"]
mod outage;
#[path = "github/signin.rs"]
mod signin;
