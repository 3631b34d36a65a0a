//! One request on its way to a target and its answer back.
//!
//! ```text
//!  admit ─▶ route ─▶ bind ─▶ connect ─▶ exchange ─▶ answer
//!             │        ▲        │           │
//!            404       └────────┴───────────┘ see `retry`
//! ```
//!
//! Invariant: between reading the snapshot and counting in there is no await.

use std::rc::Rc;
use std::sync::Arc;
use std::time::{Duration, Instant};

use cutover_wire::table::Limits;
use http::{HeaderValue, Request, Response, StatusCode, Version, header};
use hyper::body::Incoming;
use tokio::time::timeout;

use crate::admission::{Admitted, admit, routed_host};
use crate::answer::{After, AnswerBody, Passing, own};
use crate::client::{Client, Upload};
use crate::counters::Outcome;
use crate::headers;
use crate::retry::{MAX_TRIES, is_idempotent, pause};
use crate::route::Route;
use crate::target::Kind;
use crate::ticket::Ticket;
use crate::tunnel::Tunnel;
use crate::upload::RequestBody;
use crate::upstream::{Care, ExchangeError, Upstream};
use crate::worker::Worker;

/// The client broke its own request, so nobody is there to be answered.
#[derive(Debug, thiserror::Error)]
#[error("the client broke its request")]
pub(crate) struct Broken;

/// What a request is, besides its head and body.
#[derive(Debug)]
struct Errand {
    worker: Rc<Worker>,
    client: Rc<Client>,
    app: Arc<str>,
    limits: Limits,
    begun: Instant,
    version: Version,
    websocket: bool,
    probe: bool,
    repeatable: bool,
}

/// Serves one request.
pub(crate) async fn forward(
    worker: Rc<Worker>,
    client: Rc<Client>,
    request: Request<Incoming>,
) -> Result<Response<AnswerBody>, Broken> {
    let begun = Instant::now();
    client.waits(u64::MAX);
    let (mut parts, body) = request.into_parts();
    let refuse = |status, text: &str, after| {
        client.rests();
        Ok(own(status, text, worker.after(after)))
    };
    let admitted = match admit(&mut parts, client.fault()) {
        Ok(admitted) => admitted,
        Err(refused) => return refuse(refused.status, refused.text, After::Close),
    };
    let host = routed_host(parts.headers.get(header::HOST));
    let bound = worker.route(&host, parts.uri.path(), begun);
    let Some((route, ticket)) = bound else {
        let text = format!("no app is served for the host {host:?}");
        return refuse(StatusCode::NOT_FOUND, &text, After::KeepAlive);
    };
    let max = route.limits.max_body;
    if max.is_some_and(|max| admitted.length.is_some_and(|length| length > max)) {
        if let Some(mut ticket) = ticket {
            ticket.settle(Outcome::Abandoned);
        }
        let text = "the body is larger than this app takes";
        return refuse(StatusCode::PAYLOAD_TOO_LARGE, text, After::Close);
    }
    let Some(ticket) = ticket else {
        let text = format!("no target of {} takes requests now", route.app);
        return refuse(StatusCode::SERVICE_UNAVAILABLE, &text, After::KeepAlive);
    };
    let (errand, request) = prepare(worker, client, &route, begun, admitted, parts, body);
    drop(route);
    errand.run(ticket, request).await
}

fn prepare(
    worker: Rc<Worker>,
    client: Rc<Client>,
    route: &Route,
    begun: Instant,
    admitted: Admitted,
    mut parts: http::request::Parts,
    body: Incoming,
) -> (Errand, Request<RequestBody>) {
    let probe = client.neighbour && headers::is_probe(&parts.headers);
    headers::to_target(&mut parts.headers, &client.forwarded_for, || {
        worker.new_id()
    });
    if admitted.websocket {
        headers::upgrade(&mut parts.headers);
    }
    let limits = route.limits.clone();
    let body = if admitted.length == Some(0) {
        client.set_upload(Upload::Done);
        RequestBody::empty()
    } else {
        let client = Rc::clone(&client);
        RequestBody::new(
            body,
            client,
            limits.max_body,
            limits.idle_ms,
            limits.response_ms,
        )
    };
    let errand = Errand {
        worker,
        client,
        app: Arc::clone(&route.app),
        limits,
        begun,
        version: parts.version,
        websocket: admitted.websocket,
        probe,
        repeatable: body.is_empty() && is_idempotent(&parts.method),
    };
    let mut request = Request::new(body);
    *request.method_mut() = parts.method;
    *request.uri_mut() = parts.uri;
    *request.headers_mut() = parts.headers;
    (errand, request)
}

