//! TLS at the front door: certificates, session tickets, and answers to authorities.
//!
//! ```text
//!  table ──load──▶ ┐                        ┌─▶ resolver ─▶ handshake in a worker
//!  files ──renew─▶ ├─ Certificates ──swap───┤
//!  socket ──put──▶ ┘   (what is kept)       └─  live: exact ▸ wildcard ▸ `*`
//! ```
//!
//! A swap is one pointer store: a connection has its certificate from its own
//! handshake and is never touched by a later one. The deadline of a handshake
//! is the caller's, and what is done with a connection that negotiated
//! [`ACME_PROTOCOL`]: it has nothing to say after its handshake and is closed.
//!
//! Invariant: no file is read on a worker. Invariant: a key is written to no
//! file and no log; it leaves the process by a hand-over only.

mod certificates;
mod challenge;
mod file;
mod hand_over;
mod load;
mod pair;
mod renew;
#[cfg(test)]
mod tests;
mod tickets;
mod validity;

use std::fmt;
use std::sync::Arc;

use rustls::ServerConfig;
use rustls::crypto::ring::default_provider;
use rustls::server::ServerSessionMemoryCache;
use tokio_rustls::TlsAcceptor;

use crate::takeover::{SecretError, Secrets};

pub(crate) use certificates::Certificates;
pub(crate) use challenge::{ACME_PROTOCOL, http_challenge};
pub(crate) use load::{Loaded, tell};
pub(crate) use renew::keep_fresh;
pub(crate) use tickets::{NoChance, TicketKeys};

/// Sessions of TLS 1.2 clients that know no tickets, which are few and old; all
/// others bring their session themselves. Each takes some 300 bytes.
const SESSIONS: usize = 1_024;

/// The names under which what lives on is handed over.
const CERTIFICATES: &str = "certificates";
const TICKET_KEYS: &str = "ticket-keys";

/// What TLS needs, and what of it outlives the instance. Clones are the same.
#[derive(Clone)]
pub(crate) struct Tls {
    certificates: Arc<Certificates>,
    tickets: Arc<TicketKeys>,
}

impl fmt::Debug for Tls {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Tls").finish_non_exhaustive()
    }
}

impl Tls {
    /// With what the instance before handed over; what of it is not understood is
    /// made anew, which costs its clients a handshake and no request.
    pub(crate) fn new(handed: &Secrets) -> Result<Self, NoChance> {
        let certificates = Arc::new(Certificates::default());
        if let Some(secret) = handed.find(CERTIFICATES)
            && let Err(error) = certificates.import(&secret)
        {
            tracing::error!(%error, "certificates that were put through the socket are lost: put them again");
        }
        let kept = handed.find(TICKET_KEYS);
        let kept = kept.and_then(|secret| match TicketKeys::import(&secret) {
            Ok(keys) => Some(keys),
            Err(error) => {
                tracing::warn!(%error, "sessions of TLS are not resumed");
                None
            }
        });
        let tickets = match kept {
            Some(keys) => keys,
            None => TicketKeys::new()?,
        };
        Ok(Self {
            certificates,
            tickets: Arc::new(tickets),
        })
    }

    /// Puts what lives on to what is handed over.
    pub(crate) fn hand_over(&self, secrets: &Secrets) -> Result<(), SecretError> {
        secrets.put(TICKET_KEYS, &self.tickets.export())?;
        secrets.put(CERTIFICATES, &self.certificates.export())
    }

    /// The certificates.
    pub(crate) fn certificates(&self) -> &Arc<Certificates> {
        &self.certificates
    }

    /// What a worker takes connections with.
    pub(crate) fn acceptor(&self) -> Result<TlsAcceptor, rustls::Error> {
        let (certificates, tickets) = (Arc::clone(&self.certificates), Arc::clone(&self.tickets));
        server_config(certificates, tickets).map(TlsAcceptor::from)
    }
}

/// How every worker speaks TLS: 1.2 and 1.3 with the suites, groups and
/// preferences that rustls thinks safe, and no early data, which could be replayed.
fn server_config(
    certificates: Arc<Certificates>,
    tickets: Arc<TicketKeys>,
) -> Result<Arc<ServerConfig>, rustls::Error> {
    let mut config = ServerConfig::builder_with_provider(Arc::new(default_provider()))
        .with_safe_default_protocol_versions()?
        .with_no_client_auth()
        .with_cert_resolver(certificates);
    // The order is ours; no client offers the last one beside another.
    config.alpn_protocols = [b"h2".as_slice(), b"http/1.1", ACME_PROTOCOL]
        .map(<[u8]>::to_vec)
        .to_vec();
    config.ticketer = tickets;
    config.session_storage = ServerSessionMemoryCache::new(SESSIONS);
    Ok(Arc::new(config))
}
