//! Copies of safe requests, whose answers no user gets.
//!
//! One worker owns this and its connections; users' requests share nothing with
//! it but the worker's thread. A copy is a task of its own that nobody waits
//! for. It takes no place at its target, so it holds no drain up; a drain cuts it.
//!
//! ```text
//!  wants ─▶ copy ─▶ places of app and worker ─▶ connect ─▶ exchange ─▶ body ─▶ compared
//!            │               │                     │          │         │
//!          dropped        dropped                  └── failed ┴─────────┘
//! ```
//!
//! Invariant: nothing here is awaited by a request, and making a copy does not wait.
//! Invariant: what an app has under way and waiting is bounded by its table, all
//! workers together; connections are bounded for each worker.

mod comparison;
mod digest;
mod pair;

use std::cell::{Cell, RefCell};
use std::collections::HashMap;
use std::future::poll_fn;
use std::pin::Pin;
use std::rc::Rc;
use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use cutover_wire::proxy::MIRROR_HEADER;
use cutover_wire::table::{self, Limits, Protocol, WHOLE};
use http::request::Parts;
use http::{HeaderMap, HeaderName, HeaderValue, Method, Request, Response, Uri, header};
use hyper::body::{Body as _, Incoming};
use tokio::sync::Semaphore;
use tokio::task::AbortHandle;
use tokio::time::timeout;

pub(crate) use comparison::Comparison;
pub(crate) use digest::Digest;
pub(crate) use pair::Pair;

use crate::aside::{Aside, Whole};
use crate::target::Target;

/// Connections of one worker for copies: an eighth of what it may keep to one
/// target for users, and answers of 5 ms let through ten thousand copies a second.
const MAX_CONNECTIONS: usize = 64;

/// Those for one app, so that a shadow that hangs leaves the others theirs.
const MAX_CONNECTIONS_OF_APP: usize = 16;

/// How long a copy waits for a connection: what is later tells nothing about the
/// moment of its request.
const WAIT: Duration = Duration::from_secs(10);

/// How long the body of an answer may take, and a connection to become free.
const BODY: Duration = Duration::from_secs(10);

/// How long an idle connection is used again: as for users, shorter than the
/// shortest default of common servers.
const IDLE: Duration = Duration::from_secs(4);

/// Fields that tell of one connection or one framing, and are made anew.
static NOT_COPIED: [HeaderName; 6] = [
    header::CONNECTION,
    header::CONTENT_LENGTH,
    header::EXPECT,
    header::TE,
    header::TRANSFER_ENCODING,
    header::UPGRADE,
];

static MARK: HeaderName = HeaderName::from_static(MIRROR_HEADER);

/// Where the copies of one app go, by the table of a request.
#[derive(Debug)]
pub(crate) struct Shadow<'a> {
    pub(crate) app: &'a Arc<str>,
    pub(crate) mirror: &'a table::Mirror,
    /// The targets of the mirror's pool.
    pub(crate) targets: &'a [Arc<Target>],
    /// What they speak.
    pub(crate) protocol: Protocol,
    /// The bounds of a request of the app; a copy has the same.
    pub(crate) limits: &'a Limits,
    /// What is counted of the app's copies.
    pub(crate) comparison: &'a Arc<Comparison>,
}

/// See the module.
#[derive(Debug)]
pub(crate) struct Mirrors {
    worker: usize,
    places: Semaphore,
    apps: RefCell<HashMap<Arc<str>, Rc<Semaphore>>>,
    idle: RefCell<HashMap<u64, Vec<(Aside, Instant)>>>,
    /// The copies under way, with the number of their target.
    tasks: RefCell<HashMap<u64, (u64, AbortHandle)>>,
    next: Cell<u64>,
    turn: Cell<usize>,
}

impl Mirrors {
    /// Without copies, of the worker of this index.
    pub(crate) fn new(worker: usize) -> Rc<Self> {
        Rc::new(Self {
            worker,
            places: Semaphore::new(MAX_CONNECTIONS),
            apps: RefCell::default(),
            idle: RefCell::default(),
            tasks: RefCell::default(),
            next: Cell::new(0),
            turn: Cell::new(worker),
        })
    }