impl Errand {
    async fn run(
        self,
        mut ticket: Ticket,
        mut request: Request<RequestBody>,
    ) -> Result<Response<AnswerBody>, Broken> {
        if self.probe {
            ticket.leave_uncounted();
        }
        let mut fresh = self.websocket;
        let mut repeated = false;
        loop {
            let number = ticket.hold().target().number();
            let kept = (!fresh).then(|| {
                let care = if self.repeatable {
                    Care::Repeatable
                } else {
                    Care::Once
                };
                self.worker.take(number, care, self.begun)
            });
            let mut upstream = match kept.flatten() {
                Some(upstream) => upstream,
                None => match Box::pin(self.connect(&mut ticket)).await {
                    Some(upstream) => upstream,
                    None => {
                        let text = "no target could be reached";
                        return Ok(self.fail(ticket, StatusCode::BAD_GATEWAY, text));
                    }
                },
            };
            if !request.headers().contains_key(header::HOST) {
                // Only a client of HTTP/1.0 may leave it out; a target may not miss it.
                let address = ticket.hold().target().address().to_string();
                if let Ok(address) = HeaderValue::from_str(&address) {
                    request.headers_mut().insert(header::HOST, address);
                }
            }
            let spare =
                (upstream.is_reused() && self.repeatable && !repeated).then(|| copy(&request));
            if request.body().is_empty() {
                self.client.waits(self.limits.response_ms);
            } else {
                self.client.waits(self.limits.idle_ms);
            }
            let number = ticket.hold().target().number();
            let error = match upstream.exchange(request, &self.client).await {
                Ok(response) => return self.answer(ticket, upstream, response),
                Err(error) => error,
            };
            let again = match (error, spare) {
                (ExchangeError::Unsent(same), _) if upstream.is_reused() => Some(*same),
                (ExchangeError::Silent(_), Some(spare)) => {
                    self.worker.surprised(number);
                    repeated = true;
                    Some(spare).filter(|_| self.worker.may_repeat(&self.app))
                }
                (error, _) => return self.give_up(ticket, &error),
            };
            let Some(again) = again else {
                let text = "the target closed the connection";
                return Ok(self.fail(ticket, StatusCode::BAD_GATEWAY, text));
            };
            ticket.retried();
            request = again;
            fresh = true;
        }
    }

    /// Connects to the ticket's target, or to another one that the ticket is bound to then.
    async fn connect(&self, ticket: &mut Ticket) -> Option<Box<Upstream>> {
        let budget = Duration::from_millis(self.limits.connect_ms);
        let began = Instant::now();
        self.client.waits(u64::MAX);
        let mut failed: Vec<u64> = Vec::new();
        loop {
            let target = Arc::clone(ticket.hold().target());
            let left = budget.checked_sub(began.elapsed())?;
            // A target that swallows packets must leave time for another, which
            // may be of the release that takes its place.
            let tries_left = u32::try_from(MAX_TRIES.saturating_sub(failed.len())).unwrap_or(1);
            let share = left / tries_left.max(1);
            let trouble = match timeout(share, Upstream::connect(target.address())).await {
                Ok(Ok(upstream)) => {
                    target.connected();
                    return Some(upstream);
                }
                Ok(Err(error)) => error.to_string(),
                Err(_) => "timed out".to_owned(),
            };
            tracing::debug!(target = %target.address(), error = %trouble, "could not connect");
            target.unreachable(self.worker.now());
            failed.push(target.number());
            if failed.len() >= MAX_TRIES || !self.worker.may_repeat(&self.app) {
                return None;
            }
            let (pool, hold) = self.worker.bind_again(&self.app, &failed)?;
            let number = hold.target().number();
            ticket.rebind(&pool, hold);
            let tries = failed.iter().filter(|&&tried| tried == number).count();
            if tries > 0 {
                tokio::time::sleep(pause(tries)).await;
            }
        }
    }

    fn fail(&self, mut ticket: Ticket, status: StatusCode, text: &str) -> Response<AnswerBody> {
        ticket.settle(Outcome::Failed);
        self.client.rests();
        own(status, text, self.worker.after(After::KeepAlive))
    }

