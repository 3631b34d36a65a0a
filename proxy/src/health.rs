//! The questions that the proxy asks targets about their health.
//!
//! Each target of a pool that wants it has a task on the main runtime, which
//! asks on a connection of its own each time: that a target can be reached is
//! part of the question. What comes of it is one flag of the target, by which
//! workers pass over it; whether anything else is there is their matter. It is
//! no gate: which release may serve is decided before it is in the table.
//!
//! ```text
//!        `unhealthy_after` bad answers in a row
//!  well ────────────────────────────────────────▶ sick
//!   ▲      `healthy_after` good answers in a row    │
//!   └───────────────────────────────────────────────┘
//! ```
//!
//! Invariant: a target that nobody asks is well.

use std::collections::HashMap;
use std::future::poll_fn;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use cutover_wire::table::{ActiveHealth, Protocol};
use http::{HeaderValue, Request, StatusCode, Uri, header};
use hyper::body::{Body as _, Incoming};
use tokio::sync::Semaphore;
use tokio::task::JoinHandle;
use tokio::time::{Instant, MissedTickBehavior, interval_at, timeout_at};

use crate::aside::{Aside, AsideError, Whole};
use crate::target::Target;

/// Questions that are under way at once. Each takes a descriptor, and answers
/// of a millisecond let through a hundred thousand of them in a second.
const MAX_AT_ONCE: usize = 128;

/// What is read of an answer's body, so that the target sees no broken
/// connection; pages about health are shorter.
const MAX_BODY: usize = 64 * 1024;

/// What one question came to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Answer {
    Good,
    Bad,
}

