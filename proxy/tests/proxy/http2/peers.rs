//! Clients and targets of HTTP/2 for tests: real ones, by the library, each
//! target on a thread of its own.

use std::collections::BTreeMap;
use std::future::Future;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering::SeqCst};
use std::thread;
use std::time::{Duration, Instant};

use bytes::Bytes;
use h2::RecvStream;
use h2::client::{ResponseFuture, SendRequest};
use h2::server::SendResponse;
use http::{HeaderMap, Request, Response};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;
use tokio::task::{JoinHandle, LocalSet};
use tokio::time::timeout;

use cutover_wire::table::{Protocol, Route};

use crate::common::{DEADLINE, Proxy};

/// How long a target must have kept a connection after an answer, and a little more.
const KEPT: Duration = Duration::from_millis(60);

/// Where HTTP/2 may begin without asking.
pub(crate) const DOOR: &str = "http+h2c=127.0.0.1:0";

/// Runs what a test does, in time.
pub(crate) fn run<T>(test: impl Future<Output = T>) -> T {
    run_for(DEADLINE, test)
}

/// Runs what a test does, in a time of its own.
pub(crate) fn run_for<T>(time: Duration, test: impl Future<Output = T>) -> T {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .unwrap();
    LocalSet::new().block_on(&runtime, async {
        timeout(time, test).await.expect("all of it, in time")
    })
}

/// Waits until a condition holds, while the test's own connections go on.
pub(crate) async fn soon(what: &str, condition: impl FnMut() -> bool) {
    soon_in(DEADLINE, what, condition).await;
}

/// The same, with a time of its own.
pub(crate) async fn soon_in(time: Duration, what: &str, mut condition: impl FnMut() -> bool) {
    let end = Instant::now() + time;
    while !condition() {
        assert!(Instant::now() < end, "never came true: {what}");
        tokio::time::sleep(Duration::from_millis(2)).await;
    }
}

/// The same routes to targets that are known to speak HTTP/2.
pub(crate) fn to_h2c(mut apps: BTreeMap<String, Route>) -> BTreeMap<String, Route> {
    for route in apps.values_mut() {
        for pool in route.pools.values_mut() {
            pool.protocol = Protocol::H2c;
        }
    }
    apps
}

/// A GET for the app `shop`.
pub(crate) fn get(path: &str) -> Request<()> {
    asking("GET", path)
}

/// A request for the app `shop`.
pub(crate) fn asking(method: &str, path: &str) -> Request<()> {
    Request::builder()
        .method(method)
        .uri(format!("http://shop.example{path}"))
        .body(())
        .unwrap()
}

/// A client's connection; its bytes are moved by a task.
#[derive(Debug)]
pub(crate) struct H2Client {
    pub(crate) sender: SendRequest<Bytes>,
    /// How the connection ended.
    pub(crate) ended: JoinHandle<Result<(), h2::Error>>,
}

impl H2Client {
    /// Connects to a proxy that takes HTTP/2 without asking.
    pub(crate) async fn connect(proxy: &Proxy) -> Self {
        let stream = TcpStream::connect(proxy.address).await.unwrap();
        stream.set_nodelay(true).unwrap();
        Self::over(stream, &h2::client::Builder::new()).await
    }

    /// Begins on a connection with settings of the test's own.
    pub(crate) async fn over<S>(stream: S, settings: &h2::client::Builder) -> Self
    where
        S: AsyncRead + AsyncWrite + Unpin + 'static,
    {
        let (sender, connection) = settings.handshake(stream).await.unwrap();
        let ended = tokio::task::spawn_local(connection);
        Self { sender, ended }
    }

    /// Sends a head; what follows is sent by the second part.
    pub(crate) async fn begin(
        &mut self,
        request: Request<()>,
    ) -> (ResponseFuture, h2::SendStream<Bytes>) {
        let mut sender = self.sender.clone().ready().await.unwrap();
        sender.send_request(request, false).unwrap()
    }

    /// Sends a request without body; its answer can be waited for later.
    pub(crate) async fn start(&mut self, request: Request<()>) -> ResponseFuture {
        let mut sender = self.sender.clone().ready().await.unwrap();
        sender.send_request(request, true).unwrap().0
    }

    /// A request without body and its whole answer.
    pub(crate) async fn ask(&mut self, request: Request<()>) -> Result<Answer, h2::Error> {
        let mut sender = self.sender.clone().ready().await?;
        let (answer, _) = sender.send_request(request, true)?;
        read(answer).await
    }

    /// Asks until the worker of this connection has seen that the target keeps its own,
    /// so that requests share them: enough answers on one, which stands a while later.
    pub(crate) async fn acquaint(&mut self, path: &str) {
        for _ in 0..3 {
            for _ in 0..16 {
                self.ask(get(path)).await.unwrap();
            }
            // What has passed since is what is looked at.
            tokio::time::sleep(KEPT).await;
        }
        self.ask(get(path)).await.unwrap();
    }

