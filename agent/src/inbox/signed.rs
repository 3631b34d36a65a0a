//! A body that is looked at only after its signature was right.
//!
//! ```text
//! headers ─▶ size ─▶ read, bounded ─▶ signature ─▶ JSON ─▶ what types do not say
//!   401      413      413, 408, 400      401        400           400
//! ```
//!
//! Over the local socket the signature is left out; everything else is the same.

use std::sync::Arc;

use axum::body::Body;
use axum::extract::{FromRequest, Request};
use bytes::Bytes;
use cutover_wire::request::{AbortRequest, DecisionRequest, DeployRequest, MAX_BODY, Query};
use cutover_wire::signature::{
    self, Headers, ID_HEADER, MAX_ID, SIGNATURE_HEADER, TIMESTAMP_HEADER, VerifyError,
};
use http::HeaderMap;
use http::header::CONTENT_LENGTH;
use http_body_util::{BodyExt as _, LengthLimitError, Limited};
use serde::de::DeserializeOwned;

use super::{Counter, Door};
use crate::desk::{CallId, Refusal};
use crate::metrics::Distrust;

/// A call that was verified, or came over the local socket, and understood.
pub(super) struct Signed<T> {
    /// The id by which a repeat is known.
    pub(super) call: CallId,
    /// What it asks.
    pub(super) body: T,
}

/// What a call can ask, with words for whoever wrote it wrong.
pub(super) trait Ask: DeserializeOwned {
    /// What it is.
    const NAME: &'static str;
    /// How it looks when it is right.
    const EXAMPLE: &'static str;

    /// The first mistake that the types do not catch.
    fn problem(&self) -> Option<String>;
}

impl Ask for DeployRequest {
    const NAME: &'static str = "deploy request";
    const EXAMPLE: &'static str = r#"for example {"app": "shop", "change": {"deploy": {"image": "ghcr.io/acme/shop@sha256:…"}}}, or {"app": "shop", "change": {"rollback": {}}}"#;

    fn problem(&self) -> Option<String> {
        Self::problem(self)
    }
}

impl Ask for Query {
    const NAME: &'static str = "query";
    const EXAMPLE: &'static str =
        r#"for example {"verify": {}}, {"status": {"app": "shop"}} or {"history": {"limit": 10}}"#;

    fn problem(&self) -> Option<String> {
        Self::problem(self)
    }
}

impl Ask for AbortRequest {
    const NAME: &'static str = "abort request";
    const EXAMPLE: &'static str = r#"for example {"abort": "THE DEPLOY'S ID", "by": "ada"}"#;

    fn problem(&self) -> Option<String> {
        Self::problem(self)
    }
}

impl Ask for DecisionRequest {
    const NAME: &'static str = "decision";
    const EXAMPLE: &'static str = r#"for example {"deploy": "THE DEPLOY'S ID", "decision": {"approve": {}}, "by": "ada"}; others are {"reject": {"why": "…"}} and {"promote": {"full": false}}"#;

    fn problem(&self) -> Option<String> {
        Self::problem(self)
    }
}

impl<T: Ask> FromRequest<Arc<Counter>> for Signed<T> {
    type Rejection = Refusal;

    async fn from_request(request: Request, counter: &Arc<Counter>) -> Result<Self, Refusal> {
        let (parts, body) = request.into_parts();
        let call = match counter.door {
            Door::Network => None,
            Door::Local => Some(local_call(&parts.headers)?),
        };
        if call.is_none() {
            check_head(&parts.headers).map_err(|error| unsigned(counter, &error))?;
        }
        let body = read(&parts.headers, body, counter).await?;
        let call = match call {
            Some(call) => call,
            None => {
                let verified = verify(&parts.headers, &body, counter);
                verified.map_err(|error| unsigned(counter, &error))?
            }
        };
        let body = parse(&body)?;
        Ok(Self { call, body })
    }
}

/// Refuses what cannot be a signed call before a byte of its body is read.
fn check_head(headers: &HeaderMap) -> Result<(), VerifyError> {
    // Without a secret and a body, well-formed headers can only mismatch.
    match signature::verify(&[], signed_headers(headers)?, &[], 0) {
        Ok(_) | Err(VerifyError::Mismatch) => Ok(()),
        Err(error) => Err(error),
    }
}

fn verify(headers: &HeaderMap, body: &[u8], counter: &Counter) -> Result<CallId, VerifyError> {
    let headers = signed_headers(headers)?;
    let verified = signature::verify(&counter.inbox.secrets, headers, body, counter.now())?;
    Ok(CallId(verified.id))
}

fn signed_headers(headers: &HeaderMap) -> Result<Headers<'_>, VerifyError> {
    Ok(Headers {
        id: single(headers, ID_HEADER)?,
        timestamp: single(headers, TIMESTAMP_HEADER)?,
        signature: single(headers, SIGNATURE_HEADER)?,
    })
}

/// A header that may stand once: of two, a proxy and the agent could each
/// believe another.
fn single<'a>(headers: &'a HeaderMap, name: &'static str) -> Result<Option<&'a str>, VerifyError> {
    let mut values = headers.get_all(name).iter();
    let first = values.next().map(http::HeaderValue::to_str).transpose();
    match (first, values.next()) {
        (Ok(first), None) => Ok(first),
        _ => Err(VerifyError::Malformed(name)),
    }
}

