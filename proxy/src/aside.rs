//! A connection beside those of the users: for questions about health, and for
//! copies of requests.
//!
//! It carries one exchange at a time, with a body that is there at once. It
//! repeats nothing and has no deadline of its own; whoever asks has both.
//! Dropping it closes it.

use std::convert::Infallible;
use std::io;
use std::net::SocketAddr;
use std::pin::Pin;
use std::task::{Context, Poll};

use bytes::Bytes;
use cutover_wire::table::Protocol;
use http::uri::{Authority, PathAndQuery, Scheme};
use http::{HeaderValue, Request, Response, Uri, header};
use hyper::body::{Body, Frame, Incoming, SizeHint};
use hyper::client::conn::{http1, http2};
use hyper_util::rt::{TokioExecutor, TokioIo};
use tokio::net::TcpStream;
use tokio::task::JoinHandle;

/// The bytes of an answer's head, as for users.
const MAX_HEAD: usize = 64 * 1024;

/// The fields of an answer's head, as for users.
const MAX_FIELDS: usize = 100;

/// Why there was no answer.
#[derive(Debug, thiserror::Error)]
pub(crate) enum AsideError {
    /// There is no connection.
    #[error("could not connect")]
    Connect(#[source] io::Error),
    /// It cannot be asked in this way.
    #[error("the request has no form of this protocol")]
    Form(#[source] http::Error),
    /// The connection ended, or what came is no answer.
    #[error("the exchange broke")]
    Broken(#[source] hyper::Error),
}

/// A body that is there at once, or none.
#[derive(Debug, Clone, Default)]
pub(crate) struct Whole(Option<Bytes>);

impl Whole {
    /// This body; an empty one is none.
    pub(crate) fn of(bytes: Bytes) -> Self {
        Self((!bytes.is_empty()).then_some(bytes))
    }
}

impl Body for Whole {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        _: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        Poll::Ready(self.0.take().map(|bytes| Ok(Frame::data(bytes))))
    }

    fn is_end_stream(&self) -> bool {
        self.0.is_none()
    }

    fn size_hint(&self) -> SizeHint {
        SizeHint::with_exact(self.0.as_ref().map_or(0, |bytes| bytes.len() as u64))
    }
}

#[derive(Debug)]
enum Sender {
    Http1(http1::SendRequest<Whole>),
    H2c(http2::SendRequest<Whole>),
}

/// See the module.
#[derive(Debug)]
pub(crate) struct Aside {
    address: SocketAddr,
    sender: Sender,
    /// Moves the bytes, in a task: nobody's answer is urgent here.
    driver: JoinHandle<()>,
}

impl Aside {
    /// Connects to a target.
    pub(crate) async fn connect(
        address: SocketAddr,
        protocol: Protocol,
    ) -> Result<Self, AsideError> {
        let stream = TcpStream::connect(address).await;
        let stream = stream.map_err(AsideError::Connect)?;
        stream.set_nodelay(true).map_err(AsideError::Connect)?;
        let socket = TokioIo::new(stream);
        let (sender, driver) = match protocol {
            Protocol::Http1 => {
                let mut builder = http1::Builder::new();
                builder.max_headers(MAX_FIELDS).max_buf_size(MAX_HEAD);
                let handshake = builder.handshake(socket).await;
                let (sender, connection) = handshake.map_err(AsideError::Broken)?;
                let driver = tokio::spawn(async { drop(connection.await) });
                (Sender::Http1(sender), driver)
            }
            Protocol::H2c => {
                let mut builder = http2::Builder::new(TokioExecutor::new());
                builder.max_header_list_size(MAX_HEAD as u32);
                let handshake = builder.handshake(socket).await;
                let (sender, connection) = handshake.map_err(AsideError::Broken)?;
                let driver = tokio::spawn(async { drop(connection.await) });
                (Sender::H2c(sender), driver)
            }
        };
        Ok(Self {
            address,
            sender,
            driver,
        })
    }

    /// Resolves when the last exchange has ended; tells whether another one can begin.
    pub(crate) async fn freed(&mut self) -> bool {
        match &mut self.sender {
            Sender::Http1(sender) => sender.ready().await.is_ok(),
            Sender::H2c(sender) => sender.ready().await.is_ok(),
        }
    }

    /// Whether another exchange can begin, as far as is known.
    pub(crate) fn is_free(&self) -> bool {
        match &self.sender {
            Sender::Http1(sender) => sender.is_ready(),
            Sender::H2c(sender) => sender.is_ready(),
        }
    }

    /// Sends a request, whose address is a path, and waits for the head of the
    /// answer. A request without `Host` is for the target by its address.
    pub(crate) async fn send(
        &mut self,
        mut request: Request<Whole>,
    ) -> Result<Response<Incoming>, AsideError> {
        let answer = match &mut self.sender {
            Sender::Http1(sender) => {
                if !request.headers().contains_key(header::HOST) {
                    let host = HeaderValue::try_from(self.address.to_string());
                    let host = host.map_err(|error| AsideError::Form(error.into()))?;
                    request.headers_mut().insert(header::HOST, host);
                }
                sender.send_request(request).await
            }
            Sender::H2c(sender) => {
                let host = request.headers_mut().remove(header::HOST);
                let uri = absolute(request.uri(), host, self.address);
                *request.uri_mut() = uri.map_err(AsideError::Form)?;
                sender.send_request(request).await
            }
        };
        answer.map_err(AsideError::Broken)
    }
}

impl Drop for Aside {
    fn drop(&mut self) {
        self.driver.abort();
    }
}

/// HTTP/2 tells scheme and host beside the path.
fn absolute(uri: &Uri, host: Option<HeaderValue>, address: SocketAddr) -> Result<Uri, http::Error> {
    let authority = match host {
        Some(host) => Authority::try_from(host.as_bytes()),
        None => Authority::try_from(address.to_string()),
    };
    let root = PathAndQuery::from_static("/");
    Uri::builder()
        .scheme(Scheme::HTTP)
        .authority(authority?)
        .path_and_query(uri.path_and_query().cloned().unwrap_or(root))
        .build()
}
