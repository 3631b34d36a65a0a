//! One value of the document and the types it can be read as.

use std::fmt::{Debug, Display};
use std::ops::RangeInclusive;
use std::rc::Rc;
use std::time::Duration;

use toml::Spanned;
use toml::de::{DeInteger, DeValue};

use super::table::join;
use super::{Fault, Note, Notes, Table, shorten};
use crate::spec::quantity::{Bytes, Rate, parse_duration, render_duration};

/// A value with its key and its place; what cannot be read is noted and gives `None`.
#[derive(Clone)]
pub struct Value<'r> {
    notes: &'r Notes,
    table: Rc<str>,
    key: &'r str,
    key_at: usize,
    concealed: bool,
    value: &'r Spanned<DeValue<'r>>,
}

impl<'r> Value<'r> {
    pub(super) fn new(
        notes: &'r Notes,
        table: Rc<str>,
        key: &'r str,
        key_at: usize,
        concealed: bool,
        value: &'r Spanned<DeValue<'r>>,
    ) -> Self {
        Self {
            notes,
            table,
            key,
            key_at,
            concealed,
            value,
        }
    }

    /// The same value, of which no mistake shows anything, nor of anything in it.
    pub fn concealed(&self) -> Self {
        Self {
            concealed: true,
            ..self.clone()
        }
    }

    /// Whether it is a string: for what may be written in two ways.
    pub fn is_text(&self) -> bool {
        matches!(self.value.get_ref(), DeValue::String(_))
    }

    /// Whether it is a table: for what may be written in two ways.
    pub fn is_table(&self) -> bool {
        matches!(self.value.get_ref(), DeValue::Table(_))
    }

    /// A string.
    pub fn string(&self) -> Option<String> {
        self.text("put it in quotes").map(str::to_owned)
    }

    /// A string that `read` makes a value of; a newtype's own `parse` fits.
    pub fn parse<T, E: Into<Fault>>(&self, read: impl FnOnce(&str) -> Result<T, E>) -> Option<T> {
        self.parse_text("put it in quotes", read)
    }

    /// One of several names.
    pub fn choice<T: Copy>(&self, names: &[(&str, T)]) -> Option<T> {
        self.parse(|text| {
            let found = names.iter().find(|(name, _)| *name == text);
            let all = || names.iter().map(|(name, _)| *name).collect::<Vec<_>>();
            found
                .map(|(_, value)| *value)
                .ok_or_else(|| Fault::not_one_of(text, &all()))
        })
    }

    /// A duration such as `90s` within bounds.
    pub fn duration(&self, bounds: RangeInclusive<Duration>) -> Option<Duration> {
        let duration = self.parse_text("write \"90s\" or \"1m 30s\"", parse_duration)?;
        let render = |bound: &Duration| render_duration(*bound);
        self.within(duration, &bounds, render)
    }

    /// A number of bytes such as `512MiB` within bounds.
    pub fn bytes(&self, bounds: RangeInclusive<Bytes>) -> Option<Bytes> {
        let bytes = self.parse_text("write \"512MiB\" or \"1GiB\"", Bytes::parse)?;
        self.within(bytes, &bounds, Bytes::to_string)
    }

    /// A share such as `1%`.
    pub fn rate(&self) -> Option<Rate> {
        self.parse_text("write \"1%\" or \"0.5%\"", Rate::parse)
    }

    /// An integer within bounds.
    pub fn integer<T>(&self, bounds: RangeInclusive<T>) -> Option<T>
    where
        T: TryFrom<i64> + PartialOrd + Display + Copy,
    {
        let DeValue::Integer(integer) = self.value.get_ref() else {
            return self.wrong_type("an integer", "write it without quotes or point");
        };
        let number = to_i64(integer).and_then(|number| T::try_from(number).ok());
        match number {
            Some(number) => self.within(number, &bounds, T::to_string),
            None => self.fault(out_of(&bounds, T::to_string)),
        }
    }

    /// An integer or a float, which `read` gets in decimal digits, so that nothing is rounded.
    pub fn number<T, E: Into<Fault>>(&self, read: impl FnOnce(&str) -> Result<T, E>) -> Option<T> {
        let digits = match self.value.get_ref() {
            DeValue::Integer(integer) => match to_i64(integer) {
                Some(number) => number.to_string(),
                None => return self.fault("is too large"),
            },
            DeValue::Float(float) => float.as_str().to_owned(),
            _ => return self.wrong_type("a number", "write it without quotes"),
        };
        read(&digits).map_or_else(|fault| self.fault(fault), Some)
    }

    /// `true` or `false`.
    pub fn boolean(&self) -> Option<bool> {
        let value = self.value.get_ref().as_bool();
        value.or_else(|| self.wrong_type("a boolean", "write true or false, without quotes"))
    }

