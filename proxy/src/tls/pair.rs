//! A certificate chain with its private key, as it was given and as it is served.
//!
//! It reads no file and knows no name but to say whether it covers one. Its
//! texts are kept because a hand-over has to give them on: the key of rustls
//! cannot be written.

use std::io;
use std::path::PathBuf;
use std::sync::Arc;

use cutover_wire::table::{Certificate, TableProblem};
use ring::digest::{Context, SHA256};
use rustls::client::verify_server_name;
use rustls::crypto::ring::default_provider;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use rustls::server::ParsedCertificate;
use rustls::sign::CertifiedKey;

use super::validity::{Statement, statement};
use crate::store::chain as causes;

/// The longest text of a chain or a key. TLS clients take chains of 64 KiB at
/// most; PEM is a third longer and may have remarks between.
pub(super) const MAX_TEXT: usize = 128 * 1024;

/// Which of the two is meant.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Part {
    /// The certificates.
    Chain,
    /// The private key.
    Key,
}

impl Part {
    /// Its name in a table.
    pub(super) fn name(self) -> &'static str {
        match self {
            Self::Chain => "chain",
            Self::Key => "key",
        }
    }
}

/// Why there is no pair. It repeats nothing of what was read.
#[derive(Debug, thiserror::Error)]
pub(super) enum Fault {
    /// The file cannot be read.
    #[error("could not read {}", path.display())]
    Unreadable {
        part: Part,
        path: PathBuf,
        #[source]
        source: io::Error,
    },
    /// The path leads to something else than a file.
    #[error("{} is no regular file", path.display())]
    NoFile { part: Part, path: PathBuf },
    /// More than anybody needs.
    #[error("it is longer than {MAX_TEXT} bytes")]
    TooLong(Part),
    /// A section does not end, or is no base64.
    #[error("it is damaged PEM")]
    Pem(Part),
    /// There is no section of the kind.
    #[error("there is no {} in it", match .0 { Part::Chain => "certificate", Part::Key => "unencrypted private key" })]
    Missing(Part),
    /// The chain's own certificate is not understood.
    #[error("its first certificate is not understood")]
    Certificate(#[source] rustls::Error),
    /// The key is of a kind that is not supported, or damaged.
    #[error("it is not understood")]
    Key(#[source] rustls::Error),
    /// The key is that of another certificate.
    #[error("it does not fit the first certificate of the chain")]
    Mismatch,
}

impl Fault {
    fn part(&self) -> Part {
        match self {
            Self::Unreadable { part, .. } | Self::NoFile { part, .. } => *part,
            Self::TooLong(part) | Self::Pem(part) | Self::Missing(part) => *part,
            Self::Certificate(_) => Part::Chain,
            Self::Key(_) | Self::Mismatch => Part::Key,
        }
    }

    fn cure(&self) -> &'static str {
        match self {
            Self::Unreadable { .. } => "put the file there and let the user of the proxy read it",
            Self::NoFile { .. } => "name the file itself",
            Self::TooLong(_) => "leave out what is not of this certificate",
            Self::Pem(_) => "copy the whole text, from BEGIN to END",
            Self::Missing(Part::Chain) => "name the full chain as PEM",
            Self::Missing(Part::Key) => "name the key as PEM, without a passphrase",
            Self::Certificate(_) => "put the certificate of the host first, then its issuers",
            Self::Key(_) => {
                "use an RSA key of 2048 to 8192 bits, ECDSA on P-256 or P-384, or Ed25519"
            }
            Self::Mismatch => "name the key that the certificate was ordered with",
        }
    }

    /// The fault as a mistake in a table, with its place and its cure.
    pub(super) fn problem(&self, name: &str) -> TableProblem {
        TableProblem {
            place: format!("{}.{}", Certificate::place(name), self.part().name()),
            fault: format!("{}; {}", causes(self), self.cure()),
        }
    }
}

/// What is served all the same, but is probably not what somebody wants.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub(super) enum Doubt {
    /// Its time is over.
    #[error("the certificate has expired: clients will refuse it")]
    Expired,
    /// Its time has not come.
    #[error("the certificate is not valid yet: clients will refuse it")]
    Early,
    /// It is for other hosts.
    #[error("the certificate does not cover the name: clients will refuse it")]
    Foreign,
    /// A certificate is missing in the chain, or in the wrong place.
    #[error("a certificate of the chain does not name the next one as its issuer")]
    Disordered,
}

