//! The table as the bytes of a file, in parts that stand alone.
//!
//! ```text
//! cutover-table 2 <checksum of all lines below>
//! <checksum> {"table":{…without apps…},"parts":[{"app":"shop","bytes":214,"checksum":3405691582},…]}
//! {…the route of the first app…}
//! {…the route of the second…}
//! ```
//!
//! The second line says where each app's line is and what its checksum was, so
//! a changed byte is a matter of the app in whose line it stands, and the app is
//! known by name even when its line cannot be read. A file of another length
//! than the second line says was torn: nothing of it is believed. An app's line
//! that is whole but not understood is of a newer proxy, and costs that app too.
//!
//! Version 1 had one line `cutover-table 1 <checksum>` and the table's JSON after
//! it. It is still read; the same reader takes a table's JSON alone. It does
//! no IO and does not judge what a table says.

use std::collections::BTreeMap;

use cutover_wire::table::{Route, Table, TableProblem};
use serde::{Deserialize, Serialize};
use serde_json::Value;

const MAGIC: &str = "cutover-table";

/// Why bytes are no table at all.
#[derive(Debug, thiserror::Error)]
pub enum FormError {
    /// They do not begin as ours do.
    #[error("the file is no table of a version that is known here")]
    Head,
    /// There are more or fewer than were written.
    #[error("the file does not have the length that it was written with")]
    Length,
    /// They were changed after they were written.
    #[error("the checksum is wrong")]
    Checksum,
    /// They are not understood.
    #[error("the JSON is not understood")]
    Json(#[source] serde_json::Error),
}

/// Why an app's part cannot be used, though the rest can.
#[derive(Debug, thiserror::Error)]
pub(crate) enum PartError {
    #[error("its line was changed after it was written")]
    Checksum,
    #[error("its line is not understood")]
    Json(#[source] serde_json::Error),
    #[error("it may not be served: {0}")]
    Wrong(TableProblem),
    #[error("it takes requests that another app takes, too")]
    Claimed,
}

/// What bytes hold.
#[derive(Debug, Default)]
pub(crate) struct Stored {
    /// The table with the apps that could be read.
    pub(crate) table: Table,
    /// The other apps, and why not.
    pub(crate) broken: BTreeMap<String, PartError>,
}

/// The second line.
#[derive(Debug, Serialize, Deserialize)]
struct Common {
    /// The table without its apps.
    table: Table,
    /// The apps in the order of their lines.
    parts: Vec<Part>,
}

/// The line of one app.
#[derive(Debug, Serialize, Deserialize)]
struct Part {
    app: String,
    /// Its length without the line feed.
    bytes: usize,
    checksum: u32,
}

/// A table as the bytes of a file.
pub(crate) fn write(table: &Table) -> Result<Vec<u8>, serde_json::Error> {
    let mut common = Common {
        table: table.clone(),
        parts: Vec::new(),
    };
    let mut lines = Vec::new();
    for (app, route) in std::mem::take(&mut common.table.apps) {
        let begin = lines.len();
        serde_json::to_writer(&mut lines, &route)?;
        let line = &lines[begin..];
        common.parts.push(Part {
            app,
            bytes: line.len(),
            checksum: checksum(line),
        });
        lines.push(b'\n');
    }
    let common = serde_json::to_string(&common)?;
    let mut rest = format!("{:08x} {common}\n", checksum(common.as_bytes())).into_bytes();
    rest.append(&mut lines);
    let mut file = format!("{MAGIC} 2 {:08x}\n", checksum(&rest)).into_bytes();
    file.append(&mut rest);
    Ok(file)
}

/// Whether bytes begin as a file of ours, of whatever version.
pub(crate) fn is_ours(bytes: &[u8]) -> bool {
    bytes.starts_with(MAGIC.as_bytes())
}

/// What a file of version 1 or 2 holds.
pub(crate) fn read(bytes: &[u8]) -> Result<Stored, FormError> {
    let (head, rest) = line(bytes).ok_or(FormError::Head)?;
    let mut words = head.split(|&byte| byte == b' ');
    if words.next() != Some(MAGIC.as_bytes()) {
        return Err(FormError::Head);
    }
    let version = words.next();
    let told = words.next().and_then(number).ok_or(FormError::Head)?;
    let sound = told == checksum(rest);
    match version {
        Some(b"1") if sound => read_json(rest),
        Some(b"1") => Err(FormError::Checksum),
        Some(b"2") => read_parts(rest, sound),
        _ => Err(FormError::Head),
    }
}

/// What a table's JSON holds.
pub(crate) fn read_json(json: &[u8]) -> Result<Stored, FormError> {
    if let Ok(table) = serde_json::from_slice(json) {
        return Ok(Stored {
            table,
            broken: BTreeMap::new(),
        });
    }
    // Something is not understood: whose is it?
    let mut value: Value = serde_json::from_slice(json).map_err(FormError::Json)?;
    let apps = match value.get_mut("apps") {
        Some(Value::Object(apps)) => std::mem::take(apps),
        _ => serde_json::Map::new(),
    };
    let mut stored = Stored {
        table: serde_json::from_value(value).map_err(FormError::Json)?,
        broken: BTreeMap::new(),
    };
    for (app, route) in apps {
        let route = serde_json::from_value(route).map_err(PartError::Json);
        stored.put(app, route);
    }
    Ok(stored)
}

impl Stored {
    fn put(&mut self, app: String, route: Result<Route, PartError>) {
        match route {
            Ok(route) => {
                self.table.apps.insert(app, route);
            }
            Err(error) => {
                self.broken.insert(app, error);
            }
        }
    }
}

/// `sound` says that no byte was changed, so no line needs to be looked at again.
fn read_parts(rest: &[u8], sound: bool) -> Result<Stored, FormError> {
    let (common, mut rest) = line(rest).ok_or(FormError::Length)?;
    let (told, common) = common.split_at_checked(8).ok_or(FormError::Length)?;
    let common = common.strip_prefix(b" ").ok_or(FormError::Checksum)?;
    if number(told) != Some(checksum(common)) {
        return Err(FormError::Checksum);
    }
    let Common { table, parts } = serde_json::from_slice(common).map_err(FormError::Json)?;
    let mut stored = Stored {
        table,
        broken: BTreeMap::new(),
    };
    for part in parts {
        let (json, after) = rest.split_at_checked(part.bytes).ok_or(FormError::Length)?;
        // What became of the line feed is no matter of the app.
        rest = after.get(1..).ok_or(FormError::Length)?;
        let route = if sound || part.checksum == checksum(json) {
            serde_json::from_slice(json).map_err(PartError::Json)
        } else {
            Err(PartError::Checksum)
        };
        stored.put(part.app, route);
    }
    if rest.is_empty() {
        Ok(stored)
    } else {
        Err(FormError::Length)
    }
}

/// The first line, and what is after it.
fn line(bytes: &[u8]) -> Option<(&[u8], &[u8])> {
    let end = memchr::memchr(b'\n', bytes)?;
    Some((&bytes[..end], &bytes[end + 1..]))
}

/// A checksum as it stands in a file.
fn number(digits: &[u8]) -> Option<u32> {
    let digits = str::from_utf8(digits).ok()?;
    u32::from_str_radix(digits, 16).ok()
}

/// CRC-32 (IEEE).
fn checksum(bytes: &[u8]) -> u32 {
    let step = |sum: u32, &byte: &u8| {
        let place = (sum ^ u32::from(byte)) & 0xFF;
        (sum >> 8) ^ TABLE[place as usize]
    };
    !bytes.iter().fold(u32::MAX, step)
}

/// What each byte does to the checksum.
const TABLE: [u32; 256] = {
    let mut table = [0; 256];
    let mut byte = 0;
    while byte < table.len() {
        let mut sum = byte as u32;
        let mut bit = 0;
        while bit < 8 {
            let mask = (sum & 1).wrapping_neg();
            sum = (sum >> 1) ^ (0xEDB8_8320 & mask);
            bit += 1;
        }
        table[byte] = sum;
        byte += 1;
    }
    table
};

#[cfg(test)]
pub(crate) mod tests {
    use super::*;
    use cutover_wire::table::{Pool, Split, Target};
    use proptest::prelude::*;

