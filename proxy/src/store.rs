//! The table on disk, so that the proxy serves after a restart without an agent.
//!
//! ```text
//! <state>/table           the table in force
//! <state>/table.previous  the one before it, used when `table` is damaged
//! <state>/table.damaged   a damaged file that was set aside
//! ```
//!
//! A file is one line `cutover-table 1 <checksum>` and the table's JSON after it.
//! Invariant: `table` is replaced whole (write, fsync, rename, fsync of the
//! directory), so a crash leaves the old or the new one.

use std::fs::{self, File};
use std::io::{self, Write};
use std::path::{Path, PathBuf};

use cutover_wire::table::{Table, TableProblem};

use crate::abilities::objections;

/// The first word of a file, and the version of its form.
const MAGIC: &str = "cutover-table 1";

/// Why the table could not be kept or read.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    /// A file operation failed.
    #[error("could not {operation} {}", path.display())]
    File {
        /// What was tried.
        operation: &'static str,
        /// On which file.
        path: PathBuf,
        /// Why it failed.
        #[source]
        source: io::Error,
    },
    /// The table could not be written as JSON.
    #[error("could not encode the table")]
    Encode(#[source] serde_json::Error),
    /// The file does not begin as ours do.
    #[error("{} is no table of a version that is known here", .0.display())]
    Form(PathBuf),
    /// The file was changed after it was written.
    #[error("the checksum of {} is wrong", .0.display())]
    Checksum(PathBuf),
    /// The file's JSON is not understood.
    #[error("could not decode {}", path.display())]
    Decode {
        /// Which file.
        path: PathBuf,
        /// Why it failed.
        #[source]
        source: serde_json::Error,
    },
    /// The file holds a table that may not be served.
    #[error("the table in {} is wrong at {first}", path.display())]
    Wrong {
        /// Which file.
        path: PathBuf,
        /// Its first mistake.
        first: TableProblem,
    },
}

/// The directory that keeps the table.
#[derive(Debug, Clone)]
pub(crate) struct Store {
    directory: PathBuf,
}

impl Store {
    /// Opens the directory, making it where it is missing.
    pub(crate) fn open(directory: &Path) -> Result<Self, StoreError> {
        fs::create_dir_all(directory).map_err(at("create", directory))?;
        Ok(Self {
            directory: directory.to_owned(),
        })
    }

    /// The table to begin with: the stored one, else the one before it, else an
    /// empty one. A file that is damaged, or that a newer proxy wrote and this one
    /// cannot obey, is set aside and loudly told, because a proxy
    /// that does not start serves nobody.
    pub(crate) fn load(&self) -> Table {
        for name in ["table", "table.previous"] {
            let path = self.directory.join(name);
            match read(&path) {
                Ok(Some(table)) => return table,
                Ok(None) => {}
                Err(error) => {
                    let aside = self.directory.join("table.damaged");
                    let moved = fs::rename(&path, &aside);
                    tracing::error!(
                        error = %chain(&error),
                        set_aside = %aside.display(),
                        moved = moved.is_ok(),
                        "the stored table cannot be served; the one before it is tried"
                    );
                }
            }
        }
        tracing::warn!("there is no stored table: every request is refused until one is put");
        Table::default()
    }

    /// Keeps a table for good; when this returns it survives a power cut.
    pub(crate) fn save(&self, table: &Table) -> Result<(), StoreError> {
        let json = serde_json::to_vec(table).map_err(StoreError::Encode)?;
        let fresh = self.directory.join("table.new");
        let mut file = File::create(&fresh).map_err(at("create", &fresh))?;
        let head = format!("{MAGIC} {:08x}\n", checksum(&json));
        file.write_all(head.as_bytes())
            .and_then(|()| file.write_all(&json))
            .map_err(at("write", &fresh))?;
        file.sync_all().map_err(at("sync", &fresh))?;
        let current = self.directory.join("table");
        self.keep_previous(&current)?;
        fs::rename(&fresh, &current).map_err(at("replace", &current))?;
        let directory = File::open(&self.directory).map_err(at("open", &self.directory))?;
        directory.sync_all().map_err(at("sync", &self.directory))
    }

    /// Gives the current file a second name, without a moment in which it has none.
    fn keep_previous(&self, current: &Path) -> Result<(), StoreError> {
        let link = self.directory.join("table.link");
        match fs::remove_file(&link) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => {
                return Err(at("remove", &link)(error));
            }
            _ => {}
        }
        match fs::hard_link(current, &link) {
            Ok(()) => {}
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
            Err(error) => return Err(at("link", current)(error)),
        }
        let previous = self.directory.join("table.previous");
        fs::rename(&link, &previous).map_err(at("replace", &previous))
    }
}

fn at(operation: &'static str, path: &Path) -> impl FnOnce(io::Error) -> StoreError {
    let path = path.to_owned();
    move |source| StoreError::File {
        operation,
        path,
        source,
    }
}

