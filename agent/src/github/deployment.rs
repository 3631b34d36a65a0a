//! The deployment of a deploy: found again by the deploy's id, or created.

use http::StatusCode;
use octocrab::secrecy::SecretString;
use serde::Deserialize;
use serde_json::{Value, json};

use super::client::Client;
use super::failure::{Failure, Missing};
use super::repository::Repository;
use super::text::encode;
use crate::forge::Message;

/// One message on its way.
pub(super) struct Delivery<'a> {
    pub(super) client: &'a Client,
    pub(super) repository: &'a Repository,
    pub(super) token: &'a SecretString,
    pub(super) message: &'a Message,
}

/// What is read of a deployment; the rest of it is left alone.
#[derive(Deserialize)]
pub(super) struct Deployment {
    pub(super) id: u64,
    #[serde(default)]
    payload: Value,
}

/// GitHub's word for what a deployment does; others are other tools' business.
const TASK: &str = "deploy";

/// Where the deploy's id stands in the payload.
const MARK: &str = "cutover_deploy";

/// The most that GitHub puts on a page.
const PAGE: usize = 100;

/// A commit with more deployments to one environment than fit on these pages
/// has been deployed for years; the newest come first.
const PAGES: usize = 3;

impl Deployment {
    /// The deploy it belongs to, if it is one of Cutover's. A payload that was
    /// sent as text comes back as text.
    pub(super) fn deploy(&self) -> Option<String> {
        let parsed;
        let payload = match &self.payload {
            Value::String(text) => {
                parsed = serde_json::from_str(text).unwrap_or(Value::Null);
                &parsed
            }
            other => other,
        };
        payload.get(MARK)?.as_str().map(str::to_owned)
    }
}

impl Delivery<'_> {
    /// The path of the repository's deployments.
    pub(super) fn deployments(&self) -> String {
        format!("/repos/{}/deployments", self.repository)
    }

    /// The environment's newest deployments, at most a page of them.
    pub(super) async fn list(&self, filter: &str, page: usize) -> Result<Vec<Deployment>, Failure> {
        let environment = encode(&self.message.environment);
        let path = format!(
            "{}?environment={environment}&task={TASK}{filter}&per_page={PAGE}&page={page}",
            self.deployments(),
        );
        let what = format!("the deployments of {}", self.repository);
        let answer = self.client.get(self.token, &path).await?;
        match answer.status {
            StatusCode::OK => answer.read(&what),
            _ => Err(self.client.refusal(&answer, &what, Missing::Access)),
        }
    }

    /// The deployment that was made for this deploy, by this process or an earlier one.
    pub(super) async fn find_deployment(&self) -> Result<Option<u64>, Failure> {
        let filter = format!("&sha={}", encode(&self.message.sha));
        for page in 1..=PAGES {
            let listed = self.list(&filter, page).await?;
            let ours =
                |one: &&Deployment| one.deploy().as_deref() == Some(self.message.deploy.as_str());
            if let Some(found) = listed.iter().find(ours) {
                return Ok(Some(found.id));
            }
            if listed.len() < PAGE {
                break;
            }
        }
        Ok(None)
    }

    /// Creates the deployment. GitHub is told to merge nothing and to wait for
    /// no check: whether to deploy was decided before Cutover was called.
    pub(super) async fn create_deployment(&self) -> Result<u64, Failure> {
        let message = self.message;
        let body = json!({
            "ref": message.sha,
            "task": TASK,
            "auto_merge": false,
            "required_contexts": [],
            "payload": { MARK: message.deploy.as_str() },
            "environment": message.environment,
            "description": format!("Deploy {}", message.deploy),
            "transient_environment": false,
            "production_environment": self.is_production(),
        });
        let what = format!("a deployment of {} at {}", self.repository, message.sha);
        let answer = self
            .client
            .post(self.token, &self.deployments(), &body)
            .await?;
        match answer.status {
            StatusCode::CREATED => answer.read::<Deployment>(&what).map(|made| made.id),
            _ => Err(self.client.refusal(&answer, &what, Missing::Access)),
        }
    }

    /// GitHub's own default: the environment of that name is production.
    pub(super) fn is_production(&self) -> bool {
        self.message.environment == "production"
    }
}
