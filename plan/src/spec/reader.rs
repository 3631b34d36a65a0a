//! Reads a configuration file and collects all of its mistakes at once.
//!
//! [`read`] opens a TOML document and hands its root [`Table`] to a closure,
//! which takes the keys it knows. What no one took is an unknown key. Each
//! mistake is noted where it is found and reading goes on, so that a person
//! mends a file in one round; the value is given only when nothing was noted.
//!
//! A file that is no TOML shows its syntax mistakes alone: what would be read
//! from the rest of it is a guess. Keys that are set twice are the exception,
//! because there the rest is certain.
//!
//! Invariant: a mistake never repeats what stands in a concealed table or
//! value, nor anything of a text that is no TOML.

mod suggest;
mod table;
mod value;

use std::cell::RefCell;
use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::rc::Rc;

use toml::de::{DeTable, Error};

use super::quantity::ParseQuantityError;
use crate::id::ParseIdError;
use crate::windows::ParseSpanError;

pub(crate) use suggest::nearest;
pub use table::Table;
pub use value::Value;

/// The longest file that is read: far more than any configuration by hand.
pub const MAX_BYTES: usize = 256 << 10;

/// How many mistakes are shown: more than anyone mends in one round.
pub const MAX_MISTAKES: usize = 100;

/// The longest part of a key or of a value that a mistake repeats.
const SHOWN: usize = 60;

/// One thing in a file that is not right, and its place.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Mistake {
    /// The file, as it was named to [`read`].
    pub file: String,
    /// Its line, from 1.
    pub line: usize,
    /// Its character in the line, from 1.
    pub column: usize,
    /// The key and value that are wrong, shortened; empty where they must not show.
    pub text: String,
    /// What is wrong.
    pub fault: String,
    /// What would be right.
    pub hint: Option<String>,
}

impl fmt::Display for Mistake {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}:{}: ", self.file, self.line, self.column)?;
        if !self.text.is_empty() {
            write!(f, "{}: ", self.text)?;
        }
        f.write_str(&self.fault)?;
        match &self.hint {
            Some(hint) => write!(f, " (hint: {hint})"),
            None => Ok(()),
        }
    }
}

/// What is wrong with a value, before it has a place.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Fault {
    fault: String,
    hint: Option<String>,
    concealed: bool,
}

impl Fault {
    /// A fault in words that follow the value: `must be …`, `is not …`.
    pub fn new(fault: impl Into<String>) -> Self {
        let fault = fault.into();
        Self {
            fault,
            hint: None,
            concealed: false,
        }
    }

    /// That `text` is none of the names that may stand here.
    pub fn not_one_of(text: &str, names: &[&str]) -> Self {
        let fault = Self::new(format!("is not one of {}", names.join(", ")));
        match suggest::nearest(text, names.iter().copied()) {
            Some(name) => fault.hint(format!("did you mean {name}?")),
            None => fault,
        }
    }

    /// The same with what would be right.
    pub fn hint(mut self, hint: impl Into<String>) -> Self {
        self.hint = Some(hint.into());
        self
    }

    /// The same, told without the value: it may hold a secret.
    pub fn concealed(mut self) -> Self {
        self.concealed = true;
        self
    }
}

impl From<&str> for Fault {
    fn from(fault: &str) -> Self {
        Self::new(fault)
    }
}

impl From<ParseIdError> for Fault {
    /// Leaves out the text that the error repeats: the mistake shows it already.
    fn from(error: ParseIdError) -> Self {
        Self::new(error.fault)
    }
}

impl From<ParseQuantityError> for Fault {
    fn from(error: ParseQuantityError) -> Self {
        Self::new(error.fault).hint(error.hint)
    }
}

impl From<ParseSpanError> for Fault {
    fn from(error: ParseSpanError) -> Self {
        Self::new(error.fault).hint(error.hint)
    }
}

