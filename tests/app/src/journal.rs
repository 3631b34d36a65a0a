//! The list of requests this process served.

use std::fs::File;
use std::io::{self, Write as _};
use std::path::Path;
use std::sync::Mutex;

/// Ids kept at most; past it they are only counted. A load run of some minutes
/// stays below, and a million ids of 24 bytes is memory a container has.
const KEPT_IDS: usize = 1_000_000;

/// Ids of served requests, in the order of their answers.
#[derive(Debug, Default)]
pub struct Journal {
    entries: Mutex<Entries>,
    /// Gets each id that is asked for.
    file: Option<File>,
}

#[derive(Debug, Default)]
struct Entries {
    ids: Vec<String>,
    count: usize,
}

impl Journal {
    /// A journal that also adds to this file, if there is one.
    ///
    /// # Errors
    ///
    /// The file cannot be opened.
    pub fn open(path: Option<&Path>) -> io::Result<Self> {
        let open = |path| File::options().create(true).append(true).open(path);
        Ok(Self {
            file: path.map(open).transpose()?,
            ..Self::default()
        })
    }

    /// Notes the id of a request that has just come. The file has it whatever
    /// becomes of this process.
    pub fn asked(&self, id: &str) {
        if let Some(mut file) = self.file.as_ref() {
            // One write, so that two of them cannot mix; what is not written
            // is missed by whoever reads the file.
            let _ = file.write_all(format!("{id}\n").as_bytes());
        }
    }

    /// Adds the id of a request that is answered now.
    pub fn add(&self, id: &str) {
        let mut entries = self.entries();
        entries.count += 1;
        if entries.ids.len() < KEPT_IDS {
            entries.ids.push(id.to_owned());
        }
    }

    /// How many requests were served, kept or not.
    pub fn count(&self) -> usize {
        self.entries().count
    }

    /// The kept ids from the `first` on, one a line.
    pub fn lines(&self, first: usize) -> String {
        let entries = self.entries();
        let mut text = String::new();
        for id in entries.ids.iter().skip(first) {
            text.push_str(id);
            text.push('\n');
        }
        text
    }

    fn entries(&self) -> std::sync::MutexGuard<'_, Entries> {
        // A panic elsewhere leaves a list that is still true.
        match self.entries.lock() {
            Ok(entries) => entries,
            Err(poisoned) => poisoned.into_inner(),
        }
    }
}
