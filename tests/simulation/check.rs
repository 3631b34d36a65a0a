//! What must hold at the end of any run, whatever went wrong in it.

use std::time::Duration;

use cutover_agent::forge::DeploymentState;
use cutover_plan::id::DeployId;
use cutover_plan::outcome::Outcome;
use cutover_plan::state::DeployState;
use cutover_plan::step::Step;
use cutover_wire::agent::DeployView;

use cutover_wire::table::{Maintenance, Route};

use crate::faults::Faults;
use crate::run::{Ended, Report, app};
use crate::scenario::{Ask, Scenario};

/// Ten requests that fail in a row prove it, at a quarter of ten in a second; or
/// the window of a watch, with the looks at its ends.
const LONGEST_BAD: Duration = Duration::from_secs(8);
/// A late answer, and what follows it.
const LONGEST_FAULT: Duration = Duration::from_secs(25);

/// Every broken promise of a run.
pub(crate) fn problems(scenario: &Scenario, faults: &Faults, report: &Report) -> Vec<String> {
    let mut found = report.sim.world().violations.clone();
    outcomes(scenario, faults, report, &mut found);
    serving(scenario, faults, report, &mut found);
    table(faults, report, &mut found);
    users(faults, report, &mut found);
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
            || (faults.are_visible() && !is_success(got))
            // A shift that was begun before a crash may have moved users, so it is
            // told as one that did.
            || (!faults.points.is_empty()
                && expected == Some(Outcome::Failed)
                && got == Some(Outcome::RolledBack))
            // What dies after a while may die in a pause, before it has users.
            || (faults.stand_still()
                && expected == Some(Outcome::RolledBack)
                && got == Some(Outcome::Failed))
            // With a deploy before it that failed, there may be more or less to roll
            // back to; that what is promoted serves is looked at apart.
            || (faults.are_visible() && matches!(ask, Ask::Rollback(_) | Ask::RollbackRefused(_)))
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
    if !(scenario.seen)(&report.sim.world()) {
        found.push("the users did not see what they should".to_owned());
    }
    if scenario.made.is_some_and(|expected| expected != made) {
        found.push(format!(
            "{made} containers were made, not {:?}",
            scenario.made
        ));
    }
}

fn is_success(outcome: Option<Outcome>) -> bool {
    matches!(outcome, Some(Outcome::Promoted | Outcome::Shadowed))
}

fn is_refused(ask: &Ask, code: &str) -> bool {
    matches!(ask, Ask::Refused(expected) | Ask::RollbackRefused(expected) if *expected == code)
}

/// The table sends users to the release that the last promoted deploy brought.
fn serving(scenario: &Scenario, faults: &Faults, report: &Report, found: &mut Vec<String>) {
    let releases = report.sim.journal.releases(&app()).unwrap();
    let serving = releases.serving.and_then(|number| releases.find(number));
    let image = serving.map(|known| known.release.image.clone());
    let promoted = report.ends.iter().filter_map(|end| end.as_ref().ok()).rev();
    let last_promoted = promoted
        .filter(|view: &&DeployView| view.outcome == Some(Outcome::Promoted))
        .find_map(|view| view.image.clone());
    // Users stay where a rollback brought them, even if it was aborted then.
    let stays = |ask: &Ask| matches!(ask, Ask::AbortRollbackAfter(..));
    let stayed = faults.are_visible() && scenario.asks.iter().any(stays);
    // What answered nobody made room for what failed then.
    let stayed = stayed || (faults.are_visible() && report.sim.world().sickened);
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

/// The table is what the journal says, with nothing left over in it: all users
/// at the containers of the release that serves, and beside them at most the
/// release that stands by.
fn table(faults: &Faults, report: &Report, found: &mut Vec<String>) {
    let releases = report.sim.journal.releases(&app()).unwrap();
    let (world, spec) = (report.sim.world(), report.sim.spec());
    let serving = releases.serving.map(|number| number.to_string());
    let route = world.table.apps.get("shop");
    let sole = route.and_then(|route| route.serving.sole().map(str::to_owned));
    let journal = releases.traffic.sole().map(|number| number.to_string());
    if sole != serving || journal != serving {
        found.push(format!(
            "the table has {sole:?}, the journal {serving:?} with {}",
            releases.traffic
        ));
    }
    let (Some(route), Some(pool)) = (route, sole) else {
        return;
    };
    let mut left = leftovers(route);
    let standby = releases.standby.map(|number| number.to_string());
    let strange = |name: &&String| Some(*name) != standby.as_ref() && **name != pool;
    let strange = route.pools.keys().find(strange);
    if strange.is_some() && !report.has_setbacks() {
        left.push("another pool");
    }
    for what in left {
        found.push(format!("{what} was left in the table"));
    }
    let mut of_release: Vec<_> = world
        .containers
        .iter()
        .filter(|(_, one)| Some(one.order.release) == releases.serving)
        .collect();
    of_release.sort_by_key(|(name, _)| (*name).clone());
    let targets = route.pools.get(&pool).map_or(&[][..], |pool| &pool.targets);
    let listed: Vec<_> = targets.iter().map(|target| &target.id).collect();
    let there: Vec<_> = of_release.iter().map(|(name, _)| *name).collect();
    if listed != there {
        found.push(format!("the table lists {listed:?} of {there:?}"));
    }
    if faults.are_visible() || report.ends_early() {
        return;
    }
    if there.len() != usize::from(spec.replicas) {
        found.push(format!("{there:?} serve, not {}", spec.replicas));
    }
    if of_release.iter().any(|(_, one)| one.order.run != spec.run) {
        found.push("what serves was not given what the app's file says".to_owned());
    }
}

/// What is in a route beside its users, which only a deploy puts there.
pub(crate) fn leftovers(route: &Route) -> Vec<&'static str> {
    let parts = [
        (!route.rules.is_empty(), "rules"),
        (route.affinity.is_some(), "an affinity"),
        (route.mirror.is_some(), "a mirror"),
        (route.park.is_some(), "a park"),
        (route.preview.is_some(), "a preview"),
        (route.maintenance == Maintenance::On, "a closed door"),
    ];
    let left = parts.into_iter().filter(|(is_left, _)| *is_left);
    left.map(|(_, what)| what).collect()
}

