//! The inbox: where calls arrive over HTTP, are verified, parsed and answered.
//!
//! It decides nothing about a deploy: what a call means is the desk's, and what
//! happened is read from the journal. GitHub's own webhooks come in elsewhere.
//!
//! Invariant: verify before parse, refuse before queue. On the network nothing
//! of a body is looked at before its signature was right, and a call that is
//! refused leaves no trace on the disk.
//!
//! Invariant: everything is bounded: connections, requests in flight, bodies,
//! headers, followers, and the time each of them may take. Each door has
//! bounds of its own, so a flood from the network cannot close the socket of
//! the host.

mod answer;
mod credentials;
mod decisions;
mod deploys;
mod events;
mod looks;
mod serve;
mod signed;
mod socket;
mod token;

use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::extract::{Request, State};
use axum::middleware::{self, Next};
use axum::response::{IntoResponse as _, Response};
use axum::routing::{get, post};
use cutover_wire::agent::{APPS, DEPLOYS, HEALTHZ, METRICS, QUERIES};
use cutover_wire::signature::Secret;
use tokio::sync::{Semaphore, watch};

use crate::clock::Clock;
use crate::desk::{Desk, Refusal};
use crate::journal::Journal;
use crate::metrics::Metrics;

pub use serve::{Peer, serve_local, serve_network};
pub use socket::{LocalListener, SocketError, bind_local};

/// Becomes true once, when the process shall end.
pub type Shutdown = watch::Receiver<bool>;

/// What the inbox works with.
#[derive(Clone)]
pub struct Inbox {
    /// Takes the calls.
    pub desk: Desk,
    /// Is read for those who follow a deploy.
    pub journal: Journal,
    /// Any of them may have signed a call; the first makes new tokens.
    pub secrets: Arc<[Secret]>,
    /// Counts what arrives, and is told on the socket of the host.
    pub metrics: Arc<Metrics>,
    /// Tells the time that signatures are compared with.
    pub clock: Clock,
    /// What each door bears.
    pub limits: Limits,
    /// Ends the streams of followers.
    pub shutdown: Shutdown,
}

/// How a caller came in.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Door {
    /// Over the network: each call is signed or carries its deploy's token.
    Network,
    /// Over the socket of the host, whose permissions were the check.
    Local,
}

/// What one door bears. An unauthenticated flood costs at most `connections`
/// times the buffers of one (some hundred kilobytes), and no disk.
#[derive(Debug, Clone, Copy)]
pub struct Limits {
    /// Connections that are open at once; more wait in the kernel.
    pub connections: usize,
    /// Requests that are worked on at once; more are told to come back.
    pub requests: usize,
    /// Readers of event streams at once; more are told to come back.
    pub followers: usize,
    /// How long the head of a request may take.
    pub head: Duration,
    /// How long its body may take.
    pub body: Duration,
    /// How long the answer may take, the body included.
    pub answer: Duration,
    /// How long a peer may leave what it was sent unread.
    pub stall: Duration,
    /// How long a stream may be silent before a comment is sent.
    pub keep_alive: Duration,
    /// How long open requests have to finish when the process ends.
    pub farewell: Duration,
}

impl Default for Limits {
    /// A host has a handful of workflows and people: each bound is about ten
    /// times of what they need, and far from what would hurt the host.
    fn default() -> Self {
        Self {
            connections: 256,
            requests: 64,
            followers: 64,
            head: Duration::from_secs(10),
            body: Duration::from_secs(5),
            answer: Duration::from_secs(10),
            stall: Duration::from_secs(30),
            keep_alive: Duration::from_secs(15),
            farewell: Duration::from_secs(5),
        }
    }
}

/// An inbox behind one door.
struct Counter {
    inbox: Inbox,
    door: Door,
    requests: Semaphore,
    followers: Arc<Semaphore>,
}

impl Inbox {
    /// The routes behind a door.
    pub fn router(self, door: Door) -> Router {
        let counter = Arc::new(Counter {
            requests: Semaphore::new(self.limits.requests),
            followers: Arc::new(Semaphore::new(self.limits.followers)),
            inbox: self,
            door,
        });
        let one = format!("{DEPLOYS}/{{deploy}}");
        // What is told to whoever may open the socket; strangers are told nothing.
        let (deploys, looks) = match door {
            Door::Network => (post(deploys::begin), Router::new()),
            Door::Local => {
                let looks = Router::new()
                    .route(APPS, get(looks::apps))
                    .route(&format!("{APPS}/{{app}}"), get(looks::app))
                    .route(METRICS, get(looks::metrics));
                (post(deploys::begin).get(looks::history), looks)
            }
        };
        let worked_on = looks
            .route(DEPLOYS, deploys)
            .route(QUERIES, post(deploys::answer))
            .route(&one, get(deploys::show))
            .route(&format!("{one}/abort"), post(deploys::abort))
            .route(&format!("{one}/approve"), post(decisions::approve))
            .route(&format!("{one}/reject"), post(decisions::reject))
            .route(&format!("{one}/promote"), post(decisions::promote))
            .route(&format!("{one}/events"), get(events::follow))
            .route_layer(middleware::from_fn_with_state(
                Arc::clone(&counter),
                bounded,
            ));
        // Whether the agent works can be asked even when it has much to do.
        worked_on
            .route(HEALTHZ, get(deploys::health))
            .method_not_allowed_fallback(wrong_method)
            .fallback(not_found)
            .layer(middleware::from_fn_with_state(
                Arc::clone(&counter),
                counted,
            ))
            .with_state(counter)
    }
}

impl Counter {
    /// The second that signatures are compared with.
    fn now(&self) -> u64 {
        u64::try_from((self.inbox.clock)().as_second()).unwrap_or(0)
    }
}

/// Counts every answer.
async fn counted(State(counter): State<Arc<Counter>>, request: Request, next: Next) -> Response {
    let response = next.run(request).await;
    let tally = &counter.inbox.metrics.tally;
    tally.answered(counter.door, response.status().as_u16());
    response
}

/// Lets a bounded number of requests in, each for a bounded time. The body of
/// an event stream is not part of that: it has bounds of its own.
async fn bounded(State(counter): State<Arc<Counter>>, request: Request, next: Next) -> Response {
    let Ok(_permit) = counter.requests.try_acquire() else {
        let message = "the agent has too much to do".to_owned();
        return Refusal::new(503, "busy_agent", message, Some("try again in a second"))
            .into_response();
    };
    let answer = counter.inbox.limits.answer;
    match tokio::time::timeout(answer, next.run(request)).await {
        Ok(response) => response,
        Err(_) => {
            let message = format!("there was no answer within {} seconds", answer.as_secs());
            let hint = "send the same call again: it is taken once";
            Refusal::new(503, "slow", message, Some(hint)).into_response()
        }
    }
}

/// Waits for the shutdown; who could have told of it and is gone has told it.
async fn ended(shutdown: &mut Shutdown) {
    let _ = shutdown.wait_for(|ends| *ends).await;
}

async fn wrong_method(request: Request) -> Refusal {
    let message = format!(
        "{} does not take {}",
        request.uri().path(),
        request.method()
    );
    Refusal::new(405, "wrong_method", message, None)
}

async fn not_found(request: Request) -> Refusal {
    let path = request.uri().path();
    let path: String = path.chars().take(100).collect();
    let message = format!("there is nothing at {path}");
    let hint = format!("deploys are at {DEPLOYS}, questions at {QUERIES}");
    Refusal::new(404, "not_found", message, Some(&hint))
}
