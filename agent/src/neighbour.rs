//! A call to the agent that runs on this host, over its socket: what
//! `cutover-agent plan` asks, and how the watchdog learns whether the inbox answers.
//!
//! One request on a connection of its own, over when its time is.

use std::io;
use std::path::{Path, PathBuf};
use std::time::Duration;

use bytes::Bytes;
use cutover_plan::spec::render_duration;
use cutover_wire::agent::{HEALTHZ, Problem, QUERIES};
use cutover_wire::request::Query;
use http::header::{CONTENT_TYPE, HOST};
use http::{Method, Request, StatusCode};
use http_body_util::{BodyExt as _, Full, Limited};
use hyper_util::rt::TokioIo;
use serde::de::DeserializeOwned;
use tokio::net::UnixStream;

/// The longest answer: a plan of the most steps has some hundred kilobytes.
const MAX_ANSWER: usize = 4 * 1024 * 1024;

/// The agent at a socket.
#[derive(Debug, Clone)]
pub struct Neighbour {
    path: PathBuf,
}

/// Why it did not answer as it was hoped for.
#[derive(Debug, thiserror::Error)]
pub enum NeighbourError {
    /// Nobody listens, or we may not speak to whoever does.
    #[error("no agent is reached at {}", path.display())]
    Unreached {
        /// The socket.
        path: PathBuf,
        /// What the system says.
        #[source]
        source: io::Error,
    },
    /// It took too long.
    #[error("the agent did not answer within {}", render_duration(*.0))]
    Silent(Duration),
    /// The connection ended in the middle.
    #[error("the connection to the agent broke")]
    Broken(#[source] Box<dyn std::error::Error + Send + Sync>),
    /// It said no.
    #[error("{}", .0.message)]
    Refused(Box<Problem>),
    /// It says something that no agent says.
    #[error("what answers at the socket is no agent of this version: {0}")]
    Foreign(String),
}

impl NeighbourError {
    /// What a person can do about it.
    pub fn hint(&self) -> Option<String> {
        match self {
            Self::Unreached { source, .. } => Some(match source.kind() {
                io::ErrorKind::PermissionDenied => {
                    "do it as root, or as a member of the socket's group".to_owned()
                }
                _ => "start it: systemctl start cutover-agent; its log tells why it does not run: journalctl -u cutover-agent".to_owned(),
            }),
            Self::Silent(_) | Self::Broken(_) => {
                Some("look at its log: journalctl -u cutover-agent".to_owned())
            }
            Self::Refused(problem) => problem.hint.clone(),
            Self::Foreign(_) => Some("restart it after an upgrade: systemctl restart cutover-agent".to_owned()),
        }
    }
}

impl Neighbour {
    /// The agent that listens at `path`.
    pub fn at(path: &Path) -> Self {
        Self {
            path: path.to_owned(),
        }
    }

    /// Asks something that changes nothing.
    pub async fn query<T: DeserializeOwned>(
        &self,
        query: &Query,
        limit: Duration,
    ) -> Result<T, NeighbourError> {
        let body = serde_json::to_vec(query);
        let body = body.map_err(|error| NeighbourError::Foreign(error.to_string()))?;
        let (status, body) = self.ask(Method::POST, QUERIES, body, limit).await?;
        if status.is_success() {
            let read = serde_json::from_slice(&body);
            return read.map_err(|error| NeighbourError::Foreign(error.to_string()));
        }
        Err(match serde_json::from_slice(&body) {
            Ok(problem) => NeighbourError::Refused(Box::new(problem)),
            Err(_) => NeighbourError::Foreign(format!("it answers {status}")),
        })
    }

    /// Whether it takes requests and answers them.
    pub async fn is_well(&self, limit: Duration) -> Result<(), NeighbourError> {
        let (status, _) = self.ask(Method::GET, HEALTHZ, Vec::new(), limit).await?;
        match status.is_success() {
            true => Ok(()),
            false => Err(NeighbourError::Foreign(format!("it answers {status}"))),
        }
    }

    async fn ask(
        &self,
        method: Method,
        path: &str,
        body: Vec<u8>,
        limit: Duration,
    ) -> Result<(StatusCode, Bytes), NeighbourError> {
        let asked = tokio::time::timeout(limit, self.exchange(method, path, body));
        asked.await.unwrap_or(Err(NeighbourError::Silent(limit)))
    }

    async fn exchange(
        &self,
        method: Method,
        path: &str,
        body: Vec<u8>,
    ) -> Result<(StatusCode, Bytes), NeighbourError> {
        let broken = |error: hyper::Error| NeighbourError::Broken(error.into());
        let stream = UnixStream::connect(&self.path).await;
        let stream = stream.map_err(|source| NeighbourError::Unreached {
            path: self.path.clone(),
            source,
        })?;
        let request = Request::builder()
            .method(method)
            .uri(path)
            .header(HOST, "localhost")
            .header(CONTENT_TYPE, "application/json")
            .body(Full::new(Bytes::from(body)))
            .map_err(|error| NeighbourError::Broken(error.into()))?;
        let shaken = hyper::client::conn::http1::handshake(TokioIo::new(stream)).await;
        let (mut sender, connection) = shaken.map_err(broken)?;
        let exchange = async {
            let answer = sender.send_request(request).await.map_err(broken)?;
            let status = answer.status();
            let body = Limited::new(answer.into_body(), MAX_ANSWER).collect().await;
            let body = body.map_err(NeighbourError::Broken)?;
            Ok((status, body.to_bytes()))
        };
        let mut exchange = std::pin::pin!(exchange);
        tokio::select! {
            biased;
            answered = &mut exchange => answered,
            // The connection ends by itself when the answer has been read, too.
            _ = connection => exchange.await,
        }
    }
}
