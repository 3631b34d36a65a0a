//! The proxy's own process against real targets and clients on the loopback.

#[cfg(test)]
mod common;
mod drain;
mod process;
mod refusals;
mod retries;
mod streams;
mod switch;
