//! One connection, and what can go wrong on it.

use std::error::Error;
use std::time::Duration;

use bytes::Bytes;
use http::{HeaderMap, Request, Response, header};
use http_body_util::{BodyExt as _, Full};
use hyper::body::Incoming;
use hyper::client::conn::http1::SendRequest;
use hyper_util::rt::TokioIo;
use tokio::net::TcpStream;
use tokio::time::{Instant, timeout_at};

use super::Load;
use super::record::{Outcome, Phase};

/// A failure, before it is a record's outcome.
#[derive(Debug)]
pub(super) struct Failure {
    pub(super) phase: Phase,
    pub(super) reason: String,
}

impl Failure {
    pub(super) fn new(phase: Phase, reason: impl Into<String>) -> Self {
        let reason = reason.into();
        Self { phase, reason }
    }

    pub(super) fn from(phase: Phase, error: &(dyn Error + 'static)) -> Self {
        let mut reason = error.to_string();
        let mut source = error.source();
        while let Some(cause) = source {
            let cause_text = cause.to_string();
            if !reason.ends_with(&cause_text) {
                reason = format!("{reason}: {cause_text}");
            }
            source = cause.source();
        }
        Self { phase, reason }
    }
}

impl From<Failure> for Outcome {
    fn from(failure: Failure) -> Self {
        let Failure { phase, reason } = failure;
        Self::Failed { phase, reason }
    }
}

/// Waits for one phase of a request, at most to the request's deadline.
pub(super) async fn within<T, E: Error + 'static>(
    deadline: Instant,
    phase: Phase,
    work: impl Future<Output = Result<T, E>>,
) -> Result<T, Failure> {
    match timeout_at(deadline, work).await {
        Ok(Ok(done)) => Ok(done),
        Ok(Err(error)) => Err(Failure::from(phase, &error)),
        Err(_) => Err(Failure::new(phase, "timed out")),
    }
}

#[derive(Debug)]
pub(super) struct Connection {
    sender: SendRequest<Full<Bytes>>,
}

impl Connection {
    pub(super) async fn open(load: &Load, deadline: Instant) -> Result<Self, Failure> {
        let connect = TcpStream::connect(load.address);
        let stream = within(deadline, Phase::Connect, connect).await?;
        // A small request must not wait for an acknowledgement.
        let _ = stream.set_nodelay(true);
        let handshake = hyper::client::conn::http1::handshake(TokioIo::new(stream));
        let (sender, connection) = within(deadline, Phase::Connect, handshake).await?;
        tokio::spawn(async move {
            // Its errors reach the request they belong to.
            let _ = connection.with_upgrades().await;
        });
        Ok(Self { sender })
    }

    /// Whether the server has closed it, as far as one can know.
    pub(super) async fn is_closed(&mut self, deadline: Instant) -> bool {
        !matches!(timeout_at(deadline, self.sender.ready()).await, Ok(Ok(())))
    }

    pub(super) async fn head(
        &mut self,
        request: Request<Full<Bytes>>,
        deadline: Instant,
    ) -> Result<Response<Incoming>, Failure> {
        within(deadline, Phase::Head, self.sender.send_request(request)).await
    }
}

/// Reads the rest of an answer.
pub(super) async fn body(body: Incoming, deadline: Instant) -> Result<Bytes, Failure> {
    let whole = within(deadline, Phase::Body, body.collect()).await?;
    Ok(whole.to_bytes())
}

/// The stream behind an answer that switched protocols, and what came early on it.
pub(super) async fn upgrade(
    response: Response<Incoming>,
    deadline: Instant,
) -> Result<(TcpStream, Bytes), Failure> {
    let upgraded = within(deadline, Phase::Connect, hyper::upgrade::on(response)).await?;
    let parts = upgraded.downcast::<TokioIo<TcpStream>>();
    let parts = parts.map_err(|_| Failure::new(Phase::Connect, "not a stream of ours"))?;
    Ok((parts.io.into_inner(), parts.read_buf))
}

/// Whether the server said that it will close the connection.
pub(super) fn announces_close(headers: &HeaderMap) -> bool {
    headers
        .get_all(header::CONNECTION)
        .iter()
        .filter_map(|value| value.to_str().ok())
        .flat_map(|value| value.split(','))
        .any(|option| option.trim().eq_ignore_ascii_case("close"))
}

/// When a request that starts now has taken too long.
pub(super) fn deadline(timeout: Duration) -> Instant {
    Instant::now() + timeout
}
