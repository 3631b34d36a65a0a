//! One request over plain HTTP on a connection of its own, and the head and
//! first bytes of its answer.
//!
//! It follows no redirect, obeys no proxy of the environment, keeps nothing
//! open, and is over when its time is.

use std::net::SocketAddr;
use std::time::Duration;

use bytes::Bytes;
use cutover_plan::spec::{Protocol, render_duration};
use futures_util::FutureExt as _;
use futures_util::future::BoxFuture;
use http::header::{CONNECTION, HOST, USER_AGENT};
use http::{HeaderMap, HeaderName, Request, Response, StatusCode};
use http_body_util::{BodyExt as _, Empty};
use hyper::body::Incoming;
use hyper::client::conn::{http1, http2};
use hyper_util::rt::{TokioExecutor, TokioIo};
use tokio::net::TcpStream;
use tokio::time::{Instant, timeout, timeout_at};

/// How much of a body is read: what an error quotes, in the widest letters.
const BODY: usize = 2048;

/// The largest head of an answer; servers commonly send at most half of it.
const HEAD: usize = 64 * 1024;

const AGENT: &str = concat!("cutover/", env!("CARGO_PKG_VERSION"));

/// An answer. Its body is read only when it is no success.
#[derive(Debug)]
pub(crate) struct Answer {
    pub(crate) status: StatusCode,
    pub(crate) headers: HeaderMap,
    pub(crate) body: Vec<u8>,
}

/// Why there is no answer.
#[derive(Debug, thiserror::Error)]
pub(crate) enum NoAnswer {
    /// The path or the host cannot stand in a request.
    #[error("that is no request")]
    Unaskable,
    #[error("connection refused")]
    Refused,
    #[error("cannot connect: {0}")]
    Unreachable(String),
    #[error("no answer within {}", render_duration(*.0))]
    Silent(Duration),
    #[error("the connection was closed before an answer")]
    Closed,
    #[error("what it answered is not HTTP/1.1")]
    NotHttp,
    #[error("it gave no answer of HTTP/2")]
    NotHttp2,
}

/// Gets `path` from `address`, all in all within `limit`.
pub(crate) async fn get(
    address: SocketAddr,
    protocol: Protocol,
    host: &str,
    path: &str,
    header: Option<(&'static str, &str)>,
    limit: Duration,
) -> Result<Answer, NoAnswer> {
    let request = request(protocol, host, path, header).ok_or(NoAnswer::Unaskable)?;
    let end = Instant::now() + limit;
    let silent = |_| NoAnswer::Silent(limit);
    let stream = connect(address, limit).await?;
    let (answer, connection) = timeout_at(end, begin(protocol, stream, request))
        .await
        .map_err(silent)?
        .map_err(|error| cause(protocol, &error))?;
    let exchange = async {
        let answer = timeout_at(end, answer).await.map_err(silent)?;
        let answer = answer.map_err(|error| cause(protocol, &error))?;
        let (head, body) = answer.into_parts();
        // A body that does not come is no reason to forget the status.
        let body = match head.status.is_success() {
            true => Vec::new(),
            false => first_bytes(body, end).await,
        };
        Ok(Answer {
            status: head.status,
            headers: head.headers,
            body,
        })
    };
    let mut exchange = std::pin::pin!(exchange);
    tokio::select! {
        biased;
        answer = &mut exchange => return answer,
        // What the connection has read is still with the exchange.
        _ = connection => {}
    }
    exchange.await
}

/// The answer that comes, and the connection that brings it.
type Begun = (
    BoxFuture<'static, hyper::Result<Response<Incoming>>>,
    BoxFuture<'static, hyper::Result<()>>,
);

async fn begin(
    protocol: Protocol,
    stream: TcpStream,
    request: Request<Empty<Bytes>>,
) -> hyper::Result<Begun> {
    let stream = TokioIo::new(stream);
    Ok(match protocol {
        Protocol::Http1 => {
            let mut builder = http1::Builder::new();
            let (mut sender, connection) = builder.max_buf_size(HEAD).handshake(stream).await?;
            let answer = async move { sender.send_request(request).await };
            (answer.boxed(), connection.boxed())
        }
        Protocol::H2c => {
            let mut builder = http2::Builder::new(TokioExecutor::new());
            let limit = u32::try_from(HEAD).unwrap_or(u32::MAX);
            builder.max_header_list_size(limit);
            let (mut sender, connection) = builder.handshake(stream).await?;
            let answer = async move { sender.send_request(request).await };
            (answer.boxed(), connection.boxed())
        }
    })
}

/// Connects to `address` within `limit`.
pub(crate) async fn connect(address: SocketAddr, limit: Duration) -> Result<TcpStream, NoAnswer> {
    let stream = timeout(limit, TcpStream::connect(address)).await;
    let stream = stream.map_err(|_| NoAnswer::Silent(limit))?;
    stream.map_err(|error| match error.kind() {
        std::io::ErrorKind::ConnectionRefused => NoAnswer::Refused,
        _ => NoAnswer::Unreachable(error.to_string()),
    })
}

fn request(
    protocol: Protocol,
    host: &str,
    path: &str,
    header: Option<(&'static str, &str)>,
) -> Option<Request<Empty<Bytes>>> {
    if !path.starts_with('/') {
        return None;
    }
    let request = match protocol {
        Protocol::Http1 => Request::get(path)
            .header(HOST, host)
            .header(CONNECTION, "close"),
        Protocol::H2c => Request::get(format!("http://{host}{path}")),
    };
    let mut request = request.header(USER_AGENT, AGENT);
    if let Some((name, value)) = header {
        request = request.header(HeaderName::from_static(name), value);
    }
    request.body(Empty::new()).ok()
}

fn cause(protocol: Protocol, error: &hyper::Error) -> NoAnswer {
    match protocol {
        Protocol::H2c => NoAnswer::NotHttp2,
        Protocol::Http1 if error.is_parse() => NoAnswer::NotHttp,
        Protocol::Http1 => NoAnswer::Closed,
    }
}

async fn first_bytes(mut body: Incoming, end: Instant) -> Vec<u8> {
    let mut bytes = Vec::new();
    while bytes.len() < BODY
        && let Ok(Some(Ok(frame))) = timeout_at(end, body.frame()).await
    {
        if let Some(data) = frame.data_ref() {
            let room = BODY - bytes.len();
            bytes.extend(&data[..data.len().min(room)]);
        }
    }
    bytes
}
