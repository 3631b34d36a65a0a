//! What a success replaces: older deployments become inactive.
//!
//! GitHub does so itself, but not in a production environment, where every
//! deployment would stay "active" for ever. Only Cutover's own are touched.

use serde_json::json;

use super::deployment::Delivery;
use super::failure::Failure;
use crate::forge::DeploymentState;

/// How many older deployments are looked at. Each success cleans up after the
/// one before it, so more than a few are there only when others failed between.
const OLDER: usize = 10;

impl Delivery<'_> {
    /// Whether this message ends what older deployments of the environment show.
    pub(super) fn replaces_older(&self) -> bool {
        self.message.state == DeploymentState::Success && self.is_production()
    }

    /// Makes the older deployments inactive that still show success. It looks
    /// before it writes, so it can be repeated.
    pub(super) async fn retire_older(&self, own: u64) -> Result<(), Failure> {
        let listed = self.list("", 1).await?;
        let older = listed
            .iter()
            .filter(|one| one.id < own && one.deploy().is_some())
            .take(OLDER);
        for deployment in older {
            match self.retire(deployment.id).await {
                Ok(()) => {}
                // It was deleted, or has as many statuses as GitHub allows: the
                // message itself is delivered, and that must not fail for it.
                Err(Failure::Gone(reason) | Failure::Refused(reason)) => {
                    tracing::warn!(deployment = deployment.id, %reason, "an older deployment stays active");
                }
                Err(failure) => return Err(failure),
            }
        }
        Ok(())
    }

    async fn retire(&self, deployment: u64) -> Result<(), Failure> {
        let newest = self.statuses(deployment, 1).await?;
        if newest
            .first()
            .is_none_or(|status| status.state != "success")
        {
            return Ok(());
        }
        let body = json!({
            "state": "inactive",
            "description": "Replaced by a newer deploy",
            "auto_inactive": false,
        });
        self.post_status(deployment, &body).await
    }
}
