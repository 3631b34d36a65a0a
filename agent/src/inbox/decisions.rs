//! What a person says to a deploy: approve, reject, promote.
//!
//! Invariant: the token of a deploy does not say it: whoever was only let follow a
//! deploy does not approve it. Whoever holds the host's secret does.

use std::sync::Arc;

use axum::extract::{FromRequest as _, FromRequestParts as _, Request, State};
use cutover_plan::id::DeployId;
use cutover_wire::request::{Decision, DecisionRequest};
use cutover_wire::signature::ID_HEADER;
use http::StatusCode;
use http::header::AUTHORIZATION;

use super::answer::good;
use super::deploys::{Answer, view};
use super::signed::{Signed, local_call, parse, read};
use super::token::Named;
use super::{Counter, Door};
use crate::desk::{CallId, Refusal};
use crate::metrics::Distrust;

/// Yes to what a deploy waits for.
pub(super) async fn approve(State(counter): State<Arc<Counter>>, request: Request) -> Answer {
    decide(&counter, request, Decision::Approve {}).await
}

/// No to what a deploy waits for.
pub(super) async fn reject(State(counter): State<Arc<Counter>>, request: Request) -> Answer {
    decide(&counter, request, Decision::Reject { why: None }).await
}

/// Sends a deploy on before the end of a watch or an approval.
pub(super) async fn promote(State(counter): State<Arc<Counter>>, request: Request) -> Answer {
    decide(&counter, request, Decision::Promote { full: false }).await
}

/// Hands a decision to the desk, and shows the deploy as it is right after.
/// `plain` is the word of the path with nothing beside it.
async fn decide(counter: &Arc<Counter>, request: Request, plain: Decision) -> Answer {
    let (call, deploy, decision, by) = match counter.door {
        Door::Network => by_signature(counter, request, &plain).await?,
        Door::Local => by_neighbour(counter, request, plain).await?,
    };
    let desk = &counter.inbox.desk;
    desk.decide(call, deploy.clone(), decision, by).await?;
    Ok(good(StatusCode::ACCEPTED, &view(counter, &deploy)?))
}

type Asked = (CallId, DeployId, Decision, String);

async fn by_signature(
    counter: &Arc<Counter>,
    request: Request,
    plain: &Decision,
) -> Result<Asked, Refusal> {
    let headers = request.headers();
    if headers.contains_key(AUTHORIZATION) && !headers.contains_key(ID_HEADER) {
        counter.inbox.metrics.tally.distrusted(Distrust::Token);
        let message = "the token of a deploy lets its holder follow and abort it, and nothing else";
        let hint = "sign the call with the secret of the host; the cutover command does";
        let message = message.to_owned();
        return Err(Refusal::new(403, "not_by_token", message, Some(hint)));
    }
    let (mut parts, body) = request.into_parts();
    let named = Named::from_request_parts(&mut parts, counter).await;
    let request = Request::from_parts(parts, body);
    let Signed { call, body } = Signed::<DecisionRequest>::from_request(request, counter).await?;
    // After the signature: a stranger learns of no path whether it is well-formed.
    same(call, named?, plain, body, "a signed call")
}

async fn by_neighbour(
    counter: &Arc<Counter>,
    request: Request,
    plain: Decision,
) -> Result<Asked, Refusal> {
    let (mut parts, body) = request.into_parts();
    let call = local_call(&parts.headers)?;
    let named = Named::from_request_parts(&mut parts, counter).await?;
    let body = read(&parts.headers, body, counter).await?;
    let somebody = "somebody on the host";
    if body.is_empty() {
        return Ok((call, named.0, plain, somebody.to_owned()));
    }
    same(call, named, &plain, parse(&body)?, somebody)
}

/// What the path and the body say together; they must not contradict.
fn same(
    call: CallId,
    Named(named): Named,
    plain: &Decision,
    body: DecisionRequest,
    somebody: &str,
) -> Result<Asked, Refusal> {
    let DecisionRequest {
        deploy,
        decision,
        by,
    } = body;
    let said = [
        ("the deploy", named.as_str(), deploy.as_str()),
        ("the decision", plain.name(), decision.name()),
    ];
    for (what, path, body) in said {
        if path != body {
            let message = format!("the path names {what} {path}, the body {body}");
            return Err(Refusal::new(400, "bad_request", message, None));
        }
    }
    let by = by.unwrap_or_else(|| somebody.to_owned());
    Ok((call, deploy, decision, by))
}
