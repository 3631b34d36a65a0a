//! What Cutover's programs say to each other.
//!
//! Both ends of each conversation use the types of this crate, so the compiler
//! holds that both sign the same bytes and read the same messages. It decides
//! nothing and does no IO: clocks, secrets and sockets are given by the caller.

pub mod agent;
pub mod event;
pub mod exit;
pub mod github;
pub mod proxy;
pub mod request;
pub mod signature;
pub mod statistics;
pub mod table;
