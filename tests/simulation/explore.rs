//! Running a scenario with each fault at each of its effects, and telling what
//! was covered.

use std::collections::BTreeMap;
use std::ops::Range;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};

use crate::check;
use crate::faults::{Fault, Faults};
use crate::run::simulate;
use crate::scenario::Scenario;

/// What a run without faults tells.
#[derive(Debug)]
pub(crate) struct Calm {
    /// Who makes each of its effects.
    makers: Vec<&'static str>,
    /// The first effect that is its own.
    begin: usize,
}

impl Calm {
    fn effects(&self) -> Range<usize> {
        self.begin..self.makers.len()
    }
}

/// The run of a scenario without faults; made once for all tests.
pub(crate) fn calm(scenario: &'static Scenario) -> Arc<Calm> {
    static KNOWN: Mutex<BTreeMap<&str, Arc<Calm>>> = Mutex::new(BTreeMap::new());
    let mut known = KNOWN.lock().unwrap();
    let made = known.entry(scenario.name).or_insert_with(|| {
        let report = simulate(scenario, &Faults::default());
        Arc::new(Calm {
            makers: report.makers,
            begin: if scenario.whole { 0 } else { report.first },
        })
    });
    Arc::clone(made)
}

/// A fault at each effect.
pub(crate) fn each(calm: &Calm, fault: Fault) -> Vec<Faults> {
    calm.effects().map(|at| Faults::one(at, fault)).collect()
}

/// The same for the effects that have an outside: a write has none, so there
/// the disk's model makes these faults into a crash before the write, one after
/// it, or nothing (see [`crate::drivers`]). A crash at each effect is tried anyway.
pub(crate) fn each_outside(calm: &Calm, fault: Fault) -> Vec<Faults> {
    let outside = |at: &usize| calm.makers[*at] != "disk";
    let all = calm.effects().filter(outside);
    all.map(|at| Faults::one(at, fault)).collect()
}

/// A fault at each effect of one maker.
pub(crate) fn each_of(calm: &Calm, maker: &str, fault: Fault) -> Vec<Faults> {
    let made = |at: &usize| calm.makers[*at] == maker;
    let all = calm.effects().filter(made);
    all.map(|at| Faults::one(at, fault)).collect()
}

/// A crash at each effect, and another one at these places behind it.
pub(crate) fn twice(calm: &Calm, behind: impl IntoIterator<Item = usize> + Clone) -> Vec<Faults> {
    let all = calm.effects().flat_map(|first| {
        let seconds = behind.clone().into_iter();
        seconds.map(move |second| {
            let second = (first + second, Fault::CrashBefore);
            Faults::two((first, Fault::CrashAfter), second)
        })
    });
    all.collect()
}

/// How the runs of one scenario went.
#[derive(Default)]
struct Tally {
    runs: usize,
    hit: usize,
    wanted: usize,
    wrong: usize,
    first: Option<(Faults, Vec<String>)>,
}

/// Runs that end wrong before the rest is left out: more tell nothing new, and
/// where deploys never end each takes its time.
const ENOUGH: usize = 40;

/// Runs every set of faults of these scenarios, on two threads, and tells how
/// many were hit. Of each scenario the first run that ended wrong is shown.
pub(crate) fn explore(
    what: &str,
    scenarios: impl IntoIterator<Item = &'static Scenario>,
    sets: impl Fn(&Calm) -> Vec<Faults>,
) {
    let mut jobs = Vec::new();
    for scenario in scenarios {
        let sets = sets(&calm(scenario)).into_iter();
        jobs.extend(sets.map(|faults| (scenario, faults)));
    }
    let (next, all_wrong) = (AtomicUsize::new(0), AtomicUsize::new(0));
    let tallies: Mutex<BTreeMap<&str, Tally>> = Mutex::default();
    std::thread::scope(|scope| {
        for _ in 0..2 {
            scope.spawn(|| {
                while let Some((scenario, faults)) = jobs.get(next.fetch_add(1, Ordering::Relaxed))
                {
                    let report = simulate(scenario, faults);
                    let problems = check::problems(scenario, faults, &report);
                    let mut tallies = tallies.lock().unwrap();
                    let tally = tallies.entry(scenario.name).or_default();
                    tally.runs += 1;
                    tally.hit += report.hit;
                    tally.wanted += faults.points.len();
                    if !problems.is_empty() {
                        tally.wrong += 1;
                        if all_wrong.fetch_add(1, Ordering::Relaxed) >= ENOUGH {
                            return;
                        }
                        tally.first.get_or_insert((faults.clone(), problems));
                    }
                }
            });
        }
    });
    let tallies = tallies.into_inner().unwrap();
    let sum = |count: fn(&Tally) -> usize| tallies.values().map(count).sum::<usize>();
    println!(
        "{what}: {} scenarios, {} runs, {} of {} faults hit",
        tallies.len(),
        sum(|tally| tally.runs),
        sum(|tally| tally.hit),
        sum(|tally| tally.wanted),
    );
    let mut wrong = String::new();
    for (name, tally) in &tallies {
        if let Some((faults, problems)) = &tally.first {
            wrong += &format!(
                "{} of {} runs ended wrong, the first:\n  {}\nrun it alone: CUTOVER_SIMULATE='{name} {faults}' cargo test -p cutover-tests --test simulation replay -- --nocapture\n",
                tally.wrong,
                tally.runs,
                problems.join("\n  "),
            );
        }
        // A second crash may lie behind the end of a run; a first may not.
        if tally.hit < tally.runs {
            wrong += &format!("{name}: {} faults hit in {} runs\n", tally.hit, tally.runs);
        }
    }
    assert!(wrong.is_empty(), "{what}\n{wrong}");
}
