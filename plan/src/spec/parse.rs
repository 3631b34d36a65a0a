//! Reads an app file.
use super::{AppSpec, reader::Mistake};
/// Reads it.
pub fn parse(_file: &str, _app: &str, _text: &str) -> Result<AppSpec, Vec<Mistake>> { Err(Vec::new()) }
