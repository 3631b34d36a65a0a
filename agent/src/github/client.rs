//! Calls to GitHub: sent once each, with time-outs and limits.
//!
//! It repeats nothing and follows no redirection. A second try belongs to the
//! outbox, which knows that the first may have had its effect; octocrab's own
//! would create a deployment twice.

use std::error::Error as _;
use std::sync::Mutex;

use http::{Method, Uri, header};
use http_body_util::{BodyExt as _, Limited};
use hyper_rustls::HttpsConnectorBuilder;
use hyper_util::client::legacy;
use hyper_util::rt::TokioExecutor;
use octocrab::secrecy::SecretString;
use octocrab::service::middleware::base_uri::BaseUriLayer;
use octocrab::{AuthState, OctoBody, Octocrab, OctocrabBuilder};
use serde_json::Value;

use super::answer::Answer;
use super::failure::{Failure, Missing};
use super::text::chain;
use super::{Options, lock};
use crate::clock::Clock;

/// Why GitHub cannot be called at all.
#[derive(Debug, thiserror::Error)]
pub enum GithubError {
    /// The configured address is none.
    #[error("the address of GitHub's API {0:?} is not a URL such as https://api.github.com")]
    Address(String),
    /// The configured address would show the credential to the network.
    #[error(
        "the address of GitHub's API {0:?} is not https, and a credential would be sent to it in the clear"
    )]
    Clear(String),
    /// The client could not be made.
    #[error("the client for GitHub's API could not be made: {0}")]
    Client(String),
}

/// A page of a hundred deployments with payloads of other tools fits; a
/// gateway that streams without end does not.
const LONGEST_ANSWER: usize = 8 << 20;

/// What GitHub asks every client to say about itself.
const USER_AGENT: &str = concat!("cutover/", env!("CARGO_PKG_VERSION"));

/// The way to GitHub, without a credential of its own.
pub(super) struct Client {
    crab: Octocrab,
    clock: Clock,
    /// Until when GitHub asked to be left alone, in seconds since 1970. The
    /// limit is the credential's, so it holds for every repository.
    quiet_until: Mutex<i64>,
}

impl Client {
    pub(super) fn new(options: &Options, clock: Clock) -> Result<Self, GithubError> {
        let address = || options.api_url.clone();
        let uri: Uri = options
            .api_url
            .parse()
            .map_err(|_| GithubError::Address(address()))?;
        match (uri.scheme_str(), uri.host()) {
            (Some("https"), Some(_)) => {}
            (Some("http"), Some("127.0.0.1" | "[::1]" | "localhost")) => {}
            (Some("http"), Some(_)) => return Err(GithubError::Clear(address())),
            _ => return Err(GithubError::Address(address())),
        }
        let crab = connect(uri, options).map_err(GithubError::Client)?;
        Ok(Self {
            crab,
            clock,
            quiet_until: Mutex::new(i64::MIN),
        })
    }

    /// Seconds since 1970.
    pub(super) fn now(&self) -> i64 {
        (self.clock)().as_second()
    }

    pub(super) async fn get(&self, token: &SecretString, path: &str) -> Result<Answer, Failure> {
        self.send(token, Method::GET, path, None).await
    }

    pub(super) async fn post(
        &self,
        token: &SecretString,
        path: &str,
        body: &Value,
    ) -> Result<Answer, Failure> {
        self.send(token, Method::POST, path, Some(body)).await
    }

    /// Reads an answer that is not the one hoped for. When GitHub asks to be
    /// left alone, that is remembered, whatever is called next.
    pub(super) fn refusal(&self, answer: &Answer, what: &str, missing: Missing) -> Failure {
        let failure = Failure::of(answer, what, missing, self.now());
        if let Failure::Limited(seconds) = &failure {
            let until = self.now().saturating_add_unsigned(*seconds);
            let mut quiet = lock(&self.quiet_until);
            *quiet = until.max(*quiet);
        }
        failure
    }

    async fn send(
        &self,
        token: &SecretString,
        method: Method,
        path: &str,
        body: Option<&Value>,
    ) -> Result<Answer, Failure> {
        let quiet = lock(&self.quiet_until).saturating_sub(self.now());
        if let Ok(seconds @ 1..) = u64::try_from(quiet) {
            return Err(Failure::Limited(seconds));
        }
        let reads = method == Method::GET;
        let failed = |error: octocrab::Error| {
            let reason = format!("{method} {path}: {}", chain(&error));
            match reads || never_left(&error) {
                true => Failure::Unreachable(reason),
                false => Failure::Lost(reason),
            }
        };
        let crab = self
            .crab
            .user_access_token(token.clone())
            .map_err(&failed)?;
        let builder = http::Request::builder().method(method.clone()).uri(path);
        let builder = builder
            .header(header::USER_AGENT, USER_AGENT)
            .header(header::ACCEPT, "application/vnd.github+json");
        let request = crab.build_request(builder, body).map_err(&failed)?;
        let response = crab.execute(request).await.map_err(&failed)?;
        let (parts, body) = response.into_parts();
        let body = match Limited::new(body, LONGEST_ANSWER).collect().await {
            Ok(body) => body.to_bytes(),
            Err(error) => {
                let reason = format!("{method} {path}: {}", chain(error.as_ref()));
                return Err(Failure::Lost(reason));
            }
        };
        Ok(Answer {
            status: parts.status,
            headers: parts.headers,
            body,
        })
    }
}

/// The client is put together from octocrab's parts. The one that octocrab
/// makes by itself calls itself `octocrab` in a User-Agent before ours, repeats
/// calls, and logs every failure as an error of its own.
fn connect(uri: Uri, options: &Options) -> Result<Octocrab, String> {
    // More than one provider may be linked, and rustls then refuses to choose.
    // A second call fails, and the first one's choice stays.
    let _ = rustls::crypto::ring::default_provider().install_default();
    let secure = HttpsConnectorBuilder::new()
        .with_native_roots()
        .map_err(|error| format!("no certificate authorities: {error}"))?
        .https_or_http()
        .enable_http1()
        .build();
    let connector = OctocrabBuilder::default()
        .set_connect_timeout(Some(options.connect_timeout))
        .set_read_timeout(Some(options.read_timeout))
        .set_write_timeout(Some(options.read_timeout))
        .set_connect_timeout_service(secure);
    let client = legacy::Client::builder(TokioExecutor::new()).build::<_, OctoBody>(connector);
    match OctocrabBuilder::new_empty()
        .with_service(client)
        .with_layer(&BaseUriLayer::new(uri))
        .with_auth(AuthState::None)
        .build()
    {
        Ok(crab) => Ok(crab),
        Err(never) => match never {},
    }
}

/// Whether no connection was made, so that the call cannot have had an effect.
fn never_left(error: &octocrab::Error) -> bool {
    let mut cause = error.source();
    while let Some(error) = cause {
        if let Some(error) = error.downcast_ref::<legacy::Error>() {
            return error.is_connect();
        }
        cause = error.source();
    }
    false
}
