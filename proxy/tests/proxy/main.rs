//! The proxy's own process against real targets and clients on the loopback.

#[cfg(test)]
mod affinity;
#[cfg(test)]
mod answers;
#[cfg(test)]
mod certificates;
#[cfg(test)]
mod common;
#[cfg(test)]
mod conformance;
#[cfg(test)]
mod drain;
#[cfg(test)]
mod floods;
#[cfg(test)]
mod framing;
#[cfg(test)]
mod front;
#[cfg(test)]
mod given;
#[cfg(test)]
mod good_bye;
#[cfg(test)]
mod half_closed;
#[cfg(test)]
mod health;
#[cfg(test)]
mod http2;
#[cfg(test)]
mod limits;
#[cfg(test)]
mod mirror;
#[cfg(test)]
mod park;
#[cfg(test)]
mod process;
#[cfg(test)]
mod rebinding;
#[cfg(test)]
mod refusals;
#[cfg(test)]
mod retries;
#[cfg(test)]
mod routing;
#[cfg(test)]
mod scale;
#[cfg(test)]
mod secure;
#[cfg(test)]
mod seeing;
#[cfg(test)]
mod streams;
#[cfg(test)]
mod switch;
#[cfg(test)]
mod tls;
#[cfg(test)]
mod trusting;
#[cfg(test)]
mod upgrade;
