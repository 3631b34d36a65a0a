//! What a person or a monitor may ask over HTTP: figures, and whether all is well.
//!
//! ```text
//!  GET /metrics   the statistics as Prometheus reads them
//!  GET /healthz   200 when a table is in force and every worker answers, else 503
//!  anything else  404
//! ```
//!
//! It changes nothing and knows no user, so whoever reaches the address may ask:
//! it belongs on the loopback. Invariant: it costs no user a request. It has
//! a thread with others that serve no users, few connections, and an address
//! that cannot be had is asked for again and again while the proxy serves. The
//! address is given back at the first word of a stop, for the next process.

use std::convert::Infallible;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http::{HeaderValue, Method, Request, Response, StatusCode, header};
use hyper::body::{Body, Frame, Incoming, SizeHint};
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{Semaphore, watch};
use tokio::time::timeout;

use crate::metrics;
use crate::switchboard::Switchboard;

/// Connections at once: two monitors and a person, each with one in the making.
const MAX_CONNECTIONS: usize = 16;

/// How long a connection may last, which carries one request: the default of
/// Prometheus for a scrape is 10 s, and a slower reader has given up.
const CONNECTION_DEADLINE: Duration = Duration::from_secs(15);

/// How long the head of a request may take; nobody is far away.
const HEAD_DEADLINE: Duration = Duration::from_secs(2);

/// Bytes of a head, which is what the users' side takes.
const MAX_HEAD: usize = 16 * 1024;

/// How long workers may take to answer before they are called stuck. One is
/// between two requests every few milliseconds.
const HEALTH_DEADLINE: Duration = Duration::from_secs(2);

/// How long to wait before an address is asked for again.
const BIND_PAUSE: Duration = Duration::from_secs(1);

/// See the module.
#[derive(Debug)]
pub(crate) struct Admin {
    switchboard: Arc<Switchboard>,
    places: Arc<Semaphore>,
}

impl Admin {
    /// Who answers.
    pub(crate) fn new(switchboard: Arc<Switchboard>) -> Self {
        Self {
            switchboard,
            places: Arc::new(Semaphore::new(MAX_CONNECTIONS)),
        }
    }

    /// Answers on an address until `stop`.
    pub(crate) async fn run(self, address: SocketAddr, mut stop: watch::Receiver<bool>) {
        if !address.ip().is_loopback() {
            tracing::warn!(
                %address,
                "the admin address is not of the loopback: whoever reaches it reads the names of all apps and their figures"
            );
        }
        tokio::select! {
            biased;
            _ = stop.wait_for(|stop| *stop) => {}
            () = self.serve(address) => {}
        }
    }

    async fn serve(self, address: SocketAddr) {
        let listener = bind(address).await;
        let admin = Arc::new(self);
        loop {
            let Ok(place) = Arc::clone(&admin.places).acquire_owned().await else {
                return;
            };
            let stream = match listener.accept().await {
                Ok((stream, _)) => stream,
                Err(error) => {
                    tracing::warn!(%error, "an admin connection could not be accepted");
                    tokio::time::sleep(BIND_PAUSE).await;
                    continue;
                }
            };
            let admin = Arc::clone(&admin);
            tokio::spawn(async move {
                let _ = timeout(CONNECTION_DEADLINE, admin.talk(stream)).await;
                drop(place);
            });
        }
    }

    async fn talk(&self, stream: TcpStream) {
        let answer = |request: Request<Incoming>| async move {
            Ok::<_, Infallible>(self.answer(request.method(), request.uri().path()).await)
        };
        let talk = http1::Builder::new()
            .timer(TokioTimer::new())
            .header_read_timeout(HEAD_DEADLINE)
            .max_buf_size(MAX_HEAD)
            // One request each, so that nobody keeps a place.
            .keep_alive(false)
            .serve_connection(TokioIo::new(stream), service_fn(answer));
        if let Err(error) = talk.await {
            tracing::debug!(%error, "an admin connection broke off");
        }
    }

    async fn answer(&self, method: &Method, path: &str) -> Response<Page> {
        let asks = method == Method::GET || method == Method::HEAD;
        match path {
            "/metrics" if asks => {
                let text = metrics::render(&self.switchboard.statistics());
                page(StatusCode::OK, metrics::CONTENT_TYPE, text)
            }
            "/healthz" if asks => self.health().await,
            _ => plain(StatusCode::NOT_FOUND, "there are /metrics and /healthz"),
        }
    }

    async fn health(&self) -> Response<Page> {
        let generation = self.switchboard.generation();
        if generation == 0 {
            let text = "there is no table: every request is refused until one is put";
            return plain(StatusCode::SERVICE_UNAVAILABLE, text);
        }
        match timeout(HEALTH_DEADLINE, self.switchboard.workers_answer()).await {
            Ok(Ok(())) => plain(
                StatusCode::OK,
                &format!("healthy at generation {generation}"),
            ),
            Ok(Err(_)) | Err(_) => {
                let text = format!("a worker does not answer, at generation {generation}");
                plain(StatusCode::SERVICE_UNAVAILABLE, &text)
            }
        }
    }
}

/// Listens on an address, however long it takes to get it.
async fn bind(address: SocketAddr) -> TcpListener {
    let mut told = false;
    loop {
        match TcpListener::bind(address).await {
            Ok(listener) => {
                let address = listener.local_addr().unwrap_or(address);
                tracing::info!(%address, "admin listens");
                return listener;
            }
            // The process before may still have it.
            Err(error) if !told => {
                told = true;
                tracing::error!(%address, %error, "the admin address cannot be had yet; it is tried on");
            }
            Err(_) => {}
        }
        tokio::time::sleep(BIND_PAUSE).await;
    }
}

fn plain(status: StatusCode, text: &str) -> Response<Page> {
    page(status, "text/plain; charset=utf-8", format!("{text}\n"))
}

fn page(status: StatusCode, kind: &'static str, text: String) -> Response<Page> {
    let mut response = Response::new(Page(Some(Bytes::from(text))));
    *response.status_mut() = status;
    let fields = response.headers_mut();
    fields.insert(header::CONTENT_TYPE, HeaderValue::from_static(kind));
    let fresh = HeaderValue::from_static("no-store");
    fields.insert(header::CACHE_CONTROL, fresh);
    response
}

/// A text that is whole.
#[derive(Debug)]
struct Page(Option<Bytes>);

impl Body for Page {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(
        mut self: std::pin::Pin<&mut Self>,
        _: &mut std::task::Context<'_>,
    ) -> std::task::Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        std::task::Poll::Ready(self.0.take().map(|text| Ok(Frame::data(text))))
    }

    fn is_end_stream(&self) -> bool {
        self.0.is_none()
    }

    fn size_hint(&self) -> SizeHint {
        SizeHint::with_exact(self.0.as_ref().map_or(0, Bytes::len) as u64)
    }
}
