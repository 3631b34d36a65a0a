//! The app that tests and the demo deploy.
//!
//! One static binary; each release differs only in its environment, which says
//! how it behaves ([`behaviour`]). It journals each request it served
//! ([`journal`]), so a test can hold its own list of requests against it. The
//! load client shares its WebSocket frames ([`websocket`]).

pub mod behaviour;
pub mod journal;
pub mod server;
pub mod websocket;

/// The header in which a load client names its request; journaled and echoed.
pub const LOAD_ID: &str = "x-load-id";
/// The header in which every answer names the version that gave it.
pub const APP_VERSION: &str = "x-app-version";

/// Writes one log line to standard output.
pub fn log(line: &str) {
    use std::io::Write as _;
    // An app without anybody reading its output still serves.
    let _ = writeln!(std::io::stdout().lock(), "{line}");
}