/// Why an answer was a bad one.
#[derive(Debug, thiserror::Error)]
enum Complaint {
    #[error("no answer in time")]
    Late,
    #[error("it answered {0}")]
    Status(StatusCode),
    #[error("the path cannot be asked for")]
    Path(#[from] http::Error),
    #[error("it could not be asked")]
    Unasked(#[from] AsideError),
}

/// Answers of the same kind in a row.
#[derive(Debug, Default)]
struct Streak {
    good: u32,
    bad: u32,
}

impl Streak {
    /// Counts an answer; tells whether the target is sick now.
    fn count(&mut self, answer: Answer, was_sick: bool, health: &ActiveHealth) -> bool {
        match answer {
            Answer::Good => {
                self.bad = 0;
                self.good = self.good.saturating_add(1);
                was_sick && self.good < health.healthy_after
            }
            Answer::Bad => {
                self.good = 0;
                self.bad = self.bad.saturating_add(1);
                was_sick || self.bad >= health.unhealthy_after
            }
        }
    }
}

/// The time from the first question to the second: from a half to the whole
/// interval, by the target's number. Later ones keep that distance, so targets
/// of one table are not asked in one moment.
fn first_pause(number: u64, interval: Duration) -> Duration {
    // Multiples of the golden ratio lie evenly, however many there are.
    let spread = number.wrapping_mul(0x9E37_79B9_7F4A_7C15) >> 32;
    let spread = u128::from(spread);
    let nanos = interval.as_nanos();
    let pause = nanos / 2 + ((nanos / 2 * spread) >> 32);
    Duration::from_nanos(u64::try_from(pause).unwrap_or(u64::MAX))
}

/// A target that is asked, and how, until this is dropped.
#[derive(Debug)]
struct Asked {
    target: Arc<Target>,
    health: ActiveHealth,
    protocol: Protocol,
    task: JoinHandle<()>,
}

impl Drop for Asked {
    fn drop(&mut self) {
        self.task.abort();
    }
}

/// See the module.
#[derive(Debug)]
pub(crate) struct HealthChecks {
    asked: HashMap<u64, Asked>,
    places: Arc<Semaphore>,
}

impl Default for HealthChecks {
    /// Nobody is asked.
    fn default() -> Self {
        Self {
            asked: HashMap::new(),
            places: Arc::new(Semaphore::new(MAX_AT_ONCE)),
        }
    }
}

impl HealthChecks {
    /// Asks these targets from now on and no others. To be called on the main
    /// runtime for each table that is in force. Of a target that is asked as
    /// before nothing changes; one that is asked in another way keeps whether
    /// it is sick, until the new way says otherwise.
    pub(crate) fn follow(&mut self, wanted: &[(Arc<Target>, ActiveHealth, Protocol)]) {
        let mut before = std::mem::take(&mut self.asked);
        for (target, health, protocol) in wanted {
            let asked = match before.remove(&target.number()) {
                Some(kept) if kept.health == *health && kept.protocol == *protocol => kept,
                _ => self.begin(target, health, *protocol),
            };
            self.asked.insert(target.number(), asked);
        }
        for gone in before.into_values() {
            // Its task is on this thread, so it does not say otherwise meanwhile.
            gone.target.set_sick(false);
        }
    }

    fn begin(&self, target: &Arc<Target>, health: &ActiveHealth, protocol: Protocol) -> Asked {
        let places = Arc::clone(&self.places);
        let asking = ask_for_ever(Arc::clone(target), health.clone(), protocol, places);
        Asked {
            target: Arc::clone(target),
            health: health.clone(),
            protocol,
            task: tokio::spawn(asking),
        }
    }
}

async fn ask_for_ever(
    target: Arc<Target>,
    health: ActiveHealth,
    protocol: Protocol,
    places: Arc<Semaphore>,
) {
    let mut streak = Streak::default();
    let interval = Duration::from_millis(health.interval_ms);
    let second = Instant::now() + first_pause(target.number(), interval);
    let mut ticks = interval_at(second, interval);
    // One that had to wait for its place is not followed by a burst.
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        let asked = {
            // The wait for a place is none of the target's fault. It is never closed.
            let _place = places.acquire().await;
            ask(&target, &health, protocol).await
        };
        let answer = if asked.is_ok() {
            Answer::Good
        } else {
            Answer::Bad
        };
        let was_sick = target.is_sick();
        let is_sick = streak.count(answer, was_sick, &health);
        target.set_sick(is_sick);
        let address = target.address();
        match asked {
            Err(complaint) if is_sick && !was_sick => {
                let complaint: &dyn std::error::Error = &complaint;
                tracing::warn!(%address, error = complaint, "a target is sick and is passed over");
            }
            _ if was_sick && !is_sick => tracing::info!(%address, "a target is well again"),
            _ => {}
        }
        ticks.tick().await;
    }
}

/// Asks once.
async fn ask(target: &Target, health: &ActiveHealth, protocol: Protocol) -> Result<(), Complaint> {
    let deadline = Instant::now() + Duration::from_millis(health.timeout_ms);
    let path = Uri::try_from(health.path.as_str()).map_err(http::Error::from)?;
    let mut request = Request::new(Whole::default());
    *request.uri_mut() = path;
    let agent = HeaderValue::from_static("cutover-proxy");
    request.headers_mut().insert(header::USER_AGENT, agent);
    let exchange = async {
        let mut aside = Aside::connect(target.address(), protocol).await?;
        let answer = aside.send(request).await?;
        Ok::<_, AsideError>((aside, answer))
    };
    let (aside, answer) = match timeout_at(deadline, exchange).await {
        Ok(exchanged) => exchanged?,
        Err(_) => return Err(Complaint::Late),
    };
    let status = answer.status();
    // The head says it all; the rest is read out of courtesy.
    let _ = timeout_at(deadline, read_out(answer.into_body())).await;
    drop(aside);
    match status.as_u16() {
        200..400 => Ok(()),
        _ => Err(Complaint::Status(status)),
    }
}

async fn read_out(mut body: Incoming) {
    let mut left = MAX_BODY;
    while let Some(Ok(frame)) = poll_fn(|cx| Pin::new(&mut body).poll_frame(cx)).await {
        let length = frame.data_ref().map_or(0, bytes::Bytes::len);
        match left.checked_sub(length) {
            Some(rest) => left = rest,
            None => return,
        }
    }
}

#[cfg(test)]
mod tests;
