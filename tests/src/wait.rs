//! Waiting for a condition, always with a deadline.

use std::fmt::Display;
use std::time::Duration;

use anyhow::bail;
use tokio::time::{Instant, sleep, timeout_at};

/// Between two looks: short beside the seconds a deploy takes, long beside a
/// look's own cost.
const PAUSE: Duration = Duration::from_millis(20);

/// What a look at a condition found.
pub trait Look {
    /// What there is to see once the condition holds.
    type Seen;

    /// The sight, or why there is none yet.
    ///
    /// # Errors
    ///
    /// The condition does not hold yet.
    fn seen(self) -> Result<Self::Seen, String>;
}

impl Look for bool {
    type Seen = ();

    fn seen(self) -> Result<(), String> {
        if self { Ok(()) } else { Err("no".to_owned()) }
    }
}

impl<T> Look for Option<T> {
    type Seen = T;

    fn seen(self) -> Result<T, String> {
        self.ok_or_else(|| "nothing there".to_owned())
    }
}

impl<T, E: Display> Look for Result<T, E> {
    type Seen = T;

    fn seen(self) -> Result<T, String> {
        self.map_err(|error| format!("{error:#}"))
    }
}

/// Looks again and again until the condition holds, and gives what it saw:
/// nothing for a `bool`, the content of an `Option` or a `Result`.
///
/// # Errors
///
/// `what` did not happen within `deadline`; says what the last look found.
pub async fn eventually<L: Look>(
    what: &str,
    deadline: Duration,
    mut look: impl AsyncFnMut() -> L,
) -> anyhow::Result<L::Seen> {
    let end = Instant::now() + deadline;
    let mut last = "the first look did not end".to_owned();
    loop {
        match timeout_at(end, look()).await.map(Look::seen) {
            Ok(Ok(seen)) => return Ok(seen),
            Ok(Err(reason)) => last = reason,
            Err(_) => bail!("{what}: not within {deadline:?}; last: {last}"),
        }
        if Instant::now() + PAUSE >= end {
            bail!("{what}: not within {deadline:?}; last: {last}");
        }
        sleep(PAUSE).await;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn a_condition_that_comes_true_is_seen() {
        let mut looks = 0;
        let seen = eventually("three looks", Duration::from_secs(1), async || {
            looks += 1;
            (looks == 3).then_some(looks)
        });
        assert_eq!(seen.await.unwrap(), 3);
    }

    #[tokio::test(start_paused = true)]
    async fn a_look_that_hangs_meets_the_deadline() {
        let wait = eventually("the end", Duration::from_secs(1), async || {
            std::future::pending::<bool>().await
        });
        let error = wait.await.unwrap_err().to_string();
        assert!(error.starts_with("the end: not within 1s"), "{error}");
    }
}
