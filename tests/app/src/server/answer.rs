//! What the app answers to each request.

use std::convert::Infallible;
use std::fmt::Write as _;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use bytes::Bytes;
use http::{HeaderValue, Method, Request, Response, StatusCode, header};
use http_body_util::combinators::UnsyncBoxBody;
use http_body_util::{BodyExt as _, Full, Limited};
use hyper::body::Incoming;

use super::{App, stream};
use crate::{APP_VERSION, LOAD_ID, log};

pub(super) type Body = UnsyncBoxBody<Bytes, Infallible>;

/// A posted body at most.
const LARGEST_BODY: usize = 64 << 20;

pub(super) async fn answer(app: Arc<App>, request: Request<Incoming>) -> Response<Body> {
    let id = request.headers().get(LOAD_ID).cloned();
    if let Some(id) = id.as_ref().and_then(|id| id.to_str().ok()) {
        app.journal.asked(id);
    }
    let mut response = route(&app, request).await;
    let headers = response.headers_mut();
    if let Ok(version) = HeaderValue::from_str(&app.behaviour.version) {
        headers.insert(APP_VERSION, version);
    }
    if let Some(id) = id {
        if let Ok(text) = id.to_str() {
            app.served(text);
        }
        headers.insert(LOAD_ID, id);
    }
    response
}

async fn route(app: &Arc<App>, request: Request<Incoming>) -> Response<Body> {
    let path = request.uri().path().to_owned();
    match (request.method(), path.as_str()) {
        (&Method::GET | &Method::HEAD, "/healthz") => return app.health(),
        (&Method::GET, "/journal") => return app.journal(&request),
        _ => app.used.notify_one(),
    }
    tokio::time::sleep(app.behaviour.delay).await;
    if app.errs() {
        return text(StatusCode::INTERNAL_SERVER_ERROR, "error: as asked to\n");
    }
    match (request.method(), path.as_str()) {
        (&Method::GET | &Method::HEAD, "/") => {
            let mut answer = format!("version={}", app.behaviour.version);
            for name in [LOAD_ID, "x-request-id"] {
                if let Some(value) = request.headers().get(name) {
                    let value = String::from_utf8_lossy(value.as_bytes());
                    let _ = write!(answer, " {name}={value}");
                }
            }
            answer.push('\n');
            text(StatusCode::OK, answer)
        }
        (&Method::GET, "/headers") => {
            let mut answer = String::new();
            for (name, value) in request.headers() {
                let value = String::from_utf8_lossy(value.as_bytes());
                let _ = writeln!(answer, "{name}: {value}");
            }
            text(StatusCode::OK, answer)
        }
        (&Method::GET | &Method::POST, "/slow") => {
            let milliseconds = number(&request, "ms").unwrap_or(1000);
            tokio::time::sleep(Duration::from_millis(milliseconds)).await;
            text(StatusCode::OK, format!("waited {milliseconds} ms\n"))
        }
        (&Method::GET, "/bytes") => stream::bytes(number(&request, "n").unwrap_or(1024)),
        (&Method::GET, "/sse") => {
            let count = number(&request, "n").unwrap_or(u64::MAX);
            let interval = number(&request, "interval_ms").unwrap_or(100);
            let last = request.headers().get("last-event-id");
            let last = last.and_then(|id| id.to_str().ok()?.parse::<u64>().ok());
            let first = last.map_or(0, |last| last.saturating_add(1));
            let interval = Duration::from_millis(interval);
            stream::events(Arc::clone(app), first, count, interval)
        }
        (&Method::GET, "/ws") => stream::websocket(Arc::clone(app), request),
        (&Method::POST | &Method::PUT, "/echo") => {
            match Limited::new(request.into_body(), LARGEST_BODY)
                .collect()
                .await
            {
                Ok(body) => Response::new(Full::new(body.to_bytes()).boxed_unsync()),
                Err(error) => text(StatusCode::BAD_REQUEST, format!("error: {error}\n")),
            }
        }
        _ => text(StatusCode::NOT_FOUND, "error: no such page\n"),
    }
}

impl App {
    /// Journals a request that is answered now.
    pub(super) fn served(&self, id: &str) {
        self.journal.add(id);
        if self.behaviour.prints_journal {
            log(&format!("served {id}"));
        }
    }

    /// Whether this answer is to be an error: evenly spread, so that any run of
    /// answers has the share that was asked for.
    fn errs(&self) -> bool {
        let rate = self.behaviour.error_rate;
        if rate == 0.0 || self.started.elapsed() < self.behaviour.errors_after {
            return false;
        }
        let nth = self.judged.fetch_add(1, Ordering::Relaxed) as f64;
        ((nth + 1.0) * rate).floor() > (nth * rate).floor()
    }

    fn health(&self) -> Response<Body> {
        match &self.behaviour.unhealthy {
            Some(reason) if self.started.elapsed() >= self.behaviour.unhealthy_after => text(
                StatusCode::SERVICE_UNAVAILABLE,
                format!("unhealthy: {reason}\n"),
            ),
            _ => text(StatusCode::OK, "healthy\n"),
        }
    }

    fn journal(&self, request: &Request<Incoming>) -> Response<Body> {
        let first = number(request, "from").unwrap_or(0);
        let first = usize::try_from(first).unwrap_or(usize::MAX);
        let mut response = text(StatusCode::OK, self.journal.lines(first));
        let count = HeaderValue::from(self.journal.count());
        response.headers_mut().insert("x-journal-count", count);
        response
    }
}

pub(super) fn text(status: StatusCode, body: impl Into<Bytes>) -> Response<Body> {
    let mut response = Response::new(Full::new(body.into()).boxed_unsync());
    *response.status_mut() = status;
    let plain = HeaderValue::from_static("text/plain; charset=utf-8");
    response.headers_mut().insert(header::CONTENT_TYPE, plain);
    response
}

/// The whole number that the query gives `name`.
fn number(request: &Request<Incoming>, name: &str) -> Option<u64> {
    let query = request.uri().query()?;
    let mut pairs = query.split('&').filter_map(|pair| pair.split_once('='));
    let (_, value) = pairs.find(|(key, _)| *key == name)?;
    value.parse().ok()
}
