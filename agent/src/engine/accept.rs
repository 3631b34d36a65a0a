//! Taking calls: which are refused, which begin at once, and which wait for
//! the end of the deploy that is under way.
//!
//! ```text
//!  call ──▶ refused
//!    │
//!    ▼
//!  durable ──▶ begins            nothing is under way
//!         └──▶ waits             one waits at the most: an older one gives way
//!                └──▶ and the running deploy is taken back, where the app's file says so
//! ```
//!
//! A crash at any of these finds both deploys in the journal, oldest first, and
//! the app's file says once more what becomes of them.

use cutover_plan::compile;
use cutover_plan::event::Event;
use cutover_plan::outcome::Outcome;
use cutover_plan::plan::Kind;
use cutover_plan::spec::Newcomer;
use cutover_plan::state::{DeployState, Phase};
use cutover_wire::request::{Change, DeployRequest};
use jiff::Timestamp;

use super::{Course, Deploy, Engine, EngineError, counting, tell, window};
use crate::containers::Containers;
use crate::desk::{CallId, Refusal};
use crate::journal::{Acceptance, DeployRecord, Record};
use crate::traffic::Traffic;
use crate::view;

/// A call that was taken: the id of its deploy, and the deploy if it is new.
type Taken = (cutover_plan::id::DeployId, Option<Deploy>);

impl<C: Containers, T: Traffic, R: Record> Engine<C, T, R> {
    /// The deploys that the journal has no end of: the one to go on with is
    /// returned, the newest of the others waits.
    pub(super) fn resume(&mut self) -> Result<Option<Deploy>, EngineError> {
        let records = self.drivers.journal.unfinished(self.lease.app())?;
        let mut found = records.into_iter();
        let Some(oldest) = found.next() else {
            return Ok(None);
        };
        let mut running = self.read(oldest)?;
        tracing::info!(deploy = %running.id, phase = %running.state.phase, "going on with a deploy");
        for record in found {
            let next = self.read(record)?;
            self.take_place(next)?;
        }
        if let Some(next) = self.waiting.take() {
            match next.state.phase {
                Phase::Accepted => {
                    self.make_way(&mut running, &next)?;
                    self.waiting = Some(next);
                }
                // Its end was decided, and only the word about it is missing.
                _ => self.finish(next)?,
            }
        }
        Ok(Some(running))
    }

    fn read(&self, record: DeployRecord) -> Result<Deploy, EngineError> {
        let history = view::history(&self.drivers.journal, &record.deploy)?;
        let illegal = |source| EngineError::Illegal {
            deploy: record.deploy.clone(),
            source,
        };
        let state = view::fold(&history).map_err(illegal)?;
        let first = history.first().map(|recorded| &recorded.event);
        let image = match first {
            Some(Event::Accepted { image, .. }) => image.clone(),
            _ => None,
        };
        let window_override = first.and_then(window::overridden).map(str::to_owned);
        Ok(Deploy {
            id: record.deploy,
            source: record.source,
            state,
            image,
            window_override,
            registry: None,
            resumed: true,
            compared: counting::Memory::default(),
        })
    }

    /// Makes a call durable, unless it was taken before, is in the way, or
    /// brings what the host never runs.
    pub(super) fn accept(
        &self,
        call: CallId,
        request: DeployRequest,
        running: Option<&Deploy>,
    ) -> Result<Result<Taken, Refusal>, EngineError> {
        if let Some(first) = self.drivers.journal.find_call(&call.0)? {
            return Ok(Ok((first, None)));
        }
        let now = (self.drivers.clock)();
        if let Err(refusal) = self.check(&request, running, now) {
            return Ok(Err(refusal));
        }
        let id = (self.drivers.ids)(now);
        let (kind, image) = match request.change {
            Change::Deploy { image } => (Kind::Deploy, Some(image)),
            Change::Rollback {} => (Kind::Rollback, None),
        };
        // No window holds a rollback.
        let window_override = request.window_override.map(|one| one.why);
        let window_override = window_override.filter(|_| kind == Kind::Deploy);
        if let Some(why) = &window_override {
            let by = request.source.actor.as_deref().unwrap_or("somebody");
            tracing::warn!(app = %self.lease.app(), by, why, "deploy windows are overridden");
        }
        let event = Event::Accepted {
            app: self.lease.app().clone(),
            kind,
            image: image.clone(),
            by: request.source.actor.clone(),
            window_override: window_override.clone(),
        };
        let illegal = |source| EngineError::Illegal {
            deploy: id.clone(),
            source,
        };
        let state = DeployState::begin(&event).map_err(illegal)?;
        let deploy = Deploy {
            id: id.clone(),
            source: request.source,
            state,
            image,
            window_override,
            registry: request.registry,
            resumed: false,
            compared: counting::Memory::default(),
        };
        let messages = tell::messages(&self.spec, &deploy, &event, now);
        let record = &self.drivers.record;
        let taken = record.accept(Some(&call.0), &id, now, &event, &deploy.source, &messages)?;
        match taken {
            Acceptance::New(_) => {
                tracing::info!(app = %self.lease.app(), deploy = %id, "accepted a call");
                Ok(Ok((id, Some(deploy))))
            }
            Acceptance::Replay(first) => Ok(Ok((first, None))),
        }
    }

