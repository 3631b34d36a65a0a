//! The capability of one deploy: its holder may look at it and abort it.

use std::sync::Arc;

use axum::extract::{FromRequestParts, Path};
use cutover_plan::id::DeployId;
use cutover_wire::signature::same_token;
use http::header::AUTHORIZATION;
use http::request::Parts;

use super::{Counter, Door};
use crate::desk::Refusal;
use crate::metrics::Distrust;

/// Keeps the tokens of deploys apart from any other use of the secret.
const PURPOSE: &str = "deploy";

impl Counter {
    /// The token of a deploy.
    pub(super) fn token(&self, deploy: &DeployId) -> String {
        let first = self.inbox.secrets.first();
        first.map_or_else(String::new, |secret| secret.token(PURPOSE, deploy.as_str()))
    }

    /// Whether a token is the deploy's, made of any of the secrets.
    fn is_token(&self, deploy: &DeployId, token: &str) -> bool {
        let secrets = self.inbox.secrets.iter();
        secrets.fold(false, |found, secret| {
            found | same_token(token, &secret.token(PURPOSE, deploy.as_str()))
        })
    }
}

/// The deploy of the path.
pub(super) struct Named(pub(super) DeployId);

impl<S: Send + Sync> FromRequestParts<S> for Named {
    type Rejection = Refusal;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, Refusal> {
        let unknown = |message: String| Refusal::new(404, "unknown_deploy", message, None);
        let Ok(Path(text)) = Path::<String>::from_request_parts(parts, state).await else {
            return Err(unknown("the path names no deploy".to_owned()));
        };
        let parsed = DeployId::parse(&text);
        parsed.map(Self).map_err(|error| unknown(error.to_string()))
    }
}

/// The deploy of the path, which the caller may look at and abort.
pub(super) struct Held(pub(super) DeployId);

impl FromRequestParts<Arc<Counter>> for Held {
    type Rejection = Refusal;

    async fn from_request_parts(
        parts: &mut Parts,
        counter: &Arc<Counter>,
    ) -> Result<Self, Refusal> {
        let Named(deploy) = Named::from_request_parts(parts, counter).await?;
        if counter.door == Door::Local {
            return Ok(Self(deploy));
        }
        let header = parts.headers.get(AUTHORIZATION);
        let token = header.and_then(|value| value.to_str().ok()?.strip_prefix("Bearer "));
        match token {
            Some(token) if counter.is_token(&deploy, token) => Ok(Self(deploy)),
            // The same answer whether or not there is such a deploy.
            _ => {
                counter.inbox.metrics.tally.distrusted(Distrust::Token);
                let message = "the token of the deploy is missing or not the right one".to_owned();
                let hint = "send the token that came with the deploy as Authorization: Bearer";
                Err(Refusal::new(401, "no_token", message, Some(hint)))
            }
        }
    }
}
