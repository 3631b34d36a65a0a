//! A table whose keys are taken one by one.

use std::collections::BTreeMap;
use std::rc::Rc;

use toml::de::DeTable;

use super::{Fault, Note, NoteKind, Notes, Value, shorten};

/// A table of the document: each key is taken once, by the one who knows it.
pub struct Table<'r> {
    notes: &'r Notes,
    path: Rc<str>,
    at: usize,
    left: BTreeMap<&'r str, Value<'r>>,
    taken: BTreeMap<&'r str, Value<'r>>,
}

impl<'r> Table<'r> {
    pub(super) fn new(
        notes: &'r Notes,
        path: Rc<str>,
        at: usize,
        concealed: bool,
        entries: &'r DeTable<'r>,
    ) -> Self {
        let value = |key: &'r toml::Spanned<toml::de::DeString<'r>>, value| {
            let name: &str = key.get_ref();
            let value = Value::new(
                notes,
                path.clone(),
                name,
                key.span().start,
                concealed,
                value,
            );
            (name, value)
        };
        let left = entries.iter().map(|(k, v)| value(k, v)).collect();
        Self {
            notes,
            path,
            at,
            left,
            taken: BTreeMap::new(),
        }
    }

    /// Lets `read` take the keys, then notes those that are left as unknown.
    pub(super) fn read<T>(mut self, read: impl FnOnce(&mut Self) -> Option<T>) -> Option<T> {
        let value = read(&mut self);
        for (key, value) in self.left {
            let (table, text) = (self.path.clone(), value.shown_key());
            let kind = NoteKind::UnknownKey {
                table,
                key: key.to_owned(),
            };
            self.notes.add(Note {
                at: value.key_at(),
                text,
                kind,
            });
        }
        value
    }

    /// Takes a key that must be there; `example` is a value that its absence is answered with.
    pub fn required<T>(
        &mut self,
        key: &'static str,
        example: &str,
        read: impl FnOnce(&Value<'r>) -> Option<T>,
    ) -> Option<T> {
        match self.take(key) {
            Some(value) => read(&value),
            None => {
                let fault = match &*self.path {
                    "" => Fault::new("is missing"),
                    table => Fault::new(format!("is missing from [{table}]")),
                };
                self.fault(key, fault.hint(format!("write {key} = {example}")))
            }
        }
    }

    /// Takes a key that may be absent: `Some(None)`; `None` is a mistake, as everywhere.
    pub fn optional<T>(
        &mut self,
        key: &'static str,
        read: impl FnOnce(&Value<'r>) -> Option<T>,
    ) -> Option<Option<T>> {
        match self.take(key) {
            Some(value) => read(&value).map(Some),
            None => Some(None),
        }
    }

    /// Takes a key whose absence means `default`.
    pub fn or_default<T>(
        &mut self,
        key: &'static str,
        default: T,
        read: impl FnOnce(&Value<'r>) -> Option<T>,
    ) -> Option<T> {
        self.take(key).map_or(Some(default), |value| read(&value))
    }

    /// Takes a table; an absent one reads as an empty one, so that its defaults stand in one place.
    pub fn table<T>(
        &mut self,
        key: &'static str,
        read: impl FnOnce(&mut Table<'r>) -> Option<T>,
    ) -> Option<T> {
        match self.take(key) {
            Some(value) => value.table(read),
            None => {
                let path = join(&self.path, key);
                let (left, taken) = (BTreeMap::new(), BTreeMap::new());
                let empty = Table {
                    notes: self.notes,
                    path,
                    at: self.at,
                    left,
                    taken,
                };
                empty.read(read)
            }
        }
    }

    /// Takes all keys that are left, where any name may stand.
    pub fn rest(&mut self) -> Vec<(String, Value<'r>)> {
        let left = std::mem::take(&mut self.left);
        let entry = |(key, value): (&str, Value<'r>)| (key.to_owned(), value);
        left.into_iter().map(entry).collect()
    }

    /// Notes that a key does not fit the others; where it is absent, the table's place is told.
    pub fn fault<T>(&self, key: &str, fault: impl Into<Fault>) -> Option<T> {
        match self.taken.get(key) {
            Some(value) => value.fault(fault),
            None => {
                self.notes
                    .add(Note::new(self.at, shorten(key), fault.into()));
                None
            }
        }
    }

    fn take(&mut self, key: &'static str) -> Option<Value<'r>> {
        self.notes.know(&self.path, key);
        let value = self.left.remove(key)?;
        self.taken.insert(key, value.clone());
        Some(value)
    }
}

/// The path of a table in another: `a.b`.
pub(super) fn join(path: &str, key: &str) -> Rc<str> {
    match path {
        "" => Rc::from(shorten(key)),
        _ => Rc::from(format!("{path}.{}", shorten(key))),
    }
}
