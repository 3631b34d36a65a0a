//! Measures how often the canary judge is wrong, and how soon it is right:
//! modelled deploys, seeded, each look drawn. Prints tables in Markdown.
//!
//!     bench-judge [RUNS]     runs of each cell, 10000 without it
//!
//! `docs/design/verdict.md` has the tables and says what they mean.

#![expect(clippy::print_stdout, reason = "the tables are the output")]

mod chance;
mod deploy;
mod tally;

use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};

use deploy::{Beside, Cell, Until};
use tally::Tally;

const TRAFFIC: [f64; 5] = [0.1, 1.0, 10.0, 100.0, 1000.0];
const BASES: [f64; 5] = [0.0, 0.001, 0.005, 0.01, 0.05];

/// Where a deploy ends by its requests, a tenth of a request in a second is no
/// other than one: the looks are as far apart as requests of the new release.
const PACES: [f64; 4] = [1.0, 10.0, 100.0, 1000.0];

/// The shares of each deploy: one share throughout, or stages.
const WHOLE: [&[f64]; 6] = [
    &[0.01, 0.01, 0.01],
    &[0.05, 0.05, 0.05],
    &[0.1, 0.1, 0.1],
    &[0.25, 0.25, 0.25],
    &[0.5, 0.5, 0.5],
    &[0.05, 0.25, 0.5],
];
const SINGLE: [&[f64]; 5] = [&[0.01], &[0.05], &[0.1], &[0.25], &[0.5]];

/// Error rates of the old and the new release that are to be told apart: five
/// times as many, and where the old one has none, some.
const WORSE: [(f64, f64); 6] = [
    (0.0, 0.005),
    (0.0, 0.01),
    (0.001, 0.005),
    (0.005, 0.025),
    (0.01, 0.05),
    (0.05, 0.25),
];

fn main() {
    let runs = std::env::args().nth(1).and_then(|n| n.parse().ok());
    let runs = runs.unwrap_or(10_000);
    println!("{runs} runs of each cell.\n");
    equal_arms(runs);
    equal_arms_by_requests(runs);
    worse(runs);
    bursts(runs);
    rejected(runs);
}

/// A cell with both releases at these rates until the deploy ends.
fn cell(traffic: f64, rates: (f64, f64), shares: &'static [f64], until: Until) -> Cell {
    Cell {
        traffic,
        old_rate: rates.0,
        new_rate: rates.1,
        shares,
        burst: 1,
        until,
    }
}

fn equal_arms(runs: u64) {
    println!("## Equal releases, a whole deploy of three stages of 10 minutes\n");
    println!("Each line is the worst of the traffics 0.1 to 1000 requests in a second.\n");
    println!(
        "| errors of both | shares | aborted | 20 requests, 1 % | good too soon | good | inconclusive |"
    );
    println!("|---|---|---|---|---|---|---|");
    for base in BASES {
        for shares in WHOLE {
            let cells = TRAFFIC.map(|traffic| cell(traffic, (base, base), shares, Until::Baked));
            let tallies = measure(&cells, runs, Beside::Fixed);
            println!(
                "| {} | {} | {:.2} % | {:.1} % | {} | {} | {} |",
                percent(base),
                names(shares),
                highest(&tallies, Tally::aborted),
                highest(&tallies, |t| t.percent(t.fixed.len() as u64)),
                tallies.iter().map(|t| t.good_too_soon).sum::<u64>(),
                range(&tallies, |t| t.percent(t.good)),
                range(&tallies, |t| t.percent(t.inconclusive)),
            );
        }
    }
    println!();
}

fn equal_arms_by_requests(runs: u64) {
    println!(
        "## Equal releases, aborted by 2,000 requests of the new one, however long that takes\n"
    );
    println!("| errors of both | {} |", SINGLE.map(names).join(" | "));
    println!("|---|---|---|---|---|---|");
    for base in BASES {
        let line = SINGLE.map(|shares| {
            let cells = PACES.map(|t| cell(t, (base, base), shares, Until::Requests(2_000)));
            let tallies = measure(&cells, runs, Beside::Fixed);
            format!("{:.2} %", highest(&tallies, Tally::aborted))
        });
        println!("| {} | {} |", percent(base), line.join(" | "));
    }
    println!();
}

