//! The statuses of a deployment.

use http::StatusCode;
use serde::Deserialize;
use serde_json::json;

use super::deployment::Delivery;
use super::failure::{Failure, Missing};
use super::text::{DESCRIPTION, cut};
use crate::forge::DeploymentState;

/// What is read of a status. What GitHub has no value for is empty or left out.
#[derive(Deserialize)]
pub(super) struct Status {
    id: u64,
    pub(super) state: String,
    #[serde(default)]
    description: Option<String>,
    #[serde(default)]
    log_url: Option<String>,
}

/// The word of GitHub's API for a state.
pub(super) fn word(state: DeploymentState) -> &'static str {
    match state {
        DeploymentState::Queued => "queued",
        DeploymentState::InProgress => "in_progress",
        DeploymentState::Success => "success",
        DeploymentState::Failure => "failure",
        DeploymentState::Error => "error",
        DeploymentState::Inactive => "inactive",
    }
}

impl Delivery<'_> {
    /// The newest statuses of a deployment, the newest first.
    pub(super) async fn statuses(
        &self,
        deployment: u64,
        count: usize,
    ) -> Result<Vec<Status>, Failure> {
        let path = format!(
            "{}/{deployment}/statuses?per_page={count}",
            self.deployments()
        );
        let what = format!(
            "the statuses of deployment {deployment} of {}",
            self.repository
        );
        let answer = self.client.get(self.token, &path).await?;
        if answer.status != StatusCode::OK {
            return Err(self.client.refusal(&answer, &what, Missing::Deployment));
        }
        let mut statuses: Vec<Status> = answer.read(&what)?;
        statuses.sort_by_key(|status| std::cmp::Reverse(status.id));
        Ok(statuses)
    }

    /// Whether an earlier attempt has already added this status. Messages come
    /// in order, so it can only be the newest one; `inactive` may have been put
    /// on top of it, by GitHub or by a newer deployment.
    pub(super) async fn status_is_there(&self, deployment: u64) -> Result<bool, Failure> {
        let message = self.message;
        let sought = word(message.state);
        let statuses = self.statuses(deployment, 30).await?;
        let newest = statuses
            .iter()
            .find(|status| status.state == sought || status.state != "inactive");
        let description = cut(&message.description, DESCRIPTION);
        Ok(newest.is_some_and(|status| {
            status.state == sought
                && status.description.as_deref().unwrap_or_default() == description
                && status.log_url.as_deref().unwrap_or_default()
                    == message.log_url.as_deref().unwrap_or_default()
        }))
    }

    /// Adds the message's status.
    pub(super) async fn add_status(&self, deployment: u64) -> Result<(), Failure> {
        let message = self.message;
        let mut body = json!({
            "state": word(message.state),
            "description": cut(&message.description, DESCRIPTION),
            "auto_inactive": message.state == DeploymentState::Success,
        });
        let urls = [
            ("log_url", &message.log_url),
            ("environment_url", &message.environment_url),
        ];
        for (key, url) in urls {
            if let Some(url) = url {
                body[key] = json!(url);
            }
        }
        self.post_status(deployment, &body).await
    }

    pub(super) async fn post_status(
        &self,
        deployment: u64,
        body: &serde_json::Value,
    ) -> Result<(), Failure> {
        let path = format!("{}/{deployment}/statuses", self.deployments());
        let what = format!("a status of deployment {deployment} of {}", self.repository);
        let answer = self.client.post(self.token, &path, body).await?;
        match answer.status {
            StatusCode::CREATED => Ok(()),
            _ => Err(self.client.refusal(&answer, &what, Missing::Deployment)),
        }
    }
}