/// Reads a TOML document; `file` is only its name in the mistakes.
///
/// The closure takes keys from the root table and gives `None` only where a
/// take gave `None`, which is always after a mistake was noted.
pub fn read<T>(
    file: &str,
    text: &str,
    root: impl FnOnce(&mut Table<'_>) -> Option<T>,
) -> Result<T, Vec<Mistake>> {
    if text.len() > MAX_BYTES {
        let fault = format!("the file has {} bytes, more than {MAX_BYTES}", text.len());
        let note = Note::new(0, String::new(), Fault::new(fault));
        return Err(vec![note.place(file, text, &BTreeMap::new())]);
    }
    let notes = Notes::default();
    let (document, errors) = DeTable::parse_recoverable(text);
    let sound = errors.iter().all(is_duplicate);
    for error in &errors {
        notes.add(syntax_note(text, error, sound));
    }
    let value = match sound {
        true => Table::new(&notes, Rc::from(""), 0, false, document.get_ref()).read(root),
        false => None,
    };
    let mistakes = notes.into_mistakes(file, text);
    if mistakes.is_empty() {
        assert!(value.is_some(), "a reading without mistakes gives a value");
    }
    value.filter(|_| mistakes.is_empty()).ok_or(mistakes)
}

/// The keys that `root` asks for while it reads `text`; those of a table that
/// is absent are not among them, where its absence means something of its own.
#[cfg(test)]
pub(super) fn keys<T>(text: &str, root: impl FnOnce(&mut Table<'_>) -> Option<T>) -> Known {
    let notes = Notes::default();
    let (document, _) = DeTable::parse_recoverable(text);
    Table::new(&notes, Rc::from(""), 0, false, document.get_ref()).read(root);
    notes.known.into_inner()
}

fn is_duplicate(error: &Error) -> bool {
    error.message() == "duplicate key"
}

/// Shows text only in a sound document: elsewhere what looks like a key can be a part of a secret.
fn syntax_note(text: &str, error: &Error, sound: bool) -> Note {
    let span = error.span().unwrap_or_default();
    if sound && is_duplicate(error) {
        let key = text.get(span.clone()).unwrap_or_default();
        let fault = Fault::new("is set twice").hint("keep one of the two");
        return Note::new(span.start, shorten(key.trim_matches(['"', '\''])), fault);
    }
    Note::new(span.start, String::new(), Fault::new(error.message()))
}

/// What was found wrong so far, and which keys were asked for.
#[derive(Default)]
struct Notes {
    found: RefCell<Vec<Note>>,
    known: RefCell<Known>,
}

/// The keys that were asked for, by the path of their table.
pub(super) type Known = BTreeMap<Rc<str>, BTreeSet<&'static str>>;

/// A mistake by its offset in the text.
struct Note {
    at: usize,
    text: String,
    kind: NoteKind,
}

enum NoteKind {
    Fault(Fault),
    /// Its hint is found last, when all known keys are known.
    UnknownKey {
        table: Rc<str>,
        key: String,
    },
}

impl Notes {
    fn add(&self, note: Note) {
        self.found.borrow_mut().push(note);
    }

    fn know(&self, table: &Rc<str>, key: &'static str) {
        let mut known = self.known.borrow_mut();
        known.entry(table.clone()).or_default().insert(key);
    }

    /// The mistakes by place; the work is bounded because only those that show are finished.
    fn into_mistakes(self, file: &str, text: &str) -> Vec<Mistake> {
        let mut notes = self.found.into_inner();
        let known = self.known.into_inner();
        notes.sort_by_key(|note| note.at);
        let more = notes.len().saturating_sub(MAX_MISTAKES);
        if more > 0 {
            notes.truncate(MAX_MISTAKES);
            let fault = Fault::new(format!("{more} more mistakes are not shown"));
            notes.push(Note::new(text.len(), String::new(), fault));
        }
        let place = |note: Note| note.place(file, text, &known);
        notes.into_iter().map(place).collect()
    }
}

impl Note {
    fn new(at: usize, text: String, fault: Fault) -> Self {
        let kind = NoteKind::Fault(fault);
        Self { at, text, kind }
    }

    fn place(self, file: &str, text: &str, known: &Known) -> Mistake {
        let (fault, hint) = match self.kind {
            NoteKind::Fault(fault) => (fault.fault, fault.hint),
            NoteKind::UnknownKey { table, key } => {
                let place = if table.is_empty() {
                    "here"
                } else {
                    &*format!("in [{table}]")
                };
                let fault = format!("is not known {place}");
                (fault, suggest::hint(known, &table, &key))
            }
        };
        let (line, column) = line_and_column(text, self.at);
        Mistake {
            file: file.to_owned(),
            line,
            column,
            text: self.text,
            fault,
            hint,
        }
    }
}

/// The place of an offset; the end of a file is the end of its last line.
fn line_and_column(text: &str, at: usize) -> (usize, usize) {
    let last = text.strip_suffix('\n').unwrap_or(text).len();
    let mut at = at.min(last);
    while !text.is_char_boundary(at) {
        at -= 1;
    }
    let before = &text[..at];
    let start = before.rfind('\n').map_or(0, |newline| newline + 1);
    let line = before.bytes().filter(|b| *b == b'\n').count() + 1;
    (line, before[start..].chars().count() + 1)
}

/// Cuts a text to a length that fits a line.
fn shorten(text: &str) -> String {
    match text.char_indices().nth(SHOWN) {
        Some((end, _)) => format!("{}…", &text[..end]),
        None => text.to_owned(),
    }
}

#[cfg(test)]
mod tests;