    /// An array; `None` if any item is refused, after all of them were read.
    pub fn array<T>(
        &self,
        count: RangeInclusive<usize>,
        mut read: impl FnMut(&Value<'r>) -> Option<T>,
    ) -> Option<Vec<T>> {
        let DeValue::Array(items) = self.value.get_ref() else {
            return self.wrong_type("an array", "put it in [ and ]");
        };
        if !count.contains(&items.len()) {
            let (min, max) = (count.start(), count.end());
            return self.fault(format!("must have {min} to {max} items").as_str());
        }
        let item = |value| Self {
            value,
            key_at: value.span().start,
            ..self.clone()
        };
        let read: Vec<Option<T>> = items.iter().map(|value| read(&item(value))).collect();
        read.into_iter().collect()
    }

    /// A table; keys that `read` leaves are unknown.
    pub fn table<T>(&self, read: impl FnOnce(&mut Table<'r>) -> Option<T>) -> Option<T> {
        let DeValue::Table(entries) = self.value.get_ref() else {
            let hint = format!("write [{}] and its keys below", join(&self.table, self.key));
            return self.wrong_type("a table", &hint);
        };
        let path = join(&self.table, self.key);
        let at = self.value.span().start;
        Table::new(self.notes, path, at, self.concealed, entries).read(read)
    }

    /// Notes that the value is wrong.
    pub fn fault<T>(&self, fault: impl Into<Fault>) -> Option<T> {
        let fault = fault.into();
        let mut text = self.shown_key();
        if let (false, Some(value)) = (self.concealed || fault.concealed, self.shown_value()) {
            text = format!("{text} {value}");
        }
        self.notes
            .add(Note::new(self.value.span().start, text, fault));
        None
    }

    /// Notes that the key is wrong, whatever its value.
    pub fn key_fault<T>(&self, fault: impl Into<Fault>) -> Option<T> {
        let note = Note::new(self.key_at, self.shown_key(), fault.into());
        self.notes.add(note);
        None
    }

    pub(super) fn key_at(&self) -> usize {
        self.key_at
    }

    /// The key as a file writes it.
    pub(super) fn shown_key(&self) -> String {
        let bare = |c: char| c.is_ascii_alphanumeric() || c == '_' || c == '-';
        match !self.key.is_empty() && self.key.chars().all(bare) {
            true => shorten(self.key),
            false => quote(self.key),
        }
    }

    /// The value on one line; arrays and tables are left out, since they can hold anything.
    fn shown_value(&self) -> Option<String> {
        match self.value.get_ref() {
            DeValue::String(text) => Some(quote(text)),
            DeValue::Integer(integer) => Some(shorten(&integer.to_string())),
            DeValue::Float(float) => Some(shorten(float.as_str())),
            DeValue::Boolean(value) => Some(value.to_string()),
            DeValue::Datetime(date) => Some(date.to_string()),
            DeValue::Array(_) | DeValue::Table(_) => None,
        }
    }

    fn parse_text<T, E: Into<Fault>>(
        &self,
        hint: &str,
        read: impl FnOnce(&str) -> Result<T, E>,
    ) -> Option<T> {
        read(self.text(hint)?).map_or_else(|fault| self.fault(fault), Some)
    }

    fn text(&self, hint: &str) -> Option<&'r str> {
        let text = self.value.get_ref().as_str();
        text.or_else(|| self.wrong_type("a string", hint))
    }

    /// The hint mends a scalar; an array or a table is another thing altogether.
    fn wrong_type<T>(&self, expected: &str, hint: &str) -> Option<T> {
        let (found, scalar) = match self.value.get_ref() {
            DeValue::String(_) => ("a string", true),
            DeValue::Integer(_) => ("an integer", true),
            DeValue::Float(_) => ("a float", true),
            DeValue::Boolean(_) => ("a boolean", true),
            DeValue::Datetime(_) => ("a date", true),
            DeValue::Array(_) => ("an array", false),
            DeValue::Table(_) => ("a table", false),
        };
        let fault = Fault::new(format!("expected {expected}, found {found}"));
        self.fault(if scalar { fault.hint(hint) } else { fault })
    }

    fn within<T: PartialOrd>(
        &self,
        value: T,
        bounds: &RangeInclusive<T>,
        render: impl Fn(&T) -> String,
    ) -> Option<T> {
        match bounds.contains(&value) {
            true => Some(value),
            false => self.fault(out_of(bounds, render)),
        }
    }
}

fn out_of<T>(bounds: &RangeInclusive<T>, render: impl Fn(&T) -> String) -> Fault {
    let (min, max) = (render(bounds.start()), render(bounds.end()));
    Fault::new(format!("must be from {min} to {max}"))
}

fn to_i64(integer: &DeInteger<'_>) -> Option<i64> {
    i64::from_str_radix(integer.as_str(), integer.radix()).ok()
}

/// A text in quotes, with what would break the line escaped.
fn quote(text: &str) -> String {
    let quoted: &dyn Debug = &shorten(text);
    format!("{quoted:?}")
}
