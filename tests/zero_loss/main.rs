//! No request is lost, whatever is done to the proxy and to those behind it.
//!
//! The real proxy, real targets that journal what they are asked, and clients
//! of every kind that never ask twice. Each scenario runs with three seeds,
//! which decide when things happen, how long users think and what they send.
//! A run prints one line: requests, what was lost, what came twice.
//!
//! A scenario whose ability the proxy lacks fails. To look for one fault,
//! `CUTOVER_ZERO_LOSS_WITHOUT='WebSocket Events'` leaves kinds of clients out,
//! and the run's line says so.

#![cfg(test)]

mod failures;
mod kill;
mod stage;
mod switches;
mod upgrades;
mod verdict;

use std::io::Write as _;

use cutover_wire::table::Ability;
use stage::{Opening, Stage};

/// Enough that moments differ, few enough for every run of the tests.
const SEEDS: [u64; 3] = [1, 2, 3];

/// Runs a scenario with each seed.
fn check(opening: &Opening, scenario: impl AsyncFn(&mut Stage) -> anyhow::Result<()>) {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .unwrap();
    let mut wrong = Vec::new();
    for seed in SEEDS {
        let name = format!("{} seed {seed}", opening.name);
        let run = runtime.block_on(stage::run(opening, seed, &scenario));
        let line = match &run {
            Ok(verdict) => verdict.to_string(),
            Err(error) => format!("not run: {error:#}"),
        };
        // Past the harness, which hides what a good test prints.
        let _ = writeln!(std::io::stderr(), "zero loss, {name}: {line}");
        match run {
            Ok(verdict) => wrong.extend(
                verdict
                    .problems()
                    .map(|problem| format!("{name}: {problem}")),
            ),
            Err(error) => wrong.push(format!("{name}: {error:#}")),
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn switching_back_and_forth_loses_nothing() {
    check(&Opening::new("switch"), switches::switch);
}

#[test]
fn changing_weights_loses_nothing() {
    let opening = Opening::new("weights").needs(Ability::Weights);
    check(&opening, switches::weights);
}

#[test]
fn a_rollback_in_the_middle_of_a_drain_loses_nothing() {
    check(&Opening::new("rollback"), switches::rollback);
}

#[test]
fn parking_and_letting_go_loses_nothing() {
    let opening = Opening::new("park").needs(Ability::Park);
    check(&opening, switches::park);
}

#[test]
fn a_wrong_table_loses_and_changes_nothing() {
    check(&Opening::new("table rejected"), failures::rejected);
}

#[test]
fn an_agent_that_hangs_up_loses_nothing() {
    check(&Opening::new("control cut"), failures::control_cut);
}

#[test]
fn a_target_that_closes_its_connections_at_once_loses_nothing() {
    let opening = Opening::new("closing target")
        .keep_alive_ms(1)
        .targets_fail();
    check(&opening, failures::closing);
}

#[test]
fn a_target_of_http2_that_closes_its_connections_without_a_word_loses_nothing() {
    let opening = Opening::new("closing target of HTTP/2")
        .http2()
        .leave_after_at_most(6)
        .targets_fail();
    check(&opening, failures::closing);
}

#[test]
fn a_killed_target_loses_only_what_it_had() {
    let opening = Opening::new("target killed").targets(2).targets_fail();
    check(&opening, failures::killed);
}

#[test]
fn a_new_proxy_that_takes_over_loses_nothing() {
    let opening = Opening::new("takeover").option("--takeover");
    check(&opening, upgrades::takeover);
}

#[test]
fn two_proxies_on_a_socket_of_systemd_lose_nothing() {
    let opening = Opening::new("hand-over")
        .held_by_systemd()
        .option("--takeover");
    check(&opening, upgrades::hand_over);
}