fn worse(runs: u64) {
    println!("## Worse releases, aborted by 2,000 requests of the new one\n");
    println!(
        "The range over the traffics; the median of the requests of the new release until then; beside it one look at the end at 5 %.\n"
    );
    println!("| errors | share | aborted | median of requests | 20 requests, 1 % | one look |");
    println!("|---|---|---|---|---|---|");
    for rates in WORSE {
        for shares in SINGLE {
            let cells = PACES.map(|t| cell(t, rates, shares, Until::Requests(2_000)));
            let tallies = measure(&cells, runs, Beside::Once);
            println!(
                "| {} → {} | {} | {} | {} | {} | {} |",
                percent(rates.0),
                percent(rates.1),
                names(shares),
                range(&tallies, Tally::aborted),
                range(&tallies, |t| median(&t.ours)),
                range(&tallies, |t| t.percent(t.fixed.len() as u64)),
                range(&tallies, |t| t.percent(t.once)),
            );
        }
    }
    println!();
}

fn bursts(runs: u64) {
    println!("## Equal releases whose errors come together\n");
    println!("1 % errors, stages 5 25 50 % of 10 minutes, 10 and 100 requests in a second.\n");
    println!("| errors at once | aborted |");
    println!("|---|---|");
    for burst in [1, 2, 5, 10] {
        let cells = [10.0, 100.0].map(|traffic| Cell {
            burst,
            ..cell(traffic, (0.01, 0.01), WHOLE[5], Until::Baked)
        });
        let tallies = measure(&cells, runs, Beside::Fixed);
        println!("| {burst} | {} |", range(&tallies, Tally::aborted));
    }
    println!();
}

fn rejected(runs: u64) {
    println!("## The judges that were rejected, on the same deploys\n");
    println!("Stages 5 25 50 % of 10 minutes.\n");
    println!(
        "| errors | requests in a second | this judge | 20 requests, 1 % | Fisher at each look | Mann-Whitney over ten buckets |"
    );
    println!("|---|---|---|---|---|---|");
    let pairs = [(0.005, 0.005), (0.01, 0.01), (0.001, 0.005), (0.005, 0.025)];
    for rates in pairs {
        let cells = [1.0, 10.0].map(|t| cell(t, rates, WHOLE[5], Until::Baked));
        for (cell, t) in cells.iter().zip(measure(&cells, runs, Beside::All)) {
            let share = |of: &Vec<u64>| t.percent(of.len() as u64);
            println!(
                "| {} → {} | {} | {:.1} % | {:.1} % | {:.1} % | {:.1} % |",
                percent(rates.0),
                percent(rates.1),
                cell.traffic,
                t.aborted(),
                share(&t.fixed),
                share(&t.fisher),
                share(&t.buckets)
            );
        }
    }
}

/// The tallies of some cells, in their order, on as many threads as there are cores.
fn measure(cells: &[Cell], runs: u64, beside: Beside) -> Vec<Tally> {
    let next = AtomicUsize::new(0);
    let found = Mutex::new(Vec::new());
    let threads = std::thread::available_parallelism().map_or(1, usize::from);
    std::thread::scope(|scope| {
        for _ in 0..threads.min(cells.len()) {
            scope.spawn(|| {
                while let Some((at, cell)) = take(cells, &next) {
                    let tally = Tally::of(cell, runs, at as u64 + 1, beside);
                    if let Ok(mut found) = found.lock() {
                        found.push((at, tally));
                    }
                }
            });
        }
    });
    let mut found = found.into_inner().unwrap_or_default();
    found.sort_by_key(|&(at, _)| at);
    found.into_iter().map(|(_, tally)| tally).collect()
}

fn take<'a>(cells: &'a [Cell], next: &AtomicUsize) -> Option<(usize, &'a Cell)> {
    let at = next.fetch_add(1, Ordering::Relaxed);
    cells.get(at).map(|cell| (at, cell))
}

fn highest(tallies: &[Tally], of: impl Fn(&Tally) -> f64) -> f64 {
    tallies.iter().map(of).fold(0.0, f64::max)
}

/// The lowest and the highest.
fn range(tallies: &[Tally], of: impl Fn(&Tally) -> f64) -> String {
    let low = tallies.iter().map(&of).fold(f64::INFINITY, f64::min);
    match (format!("{low:.0}"), format!("{:.0}", highest(tallies, of))) {
        (low, high) if low == high => low,
        (low, high) => format!("{low} to {high}"),
    }
}

/// In the middle of those that were aborted; 0 if none was.
fn median(of: &[u64]) -> f64 {
    let mut sorted = of.to_vec();
    sorted.sort_unstable();
    sorted.get(sorted.len() / 2).map_or(0.0, |&n| n as f64)
}

fn percent(rate: f64) -> String {
    format!("{} %", (rate * 10_000.0).round() / 100.0)
}

fn names(shares: &[f64]) -> String {
    let mut names: Vec<_> = shares.iter().map(|s| format!("{:.0}", s * 100.0)).collect();
    names.dedup();
    format!("{} %", names.join(" "))
}
