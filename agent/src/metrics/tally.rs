//! What arrived at the doors, by how it was answered.

use std::sync::atomic::{AtomicU64, Ordering};

use super::page::{Kind, Page};
use crate::inbox::Door;

/// Every status that the inbox gives; anything else is told as `other`.
const STATUSES: [u16; 15] = [
    200, 202, 400, 401, 403, 404, 405, 408, 409, 413, 422, 431, 500, 503, 0,
];

/// Why a call was not believed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Distrust {
    /// Nobody with the secret signed these bytes.
    Forged,
    /// Signed too long ago, or in the future: an old call, or a wrong clock.
    Stale,
    /// The headers of a signature are missing.
    Unsigned,
    /// They have a form that no signer writes.
    Malformed,
    /// The token is missing, another deploy's, or not enough.
    Token,
}

const DISTRUSTS: [(Distrust, &str); 5] = [
    (Distrust::Forged, "forged"),
    (Distrust::Stale, "stale"),
    (Distrust::Unsigned, "unsigned"),
    (Distrust::Malformed, "malformed"),
    (Distrust::Token, "token"),
];

const DOORS: [(Door, &str); 2] = [(Door::Network, "network"), (Door::Local, "local")];

/// Counts of the inbox.
#[derive(Debug, Default)]
pub struct Tally {
    answers: [[AtomicU64; STATUSES.len()]; DOORS.len()],
    distrusted: [AtomicU64; DISTRUSTS.len()],
}

impl Tally {
    /// A request was answered with this status.
    pub fn answered(&self, door: Door, status: u16) {
        let door = DOORS.iter().position(|(known, _)| *known == door);
        let place = STATUSES.iter().position(|known| *known == status);
        let place = place.unwrap_or(STATUSES.len() - 1);
        let counter = door.and_then(|door| self.answers.get(door)?.get(place));
        count(counter);
    }

    /// A call was refused because nobody proved that they may make it.
    pub fn distrusted(&self, why: Distrust) {
        let place = DISTRUSTS.iter().position(|(known, _)| *known == why);
        count(place.and_then(|place| self.distrusted.get(place)));
    }

    pub(super) fn render(&self, page: &mut Page) {
        let name = "inbox_requests_total";
        page.family(
            name,
            Kind::Counter,
            "Requests, by door and status of the answer.",
        );
        for ((_, door), answers) in DOORS.iter().zip(&self.answers) {
            for (status, answers) in STATUSES.iter().zip(answers) {
                let status = match status {
                    0 => "other".to_owned(),
                    status => status.to_string(),
                };
                let labels = [("door", *door), ("status", &status)];
                page.line(name, &labels, answers.load(Ordering::Relaxed));
            }
        }
        let name = "inbox_distrusted_total";
        let help =
            "Calls refused because nobody proved that they may make them, by what was wrong.";
        page.family(name, Kind::Counter, help);
        for ((_, reason), count) in DISTRUSTS.iter().zip(&self.distrusted) {
            page.line(name, &[("reason", reason)], count.load(Ordering::Relaxed));
        }
    }
}

fn count(counter: Option<&AtomicU64>) {
    if let Some(counter) = counter {
        counter.fetch_add(1, Ordering::Relaxed);
    }
}
