//! The event stream of a deploy: what happened, then what happens, then its view.
//!
//! A follower is pulled along by its own reading: between two reads it costs a
//! page of events and its place, however slow it is. It is told of nothing
//! that is not in the journal.
//!
//! Invariant: a follower that comes back with `Last-Event-ID` misses no event
//! and gets none twice.

use std::collections::VecDeque;
use std::convert::Infallible;
use std::sync::Arc;

use axum::extract::State;
use axum::response::sse::{Event as Sent, KeepAlive, Sse};
use axum::response::{IntoResponse as _, Response};
use cutover_plan::event::Event;
use cutover_plan::id::DeployId;
use cutover_plan::state::DeployState;
use cutover_wire::event::{Body, DEPLOY_EVENT, Told, VIEW_EVENT};
use futures_util::stream;
use http::{HeaderMap, HeaderValue};
use tokio::sync::{OwnedSemaphorePermit, watch};

use super::token::Held;
use super::{Counter, Shutdown, deploys, ended};
use crate::desk::Refusal;
use crate::journal::{JournalError, Recorded};
use crate::texts;

const LAST_EVENT_ID: &str = "last-event-id";

/// Events read at a time: a plan has some ten thousand bytes, the rest a few hundred.
const PAGE: usize = 16;

/// Follows a deploy from its begin, or from the event that was seen last.
pub(super) async fn follow(
    State(counter): State<Arc<Counter>>,
    Held(deploy): Held,
    headers: HeaderMap,
) -> Result<Response, Refusal> {
    let seen = last_seen(&headers)?;
    let known = counter.inbox.journal.deploy(&deploy)?;
    if known.is_none() {
        return Err(Refusal::unknown_deploy(&deploy));
    }
    let Ok(permit) = Arc::clone(&counter.followers).try_acquire_owned() else {
        let message = "too many are following deploys".to_owned();
        let hint = "try again in a few seconds; the deploy goes on";
        return Err(Refusal::new(503, "followers", message, Some(hint)));
    };
    let follower = Follower {
        changes: counter.inbox.journal.changes(),
        shutdown: counter.inbox.shutdown.clone(),
        deploy,
        seen,
        read: 0,
        page: VecDeque::new(),
        state: None,
        ended: false,
        _permit: permit,
        counter: Arc::clone(&counter),
    };
    let events = stream::unfold(Some(follower), |follower| async {
        let mut follower = follower?;
        let (sent, last) = follower.next().await?;
        Some((Ok::<_, Infallible>(sent), (!last).then_some(follower)))
    });
    let keep_alive = KeepAlive::new().interval(counter.inbox.limits.keep_alive);
    let mut response = Sse::new(events).keep_alive(keep_alive).into_response();
    // nginx would keep the events until it has a buffer full of them.
    let unbuffered = HeaderValue::from_static("no");
    response
        .headers_mut()
        .insert("x-accel-buffering", unbuffered);
    Ok(response)
}

fn last_seen(headers: &HeaderMap) -> Result<u64, Refusal> {
    let Some(value) = headers.get(LAST_EVENT_ID) else {
        return Ok(0);
    };
    let seq = value.to_str().ok().and_then(|text| text.parse().ok());
    seq.ok_or_else(|| {
        let message = format!("{LAST_EVENT_ID} must be the id of an event of this stream");
        Refusal::new(400, "bad_request", message, None)
    })
}

/// One reader of one deploy.
struct Follower {
    counter: Arc<Counter>,
    deploy: DeployId,
    changes: watch::Receiver<u64>,
    shutdown: Shutdown,
    /// Up to here the reader has the events already.
    seen: u64,
    /// Up to here they were read from the journal.
    read: u64,
    /// Read and not sent.
    page: VecDeque<Recorded>,
    /// The state before the next event: sentences name its steps. Folded from
    /// the first event, because a reader may come back in the middle.
    state: Option<DeployState>,
    /// The end was read, only the view is left.
    ended: bool,
    _permit: OwnedSemaphorePermit,
}

impl Follower {
    /// The next thing to send, and whether it is the last; none when the
    /// stream must close before the end, and the reader will come back.
    async fn next(&mut self) -> Option<(Sent, bool)> {
        loop {
            if *self.shutdown.borrow() {
                return None;
            }
            while let Some(recorded) = self.page.pop_front() {
                if let Some(told) = self.tell(recorded) {
                    return Some((event(&told)?, false));
                }
            }
            if self.ended {
                return self.view().map(|view| (view, true));
            }
            // Marked before it is read: an event after the reading wakes again.
            self.changes.mark_unchanged();
            match self.fill() {
                Ok(true) => continue,
                Ok(false) => {}
                Err(error) => {
                    self.log(&error);
                    return None;
                }
            }
            tokio::select! {
                changed = self.changes.changed() => changed.ok()?,
                () = ended(&mut self.shutdown) => return None,
            }
        }
    }

    /// Reads the next page; whether there was something.
    fn fill(&mut self) -> Result<bool, JournalError> {
        let journal = &self.counter.inbox.journal;
        self.page = journal.events(&self.deploy, self.read, PAGE)?.into();
        if let Some(last) = self.page.back() {
            self.read = last.seq;
        }
        Ok(!self.page.is_empty())
    }

    /// Folds an event, and words it if the reader does not have it.
    fn tell(&mut self, recorded: Recorded) -> Option<Told> {
        let Recorded { seq, at, event } = recorded;
        let new = seq > self.seen;
        let text = new.then(|| texts::told(&event, self.state.as_ref()));
        // A history that makes no sense is told without the names of steps.
        self.state = match self.state.take() {
            Some(state) => state.apply(&event).ok(),
            None => DeployState::begin(&event).ok(),
        };
        self.ended = matches!(event, Event::Ended { .. });
        Some(Told {
            seq,
            at,
            text: text?,
            event: Body::Known(Box::new(event)),
        })
    }

    fn view(&self) -> Option<Sent> {
        match deploys::view(&self.counter, &self.deploy) {
            Ok(view) => Sent::default().event(VIEW_EVENT).json_data(&view).ok(),
            // Logged where it was made; the reader comes back for it.
            Err(_) => None,
        }
    }

    fn log(&self, error: &JournalError) {
        let error: &dyn std::error::Error = error;
        tracing::error!(deploy = %self.deploy, error, "a follower was left");
    }
}

fn event(told: &Told) -> Option<Sent> {
    let sent = Sent::default().event(DEPLOY_EVENT).id(told.seq.to_string());
    sent.json_data(told).ok()
}
