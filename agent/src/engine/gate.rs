//! The gate on a real container: asks it until the gate is open or shut.
//!
//! It ends early when a container cannot become healthy any more, and it
//! always says why: the last answer, and the last lines of the app.

use std::time::Duration;

use cutover_plan::event::{Failure, FailureClass, Finding};
use cutover_plan::id::{ReleaseNumber, Replica};
use cutover_plan::spec::render_duration;
use cutover_plan::step::HealthCheck;
use cutover_plan::traffic::Replicas;
use cutover_plan::verdict::gate::{Answer, Gate, Passage};
use futures_util::future::try_join_all;
use tokio::time::Instant;

use super::deploying::RESUMED_AT_LEAST;
use super::observe::host_of;
use super::steps::Steps;
use crate::containers::{Container, Containers, HealthAnswer};
use crate::traffic::Traffic;

impl<C: Containers, T: Traffic, R: Send + Sync + 'static> Steps<C, T, R> {
    pub(super) async fn gate(
        &self,
        release: ReleaseNumber,
        replicas: &Replicas,
        check: &HealthCheck,
        deadline: Duration,
        spent: Duration,
    ) -> Result<Finding, Failure> {
        let begun = Instant::now();
        let these: Vec<Replica> = match replicas {
            Replicas::Only(these) => these.iter().copied().collect(),
            Replicas::All => {
                let containers = self.containers().await?;
                let of_release = containers.iter().filter(|one| one.release == release);
                of_release.map(|one| one.replica).collect()
            }
        };
        if these.is_empty() {
            return Err(gone(release));
        }
        let gates = these
            .iter()
            .map(|replica| self.gate_one(release, *replica, check, deadline, spent));
        try_join_all(gates).await?;
        let took =
            Duration::from_millis(u64::try_from(begun.elapsed().as_millis()).unwrap_or(u64::MAX));
        let text = format!("healthy after {}", render_duration(took));
        Ok(Finding::Note { text })
    }

    async fn gate_one(
        &self,
        release: ReleaseNumber,
        replica: Replica,
        check: &HealthCheck,
        deadline: Duration,
        spent: Duration,
    ) -> Result<(), Failure> {
        let left = deadline
            .saturating_sub(spent)
            .max(RESUMED_AT_LEAST.min(deadline));
        // What the answers took. An engine that stands still between them is not held
        // against the release, but for the step's own deadline.
        let mut taken = Duration::ZERO;
        let mut gate = Gate::new(release, check, deadline, left);
        let mut restarts = None;
        loop {
            let containers = self.containers().await?;
            let meant = |one: &&Container| one.release == release && one.replica == replica;
            let Some(container) = containers.iter().find(meant) else {
                return Err(gone(release));
            };
            let restarts = *restarts.get_or_insert_with(|| self.restarts_before(container));
            if let Some(casualty) = self.casualty(container, restarts).await {
                let log = self.log_of(&containers, release).await;
                let failure = Failure::new(FailureClass::Release, gate.casualty(&casualty));
                return Err(failure.log(log));
            }
            let asked = Instant::now();
            let answer = match self.ask(container, check).await {
                HealthAnswer::Good => Answer::Good,
                HealthAnswer::Bad(answer) => Answer::Bad(answer),
            };
            if let Some(news) = gate.news(&answer) {
                self.remember(news.clone());
                let _ = self.progress.send(news);
            }
            taken += asked.elapsed();
            match gate.answer(answer, taken) {
                Passage::Ask(pause) => {
                    tokio::time::sleep(pause).await;
                    taken += pause;
                }
                Passage::Open { .. } => return Ok(()),
                Passage::Shut { because, hint } => {
                    let log = self.log_of(&containers, release).await;
                    return Err(Failure::new(FailureClass::Release, because)
                        .hint(hint)
                        .log(log));
                }
            }
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
        let asked = self.drivers.containers.ask(container, check, host);
        asked
            .await
            .unwrap_or_else(|error| HealthAnswer::Bad(error.reason))
    }
}

fn gone(release: ReleaseNumber) -> Failure {
    let reason = format!("{release} has no container any more");
    Failure::new(FailureClass::Release, reason)
}
