//! Guesses which key a person meant.

use std::rc::Rc;

use super::Known;

/// Longer names are not compared: no key is that long, and the work grows with the square.
const COMPARED: usize = 64;

/// The name that is a slip of the pen away from `text`.
pub(crate) fn nearest<'n>(text: &str, names: impl Iterator<Item = &'n str>) -> Option<&'n str> {
    let text: Vec<char> = text.to_lowercase().chars().take(COMPARED).collect();
    let near = |name: &'n str| {
        let letters: Vec<char> = name.chars().take(COMPARED).collect();
        let slips = (text.len().max(letters.len()) / 3).max(1);
        let distance = distance(&text, &letters);
        (distance <= slips).then_some((distance, name))
    };
    names.filter_map(near).min().map(|(_, name)| name)
}

/// What to write instead of an unknown key of `table`.
pub(super) fn hint(known: &Known, table: &Rc<str>, key: &str) -> Option<String> {
    let here = known.get(table);
    if let Some(name) = nearest(key, here.into_iter().flatten().copied()) {
        return Some(format!("did you mean {name}?"));
    }
    // In TOML a key belongs to the table named above it, which is easily forgotten.
    let elsewhere = known.iter().find(|(_, keys)| keys.contains(key));
    if let Some((table, _)) = elsewhere {
        return Some(match &**table {
            "" => format!("{key} belongs above the first [table]"),
            table => format!("{key} belongs in [{table}]"),
        });
    }
    let names: Vec<&str> = here.into_iter().flatten().copied().collect();
    (!names.is_empty()).then(|| format!("known are {}", names.join(", ")))
}

/// How many letters are added, left out, changed or swapped with their neighbour.
fn distance(left: &[char], right: &[char]) -> usize {
    let mut above = vec![0; right.len() + 1];
    let mut row: Vec<usize> = (0..=right.len()).collect();
    for (i, l) in left.iter().enumerate() {
        let two_above = std::mem::replace(&mut above, std::mem::take(&mut row));
        row.push(i + 1);
        for (j, r) in right.iter().enumerate() {
            let change = above[j] + usize::from(l != r);
            let mut cost = change.min(above[j + 1] + 1).min(row[j] + 1);
            if i > 0 && j > 0 && *l == right[j - 1] && left[i - 1] == *r {
                cost = cost.min(two_above[j - 1] + 1);
            }
            row.push(cost);
        }
    }
    row[right.len()]
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(text: &str, expected: Option<&str>) {
        let names = ["image", "domains", "port", "stop_grace", "drain_deadline"];
        assert_eq!(nearest(text, names.into_iter()), expected, "{text}");
    }

    #[test]
    fn a_slip_of_the_pen_finds_the_name() {
        check("imgae", Some("image"));
        check("domain", Some("domains"));
        check("Port", Some("port"));
        check("stopgrace", Some("stop_grace"));
        check("drain-deadline", Some("drain_deadline"));
        check("replicas", None);
        check("", None);
        check(&"x".repeat(10_000), None);
    }
}
