//! The domain of Cutover, pure: what an app is, what a deploy will do, how far
//! it is, and whether a release is good.
//!
//! Nothing here reads a clock, a file, the environment or chance: all of it
//! comes in as arguments, so every decision can be tested and replayed.
//!
//! In reading order:
//! [`spec`] (what the host's configuration says) and [`observed`] (what the
//! world looks like) are [`compile`]d to a [`plan`] of [`step`]s, which
//! [`lint`] proves sound; [`event`]s fold to a [`state`], which says what comes
//! next; [`verdict`] judges a release under traffic; [`history`] keeps what
//! the deploys of an app taught about its [`release`]s; [`windows`] say when
//! a deploy may begin.

pub mod compile;
pub mod event;
pub mod history;
pub mod id;
pub mod lint;
pub mod observed;
pub mod outcome;
pub mod plan;
pub mod release;
pub mod spec;
pub mod state;
pub mod step;
pub mod traffic;
pub mod verdict;
pub mod windows;
