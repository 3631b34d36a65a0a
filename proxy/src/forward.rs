//! One request from its head to the target it is bound to.
//!
//! ```text
//!  admit ─▶ challenge? ─▶ route ─▶ redirect? ─▶ short body ─▶ choose ─▶ parked? ─▶ bind ─▶ `errand`
//!    │                      │                                   ▲          │        │
//!   400                    404                                  └── wait ◀─┘       503
//! ```
//!
//! Invariant: between reading the snapshot and counting in there is no await.

use std::rc::Rc;
use std::sync::Arc;
use std::time::Instant;

use cutover_wire::table::Maintenance;
use http::request::Parts;
use http::{HeaderValue, Method, Request, Response, StatusCode, Version, header};
use hyper::body::{Body as _, Incoming};
use hyper::upgrade::OnUpgrade;

use crate::access_log::{Draft, Ending};
use crate::admission::{Admitted, WebSocket, admit, routed_host};
use crate::answer::{After, AnswerBody, own, page};
use crate::binding::Bound;
use crate::client::{Client, Upload};
use crate::errand::Errand;
use crate::forwarded::{self, Caller};
use crate::headers;
use crate::mirror::{Mirrors, Pair, Shadow};
use crate::origin::{Origin, Scheme};
use crate::park::{Place, Waited};
use crate::retry::is_idempotent;
use crate::route::{Asked, Route, Snapshot};
use crate::tally::{Event, Form};
use crate::ticket::Ticket;
use crate::tls::http_challenge;
use crate::upload::{Pace, RequestBody, read_whole};
use crate::worker::Worker;

/// Bodies up to this length are read before the request is bound. A form or a
/// call of an interface is shorter, and a connection's buffers are longer.
const SHORT: u64 = 16 * 1024;

/// The client broke its own request, so nobody is there to be answered.
#[derive(Debug, thiserror::Error)]
#[error("the client broke its request")]
pub(crate) struct Broken;

/// Waits in the app's lot; tells otherwise in how many seconds to come again.
pub(crate) async fn wait(
    client: &Client,
    route: &Route,
    place: Option<Place>,
    body: &RequestBody,
) -> Result<Place, u64> {
    client.waits(u64::MAX);
    let place = match place {
        Some(place) => place,
        None => route
            .lot
            .enter(body.kept_bytes())
            .map_err(|full| full.retry_after)?,
    };
    // A client that leaves drops this. The library sees that it has left where it
    // reads, which it does not in the middle of a body that nobody takes.
    let unread = body.copy().is_none() && !client.is_stream();
    client.set_unread(unread);
    client.set_parked(true);
    let waited = place.wait().await;
    client.set_parked(false);
    client.set_unread(false);
    match waited {
        Waited::Released(place) => Ok(place),
        Waited::Aged { retry_after } => Err(retry_after),
    }
}

/// The answer to a request that its app's lot does not hold (any longer).
pub(crate) fn turned_away(route: &Route, seconds: u64, after: After) -> Response<AnswerBody> {
    let status = StatusCode::SERVICE_UNAVAILABLE;
    let mut answer = match route.page(status.as_u16()) {
        Some(html) => page(status, html, after),
        None => {
            let text = format!("{} has nobody to answer now; try again soon", route.app);
            own(status, &text, after)
        }
    };
    let seconds = HeaderValue::from(seconds);
    answer.headers_mut().insert(header::RETRY_AFTER, seconds);
    answer
}

/// The answer of an app that is closed to its users.
pub(crate) fn closed(route: &Route, after: After) -> Response<AnswerBody> {
    let status = StatusCode::SERVICE_UNAVAILABLE;
    match route.maintenance_page() {
        Some(html) => page(status, html, after),
        None => own(status, &format!("{} is in maintenance", route.app), after),
    }
}

/// A request on its way to a target.
struct Guest {
    worker: Rc<Worker>,
    client: Rc<Client>,
    origin: Rc<Origin>,
    caller: Caller,
    admitted: Admitted,
    begun: Instant,
    /// Drawn for it, and the same each time that its pool is chosen.
    random: u64,
    /// What its line in the log will say.
    draft: Option<Box<Draft>>,
}

