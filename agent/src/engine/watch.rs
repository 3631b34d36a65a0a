//! The watch: a release is judged under the traffic of its users, and before
//! that a request through the front door must be answered by it.

use std::collections::BTreeMap;
use std::time::Duration;

use cutover_plan::event::{Cursor, Failure, FailureClass, Finding};
use cutover_plan::id::ReleaseNumber;
use cutover_plan::plan::{Kind, PlannedStep};
use cutover_plan::state::Running;
use cutover_plan::step::{HealthCheck, Question, SeenBy, Step, WatchRule, WithoutVerdict};
use cutover_plan::verdict::{Evidence, Verdict};
use tokio::time::Instant;

use super::counting::Judge;
use super::observe::host_of;
use super::steps::{Done, Steps};
use crate::containers::{Container, Containers, HealthAnswer};
use crate::traffic::Traffic;

/// How often the world is looked at: often enough to take a release back
/// quickly, seldom enough to cost nothing.
const SHORTEST_LOOK: Duration = Duration::from_millis(250);
const LONGEST_LOOK: Duration = Duration::from_secs(2);

/// How long one look at the engine may take before the watch goes on without it.
const LOOK_PATIENCE: Duration = Duration::from_secs(5);

/// How long the front door may lead to another release after the shift.
const DOOR_PATIENCE: Duration = Duration::from_secs(10);

impl<C: Containers, T: Traffic, R: Send + Sync + 'static> Steps<C, T, R> {
    pub(super) async fn watch(
        &self,
        release: ReleaseNumber,
        check: &HealthCheck,
        rule: &WatchRule,
        running: Option<Running>,
    ) -> Result<Done, Failure> {
        self.front_door(release, check, rule).await?;
        tracing::debug!(%release, "the front door leads to it");
        let begins = !self.was_seen(running);
        let mut judge = Judge::new(release, rule, begins, &self.compared);
        self.look_on(&mut judge, release, check, rule, running)
            .await
    }

    async fn look_on(
        &self,
        judge: &mut Judge,
        release: ReleaseNumber,
        check: &HealthCheck,
        rule: &WatchRule,
        running: Option<Running>,
    ) -> Result<Done, Failure> {
        let (spent, begun) = (self.watched(rule, running), Instant::now());
        let mut evidence = Evidence::default();
        let mut patients = Patients::default();
        let look = check.interval.clamp(SHORTEST_LOOK, LONGEST_LOOK);
        let mut stirred = Box::pin(self.stirred());
        let mut asked = None;
        loop {
            // Before the look at the containers: of one that died, and failed what was
            // counted here, the death is told and not what followed from it.
            let counted = self.drivers.traffic.statistics().await;
            let elapsed = spent + begun.elapsed();
            let listed = self.drivers.containers.list(self.lease.app());
            let listed = tokio::time::timeout(LOOK_PATIENCE, listed).await;
            let containers = match listed {
                Ok(Ok(containers)) => {
                    evidence.blind = None;
                    containers
                }
                // The proxy's counts are still there to judge by.
                Ok(Err(error)) => {
                    evidence.blind = Some(error.reason);
                    Vec::new()
                }
                Err(_) => {
                    evidence.blind = Some("the engine does not answer".to_owned());
                    Vec::new()
                }
            };
            if evidence.blind.is_none() {
                let of_release = containers.iter().filter(|one| one.release == release);
                let of_release: Vec<_> = of_release.collect();
                // News bring a look forward, and no question about its health.
                let asks = asked.is_none_or(|asked: Instant| asked.elapsed() >= look);
                if asks {
                    asked = Some(Instant::now());
                }
                let check = asks.then_some(check);
                patients.visit(self, release, &of_release, check).await;
                patients.tell(&mut evidence);
            }
            let statistics = match counted {
                Ok(statistics) => Some(statistics),
                Err(error) => {
                    evidence.blind = Some(error.to_string());
                    None
                }
            };
            let (app, bound) = (self.lease.app().as_str(), rule.max_latency_p99);
            judge.look(app, statistics.as_ref(), bound, &mut evidence);
            judge.remember(&self.compared);
            match judge.judge(rule, elapsed, &evidence) {
                None => {}
                Some(Verdict::Bad { because, .. }) => {
                    let log = self.log_of(&containers, release).await;
                    return Err(Failure::new(FailureClass::Release, because).log(log));
                }
                Some(verdict @ Verdict::NoVerdict { .. }) => match rule.without {
                    WithoutVerdict::Abort | WithoutVerdict::Extend { .. } => {
                        let hint = "lower watch.min_requests, lengthen watch.window, or set watch.on_no_verdict = \"promote\"";
                        let because = verdict.because();
                        return Err(Failure::new(FailureClass::NoVerdict, because).hint(hint));
                    }
                    WithoutVerdict::Hold { deadline } => {
                        return Ok(self.held(verdict.because().to_owned(), deadline, None));
                    }
                    WithoutVerdict::Promote => {
                        return Ok(Done::Found(Finding::Judged { verdict }));
                    }
                },
                Some(verdict @ Verdict::Good { .. }) => {
                    return Ok(Done::Found(Finding::Judged { verdict }));
                }
            }
            tokio::select! {
                () = &mut stirred => stirred.set(self.stirred()),
                () = tokio::time::sleep(look) => {}
            }
        }
    }

    /// A container that ends is seen at once, and not at the next look.
    fn stirred(&self) -> impl Future<Output = ()> {
        self.drivers.containers.stirred(self.lease.app())
    }

    /// How long the release has been watched. After a restart of the agent a watch
    /// whose counts are gone begins anew: it must not end on what nobody counted.
    pub(super) fn watched(&self, rule: &WatchRule, running: Option<Running>) -> Duration {
        let again = running.is_some_and(|running| running.attempt > 1);
        match again && (rule.beside.is_some() || self.was_seen(running)) {
            true => Duration::ZERO,
            false => self.since(running),
        }
    }

    /// Whether the release had requests before this watch that are not of its users
    /// now: it was watched or shown before, or served before. Their counts are left
    /// out; after a restart those of the watch so far with them: less data, never other.
    fn was_seen(&self, running: Option<Running>) -> bool {
        let Some(plan) = &self.plan else {
            return true;
        };
        let sees = |planned: &PlannedStep| match planned.step {
            Step::Watch { .. } => true,
            Step::Preview { release } => release.is_some(),
            _ => false,
        };
        let before = match running.map(|running| running.at) {
            Some(Cursor::Forward(at)) => plan.steps.iter().take(at).any(sees),
            Some(Cursor::Back(_)) | None => true,
        };
        before || plan.kind == Kind::Rollback
    }

    /// Knocks as a user would, until the release answers; where users are at two,
    /// either, and where the release has none, the old one.
    async fn front_door(
        &self,
        release: ReleaseNumber,
        check: &HealthCheck,
        rule: &WatchRule,
    ) -> Result<(), Failure> {
        let mut meant = vec![release];
        if let Some(beside) = rule.beside {
            meant.retain(|_| beside.seen_by == SeenBy::Users);
            meant.push(beside.old);
        }
        let names: Vec<_> = meant.iter().map(ReleaseNumber::to_string).collect();
        let begun = Instant::now();
        let mut pause = Duration::from_millis(20);
        loop {
            let status = self.ask_traffic(|| self.drivers.traffic.status()).await?;
            let Some(&door) = status.listeners.first() else {
                let reason = "the proxy has no listener, so no user can reach the app";
                return Err(Failure::new(FailureClass::Host, reason));
            };
            let path = front_path(&self.spec.path_prefix, &check.question);
            let knock = self
                .drivers
                .traffic
                .knock(door, host_of(&self.spec), path)
                .await;
            let answer = match knock {
                Ok(knock) if knock.pool.as_ref().is_some_and(|pool| names.contains(pool)) => {
                    return Ok(());
                }
                Ok(knock) => match knock.pool {
                    Some(pool) => format!("{pool} answered"),
                    None => format!("no release answered, but status {}", knock.status),
                },
                Err(error) => error.to_string(),
            };
            if begun.elapsed() > DOOR_PATIENCE {
                let reason = format!(
                    "a request through the front door {door} did not reach {}: {answer}",
                    names.join(" or ")
                );
                return Err(Failure::new(FailureClass::Host, reason));
            }
            tokio::time::sleep(pause).await;
            pause = (pause * 2).min(LONGEST_LOOK);
        }
    }
}