    /// Why a call is not taken, before anything of it is durable.
    fn check(
        &self,
        request: &DeployRequest,
        running: Option<&Deploy>,
        now: Timestamp,
    ) -> Result<(), Refusal> {
        if let Change::Deploy { image } = &request.change {
            compile::check_image(&self.spec, image).map_err(|e| Refusal::foreign_image(&e))?;
            if request.window_override.is_none()
                && let Some(closed) = window::closed(&self.spec, now)
            {
                return Err(Refusal::closed(&closed));
            }
        }
        // A person left a release: no workflow brings it back over that.
        if let (Change::Deploy { .. }, Some(waiting)) = (&request.change, &self.waiting)
            && waiting.state.kind == Kind::Rollback
        {
            return Err(Refusal::busy(self.lease.app(), &waiting.id));
        }
        let Some(running) = running else {
            return Ok(());
        };
        // A rollback that waited would take back whatever serves by then.
        let waits = match (&request.change, running.state.kind) {
            (_, kind) if kind.is_housekeeping() => true,
            (Change::Rollback {}, _) => false,
            (Change::Deploy { .. }, _) => self.newcomer(running) != Newcomer::Reject,
        };
        match waits {
            true => Ok(()),
            false => Err(Refusal::busy(self.lease.app(), &running.id)),
        }
    }

    /// What becomes of a newer deploy. Housekeeping is taken back for everything,
    /// where it can be: what retires cannot.
    fn newcomer(&self, running: &Deploy) -> Newcomer {
        match running.state.kind.is_housekeeping() {
            true => Newcomer::Supersede,
            false => running.state.newcomer(&self.spec.supersede),
        }
    }

    /// Lets a deploy that is durable wait for the end of the running one, and
    /// has that make way where it must.
    pub(super) fn line_up(
        &mut self,
        deploy: Deploy,
        running: &mut Deploy,
    ) -> Result<Course, EngineError> {
        let course = self.make_way(running, &deploy)?;
        self.take_place(deploy)?;
        Ok(course)
    }

    /// One waits at the most: an older one that waits is over.
    fn take_place(&mut self, newer: Deploy) -> Result<(), EngineError> {
        let older = self.waiting.replace(newer);
        let by = self.waiting.as_ref().map(|newer| newer.id.clone());
        let (Some(mut older), Some(by)) = (older, by) else {
            return Ok(());
        };
        if older.state.phase == Phase::Accepted {
            self.append(&mut older, Event::SupersedeRequested { by })?;
        }
        self.finish(older)
    }

    /// Writes down the end of a deploy that never began.
    fn finish(&mut self, mut deploy: Deploy) -> Result<(), EngineError> {
        let Phase::Closing { outcome } = deploy.state.phase else {
            return Ok(());
        };
        self.append(&mut deploy, Event::Ended { outcome })
    }

    fn make_way(&mut self, running: &mut Deploy, newer: &Deploy) -> Result<Course, EngineError> {
        let gives_way = newer.state.kind == Kind::Deploy || running.state.kind.is_housekeeping();
        if !gives_way || self.newcomer(running) != Newcomer::Supersede {
            return Ok(Course::Same);
        }
        let event = Event::SupersedeRequested {
            by: newer.id.clone(),
        };
        if running.state.clone().apply(&event).is_err() {
            return Ok(Course::Same);
        }
        self.append(running, event)?;
        Ok(Course::Turned)
    }

    /// Ends the deploy that waits, if it is this one.
    pub(super) fn abort_waiting(
        &mut self,
        asked: &cutover_plan::id::DeployId,
        by: &str,
    ) -> Result<bool, EngineError> {
        let Some(mut deploy) = self.waiting.take_if(|waiting| waiting.id == *asked) else {
            return Ok(false);
        };
        let by = by.to_owned();
        self.append(&mut deploy, Event::AbortRequested { by })?;
        let outcome = Outcome::Aborted;
        self.append(&mut deploy, Event::Ended { outcome })?;
        Ok(true)
    }
}
