//! What a kill of a target may cost: what the target had then, and no more.
//!
//! The target's journal says what it had; what it had not read yet stands in none.
//! What can be sent again goes to another target, so it is a victim only when its
//! answer had begun.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;
use std::time::Duration;

use cutover_tests::load::{Journal, Kind, MOST_AT_ONCE, Outcome, Phase, Record, Report};

use crate::verdict::is_idempotent;

/// How long after a kill its victims may be noticed: by a WebSocket with its
/// next message, by a busy user in its turn.
const NOTICED: Duration = Duration::from_secs(1);

/// How often a user may meet one kill: with what it had open, and with what the
/// kernel still took for the target before it had closed all its sockets.
const MEETINGS: u64 = 2;

/// A kill; times are counted from the load's start.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Kill {
    pub(crate) from: Duration,
    pub(crate) to: Duration,
    /// The place of the target's journal among all.
    pub(crate) journal: usize,
}

/// A user's connection to its server: who, and since when.
type Bond = (Arc<str>, Duration);

/// What kills may still have cost.
pub(crate) struct Victims<'r> {
    kills: Vec<KilledTarget<'r>>,
}

struct KilledTarget<'r> {
    kill: Kill,
    had: HashSet<&'r str>,
    /// The WebSockets that it had, by the messages it was asked.
    sockets: HashSet<Bond>,
    /// Victims so far, by user.
    taken: HashMap<Arc<str>, u64>,
}

impl<'r> Victims<'r> {
    pub(crate) fn of(kills: &[Kill], journals: &'r [Journal], report: &Report) -> Self {
        let with = |kill: &Kill| {
            let ids = journals.get(kill.journal).map(|journal| &journal.ids);
            let had: HashSet<&str> = ids.into_iter().flatten().map(String::as_str).collect();
            let messages = report.records.iter().filter(|record| {
                record.kind == Kind::WebSocket && had.contains(record.id.as_str())
            });
            let sockets = messages.map(bond).collect();
            KilledTarget {
                kill: *kill,
                had,
                sockets,
                taken: HashMap::new(),
            }
        };
        Self {
            kills: kills.iter().map(with).collect(),
        }
    }

    /// Whether a failed request, of which targets were asked so many times, was a
    /// victim of a kill.
    pub(crate) fn take(&mut self, record: &Record, times: u64) -> bool {
        let mut kills = self.kills.iter_mut();
        let Some(killed) = kills.find(|killed| killed.has_cost(record, times)) else {
            return false;
        };
        // A user has so many requests open at a moment, and no more.
        let open = match record.kind {
            Kind::Http2 | Kind::Http2Post => MOST_AT_ONCE,
            _ => 1,
        };
        let taken = killed.taken.entry(Arc::clone(&record.user)).or_default();
        *taken += 1;
        *taken <= open * MEETINGS
    }
}

impl KilledTarget<'_> {
    fn has_cost(&self, record: &Record, times: u64) -> bool {
        let Kill { from, to, .. } = self.kill;
        let is_noticed = record.ended() >= from && record.ended() <= to + NOTICED;
        if !is_noticed || record.bound > to {
            return false;
        }
        if is_idempotent(record.kind) && !is_in_answer(record) {
            return false;
        }
        match times {
            // Sent to a target that read no more.
            0 => record.began <= to || self.sockets.contains(&bond(record)),
            1 => self.had.contains(record.id.as_str()),
            // Another target was asked, too, and had to answer.
            _ => false,
        }
    }
}

fn bond(record: &Record) -> Bond {
    (Arc::clone(&record.user), record.bound)
}

fn is_in_answer(record: &Record) -> bool {
    let body = Phase::Body;
    matches!(&record.outcome, Outcome::Failed { phase, .. } if *phase == body)
}

#[cfg(test)]
mod tests {
    use super::*;

    const KILL: Kill = Kill {
        from: Duration::from_millis(1_000),
        to: Duration::from_millis(1_010),
        journal: 0,
    };

