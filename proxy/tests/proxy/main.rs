//! The proxy's own process against real targets and clients on the loopback.

#[cfg(test)]
mod common;
#[cfg(test)]
mod drain;
#[cfg(test)]
mod process;
#[cfg(test)]
mod refusals;
#[cfg(test)]
mod retries;
#[cfg(test)]
mod streams;
#[cfg(test)]
mod switch;
