//! Where the engine is, and one call to it with its deadline.

use std::path::Path;
use std::time::Duration;

use bollard::BollardRequest;
use futures_util::StreamExt as _;
use http::Uri;
use http::uri::PathAndQuery;
use log::LevelFilter;
use serde::de::DeserializeOwned;

use super::failure::Fault;

// The engine's client writes whole requests and answers to the log at debug
// level, a container's variables among them. A build that could write such
// lines, whatever RUST_LOG says, is refused.
const _: () = assert!(
    matches!(log::STATIC_MAX_LEVEL, LevelFilter::Info),
    "build log with its feature max_level_info"
);

/// Where Docker Engine's packages put its socket.
const DEFAULT_SOCKET: &str = "/var/run/docker.sock";

/// For a question whose answer the engine has at hand. It is a minute because
/// an engine on a busy disk stands still for some tens of seconds.
pub(super) const QUESTION: Duration = Duration::from_secs(60);

/// The header in which the engine gets a registry's credentials.
const REGISTRY_CREDENTIALS: &str = "x-registry-auth";

/// Where the engine is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Connection {
    /// Its socket on this host.
    Socket(String),
    /// A `http://` address, as a proxy before the socket has.
    Address(String),
}

/// A text that names no engine.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error(
    "{0:?} is no address of a container engine: write unix:///path/to/docker.sock or tcp://127.0.0.1:2375"
)]
pub struct HostError(pub String);

impl Connection {
    pub(super) fn parse(host: Option<&str>) -> Result<Self, HostError> {
        let host = host.unwrap_or(DEFAULT_SOCKET);
        let path = host.strip_prefix("unix://").unwrap_or(host);
        if path.starts_with('/') && path.len() > 1 {
            return Ok(Self::Socket(path.to_owned()));
        }
        let address = host
            .strip_prefix("tcp://")
            .or_else(|| host.strip_prefix("http://"));
        match address {
            Some(address) if !address.is_empty() => Ok(Self::Address(format!("http://{address}"))),
            _ => Err(HostError(host.to_owned())),
        }
    }

    /// Whether the engine is surely on this host, so that its disk and memory are ours.
    pub(super) fn is_local(&self) -> bool {
        matches!(self, Self::Socket(_))
    }

    /// Makes one call and waits for its whole answer, at most for `limit`;
    /// `what` is what is being done, for the error.
    pub(super) async fn call<T, F>(
        &self,
        what: impl Into<String>,
        limit: Duration,
        call: impl FnOnce(bollard::Docker) -> F,
    ) -> Result<T, Fault>
    where
        F: Future<Output = Result<T, bollard::errors::Error>>,
    {
        let what = what.into();
        let client = self.client(&what, limit)?;
        match tokio::time::timeout(limit, call(client)).await {
            Ok(Ok(answer)) => Ok(answer),
            Ok(Err(error)) => Err(Fault::new(what, &error)),
            Err(_) => Err(Fault::silence(what, limit)),
        }
    }

    /// Asks for `path` and reads the answer without the client's own types, which
    /// take no word that Docker Engine does not say. Its one way to bytes is an
    /// export, so that is sent, to another path.
    pub(super) async fn read<T: DeserializeOwned>(
        &self,
        what: impl Into<String>,
        path: &str,
    ) -> Result<T, Fault> {
        let what = what.into();
        let goal = PathAndQuery::try_from(path);
        let goal = goal.map_err(|error| Fault::unreadable(what.clone(), &error))?;
        let bytes = self.call(what.clone(), QUESTION, async |client| {
            let client = client.with_request_modifier(move |request| turned(request, &goal));
            let mut answer = std::pin::pin!(client.export_container(""));
            let mut bytes = Vec::new();
            while let Some(piece) = answer.next().await {
                bytes.extend_from_slice(&piece?);
            }
            Ok(bytes)
        });
        let bytes = bytes.await?;
        serde_json::from_slice(&bytes).map_err(|error| Fault::unreadable(what, &error))
    }

    /// A client that gives up on the head of an answer after `limit`.
    pub(super) fn client(&self, what: &str, limit: Duration) -> Result<bollard::Docker, Fault> {
        let seconds = limit.as_secs().saturating_add(1);
        // What the client compares answers with; it does not write it into a path, so
        // every engine answers in its own newest.
        let version = bollard::API_DEFAULT_VERSION;
        let client = match self {
            Self::Socket(path) if !Path::new(path).exists() => {
                return Err(Fault::no_socket(what.to_owned(), path));
            }
            Self::Socket(path) => bollard::Docker::connect_with_unix(path, seconds, version),
            Self::Address(address) => bollard::Docker::connect_with_http(address, seconds, version),
        };
        let client = client.map_err(|error| Fault::new(what.to_owned(), &error))?;
        Ok(client.with_request_modifier(spell_credentials))
    }
}

/// The request, to another path of the same engine.
fn turned(mut request: BollardRequest, goal: &PathAndQuery) -> BollardRequest {
    let mut parts = request.uri().clone().into_parts();
    parts.path_and_query = Some(goal.clone());
    if let Ok(uri) = Uri::from_parts(parts) {
        *request.uri_mut() = uri;
    }
    request
}

/// Spells the credentials' header in the alphabet that the engine reads.
///
/// The client writes plain base64, the engine reads the one for URLs, and
/// takes what it cannot read for no credentials at all: a password with `>`,
/// `?` or `~` in some places would be refused by the registry without a cause
/// to be seen.
fn spell_credentials(mut request: BollardRequest) -> BollardRequest {
    let plain = request.headers().get(REGISTRY_CREDENTIALS);
    let Some(plain) = plain.and_then(|value| value.to_str().ok()) else {
        return request;
    };
    let spelled = plain.replace('+', "-").replace('/', "_");
    if let Ok(mut value) = http::HeaderValue::try_from(spelled) {
        value.set_sensitive(true);
        request.headers_mut().insert(REGISTRY_CREDENTIALS, value);
    }
    request
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(host: Option<&str>, expected: Option<Connection>) {
        assert_eq!(Connection::parse(host).ok(), expected, "{host:?}");
    }

    #[test]
    fn an_engine_is_named_as_docker_host_names_it() {
        let socket = |path: &str| Some(Connection::Socket(path.to_owned()));
        let address = |text: &str| Some(Connection::Address(text.to_owned()));
        check(None, socket("/var/run/docker.sock"));
        check(
            Some("unix:///run/podman/podman.sock"),
            socket("/run/podman/podman.sock"),
        );
        check(Some("/run/docker.sock"), socket("/run/docker.sock"));
        check(
            Some("tcp://127.0.0.1:2375"),
            address("http://127.0.0.1:2375"),
        );
        check(
            Some("http://127.0.0.1:2375"),
            address("http://127.0.0.1:2375"),
        );
        check(Some("ssh://root@example.com"), None);
        check(Some("docker.sock"), None);
        check(Some("tcp://"), None);
        check(Some(""), None);
        check(Some("unix://"), None);
    }
}
