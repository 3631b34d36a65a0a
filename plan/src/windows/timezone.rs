//! A zone of the time zone database that the program was built with.

use std::fmt;

use jiff::Timestamp;
use jiff::tz::{Offset, TimeZone, TimeZoneDatabase};

use super::ParseSpanError;
use crate::spec::reader::nearest;

/// A place whose clocks are meant, by its name in the IANA database; the default is `UTC`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Timezone {
    name: String,
    zone: TimeZone,
}

impl Timezone {
    /// Reads a name exactly as the database writes it: `Asia/Seoul`, `UTC`.
    pub fn parse(text: &str) -> Result<Self, ParseSpanError> {
        // Not the global database: that one looks at the host where it may.
        let database = TimeZoneDatabase::bundled();
        let is_listed = database.available().any(|name| name.as_str() == text);
        let zone = database.get(text).ok().filter(|_| is_listed);
        match zone {
            Some(zone) => Ok(Self {
                name: text.to_owned(),
                zone,
            }),
            None => Err(ParseSpanError {
                fault: "is not a time zone",
                hint: match meant(&database, text) {
                    Some(name) => format!("did you mean {name}?"),
                    None => "write its IANA name, like \"Europe/Berlin\" or \"UTC\"".to_owned(),
                },
            }),
        }
    }

    /// How far its clocks are from UTC.
    pub(super) fn offset(&self, moment: Timestamp) -> Offset {
        self.zone.to_offset(moment)
    }

    /// When its clocks are changed, from the first time after a moment on.
    pub(super) fn changes(&self, after: Timestamp) -> impl Iterator<Item = Timestamp> {
        self.zone.following(after).map(|change| change.timestamp())
    }

    /// A moment as a person there says it.
    pub(super) fn show(&self, moment: Timestamp) -> impl fmt::Display {
        let local = moment.to_zoned(self.zone.clone());
        local.strftime("%a %Y-%m-%d %H:%M %:z").to_string()
    }
}

impl Default for Timezone {
    fn default() -> Self {
        Self {
            name: "UTC".to_owned(),
            zone: TimeZone::UTC,
        }
    }
}

impl fmt::Display for Timezone {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.name)
    }
}

/// The name that a text is a slip of the pen away from, or the one that ends in the city it names.
fn meant(database: &TimeZoneDatabase, text: &str) -> Option<String> {
    let names: Vec<String> = database.available().map(|name| name.to_string()).collect();
    let city = text.rsplit('/').next()?.replace(' ', "_");
    let is_there = |name: &&String| {
        let place = name.rsplit('/').next();
        name.contains('/') && place.is_some_and(|place| place.eq_ignore_ascii_case(&city))
    };
    let lower: Vec<String> = names.iter().map(|name| name.to_lowercase()).collect();
    let slip = nearest(text, lower.iter().map(String::as_str));
    let slip = slip.and_then(|slip| names.iter().find(|name| name.eq_ignore_ascii_case(slip)));
    let same = names.iter().find(|name| name.eq_ignore_ascii_case(text));
    same.or_else(|| names.iter().find(is_there))
        .or(slip)
        .cloned()
}