    /// A request with a body and its whole answer.
    pub(crate) async fn post(&mut self, path: &str, body: &str) -> Result<Answer, h2::Error> {
        let (answer, mut rest) = self.begin(asking("POST", path)).await;
        rest.send_data(Bytes::copy_from_slice(body.as_bytes()), true)?;
        read(answer).await
    }
}

/// A whole answer.
#[derive(Debug)]
pub(crate) struct Answer {
    pub(crate) status: u16,
    pub(crate) headers: HeaderMap,
    pub(crate) body: Vec<u8>,
    pub(crate) trailers: Option<HeaderMap>,
}

impl Answer {
    pub(crate) fn text(&self) -> String {
        String::from_utf8_lossy(&self.body).into_owned()
    }

    pub(crate) fn field(&self, name: &str) -> Option<&str> {
        self.headers.get(name).map(|value| value.to_str().unwrap())
    }
}

/// Waits for a whole answer.
pub(crate) async fn read(answer: ResponseFuture) -> Result<Answer, h2::Error> {
    let (parts, mut rest) = answer.await?.into_parts();
    let body = read_body(&mut rest).await?;
    Ok(Answer {
        status: parts.status.as_u16(),
        headers: parts.headers,
        body,
        trailers: rest.trailers().await?,
    })
}

/// Reads a body up to its end or trailers.
pub(crate) async fn read_body(body: &mut RecvStream) -> Result<Vec<u8>, h2::Error> {
    let mut whole = Vec::new();
    while let Some(data) = body.data().await {
        let data = data?;
        body.flow_control().release_capacity(data.len())?;
        whole.extend_from_slice(&data);
    }
    Ok(whole)
}

/// Answers a request in one go.
pub(crate) fn answer(mut respond: SendResponse<Bytes>, body: &str) {
    if let Ok(mut rest) = respond.send_response(Response::new(()), false) {
        let _ = rest.send_data(Bytes::copy_from_slice(body.as_bytes()), true);
    }
}

/// Sends a piece when there is room for all of it; tells whether the peer is still there.
pub(crate) async fn send(to: &mut h2::SendStream<Bytes>, piece: Bytes) -> bool {
    to.reserve_capacity(piece.len());
    while to.capacity() < piece.len() {
        match std::future::poll_fn(|cx| to.poll_capacity(cx)).await {
            Some(Ok(_)) => {}
            _ => return false,
        }
    }
    to.send_data(piece, false).is_ok()
}

/// A target of HTTP/2, known beforehand to speak it.
pub(crate) struct H2Target {
    pub(crate) address: SocketAddr,
    connections: Arc<AtomicUsize>,
}

impl H2Target {
    /// Each connection is served by `serve`, which is told its number from 0.
    pub(crate) fn raw<F>(serve: impl Fn(usize, TcpStream) -> F + Send + 'static) -> Self
    where
        F: Future<Output = ()> + 'static,
    {
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        listener.set_nonblocking(true).unwrap();
        let address = listener.local_addr().unwrap();
        let connections = Arc::new(AtomicUsize::new(0));
        let count = Arc::clone(&connections);
        thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread()
                .enable_all()
                .build()
                .unwrap();
            LocalSet::new().block_on(&runtime, async move {
                let listener = tokio::net::TcpListener::from_std(listener).unwrap();
                while let Ok((stream, _)) = listener.accept().await {
                    stream.set_nodelay(true).unwrap();
                    let number = count.fetch_add(1, SeqCst);
                    tokio::task::spawn_local(serve(number, stream));
                }
            });
        });
        Self {
            address,
            connections,
        }
    }

    /// Each request is served by `serve`, all at once.
    pub(crate) fn serving<F>(
        serve: impl Fn(Request<RecvStream>, SendResponse<Bytes>) -> F + Send + Sync + 'static,
    ) -> Self
    where
        F: Future<Output = ()> + 'static,
    {
        let serve = Arc::new(serve);
        Self::raw(move |_, stream| {
            let serve = Arc::clone(&serve);
            async move {
                let Ok(mut connection) = h2::server::handshake(stream).await else {
                    return;
                };
                while let Some(Ok((request, respond))) = connection.accept().await {
                    tokio::task::spawn_local(serve(request, respond));
                }
            }
        })
    }

    /// Answers each request with its name.
    pub(crate) fn named(name: &'static str) -> Self {
        Self::serving(move |_, respond| async move { answer(respond, name) })
    }

    pub(crate) fn connections(&self) -> usize {
        self.connections.load(SeqCst)
    }
}