    /// A table of version 1 as it was stored before there were weights.
    const OLD: &str = r#"{"generation":3,"apps":{"shop":{"hosts":["a.example"],"path_prefix":"/","serving":"v1","pools":{"v1":{"targets":[{"id":"v1-0","address":"127.0.0.1:8080"}]}},"limits":{"connect_ms":5000,"response_ms":60000,"idle_ms":3600000,"max_body":null}}}}"#;

    /// The bytes of version 1 with this JSON.
    pub(crate) fn version_1(json: &str) -> Vec<u8> {
        format!("{MAGIC} 1 {:08x}\n{json}", checksum(json.as_bytes())).into_bytes()
    }

    /// A table of these apps, each with a host of its name.
    pub(crate) fn table(generation: u64, apps: &[&str]) -> Table {
        let route = |app: &&str| {
            let target = Target {
                id: format!("{app}-0"),
                address: std::net::SocketAddr::from(([127, 0, 0, 1], 8080)),
            };
            let pools = BTreeMap::from([("v1".to_owned(), Pool::of(vec![target]))]);
            let hosts = vec![format!("{app}.example")];
            let route = Route::new(hosts, "/", Split::all_to("v1"), pools);
            ((*app).to_owned(), route)
        };
        Table {
            generation,
            apps: apps.iter().map(route).collect(),
            ..Table::default()
        }
    }

