//! The proxy's own process against real targets and clients on the loopback.

mod common;
mod switch;
