//! What the tests stand on: waits with deadlines, programs with captured logs,
//! images and containers of the demo app, and a load client that counts every
//! request it did not get answered.
//!
//! It asserts nothing about Cutover; tests do. It retries nothing: a second try
//! would hide exactly what the tests look for.

pub mod chance;
pub mod container;
pub mod engine;
pub mod front;
pub mod github;
pub mod host;
pub mod image;
pub mod load;
pub mod process;
pub mod registry;
pub mod request;
pub mod rig;
pub mod road;
pub mod target;
pub mod wait;
