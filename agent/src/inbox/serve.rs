//! Connections: bounded in number and time, each for one request, and closed
//! in order when the process ends.
//!
//! A connection is not kept for a second request: callers make two or three in
//! a deploy, and what is not kept can be neither hoarded nor cut in the moment
//! of a restart.

use std::convert::Infallible;
use std::io;
use std::net::SocketAddr;
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::response::Response;
use http::Request;
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper_util::rt::{TokioIo, TokioTimer};
use rustix::net::sockopt::set_tcp_user_timeout;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpListener;
use tokio::sync::Semaphore;
use tokio::task::JoinSet;
use tower::ServiceExt as _;

use super::{Limits, LocalListener, Shutdown, ended};

/// Where a request of the network came from.
#[derive(Debug, Clone, Copy)]
pub struct Peer(pub SocketAddr);

/// The longest head of a request: a signed call has less than a thousand bytes.
const MAX_HEAD: usize = 16 * 1024;

/// After an accept that failed, most likely for want of file descriptors.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// Serves the network until the shutdown, and returns when the open requests
/// are answered or their time is over.
pub async fn serve_network(
    listener: TcpListener,
    router: Router,
    limits: Limits,
    shutdown: Shutdown,
) {
    let accept = async move || {
        let (stream, peer) = listener.accept().await?;
        let stall = u32::try_from(limits.stall.as_millis()).unwrap_or(u32::MAX);
        // Ends the streams of readers that are gone or do not read. Where it
        // cannot be set the connection has ended already.
        let _ = set_tcp_user_timeout(&stream, stall);
        Ok((stream, Some(Peer(peer))))
    };
    serve(accept, router, limits, shutdown).await;
}

/// Serves the socket of the host in the same way, and removes it at the end.
pub async fn serve_local(
    listener: LocalListener,
    router: Router,
    limits: Limits,
    shutdown: Shutdown,
) {
    let accept = async move || Ok((listener.accept().await?, None));
    serve(accept, router, limits, shutdown).await;
}

async fn serve<S: AsyncRead + AsyncWrite + Send + Unpin + 'static>(
    accept: impl AsyncFn() -> io::Result<(S, Option<Peer>)>,
    router: Router,
    limits: Limits,
    mut shutdown: Shutdown,
) {
    let room = Arc::new(Semaphore::new(limits.connections));
    let mut connections = JoinSet::new();
    loop {
        // Finished connections are let go of, or the set would grow.
        while connections.try_join_next().is_some() {}
        let next = async {
            let permit = Arc::clone(&room).acquire_owned().await;
            (permit, accept().await)
        };
        let (permit, accepted) = tokio::select! {
            () = ended(&mut shutdown) => break,
            next = next => next,
        };
        match accepted {
            Ok((stream, peer)) => {
                let connection = connection(stream, peer, router.clone(), limits, shutdown.clone());
                connections.spawn(async move {
                    connection.await;
                    drop(permit);
                });
            }
            // The caller's doing, and no reason to keep the others waiting.
            Err(error) if error.kind() == io::ErrorKind::ConnectionAborted => {}
            Err(error) => {
                tracing::warn!(%error, "a connection could not be accepted");
                tokio::time::sleep(ACCEPT_PAUSE).await;
            }
        }
    }
    // Who calls from now on is refused at once and comes back to the next agent.
    drop(accept);
    let all = async { while connections.join_next().await.is_some() {} };
    if tokio::time::timeout(limits.farewell, all).await.is_err() {
        tracing::warn!("requests were cut: they took too long to finish");
    }
}

async fn connection<S: AsyncRead + AsyncWrite + Send + Unpin + 'static>(
    stream: S,
    peer: Option<Peer>,
    router: Router,
    limits: Limits,
    mut shutdown: Shutdown,
) {
    let service = hyper::service::service_fn(move |mut request: Request<Incoming>| {
        if let Some(peer) = peer {
            request.extensions_mut().insert(peer);
        }
        answer(router.clone(), request)
    });
    let connection = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(limits.head)
        .max_buf_size(MAX_HEAD)
        .keep_alive(false)
        .serve_connection(TokioIo::new(stream), service);
    let mut connection = pin!(connection);
    let result = tokio::select! {
        result = &mut connection => result,
        () = ended(&mut shutdown) => {
            connection.as_mut().graceful_shutdown();
            connection.await
        }
    };
    if let Err(error) = result {
        tracing::debug!(%error, "a connection ended early");
    }
}

async fn answer(router: Router, request: Request<Incoming>) -> Result<Response, Infallible> {
    router.oneshot(request).await
}