/// Nobody waits for ever, and no release fails its users for longer than it
/// takes to find out and to go back: what a crash costs comes on top.
fn users(faults: &Faults, report: &Report, found: &mut Vec<String>) {
    let world = report.sim.world();
    let waiting = world.waiting();
    if waiting > 0 {
        found.push(format!("{waiting} requests wait for ever"));
    }
    let longest = LONGEST_BAD + LONGEST_FAULT * u32::try_from(faults.points.len()).unwrap();
    let bad = world.users.longest_bad;
    if bad > longest {
        found.push(format!("a release failed its users for {bad:?}"));
    }
    if let Some(pool) = world.is_bad() {
        found.push(format!("{pool} fails its users and keeps them"));
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
        let rolls_back = matches!(
            ask,
            Ask::Rollback(_) | Ask::RollbackRefused(_) | Ask::AbortRollbackAfter(..)
        );
        if rolls_back && end.outcome == Some(Outcome::Failed) && end.release.is_none() {
            // There was nothing to go back to, so there is no commit to tell it at.
            continue;
        }
        let statuses = world
            .told
            .iter()
            .filter(|message| message.deploy == end.deploy);
        let claims = statuses.clone().filter(|message| {
            let claim = "serves and is being watched";
            message.description.contains(claim)
        });
        if claims.count() > usize::from(end.outcome != Some(Outcome::Shadowed)) {
            found.push(format!("a share was told as all of {:?}", end.release));
        }
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
        if !ordered || ends != 1 || !begun || begins > 1 + report.watches_of(end) {
            found.push(format!(
                "GitHub was told {states:?}, not each once and in order"
            ));
        }
    }
}

impl Report {
    /// Whether the deploy that was asked for last did not bring its release.
    fn ends_early(&self) -> bool {
        let last = self.ends.last().and_then(|end| end.as_ref().ok());
        last.is_none_or(|view| view.outcome != Some(Outcome::Promoted))
    }

    /// How many watches a deploy planned.
    fn watches_of(&self, view: &DeployView) -> usize {
        let state = self.state_of(&view.deploy);
        let steps = state.plan.iter().flat_map(|plan| &plan.steps);
        steps
            .filter(|planned| matches!(planned.step, Step::Watch { .. }))
            .count()
    }

    fn state_of(&self, deploy: &DeployId) -> DeployState {
        let history = self.sim.journal.events(deploy, 0, 1_000).unwrap();
        let mut events = history.iter().map(|recorded| &recorded.event);
        let begun = events.next().map(DeployState::begin);
        let state = begun.unwrap().unwrap();
        events.fold(state, |state, event| state.apply(event).unwrap())
    }

    /// Whether a step failed after its release had proved itself, or on the way
    /// back: what it should have removed is then left to the next deploy.
    fn has_setbacks(&self) -> bool {
        let mut deploys = self.ends.iter().flatten().map(|view| &view.deploy);
        deploys.any(|deploy| !self.state_of(deploy).setbacks.is_empty())
    }
}
