//! What is answered to an authority that proves who holds a domain.
//!
//! For tls-alpn-01 (RFC 8737) it is a certificate of our own making that has the
//! digest in it, for http-01 (RFC 8555) a text. It orders no certificate.

use std::sync::Arc;

use cutover_wire::table::AcmeAnswers;
use rcgen::{CertificateParams, CustomExtension, DistinguishedName, DnType, KeyPair};
use rustls::Error;
use rustls::crypto::ring::default_provider;
use rustls::pki_types::{PrivateKeyDer, PrivatePkcs8KeyDer};
use rustls::server::ClientHello;
use rustls::sign::CertifiedKey;

/// The protocol that an authority asks for, and nobody else.
pub(crate) const ACME_PROTOCOL: &[u8] = b"acme-tls/1";

/// Where an authority looks for the answer to http-01.
const HTTP_PREFIX: &str = "/.well-known/acme-challenge/";

/// The bytes of a SHA-256 digest.
const DIGEST_BYTES: usize = 32;

/// Why there is no certificate for an answer.
#[derive(Debug, thiserror::Error)]
pub(super) enum ChallengeError {
    /// It is not 64 hexadecimal digits.
    #[error("the digest cannot be read")]
    Digest,
    /// The name cannot stand in a certificate, or there was no chance for a key.
    #[error("the certificate could not be made")]
    Make(#[from] rcgen::Error),
    /// The key that was made is not understood.
    #[error("the certificate cannot be served")]
    Serve(#[from] Error),
}

/// The certificate that answers the challenge of one domain.
#[derive(Clone)]
pub(super) struct Challenge {
    pub(super) digest: String,
    pub(super) certified: Arc<CertifiedKey>,
}

impl Challenge {
    /// Makes it, with a key of its own.
    pub(super) fn make(domain: &str, digest: &str) -> Result<Self, ChallengeError> {
        let bytes = parse_digest(digest).ok_or(ChallengeError::Digest)?;
        let mut wanted = CertificateParams::new(vec![domain.to_owned()])?;
        wanted.distinguished_name = DistinguishedName::new();
        let owner = "answer to a challenge";
        wanted.distinguished_name.push(DnType::CommonName, owner);
        wanted.custom_extensions = vec![CustomExtension::new_acme_identifier(&bytes)];
        let key = KeyPair::generate()?;
        let certificate = wanted.self_signed(&key)?;
        let key = PrivateKeyDer::from(PrivatePkcs8KeyDer::from(key.serialize_der()));
        let chain = vec![certificate.der().clone()];
        // Without the look whether they fit: it reads the certificate as a client
        // would, and to all but the authority the extension is a reason to refuse it.
        let key = default_provider().key_provider.load_private_key(key)?;
        let certified = CertifiedKey::new(chain, key);
        Ok(Self {
            digest: digest.to_owned(),
            certified: Arc::new(certified),
        })
    }
}

/// Whether a client is an authority with a challenge: it offers that and nothing else.
pub(super) fn is_asked(hello: &ClientHello<'_>) -> bool {
    let offered = hello.alpn();
    offered.is_some_and(|offered| offered.eq([ACME_PROTOCOL]))
}

/// The answer to http-01, if the path asks for one that is open.
pub(crate) fn http_challenge<'a>(answers: &'a AcmeAnswers, path: &str) -> Option<&'a str> {
    let token = path.strip_prefix(HTTP_PREFIX)?;
    answers.http.get(token).map(String::as_str)
}

fn parse_digest(text: &str) -> Option<[u8; DIGEST_BYTES]> {
    let mut bytes = [0; DIGEST_BYTES];
    if text.len() != 2 * DIGEST_BYTES {
        return None;
    }
    for (byte, digits) in bytes.iter_mut().zip(text.as_bytes().chunks(2)) {
        let digits = str::from_utf8(digits).ok()?;
        *byte = u8::from_str_radix(digits, 16).ok()?;
    }
    Some(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(path: &str, expected: Option<&str>) {
        let answers = AcmeAnswers {
            http: [("abc_-1".to_owned(), "abc_-1.print".to_owned())].into(),
            ..AcmeAnswers::default()
        };
        assert_eq!(http_challenge(&answers, path), expected, "{path}");
    }

    #[test]
    fn an_open_challenge_is_answered_at_its_own_path_only() {
        check("/.well-known/acme-challenge/abc_-1", Some("abc_-1.print"));
        check("/.well-known/acme-challenge/abc_-2", None);
        check("/.well-known/acme-challenge/", None);
        check("/.well-known/acme-challenge/abc_-1/", None);
        check("/.well-known/acme-challenge/../acme-challenge/abc_-1", None);
        check("/x/.well-known/acme-challenge/abc_-1", None);
        check("/abc_-1", None);
    }

    #[test]
    fn a_challenge_certificate_has_the_digest_in_a_critical_extension_and_the_domain_alone() {
        let digest = "0123456789abcdef".repeat(4);
        let made = Challenge::make("a.example", &digest).unwrap();
        let der = made.certified.cert[0].as_ref();
        // 1.3.6.1.5.5.7.1.31, critical, an octet string in an octet string.
        let mut extension = vec![0x06, 0x08, 0x2B, 6, 1, 5, 5, 7, 1, 31];
        extension.extend([0x01, 0x01, 0xFF, 0x04, 0x22, 0x04, 0x20]);
        extension.extend(parse_digest(&digest).unwrap());
        assert!(der.windows(extension.len()).any(|part| part == extension));
        // The alternative names: a sequence of one DNS name.
        let mut names = vec![0x06, 0x03, 0x55, 0x1D, 0x11, 0x04, 13, 0x30, 11, 0x82, 9];
        names.extend(b"a.example");
        assert!(der.windows(names.len()).any(|part| part == names));
    }

    #[test]
    fn a_wrong_digest_is_an_error() {
        for digest in ["", "12", &"g".repeat(64), &"é".repeat(32), &"0".repeat(65)] {
            assert!(Challenge::make("a.example", digest).is_err(), "{digest}");
        }
    }
}
