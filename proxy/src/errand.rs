//! A bound request on its way to its target, and the answer back.
//!
//! ```text
//!  take or make a connection ─▶ exchange ─▶ answer, or a tunnel
//!        │        ▲                │
//!       502       └── `retry` ◀────┘
//! ```

use std::net::IpAddr;
use std::rc::Rc;
use std::sync::Arc;
use std::time::{Duration, Instant};

use cutover_wire::table::{Maintenance, Protocol};
use http::uri::PathAndQuery;
use http::{HeaderValue, Request, Response, StatusCode, Version, header};
use hyper::body::Body as _;
use hyper::upgrade::OnUpgrade;
use hyper_util::rt::TokioIo;
use tokio::time::{Instant as Moment, timeout_at};

use crate::admission::{WebSocket, routed_host};
use crate::answer::{After, AnswerBody, Passing, own, page};
use crate::binding::Bound;
use crate::client::{Client, Upload};
use crate::counters::Outcome;
use crate::forward::{Broken, closed, turned_away, wait};
use crate::headers;
use crate::mirror::{Digest, Pair};
use crate::origin::Scheme;
use crate::park::Place;
use crate::retry::{MAX_TRIES, pause};
use crate::route::{Asked, Route};
use crate::tally::Event;
use crate::target::Kind;
use crate::ticket::Ticket;
use crate::tunnel::Tunnel;
use crate::upload::RequestBody;
use crate::upstream::{AnswerStream, Care, ExchangeError, Lines, Own, Seat, Shared, Upstream};
use crate::worker::Worker;

/// What a request is, besides its head and body.
pub(crate) struct Errand {
    pub(crate) worker: Rc<Worker>,
    pub(crate) client: Rc<Client>,
    /// Where the client is.
    pub(crate) address: IpAddr,
    pub(crate) scheme: Scheme,
    pub(crate) route: Arc<Route>,
    /// What the client asked for, where the target is asked without the prefix.
    pub(crate) whole: Option<PathAndQuery>,
    /// A field `Set-Cookie` for the answer.
    pub(crate) cookie: Option<HeaderValue>,
    /// Whether the client is shown the preview, and so no other release.
    pub(crate) shown: bool,
    pub(crate) begun: Instant,
    pub(crate) random: u64,
    /// Of the client's request.
    pub(crate) version: Version,
    pub(crate) websocket: WebSocket,
    /// What becomes of a stream that is a WebSocket.
    pub(crate) upgrade: Option<OnUpgrade>,
    pub(crate) probe: bool,
    /// Whether the client takes trailers.
    pub(crate) trailers: bool,
    pub(crate) idempotent: bool,
    /// The copy of it that was made.
    pub(crate) pair: Option<Rc<Pair>>,
}

