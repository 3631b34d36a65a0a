//! `cutover-proxy check FILE`: what is wrong with a table, for a person to read.
//!
//! The file is a table's JSON, alone or as the control socket tells it, or a file
//! of the state directory. It judges with what the proxy judges with when a
//! table is put, asks no running proxy and changes nothing.

use std::io::{self, Write};
use std::path::Path;
use std::process::ExitCode;

use cutover_wire::table::{Table, TableProblem};

use crate::abilities::{abilities, objections};
use crate::store::{
    PartError, StoreError, Stored, chain, is_ours, read_bytes, read_form, read_json,
};

/// Characters of a mistake that are shown: the reader of JSON repeats what it
/// does not know, however long it is.
const MAX_SHOWN: usize = 500;

/// How a check came out.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Checked {
    /// This proxy can serve the table.
    Sound,
    /// The table, or some apps of it, it cannot.
    Wrong,
    /// The file could not be read, or is no table.
    Unreadable,
}

impl From<Checked> for ExitCode {
    /// 0, 1 and 2; as for other programs, 2 is also a wrong command line.
    fn from(checked: Checked) -> Self {
        match checked {
            Checked::Sound => Self::SUCCESS,
            Checked::Wrong => Self::from(1),
            Checked::Unreadable => Self::from(2),
        }
    }
}

/// Checks a file and says what is wrong with it.
pub fn check(file: &Path, out: &mut impl Write) -> io::Result<Checked> {
    match read(file) {
        Ok(stored) => judge(&stored, out),
        Err(error) => {
            writeln!(out, "{}: {}", file.display(), shown(&chain(&error)))?;
            let hint = "the file must be a table as JSON, or `table` of the state directory";
            writeln!(out, "    hint: {hint}")?;
            Ok(Checked::Unreadable)
        }
    }
}

fn read(file: &Path) -> Result<Stored, StoreError> {
    let bytes = read_bytes(file)?;
    let stored = if is_ours(&bytes) {
        read_form(&bytes)
    } else {
        match unwrapped(&bytes) {
            Some(table) => read_json(&table),
            None => read_json(&bytes),
        }
    };
    stored.map_err(|source| StoreError::Form {
        path: file.to_owned(),
        source,
    })
}

/// The table in a reply of the control socket.
fn unwrapped(bytes: &[u8]) -> Option<Vec<u8>> {
    let reply: serde_json::Value = serde_json::from_slice(bytes).ok()?;
    let reply = reply.as_object().filter(|reply| reply.len() == 1)?;
    serde_json::to_vec(reply.get("table")?).ok()
}

fn judge(stored: &Stored, out: &mut impl Write) -> io::Result<Checked> {
    let table = &stored.table;
    let apps = table.apps.len() + stored.broken.len();
    writeln!(out, "generation {}, apps: {apps}", table.generation)?;
    let needs: Vec<String> = table.needs().iter().map(ToString::to_string).collect();
    if !needs.is_empty() {
        writeln!(out, "needs of a proxy: {}", needs.join(", "))?;
    }
    let mut mistakes = 0_usize;
    for (app, error) in &stored.broken {
        mistakes += 1;
        let (place, fault) = (format!("apps.{app}"), chain(error));
        tell(out, &place, &fault, Some(&broken_hint(error)))?;
    }
    let beyond = table.beyond(&abilities());
    for problem in objections(table) {
        mistakes += 1;
        let hint = if beyond.contains(&problem) {
            Some("leave it out, or upgrade the proxy".to_owned())
        } else {
            hint(table, &problem)
        };
        tell(out, &problem.place, &problem.fault, hint.as_deref())?;
    }
    match mistakes {
        0 => writeln!(out, "sound: this proxy can serve it")?,
        1 => writeln!(out, "1 mistake")?,
        many => writeln!(out, "{many} mistakes")?,
    }
    Ok(match mistakes {
        0 => Checked::Sound,
        _ => Checked::Wrong,
    })
}

fn tell(out: &mut impl Write, place: &str, fault: &str, hint: Option<&str>) -> io::Result<()> {
    writeln!(out, "{}: {}", shown(place), shown(fault))?;
    match hint {
        Some(hint) => writeln!(out, "    hint: {}", shown(hint)),
        None => Ok(()),
    }
}

fn broken_hint(error: &PartError) -> String {
    match error {
        PartError::Checksum => "the file was damaged; at its start the proxy takes this app from table.previous, and the agent puts it again",
        PartError::Json(_) => "a misspelt key, or one of a newer version: upgrade the proxy then",
        PartError::Wrong(_) | PartError::Claimed => "correct it and put it again",
    }
    .to_owned()
}

/// What to do about a mistake, by where it is; none where the fault says it.
fn hint(table: &Table, problem: &TableProblem) -> Option<String> {
    let place = problem.place.as_str();
    let part = place.rsplit('.').next().unwrap_or(place);
    let text = match part {
        "hosts" | "redirects" => {
            "hosts are `shop.example.com`, `*.example.com` or `*`; two apps share one only under different path prefixes"
        }
        "path_prefix" => "a prefix is `/`, or whole segments such as `/api`",
        "serving" | "pool" => return pools_hint(table, place),
        "targets" => "give the surplus targets a pool of their own",
        "bytes of JSON" | "table" => "divide the apps among several proxies",
        _ => return None,
    };
    Some(text.to_owned())
}

