//! The agent of Cutover: verifies calls, journals, plans, drives the container
//! engine and the proxy, judges, and reports.
//!
//! It never touches a request of an app's users: while it is down, the proxy
//! serves on.

pub mod clock;
pub mod config;
pub mod containers;
pub mod desk;
pub mod docker;
pub mod engine;
pub mod fingerprint;
pub mod forge;
pub mod github;
pub mod host;
pub mod inbox;
pub mod journal;
pub mod letter;
pub mod metrics;
pub mod neighbour;
pub mod notify;
pub mod proxy;
pub mod reporter;
pub mod texts;
pub mod traffic;
pub mod view;
pub mod watchdog;

mod exchange;