impl Errand {
    /// Carries the request.
    pub(crate) async fn run(
        mut self,
        mut ticket: Ticket,
        mut request: Request<RequestBody>,
    ) -> Result<Response<AnswerBody>, Broken> {
        if self.probe || self.shown {
            ticket.leave_uncounted();
        }
        let mut fresh = self.websocket != WebSocket::No;
        let (mut refused, mut lost) = (false, false);
        let mut failed = Vec::new();
        loop {
            let care = match (self.idempotent, request.body().is_kept()) {
                _ if lost => Care::Again,
                (true, true) => Care::Repeatable,
                _ => Care::Once,
            };
            let own = (!fresh).then(|| self.kept(&ticket, care)).flatten();
            let upstream = match own {
                Some(own) => Upstream::Own(own),
                None => {
                    let connected = self.connect(ticket, &mut request, care, &mut failed);
                    match Box::pin(connected).await {
                        Ok((bound, upstream)) => {
                            ticket = bound;
                            upstream
                        }
                        Err(answer) => return Ok(answer),
                    }
                }
            };
            if self.websocket != WebSocket::No && matches!(upstream, Upstream::Shared(_)) {
                let text = "a target of HTTP/2 takes no WebSocket";
                return Ok(self.fail(ticket, StatusCode::NOT_IMPLEMENTED, text));
            }
            let reused = upstream.is_reused();
            let kept = request.body().is_kept();
            self.client.waits(if kept {
                self.route.limits.response_ms
            } else {
                self.route.limits.idle_ms
            });
            let number = ticket.hold().target().number();
            let exchanged = upstream.exchange(&mut request, self.trailers, &self.client);
            let error = match exchanged.await {
                Ok(response) => return self.answer(ticket, response),
                Err(error) => error,
            };
            let mut bound_anew = false;
            let again = match &error {
                // Nothing was written because the client broke it: no target's fault.
                ExchangeError::Unsent
                    if matches!(self.client.upload(), Upload::Broken | Upload::TooLarge) =>
                {
                    return self.give_up(ticket, &error);
                }
                ExchangeError::Unsent if reused && !fresh => true,
                // It was taken and closed at once: as good as refused. To be bound anew
                // counts as a repeat by itself.
                ExchangeError::Unsent => {
                    if !reused {
                        ticket.hold().target().unreachable(self.worker.now());
                    }
                    bound_anew = true;
                    true
                }
                // Who goes says so on its connections; who refuses on a new one, too, is
                // passed over. It looked at nothing, so this is no second time.
                ExchangeError::Refused if kept => {
                    bound_anew = !reused || refused;
                    refused = true;
                    bound_anew || self.worker.may_repeat(&self.route.app)
                }
                // It may be the request that ends a target, so two have it at most.
                ExchangeError::Silent(_) => {
                    self.worker.surprised(number);
                    if !(self.idempotent && kept) || lost {
                        return self.give_up(ticket, &error);
                    }
                    lost = true;
                    // The end of a used connection says little of the target, which may
                    // be the only one; but it may be dying as well.
                    bound_anew = !reused || ticket.pool().targets.len() > 1;
                    bound_anew || self.worker.may_repeat(&self.route.app)
                }
                _ => return self.give_up(ticket, &error),
            };
            if !again {
                let text = "the target closed the connection";
                return Ok(self.fail(ticket, StatusCode::BAD_GATEWAY, text));
            }
            if bound_anew {
                failed.push(number);
                match Box::pin(self.rebind(ticket, &mut request, &failed)).await {
                    Ok(bound) => ticket = bound,
                    Err(answer) => return Ok(answer),
                }
            } else {
                ticket.retried();
            }
            self.worker.count(Event::Retried);
            fresh = true;
        }
    }

    /// An idle connection of HTTP/1.1 to the ticket's target.
    fn kept(&self, ticket: &Ticket, care: Care) -> Option<Box<Own>> {
        if ticket.pool().protocol != Protocol::Http1 {
            return None;
        }
        let number = ticket.hold().target().number();
        // What must not be sent twice may have waited since it began.
        let now = match care {
            Care::Repeatable => self.begun,
            Care::Once | Care::Again => Instant::now(),
        };
        self.worker.take(number, care, now)
    }

    /// Connects to the ticket's target, or to another one that the ticket is bound
    /// to then; gives the answer where there is none.
    async fn connect(
        &mut self,
        mut ticket: Ticket,
        request: &mut Request<RequestBody>,
        care: Care,
        failed: &mut Vec<u64>,
    ) -> Result<(Ticket, Upstream), Response<AnswerBody>> {
        let budget = Duration::from_millis(self.route.limits.connect_ms);
        let mut end = Moment::now() + budget;
        self.client.waits(u64::MAX);
        loop {
            let target = Arc::clone(ticket.hold().target());
            let Some(left) = end.checked_duration_since(Moment::now()) else {
                return Err(self.unreachable(ticket));
            };
            // A target that swallows packets must leave time for another, which
            // may be of the release that takes its place.
            let tries_left = u32::try_from(MAX_TRIES.saturating_sub(failed.len())).unwrap_or(1);
            let share = Moment::now() + left / tries_left.max(1);
            let protocol = ticket.pool().protocol;
            let trouble = match timeout_at(share, self.reach(&target, protocol, care)).await {
                Ok(Ok(upstream)) => {
                    target.connected();
                    return Ok((ticket, upstream));
                }
                Ok(Err(error)) => error.to_string(),
                Err(_) => "timed out".to_owned(),
            };
            tracing::debug!(target = %target.address(), error = %trouble, "could not connect");
            target.unreachable(self.worker.now());
            failed.push(target.number());
            let asked = Moment::now();
            ticket = self.rebind(ticket, request, failed).await?;
            // What it waited for others is not its own.
            end += asked.elapsed();
            self.worker.count(Event::Retried);
        }
    }