fn unsigned(counter: &Counter, error: &VerifyError) -> Refusal {
    let (why, hint) = match error {
        VerifyError::Missing(_) => (
            Distrust::Unsigned,
            "sign the call as Standard Webhooks says; the cutover command does",
        ),
        VerifyError::Malformed(_) => (
            Distrust::Malformed,
            "send the header once, as Standard Webhooks says",
        ),
        VerifyError::Stale(_) => (
            Distrust::Stale,
            "set the clocks of both machines, and sign again",
        ),
        VerifyError::Mismatch => (
            Distrust::Forged,
            "use the secret of this host, and sign the bytes that are sent, with nothing between changing them",
        ),
    };
    counter.inbox.metrics.tally.distrusted(why);
    Refusal::new(401, "unsigned", error.to_string(), Some(hint))
}

/// The id of a call that nobody signed: its own, or one of chance.
pub(super) fn local_call(headers: &HeaderMap) -> Result<CallId, Refusal> {
    let plain = |b: u8| b.is_ascii_alphanumeric() || b"_-".contains(&b);
    let bad = |message: String| Refusal::new(400, "bad_call_id", message, None);
    let id = single(headers, ID_HEADER).map_err(|error| bad(error.to_string()))?;
    match id {
        Some(id) if !id.is_empty() && id.len() <= MAX_ID && id.bytes().all(plain) => {
            Ok(CallId(id.to_owned()))
        }
        Some(_) => Err(bad(VerifyError::Malformed(ID_HEADER).to_string())),
        None => {
            let chance = getrandom::u64().and_then(|a| Ok((a, getrandom::u64()?)));
            let (a, b) = chance.map_err(|error| {
                let message = format!("the host gives no random bytes: {error}");
                Refusal::new(500, "no_chance", message, None)
            })?;
            Ok(CallId(format!("local-{a:016x}{b:016x}")))
        }
    }
}

/// Reads a body that is neither too large nor too slow.
pub(super) async fn read(
    headers: &HeaderMap,
    body: Body,
    counter: &Counter,
) -> Result<Bytes, Refusal> {
    let too_large = || {
        let message = format!("the body has more than {MAX_BODY} bytes");
        Refusal::new(413, "too_large", message, None)
    };
    let told = headers.get(CONTENT_LENGTH);
    let told = told.and_then(|value| value.to_str().ok()?.parse::<u64>().ok());
    if told.is_some_and(|length| length > MAX_BODY as u64) {
        return Err(too_large());
    }
    let limit = counter.inbox.limits.body;
    match tokio::time::timeout(limit, Limited::new(body, MAX_BODY).collect()).await {
        Ok(Ok(whole)) => Ok(whole.to_bytes()),
        Ok(Err(error)) if error.is::<LengthLimitError>() => Err(too_large()),
        Ok(Err(_)) => {
            let message = "the body did not come whole".to_owned();
            Err(Refusal::new(400, "truncated", message, None))
        }
        Err(_) => {
            let message = format!("the body did not come within {} seconds", limit.as_secs());
            Err(Refusal::new(408, "slow_body", message, None))
        }
    }
}

/// Understands a body, or says where it is wrong and how it would be right.
pub(super) fn parse<T: Ask>(body: &[u8]) -> Result<T, Refusal> {
    let bad = |message: String| Refusal::new(400, "bad_request", message, Some(T::EXAMPLE));
    let parsed: T = serde_json::from_slice(body).map_err(|error| {
        let error = without_value(&error.to_string());
        bad(format!("the body is not a {}: {error}", T::NAME))
    })?;
    match parsed.problem() {
        Some(problem) => Err(bad(problem)),
        None => Ok(parsed),
    }
}

/// The text of an error without the text that was in a wrong place: it could
/// be a password, and answers stand in the logs of workflows.
fn without_value(error: &str) -> String {
    let quoted = error
        .find("string \"")
        .zip(error.rfind("\", expected"))
        .filter(|(start, end)| start < end);
    match quoted {
        Some((start, end)) => format!("{}string{}", &error[..start], &error[end + 1..]),
        None => error.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(body: &str, expected: &str) {
        let told = match parse::<DeployRequest>(body.as_bytes()) {
            Ok(_) => "taken".to_owned(),
            Err(refusal) => refusal.problem.message,
        };
        assert!(told.contains(expected), "{body}: {told}");
        assert!(!told.contains("hunter2"), "{told}");
    }

    #[test]
    fn what_is_wrong_is_told_with_its_place_and_without_a_password() {
        let change = r#""change": {"rollback": {}}"#;
        check(&format!(r#"{{"app": "shop", {change}}}"#), "taken");
        check("{", "line 1 column 1");
        check("", "line 1 column 0");
        check("[]", "deploy request");
        check(r#"{"app": "shop"}"#, "missing field `change`");
        check(&format!(r#"{{"app": "Shop", {change}}}"#), "lower-case");
        check(
            &format!(r#"{{"app": "shop", {change}, "shell": "rm"}}"#),
            "unknown field `shell`",
        );
        check(&format!(r#"{{"app": "shop", {change}}} {{}}"#), "trailing");
        check(
            &format!(r#"{{"app": "shop", {change}, "registry": "ada:hunter2"}}"#),
            "invalid type: string, expected",
        );
        check(
            &format!(r#"{{"app": "shop", {change}, "registry": "a\", expected hunter2"}}"#),
            "invalid type: string, expected",
        );
        check(
            &format!(r#"{{"app": "shop", {change}, "source": {{"run_url": "javascript:1"}}}}"#),
            "https://",
        );
    }
}