/// Names the pools of the app in which a place is.
fn pools_hint(table: &Table, place: &str) -> Option<String> {
    let inside = place.strip_prefix("apps.")?;
    // A name may have points, so the longest that fits is the app's.
    let fits = |app: &&String| {
        inside
            .strip_prefix(app.as_str())
            .is_some_and(|rest| rest.starts_with('.'))
    };
    let app = table.apps.keys().filter(fits).max_by_key(|app| app.len())?;
    let pools: Vec<&str> = table.apps[app].pools.keys().map(String::as_str).collect();
    Some(match pools.as_slice() {
        [] => format!("{app} has no pools"),
        pools => format!("the pools of {app} are {}", pools.join(", ")),
    })
}

/// A text as it can go to a terminal: without control characters, not endless.
fn shown(text: &str) -> String {
    let plain = |c: char| if c.is_control() { '\u{FFFD}' } else { c };
    let mut shown: String = text.chars().take(MAX_SHOWN).map(plain).collect();
    if text.chars().nth(MAX_SHOWN).is_some() {
        shown.push('…');
    }
    shown
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::{Value, json};

    fn table() -> Value {
        let pool = json!({"targets": [{"id": "v1-0", "address": "127.0.0.1:8080"}]});
        let app = |host: &str| json!({"hosts": [host], "path_prefix": "/", "serving": "v1", "pools": {"v1": pool}});
        json!({"generation": 5, "apps": {"api": app("api.example"), "shop": app("shop.example")}})
    }

    /// What a file with these bytes comes to, and what is said of it.
    fn checked(bytes: &[u8]) -> (Checked, String) {
        let file = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(file.path(), bytes).unwrap();
        let mut out = Vec::new();
        let checked = check(file.path(), &mut out).unwrap();
        (checked, String::from_utf8(out).unwrap())
    }

    fn check_table(change: impl Fn(&mut Value), expected: Checked, said: &[&str]) {
        let mut table = table();
        change(&mut table);
        let (found, text) = checked(table.to_string().as_bytes());
        assert_eq!(found, expected, "{text}");
        for said in said {
            assert!(text.contains(said), "{said:?} is not in:\n{text}");
        }
    }

    #[test]
    fn a_sound_table_is_sound_in_every_form() {
        check_table(|_| {}, Checked::Sound, &["generation 5, apps: 2", "sound"]);
        let reply = json!({"table": table()});
        assert_eq!(checked(reply.to_string().as_bytes()).0, Checked::Sound);
        let directory = tempfile::tempdir().unwrap();
        let store = crate::store::Store::open(directory.path()).unwrap();
        store
            .save(&serde_json::from_value(table()).unwrap())
            .unwrap();
        let bytes = std::fs::read(directory.path().join("table")).unwrap();
        assert_eq!(checked(&bytes).0, Checked::Sound);
    }

    #[test]
    fn every_mistake_is_told_with_its_place_and_a_hint() {
        check_table(
            |table| {
                table["apps"]["api"]["serving"] = json!("v9");
                table["apps"]["api"]["pools"]["v2"] = json!({"targets": []});
                table["apps"]["shop"]["hosts"] = json!(["Shop.example"]);
                table["connections"] = json!({"per_address": 0});
            },
            Checked::Wrong,
            &[
                "apps.api.serving: there is no pool \"v9\"\n    hint: the pools of api are v1, v2",
                "apps.shop.hosts: \"Shop.example\" is no lower-case host",
                "connections.per_address: 0 must be",
            ],
        );
    }

    #[test]
    fn what_an_app_has_that_is_not_known_hides_no_other_mistake() {
        check_table(
            |table| {
                table["apps"]["api"]["levitate"] = json!(true);
                table["apps"]["shop"]["path_prefix"] = json!("shop");
            },
            Checked::Wrong,
            &[
                "apps.api: its line is not understood: unknown field `levitate`",
                "apps.shop.path_prefix:",
                "2 mistakes",
            ],
        );
    }

    #[test]
    fn a_changed_state_file_is_told_by_app() {
        let directory = tempfile::tempdir().unwrap();
        let store = crate::store::Store::open(directory.path()).unwrap();
        store
            .save(&serde_json::from_value(table()).unwrap())
            .unwrap();
        let text = std::fs::read_to_string(directory.path().join("table")).unwrap();
        let (found, text) = checked(text.replace("shop.example", "ship.example").as_bytes());
        assert_eq!(found, Checked::Wrong);
        assert!(text.contains("apps.shop: its line was changed"), "{text}");
    }

    #[test]
    fn what_is_no_table_is_unreadable() {
        for bytes in [
            &b""[..],
            b"{",
            b"[]",
            b"{\"apps\":{}}",
            b"cutover-table 3 0\n",
            &[0xFF; 9],
        ] {
            let (found, text) = checked(bytes);
            assert_eq!(found, Checked::Unreadable, "{text}");
            assert!(text.contains("hint:"));
        }
        let missing = check(Path::new("/nonexistent/table"), &mut Vec::new()).unwrap();
        assert_eq!(missing, Checked::Unreadable);
    }

    #[test]
    fn nothing_in_a_file_reaches_the_terminal_as_a_command() {
        check_table(
            |table| {
                table["apps"]["\u{1b}[2J"] = json!({"hosts": 7});
                table["apps"]["api"]["\u{1b}]0;x\u{7}"] = json!(1);
            },
            Checked::Wrong,
            &["2 mistakes"],
        );
        let mut table = table();
        table["apps"]["\u{1b}[2J"] = json!({"\u{1b}[2J": 7});
        let (_, text) = checked(table.to_string().as_bytes());
        assert!(!text.contains('\u{1b}'), "{text:?}");
    }
}