    /// Binds the request to another target than those at which it failed, or to one
    /// of them once more where there is no other; gives the answer where it may not
    /// be tried again. A table that came meanwhile is asked as by one that comes, but
    /// for its redirects: it came before them.
    async fn rebind(
        &mut self,
        mut ticket: Ticket,
        request: &mut Request<RequestBody>,
        failed: &[u64],
    ) -> Result<Ticket, Response<AnswerBody>> {
        if failed.len() >= MAX_TRIES || !self.worker.may_repeat(&self.route.app) {
            return Err(self.unreachable(ticket));
        }
        let mut place: Option<Place> = None;
        let number = loop {
            let Some(now) = self.find(request) else {
                let text = "no app is served there any more";
                return Err(self.fail(ticket, StatusCode::NOT_FOUND, text));
            };
            let same = Arc::ptr_eq(&now, &self.route);
            let max = now.limits.max_body;
            if !same && max.is_some_and(|max| request.body().size_hint().lower() > max) {
                let text = "the body is larger than this app takes";
                return Err(self.fail(ticket, StatusCode::PAYLOAD_TOO_LARGE, text));
            }
            place = place.filter(|place| place.is_in(&now.lot));
            let held = now.park.is_some() || !same && place.is_none() && now.lot.is_open();
            if held && now.maintenance == Maintenance::Off && !self.shown {
                ticket.unbind();
                self.obey(now, request);
                match wait(&self.client, &self.route, place.take(), request.body()).await {
                    Ok(let_go) => place = Some(let_go),
                    Err(seconds) => {
                        let after = self.fails(ticket, StatusCode::SERVICE_UNAVAILABLE);
                        return Err(turned_away(&self.route, seconds, after));
                    }
                }
                continue;
            }
            let asked = self.asked(request);
            let bound = self
                .worker
                .bind_again(self, &now, ticket.shared_pool(), &asked, failed);
            match bound {
                Bound::Target { pool, hold, cookie } => {
                    let number = hold.target().number();
                    // What the first pool had the client told is not true of another.
                    if cookie.is_some() || !Arc::ptr_eq(ticket.shared_pool(), &pool) {
                        self.cookie = cookie;
                    }
                    ticket.rebind(pool, hold);
                    self.obey(now, request);
                    break number;
                }
                Bound::Maintenance => {
                    let after = self.fails(ticket, StatusCode::SERVICE_UNAVAILABLE);
                    return Err(closed(&now, after));
                }
                // Its last target may have begun to drain since our look at the table.
                Bound::Nobody => match self.find(request) {
                    Some(newer) if !Arc::ptr_eq(&newer, &now) => {}
                    _ => return Err(self.unreachable(ticket)),
                },
            }
        };
        let tries = failed.iter().filter(|&&tried| tried == number).count();
        if tries > 0 {
            tokio::time::sleep(pause(tries)).await;
        }
        Ok(ticket)
    }

    /// The route of the request by the table in force.
    fn find(&self, request: &Request<RequestBody>) -> Option<Arc<Route>> {
        let host = routed_host(request.headers().get(header::HOST));
        let whole = self.whole.as_ref().map(PathAndQuery::path);
        let path = whole.unwrap_or_else(|| request.uri().path());
        self.worker.snapshot(|table| {
            let found = table.find(&host, path)?;
            Some(Arc::clone(found.route))
        })
    }

    /// Goes on by this route.
    fn obey(&mut self, now: Arc<Route>, request: &mut Request<RequestBody>) {
        if now.strip_prefix || self.whole.is_some() {
            let whole = self.whole.take();
            self.whole = whole.or_else(|| request.uri().path_and_query().cloned());
            if let Some(whole) = &self.whole {
                *request.uri_mut() = now.strip(whole).into();
            }
        }
        // No target may see the secret of a preview.
        if let Some(secret) = now.secret_header() {
            request.headers_mut().remove(secret);
        }
        self.route = now;
    }

