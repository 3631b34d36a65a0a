//! The model's end of the connection, where answers are lost.

use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http::{Response, StatusCode};
use http_body_util::{BodyExt as _, Full};
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use serde_json::Value;
use tokio::net::TcpListener;
use tokio::task::JoinSet;
use tokio::time::Instant;

use super::check::Request;
use super::effect::{Answer, refusal};
use super::signin::unix_now;
use super::{Call, Fault, Shared};

/// The connection is closed without an answer.
#[derive(Debug, thiserror::Error)]
#[error("no answer, on purpose")]
struct Broken;

/// Takes connections until it is aborted, which breaks them all.
pub(super) async fn accept(listener: TcpListener, shared: Arc<Shared>) {
    let mut connections = JoinSet::new();
    while let Ok((stream, _)) = listener.accept().await {
        let shared = Arc::clone(&shared);
        connections.spawn(async move {
            let service = service_fn(move |request| answer(Arc::clone(&shared), request));
            let connection = hyper::server::conn::http1::Builder::new();
            // A connection that breaks is the client's to notice.
            let _ = connection
                .serve_connection(TokioIo::new(stream), service)
                .await;
        });
    }
}

async fn answer(
    shared: Arc<Shared>,
    request: http::Request<Incoming>,
) -> Result<Response<Full<Bytes>>, Broken> {
    let (parts, body) = request.into_parts();
    let body = body.collect().await.map_err(|_| Broken)?.to_bytes();
    let request = Request::read(&parts, &body);
    let (number, fault) = shared.take(&request, &parts);
    shared.count.send_replace(number);
    match fault {
        None => Ok(shared.effect(&request)),
        Some(Fault::Slow(wait)) => {
            let response = shared.effect(&request);
            tokio::time::sleep(wait).await;
            Ok(response)
        }
        Some(Fault::Cut) => Err(Broken),
        Some(Fault::Lost) => {
            drop(shared.effect(&request));
            Err(Broken)
        }
        Some(Fault::Silent) => match never().await {},
        Some(Fault::SilentAfter) => {
            drop(shared.effect(&request));
            match never().await {}
        }
        Some(Fault::GatewayPage) => Ok(write(
            StatusCode::OK,
            &[],
            "<html>sign in to the hotel</html>",
        )),
        Some(Fault::Status(status)) => Ok(show(refusal(status, "Something is wrong"), &[])),
        Some(Fault::AutoMerged) => {
            let body = serde_json::json!({ "message": "Auto-merged main into topic-branch on deployment." });
            Ok(show((StatusCode::ACCEPTED, body), &[]))
        }
        Some(Fault::SecondaryLimit(seconds)) => {
            shared.limit(seconds);
            let headers = [("retry-after", seconds)];
            Ok(show(
                refusal(403, "You have exceeded a secondary rate limit."),
                &headers,
            ))
        }
        Some(Fault::WordyLimit) => Ok(show(
            refusal(403, "You have exceeded a secondary rate limit."),
            &[],
        )),
        Some(Fault::PrimaryLimit(seconds)) => {
            shared.limit(seconds);
            let reset = unix_now().as_secs() + seconds;
            let headers = [("x-ratelimit-remaining", 0), ("x-ratelimit-reset", reset)];
            Ok(show(
                refusal(403, "API rate limit exceeded for installation."),
                &headers,
            ))
        }
    }
}

impl Shared {
    /// Notes a call and what is wrong with it, and takes the fault that is meant for it.
    fn take(&self, request: &Request, parts: &http::request::Parts) -> (u64, Option<Fault>) {
        let objections = request.objections(&self.description, parts);
        let mut inner = self.lock();
        inner.violations.extend(objections);
        if inner
            .limited_until
            .is_some_and(|until| Instant::now() < until)
        {
            inner.violations.push(format!(
                "{} was called before the limit ended",
                request.path
            ));
        }
        inner.calls.push(Call {
            method: request.method.clone(),
            path: parts.uri.to_string(),
        });
        let number = inner.calls.len() as u64;
        let fault = inner.faults.remove(&number);
        (number, fault)
    }

    /// Carries a call out, and checks the model's own answer too.
    fn effect(&self, request: &Request) -> Response<Full<Bytes>> {
        let mut inner = self.lock();
        let (status, body) = inner.carry_out(&self.description, request);
        if let Some(operation) = self.description.find(&request.method, &request.path) {
            let wrong = operation.check_answer(status.as_u16(), &body);
            let told = |text| format!("the model's answer to {}: {text}", request.path);
            inner.violations.extend(wrong.into_iter().map(told));
        }
        show((status, body), &[])
    }

    fn limit(&self, seconds: u64) {
        self.lock().limited_until = Some(Instant::now() + Duration::from_secs(seconds));
    }
}

fn show((status, body): Answer, headers: &[(&str, u64)]) -> Response<Full<Bytes>> {
    write(status, headers, &Value::to_string(&body))
}

fn write(status: StatusCode, headers: &[(&str, u64)], body: &str) -> Response<Full<Bytes>> {
    let mut response = Response::builder()
        .status(status)
        .header("content-type", "application/json");
    for (name, value) in headers {
        response = response.header(*name, *value);
    }
    let body = Full::new(Bytes::copy_from_slice(body.as_bytes()));
    response.body(body).unwrap_or_default()
}

async fn never() -> Infallible {
    std::future::pending().await
}
