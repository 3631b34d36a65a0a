//! What must hold at the end of any run, whatever went wrong in it.

use cutover_agent::forge::DeploymentState;
use cutover_plan::outcome::Outcome;
use cutover_plan::state::DeployState;
use cutover_wire::agent::DeployView;

use crate::faults::Faults;
use crate::run::{Ended, Report, app};
use crate::scenario::{Ask, Scenario};

/// Every broken promise of a run.
pub(crate) fn problems(scenario: &Scenario, faults: &Faults, report: &Report) -> Vec<String> {
    let mut found = report.sim.world().violations.clone();
    outcomes(scenario, faults, report, &mut found);
    serving(scenario, faults, report, &mut found);
    rest(faults, report, &mut found);
    told(scenario, report, &mut found);
    if faults.points.is_empty() {
        whys(scenario, report, &mut found);
    }
    found
}

/// A crash changes no outcome. A fault that the agent can see may, but never
/// for the better: nothing bad is promoted.
fn outcomes(scenario: &Scenario, faults: &Faults, report: &Report, found: &mut Vec<String>) {
    for (ask, end) in scenario.calls().zip(&report.ends) {
        let got = match end {
            Ok(view) => view.outcome,
            Err(Ended::Refused(code)) if is_refused(ask, code) => continue,
            Err(why) => {
                found.push(format!("{ask:?}: {why:?}"));
                continue;
            }
        };
        let expected = ask.expected();
        let good = (got.is_some() && got == expected)
            || (faults.are_visible() && got != Some(Outcome::Promoted))
            // A shift that was begun before a crash may have moved users, so it is
            // told as one that did.
            || (!faults.points.is_empty()
                && expected == Some(Outcome::Failed)
                && got == Some(Outcome::RolledBack))
            // With a deploy before it that failed, there may be more or less to roll
            // back to; that what is promoted serves is looked at apart.
            || (faults.are_visible() && matches!(ask, Ask::Rollback(_)))
            // A crash may hold a deploy up before the abort, or let it through.
            || (!faults.points.is_empty()
                && matches!(ask, Ask::AbortAfter(..) | Ask::AbortRollbackAfter(..))
                && got == Some(Outcome::Promoted));
        if !good {
            let reason = end.as_ref().ok().and_then(|view| view.reason.clone());
            found.push(format!("{ask:?} ended as {got:?}: {reason:?}"));
        }
    }
}

/// Without faults, it also ends for the reason that the scenario is about.
fn whys(scenario: &Scenario, report: &Report, found: &mut Vec<String>) {
    let reasons: Vec<_> = report.ends.iter().flatten().collect();
    for why in scenario.whys {
        let told = |view: &&DeployView| view.reason.as_ref().is_some_and(|one| one.contains(why));
        if !reasons.iter().any(told) {
            found.push(format!("nobody was told that {why}"));
        }
    }
    let made = report.sim.world().made;
    if scenario.made.is_some_and(|expected| expected != made) {
        found.push(format!(
            "{made} containers were made, not {:?}",
            scenario.made
        ));
    }
}

fn is_refused(ask: &Ask, code: &str) -> bool {
    matches!(ask, Ask::Refused(expected) if *expected == code)
}

/// The table sends users to the release that the last promoted deploy brought.
fn serving(scenario: &Scenario, faults: &Faults, report: &Report, found: &mut Vec<String>) {
    let releases = report.sim.journal.releases(&app()).unwrap();
    let world = report.sim.world();
    let table = world
        .table
        .apps
        .get("shop")
        .and_then(|route| route.serving.sole().map(str::to_owned));
    if table != releases.serving.map(|number| number.to_string()) {
        found.push(format!(
            "the table has {table:?}, the journal {:?}",
            releases.serving
        ));
    }
    let serving = releases.serving.and_then(|number| releases.find(number));
    let image = serving.map(|known| known.release.image.clone());
    let promoted = report.ends.iter().filter_map(|end| end.as_ref().ok()).rev();
    let last_promoted = promoted
        .filter(|view: &&DeployView| view.outcome == Some(Outcome::Promoted))
        .find_map(|view| view.image.clone());
    // Users stay where a rollback brought them, even if it was aborted then.
    let stays = |ask: &Ask| matches!(ask, Ask::AbortRollbackAfter(..));
    let stayed = faults.are_visible() && scenario.asks.iter().any(stays);
    if !stayed && last_promoted != image.as_ref().map(ToString::to_string) {
        found.push(format!(
            "{image:?} serves, but {last_promoted:?} was promoted last"
        ));
    }
    let aborted = scenario
        .asks
        .iter()
        .any(|ask| matches!(ask, Ask::AbortAfter(..) | Ask::AbortRollbackAfter(..)));
    let timed = aborted && !faults.points.is_empty();
    if !faults.are_visible() && !timed {
        let expected = scenario
            .serves
            .map(|number| report.images[number - 1].clone());
        if image != expected {
            found.push(format!("{image:?} serves, not {expected:?}"));
        }
    }
}

