//! What is answered to calls: each function is one path.

use std::sync::Arc;

use axum::extract::{FromRequest as _, FromRequestParts as _, Request, State};
use axum::response::Response;
use axum::{Extension, Json};
use cutover_plan::id::{AppName, DeployId};
use cutover_wire::agent::{Accepted, DeployView, Welcome};
use cutover_wire::request::{AbortRequest, DeployRequest, HISTORY, Query};
use http::header::AUTHORIZATION;
use http::{HeaderMap, StatusCode};
use http_body_util::BodyExt as _;

use super::answer::good;
use super::credentials::check_way;
use super::signed::{Signed, parse};
use super::token::{Held, Named};
use super::{Counter, Door, Peer};
use crate::desk::Refusal;

pub(super) type Answer = Result<Response, Refusal>;

/// Begins a deploy. The same call again gets the same answer and does nothing.
pub(super) async fn begin(
    State(counter): State<Arc<Counter>>,
    peer: Option<Extension<Peer>>,
    headers: HeaderMap,
    Signed { call, body }: Signed<DeployRequest>,
) -> Answer {
    if body.registry.is_some() {
        let peer = peer.map(|Extension(peer)| peer);
        check_way(counter.door, peer, &headers)?;
    }
    let deploy = counter.inbox.desk.deploy(call, body).await?;
    let token = counter.token(&deploy);
    Ok(good(StatusCode::ACCEPTED, &Accepted { deploy, token }))
}

/// Answers a question.
pub(super) async fn answer(
    State(counter): State<Arc<Counter>>,
    Signed { body, .. }: Signed<Query>,
) -> Answer {
    let desk = &counter.inbox.desk;
    Ok(match body {
        Query::History { app, limit } => history(&counter, app, limit).await?,
        Query::Verify {} => {
            let welcome = Welcome {
                version: env!("CARGO_PKG_VERSION").to_owned(),
                now: (counter.inbox.clock)(),
                apps: desk.apps(),
            };
            good(StatusCode::OK, &welcome)
        }
        Query::Status { app } => good(StatusCode::OK, &desk.status(app).await?),
        Query::Plan { app, change } => good(StatusCode::OK, &desk.plan(app, change).await?),
    })
}

/// Shows a deploy.
pub(super) async fn show(State(counter): State<Arc<Counter>>, Held(deploy): Held) -> Answer {
    Ok(good(StatusCode::OK, &view(&counter, &deploy)?))
}

/// Aborts a deploy, and shows it as it is right after.
pub(super) async fn abort(State(counter): State<Arc<Counter>>, request: Request) -> Answer {
    let (deploy, by) = match counter.door {
        Door::Network if request.headers().contains_key(AUTHORIZATION) => {
            by_token(&counter, request).await?
        }
        Door::Network => by_signature(&counter, request).await?,
        Door::Local => by_neighbour(&counter, request).await?,
    };
    let desk = &counter.inbox.desk;
    desk.abort(deploy.clone(), by).await?;
    Ok(good(StatusCode::ACCEPTED, &view(&counter, &deploy)?))
}

/// Tells what was deployed. Up to a hundred deploys are folded, beside the
/// requests that are quick to answer.
pub(super) async fn history(counter: &Counter, app: Option<AppName>, limit: Option<u32>) -> Answer {
    let desk = counter.inbox.desk.clone();
    let limit = limit.unwrap_or(HISTORY);
    let told = tokio::task::spawn_blocking(move || desk.history(app.as_ref(), limit)).await;
    let told = told.map_err(|error| {
        let message = format!("the history could not be read: {error}");
        Refusal::new(500, "broken", message, Some("look at the agent's log"))
    })?;
    Ok(good(StatusCode::OK, &told?))
}

/// Whether the agent works.
pub(super) async fn health() -> Json<serde_json::Value> {
    Json(serde_json::json!({ "status": "ok" }))
}

/// A deploy, as it is shown.
pub(super) fn view(counter: &Counter, deploy: &DeployId) -> Result<DeployView, Refusal> {
    let view = counter.inbox.desk.view(deploy)?;
    view.ok_or_else(|| Refusal::unknown_deploy(deploy))
}

async fn by_token(counter: &Arc<Counter>, request: Request) -> Result<(DeployId, String), Refusal> {
    let (mut parts, mut body) = request.into_parts();
    let Held(deploy) = Held::from_request_parts(&mut parts, counter).await?;
    // One frame is enough to see that there is something.
    let limit = counter.inbox.limits.body;
    match tokio::time::timeout(limit, body.frame()).await {
        Ok(None) => Ok((deploy, "the holder of the deploy's token".to_owned())),
        _ => {
            let message = "an abort with a token has no body".to_owned();
            let hint = "leave the body or the token out";
            Err(Refusal::new(400, "bad_request", message, Some(hint)))
        }
    }
}

async fn by_signature(
    counter: &Arc<Counter>,
    request: Request,
) -> Result<(DeployId, String), Refusal> {
    let (mut parts, body) = request.into_parts();
    let named = Named::from_request_parts(&mut parts, counter).await;
    let request = Request::from_parts(parts, body);
    let signed = Signed::<AbortRequest>::from_request(request, counter).await?;
    // After the signature: a stranger learns of no path whether it is well-formed.
    same(named?, signed.body, "a signed call")
}

async fn by_neighbour(
    counter: &Arc<Counter>,
    request: Request,
) -> Result<(DeployId, String), Refusal> {
    let (mut parts, body) = request.into_parts();
    let named = Named::from_request_parts(&mut parts, counter).await?;
    let body = super::signed::read(&parts.headers, body, counter).await?;
    let somebody = "somebody on the host";
    if body.is_empty() {
        return Ok((named.0, somebody.to_owned()));
    }
    same(named, parse(&body)?, somebody)
}

fn same(
    Named(deploy): Named,
    AbortRequest { abort, by }: AbortRequest,
    somebody: &str,
) -> Result<(DeployId, String), Refusal> {
    if abort != deploy {
        let message = format!("the path names the deploy {deploy}, the body {abort}");
        return Err(Refusal::new(400, "bad_request", message, None));
    }
    Ok((deploy, by.unwrap_or_else(|| somebody.to_owned())))
}
