//! What GitHub keeps: deployments and their statuses.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::Value;

/// Everything it keeps.
#[derive(Default)]
pub(super) struct State {
    pub(super) repositories: BTreeSet<String>,
    pub(super) deployments: BTreeMap<u64, Deployment>,
    last: u64,
}

/// A deployment.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Deployment {
    /// Its number; grows.
    pub id: u64,
    /// `owner/name`.
    pub repository: String,
    /// The commit.
    pub sha: String,
    /// What it does.
    pub task: String,
    /// What its maker attached.
    pub payload: Value,
    /// The environment.
    pub environment: String,
    /// Its description.
    pub description: String,
    /// Whether the environment goes away again.
    pub transient: bool,
    /// Whether users meet the environment.
    pub production: bool,
    /// Its statuses, the oldest first.
    pub statuses: Vec<Status>,
}

/// A status.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Status {
    /// Its number; grows over all deployments.
    pub id: u64,
    /// The state's word.
    pub state: String,
    /// The sentence.
    pub description: String,
    /// Where the log is.
    pub log_url: String,
    /// Where the app is.
    pub environment_url: String,
    /// Who added it.
    pub author: Author,
}

/// Who added a status.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Author {
    /// A call.
    Caller,
    /// GitHub, because a newer deployment succeeded.
    Github,
}

impl Deployment {
    /// The deploy of Cutover's it belongs to.
    pub fn deploy(&self) -> Option<&str> {
        self.payload["cutover_deploy"].as_str()
    }

    /// The newest status's state.
    pub fn state(&self) -> Option<&str> {
        self.statuses.last().map(|status| status.state.as_str())
    }

    /// What is wrong with adding this status: it is there already, or it
    /// comes after the end.
    pub(super) fn objection(&self, added: &Status) -> Option<String> {
        let told: Vec<_> = self
            .statuses
            .iter()
            .filter(|s| s.author == Author::Caller)
            .collect();
        let last = told.last()?;
        let same = |s: &Status| {
            s.state == added.state
                && s.description == added.description
                && s.log_url == added.log_url
        };
        let ended = matches!(
            last.state.as_str(),
            "success" | "failure" | "error" | "inactive"
        );
        let (id, state) = (self.id, &added.state);
        if same(last) {
            return Some(format!(
                "deployment {id} got {state} {:?} twice",
                added.description
            ));
        }
        if ended && added.state != "inactive" {
            return Some(format!("deployment {id} got {state} after {}", last.state));
        }
        None
    }
}

impl State {
    /// The next number of a deployment or status.
    pub(super) fn number(&mut self) -> u64 {
        self.last += 1;
        self.last
    }

    /// GitHub's own part in a success: prior deployments of the environment
    /// that are neither transient nor production become inactive.
    pub(super) fn make_prior_inactive(&mut self, id: u64) {
        let Some(new) = self.deployments.get(&id).cloned() else {
            return;
        };
        let prior = |one: &Deployment| {
            one.id < id
                && one.repository == new.repository
                && one.environment == new.environment
                && !one.transient
                && !one.production
                && one.state() == Some("success")
        };
        let ids: Vec<u64> = self
            .deployments
            .values()
            .filter(|one| prior(one))
            .map(|one| one.id)
            .collect();
        for id in ids {
            let status = self.status("inactive", Author::Github);
            if let Some(deployment) = self.deployments.get_mut(&id) {
                deployment.statuses.push(status);
            }
        }
    }

    pub(super) fn status(&mut self, state: &str, author: Author) -> Status {
        Status {
            id: self.number(),
            state: state.to_owned(),
            description: String::new(),
            log_url: String::new(),
            environment_url: String::new(),
            author,
        }
    }

    pub(super) fn add_foreign(&mut self, repository: &str, environment: &str, state: &str) -> u64 {
        let id = self.number();
        let status = self.status(state, Author::Caller);
        let deployment = Deployment {
            id,
            repository: repository.to_owned(),
            sha: "f".repeat(40),
            task: "deploy".to_owned(),
            payload: Value::String("{\"made_by\": \"another tool\"}".to_owned()),
            environment: environment.to_owned(),
            description: String::new(),
            transient: false,
            production: environment == "production",
            statuses: vec![status],
        };
        self.deployments.insert(id, deployment);
        id
    }

    pub(super) fn history(&self, environment: &str) -> Vec<(String, String)> {
        let there = self
            .deployments
            .values()
            .filter(|one| one.environment == environment);
        let mut told: Vec<&Status> = there
            .filter(|one| one.deploy().is_some())
            .flat_map(|one| &one.statuses)
            .filter(|status| status.author == Author::Caller)
            .collect();
        told.sort_by_key(|status| status.id);
        let pair = |status: &&Status| (status.state.clone(), status.description.clone());
        told.iter().map(pair).collect()
    }
}
