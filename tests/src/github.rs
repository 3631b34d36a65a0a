//! A model of GitHub on the loopback interface: it keeps deployments and their
//! statuses, checks every call and every answer against GitHub's own
//! description of its API, and fails on demand.
//!
//! It knows nothing of Cutover but what a call carries, and it does not answer
//! what Cutover never asks for: such a call is a violation.

mod check;
mod description;
mod effect;
mod serve;
mod signin;
mod state;

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use anyhow::{Context as _, Result};
use tokio::net::TcpListener;
use tokio::sync::watch;
use tokio::task::JoinHandle;
use tokio::time::Instant;

pub use self::signin::AppKey;
pub use self::state::{Author, Deployment, Status};

use self::description::Description;
use self::signin::Signins;
use self::state::State;

/// The model; it ends when it is dropped.
pub struct GithubModel {
    address: SocketAddr,
    shared: Arc<Shared>,
    accepting: Mutex<Option<JoinHandle<()>>>,
}

/// What goes wrong with one call.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Fault {
    /// This status with GitHub's words for it; the call has no effect.
    Status(u16),
    /// The connection breaks before the call has its effect.
    Cut,
    /// The call has its effect, then the connection breaks.
    Lost,
    /// No answer, ever; the call has no effect.
    Silent,
    /// The call has its effect, and no answer, ever.
    SilentAfter,
    /// An answer, but late.
    Slow(Duration),
    /// A secondary limit of so many seconds, named by `retry-after`.
    SecondaryLimit(u64),
    /// A secondary limit without a number, known by its words alone.
    WordyLimit,
    /// The hour's calls are used up; they are back in so many seconds.
    PrimaryLimit(u64),
    /// 202: GitHub merged a branch instead of creating a deployment.
    AutoMerged,
    /// A page of a gateway where GitHub's answer should be.
    GatewayPage,
}

/// One call that came in.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Call {
    /// `GET` or `POST`.
    pub method: String,
    /// The path with its query.
    pub path: String,
}

struct Shared {
    description: Arc<Description>,
    inner: Mutex<Inner>,
    /// How many calls have come in.
    count: watch::Sender<u64>,
}

#[derive(Default)]
struct Inner {
    state: State,
    signins: Signins,
    calls: Vec<Call>,
    faults: BTreeMap<u64, Fault>,
    violations: Vec<String>,
    /// Until when a caller that was told of a limit must be quiet.
    limited_until: Option<Instant>,
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl GithubModel {
    /// A token that may do everything.
    pub const TOKEN: &'static str = "github_pat_model_of_the_tests";

    /// A model with these repositories, on a port of its own.
    pub async fn start(repositories: &[&str]) -> Result<Self> {
        let listener = TcpListener::bind("127.0.0.1:0").await?;
        let address = listener.local_addr()?;
        let mut inner = Inner::default();
        inner.state.repositories = repositories.iter().map(|name| (*name).to_owned()).collect();
        inner.signins.accept(Self::TOKEN);
        let shared = Arc::new(Shared {
            description: Description::read()?,
            inner: Mutex::new(inner),
            count: watch::Sender::new(0),
        });
        let accepting = tokio::spawn(serve::accept(listener, Arc::clone(&shared)));
        Ok(Self {
            address,
            shared,
            accepting: Mutex::new(Some(accepting)),
        })
    }

    /// The address of the API.
    pub fn url(&self) -> String {
        format!("http://{}", self.address)
    }

    /// Goes away: connections break, and new ones are refused.
    pub fn go_down(&self) {
        if let Some(accepting) = self.accepting().take() {
            accepting.abort();
        }
    }

    /// Comes back at the same address, with all it knew.
    pub async fn come_back(&self) -> Result<()> {
        let listener = TcpListener::bind(self.address)
            .await
            .context("the model's port is taken")?;
        let accepting = tokio::spawn(serve::accept(listener, Arc::clone(&self.shared)));
        *self.accepting() = Some(accepting);
        Ok(())
    }

    /// Accepts a token no more, or a new one.
    pub fn replace_token(&self, old: &str, new: &str) {
        let mut inner = self.shared.lock();
        inner.signins.refuse(old);
        inner.signins.accept(new);
    }

    /// Knows a GitHub App by its key, installed on all repositories with these permissions.
    pub fn install_app(&self, key: &AppKey, permissions: &[(&str, &str)]) {
        self.shared.lock().signins.install(key, permissions);
    }

    /// Takes back every token that was minted for an App.
    pub fn revoke_minted(&self) {
        self.shared.lock().signins.revoke_minted();
    }

    /// Has the call of this number fail; the first is 1.
    pub fn fail_call(&self, number: u64, fault: Fault) {
        self.shared.lock().faults.insert(number, fault);
    }

    /// Has the next calls fail, one after another.
    pub fn fail_next(&self, faults: impl IntoIterator<Item = Fault>) {
        let mut inner = self.shared.lock();
        let mut number = inner.calls.len() as u64;
        for fault in faults {
            number += 1;
            inner.faults.insert(number, fault);
        }
    }

    /// The faults that have not hit: a test that waits for one proves nothing.
    pub fn faults_left(&self) -> usize {
        self.shared.lock().faults.len()
    }

    /// Puts a deployment there that another tool made; returns its id.
    pub fn add_foreign_deployment(&self, repository: &str, environment: &str, state: &str) -> u64 {
        self.shared
            .lock()
            .state
            .add_foreign(repository, environment, state)
    }

    /// Deletes a deployment, as a person can.
    pub fn delete_deployment(&self, id: u64) {
        self.shared.lock().state.deployments.remove(&id);
    }

    /// The calls so far.
    pub fn calls(&self) -> Vec<Call> {
        self.shared.lock().calls.clone()
    }

    /// Follows the number of calls that came in.
    pub fn call_count(&self) -> watch::Receiver<u64> {
        self.shared.count.subscribe()
    }

    /// The deployments, the oldest first.
    pub fn deployments(&self) -> Vec<Deployment> {
        self.shared
            .lock()
            .state
            .deployments
            .values()
            .cloned()
            .collect()
    }

    /// What callers said of an environment, in the order in which they said it.
    pub fn history(&self, environment: &str) -> Vec<(String, String)> {
        self.shared.lock().state.history(environment)
    }

    /// What no caller should have done: calls that GitHub's description does
    /// not allow, duplicates, statuses out of order, calls during a limit.
    pub fn violations(&self) -> Vec<String> {
        self.shared.lock().violations.clone()
    }

    fn accepting(&self) -> MutexGuard<'_, Option<JoinHandle<()>>> {
        self.accepting
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for GithubModel {
    fn drop(&mut self) {
        self.go_down();
    }
}