    async fn reach(
        &self,
        target: &crate::target::Target,
        protocol: Protocol,
        care: Care,
    ) -> std::io::Result<Upstream> {
        if protocol == Protocol::Http1 {
            return Own::connect(target.address()).await.map(Upstream::Own);
        }
        loop {
            let seat = |lines: &mut Lines| lines.seat(care, Instant::now());
            match self.worker.lines(target.number(), seat) {
                Seat::Taken(shared) => return Ok(Upstream::Shared(shared)),
                Seat::Make(company) => {
                    let shared = Shared::connect(&self.worker, target, company).await?;
                    return Ok(Upstream::Shared(shared));
                }
                Seat::Wait(made) => made.notified().await,
            }
        }
    }

    fn asked<'a>(&self, request: &'a Request<RequestBody>) -> Asked<'a> {
        Asked {
            headers: request.headers(),
            address: self.address,
            scheme: self.scheme,
            random: self.random,
        }
    }

    fn unreachable(&self, ticket: Ticket) -> Response<AnswerBody> {
        let text = "no target could be reached";
        self.fail(ticket, StatusCode::BAD_GATEWAY, text)
    }

    fn fail(&self, ticket: Ticket, status: StatusCode, text: &str) -> Response<AnswerBody> {
        let after = self.fails(ticket, status);
        match self.route.page(status.as_u16()) {
            Some(html) => page(status, html, after),
            None => own(status, text, after),
        }
    }

    /// The request ends with an answer of ours, of this status.
    fn fails(&self, mut ticket: Ticket, status: StatusCode) -> After {
        if let Some(draft) = ticket.draft() {
            draft.own(status);
            draft.record().bytes_in = self.client.take_uploaded();
        }
        ticket.settle(Outcome::Failed);
        self.client.rests();
        self.worker.after(&self.client, After::KeepAlive)
    }

    fn say(&self, status: StatusCode, text: &str, after: After) -> Response<AnswerBody> {
        self.client.rests();
        let after = self.worker.after(&self.client, after);
        match self.route.page(status.as_u16()) {
            Some(html) => page(status, html, after),
            None => own(status, text, after),
        }
    }

    /// The answer where nothing can be sent again.
    fn give_up(
        &self,
        mut ticket: Ticket,
        error: &ExchangeError,
    ) -> Result<Response<AnswerBody>, Broken> {
        let (status, text) = match (self.client.upload(), error) {
            (Upload::Broken, _) => match self.client.request_fault() {
                Some(fault) => (StatusCode::BAD_REQUEST, fault.text()),
                None => {
                    ticket.settle(Outcome::Abandoned);
                    return Err(Broken);
                }
            },
            (Upload::TooLarge, _) => {
                let text = "the body is larger than this app takes";
                (StatusCode::PAYLOAD_TOO_LARGE, text)
            }
            (Upload::FromClient, ExchangeError::Late) => (
                StatusCode::REQUEST_TIMEOUT,
                "the rest of the body did not come",
            ),
            (_, ExchangeError::Form(error)) => {
                tracing::debug!(%error, "a request has no form of the target's protocol");
                let text = "the host cannot be told to the target";
                return Ok(self.fail(ticket, StatusCode::BAD_REQUEST, text));
            }
            (_, ExchangeError::Late) => {
                let text = "the target did not answer in time";
                return Ok(self.fail(ticket, StatusCode::GATEWAY_TIMEOUT, text));
            }
            (_, ExchangeError::Unsent | ExchangeError::Refused) => {
                let text = "the target closed the connection";
                return Ok(self.fail(ticket, StatusCode::BAD_GATEWAY, text));
            }
            (_, ExchangeError::Silent(error) | ExchangeError::Broken(error)) => {
                tracing::debug!(%error, "an exchange with a target failed");
                let text = "the target broke the connection";
                return Ok(self.fail(ticket, StatusCode::BAD_GATEWAY, text));
            }
        };
        if let Some(draft) = ticket.draft() {
            draft.own(status);
            draft.record().bytes_in = self.client.take_uploaded();
        }
        ticket.settle(Outcome::Abandoned);
        Ok(self.say(status, text, After::Close))
    }

    fn answer(
        mut self,
        mut ticket: Ticket,
        response: Response<AnswerStream>,
    ) -> Result<Response<AnswerBody>, Broken> {
        let (mut parts, stream) = response.into_parts();
        let answered = ticket.answered(parts.status);
        let shown = self.pair.take().and_then(|pair| {
            let micros = answered.duration_since(self.begun).as_micros();
            pair.primary(parts.status, u64::try_from(micros).unwrap_or(u64::MAX));
            let wanted = pair.compares_bodies();
            wanted.then(|| Box::new((pair, Digest::new())))
        });
        if parts.status == StatusCode::SWITCHING_PROTOCOLS {
            if self.websocket != WebSocket::No && headers::is_websocket(&parts.headers) {
                return Ok(self.tunnel(ticket, stream, parts));
            }
            let text = "the target switched protocols unasked";
            return Ok(self.fail(ticket, StatusCode::BAD_GATEWAY, text));
        }
        if headers::is_stream(&parts.headers) {
            ticket.become_kind(Kind::Stream);
            self.client
                .binds(Arc::clone(ticket.hold().target()), Kind::Stream);
        }
        self.worker
            .told(ticket.hold().target().number(), &parts.headers);
        headers::to_client(&mut parts.headers);
        self.label(&ticket, &mut parts);
        self.client.moves(self.route.limits.idle_ms);
        parts.version = Version::HTTP_11;
        let mut passing = Passing {
            stream: Some(stream),
            ticket,
            client: self.client,
            worker: self.worker,
            status: parts.status,
            answered,
            reset_if_broken: self.version == Version::HTTP_10,
            shown,
            at_event: false,
            cut_since: None,
            last: None,
        };
        let body = match passing.take_whole() {
            Some(whole) => AnswerBody::Text(whole),
            None => AnswerBody::Target(Box::new(passing)),
        };
        Ok(Response::from_parts(parts, body))
    }

    fn tunnel(
        mut self,
        mut ticket: Ticket,
        stream: AnswerStream,
        mut parts: http::response::Parts,
    ) -> Response<AnswerBody> {
        let Some((target, early)) = stream.into_tunnel() else {
            let text = "the target switched protocols unasked";
            return self.fail(ticket, StatusCode::BAD_GATEWAY, text);
        };
        ticket.become_kind(Kind::Tunnel);
        ticket.settle(Outcome::Succeeded);
        headers::to_client(&mut parts.headers);
        self.label(&ticket, &mut parts);
        parts.headers.remove(header::CONNECTION);
        let idle_ms = self.route.limits.idle_ms;
        let tunnel = Box::new(Tunnel {
            target,
            early,
            ticket,
            idle_ms,
        });
        self.client.moves(idle_ms);
        match self.upgrade.take() {
            None => {
                headers::upgrade(&mut parts.headers);
                *self.client.tunnel.borrow_mut() = Some(tunnel);
            }
            Some(upgrade) => {
                parts.status = StatusCode::OK;
                parts.headers.remove(header::SEC_WEBSOCKET_ACCEPT);
                let client = self.client;
                tokio::task::spawn_local(async move {
                    match upgrade.await {
                        Ok(stream) => {
                            let socket = TokioIo::new(stream);
                            tunnel.run(&client, socket, bytes::Bytes::new()).await;
                        }
                        Err(error) => tracing::debug!(%error, "a stream did not become a tunnel"),
                    }
                });
            }
        }
        parts.version = Version::HTTP_11;
        Response::from_parts(parts, AnswerBody::Text(None))
    }

    fn label(&mut self, ticket: &Ticket, parts: &mut http::response::Parts) {
        if self.probe
            && let Some(name) = &ticket.pool().name
        {
            headers::tell_pool(&mut parts.headers, name);
        }
        if let Some(cookie) = self.cookie.take() {
            parts.headers.append(header::SET_COOKIE, cookie);
        }
        if self.worker.after(&self.client, After::KeepAlive) == After::Close {
            headers::close(&mut parts.headers);
        }
    }
}
