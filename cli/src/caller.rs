//! Makes calls: signs them, sends them, sends them again, reads the answer.
//!
//! Invariant: a call that is sent again has the id and the body that it had,
//! so the agent takes it once. Only the second in which it is signed is new,
//! because an old one is refused.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use bytes::Bytes;
use cutover_plan::id::DeployId;
use cutover_wire::agent::{Problem, abort_path};
use cutover_wire::request::AbortRequest;
use cutover_wire::signature::{ID_HEADER, SIGNATURE_HEADER, Secret, TIMESTAMP_HEADER};
use http::header::{AUTHORIZATION, CONTENT_TYPE, DATE, HOST, LOCATION, USER_AGENT};
use http::{HeaderMap, Method, Request, Response, StatusCode, request};
use http_body_util::{BodyExt as _, Full, Limited};
use hyper::body::Incoming;
use jiff::fmt::rfc2822::DateTimeParser;
use jiff::{SignedDuration, Timestamp};
use serde::Serialize;
use serde::de::DeserializeOwned;
use tokio::time::{Instant, sleep, timeout, timeout_at};

use crate::answer::CallError;
use crate::arguments::Connection;
use crate::backoff::Backoff;
use crate::connection::Dialer;
use crate::endpoint::Endpoint;
use crate::failure::Failure;
use crate::secret;

/// How long an answer may take: the agent answers once the call is durable.
const ANSWER: Duration = Duration::from_secs(30);
/// The longest answer: the status of every app with its log lines.
const MAX_ANSWER: usize = 4 * 1024 * 1024;

/// Makes calls to one agent.
pub(crate) struct Caller {
    /// Where they go.
    pub(crate) endpoint: Endpoint,
    dialer: Dialer,
    secret: Option<Secret>,
    retry_for: Duration,
}

/// A call that may be sent more than once and is taken once.
pub(crate) struct Call {
    path: String,
    id: String,
    body: Bytes,
}

impl Call {
    /// A call with an id of its own.
    pub(crate) fn new(path: impl Into<String>, body: &impl Serialize) -> Self {
        let body = match serde_json::to_vec(body) {
            Ok(body) => Bytes::from(body),
            Err(_) => unreachable!("requests have only texts as keys"),
        };
        Self {
            path: path.into(),
            id: format!("call_{}", chance()),
            body,
        }
    }
}

/// 32 hexadecimal digits of chance.
pub(crate) fn chance() -> String {
    // A machine without chance cannot sign, encrypt or fence anything.
    let half = || getrandom::u64().expect("the system gives random bytes");
    format!("{:016x}{:016x}", half(), half())
}

/// A time in the steps in which it is told.
fn tenths(time: Duration) -> Duration {
    Duration::from_millis(u64::try_from(time.as_millis()).unwrap_or(u64::MAX) / 100 * 100)
}

impl Caller {
    /// Reads what the connection needs; sends nothing.
    pub(crate) fn new(connection: &Connection) -> Result<Self, Failure> {
        let endpoint = Endpoint::choose(connection)?;
        let secret = match &endpoint {
            Endpoint::Socket(_) => None,
            Endpoint::Network(_) => Some(secret::read(connection.secret_file.as_deref())?),
        };
        let dialer = Dialer::new(endpoint.clone()).map_err(|error| {
            Failure::usage("no encrypted connection can be opened")
                .because(&error)
                .hint(error.hint())
        })?;
        Ok(Self {
            endpoint,
            dialer,
            secret,
            retry_for: connection.retry_for,
        })
    }

    /// Sends a call once.
    pub(crate) async fn send<T: DeserializeOwned>(&self, call: &Call) -> Result<T, CallError> {
        let mut request = self.request(Method::POST, &call.path);
        if let Some(secret) = &self.secret {
            let now = unix_now();
            request = request
                .header(ID_HEADER, &call.id)
                .header(TIMESTAMP_HEADER, now)
                .header(SIGNATURE_HEADER, secret.sign(&call.id, now, &call.body));
        } else {
            // Nothing is signed on the socket; the id still makes a repeat known.
            request = request.header(ID_HEADER, &call.id);
        }
        let request = request.header(CONTENT_TYPE, "application/json");
        self.exchange(request, call.body.clone()).await
    }

    /// Sends a call until it is answered, or the time for that is over: what
    /// `--retry-for` gives, and never longer than `until`. `lost` hears of each
    /// attempt that failed and will be made again.
    pub(crate) async fn persist<T: DeserializeOwned>(
        &self,
        call: &Call,
        until: Instant,
        mut lost: impl FnMut(&CallError, Duration),
    ) -> Result<T, CallError> {
        let end = until.min(Instant::now() + self.retry_for);
        let mut backoff = Backoff::new();
        loop {
            let begun = Instant::now();
            let error = match timeout_at(until, self.send(call)).await {
                Ok(Ok(answer)) => return Ok(answer),
                Ok(Err(error)) => error,
                Err(_) => return Err(CallError::Silent(tenths(begun.elapsed()))),
            };
            let pause = backoff.pause();
            if !error.may_pass() || Instant::now() + pause > end {
                return Err(error);
            }
            lost(&error, pause);
            sleep(pause).await;
        }
    }