    fn failed(user: &str, kind: Kind, began: u64, ended: u64, phase: Phase) -> Record {
        Record {
            id: format!("{user}-{began}"),
            user: user.into(),
            kind,
            began: Duration::from_millis(began),
            bound: Duration::from_millis(began),
            latency: Duration::from_millis(ended - began),
            version: None,
            outcome: Outcome::Failed {
                phase,
                reason: "it broke".to_owned(),
            },
        }
    }

    /// How many of some failures a kill excuses, if these ids stand in the journal
    /// of the killed target and those in the other's.
    fn check(records: &[Record], killed: &[&str], other: &[&str], excused: usize) {
        let journal = |ids: &[&str]| Journal {
            ids: ids.iter().map(|&id| id.to_owned()).collect(),
        };
        let journals = [journal(killed), journal(other)];
        let report = Report {
            records: records.to_vec(),
            ..Report::default()
        };
        let mut victims = Victims::of(&[KILL], &journals, &report);
        let taken = records.iter().filter(|record| {
            let ids = killed.iter().chain(other);
            let times = ids.filter(|id| **id == record.id).count();
            victims.take(record, times as u64)
        });
        assert_eq!(taken.count(), excused, "{records:?}");
    }

    #[test]
    fn what_the_killed_target_had_is_a_victim() {
        let post = failed("a", Kind::Post, 999, 1_005, Phase::Status);
        check(std::slice::from_ref(&post), &["a-999"], &[], 1);
        // Sent to it, and not read any more.
        check(std::slice::from_ref(&post), &[], &[], 1);
        let stream = failed("a", Kind::Events, 500, 1_005, Phase::Body);
        check(&[stream], &["a-500"], &[], 1);
    }

    #[test]
    fn what_another_target_had_is_none() {
        let post = failed("a", Kind::Post, 999, 1_005, Phase::Status);
        check(&[post], &[], &["a-999"], 0);
        let get = failed("a", Kind::KeepAlive, 999, 1_005, Phase::Status);
        check(&[get], &["a-999"], &["a-999"], 0);
        let stream = failed("a", Kind::Events, 500, 1_005, Phase::Body);
        check(&[stream], &[], &["a-500"], 0);
    }

    #[test]
    fn what_can_be_sent_again_is_one_only_within_its_answer() {
        for (phase, excused) in [(Phase::Status, 0), (Phase::Head, 0), (Phase::Body, 1)] {
            let get = failed("a", Kind::KeepAlive, 999, 1_005, phase);
            check(&[get], &["a-999"], &[], excused);
        }
        let get = failed("a", Kind::KeepAlive, 999, 1_005, Phase::Status);
        check(&[get], &[], &[], 0);
    }

    #[test]
    fn what_failed_at_another_time_is_none() {
        for (began, ended) in [(900, 990), (999, 2_200), (1_020, 1_030)] {
            let post = failed("a", Kind::Post, began, ended, Phase::Status);
            let id = post.id.clone();
            check(&[post], &[&id], &[], 0);
        }
    }

    #[test]
    fn a_user_has_one_request_open_at_once_and_meets_a_kill_twice() {
        let began = [999, 1_001, 1_003];
        let posts = began.map(|began| failed("a", Kind::Post, began, 1_005, Phase::Head));
        check(&posts, &["a-999", "a-1001", "a-1003"], &[], 2);
    }

    #[test]
    fn a_websocket_is_a_victim_where_its_messages_went() {
        let mut first = failed("a", Kind::WebSocket, 900, 901, Phase::Head);
        first.outcome = Outcome::Ok;
        let mut next = failed("a", Kind::WebSocket, 1_200, 1_201, Phase::Head);
        next.bound = first.bound;
        check(&[first.clone(), next.clone()][1..], &[], &[], 0);
        let both = [first, next];
        let journals = [
            Journal {
                ids: vec!["a-900".to_owned()],
            },
            Journal::default(),
        ];
        let report = Report {
            records: both.to_vec(),
            ..Report::default()
        };
        let elsewhere = Kill { journal: 1, ..KILL };
        for (kill, is_victim) in [(KILL, true), (elsewhere, false)] {
            let mut victims = Victims::of(&[kill], &journals, &report);
            assert_eq!(victims.take(&both[1], 0), is_victim);
        }
    }
}
