//! The table on disk, so that the proxy serves after a restart without an agent.
//!
//! ```text
//! <state>/table             the table in force
//! <state>/table.previous    the one before it
//! <state>/NAME.damaged      a damaged file of either name, for a person to look at
//!
//!  table ─torn, or damaged in what is common─▶ moved aside; table.previous is read alike
//!    │
//!    └damaged in some apps─▶ copied aside; these apps ─sound in table.previous─▶ as they were there
//!                                                        └not─▶ left out
//! ```
//!
//! `form` knows the bytes. Invariant: `table` is replaced whole (write, fsync,
//! rename, fsync of the directory), so a crash leaves the old or the new one.
//!
//! Each app's part stands alone: one whose line was changed, that has words of a
//! newer proxy, or that may not be served, costs no other app anything. Only the
//! boot is so lenient, because a proxy that does not start serves nobody; a table
//! that is put is taken whole or refused. An app that is served as it was before,
//! or left out, does not change the generation: nobody made another table. The
//! agent reads the table that is in force, sees that the app's route is not what
//! it should be, and puts it in place of this generation.

mod form;

use std::collections::{BTreeMap, BTreeSet};
use std::fs::{self, File};
use std::io::{self, Read, Write};
use std::path::{Path, PathBuf};

use cutover_wire::proxy::MAX_FRAME;
use cutover_wire::table::{Route, Table, TableProblem};

use crate::abilities::objections;
use form::FormError;
pub(crate) use form::{PartError, Stored, is_ours, read as read_form, read_json};

