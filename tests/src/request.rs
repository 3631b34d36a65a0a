//! One request on a connection of its own, for a test's own questions.

use std::net::SocketAddr;
use std::time::Duration;

use anyhow::{Context as _, ensure};
use bytes::Bytes;
use http::{HeaderMap, Request, StatusCode};
use http_body_util::{BodyExt as _, Full, Limited};
use hyper_util::rt::TokioIo;
use tokio::net::TcpStream;

const DEADLINE: Duration = Duration::from_secs(10);
const LARGEST_ANSWER: usize = 64 << 20;

/// An answer that has been read whole.
#[derive(Clone, Debug)]
pub struct Answer {
    /// Its status.
    pub status: StatusCode,
    /// Its headers.
    pub headers: HeaderMap,
    /// Its body.
    pub body: Bytes,
}

impl Answer {
    /// The body as text; what is not UTF-8 is replaced.
    pub fn text(&self) -> String {
        String::from_utf8_lossy(&self.body).into_owned()
    }

    /// A header's value, or nothing.
    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers.get(name)?.to_str().ok()
    }
}

/// Tests reach only this machine and networks that are made on it.
pub(crate) fn ensure_local(address: SocketAddr) -> anyhow::Result<()> {
    let local = match address.ip().to_canonical() {
        std::net::IpAddr::V4(ip) => ip.is_loopback() || ip.is_private() || ip.is_link_local(),
        std::net::IpAddr::V6(ip) => {
            ip.is_loopback() || ip.is_unique_local() || ip.is_unicast_link_local()
        }
    };
    ensure!(local, "{address} is not an address of this machine");
    Ok(())
}

/// Gets `path` from `address`.
///
/// # Errors
///
/// No whole answer within ten seconds, of whatever status.
pub async fn get(address: SocketAddr, path: &str) -> anyhow::Result<Answer> {
    let request = Request::get(path)
        .header(http::header::HOST, address.to_string())
        .body(Bytes::new())?;
    send(address, request).await
}

/// Sends `request`, whose URI is a path, to `address`.
///
/// # Errors
///
/// No whole answer within ten seconds, of whatever status.
pub async fn send(address: SocketAddr, request: Request<Bytes>) -> anyhow::Result<Answer> {
    ensure_local(address)?;
    let exchange = async {
        let connection = TcpStream::connect(address).await.context("connecting")?;
        let (mut sender, connection) =
            hyper::client::conn::http1::handshake(TokioIo::new(connection)).await?;
        let exchange = async {
            let response = sender.send_request(request.map(Full::new)).await?;
            let (head, body) = response.into_parts();
            let body = Limited::new(body, LARGEST_ANSWER).collect().await;
            let body = body.map_err(anyhow::Error::from_boxed)?.to_bytes();
            Ok(Answer {
                status: head.status,
                headers: head.headers,
                body,
            })
        };
        tokio::pin!(exchange);
        let mut connection = std::pin::pin!(connection);
        tokio::select! {
            answer = &mut exchange => answer,
            _ = &mut connection => exchange.await,
        }
    };
    tokio::time::timeout(DEADLINE, exchange)
        .await
        .context("no answer in time")?
}
