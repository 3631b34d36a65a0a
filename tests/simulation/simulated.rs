//! Every fault at every effect. `make test` runs these beside all other tests, and
//! knows them by the name of this module.

use crate::explore::{self, each, each_of, each_outside, explore};
use crate::faults::{self, Fault, Faults};
use crate::run::simulate;
use crate::{check, scenario};

/// Scenarios in which a second crash is tried at every place of the recovery from
/// every first one: a deploy that goes well, one that is taken back, a rollback.
const TWICE_EVERYWHERE: [&str; 3] = ["deploy", "bad under traffic", "rollback"];

/// The effects after a first crash in which the second one is tried there: longer
/// than any recovery needs to reach new ground.
const RECOVERY: usize = 14;

/// Scenarios in which it is tried at some places: of each strategy one that goes
/// well and one that is taken back in its middle.
const TWICE: [&str; 10] = [
    "canary",
    "canary, aborted at half",
    "rolling",
    "rolling, crashes under its share",
    "in place",
    "in place, bad under traffic",
    "shadow",
    "shadow, bad for copies",
    "shown before it has users, from the first",
    "held, and let go on",
];

/// These places, counted from the first crash: right away, once the step is begun
/// anew, once it is done, and once the recovery is over.
const SOME: [usize; 4] = [1, 2, 4, 9];

#[test]
fn every_scenario_ends_right_without_faults() {
    let mut wrong = Vec::new();
    for scenario in scenario::all().chain(scenario::without_faults()) {
        let report = simulate(scenario, &Faults::default());
        println!(
            "{}: {} effects, {} requests",
            scenario.name, report.effects, report.requests
        );
        for problem in check::problems(scenario, &Faults::default(), &report) {
            wrong.push(format!("{}: {problem}", scenario.name));
        }
    }
    assert!(wrong.is_empty(), "{wrong:#?}");
}

#[test]
fn a_crash_before_any_effect_ends_right() {
    explore("crash before", scenario::all(), |calm| {
        each(calm, Fault::CrashBefore)
    });
}

#[test]
fn a_crash_after_any_effect_ends_right() {
    explore("crash after", scenario::all(), |calm| {
        each(calm, Fault::CrashAfter)
    });
}

#[test]
fn a_second_crash_during_the_recovery_ends_right() {
    let everywhere = TWICE_EVERYWHERE.map(scenario::Scenario::find);
    explore("crash, and crash again", everywhere, |calm| {
        explore::twice(calm, 1..=RECOVERY)
    });
    let some = TWICE.map(scenario::Scenario::find);
    explore("crash, and crash again", some, |calm| {
        explore::twice(calm, SOME)
    });
}

#[test]
fn every_effect_made_twice_changes_nothing() {
    explore("made twice", scenario::all(), |calm| {
        each_outside(calm, Fault::Twice)
    });
}

#[test]
fn every_effect_failing_leaves_a_good_release_serving_and_tells_the_truth() {
    explore("failing", scenario::all(), |calm| {
        each_outside(calm, Fault::Fail)
    });
}

#[test]
fn every_driver_that_is_away_for_a_while_ends_right() {
    explore("not answering for a while", scenario::all(), |calm| {
        each_outside(calm, Fault::Unavailable)
    });
}

#[test]
fn every_answer_that_is_lost_ends_right() {
    explore("done, but the answer is lost", scenario::all(), |calm| {
        each_outside(calm, Fault::AnswerLost)
    });
}

#[test]
fn every_answer_late_ends_right() {
    explore("late", scenario::all(), |calm| {
        each_outside(calm, Fault::Late)
    });
}

#[test]
fn no_pause_of_the_engine_is_held_against_a_release() {
    explore("standing still", scenario::all(), |calm| {
        each_of(calm, "engine", Fault::StandsStill)
    });
}

#[test]
fn every_upgrade_of_the_proxy_in_between_ends_right() {
    explore("the proxy counts anew", scenario::all(), |calm| {
        each_outside(calm, Fault::AnewProxy)
    });
}

/// Runs what `CUTOVER_SIMULATE` names, with its story; nothing without it.
#[test]
fn replay() {
    let Ok(line) = std::env::var("CUTOVER_SIMULATE") else {
        return;
    };
    let (scenario, faults) = faults::parse(&line);
    let report = simulate(scenario, &faults);
    println!("{}", report.story.join("\n"));
    for end in &report.ends {
        println!("{end:?}");
    }
    let problems = check::problems(scenario, &faults, &report);
    assert!(problems.is_empty(), "{problems:#?}");
}
