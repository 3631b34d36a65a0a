//! What this proxy can do beyond what every proxy can.
//!
//! It is told in the status, and a table that needs more is refused: when it
//! is put, and when it is found on disk. A feature adds its ability here with
//! the change that makes it work, and not before.

use std::collections::BTreeSet;

use cutover_wire::table::{Ability, Table, TableProblem};

/// What it can do: nothing yet but exact hosts and `*`, prefixes, one serving
/// pool with least-requests balance, and the limits of a request.
const ABILITIES: [Ability; 0] = [];

/// See the module.
pub(crate) fn abilities() -> BTreeSet<Ability> {
    BTreeSet::from(ABILITIES)
}

/// Why this proxy may not serve a table: its mistakes, and what it needs too much.
pub(crate) fn objections(table: &Table) -> Vec<TableProblem> {
    let mut found = table.problems();
    found.extend(table.beyond(&abilities()));
    found
}
