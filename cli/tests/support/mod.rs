//! An agent that deploys nothing: what the command line is tested against.
//!
//! It keeps the contract of `cutover_wire` with real signatures, one deploy
//! for each call id, and an event stream that resumes; and it can fail as a
//! real one does: lose an answer, drop a connection, restart, be slow. What a
//! deploy comes to is chosen by the app's name, see [`Deploy::begin`].

mod deploy;
mod server;
mod stream;

use std::collections::{BTreeMap, VecDeque};
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, MutexGuard};

use cutover_plan::id::{AppName, DeployId};
use cutover_wire::request::DecisionRequest;
use cutover_wire::signature::Secret;

pub(crate) use deploy::Deploy;

/// The secret that the agent and its callers share.
pub(crate) const SECRET: &str = "whsec_dGhlIHNlY3JldCBvZiB0aGUgc3RhbmQtaW4gYWdlbnQ=";

/// The apps of the agent, but for `unknown`.
pub(crate) const APPS: [&str; 8] = [
    "bad-image",
    "busy",
    "shop",
    "slow",
    "sour",
    "stuck",
    "late",
    "asks",
];

/// What goes wrong with the next request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Fault {
    /// The connection closes before the request is looked at.
    Drop,
    /// The request is carried out, and the connection closes without an answer.
    LoseAnswer,
    /// A proxy before the agent says that it is away.
    BadGateway,
    /// The agent itself is starting up.
    Unavailable,
    /// The stream ends after so many events.
    CutAfter(usize),
}

/// A running agent.
#[derive(Clone)]
pub(crate) struct Agent {
    /// Where it listens.
    pub(crate) address: SocketAddr,
    state: Arc<Mutex<State>>,
}

/// What it knows and what it will do wrong.
#[derive(Default)]
pub(crate) struct State {
    /// The deploy of each call that was taken.
    pub(crate) calls: BTreeMap<String, (Vec<u8>, DeployId)>,
    /// Every deploy.
    pub(crate) deploys: BTreeMap<DeployId, Deploy>,
    /// What goes wrong, by the beginning of `METHOD path`.
    pub(crate) faults: Vec<(&'static str, VecDeque<Fault>)>,
    /// Every decision that was taken, by the id of its call.
    pub(crate) decisions: BTreeMap<String, DecisionRequest>,
    /// `METHOD path` of every request that arrived, with its `Last-Event-ID`.
    pub(crate) seen: Vec<String>,
    /// Seconds that the agent's clock is ahead.
    pub(crate) clock_ahead: i64,
}

impl Agent {
    /// Starts an agent on a free port of the loopback, on threads of its own.
    pub(crate) fn start() -> Self {
        Self::at(SocketAddr::from(([127, 0, 0, 1], 0)))
    }

    /// Starts an agent at an address.
    pub(crate) fn at(address: SocketAddr) -> Self {
        let listener = std::net::TcpListener::bind(address).expect("the address is free");
        let agent = Self {
            address: listener.local_addr().expect("it is bound"),
            state: Arc::default(),
        };
        server::spawn(agent.clone(), server::Listener::Network(listener));
        agent
    }

    /// The same agent, also at a socket.
    pub(crate) fn also_at(&self, path: &std::path::Path) {
        let listener = std::os::unix::net::UnixListener::bind(path).expect("the path is free");
        server::spawn(self.clone(), server::Listener::Socket(listener));
    }

    /// Its URL.
    pub(crate) fn url(&self) -> String {
        format!("http://{}", self.address)
    }

    /// Makes the next requests that begin so go wrong, one fault for each.
    pub(crate) fn fail(&self, request: &'static str, faults: &[Fault]) {
        let faults = faults.iter().copied().collect();
        self.state().faults.push((request, faults));
    }

    /// What it knows.
    pub(crate) fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().expect("no test panics with the lock")
    }

    /// How many requests arrived that begin so.
    pub(crate) fn count(&self, request: &str) -> usize {
        let state = self.state();
        state
            .seen
            .iter()
            .filter(|seen| seen.starts_with(request))
            .count()
    }

    fn secret(&self) -> Secret {
        Secret::parse(SECRET).expect("it is a secret")
    }

    fn fault(&self, request: &str) -> Option<Fault> {
        let mut state = self.state();
        let mut planned = state.faults.iter_mut();
        let (_, faults) =
            planned.find(|(begin, faults)| request.starts_with(begin) && !faults.is_empty())?;
        faults.pop_front()
    }
}

fn app(name: &str) -> AppName {
    AppName::parse(name).expect("it is a name")
}
