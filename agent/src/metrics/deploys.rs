//! What became of deploys, folded from the journal as it grows.
//!
//! Counters begin with the process, as counters of Prometheus do; what is under
//! way and the last success are read from the journal at its begin. What the
//! agent does without being called is no deploy here, but its steps count.

use std::collections::BTreeMap;

use cutover_plan::event::{Cursor, Event};
use cutover_plan::id::{AppName, DeployId};
use cutover_plan::outcome::Outcome;
use cutover_plan::state::{DeployState, Phase};
use jiff::Timestamp;

use super::page::{Kind, Page};
use crate::journal::{Journal, JournalError, Recorded};
use crate::view;

/// Bounds of the time a deploy takes, in seconds: from one without a watch to
/// one that waits for a person over a working day.
const BOUNDS: [u32; 12] = [
    5, 15, 30, 60, 120, 300, 600, 1_200, 1_800, 3_600, 7_200, 28_800,
];

/// Counts of deploys.
pub(super) struct Deploys {
    seen: u64,
    apps: BTreeMap<AppName, App>,
    /// Those that have not ended: at most three of an app.
    open: BTreeMap<DeployId, Open>,
    times: [Times; Outcome::ALL.len()],
    steps: BTreeMap<&'static str, Step>,
}

#[derive(Default)]
struct App {
    ended: [u64; Outcome::ALL.len()],
    last_success: Option<Timestamp>,
}

struct Open {
    accepted: Timestamp,
    state: DeployState,
    started: Option<(Cursor, Timestamp)>,
}

#[derive(Default)]
struct Times {
    within: [u64; BOUNDS.len()],
    count: u64,
    seconds: f64,
}

#[derive(Default)]
struct Step {
    count: u64,
    seconds: f64,
    failed: u64,
}

impl Deploys {
    /// Reads what is under way.
    pub(super) fn begin(journal: &Journal, apps: Vec<AppName>) -> Result<Self, JournalError> {
        let seen = *journal.changes().borrow();
        let mut deploys = Self {
            seen,
            apps: apps.into_iter().map(|app| (app, App::default())).collect(),
            open: BTreeMap::new(),
            times: Default::default(),
            steps: BTreeMap::new(),
        };
        let successes = journal.last_successes()?;
        for (app, at) in successes {
            if let Some(counts) = deploys.apps.get_mut(&app) {
                counts.last_success = Some(at);
            }
        }
        let names: Vec<_> = deploys.apps.keys().cloned().collect();
        for app in names {
            for record in journal.unfinished(&app)? {
                for recorded in view::history(journal, &record.deploy)? {
                    // What comes later is taken when it is followed.
                    if recorded.seq <= seen {
                        deploys.follow(&record.deploy, &recorded);
                    }
                }
            }
        }
        // They happened before the process began.
        deploys.steps.clear();
        Ok(deploys)
    }

    /// The last event that was taken.
    pub(super) fn seen(&self) -> u64 {
        self.seen
    }

    /// Takes the next event of the journal.
    pub(super) fn take(&mut self, deploy: &DeployId, recorded: &Recorded) {
        self.seen = self.seen.max(recorded.seq);
        self.follow(deploy, recorded);
    }

    fn follow(&mut self, deploy: &DeployId, recorded: &Recorded) {
        let Recorded { at, event, .. } = recorded;
        if let Event::Accepted { .. } = event {
            if let Ok(state) = DeployState::begin(event) {
                let open = Open {
                    accepted: *at,
                    state,
                    started: None,
                };
                self.open.insert(deploy.clone(), open);
            }
            return;
        }
        let Some(mut open) = self.open.remove(deploy) else {
            return;
        };
        match event {
            Event::StepStarted { at, since, .. } => open.started = Some((*at, *since)),
            Event::StepFinished { at: place, .. } | Event::StepFailed { at: place, .. } => {
                let name = open.state.step(*place).map(|step| step.name());
                let started = open.started.take().filter(|(of, _)| of == place);
                if let (Some(name), Some((_, since))) = (name, started) {
                    let step = self.steps.entry(name).or_default();
                    step.count += 1;
                    step.seconds += seconds(since, *at);
                    step.failed += u64::from(matches!(event, Event::StepFailed { .. }));
                }
            }
            Event::Ended { outcome } => {
                self.ended(&open, *outcome, *at);
                return;
            }
            _ => {}
        }
        // A history that makes no sense is not followed any further.
        if let Ok(state) = open.state.apply(event) {
            open.state = state;
            self.open.insert(deploy.clone(), open);
        }
    }

