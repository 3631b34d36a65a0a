//! The command line against an agent that keeps the contract and fails as real
//! ones do. Each test runs the program as a person or a workflow does.

#![expect(clippy::unwrap_used, reason = "a test ends where its set-up fails")]

mod decisions;
mod deploy;
mod github;
mod interrupt;
mod questions;
mod run;
#[path = "../support/mod.rs"]
mod support;
