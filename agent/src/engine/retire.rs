//! Housekeeping: a release that has stood by for its time is retired, by a
//! deploy that nobody called for.
//!
//! It begins only while nothing else is under way, and is as durable as any
//! other deploy. A call that comes meanwhile waits for its end.

use std::time::Duration;

use cutover_plan::event::Event;
use cutover_plan::plan::Kind;
use cutover_plan::state::DeployState;
use cutover_wire::request::Source;
use jiff::Timestamp;

use super::{Deploy, Engine, EngineError, counting};
use crate::containers::Containers;
use crate::journal::Record;
use crate::traffic::Traffic;

/// How long after a try that did not do it the next one begins: whatever was
/// in the way needs a person, and a history has a limit.
const AGAIN_AFTER: Duration = Duration::from_secs(600);

/// When housekeeping is due.
#[derive(Debug, Default)]
pub(super) struct Housekeeper {
    not_before: Option<Timestamp>,
}

impl Housekeeper {
    /// Takes note of a deploy that ended.
    pub(super) fn hear(&mut self, kind: Kind, now: Timestamp) {
        self.not_before = match kind {
            Kind::Retire => now.checked_add(AGAIN_AFTER).ok(),
            Kind::Deploy | Kind::Rollback => None,
        };
    }

    /// When a release that stands by until then is to be retired.
    pub(super) fn due(&self, standby_until: Option<Timestamp>) -> Option<Timestamp> {
        let until = standby_until?;
        Some(
            self.not_before
                .map_or(until, |not_before| until.max(not_before)),
        )
    }
}

impl<C: Containers, T: Traffic, R: Record> Engine<C, T, R> {
    /// Makes durable that the release that stands by is retired.
    pub(super) fn begin_retirement(&self) -> Result<Deploy, EngineError> {
        let now = (self.drivers.clock)();
        let id = (self.drivers.ids)(now);
        let event = Event::Accepted {
            app: self.lease.app().clone(),
            kind: Kind::Retire,
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
        tracing::info!(app = %self.lease.app(), deploy = %id, "the time of the release that stands by is over");
        Ok(Deploy {
            id,
            source,
            state,
            image: None,
            window_override: None,
            registry: None,
            compared: counting::Memory::default(),
        })
    }
}
