//! Answers: one JSON shape for everything that was not done.

use axum::Json;
use axum::response::{IntoResponse, Response};
use http::header::{CACHE_CONTROL, RETRY_AFTER, WWW_AUTHENTICATE};
use http::{HeaderValue, StatusCode};
use serde::Serialize;

use crate::desk::Refusal;

/// What a caller is asked to wait when the agent is full, in seconds: long
/// enough for a deploy's worth of calls to be answered.
const COME_BACK: &str = "2";

/// A good answer. It may carry a token, so nobody between may keep it.
pub(super) fn good(status: StatusCode, answer: &impl Serialize) -> Response {
    let mut response = (status, Json(answer)).into_response();
    let keep = HeaderValue::from_static("no-store");
    response.headers_mut().insert(CACHE_CONTROL, keep);
    response
}

impl IntoResponse for Refusal {
    fn into_response(self) -> Response {
        // At this level no flood of bad calls writes to the log's disk.
        tracing::debug!(status = self.status, code = %self.problem.code, "a call was refused");
        let status = StatusCode::from_u16(self.status);
        let status = status.unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
        let mut response = good(status, &self.problem);
        let header = match status {
            StatusCode::SERVICE_UNAVAILABLE => Some((RETRY_AFTER, COME_BACK)),
            StatusCode::UNAUTHORIZED => Some((WWW_AUTHENTICATE, "Bearer")),
            _ => None,
        };
        if let Some((name, value)) = header {
            let value = HeaderValue::from_static(value);
            response.headers_mut().insert(name, value);
        }
        response
    }
}