    fn ended(&mut self, open: &Open, outcome: Outcome, at: Timestamp) {
        let place = Outcome::ALL.iter().position(|known| *known == outcome);
        let (Some(place), false) = (place, open.state.kind.is_housekeeping()) else {
            return;
        };
        if let Some(app) = self.apps.get_mut(&open.state.app) {
            if let Some(ended) = app.ended.get_mut(place) {
                *ended += 1;
            }
            if outcome == Outcome::Promoted {
                app.last_success = Some(at);
            }
        }
        if let Some(times) = self.times.get_mut(place) {
            let took = seconds(open.accepted, at);
            times.count += 1;
            times.seconds += took;
            for (bound, within) in BOUNDS.iter().zip(&mut times.within) {
                *within += u64::from(took <= f64::from(*bound));
            }
        }
    }

    pub(super) fn render(&self, page: &mut Page) {
        let name = "deploys_total";
        page.family(
            name,
            Kind::Counter,
            "Deploys and rollbacks that ended, by outcome.",
        );
        for (app, counts) in &self.apps {
            for (outcome, ended) in Outcome::ALL.iter().zip(counts.ended) {
                let labels = [("app", app.as_str()), ("outcome", outcome.as_str())];
                page.line(name, &labels, ended);
            }
        }
        self.render_times(page);
        self.render_open(page);
        let name = "last_success_timestamp_seconds";
        let help = "When a deploy or rollback was last promoted, in seconds since 1970.";
        page.family(name, Kind::Gauge, help);
        for (app, counts) in &self.apps {
            if let Some(at) = counts.last_success {
                page.line(name, &[("app", app.as_str())], at.as_second());
            }
        }
    }

    fn render_times(&self, page: &mut Page) {
        let name = "deploy_seconds";
        let help = "Time from a deploy's call to its end, by outcome.";
        page.family(name, Kind::Histogram, help);
        for (outcome, times) in Outcome::ALL.iter().zip(&self.times) {
            let outcome = ("outcome", outcome.as_str());
            let bucket = format!("{name}_bucket");
            for (bound, within) in BOUNDS.iter().zip(times.within) {
                page.line(&bucket, &[outcome, ("le", &bound.to_string())], within);
            }
            page.line(&bucket, &[outcome, ("le", "+Inf")], times.count);
            page.line(&format!("{name}_sum"), &[outcome], times.seconds);
            page.line(&format!("{name}_count"), &[outcome], times.count);
        }
        let name = "step_seconds";
        page.family(name, Kind::Summary, "Time that steps took, by step.");
        for (step, times) in &self.steps {
            let step = [("step", *step)];
            page.line(&format!("{name}_sum"), &step, times.seconds);
            page.line(&format!("{name}_count"), &step, times.count);
        }
        let name = "steps_failed_total";
        page.family(name, Kind::Counter, "Steps that failed, by step.");
        for (step, times) in &self.steps {
            page.line(name, &[("step", step)], times.failed);
        }
    }

    fn render_open(&self, page: &mut Page) {
        type Is = fn(&DeployState) -> bool;
        let queued: Is = |state| state.phase == Phase::Accepted;
        let families: [(&str, &str, Is); 3] = [
            (
                "deploys_under_way",
                "Deploys that were begun and have not ended.",
                |state| state.phase != Phase::Accepted,
            ),
            (
                "deploys_queued",
                "Deploys that were accepted and not begun.",
                queued,
            ),
            (
                "deploys_waiting_for_person",
                "Deploys that go on when a person has decided.",
                |state| state.waiting.is_some(),
            ),
        ];
        for (name, help, is) in families {
            page.family(name, Kind::Gauge, help);
            for app in self.apps.keys() {
                let own = self.open.values().filter(|open| open.state.app == *app);
                let count = own.filter(|open| is(&open.state)).count();
                page.line(name, &[("app", app.as_str())], count);
            }
        }
    }
}

/// The time between; none when the clock was set back.
fn seconds(from: Timestamp, to: Timestamp) -> f64 {
    to.duration_since(from).as_secs_f64().max(0.0)
}