/// Nothing is left over: no deploy without an end, no container but those of
/// the serving release and the one that stands by.
fn rest(faults: &Faults, report: &Report, found: &mut Vec<String>) {
    for record in report.sim.journal.unfinished(&app()).unwrap() {
        found.push(format!("the deploy {} has no end", record.deploy));
    }
    let releases = report.sim.journal.releases(&app()).unwrap();
    let late = releases
        .standby_until
        .is_some_and(|until| until < report.sim.now());
    if late && !faults.are_visible() {
        found.push(format!("{:?} stands by for ever", releases.standby));
    }
    for name in report.sim.world().hooks.keys() {
        if !faults.are_visible() {
            found.push(format!("{name} was left behind"));
        }
    }
    for (name, one) in &report.sim.world().containers {
        let number = Some(one.order.release);
        if number != releases.serving && number != releases.standby && !report.has_setbacks() {
            found.push(format!("{name} was left behind"));
        }
        if one.open > 0 {
            found.push(format!("{name} has {} requests inside for ever", one.open));
        }
    }
}

/// GitHub has each status once, in order, and the last one is the truth.
fn told(scenario: &Scenario, report: &Report, found: &mut Vec<String>) {
    let world = report.sim.world();
    for (ask, end) in scenario.calls().zip(&report.ends) {
        let Ok(end) = end else { continue };
        let rolls_back = matches!(ask, Ask::Rollback(_) | Ask::AbortRollbackAfter(..));
        if rolls_back && end.outcome == Some(Outcome::Failed) && end.release.is_none() {
            // There was nothing to go back to, so there is no commit to tell it at.
            continue;
        }
        let statuses = world
            .told
            .iter()
            .filter(|message| message.deploy == end.deploy);
        let states: Vec<_> = statuses.map(|message| message.state).collect();
        let last = match end.outcome {
            Some(Outcome::Promoted) => &[DeploymentState::Success][..],
            Some(Outcome::Failed) => &[DeploymentState::Failure, DeploymentState::Error],
            Some(Outcome::RolledBack | Outcome::NoVerdict) => &[DeploymentState::Failure],
            Some(Outcome::Aborted) => &[DeploymentState::Error],
            Some(Outcome::Superseded | Outcome::Shadowed) | None => &[DeploymentState::Inactive],
        };
        if !states.last().is_some_and(|state| last.contains(state)) {
            found.push(format!("{:?}, but GitHub was told {states:?}", end.outcome));
        }
        let rank = |state: &DeploymentState| match state {
            DeploymentState::Queued => 0,
            DeploymentState::InProgress => 1,
            DeploymentState::Success
            | DeploymentState::Failure
            | DeploymentState::Error
            | DeploymentState::Inactive => 2,
        };
        let ordered = states
            .windows(2)
            .all(|pair| rank(&pair[0]) <= rank(&pair[1]));
        let ends = states.iter().filter(|state| rank(state) == 2).count();
        let begins = states.iter().filter(|state| rank(state) == 1).count();
        let begun = rolls_back || states.first() == Some(&DeploymentState::Queued);
        if !ordered || ends != 1 || !begun || begins > 2 {
            found.push(format!(
                "GitHub was told {states:?}, not each once and in order"
            ));
        }
    }
}

impl Report {
    /// Whether a step failed after its release had proved itself, or on the way
    /// back: what it should have removed is then left to the next deploy.
    fn has_setbacks(&self) -> bool {
        let deploys = self.ends.iter().flatten().map(|view| &view.deploy);
        deploys.into_iter().any(|deploy| {
            let history = self.sim.journal.events(deploy, 0, 1_000).unwrap();
            let mut events = history.iter().map(|recorded| &recorded.event);
            let begun = events.next().map(DeployState::begin);
            let state = begun.unwrap().unwrap();
            let state = events.fold(state, |state, event| state.apply(event).unwrap());
            !state.setbacks.is_empty()
        })
    }
}
