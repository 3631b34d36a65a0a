//! The real engine over a modelled world: containers, traffic, users, GitHub
//! and a disk, on a paused clock.
//!
//! Every effect of a run is counted. A run without faults tells how many there
//! are; then each is interrupted before and after it was made, once more during
//! the recovery, made twice, and made to fail; its maker is away for a while,
//! answers late, or its answer is lost; the engine of containers stands still after
//! it; the proxy is upgraded and counts anew.
//! Whatever happens, the design's invariants must hold: what must never be is
//! seen as it happens ([`world`] and [`users`]), the rest at the end ([`check`]).
//!
//! Two things are left out, because they would show the same again. The first
//! deploy is the same in all scenarios of a strategy, so faults are tried in it
//! in a few ([`scenario::Scenario::whole`]). A second crash is tried in some
//! scenarios only, and at every place of the recovery in three of them
//! ([`simulated::TWICE_EVERYWHERE`], [`simulated::TWICE`]).
//!
//! A failure prints the scenario and the faults; `CUTOVER_SIMULATE='…'` with
//! that line runs it alone, with its story.

#![cfg(test)]

mod call;
mod check;
mod drivers;
mod explore;
mod faults;
mod run;
mod scenario;
mod simulated;
mod users;
mod world;
