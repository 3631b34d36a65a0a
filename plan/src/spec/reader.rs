//! Reads TOML.
/// A mistake.
#[derive(Debug)]
pub struct Mistake;
