//! What tests of modules have in place of a target: a listener whose requests are
//! answered by a function.

use std::convert::Infallible;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering::SeqCst};
use std::time::{Duration, Instant};

use cutover_wire::table::Protocol;
use http::{Request, Response};
use hyper::body::Incoming;
use hyper::server::conn::{http1, http2};
use hyper::service::service_fn;
use hyper_util::rt::{TokioExecutor, TokioIo};
use tokio::net::TcpListener;
use tokio::time::sleep;

use crate::aside::Whole;

/// No wait of a test is longer.
pub(crate) const DEADLINE: Duration = Duration::from_secs(20);

/// Waits until a condition holds, and fails with its name otherwise.
pub(crate) async fn until(what: &str, mut condition: impl FnMut() -> bool) {
    let end = Instant::now() + DEADLINE;
    while !condition() {
        assert!(Instant::now() < end, "never came true: {what}");
        sleep(Duration::from_millis(1)).await;
    }
}

/// Where it listens, and how many connections came.
pub(crate) struct StandIn {
    listener: TcpListener,
    pub(crate) address: SocketAddr,
    pub(crate) connections: Arc<AtomicUsize>,
}

impl StandIn {
    pub(crate) async fn bind() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        Self {
            address: listener.local_addr().unwrap(),
            listener,
            connections: Arc::default(),
        }
    }

    /// Answers from now on, until the runtime of the test ends.
    pub(crate) fn serve<R>(
        self,
        protocol: Protocol,
        answer: impl Fn(Request<Incoming>) -> R + Clone + Send + 'static,
    ) where
        R: Future<Output = Result<Response<Whole>, Infallible>> + Send + 'static,
    {
        tokio::spawn(async move {
            while let Ok((stream, _)) = self.listener.accept().await {
                self.connections.fetch_add(1, SeqCst);
                let (answer, socket) = (service_fn(answer.clone()), TokioIo::new(stream));
                tokio::spawn(async move {
                    match protocol {
                        Protocol::Http1 => {
                            let served = http1::Builder::new().serve_connection(socket, answer);
                            drop(served.await);
                        }
                        Protocol::H2c => {
                            let builder = http2::Builder::new(TokioExecutor::new());
                            drop(builder.serve_connection(socket, answer).await);
                        }
                    }
                });
            }
        });
    }
}
