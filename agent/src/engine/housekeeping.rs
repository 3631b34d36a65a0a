//! Housekeeping: a release that has stood by for its time is retired, and the
//! one that serves gets as many containers as the app's file says, by a deploy
//! that nobody called for.
//!
//! It begins only while nothing else is under way, and is as durable as any
//! other deploy. A call that comes meanwhile takes its place where that can
//! still be, and waits for its end otherwise.

use std::collections::BTreeSet;
use std::time::Duration;

use cutover_plan::compile::CompileError;
use cutover_plan::event::Event;
use cutover_plan::id::{ReleaseNumber, Replica};
use cutover_plan::outcome::Outcome;
use cutover_plan::plan::Kind;
use cutover_plan::state::DeployState;
use cutover_wire::request::Source;
use jiff::Timestamp;

use super::keep::Seen;
use super::{Deploy, Engine, EngineError, Look, counting};
use crate::containers::{Container, Containers};
use crate::journal::Record;
use crate::texts;
use crate::traffic::Traffic;

/// How long after a try that did not do it the next one begins. Each further one
/// takes twice as long: whatever is in the way needs a person, and a history has
/// a limit.
const AGAIN_AFTER: Duration = Duration::from_secs(600);
const AGAIN_AFTER_AT_MOST: Duration = Duration::from_secs(24 * 3600);

/// The same where users wait for it.
const SOON_AFTER: Duration = Duration::from_secs(30);
const SOON_AFTER_AT_MOST: Duration = Duration::from_secs(600);

/// When housekeeping is due: what is in the way of the one is not in the way of
/// the other.
#[derive(Debug)]
pub(super) struct Housekeeper {
    retire: Tries,
    scale: Tries,
    /// Scaling from nothing.
    start: Tries,
}

impl Default for Housekeeper {
    fn default() -> Self {
        Self {
            retire: Tries::new(AGAIN_AFTER, AGAIN_AFTER_AT_MOST),
            scale: Tries::new(AGAIN_AFTER, AGAIN_AFTER_AT_MOST),
            start: Tries::new(SOON_AFTER, SOON_AFTER_AT_MOST),
        }
    }
}

/// When the next try of something may begin.
#[derive(Debug)]
struct Tries {
    not_before: Option<Timestamp>,
    first: Duration,
    pause: Duration,
    longest: Duration,
}

impl Tries {
    fn new(first: Duration, longest: Duration) -> Self {
        Self {
            not_before: None,
            first,
            pause: first,
            longest,
        }
    }

    fn hear(&mut self, outcome: Option<Outcome>, now: Timestamp) {
        if outcome == Some(Outcome::Promoted) {
            *self = Self::new(self.first, self.longest);
            return;
        }
        self.not_before = now.checked_add(self.pause).ok();
        self.pause = (2 * self.pause).min(self.longest);
    }

    fn may_begin(&self, now: Timestamp) -> bool {
        self.not_before.is_none_or(|not_before| now >= not_before)
    }
}

impl Housekeeper {
    /// Takes note of a deploy that ended.
    pub(super) fn hear(&mut self, kind: Kind, outcome: Option<Outcome>, now: Timestamp) {
        match kind {
            Kind::Retire => self.retire.hear(outcome, now),
            Kind::Scale => {
                self.scale.hear(outcome, now);
                self.start.hear(outcome, now);
            }
            Kind::Deploy | Kind::Rollback => *self = Self::default(),
        }
    }

    /// Whether a scale may be begun by what was seen.
    pub(super) fn may_scale(&self, seen: Seen, now: Timestamp) -> bool {
        match seen {
            Seen::InOrder => false,
            Seen::Miscounted => self.scale.may_begin(now),
            Seen::Deserted(_) => self.start.may_begin(now),
        }
    }

    /// When a release that stands by until then is to be retired.
    pub(super) fn due(&self, standby_until: Option<Timestamp>) -> Option<Timestamp> {
        let until = standby_until?;
        let not_before = self.retire.not_before;
        Some(not_before.map_or(until, |not_before| until.max(not_before)))
    }
}