/// What the table says of a request at first sight.
enum Sight {
    /// It is the question of a certificate authority.
    Challenge(String),
    /// No app takes it.
    Unrouted(String),
    /// Its client is sent elsewhere.
    Redirect(StatusCode, HeaderValue),
    /// An app takes it.
    Route(Arc<Route>),
}

/// Serves one request.
pub(crate) async fn forward(
    worker: Rc<Worker>,
    client: Rc<Client>,
    mut request: Request<Incoming>,
) -> Result<Response<AnswerBody>, Broken> {
    let begun = Instant::now();
    client.waits(u64::MAX);
    client.take_uploaded();
    let upgrade = (*request.method() == Method::CONNECT).then(|| hyper::upgrade::on(&mut request));
    let (mut parts, body) = request.into_parts();
    let mut admitted = match admit(&mut parts, client.take_request()) {
        Ok(admitted) => admitted,
        Err(refused) => {
            client.rests();
            worker.refused(refused.form);
            let (log, random, origin) = (worker.log(), worker.next_random(), client.origin());
            let draft = Draft::begin(log, random, begun, &parts, &origin, None);
            if let Some(mut draft) = draft {
                draft.own(refused.status);
                draft.end(Ending::Refused);
            }
            let after = worker.after(&client, After::Close);
            return Ok(own(refused.status, refused.text, after));
        }
    };
    if body.is_end_stream() {
        // On a stream the end may be told with the head, without a length.
        admitted.length = Some(0);
    }
    let origin = client.origin();
    let caller = worker
        .snapshot(|table| forwarded::client(origin.address.ip(), &parts.headers, table.trusted()));
    let random = worker.next_random();
    let draft = Draft::begin(worker.log(), random, begun, &parts, &origin, Some(&caller));
    let mut guest = Guest {
        random,
        caller,
        draft,
        origin,
        worker,
        client,
        admitted,
        begun,
    };
    let sight = guest.worker.snapshot(|table| guest.look(table, &parts));
    let route = match sight {
        Sight::Route(route) => route,
        other => return Ok(guest.answer(other)),
    };
    let max = route.limits.max_body;
    if max.is_some_and(|max| guest.admitted.length.is_some_and(|length| length > max)) {
        guest.worker.refused(Form::BodySize);
        let text = "the body is larger than this app takes";
        return Ok(guest.refuse(
            Some(&route),
            StatusCode::PAYLOAD_TOO_LARGE,
            text,
            After::Close,
        ));
    }
    guest.take(route, parts, body, upgrade).await
}

impl Guest {
    fn look(&self, table: &Snapshot, parts: &Parts) -> Sight {
        if let Some(answer) = http_challenge(table.acme(), parts.uri.path()) {
            return Sight::Challenge(answer.to_owned());
        }
        let host = routed_host(parts.headers.get(header::HOST));
        let Some(found) = table.find(&host, parts.uri.path()) else {
            return Sight::Unrouted(format!(
                "no app is served for the host {host:?} at this path"
            ));
        };
        match found.redirect(&parts.uri, self.scheme(), &host) {
            Some((status, location)) => Sight::Redirect(status, location),
            None => Sight::Route(Arc::clone(found.route)),
        }
    }

    /// The answer to a request that no app takes.
    fn answer(&mut self, sight: Sight) -> Response<AnswerBody> {
        match sight {
            Sight::Challenge(answer) => {
                self.refuse(None, StatusCode::OK, &answer, After::KeepAlive)
            }
            Sight::Redirect(status, location) => {
                let text = "see Location";
                let mut answer = self.say(None, status, text, After::KeepAlive, Ending::Answered);
                answer.headers_mut().insert(header::LOCATION, location);
                answer
            }
            Sight::Unrouted(text) => {
                self.worker.count(Event::Unrouted);
                self.refuse(None, StatusCode::NOT_FOUND, &text, After::KeepAlive)
            }
            Sight::Route(route) => {
                self.worker.count(Event::Unserved);
                let text = format!("no target of {} takes requests now", route.app);
                let status = StatusCode::SERVICE_UNAVAILABLE;
                self.refuse(Some(&route), status, &text, After::KeepAlive)
            }
        }
    }