    /// The apps that are read and those that are broken.
    fn names(stored: &Stored) -> (Vec<&str>, Vec<&str>) {
        let read = stored.table.apps.keys().map(String::as_str).collect();
        (read, stored.broken.keys().map(String::as_str).collect())
    }

    #[test]
    fn the_checksum_is_the_common_one() {
        assert_eq!(checksum(b"123456789"), 0xCBF4_3926);
    }

    #[test]
    fn a_table_reads_back_with_a_line_for_each_app() {
        for apps in [&[][..], &["shop"], &["api", "a\nb \"c\"", "shop"]] {
            let table = table(8, apps);
            let bytes = write(&table).unwrap();
            let feeds = bytes.iter().filter(|&&byte| byte == b'\n').count();
            assert_eq!(feeds, 2 + apps.len());
            let stored = read(&bytes).unwrap();
            assert_eq!((stored.table, stored.broken.len()), (table, 0));
        }
    }

    #[test]
    fn a_table_that_was_stored_before_there_were_weights_is_read() {
        let stored = read(&version_1(OLD)).unwrap();
        assert_eq!(stored.table.apps["shop"].serving.sole(), Some("v1"));
        assert_eq!(stored.table.generation, 3);
    }

    #[test]
    fn any_changed_bit_costs_the_app_in_whose_line_it_stands_and_no_other() {
        let apps = ["api", "shop", "wiki"];
        let table = table(8, &apps);
        let bytes = write(&table).unwrap();
        let mut ends = (0..bytes.len()).filter(|&place| bytes[place] == b'\n');
        let (_, common) = (ends.next(), ends.next().unwrap());
        let ends: Vec<usize> = ends.collect();
        for place in 0..bytes.len() {
            let owner = ends.iter().position(|&end| place < end);
            for bit in 0..8 {
                let mut bytes = bytes.clone();
                bytes[place] ^= 1 << bit;
                let Ok(stored) = read(&bytes) else {
                    assert!(place <= common, "byte {place} costs the whole table");
                    continue;
                };
                let feed = place == common || ends.contains(&place);
                let expected: Vec<&str> = match owner {
                    Some(owner) if place > common && !feed => vec![apps[owner]],
                    _ => Vec::new(),
                };
                assert_eq!(names(&stored).1, expected, "byte {place} bit {bit}");
                assert_eq!(stored.table.generation, 8);
                assert_eq!(stored.table.apps.len() + expected.len(), apps.len());
                for (app, route) in &stored.table.apps {
                    assert_eq!(*route, table.apps[app], "byte {place} bit {bit}");
                }
            }
        }
    }

    #[test]
    fn a_torn_file_is_none() {
        let bytes = write(&table(8, &["api", "shop"])).unwrap();
        for length in 0..bytes.len() {
            assert!(read(&bytes[..length]).is_err(), "{length}");
        }
        let longer = [bytes, b"x".to_vec()].concat();
        assert!(matches!(read(&longer), Err(FormError::Length)));
    }

    #[test]
    fn a_word_of_a_newer_proxy_costs_the_app_that_has_it() {
        let json = serde_json::to_value(table(8, &["api", "shop"])).unwrap();
        let check = |place: &str, expected: Option<(Vec<&str>, Vec<&str>)>| {
            let mut json = json.clone();
            json.pointer_mut(place).unwrap()["levitate"] = Value::Bool(true);
            let json = json.to_string();
            for stored in [read(&version_1(&json)), read_json(json.as_bytes())] {
                let found = stored.as_ref().ok().map(names);
                assert_eq!(found, expected, "{place}");
            }
        };
        check("/apps/api", Some((vec!["shop"], vec!["api"])));
        check("/apps/shop/pools/v1", Some((vec!["api"], vec!["shop"])));
        check("", None);
        // The same in a line of version 2.
        let mut bytes = write(&table(8, &["api", "shop"])).unwrap();
        let key = b"\"path_prefix\"";
        let place = bytes.windows(key.len()).position(|at| at == key).unwrap();
        bytes[place + 1] = b'q';
        let (_, rest) = line(&bytes).unwrap();
        let stored = read_parts(rest, true).unwrap();
        assert_eq!(names(&stored), (vec!["shop"], vec!["api"]));
        assert!(matches!(stored.broken["api"], PartError::Json(_)));
    }

    proptest! {
        #[test]
        fn no_bytes_make_a_panic(bytes in prop::collection::vec(any::<u8>(), 0..200), head in 0_usize..4) {
            let rest = [&b"00000000 {}\n"[..], &bytes].concat();
            let heads = ["", "cutover-table 1 ", "cutover-table 2 ", "cutover-table 2 0\n"];
            let _ = read(&[heads[head].as_bytes(), &bytes].concat());
            let _ = read_parts(&rest, true);
            let _ = read_json(&bytes);
        }
    }
}