    /// The answer where nothing can be sent again.
    fn give_up(
        &self,
        mut ticket: Ticket,
        error: &ExchangeError,
    ) -> Result<Response<AnswerBody>, Broken> {
        let (status, text) = match (self.client.upload(), error) {
            (Upload::Broken, _) => {
                ticket.settle(Outcome::Abandoned);
                return Err(Broken);
            }
            (Upload::TooLarge, _) => {
                let text = "the body is larger than this app takes";
                (StatusCode::PAYLOAD_TOO_LARGE, text)
            }
            (Upload::FromClient, ExchangeError::Late) => (
                StatusCode::REQUEST_TIMEOUT,
                "the rest of the body did not come",
            ),
            (_, ExchangeError::Late) => {
                let text = "the target did not answer in time";
                return Ok(self.fail(ticket, StatusCode::GATEWAY_TIMEOUT, text));
            }
            (_, ExchangeError::Unsent(_)) => {
                let text = "the target closed the connection";
                return Ok(self.fail(ticket, StatusCode::BAD_GATEWAY, text));
            }
            (_, ExchangeError::Silent(error) | ExchangeError::Broken(error)) => {
                tracing::debug!(%error, "an exchange with a target failed");
                let text = "the target broke the connection";
                return Ok(self.fail(ticket, StatusCode::BAD_GATEWAY, text));
            }
        };
        ticket.settle(Outcome::Abandoned);
        self.client.rests();
        Ok(own(status, text, After::Close))
    }

    fn answer(
        self,
        mut ticket: Ticket,
        upstream: Box<Upstream>,
        response: Response<Incoming>,
    ) -> Result<Response<AnswerBody>, Broken> {
        let answered = ticket.answered();
        let (mut parts, body) = response.into_parts();
        if parts.status == StatusCode::SWITCHING_PROTOCOLS {
            if self.websocket && headers::is_websocket(&parts.headers) {
                return Ok(self.tunnel(ticket, *upstream, parts));
            }
            let text = "the target switched protocols unasked";
            return Ok(self.fail(ticket, StatusCode::BAD_GATEWAY, text));
        }
        if headers::is_stream(&parts.headers) {
            ticket.become_kind(Kind::Stream);
        }
        self.worker
            .told(ticket.hold().target().number(), &parts.headers);
        headers::to_client(&mut parts.headers);
        self.label(&ticket, &mut parts);
        self.client.moves(self.limits.idle_ms);
        parts.version = Version::HTTP_11;
        let mut passing = Box::new(Passing {
            body,
            upstream: Some(upstream),
            ticket,
            client: self.client,
            worker: self.worker,
            status: parts.status,
            answered,
            reset_if_broken: self.version == Version::HTTP_10,
        });
        let body = if hyper::body::Body::is_end_stream(&passing.body) {
            passing.finish();
            AnswerBody::Text(None)
        } else {
            AnswerBody::Target(passing)
        };
        Ok(Response::from_parts(parts, body))
    }

    fn tunnel(
        self,
        mut ticket: Ticket,
        upstream: Upstream,
        mut parts: http::response::Parts,
    ) -> Response<AnswerBody> {
        ticket.become_kind(Kind::Tunnel);
        ticket.settle(Outcome::Succeeded);
        headers::to_client(&mut parts.headers);
        headers::upgrade(&mut parts.headers);
        if self.probe
            && let Some(name) = &ticket.pool().name
        {
            headers::tell_pool(&mut parts.headers, name);
        }
        let (target, early) = upstream.into_tunnel();
        self.client.moves(self.limits.idle_ms);
        *self.client.tunnel.borrow_mut() = Some(Box::new(Tunnel {
            target,
            early,
            ticket,
            idle_ms: self.limits.idle_ms,
        }));
        Response::from_parts(parts, AnswerBody::Text(None))
    }

    fn label(&self, ticket: &Ticket, parts: &mut http::response::Parts) {
        if self.probe
            && let Some(name) = &ticket.pool().name
        {
            headers::tell_pool(&mut parts.headers, name);
        }
        if self.worker.after(After::KeepAlive) == After::Close {
            headers::close(&mut parts.headers);
        }
    }
}

/// The same request once more; it has no body.
fn copy(request: &Request<RequestBody>) -> Request<RequestBody> {
    let mut copy = Request::new(RequestBody::empty());
    *copy.method_mut() = request.method().clone();
    *copy.uri_mut() = request.uri().clone();
    *copy.headers_mut() = request.headers().clone();
    copy
}
