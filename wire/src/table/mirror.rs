//! Copies of requests, whose answers no user sees.

use serde::{Deserialize, Serialize};

use super::fault::Faults;
use cutover_plan::spec::Weight;

use super::pool::is_default;
use super::split::WHOLE;

/// Copies that may wait: beyond it memory is spent on what nobody waits for.
const MAX_QUEUE: u32 = 10_000;

/// Sends copies of safe requests to a pool. A copy that finds the queue full
/// is not made; a request never waits for its copy.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Mirror {
    /// The pool that gets the copies.
    pub pool: String,
    /// Of how many requests a copy is made.
    pub share: Weight,
    /// Copies that may wait.
    pub max_queue: u32,
    /// Whether the bodies of both answers are compared too.
    #[serde(default, skip_serializing_if = "is_default")]
    pub bodies: Bodies,
}

/// What is made of the bodies of two answers.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Bodies {
    /// Nothing.
    #[default]
    Ignored,
    /// They are compared, as far as they are short enough.
    Compared,
}

impl Mirror {
    pub(super) fn check(&self, place: &str, faults: &mut Faults) {
        faults.within(&format!("{place}.share"), self.share.0, 1, WHOLE);
        faults.within(&format!("{place}.max_queue"), self.max_queue, 1, MAX_QUEUE);
    }
}
