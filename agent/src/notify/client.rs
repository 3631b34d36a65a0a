//! One POST over TLS: sent once, with limits, following nothing.

use std::time::Duration;

use bytes::Bytes;
use http::header::{CONTENT_TYPE, HeaderName, HeaderValue, RETRY_AFTER, USER_AGENT};
use http::{HeaderMap, Method, Request, StatusCode, Uri};
use http_body_util::Full;
use hyper_rustls::{HttpsConnector, HttpsConnectorBuilder};
use hyper_util::client::legacy;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::TokioExecutor;

use crate::forge::DeliveryError;

/// How long a receiver may take, from the name of its host to its answer: Standard
/// Webhooks asks for 15 to 30 seconds.
const LIMIT: Duration = Duration::from_secs(15);

/// The longest wait that a receiver may ask for; a clock may be wrong by more.
const LONGEST_WAIT: u64 = 3_600;

/// Why nobody can be told at all.
#[derive(Debug, thiserror::Error)]
#[error("the host has no certificate authorities")]
pub struct ClientError(#[source] std::io::Error);

pub(super) struct Client {
    client: legacy::Client<HttpsConnector<HttpConnector>, Full<Bytes>>,
}

impl Client {
    pub(super) fn new() -> Result<Self, ClientError> {
        // More than one provider may be linked, and rustls then refuses to choose.
        // A second call fails, and the first one's choice stays.
        let _ = rustls::crypto::ring::default_provider().install_default();
        let secure = HttpsConnectorBuilder::new()
            .with_native_roots()
            .map_err(ClientError)?
            .https_or_http()
            .enable_http1()
            .build();
        let client = legacy::Client::builder(TokioExecutor::new())
            // Ends of deploys are far apart: a kept connection would be a stale one.
            .pool_max_idle_per_host(0)
            .retry_canceled_requests(false)
            .build(secure);
        Ok(Self { client })
    }

    /// Sends it. Errors name neither the address nor what was answered.
    pub(super) async fn post(
        &self,
        address: Uri,
        headers: Vec<(HeaderName, HeaderValue)>,
        body: Vec<u8>,
    ) -> Result<(), DeliveryError> {
        let mut request = Request::new(Full::new(Bytes::from(body)));
        *request.method_mut() = Method::POST;
        *request.uri_mut() = address;
        let json = HeaderValue::from_static("application/json");
        request.headers_mut().insert(CONTENT_TYPE, json);
        let us = HeaderValue::from_static(concat!("cutover/", env!("CARGO_PKG_VERSION")));
        request.headers_mut().insert(USER_AGENT, us);
        request.headers_mut().extend(headers);
        let later = |reason: String| DeliveryError::Later {
            reason,
            after_seconds: None,
        };
        match tokio::time::timeout(LIMIT, self.client.request(request)).await {
            // The body is not read: it says nothing that we could act on.
            Ok(Ok(answer)) => judge(answer.status(), answer.headers()),
            Ok(Err(error)) => Err(later(format!("it is not reached: {}", cause(&error)))),
            Err(_) => Err(later(format!("no answer within {} s", LIMIT.as_secs()))),
        }
    }
}

fn judge(status: StatusCode, headers: &HeaderMap) -> Result<(), DeliveryError> {
    if status.is_success() {
        return Ok(());
    }
    let reason = format!("it answers {status}");
    // The word of Standard Webhooks for a receiver that wants no more.
    if status == StatusCode::GONE {
        return Err(DeliveryError::Never(reason));
    }
    let asked = headers.get(RETRY_AFTER);
    let asked = asked.and_then(|value| value.to_str().ok()?.trim().parse::<u64>().ok());
    Err(DeliveryError::Later {
        reason,
        after_seconds: asked.map(|seconds| seconds.min(LONGEST_WAIT)),
    })
}

/// The innermost cause: the outer ones only say that a connection failed. What TLS
/// says may name the receiver's host, and is told in other words.
fn cause(error: &legacy::Error) -> String {
    let mut inner: &dyn std::error::Error = error;
    while let Some(source) = inner.source() {
        inner = source;
    }
    let carried = inner.downcast_ref::<std::io::Error>();
    let carried = carried.and_then(std::io::Error::get_ref);
    let of_tls =
        inner.is::<rustls::Error>() || carried.is_some_and(|one| one.is::<rustls::Error>());
    match of_tls {
        true => "no secure connection: its certificate or its TLS is not accepted".to_owned(),
        false => inner.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_gone_is_for_ever() {
        let judged = |status: u16, wait: Option<&str>| {
            let mut headers = HeaderMap::new();
            if let Some(wait) = wait {
                headers.insert(RETRY_AFTER, wait.parse().unwrap());
            }
            judge(StatusCode::from_u16(status).unwrap(), &headers)
        };
        let after = |result| match result {
            Err(DeliveryError::Later { after_seconds, .. }) => Some(after_seconds),
            Ok(()) | Err(DeliveryError::Never(_)) => None,
        };
        for status in [200, 202, 204] {
            assert_eq!(judged(status, None), Ok(()));
        }
        for status in [301, 400, 401, 404, 429, 500, 503] {
            assert_eq!(after(judged(status, None)), Some(None), "{status}");
        }
        assert_eq!(after(judged(429, Some("30"))), Some(Some(30)));
        assert_eq!(after(judged(503, Some("999999"))), Some(Some(3_600)));
        assert_eq!(after(judged(503, Some("tomorrow"))), Some(None));
        assert!(matches!(judged(410, None), Err(DeliveryError::Never(_))));
    }
}