    /// Asks for the abort of a deploy: by its token, once, if there is one;
    /// else by a signed call, that is sent until it is answered or it is `until`.
    pub(crate) async fn abort(
        &self,
        deploy: &DeployId,
        token: Option<&str>,
        by: Option<String>,
        until: Instant,
    ) -> Result<(), CallError> {
        let path = abort_path(deploy);
        match token {
            Some(token) => {
                let request = self.request(Method::POST, &path);
                let request = request.header(AUTHORIZATION, format!("Bearer {token}"));
                self.open(request, Bytes::new()).await.map(drop)
            }
            None => {
                let abort = deploy.clone();
                let call = Call::new(path, &AbortRequest { abort, by });
                match self
                    .persist::<serde::de::IgnoredAny>(&call, until, |_, _| {})
                    .await
                {
                    // The contract does not name the body of this answer.
                    Ok(_) | Err(CallError::Unreadable { .. }) => Ok(()),
                    Err(error) => Err(error),
                }
            }
        }
    }

    /// Gets a document by a deploy's token.
    pub(crate) async fn fetch<T: DeserializeOwned>(
        &self,
        path: &str,
        token: &str,
    ) -> Result<T, CallError> {
        let request = self.request(Method::GET, path);
        let request = request.header(AUTHORIZATION, format!("Bearer {token}"));
        self.exchange(request, Bytes::new()).await
    }

    /// Opens the event stream of a deploy, after the event that was seen last.
    pub(crate) async fn stream(
        &self,
        path: &str,
        token: &str,
        after: Option<u64>,
    ) -> Result<Incoming, CallError> {
        let mut request = self
            .request(Method::GET, path)
            .header(AUTHORIZATION, format!("Bearer {token}"))
            .header(http::header::ACCEPT, "text/event-stream");
        if let Some(seq) = after {
            request = request.header("last-event-id", seq);
        }
        Ok(self.open(request, Bytes::new()).await?.into_body())
    }

    fn request(&self, method: Method, path: &str) -> request::Builder {
        let (host, prefix) = match &self.endpoint {
            Endpoint::Socket(_) => ("localhost".to_owned(), ""),
            Endpoint::Network(address) => (address.authority(), address.prefix.as_str()),
        };
        Request::builder()
            .method(method)
            .uri(format!("{prefix}{path}"))
            .header(HOST, host)
            .header(USER_AGENT, concat!("cutover/", env!("CARGO_PKG_VERSION")))
    }

    async fn exchange<T: DeserializeOwned>(
        &self,
        request: request::Builder,
        body: Bytes,
    ) -> Result<T, CallError> {
        let response = self.open(request, body).await?;
        let body = read(response.into_body()).await?;
        serde_json::from_slice(&body).map_err(|source| CallError::Unreadable { source })
    }

    /// Sends a request on a connection of its own; an error for every status
    /// but the good ones.
    async fn open(
        &self,
        request: request::Builder,
        body: Bytes,
    ) -> Result<Response<Incoming>, CallError> {
        let request = match request.body(Full::new(body)) {
            Ok(request) => request,
            Err(_) => unreachable!("paths and headers are made of checked texts"),
        };
        let mut sender = self.dialer.dial().await?;
        let sent = timeout(ANSWER, sender.send_request(request)).await;
        let response = sent
            .map_err(|_| CallError::Silent(ANSWER))?
            .map_err(|source| CallError::Broken { source })?;
        match response.status() {
            status if status.is_success() => Ok(response),
            status => Err(refused(status, response).await),
        }
    }
}

/// What an answer that is not good means: an agent says a [`Problem`].
async fn refused(status: StatusCode, response: Response<Incoming>) -> CallError {
    let clock = clock_of(response.headers());
    let location = response.headers().get(LOCATION);
    let location = location
        .and_then(|value| value.to_str().ok())
        .map(str::to_owned);
    let body = read(response.into_body()).await.unwrap_or_default();
    match serde_json::from_slice::<Problem>(&body) {
        Ok(problem) => CallError::Refused {
            status,
            problem: Box::new(problem),
            clock,
        },
        Err(_) => CallError::Foreign { status, location },
    }
}

async fn read(body: Incoming) -> Result<Bytes, CallError> {
    let whole = Limited::new(body, MAX_ANSWER).collect();
    let read = timeout(ANSWER, whole)
        .await
        .map_err(|_| CallError::Silent(ANSWER))?;
    match read {
        Ok(collected) => Ok(collected.to_bytes()),
        Err(error) => match error.downcast::<hyper::Error>() {
            Ok(source) => Err(CallError::Broken { source: *source }),
            Err(_) => Err(CallError::TooLong),
        },
    }
}

/// How far the other clock is ahead, as its `Date` tells it, to the second.
fn clock_of(headers: &HeaderMap) -> Option<SignedDuration> {
    let date = headers.get(DATE)?.to_str().ok()?;
    let theirs = DateTimeParser::new().parse_timestamp(date).ok()?;
    Some(theirs.duration_since(Timestamp::now()))
}

fn unix_now() -> u64 {
    // Before 1970 every signature is stale, and the agent says so.
    let since = SystemTime::now().duration_since(UNIX_EPOCH);
    since.map_or(0, |since| since.as_secs())
}
