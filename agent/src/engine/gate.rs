//! The gate: a release gets requests only after good answers in a row.
//!
//! It ends early when a container cannot become healthy any more, and it
//! always says why: the last answer, and the last lines of the app. Until the
//! first good answer it asks more often than the interval, so that an app that
//! starts quickly is not kept waiting; good answers are an interval apart.

use std::time::Duration;

use cutover_plan::event::{Failure, FailureClass, Finding};
use cutover_plan::id::ReleaseNumber;
use cutover_plan::spec::render_duration;
use cutover_plan::step::HealthCheck;
use tokio::time::Instant;

use super::deploying::RESUMED_AT_LEAST;
use super::observe::host_of;
use super::steps::{Steps, casualty};
use crate::containers::{Container, Containers, HealthAnswer};
use crate::traffic::Traffic;

/// From the first question to the second; doubles up to the interval.
const FIRST_PAUSE: Duration = Duration::from_millis(50);

impl<C: Containers, T: Traffic, R: Send + Sync + 'static> Steps<C, T, R> {
    pub(super) async fn gate(
        &self,
        release: ReleaseNumber,
        check: &HealthCheck,
        deadline: Duration,
        spent: Duration,
    ) -> Result<Finding, Failure> {
        let left = deadline
            .saturating_sub(spent)
            .max(RESUMED_AT_LEAST.min(deadline));
        let begun = Instant::now();
        let mut in_a_row = 0;
        let mut last = "it was not asked yet".to_owned();
        let mut restarts = None;
        let mut impatience = FIRST_PAUSE;
        loop {
            let containers = self.containers().await?;
            let of_release = containers
                .iter()
                .find(|container| container.release == release);
            let Some(container) = of_release else {
                let reason = format!("{release} has no container any more");
                return Err(Failure::new(FailureClass::Release, reason));
            };
            let restarts = *restarts.get_or_insert_with(|| self.restarts_before(container));
            if let Some(casualty) = casualty(container, restarts) {
                let reason = format!("{casualty} before it was healthy");
                let log = self.log_of(&containers, release).await;
                return Err(Failure::new(FailureClass::Release, reason).log(log));
            }
            match self.ask(container, check).await {
                HealthAnswer::Good => in_a_row += 1,
                HealthAnswer::Bad(answer) => {
                    if answer != last {
                        let _ = self.progress.send(format!("GET {}: {answer}", check.path));
                    }
                    in_a_row = 0;
                    last = answer;
                }
            }
            if in_a_row >= check.successes {
                let took = Duration::from_millis(
                    u64::try_from(begun.elapsed().as_millis()).unwrap_or(u64::MAX),
                );
                let text = format!("healthy after {}", render_duration(took));
                return Ok(Finding::Note { text });
            }
            let pause = match in_a_row {
                0 => impatience.min(check.interval),
                _ => check.interval,
            };
            impatience = pause.saturating_mul(2);
            if begun.elapsed() + pause > left {
                let reason = format!(
                    "{release} was not healthy within {}: GET {}: {last}",
                    render_duration(deadline),
                    check.path
                );
                let hint = "see the app's last lines; a slow start needs a longer health.deadline";
                let log = self.log_of(&containers, release).await;
                return Err(Failure::new(FailureClass::Release, reason)
                    .hint(hint)
                    .log(log));
            }
            tokio::time::sleep(pause).await;
        }
    }

    /// How often the container had been started anew before this deploy had to
    /// do with it: never, if this deploy made it.
    pub(super) fn restarts_before(&self, container: &Container) -> u32 {
        match container.deploy == self.deploy {
            true => 0,
            false => container.restarts,
        }
    }

    pub(super) async fn ask(&self, container: &Container, check: &HealthCheck) -> HealthAnswer {
        let host = host_of(&self.spec);
        let asked = self
            .drivers
            .containers
            .ask(container, &check.path, host, check.timeout);
        asked
            .await
            .unwrap_or_else(|error| HealthAnswer::Bad(error.reason))
    }
}