impl<C: Containers, T: Traffic, R: Record> Engine<C, T, R> {
    /// Makes durable that something is put in order.
    pub(super) fn begin_housekeeping(&self, kind: Kind) -> Result<Deploy, EngineError> {
        let now = (self.drivers.clock)();
        let id = (self.drivers.ids)(now);
        let event = Event::Accepted {
            app: self.lease.app().clone(),
            kind,
            image: None,
            by: None,
            window_override: None,
        };
        let illegal = |source| EngineError::Illegal {
            deploy: id.clone(),
            source,
        };
        let state = DeployState::begin(&event).map_err(illegal)?;
        let source = Source::default();
        self.drivers
            .record
            .accept(None, &id, now, &event, &source, &[])?;
        tracing::info!(app = %self.lease.app(), deploy = %id, "{}", texts::told(&event, None));
        Ok(Deploy {
            id,
            source,
            state,
            image: None,
            window_override: None,
            registry: None,
            resumed: false,
            compared: counting::Memory::default(),
        })
    }
}

impl<C: Containers, T: Traffic, R: Record> Look<C, T, R> {
    /// Whether the release that serves has other containers than the app's file
    /// says, or none; the error is why that cannot be mended without a deploy. One
    /// that has some, none of which runs, is no matter of their number. Where the
    /// proxy sends users `elsewhere`, the journal may be older than the host.
    pub(super) fn count(
        &self,
        containers: &[Container],
        elsewhere: Option<ReleaseNumber>,
    ) -> Result<Seen, String> {
        let to = &self.releases.traffic;
        let Some(serving) = to.sole() else {
            return Ok(Seen::InOrder);
        };
        let of_serving = || containers.iter().filter(|one| one.release == serving);
        let serves = |one: &Container| to.includes(serving, one.replica);
        let there: BTreeSet<_> = of_serving().map(|one| one.replica).collect();
        let right = there == (0..self.spec.replicas).map(Replica).collect();
        let runs = |one: &Container| serves(one) && one.address().is_some();
        let seen = match of_serving().any(serves) {
            false => Seen::Deserted(serving),
            true if right && of_serving().all(serves) => return Ok(Seen::InOrder),
            true if !of_serving().any(runs) => return Ok(Seen::InOrder),
            true => Seen::Miscounted,
        };
        if let (Some(trouble), Some(other)) = (seen.trouble(), elsewhere) {
            return Err(format!("{trouble}; the proxy sends its users to {other}"));
        }
        let known = self.releases.find(serving);
        let fingerprint = self.fingerprint().map_err(|failure| failure.reason)?;
        if known.is_some_and(|known| known.release.fingerprint == fingerprint) {
            return Ok(seen);
        }
        let reconfigured = CompileError::Reconfigured { serving };
        let told = format!("{reconfigured}: {}", reconfigured.hint());
        Err(match seen.trouble() {
            Some(trouble) => format!("{trouble}; {told}"),
            None => told,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_fails_is_tried_ever_more_rarely_until_something_succeeds() {
        let mut housekeeper = Housekeeper::default();
        let mut now = Timestamp::UNIX_EPOCH;
        let tries_in = |housekeeper: &mut Housekeeper, now: &mut Timestamp, seen, time| {
            let (mut tries, end) = (0, *now + time);
            while *now < end {
                if housekeeper.may_scale(seen, *now) {
                    tries += 1;
                    housekeeper.hear(Kind::Scale, Some(Outcome::Failed), *now);
                    assert!(!housekeeper.may_scale(seen, *now));
                }
                *now += Duration::from_secs(10);
            }
            tries
        };
        let day = Duration::from_secs(24 * 3600);
        // Eight on the first days, and then one a day.
        let tries = tries_in(&mut housekeeper, &mut now, Seen::Miscounted, 30 * day);
        assert!((30..45).contains(&tries), "{tries} tries in 30 days");
        housekeeper.hear(Kind::Scale, Some(Outcome::Promoted), now);
        // Five in the first minutes, and then one every ten.
        let gone = Seen::Deserted(ReleaseNumber(1));
        let tries = tries_in(&mut housekeeper, &mut now, gone, day);
        assert!((140..155).contains(&tries), "{tries} tries in a day");
        housekeeper.hear(Kind::Scale, Some(Outcome::Promoted), now);
        assert!(housekeeper.may_scale(gone, now));
        assert!(housekeeper.may_scale(Seen::Miscounted, now));
        assert!(!housekeeper.may_scale(Seen::InOrder, now));
        housekeeper.hear(Kind::Retire, Some(Outcome::Failed), now);
        assert_eq!(
            housekeeper.due(Some(now)),
            now.checked_add(AGAIN_AFTER).ok()
        );
        housekeeper.hear(Kind::Deploy, Some(Outcome::Failed), now);
        assert!(housekeeper.may_scale(Seen::Miscounted, now));
    }
}
