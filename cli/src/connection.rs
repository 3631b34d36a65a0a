//! One connection to the agent for one request.
//!
//! There is no pool: a deploy makes a handful of calls, and a connection that
//! was opened now cannot be one that died unnoticed. Each step of opening it
//! fails with its own error, because each has another cure.

use std::io;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http_body_util::Full;
use hyper::client::conn::http1::{SendRequest, handshake};
use hyper_util::rt::TokioIo;
use rustls::pki_types::ServerName;
use rustls::{CertificateError, ClientConfig, RootCertStore};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpStream, UnixStream, lookup_host};
use tokio::time::timeout;

use crate::endpoint::{Address, Endpoint, Tls};

/// How long one address may take: two lost packets are sent again in 3 s.
const CONNECT: Duration = Duration::from_secs(5);
/// Addresses tried of one name: IPv6 and IPv4, each twice.
const MAX_ADDRESSES: usize = 4;

/// Why there is no connection; nothing was sent.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ConnectError {
    #[error("the name {host} has no address")]
    Resolve { host: String, source: io::Error },
    #[error("nobody answers at {address}")]
    Tcp {
        address: SocketAddr,
        source: io::Error,
    },
    #[error("the socket {} does not answer", path.display())]
    Socket { path: PathBuf, source: io::Error },
    #[error("no encrypted connection to {host}")]
    Tls { host: String, source: io::Error },
    #[error("this machine names no certificate authorities")]
    NoRoots,
    #[error("the connection broke while it was opened")]
    Handshake { source: hyper::Error },
}

impl ConnectError {
    /// What the person can do.
    pub(crate) fn hint(&self) -> String {
        match self {
            Self::Resolve { host, .. } => {
                format!("is {host} spelt right, and does this machine's DNS know it?")
            }
            Self::Tcp { source, .. } if source.kind() == io::ErrorKind::ConnectionRefused => {
                "the host is up, but nothing listens on that port: is the agent running (systemctl status cutover-agent), and is the port right?".to_owned()
            }
            Self::Tcp { .. } => {
                "does the host run, and does a firewall let this machine through to that port?".to_owned()
            }
            Self::Socket { source, .. } => match source.kind() {
                io::ErrorKind::PermissionDenied => {
                    "join the group cutover (sudo usermod -aG cutover $USER, then log in again), or use sudo".to_owned()
                }
                io::ErrorKind::NotFound | io::ErrorKind::ConnectionRefused => {
                    "the agent does not run on this host: systemctl status cutover-agent; for another host use --url".to_owned()
                }
                _ => "name the agent's socket with --socket".to_owned(),
            },
            Self::Tls { source, .. } => tls_hint(source),
            Self::NoRoots => {
                "install the package ca-certificates, or name a file of certificates in SSL_CERT_FILE".to_owned()
            }
            Self::Handshake { .. } => "is this the agent's port?".to_owned(),
        }
    }

    /// Whether the same attempt may go better a moment later.
    pub(crate) fn may_pass(&self) -> bool {
        match self {
            Self::Socket { source, .. } => source.kind() != io::ErrorKind::PermissionDenied,
            // A certificate does not become right by asking again.
            Self::Tls { source, .. } => certificate(source).is_none(),
            Self::NoRoots => false,
            Self::Resolve { .. } | Self::Tcp { .. } | Self::Handshake { .. } => true,
        }
    }
}

fn certificate(error: &io::Error) -> Option<&CertificateError> {
    match error.get_ref()?.downcast_ref()? {
        rustls::Error::InvalidCertificate(fault) => Some(fault),
        _ => None,
    }
}

fn tls_hint(error: &io::Error) -> String {
    match certificate(error) {
        Some(CertificateError::UnknownIssuer) => "the certificate is signed by an authority that this machine does not trust: use one that is public, or name yours in SSL_CERT_FILE",
        Some(CertificateError::Expired | CertificateError::ExpiredContext { .. }) => "the certificate has expired: renew it (and look at this machine's clock)",
        Some(CertificateError::NotValidYet | CertificateError::NotValidYetContext { .. }) => "the certificate is from the future: look at this machine's clock",
        Some(CertificateError::NotValidForName | CertificateError::NotValidForNameContext { .. }) => "the certificate is for another name: use the name that stands in it",
        Some(_) => "the certificate is wrong: see the cause",
        None => "does that port speak TLS? A plain port needs http://",
    }
    .to_owned()
}

