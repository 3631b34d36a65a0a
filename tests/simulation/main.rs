//! The real engine over a modelled world: containers, traffic, users, GitHub
//! and a disk, on a paused clock.
//!
//! Every effect of a run is counted. A run without faults tells how many there
//! are; then each is interrupted before and after it was made, once more
//! during the recovery, made twice, and made to fail. Whatever happens, the
//! design's invariants must hold (see [`check`]).
//!
//! A failure prints the scenario and the faults; `CUTOVER_SIMULATE='…'` with
//! that line runs it alone, with its story.

#![cfg(test)]

mod check;
mod drivers;
mod faults;
mod run;
mod scenario;
mod world;

use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};

use faults::{Fault, Faults};
use run::{Report, simulate};
use scenario::{SCENARIOS, SENT_TO_STANDBY, Scenario};

/// The effects after a first crash in which a second one is tried: longer than
/// any recovery needs to reach new ground.
const RECOVERY: usize = 14;

/// Runs every set of faults of a scenario, on two threads, and tells what was covered.
fn explore(name: &str, what: &str, sets: Vec<Faults>) {
    let scenario = Scenario::find(name);
    let next = AtomicUsize::new(0);
    let hit = AtomicUsize::new(0);
    let failures = Mutex::new(Vec::new());
    std::thread::scope(|scope| {
        for _ in 0..2 {
            scope.spawn(|| {
                loop {
                    let index = next.fetch_add(1, Ordering::Relaxed);
                    let Some(faults) = sets.get(index) else {
                        return;
                    };
                    let report = simulate(scenario, faults);
                    hit.fetch_add(report.hit, Ordering::Relaxed);
                    let problems = check::problems(scenario, faults, &report);
                    if !problems.is_empty() {
                        failures.lock().unwrap().push((faults.clone(), problems));
                    }
                }
            });
        }
    });
    let hit = hit.into_inner();
    let wanted: usize = sets.iter().map(|faults| faults.points.len()).sum();
    println!(
        "{name}: {what}: {} runs, {hit} of {wanted} faults hit",
        sets.len()
    );
    let failures = failures.into_inner().unwrap();
    if let Some((faults, problems)) = failures.first() {
        panic!(
            "{} of {} runs ended wrong, the first:\n  {}\nrun it alone: CUTOVER_SIMULATE='{name} {faults}' cargo test -p cutover-tests --test simulation replay -- --nocapture",
            failures.len(),
            sets.len(),
            problems.join("\n  "),
        );
    }
    // A second crash may lie behind the end of a run; a first may not.
    assert!(
        hit >= sets.len(),
        "{name}: {what}: {hit} faults hit in {} runs",
        sets.len()
    );
}

fn calm(name: &str) -> Report {
    let scenario = Scenario::find(name);
    let faults = Faults::default();
    let report = simulate(scenario, &faults);
    let problems = check::problems(scenario, &faults, &report);
    assert!(
        problems.is_empty(),
        "{name}: {problems:#?}\n{}",
        report.story.join("\n")
    );
    report
}

fn each(count: usize, fault: Fault) -> Vec<Faults> {
    (0..count).map(|at| Faults::one(at, fault)).collect()
}

/// The same for the effects that have an outside: a write has none, so there
/// the disk's model makes these faults into a crash before the write, one after
/// it, or nothing (see [`drivers`]). A crash at each effect is tried anyway.
fn each_outside(report: &Report, fault: Fault) -> Vec<Faults> {
    let outside = |at: &usize| report.makers[*at] != "disk";
    let all = (0..report.effects).filter(outside);
    all.map(|at| Faults::one(at, fault)).collect()
}

#[test]
fn every_scenario_ends_right_without_faults() {
    for scenario in SCENARIOS {
        let report = calm(scenario.name);
        println!(
            "{}: {} effects, {} requests",
            scenario.name, report.effects, report.requests
        );
    }
}

#[test]
fn a_release_that_serves_against_the_journal_is_not_stopped() {
    let report = simulate(&SENT_TO_STANDBY, &Faults::default());
    let problems = check::problems(&SENT_TO_STANDBY, &Faults::default(), &report);
    assert!(
        problems.is_empty(),
        "{problems:#?}\n{}",
        report.story.join("\n")
    );
}

#[test]
fn a_crash_before_or_after_any_effect_ends_right() {
    for scenario in SCENARIOS {
        let count = calm(scenario.name).effects;
        explore(
            scenario.name,
            "crash before",
            each(count, Fault::CrashBefore),
        );
        explore(scenario.name, "crash after", each(count, Fault::CrashAfter));
    }
}

#[test]
fn a_second_crash_during_the_recovery_ends_right() {
    for name in ["deploy", "bad under traffic", "rollback"] {
        let count = calm(name).effects;
        let mut sets = Vec::new();
        for first in 0..count {
            for second in first + 1..=first + RECOVERY {
                sets.push(Faults::two(
                    (first, Fault::CrashAfter),
                    (second, Fault::CrashBefore),
                ));
            }
        }
        explore(name, "crash, and crash again", sets);
    }
}

#[test]
fn every_effect_made_twice_changes_nothing() {
    for scenario in SCENARIOS {
        let calm = calm(scenario.name);
        explore(
            scenario.name,
            "made twice",
            each_outside(&calm, Fault::Twice),
        );
    }
}

#[test]
fn every_effect_failing_leaves_a_good_release_serving_and_tells_the_truth() {
    for scenario in SCENARIOS {
        let calm = calm(scenario.name);
        explore(scenario.name, "failing", each_outside(&calm, Fault::Fail));
        explore(
            scenario.name,
            "not answering for a while",
            each_outside(&calm, Fault::Unavailable),
        );
        explore(
            scenario.name,
            "done, but the answer is lost",
            each_outside(&calm, Fault::AnswerLost),
        );
    }
}

#[test]
fn every_answer_late_ends_right() {
    for scenario in SCENARIOS {
        let calm = calm(scenario.name);
        explore(scenario.name, "late", each_outside(&calm, Fault::Late));
    }
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
    let problems = check::problems(scenario, &faults, &report);
    assert!(problems.is_empty(), "{problems:#?}");
}
