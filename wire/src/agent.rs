//! The agent's HTTP conversation: paths, and what it answers.
//!
//! On the network a call is signed ([`crate::signature`]) or carries the
//! capability token of its deploy as `Authorization: Bearer`. On the local
//! socket the socket's permissions are the check, and nothing is signed.

use cutover_plan::id::{AppName, DeployId, ReleaseNumber};
use cutover_plan::outcome::Outcome;
use cutover_plan::plan::{Kind, Plan};
use cutover_plan::release::Standing;
use jiff::Timestamp;
use serde::{Deserialize, Serialize};

/// `POST`: a [`crate::request::DeployRequest`]. `GET`, on the local socket alone:
/// [`DeployView`]s, newest first, with `app` and `limit` of [`crate::request::Query::History`].
pub const DEPLOYS: &str = "/v1/deploys";
/// `GET`, on the local socket alone: [`AppView`]s; of one app at [`app_path`].
pub const APPS: &str = "/v1/apps";
/// `POST`: a [`crate::request::Query`].
pub const QUERIES: &str = "/v1/queries";
/// `GET`, on the local socket and an address of its own: figures for Prometheus.
pub const METRICS: &str = "/metrics";
/// `GET`: answers 200 while the agent works.
pub const HEALTHZ: &str = "/healthz";

/// `GET`, on the local socket alone: an [`AppView`].
pub fn app_path(app: &AppName) -> String {
    format!("{APPS}/{app}")
}

/// `GET`: a [`DeployView`].
pub fn deploy_path(deploy: &DeployId) -> String {
    format!("{DEPLOYS}/{deploy}")
}

/// `GET`: server-sent events, each a [`crate::event::Told`].
pub fn events_path(deploy: &DeployId) -> String {
    format!("{DEPLOYS}/{deploy}/events")
}

/// `POST`: empty with the token, or a signed [`crate::request::AbortRequest`]; on
/// the local socket either.
pub fn abort_path(deploy: &DeployId) -> String {
    format!("{DEPLOYS}/{deploy}/abort")
}

/// `POST`: a signed [`crate::request::DecisionRequest`] with the decision of this name,
/// which the token of the deploy does not give; on the local socket also empty.
pub fn decision_path(deploy: &DeployId, name: &str) -> String {
    format!("{DEPLOYS}/{deploy}/{name}")
}

/// 202 to a deploy request: the call is durable. The same call again gets the
/// same answer and does nothing.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Accepted {
    /// The deploy.
    pub deploy: DeployId,
    /// Lets its holder follow and abort this deploy, and nothing else.
    pub token: String,
}

/// 200 to a [`crate::request::Query::Verify`].
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Welcome {
    /// The version of the agent.
    pub version: String,
    /// Its clock.
    pub now: Timestamp,
    /// The apps of its configuration.
    pub apps: Vec<AppName>,
}

/// 200 to a [`crate::request::Query::Status`], one for each app.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct AppView {
    /// Its name.
    pub app: AppName,
    /// The hosts it answers for.
    pub domains: Vec<String>,
    /// The release that gets requests.
    pub serving: Option<ReleaseView>,
    /// The release that is kept warm.
    pub standby: Option<ReleaseView>,
    /// The deploy that is under way.
    pub deploying: Option<DeployView>,
    /// The deploy that waits for its end.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub waiting: Option<DeployView>,
    /// The deploy that ended last.
    pub last: Option<DeployView>,
}

/// A release, as it is shown.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ReleaseView {
    /// Its number.
    pub number: ReleaseNumber,
    /// Its image.
    pub image: String,
    /// What its time in service showed.
    pub standing: Standing,
    /// Whether its containers run now, in a word.
    pub condition: String,
}

/// What a deploy waits for a person for.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct WaitView {
    /// What the person should know.
    pub because: String,
    /// How long the person has.
    pub until: Timestamp,
}

/// A deploy, as it is shown.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct DeployView {
    /// Its id.
    pub deploy: DeployId,
    /// Its app.
    pub app: AppName,
    /// What was wanted.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub kind: Option<Kind>,
    /// Who asked, as the call told it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub by: Option<String>,
    /// The release it is about, once that is known.
    pub release: Option<ReleaseNumber>,
    /// The image it is about, once that is known.
    pub image: Option<String>,
    /// What it does now, in a few words.
    pub phase: String,
    /// What a person has to decide before it goes on.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub waits: Option<WaitView>,
    /// How it ended, if it is over.
    pub outcome: Option<Outcome>,
    /// What serves the app's users now, in a sentence.
    pub serving: String,
    /// Why it did not end as promoted.
    pub reason: Option<String>,
    /// What the person can do.
    pub hint: Option<String>,
    /// The last lines of the app, where they tell why.
    pub log: Vec<String>,
    /// When the call was accepted.
    pub accepted_at: Timestamp,
    /// When it was over.
    pub ended_at: Option<Timestamp>,
    /// Where its release is seen.
    pub url: Option<String>,
}

/// 200 to a [`crate::request::Query::Plan`]: nothing was moved.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct PlanView {
    /// The plan for people.
    pub text: String,
    /// The plan for programs.
    pub plan: Plan,
}

/// Any other answer: nothing was done.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Problem {
    /// A word for programs, for example `unknown_app`.
    pub code: String,
    /// What is wrong.
    pub message: String,
    /// What the person can do.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub hint: Option<String>,
    /// The deploy that is in the way, where one is.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub deploy: Option<DeployId>,
}
