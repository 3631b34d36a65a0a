//! Follows a deploy from its events to its last view.
//!
//! ```text
//!            event             event        Ended             view
//! (opened) ────────▶ reading ────────▶ … ────────▶ closing ────────▶ over
//!                     │  ▲ stream broke: pause, come back after the last event
//!                     └──┘
//! ```
//! Invariant: each event is told once, whatever the connection does. Where the
//! reader is stands in the value, not in its future, so following can be
//! dropped (a signal came) and taken up again.

use std::time::Duration;

use cutover_plan::event::Event;
use cutover_plan::outcome::Outcome;
use cutover_wire::agent::{Accepted, DeployView, deploy_path, events_path};
use cutover_wire::event::{Body, DEPLOY_EVENT, Told, VIEW_EVENT};
use http_body_util::BodyExt as _;
use tokio::time::{Instant, sleep, timeout, timeout_at};

use crate::answer::CallError;
use crate::backoff::Backoff;
use crate::caller::Caller;
use crate::output::Output;
use crate::sse::{Parser, StreamEvent};
use crate::waiting;

/// How long a stream may say nothing before it is opened again: a connection
/// that a router forgot says nothing for ever.
const SILENCE: Duration = Duration::from_secs(60);
/// How long the last view is waited for once the outcome is known.
const CLOSING: Duration = Duration::from_secs(15);

/// How far the reader of a deploy is.
pub(crate) struct Follower {
    accepted: Accepted,
    seen: Option<u64>,
    begun: Option<jiff::Timestamp>,
    outcome: Option<Outcome>,
    view: Option<DeployView>,
}

/// Why following stopped.
#[derive(Debug)]
pub(crate) enum Stop {
    /// The outcome is known.
    Over,
    /// The time for following is over.
    Late,
    /// The agent does not let us follow.
    Barred(CallError),
}

impl Follower {
    /// Begins before the first event.
    pub(crate) fn new(accepted: Accepted) -> Self {
        Self {
            accepted,
            seen: None,
            begun: None,
            outcome: None,
            view: None,
        }
    }

    /// How the deploy ended, if that is known.
    pub(crate) fn outcome(&self) -> Option<Outcome> {
        let viewed = self.view.as_ref().and_then(|view| view.outcome);
        viewed.or(self.outcome)
    }

    /// The last view of the deploy, if one came.
    pub(crate) fn into_view(self) -> Option<DeployView> {
        self.view
    }

    /// Tells the events until the outcome is known or the time is over.
    pub(crate) async fn follow(
        &mut self,
        caller: &Caller,
        output: &Output,
        until: Instant,
    ) -> Stop {
        let mut backoff = Backoff::new();
        let mut away = false;
        let mut until = until;
        loop {
            let seen = self.seen;
            let read = timeout_at(until, self.read(caller, output)).await;
            if self.view.is_some() {
                return Stop::Over;
            }
            let Ok(read) = read else { break };
            if self.seen != seen {
                backoff = Backoff::new();
                away = false;
            }
            if let Err(error) = read {
                let barred = matches!(error, CallError::Refused { .. }) && !error.may_pass();
                if barred {
                    return match self.outcome {
                        Some(_) => Stop::Over,
                        None => Stop::Barred(error),
                    };
                }
                if !std::mem::replace(&mut away, true) {
                    output.note(&format!("the connection to the agent broke ({error}); the deploy goes on, coming back"));
                }
            }
            if self.outcome.is_some() {
                // The stream owes a view and may not have it: ask for it.
                let path = deploy_path(&self.accepted.deploy);
                let fetched = caller.fetch::<DeployView>(&path, &self.accepted.token);
                if let Ok(Ok(view)) = timeout_at(until, fetched).await {
                    self.view = Some(view);
                    return Stop::Over;
                }
                until = until.min(Instant::now() + CLOSING);
            }
            let pause = backoff.pause();
            if Instant::now() + pause >= until {
                break;
            }
            sleep(pause).await;
        }
        match self.outcome {
            Some(_) => Stop::Over,
            None => Stop::Late,
        }
    }

    /// Reads one stream to its end, or until the view came.
    async fn read(&mut self, caller: &Caller, output: &Output) -> Result<(), CallError> {
        let path = events_path(&self.accepted.deploy);
        let mut body = caller
            .stream(&path, &self.accepted.token, self.seen)
            .await?;
        let mut parser = Parser::default();
        loop {
            // A stream that fell silent is opened again, without a word.
            let Ok(frame) = timeout(SILENCE, body.frame()).await else {
                return Ok(());
            };
            let Some(frame) = frame else { return Ok(()) };
            let frame = frame.map_err(|source| CallError::Broken { source })?;
            let Ok(piece) = frame.into_data() else {
                continue;
            };
            let events = parser.feed(&piece).map_err(|_| CallError::TooLong)?;
            for event in events {
                self.take(&event, caller, output)?;
            }
            if self.view.is_some() {
                return Ok(());
            }
        }
    }

    fn take(
        &mut self,
        event: &StreamEvent,
        caller: &Caller,
        output: &Output,
    ) -> Result<(), CallError> {
        let unreadable = |source| CallError::Unreadable { source };
        match event.name.as_str() {
            DEPLOY_EVENT => {
                let told: Told = serde_json::from_str(&event.data).map_err(unreadable)?;
                if self.seen.is_some_and(|seen| told.seq <= seen) {
                    return Ok(());
                }
                self.seen = Some(told.seq);
                let begun = *self.begun.get_or_insert(told.at);
                if let Body::Known(event) = &told.event
                    && let Event::Ended { outcome } = **event
                {
                    self.outcome = Some(outcome);
                }
                let elapsed = told.at.duration_since(begun);
                output.told(elapsed.try_into().unwrap_or_default(), &told);
                if let Body::Known(event) = &told.event
                    && let Event::Held { .. } = **event
                {
                    let answers = waiting::answers(&caller.endpoint, &self.accepted.deploy);
                    output.note(&format!("answer with: {answers}"));
                }
            }
            VIEW_EVENT => {
                let view: DeployView = serde_json::from_str(&event.data).map_err(unreadable)?;
                // A view without an outcome is not the closing one.
                if view.outcome.is_some() {
                    self.view = Some(view);
                }
            }
            // An event of a newer agent that is not for us.
            _ => {}
        }
        Ok(())
    }
}