/// See the module.
pub(super) struct Pair {
    chain: Box<[u8]>,
    key: Box<[u8]>,
    digest: [u8; 32],
    certified: Arc<CertifiedKey>,
    from: i64,
    until: i64,
    ordered: bool,
}

/// What tells two pairs apart without keeping them.
pub(super) fn digest(chain: &[u8], key: &[u8]) -> [u8; 32] {
    let mut context = Context::new(&SHA256);
    context.update(&chain.len().to_be_bytes());
    context.update(chain);
    context.update(key);
    let mut digest = [0; 32];
    digest.copy_from_slice(context.finish().as_ref());
    digest
}

impl Pair {
    /// Reads a chain and a key, and makes sure that they can be served together.
    pub(super) fn parse(chain: &[u8], key: &[u8]) -> Result<Self, Fault> {
        for (part, text) in [(Part::Chain, chain), (Part::Key, key)] {
            if text.len() > MAX_TEXT {
                return Err(Fault::TooLong(part));
            }
        }
        let certificates: Result<Vec<CertificateDer<'static>>, _> =
            CertificateDer::pem_slice_iter(chain).collect();
        let certificates = certificates.map_err(|_| Fault::Pem(Part::Chain))?;
        let own = certificates.first().ok_or(Fault::Missing(Part::Chain))?;
        ParsedCertificate::try_from(own).map_err(Fault::Certificate)?;
        // A parser that could not tell the time would make no warning about it.
        let unread = rustls::Error::InvalidCertificate(rustls::CertificateError::BadEncoding);
        let Statement { from, until, .. } = statement(own).ok_or(Fault::Certificate(unread))?;
        let ordered = in_order(&certificates);
        let secret = PrivateKeyDer::from_pem_slice(key).map_err(|error| match error {
            rustls::pki_types::pem::Error::NoItemsFound => Fault::Missing(Part::Key),
            _ => Fault::Pem(Part::Key),
        })?;
        let certified = CertifiedKey::from_der(certificates, secret, &default_provider());
        let certified = certified.map_err(|error| match error {
            rustls::Error::InconsistentKeys(_) => Fault::Mismatch,
            error => Fault::Key(error),
        })?;
        Ok(Self {
            chain: chain.into(),
            key: key.into(),
            digest: digest(chain, key),
            certified: Arc::new(certified),
            from,
            until,
            ordered,
        })
    }

    /// What a handshake is done with.
    pub(super) fn certified(&self) -> &Arc<CertifiedKey> {
        &self.certified
    }

    /// Equal for pairs of equal texts.
    pub(super) fn digest(&self) -> &[u8; 32] {
        &self.digest
    }

    /// Seconds since 1970 until which it is valid.
    pub(super) fn until(&self) -> i64 {
        self.until
    }

    /// Chain and key as they were given; the second is a secret.
    pub(super) fn texts(&self) -> (&[u8], &[u8]) {
        (&self.chain, &self.key)
    }

    /// The bytes of its texts.
    pub(super) fn size(&self) -> usize {
        self.chain.len() + self.key.len()
    }

    /// What is doubtful about serving it for this name now.
    pub(super) fn doubts(&self, name: &str, now: i64) -> Vec<Doubt> {
        let mut doubts = Vec::new();
        if self.until < now {
            doubts.push(Doubt::Expired);
        }
        if now < self.from {
            doubts.push(Doubt::Early);
        }
        if !self.covers(name) {
            doubts.push(Doubt::Foreign);
        }
        if !self.ordered {
            doubts.push(Doubt::Disordered);
        }
        doubts
    }

    fn covers(&self, name: &str) -> bool {
        // A wildcard stands for any label: one that nobody names shows whether
        // the certificate has it.
        let host = match name.strip_prefix("*.") {
            Some(rest) => format!("any-other-label.{rest}"),
            None => name.to_owned(),
        };
        let own = self.certified.end_entity_cert();
        match (own.and_then(ParsedCertificate::try_from), host.try_into()) {
            (Ok(own), Ok(host)) => verify_server_name(&own, &host as &ServerName<'_>).is_ok(),
            // Any host, and names that are none to a certificate.
            _ => true,
        }
    }
}

fn in_order(certificates: &[CertificateDer<'_>]) -> bool {
    certificates.windows(2).all(|pair| {
        let (below, above) = (statement(&pair[0]), statement(&pair[1]));
        match (below, above) {
            (Some(below), Some(above)) => below.issuer == above.subject,
            _ => false,
        }
    })
}