/// What carries a conversation.
trait Stream: AsyncRead + AsyncWrite + Send + Unpin {}
impl<T: AsyncRead + AsyncWrite + Send + Unpin> Stream for T {}

/// Opens connections to one endpoint.
#[derive(Clone)]
pub(crate) struct Dialer {
    endpoint: Endpoint,
    tls: Option<Arc<ClientConfig>>,
}

impl Dialer {
    /// Reads the certificates that the machine trusts, if they are needed.
    pub(crate) fn new(endpoint: Endpoint) -> Result<Self, ConnectError> {
        let encrypted = matches!(&endpoint, Endpoint::Network(address) if address.tls == Tls::On);
        let tls = encrypted.then(client_config).transpose()?;
        Ok(Self { endpoint, tls })
    }

    /// Opens a connection.
    pub(crate) async fn dial(&self) -> Result<SendRequest<Full<Bytes>>, ConnectError> {
        let stream: Box<dyn Stream> = match &self.endpoint {
            Endpoint::Socket(path) => {
                let failed = |source| ConnectError::Socket {
                    path: path.clone(),
                    source,
                };
                let connected = within(CONNECT, UnixStream::connect(path)).await;
                Box::new(connected.map_err(failed)?)
            }
            Endpoint::Network(address) => self.network(address).await?,
        };
        let opened = handshake(TokioIo::new(stream)).await;
        let (sender, connection) = opened.map_err(|source| ConnectError::Handshake { source })?;
        // An error of the connection reaches the request that waits for it.
        tokio::spawn(connection);
        Ok(sender)
    }

    async fn network(&self, address: &Address) -> Result<Box<dyn Stream>, ConnectError> {
        let stream = tcp(address).await?;
        let Some(config) = &self.tls else {
            return Ok(Box::new(stream));
        };
        let failed = |source| ConnectError::Tls {
            host: address.host.clone(),
            source,
        };
        let name = ServerName::try_from(address.host.clone());
        let name = name.map_err(|error| failed(io::Error::other(error)))?;
        let connector = tokio_rustls::TlsConnector::from(Arc::clone(config));
        let encrypted = within(CONNECT, connector.connect(name, stream)).await;
        Ok(Box::new(encrypted.map_err(failed)?))
    }
}

async fn tcp(address: &Address) -> Result<TcpStream, ConnectError> {
    let unresolved = |source| ConnectError::Resolve {
        host: address.host.clone(),
        source,
    };
    let lookup = lookup_host((address.host.as_str(), address.port));
    let found = within(CONNECT, lookup).await.map_err(unresolved)?;
    let mut failed = unresolved(io::ErrorKind::NotFound.into());
    for address in found.take(MAX_ADDRESSES) {
        match within(CONNECT, TcpStream::connect(address)).await {
            Ok(stream) => return Ok(stream),
            Err(source) => failed = ConnectError::Tcp { address, source },
        }
    }
    Err(failed)
}

async fn within<T>(limit: Duration, work: impl Future<Output = io::Result<T>>) -> io::Result<T> {
    let late = |_| io::Error::new(io::ErrorKind::TimedOut, format!("no answer in {limit:?}"));
    timeout(limit, work).await.map_err(late)?
}

fn client_config() -> Result<Arc<ClientConfig>, ConnectError> {
    let mut roots = RootCertStore::empty();
    let found = rustls_native_certs::load_native_certs();
    roots.add_parsable_certificates(found.certs);
    if roots.is_empty() {
        return Err(ConnectError::NoRoots);
    }
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let builder =
        ClientConfig::builder_with_provider(provider).with_safe_default_protocol_versions();
    let builder = match builder {
        Ok(builder) => builder,
        Err(_) => unreachable!("ring has suites of TLS 1.2 and 1.3"),
    };
    let config = builder.with_root_certificates(roots).with_no_client_auth();
    Ok(Arc::new(config))
}