/// Bytes of a file at most. A table comes in a frame; checksums and names
/// of its parts are far less than once more of it.
const MAX_FILE: u64 = 2 * MAX_FRAME as u64;

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
    /// The file is none of ours, or was damaged.
    #[error("could not read the table in {}", path.display())]
    Form {
        /// Which file.
        path: PathBuf,
        /// What is wrong with it.
        #[source]
        source: FormError,
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
    /// empty one. What is damaged, or what a newer proxy wrote and this one
    /// cannot obey, is loudly told.
    pub(crate) fn load(&self) -> Table {
        let (current, previous) = (self.path("table"), self.path("table.previous"));
        let before = || match read_file(&previous) {
            Ok(Some(stored)) => stored.table.apps,
            Ok(None) | Err(_) => BTreeMap::new(),
        };
        for (path, before) in [
            (&current, &before as &dyn Fn() -> BTreeMap<String, Route>),
            (&previous, &BTreeMap::new),
        ] {
            match read_sound(path, before) {
                Ok(Some(stored)) => {
                    if !stored.broken.is_empty() {
                        tell(path, &stored);
                    }
                    return stored.table;
                }
                Ok(None) => {}
                // It may be sound; whoever mends the directory finds it in its place.
                Err(error @ StoreError::File { .. }) => {
                    tracing::error!(
                        error = %chain(&error),
                        "the stored table cannot be read; the one before it is tried"
                    );
                }
                Err(error) => {
                    let aside = damaged(path);
                    let moved = fs::rename(path, &aside);
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

    /// The stored table, or the one before it where a damaged one was set aside;
    /// nothing is set aside here.
    pub(crate) fn current(&self) -> Result<Option<Table>, StoreError> {
        for name in ["table", "table.previous"] {
            if let Some(stored) = read_sound(&self.path(name), &BTreeMap::new)? {
                return Ok(Some(stored.table));
            }
        }
        Ok(None)
    }

    /// Keeps a table for good; when this returns it survives a power cut.
    pub(crate) fn save(&self, table: &Table) -> Result<(), StoreError> {
        let bytes = form::write(table).map_err(StoreError::Encode)?;
        let fresh = self.path("table.new");
        let mut file = File::create(&fresh).map_err(at("create", &fresh))?;
        file.write_all(&bytes).map_err(at("write", &fresh))?;
        file.sync_all().map_err(at("sync", &fresh))?;
        let current = self.path("table");
        self.keep_previous(&current)?;
        fs::rename(&fresh, &current).map_err(at("replace", &current))?;
        let directory = File::open(&self.directory).map_err(at("open", &self.directory))?;
        directory.sync_all().map_err(at("sync", &self.directory))
    }

    fn path(&self, name: &str) -> PathBuf {
        self.directory.join(name)
    }

    /// Gives the current file a second name, without a moment in which it has none.
    fn keep_previous(&self, current: &Path) -> Result<(), StoreError> {
        let link = self.path("table.link");
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
        let previous = self.path("table.previous");
        fs::rename(&link, &previous).map_err(at("replace", &previous))
    }
}

/// Says which apps a file did not give, and keeps a copy of it: the file
/// itself is still the best there is.
fn tell(path: &Path, stored: &Stored) {
    let aside = damaged(path);
    let copied = fs::copy(path, &aside);
    for (app, error) in &stored.broken {
        let instead = if stored.table.apps.contains_key(app) {
            "it is served as in the table before"
        } else {
            "it is left out: its requests are refused until its route is put again"
        };
        tracing::error!(
            %app,
            error = %chain(error),
            file = %path.display(),
            copy = %aside.display(),
            copied = copied.is_ok(),
            "the stored part of an app cannot be served; {instead}"
        );
    }
}

/// The bytes of a file that may hold a table.
pub(crate) fn read_bytes(path: &Path) -> Result<Vec<u8>, StoreError> {
    let file = File::open(path).map_err(at("open", path))?;
    let mut bytes = Vec::new();
    let read = file.take(MAX_FILE + 1).read_to_end(&mut bytes);
    match read.map_err(at("read", path))? as u64 {
        0..=MAX_FILE => Ok(bytes),
        _ => Err(at("read", path)(io::ErrorKind::FileTooLarge.into())),
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

/// The name under which a damaged file is kept.
fn damaged(path: &Path) -> PathBuf {
    path.with_added_extension("damaged")
}

/// What a file holds; none where there is no file.
fn read_file(path: &Path) -> Result<Option<Stored>, StoreError> {
    let bytes = match read_bytes(path) {
        Err(StoreError::File { source, .. }) if source.kind() == io::ErrorKind::NotFound => {
            return Ok(None);
        }
        bytes => bytes?,
    };
    let form = |source| StoreError::Form {
        path: path.to_owned(),
        source,
    };
    read_form(&bytes).map(Some).map_err(form)
}

/// The table that may be served of a file, and the apps that the file did not
/// give; some of them are in the table as they were `before`.
fn read_sound(
    path: &Path,
    before: &dyn Fn() -> BTreeMap<String, Route>,
) -> Result<Option<Stored>, StoreError> {
    let Some(mut stored) = read_file(path)? else {
        return Ok(None);
    };
    if !objections(&stored.table).is_empty() {
        leave_out_wrong(&mut stored);
    }
    if !stored.broken.is_empty() {
        fill_in(&mut stored, before());
    }
    match objections(&stored.table).into_iter().next() {
        None => Ok(Some(stored)),
        Some(first) => Err(StoreError::Wrong {
            path: path.to_owned(),
            first,
        }),
    }
}

/// Leaves out each app that is wrong by itself, or takes what another takes.
fn leave_out_wrong(stored: &mut Stored) {
    let mut claims = Claims::default();
    for (app, route) in std::mem::take(&mut stored.table.apps) {
        match alone(&app, &route).or_else(|| claims.refuse(&route)) {
            None => {
                claims.add(&route);
                stored.table.apps.insert(app, route);
            }
            Some(error) => {
                stored.broken.insert(app, error);
            }
        }
    }
}

/// Takes the broken apps as they were before, where that does no harm to others.
fn fill_in(stored: &mut Stored, mut before: BTreeMap<String, Route>) {
    let mut claims = Claims::default();
    stored
        .table
        .apps
        .values()
        .for_each(|route| claims.add(route));
    for app in stored.broken.keys() {
        let Some(route) = before.remove(app) else {
            continue;
        };
        if alone(app, &route)
            .or_else(|| claims.refuse(&route))
            .is_none()
        {
            claims.add(&route);
            stored.table.apps.insert(app.clone(), route);
        }
    }
}

/// What is wrong with an app whatever the others are.
fn alone(app: &str, route: &Route) -> Option<PartError> {
    let table = Table {
        apps: BTreeMap::from([(app.to_owned(), route.clone())]),
        ..Table::default()
    };
    let first = objections(&table).into_iter().next();
    first.map(PartError::Wrong)
}

/// Which requests are taken already. The table itself checks the same; here is
/// asked who must give way.
#[derive(Debug, Default)]
struct Claims {
    taken: BTreeSet<(String, String)>,
    moved: BTreeSet<String>,
    moved_to: BTreeSet<String>,
}

impl Claims {
    fn of(route: &Route) -> impl Iterator<Item = (String, String)> {
        let hosts = route.hosts.iter().chain(route.redirects.keys());
        hosts.map(|host| (host.clone(), route.path_prefix.clone()))
    }

    fn refuse(&self, route: &Route) -> Option<PartError> {
        let taken = Self::of(route).any(|claim| self.taken.contains(&claim));
        let chained = route.redirects.iter().any(|(host, redirect)| {
            self.moved.contains(&redirect.to) || self.moved_to.contains(host)
        });
        (taken || chained).then_some(PartError::Claimed)
    }

    fn add(&mut self, route: &Route) {
        self.taken.extend(Self::of(route));
        self.moved.extend(route.redirects.keys().cloned());
        let to = route.redirects.values().map(|redirect| redirect.to.clone());
        self.moved_to.extend(to);
    }
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
    use super::form::tests::{table, version_1};
    use super::*;

    /// A store with a table of generation 7 and then one of 8 with these apps,
    /// whose bytes are changed by `damage`.
    fn damaged_store(apps: &[&str], damage: impl Fn(&mut Vec<u8>)) -> (tempfile::TempDir, Store) {
        let directory = tempfile::tempdir().unwrap();
        let store = Store::open(directory.path()).unwrap();
        let mut before = table(7, apps);
        for route in before.apps.values_mut() {
            route.limits.max_body = Some(7);
        }
        store.save(&before).unwrap();
        store.save(&table(8, apps)).unwrap();
        let mut bytes = fs::read(store.path("table")).unwrap();
        damage(&mut bytes);
        fs::write(store.path("table"), bytes).unwrap();
        (directory, store)
    }

    /// Changes a bit in the line of an app.
    fn flip(app: &'static str) -> impl Fn(&mut Vec<u8>) {
        move |bytes| {
            let host = format!("\"{app}.example\"");
            let mut places = bytes.windows(host.len());
            let place = places.position(|at| at == host.as_bytes()).unwrap();
            bytes[place + 1] ^= 1;
        }
    }

    /// Each app of a table with the generation that its part is of.
    fn parts(table: &Table) -> Vec<(&str, u64)> {
        let parts = table.apps.iter();
        parts
            .map(|(app, route)| (app.as_str(), route.limits.max_body.unwrap_or(8)))
            .collect()
    }

    #[test]
    fn the_last_saved_table_is_loaded() {
        let directory = tempfile::tempdir().unwrap();
        let store = Store::open(&directory.path().join("made")).unwrap();
        assert_eq!(store.load(), Table::default());
        for generation in 1..4 {
            store.save(&table(generation, &["shop"])).unwrap();
            assert_eq!(store.load(), table(generation, &["shop"]));
        }
    }

    #[test]
    fn a_damaged_table_is_set_aside_and_the_one_before_is_used() {
        type Damage = fn(&mut Vec<u8>);
        let damages: [Damage; 5] = [
            Vec::clear,
            |bytes| bytes.truncate(bytes.len() - 3),
            |bytes| bytes.extend(b"{}"),
            |bytes| {
                let word = b"generation";
                let place = bytes.windows(word.len()).position(|at| at == word);
                bytes[place.unwrap() + word.len() + 2] ^= 1;
            },
            |bytes| bytes[0] ^= 1,
        ];
        for damage in damages {
            let (_directory, store) = damaged_store(&["api", "shop"], damage);
            let bytes = fs::read(store.path("table")).unwrap();
            let loaded = store.load();
            assert_eq!(loaded.generation, 7);
            assert_eq!(parts(&loaded), [("api", 7), ("shop", 7)]);
            assert_eq!(fs::read(store.path("table.damaged")).unwrap(), bytes);
            assert!(!store.path("table").exists());
            assert_eq!(store.load(), loaded, "and again at the next start");
        }
    }

    #[test]
    fn an_app_whose_line_is_damaged_is_served_as_before_and_no_other() {
        let (_directory, store) = damaged_store(&["api", "shop"], flip("shop"));
        let bytes = fs::read(store.path("table")).unwrap();
        let loaded = store.load();
        assert_eq!(loaded.generation, 8);
        assert_eq!(parts(&loaded), [("api", 8), ("shop", 7)]);
        assert_eq!(fs::read(store.path("table.damaged")).unwrap(), bytes);
        assert_eq!(store.load(), loaded, "and again at the next start");
        // And the next table is taken in place of this one.
        store.save(&table(9, &["api", "shop"])).unwrap();
        assert_eq!(parts(&store.load()), [("api", 8), ("shop", 8)]);
    }

    #[test]
    fn an_app_that_is_damaged_in_both_tables_is_left_out() {
        let (_directory, store) = damaged_store(&["api", "shop"], flip("shop"));
        let mut bytes = fs::read(store.path("table.previous")).unwrap();
        flip("shop")(&mut bytes);
        fs::write(store.path("table.previous"), bytes).unwrap();
        let loaded = store.load();
        assert_eq!((loaded.generation, parts(&loaded)), (8, vec![("api", 8)]));
        // The same where there is no table before.
        fs::remove_file(store.path("table.previous")).unwrap();
        assert_eq!(store.load(), loaded);
    }

    #[test]
    fn an_app_that_this_proxy_cannot_obey_is_served_as_before() {
        let (_directory, store) = damaged_store(&["api", "shop"], |_| {});
        let mut newer = table(8, &["api", "shop", "wiki"]);
        for app in ["shop", "wiki"] {
            let pools = &mut newer.apps.get_mut(app).unwrap().pools;
            pools.get_mut("v1").unwrap().targets.clear();
        }
        // Written as a proxy does that takes such a table.
        fs::write(store.path("table"), form::write(&newer).unwrap()).unwrap();
        let loaded = store.load();
        assert_eq!(loaded.generation, 8);
        assert_eq!(parts(&loaded), [("api", 8), ("shop", 7)]);
    }

    #[test]
    fn an_app_as_it_was_before_takes_no_request_of_another() {
        let (_directory, store) = damaged_store(&["api", "shop"], |_| {});
        // In the table of now, what was the shop's is the api's.
        let mut now = table(8, &["api", "shop"]);
        now.apps.get_mut("api").unwrap().hosts = vec!["shop.example".to_owned()];
        now.apps.get_mut("shop").unwrap().hosts = vec!["new.example".to_owned()];
        let mut bytes = form::write(&now).unwrap();
        flip("new")(&mut bytes);
        fs::write(store.path("table"), bytes).unwrap();
        assert_eq!(parts(&store.load()), [("api", 8)]);
    }

    #[test]
    fn of_two_apps_with_the_same_requests_one_is_left_out() {
        let (_directory, store) = damaged_store(&["api"], |_| {});
        let mut both = table(8, &["api", "shop"]);
        both.apps.get_mut("shop").unwrap().hosts = vec!["api.example".to_owned()];
        fs::write(store.path("table"), form::write(&both).unwrap()).unwrap();
        assert_eq!(parts(&store.load()), [("api", 8)]);
    }

    #[test]
    fn a_word_of_a_newer_proxy_about_the_whole_sets_the_table_aside() {
        let (_directory, store) = damaged_store(&["api"], |_| {});
        let mut json = serde_json::to_value(table(8, &["api"])).unwrap();
        json["levitation"] = serde_json::json!({});
        fs::write(store.path("table"), version_1(&json.to_string())).unwrap();
        assert_eq!(store.load().generation, 7);
        assert!(store.path("table.damaged").exists());
    }

    #[test]
    fn a_table_that_is_wrong_as_a_whole_is_set_aside() {
        let (_directory, store) = damaged_store(&["api"], |_| {});
        let mut wrong = table(8, &["api"]);
        wrong.connections.per_address = Some(0);
        fs::write(store.path("table"), form::write(&wrong).unwrap()).unwrap();
        let path = store.path("table");
        let Err(StoreError::Wrong { first, .. }) = read_sound(&path, &BTreeMap::new) else {
            panic!("taken");
        };
        assert_eq!(first.place, "connections.per_address");
        assert_eq!(store.load().generation, 7);
    }

    #[test]
    fn a_table_that_could_not_be_read_stays_in_its_place() {
        let (_directory, store) = damaged_store(&["api"], |_| {});
        // Root may read everything, but nobody a directory.
        fs::rename(store.path("table"), store.path("kept")).unwrap();
        fs::create_dir(store.path("table")).unwrap();
        assert_eq!(store.load().generation, 7);
        assert!(store.path("table").exists() && !store.path("table.damaged").exists());
    }

    #[test]
    fn a_file_that_is_larger_than_any_table_is_not_read() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("large");
        File::create(&path).unwrap().set_len(MAX_FILE + 1).unwrap();
        assert!(read_bytes(&path).is_err());
    }

    #[test]
    fn a_table_of_version_1_is_loaded_and_the_next_one_is_of_version_2() {
        let directory = tempfile::tempdir().unwrap();
        let store = Store::open(directory.path()).unwrap();
        let json = serde_json::to_string(&table(3, &["shop"])).unwrap();
        fs::write(store.path("table"), version_1(&json)).unwrap();
        assert_eq!(store.load(), table(3, &["shop"]));
        store.save(&table(4, &["shop"])).unwrap();
        assert_eq!(store.load(), table(4, &["shop"]));
        // And it is still there for the day when the new one is damaged.
        fs::write(store.path("table"), b"").unwrap();
        assert_eq!(store.load(), table(3, &["shop"]));
    }

    #[test]
    fn a_table_that_cannot_be_stored_is_an_error() {
        let directory = tempfile::tempdir().unwrap();
        let store = Store::open(directory.path()).unwrap();
        fs::create_dir(directory.path().join("table.new")).unwrap();
        assert!(store.save(&table(1, &[])).is_err());
    }
}