    /// An answer of our own. What the client still owes of a body is not waited for.
    fn refuse(
        &mut self,
        route: Option<&Route>,
        status: StatusCode,
        text: &str,
        after: After,
    ) -> Response<AnswerBody> {
        self.say(route, status, text, after, Ending::Refused)
    }

    fn say(
        &mut self,
        route: Option<&Route>,
        status: StatusCode,
        text: &str,
        after: After,
        ending: Ending,
    ) -> Response<AnswerBody> {
        self.client.rests();
        self.note(route, status, ending);
        let after = self.worker.after(&self.client, after);
        match route.and_then(|route| route.page(status.as_u16())) {
            Some(html) => page(status, html, after),
            None => own(status, text, after),
        }
    }

    /// The request has its answer, and its line in the log.
    fn note(&mut self, route: Option<&Route>, status: StatusCode, ending: Ending) {
        if let Some(mut draft) = self.draft.take() {
            if let Some(route) = route {
                draft.name(&route.app, None);
            }
            draft.own(status);
            draft.end(ending);
        }
    }

    fn asked<'a>(&self, parts: &'a Parts) -> Asked<'a> {
        Asked {
            headers: &parts.headers,
            address: self.caller.address,
            scheme: self.scheme(),
            random: self.random,
        }
    }

    /// How the client speaks, to us or to a proxy before us.
    fn scheme(&self) -> Scheme {
        self.caller.scheme(self.origin.scheme)
    }

    /// Binds the request and carries it.
    async fn take(
        mut self,
        mut route: Arc<Route>,
        parts: Parts,
        body: Incoming,
        upgrade: Option<OnUpgrade>,
    ) -> Result<Response<AnswerBody>, Broken> {
        let pace = Pace {
            idle_ms: route.limits.idle_ms,
            response_ms: route.limits.response_ms,
            // A stream of HTTP/2 without a length may be a talk, which has pauses.
            hurried: self.admitted.length.is_some() || !self.client.is_stream(),
        };
        let body = match self.admitted.length {
            Some(0) => {
                self.client.set_upload(Upload::Done);
                RequestBody::empty()
            }
            Some(length @ ..=SHORT) => {
                // Between requests nothing is read ahead, so what is there is taken now.
                match Box::pin(read_whole(body, &self.client, length as usize, pace)).await {
                    Ok(bytes) => RequestBody::Kept(Some(bytes)),
                    Err(Upload::Broken) => return Err(Broken),
                    Err(_) => {
                        self.worker.refused(Form::Slow);
                        let text = "the rest of the body did not come";
                        let status = StatusCode::REQUEST_TIMEOUT;
                        return Ok(self.refuse(Some(&route), status, text, After::Close));
                    }
                }
            }
            length => {
                let (client, max) = (Rc::clone(&self.client), route.limits.max_body);
                if length.is_none() && self.client.is_stream() {
                    RequestBody::glanced(body, client, max, pace, SHORT).await
                } else {
                    RequestBody::streamed(body, client, max, pace)
                }
            }
        };
        if !body.is_empty() && body.copy().is_some() {
            // Time has passed; the request is routed by the table of now.
            match self.worker.snapshot(|table| self.look(table, &parts)) {
                Sight::Route(now) => route = now,
                other => return Ok(self.answer(other)),
            }
        }
        let mut place: Option<Place> = None;
        loop {
            // Who was let go passes by those who still wait; a table that parks
            // again holds it too.
            place = place.filter(|place| place.is_in(&route.lot));
            let held = route.park.is_some() || place.is_none() && route.lot.is_open();
            // Who is answered with a page need not wait for a target.
            let closed = route.maintenance == Maintenance::On;
            if held && !closed && !route.is_shown(&parts.headers) {
                match wait(&self.client, &route, place.take(), &body).await {
                    Ok(let_go) => place = Some(let_go),
                    Err(seconds) => return Ok(self.turned_away(&route, seconds)),
                }
                match self.worker.snapshot(|table| self.look(table, &parts)) {
                    Sight::Route(now) => route = now,
                    other => return Ok(self.answer(other)),
                }
                continue;
            }
            let bound = self.worker.bind(&route, &self.asked(&parts), &[]);
            let (mut ticket, cookie) = match bound {
                Bound::Target { pool, hold, cookie } => {
                    self.worker.pay_in(&route.app, self.begun);
                    let (index, draft) = (self.worker.index(), self.draft.take());
                    (Ticket::new(pool, hold, index, self.begun, draft), cookie)
                }
                Bound::Maintenance => return Ok(self.closed(&route)),
                Bound::Nobody => {
                    // The last target may have begun to drain between our look at the
                    // table and now: then the table is a newer one.
                    match self.worker.snapshot(|table| self.look(table, &parts)) {
                        Sight::Route(now) if !Arc::ptr_eq(&now, &route) => route = now,
                        sight => return Ok(self.answer(sight)),
                    }
                    continue;
                }
            };
            drop(place);
            let (errand, request) = self.prepare(route, cookie, parts, body, upgrade);
            if let Some(draft) = ticket.draft() {
                let id = headers::request_id(request.headers());
                draft.name(&errand.route.app, id);
            }
            return errand.run(ticket, request).await;
        }
    }

    fn turned_away(&mut self, route: &Route, seconds: u64) -> Response<AnswerBody> {
        let status = StatusCode::SERVICE_UNAVAILABLE;
        self.client.rests();
        self.note(Some(route), status, Ending::Refused);
        turned_away(
            route,
            seconds,
            self.worker.after(&self.client, After::KeepAlive),
        )
    }

    fn closed(&mut self, route: &Route) -> Response<AnswerBody> {
        self.client.rests();
        self.note(
            Some(route),
            StatusCode::SERVICE_UNAVAILABLE,
            Ending::Answered,
        );
        closed(route, self.worker.after(&self.client, After::KeepAlive))
    }

    /// Sends a copy of the request to the mirror's pool, where the route asks for
    /// it and the whole request is here. Nothing waits for it.
    fn mirror(&self, route: &Route, parts: &Parts, body: &RequestBody) -> Option<Rc<Pair>> {
        let mirror = route.mirror.as_ref()?;
        let RequestBody::Kept(body) = body else {
            return None;
        };
        if !Mirrors::wants(&mirror.listed, parts, self.worker.next_random()) {
            return None;
        }
        let shadow = Shadow {
            app: &route.app,
            mirror: &mirror.listed,
            targets: &mirror.pool.targets,
            protocol: mirror.pool.protocol,
            limits: &route.limits,
            comparison: &mirror.comparison,
        };
        self.worker.mirrors().copy(&shadow, parts, body.clone())
    }

    fn prepare(
        self,
        route: Arc<Route>,
        cookie: Option<HeaderValue>,
        mut parts: Parts,
        body: RequestBody,
        upgrade: Option<OnUpgrade>,
    ) -> (Errand, Request<RequestBody>) {
        let version = parts.version;
        let wishes = headers::to_target(&mut parts.headers, || self.worker.new_id());
        let probe = self.origin.neighbour && wishes.probe;
        let peer = &self.origin.forwarded_for;
        forwarded::rewrite(&mut parts.headers, &self.caller, peer, self.origin.scheme);
        let shown = route.is_shown(&parts.headers);
        if let Some(secret) = route.secret_header() {
            parts.headers.remove(secret);
        }
        if self.admitted.websocket != WebSocket::No {
            headers::upgrade(&mut parts.headers);
        }
        if self.admitted.websocket == WebSocket::Extended {
            parts.method = Method::GET;
            headers::websocket_key(&mut parts.headers, self.worker.new_key());
        }
        let mut whole = None;
        if route.strip_prefix
            && let Some(path) = parts.uri.path_and_query().cloned()
        {
            parts.uri = route.strip(&path).into();
            whole = Some(path);
        }
        let scheme = self.scheme();
        let pair = self.mirror(&route, &parts, &body);
        let errand = Errand {
            worker: self.worker,
            client: self.client,
            address: self.caller.address,
            scheme,
            route,
            whole,
            cookie,
            shown,
            begun: self.begun,
            random: self.random,
            version,
            websocket: self.admitted.websocket,
            upgrade,
            probe,
            trailers: wishes.trailers,
            idempotent: is_idempotent(&parts.method),
            pair,
        };
        let mut request = Request::new(body);
        *request.version_mut() = Version::HTTP_11;
        *request.method_mut() = parts.method;
        *request.uri_mut() = parts.uri;
        *request.headers_mut() = parts.headers;
        (errand, request)
    }
}
