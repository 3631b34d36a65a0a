//! Certificates of tests, made anew each time: of those of the process and of those
//! of the module `tls`, which includes this very file.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use cutover_wire::table::Certificate;
use rcgen::{CertificateParams, KeyPair};

/// A certificate of a test with its key.
pub(crate) struct Given {
    /// The first of its names.
    pub(crate) name: String,
    /// Both as PEM.
    pub(crate) chain: String,
    pub(crate) key: String,
    /// The certificate as a client sees it.
    pub(crate) der: Vec<u8>,
}

impl Given {
    pub(crate) fn of(names: &[&str]) -> Self {
        Self::with(names, |_| {})
    }

    /// The same, changed before it is signed.
    pub(crate) fn with(names: &[&str], change: impl FnOnce(&mut CertificateParams)) -> Self {
        let names: Vec<String> = names.iter().map(ToString::to_string).collect();
        let name = names[0].clone();
        let mut wanted = CertificateParams::new(names).unwrap();
        change(&mut wanted);
        let key = KeyPair::generate().unwrap();
        let certificate = wanted.self_signed(&key).unwrap();
        Self {
            name,
            chain: pem("CERTIFICATE", certificate.der()),
            key: pem("PRIVATE KEY", &key.serialize_der()),
            der: certificate.der().to_vec(),
        }
    }

    /// Writes it as a renewal does: beside, and then in the place of what was there.
    pub(crate) fn write(&self, directory: &Path) -> Certificate {
        let at = |end: &str| directory.join(format!("{}.{end}", self.name));
        for (end, text) in [("crt", &self.chain), ("key", &self.key)] {
            fs::write(at("new"), text).unwrap();
            fs::set_permissions(at("new"), fs::Permissions::from_mode(0o600)).unwrap();
            fs::rename(at("new"), at(end)).unwrap();
        }
        let path = |end: &str| at(end).to_str().unwrap().to_owned();
        Certificate {
            chain: path("crt"),
            key: path("key"),
        }
    }
}

/// Base64 between marks (RFC 7468).
pub(crate) fn pem(kind: &str, der: &[u8]) -> String {
    const LETTERS: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let mut text = String::new();
    for group in der.chunks(3) {
        let bits = (0..3).fold(0, |bits, at| {
            (bits << 8) | u32::from(group.get(at).copied().unwrap_or(0))
        });
        for at in 0..4 {
            let letter = LETTERS[(bits >> (18 - 6 * at)) as usize & 63];
            text.push(if at > group.len() {
                '='
            } else {
                char::from(letter)
            });
        }
    }
    format!("-----BEGIN {kind}-----\n{text}\n-----END {kind}-----\n")
}
