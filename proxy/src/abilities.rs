//! What this proxy can do beyond what every proxy can.
//!
//! It is told in the status, and a table that needs more is refused: when it
//! is put, and when it is found on disk. A feature adds its ability here with
//! the change that makes it work, and not before.

use std::collections::BTreeSet;

use cutover_wire::table::{Ability, Table, TableProblem};

use crate::route::rule_problems;

/// What it can do besides exact hosts and `*`, prefixes, one serving pool with
/// least-requests balance, and the limits of a request: everything there is a
/// word for.
const ABILITIES: [Ability; 20] = Ability::ALL;

/// See the module.
pub(crate) fn abilities() -> BTreeSet<Ability> {
    BTreeSet::from(ABILITIES)
}

/// Why this proxy may not serve a table: its mistakes, and what it needs too much.
pub(crate) fn objections(table: &Table) -> Vec<TableProblem> {
    let mut found = table.problems();
    if found.is_empty() {
        // Only a table within its limits has as few expressions as can be compiled.
        found.extend(rule_problems(table));
    }
    found.extend(table.beyond(&abilities()));
    found
}

#[cfg(test)]
mod tests {
    use super::*;
    use cutover_wire::table::{Condition, Field, Match, Pool, Route, Rule, Split, Target};
    use std::collections::BTreeMap;

    #[test]
    fn a_rule_that_cannot_be_matched_is_an_objection() {
        let target = Target {
            id: "v1-0".to_owned(),
            address: ([127, 0, 0, 1], 1).into(),
        };
        let pools = BTreeMap::from([("v1".to_owned(), Pool::of(vec![target]))]);
        let hosts = vec!["a.example".to_owned()];
        let mut route = Route::new(hosts, "/", Split::all_to("v1"), pools);
        let when = vec![Condition {
            of: Field::Cookie("beta".to_owned()),
            is: Match::Regex("(a".to_owned()),
        }];
        let pool = "v1".to_owned();
        route.rules = vec![Rule { when, pool }];
        let table = Table {
            generation: 1,
            apps: BTreeMap::from([("shop".to_owned(), route)]),
            ..Table::default()
        };
        let found = objections(&table);
        let told = |problem: &TableProblem| problem.place == "apps.shop.rules.0.when";
        assert!(found.iter().any(told), "{found:?}");
    }
}
