//! What is promised of the canary judge, on fewer deploys than `make
//! bench-judge` takes. Chance is seeded, so a claim holds always or never; the
//! bounds leave room for what few runs can show: three standard deviations of
//! 300 runs are 3.8 points at 5 % and 5.2 points at 90 %.

mod chance;
mod deploy;
mod tally;

use deploy::{Beside, Cell, Until};
use tally::Tally;

const RUNS: u64 = 300;

fn measure(traffic: f64, rates: (f64, f64), shares: &'static [f64], until: Until) -> Tally {
    judged(traffic, rates, shares, until, Beside::Fixed)
}

fn judged(
    traffic: f64,
    rates: (f64, f64),
    shares: &'static [f64],
    until: Until,
    beside: Beside,
) -> Tally {
    let cell = Cell {
        traffic,
        old_rate: rates.0,
        new_rate: rates.1,
        shares,
        burst: 1,
        until,
    };
    Tally::of(&cell, RUNS, 7, beside)
}

#[test]
fn a_release_that_is_no_worse_is_seldom_aborted() {
    let (mut aborted, mut fixed) = (0, 0);
    for traffic in [1.0, 30.0] {
        for base in [0.0, 0.005, 0.01, 0.05] {
            for shares in [&[0.05, 0.25, 0.5] as &[f64], &[0.5]] {
                let tally = measure(traffic, (base, base), shares, Until::Baked);
                let percent = tally.aborted();
                assert!(
                    percent <= 5.0,
                    "{percent} % of {base} at {shares:?}, {traffic}/s"
                );
                assert_eq!(tally.good_too_soon, 0);
                aborted += tally.ours.len();
                fixed += tally.fixed.len();
            }
        }
    }
    // The fixed threshold on the same deploys.
    assert!(aborted * 10 < fixed, "{aborted} and {fixed}");
}

#[test]
fn five_times_the_errors_are_found_by_two_thousand_requests() {
    for rates in [(0.0, 0.01), (0.005, 0.025), (0.01, 0.05), (0.05, 0.25)] {
        for shares in [&[0.05] as &[f64], &[0.5]] {
            let tally = judged(30.0, rates, shares, Until::Requests(2_000), Beside::Once);
            let percent = tally.aborted();
            assert!(percent >= 90.0, "{percent} % of {rates:?} at {shares:?}");
            // There was that much to find.
            assert!(tally.percent(tally.once) >= 95.0);
        }
    }
}

#[test]
fn too_little_traffic_is_never_good() {
    let tally = measure(0.1, (0.0, 0.0), &[0.05, 0.25, 0.5], Until::Baked);
    assert_eq!((tally.good_too_soon, tally.ours.len()), (0, 0));
}

#[test]
fn where_both_fail_nothing_is_good() {
    let tally = measure(30.0, (0.05, 0.05), &[0.5], Until::Baked);
    assert!(
        tally.inconclusive > 280 && tally.good == 0,
        "{}",
        tally.inconclusive
    );
}

#[test]
fn a_test_that_is_not_made_for_many_looks_aborts_too_often() {
    let equal = (0.005, 0.005);
    let tally = judged(10.0, equal, &[0.05, 0.25, 0.5], Until::Baked, Beside::All);
    assert!(tally.percent(tally.fisher.len() as u64) > 10.0);
    assert!(tally.aborted() <= 5.0);
    // Buckets do not abort too often: they find too little.
    let worse = (0.001, 0.005);
    let tally = judged(10.0, worse, &[0.05, 0.25, 0.5], Until::Baked, Beside::All);
    assert!(tally.buckets.len() * 5 < tally.ours.len() * 4);
}