fn read(path: &Path) -> Result<Option<Table>, StoreError> {
    let bytes = match fs::read(path) {
        Ok(bytes) => bytes,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(at("read", path)(error)),
    };
    let form = || StoreError::Form(path.to_owned());
    let end = bytes.iter().position(|&b| b == b'\n').ok_or_else(form)?;
    let (head, json) = (&bytes[..end], &bytes[end + 1..]);
    let sum = str::from_utf8(head)
        .ok()
        .and_then(|head| head.strip_prefix(MAGIC))
        .and_then(|sum| u32::from_str_radix(sum.trim_start(), 16).ok())
        .ok_or_else(form)?;
    if sum != checksum(json) {
        return Err(StoreError::Checksum(path.to_owned()));
    }
    let table: Table = serde_json::from_slice(json).map_err(|source| StoreError::Decode {
        path: path.to_owned(),
        source,
    })?;
    match objections(&table).into_iter().next() {
        None => Ok(Some(table)),
        Some(first) => Err(StoreError::Wrong {
            path: path.to_owned(),
            first,
        }),
    }
}

/// CRC-32 (IEEE), bit by bit: a table is written once in a deploy.
fn checksum(bytes: &[u8]) -> u32 {
    let mut sum = u32::MAX;
    for &byte in bytes {
        sum ^= u32::from(byte);
        for _ in 0..8 {
            let mask = (sum & 1).wrapping_neg();
            sum = (sum >> 1) ^ (0xEDB8_8320 & mask);
        }
    }
    !sum
}

/// An error with all its causes in one line.
pub(crate) fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        text.push_str(": ");
        text.push_str(&error.to_string());
        cause = error.source();
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    fn table(generation: u64) -> Table {
        Table {
            generation,
            ..Table::default()
        }
    }

    #[test]
    fn the_checksum_is_the_common_one() {
        assert_eq!(checksum(b"123456789"), 0xCBF4_3926);
    }

    #[test]
    fn the_last_saved_table_is_loaded() {
        let directory = tempfile::tempdir().unwrap();
        let store = Store::open(&directory.path().join("made")).unwrap();
        assert_eq!(store.load(), Table::default());
        for generation in 1..4 {
            store.save(&table(generation)).unwrap();
            assert_eq!(store.load().generation, generation);
        }
    }

    #[test]
    fn a_damaged_table_is_set_aside_and_the_one_before_is_used() {
        let directory = tempfile::tempdir().unwrap();
        let store = Store::open(directory.path()).unwrap();
        let path = directory.path().join("table");
        type Damage = fn(&mut Vec<u8>);
        let damages: [Damage; 4] = [
            Vec::clear,
            |bytes| bytes.truncate(bytes.len() - 3),
            |bytes| {
                let digit = bytes.iter().rposition(u8::is_ascii_digit).unwrap();
                bytes[digit] ^= 1;
            },
            |bytes| bytes[0] ^= 1,
        ];
        for damage in damages {
            store.save(&table(7)).unwrap();
            store.save(&table(8)).unwrap();
            let mut bytes = fs::read(&path).unwrap();
            damage(&mut bytes);
            fs::write(&path, bytes).unwrap();
            assert_eq!(store.load().generation, 7);
            assert!(directory.path().join("table.damaged").exists());
            assert!(!path.exists());
        }
    }

    #[test]
    fn a_table_that_needs_more_than_this_proxy_can_is_set_aside() {
        let directory = tempfile::tempdir().unwrap();
        let store = Store::open(directory.path()).unwrap();
        store.save(&table(7)).unwrap();
        let mut newer = table(8);
        newer.connections.per_address = Some(100);
        store.save(&newer).unwrap();
        let Err(StoreError::Wrong { first, .. }) = read(&directory.path().join("table")) else {
            panic!("taken");
        };
        assert_eq!(
            first.to_string(),
            "connections.per_address: this proxy cannot do `connection_cap`"
        );
        assert_eq!(store.load().generation, 7);
    }

    #[test]
    fn a_table_that_was_stored_before_there_were_weights_is_read() {
        let directory = tempfile::tempdir().unwrap();
        let json = r#"{"generation":3,"apps":{"shop":{"hosts":["a.example"],"path_prefix":"/","serving":"v1","pools":{"v1":{"targets":[{"id":"v1-0","address":"127.0.0.1:8080"}]}},"limits":{"connect_ms":5000,"response_ms":60000,"idle_ms":3600000,"max_body":null}}}}"#;
        let sum = checksum(json.as_bytes());
        let path = directory.path().join("table");
        fs::write(&path, format!("{MAGIC} {sum:08x}\n{json}")).unwrap();
        let store = Store::open(directory.path()).unwrap();
        let table = store.load();
        assert_eq!(table.apps["shop"].serving.sole(), Some("v1"));
        // And what is stored now is what was stored then, so that an older
        // program can be put back.
        store.save(&table).unwrap();
        let bytes = fs::read(&path).unwrap();
        assert!(bytes.ends_with(json.as_bytes()));
    }

    #[test]
    fn a_table_that_cannot_be_stored_is_an_error() {
        let directory = tempfile::tempdir().unwrap();
        let store = Store::open(directory.path()).unwrap();
        fs::create_dir(directory.path().join("table.new")).unwrap();
        assert!(store.save(&table(1)).is_err());
    }
}