    /// Whether a copy is to be made of a request: `random` says whether it is of
    /// the share, and it must change nothing, however often it is sent.
    pub(crate) fn wants(mirror: &table::Mirror, parts: &Parts, random: u64) -> bool {
        random % u64::from(WHOLE) < u64::from(mirror.share.0)
            && matches!(parts.method, Method::GET | Method::HEAD | Method::OPTIONS)
            && !parts.headers.contains_key(header::UPGRADE)
    }

    /// Sends a copy of a request as it goes to its own target, with its whole
    /// body. Whoever gets the pair tells it what became of the request itself.
    pub(crate) fn copy(
        self: &Rc<Self>,
        shadow: &Shadow<'_>,
        parts: &Parts,
        body: Option<Bytes>,
    ) -> Option<Rc<Pair>> {
        let target = Arc::clone(self.next_target(shadow.targets)?);
        let comparison = shadow.comparison;
        if !comparison.enter(shadow.mirror.max_queue) {
            comparison.dropped(self.worker);
            return None;
        }
        let id = self.next.get();
        self.next.set(id + 1);
        let bodies = shadow.mirror.bodies;
        let pair = Rc::new(Pair::new(Arc::clone(comparison), self.worker, bodies));
        let number = target.number();
        let errand = Errand {
            under_way: UnderWay {
                mirrors: Rc::clone(self),
                comparison: Arc::clone(comparison),
                id,
            },
            places: self.places_of(shadow.app),
            pair: Rc::clone(&pair),
            target,
            protocol: shadow.protocol,
            connect: Duration::from_millis(shadow.limits.connect_ms),
            response: Duration::from_millis(shadow.limits.response_ms),
        };
        let task = tokio::task::spawn_local(errand.run(request(parts, body)));
        let mut tasks = self.tasks.borrow_mut();
        tasks.insert(id, (number, task.abort_handle()));
        Some(pair)
    }

    /// Cuts the copies to a target and closes its connections: it is drained.
    pub(crate) fn stop(&self, target: u64) {
        self.idle.borrow_mut().remove(&target);
        let mut cut = Vec::new();
        for (number, task) in self.tasks.borrow().values() {
            if *number == target {
                cut.push(task.clone());
            }
        }
        // Without the borrow, which a task takes when it ends.
        cut.iter().for_each(AbortHandle::abort);
    }

    /// Closes what is idle too long, and forgets apps without copies.
    pub(crate) fn sweep(&self, now: Instant) {
        let mut idle = self.idle.borrow_mut();
        idle.retain(|_, kept| {
            kept.retain(|(aside, since)| {
                now.saturating_duration_since(*since) < IDLE && aside.is_free()
            });
            !kept.is_empty()
        });
        let mut apps = self.apps.borrow_mut();
        apps.retain(|_, places| Rc::strong_count(places) > 1);
    }

    /// In turn, whether it is sick or not: a copy that fails harms nobody, and
    /// is what a mirror is there to show.
    fn next_target<'a>(&self, targets: &'a [Arc<Target>]) -> Option<&'a Arc<Target>> {
        let turn = self.turn.get().wrapping_add(1);
        self.turn.set(turn);
        let from = turn.checked_rem(targets.len())?;
        let (before, after) = targets.split_at(from);
        let mut order = after.iter().chain(before);
        order.find(|target| !target.is_draining())
    }

    fn places_of(&self, app: &Arc<str>) -> Rc<Semaphore> {
        let mut apps = self.apps.borrow_mut();
        if let Some(places) = apps.get(app) {
            return Rc::clone(places);
        }
        let places = Rc::new(Semaphore::new(MAX_CONNECTIONS_OF_APP));
        apps.insert(Arc::clone(app), Rc::clone(&places));
        places
    }

    fn take(&self, target: u64) -> Option<Aside> {
        let mut idle = self.idle.borrow_mut();
        let kept = idle.get_mut(&target)?;
        while let Some((aside, since)) = kept.pop() {
            if since.elapsed() < IDLE && aside.is_free() {
                return Some(aside);
            }
        }
        None
    }

    /// Keeps a connection; there are never more than places.
    fn put(&self, target: u64, aside: Aside) {
        let mut idle = self.idle.borrow_mut();
        let kept = idle.entry(target).or_default();
        if kept.len() < MAX_CONNECTIONS_OF_APP {
            kept.push((aside, Instant::now()));
        }
    }
}

