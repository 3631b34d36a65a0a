//! A request and its copy, whose answers are compared when both are there.
//!
//! They end in any order. Whoever ends last has the comparison counted, so
//! neither waits for the other; a pair of which one never ends counts nothing.

use std::cell::Cell;
use std::sync::Arc;

use cutover_wire::table::Bodies;
use http::StatusCode;

use super::comparison::Comparison;
use super::digest::{Digest, Told};

/// The head of an answer, and when it came.
type Head = (StatusCode, u64);

/// See the module.
#[derive(Debug)]
pub(crate) struct Pair {
    comparison: Arc<Comparison>,
    worker: usize,
    bodies: Bodies,
    head: Cell<Option<Head>>,
    body: Cell<Option<Told>>,
}

impl Pair {
    /// A pair of which neither has ended.
    pub(super) fn new(comparison: Arc<Comparison>, worker: usize, bodies: Bodies) -> Self {
        Self {
            comparison,
            worker,
            bodies,
            head: Cell::new(None),
            body: Cell::new(None),
        }
    }

    /// Whether somebody wants to know the body of the answer.
    pub(crate) fn compares_bodies(&self) -> bool {
        self.bodies == Bodies::Compared
    }

    /// The head of the answer to the request itself came, so many microseconds
    /// after its own. To be told once, of the target's answer and not of ours.
    pub(crate) fn primary(&self, status: StatusCode, micros: u64) {
        match self.head.take() {
            Some(copy) => self.compare_heads((status, micros), copy),
            None => self.head.set(Some((status, micros))),
        }
    }

    /// The body of the answer to the request itself came wholly. To be told once,
    /// and not of one that was cut.
    pub(crate) fn primary_body(&self, digest: &Digest) {
        self.end_body(digest.told());
    }

    /// The copy got a whole answer.
    pub(super) fn copy(&self, status: StatusCode, micros: u64, digest: &Digest) {
        match self.head.take() {
            Some(primary) => self.compare_heads(primary, (status, micros)),
            None => self.head.set(Some((status, micros))),
        }
        self.end_body(digest.told());
    }

    fn compare_heads(&self, primary: Head, copy: Head) {
        self.comparison.heads(self.worker, primary, copy);
    }

    fn end_body(&self, told: Told) {
        if !self.compares_bodies() {
            return;
        }
        match self.body.take() {
            Some(other) => {
                if let Some(same) = told.is_same(other) {
                    self.comparison.bodies(self.worker, same);
                }
            }
            None => self.body.set(Some(told)),
        }
    }
}