/// A path that the app's route takes: its health path where that is under its
/// prefix. Any answer will do, if it is of the right release.
fn front_path<'a>(prefix: &'a str, question: &'a Question) -> &'a str {
    let Question::Get(health) = question else {
        return prefix;
    };
    let below = health.strip_prefix(prefix);
    match below {
        Some(rest) if prefix == "/" || rest.is_empty() || rest.starts_with('/') => health,
        _ => prefix,
    }
}

/// The containers of the release that is watched, each with its health.
#[derive(Default)]
struct Patients(BTreeMap<String, Patient>);

#[derive(Default)]
struct Patient {
    /// How often it had been started anew before.
    restarts: Option<u32>,
    casualty: Option<String>,
    bad_answers: u32,
    bad_answer: Option<String>,
}

impl Patients {
    /// Looks at each that is there, and asks for its health where there is a check;
    /// one that was there and is gone is a casualty.
    async fn visit<C: Containers, T: Traffic, R: Send + Sync + 'static>(
        &mut self,
        steps: &Steps<C, T, R>,
        release: ReleaseNumber,
        there: &[&Container],
        check: Option<&HealthCheck>,
    ) {
        if there.is_empty() && self.0.is_empty() {
            self.0.insert(release.to_string(), Patient::default());
        }
        for (name, patient) in &mut self.0 {
            if !there.iter().any(|one| one.name == *name) {
                patient.casualty = Some(format!("the container of {release} is gone"));
            }
        }
        for container in there {
            let patient = self.0.entry(container.name.clone()).or_default();
            let before = || steps.restarts_before(container);
            let restarts = *patient.restarts.get_or_insert_with(before);
            patient.casualty = steps.casualty(container, restarts).await;
            let Some(check) = check else { continue };
            match steps.ask(container, check).await {
                HealthAnswer::Good => patient.bad_answers = 0,
                HealthAnswer::Bad(answer) => {
                    patient.bad_answers += 1;
                    patient.bad_answer = Some(answer);
                }
            }
        }
    }

    /// The worst of all.
    fn tell(&self, evidence: &mut Evidence) {
        let all = self.0.values();
        evidence.casualty = all.clone().find_map(|one| one.casualty.clone());
        let worst = all.max_by_key(|one| one.bad_answers);
        evidence.bad_answers = worst.map_or(0, |one| one.bad_answers);
        evidence.bad_answer = worst.and_then(|one| one.bad_answer.clone());
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_front_door_is_knocked_at_where_the_route_is() {
        let check = |prefix, path: &str, expected| {
            let question = Question::Get(path.to_owned());
            assert_eq!(front_path(prefix, &question), expected, "{path}");
        };
        check("/", "/healthz", "/healthz");
        check("/api", "/api/healthz", "/api/healthz");
        check("/api", "/apix", "/api");
        check("/api", "/healthz", "/api");
        assert_eq!(front_path("/api", &Question::Connect {}), "/api");
    }
}