/// The request of a copy: the same fields but those of one connection, and the mark.
fn request(parts: &Parts, body: Option<Bytes>) -> Request<Whole> {
    let mut request = Request::new(body.map_or_else(Whole::default, Whole::of));
    request.method_mut().clone_from(&parts.method);
    let path = parts.uri.path_and_query().cloned();
    *request.uri_mut() = path.map_or_else(|| Uri::from_static("/"), Uri::from);
    let fields: &mut HeaderMap = request.headers_mut();
    fields.clone_from(&parts.headers);
    for name in &NOT_COPIED {
        fields.remove(name);
    }
    fields.insert(&MARK, HeaderValue::from_static("1"));
    if let Some(authority) = parts.uri.authority()
        && !fields.contains_key(header::HOST)
        && let Ok(host) = HeaderValue::from_str(authority.as_str())
    {
        fields.insert(header::HOST, host);
    }
    request
}

/// A copy that counts against its app's bound until it is dropped.
#[derive(Debug)]
struct UnderWay {
    mirrors: Rc<Mirrors>,
    comparison: Arc<Comparison>,
    id: u64,
}

impl Drop for UnderWay {
    fn drop(&mut self) {
        self.comparison.leave();
        self.mirrors.tasks.borrow_mut().remove(&self.id);
    }
}

/// One copy on its way.
#[derive(Debug)]
struct Errand {
    under_way: UnderWay,
    places: Rc<Semaphore>,
    pair: Rc<Pair>,
    target: Arc<Target>,
    protocol: Protocol,
    connect: Duration,
    response: Duration,
}

/// A copy got no whole answer; why is not told apart.
#[derive(Debug)]
struct Failed;

impl Errand {
    async fn run(self, request: Request<Whole>) {
        let UnderWay {
            mirrors,
            comparison,
            ..
        } = &self.under_way;
        // The app's own first, so that it takes no place of others while it waits.
        let places = async { (self.places.acquire().await, mirrors.places.acquire().await) };
        let Ok(_places) = timeout(WAIT, places).await else {
            comparison.dropped(mirrors.worker);
            return;
        };
        comparison.copied(mirrors.worker);
        let begun = Instant::now();
        let outcome = async {
            let (aside, answer) = self.exchange(request).await?;
            let micros = u64::try_from(begun.elapsed().as_micros()).unwrap_or(u64::MAX);
            let status = answer.status();
            let digest = read(answer.into_body()).await?;
            Ok::<_, Failed>((aside, status, micros, digest))
        };
        let Ok((mut aside, status, micros, digest)) = outcome.await else {
            comparison.failed(mirrors.worker);
            return;
        };
        self.pair.copy(status, micros, &digest);
        if timeout(BODY, aside.freed()).await == Ok(true) && !self.target.is_draining() {
            mirrors.put(self.target.number(), aside);
        }
    }

    /// Sends the request on an idle connection or a new one. A target may close an
    /// idle one at any time, and a safe request can be sent again.
    async fn exchange(
        &self,
        request: Request<Whole>,
    ) -> Result<(Aside, Response<Incoming>), Failed> {
        if let Some(mut aside) = self.under_way.mirrors.take(self.target.number()) {
            match timeout(self.response, aside.send(request.clone())).await {
                Ok(Ok(answer)) => return Ok((aside, answer)),
                Ok(Err(_)) => {}
                Err(_) => return Err(Failed),
            }
        }
        let connecting = Aside::connect(self.target.address(), self.protocol);
        let connected = timeout(self.connect, connecting).await;
        let mut aside = connected.map_err(|_| Failed)?.map_err(|_| Failed)?;
        let answered = timeout(self.response, aside.send(request)).await;
        let answer = answered.map_err(|_| Failed)?.map_err(|_| Failed)?;
        Ok((aside, answer))
    }
}

/// Reads a body as far as it is compared, and keeps nothing of it.
async fn read(mut body: Incoming) -> Result<Digest, Failed> {
    let reading = async {
        let mut digest = Digest::new();
        while let Some(frame) = poll_fn(|cx| Pin::new(&mut body).poll_frame(cx)).await {
            if let Some(bytes) = frame.map_err(|_| Failed)?.data_ref() {
                digest.update(bytes);
            }
            if digest.is_too_long() {
                break;
            }
        }
        Ok(digest)
    };
    timeout(BODY, reading).await.unwrap_or(Err(Failed))
}

#[cfg(test)]
mod tests;
