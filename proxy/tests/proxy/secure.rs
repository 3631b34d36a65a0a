//! Certificates of tests, made anew each time, and clients that speak TLS.

use std::fs;
use std::io;
use std::net::{SocketAddr, TcpStream};
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::sync::Arc;

use cutover_wire::table::Certificate;
use rcgen::{CertificateParams, KeyPair};
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::ring::default_provider;
use rustls::crypto::{verify_tls12_signature, verify_tls13_signature};
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::{
    ClientConfig, ClientConnection, DigitallySignedStruct, SignatureScheme, StreamOwned,
    SupportedProtocolVersion,
};

use crate::common::{Client, DEADLINE};

/// A certificate with its key.
pub(crate) struct Given {
    name: String,
    /// Both as PEM.
    pub(crate) chain: String,
    pub(crate) key: String,
    /// The certificate as a client sees it.
    pub(crate) der: Vec<u8>,
}

impl Given {
    pub(crate) fn of(name: &str) -> Self {
        let key = KeyPair::generate().unwrap();
        let wanted = CertificateParams::new(vec![name.to_owned()]).unwrap();
        let certificate = wanted.self_signed(&key).unwrap();
        Self {
            name: name.to_owned(),
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

    /// A part of the key that stands nowhere else.
    pub(crate) fn secret(&self) -> &str {
        let line = self.key.lines().nth(1).unwrap();
        &line[line.len() - 40..line.len() - 8]
    }
}

/// Base64 between marks (RFC 7468).
fn pem(kind: &str, der: &[u8]) -> String {
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

/// Takes every certificate for good; which one came is what tests look at.
#[derive(Debug)]
struct Trusting;

impl ServerCertVerifier for Trusting {
    fn verify_server_cert(
        &self,
        _: &CertificateDer<'_>,
        _: &[CertificateDer<'_>],
        _: &ServerName<'_>,
        _: &[u8],
        _: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        let known = default_provider().signature_verification_algorithms;
        as_an_authority(verify_tls12_signature(message, certificate, signed, &known))
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        let known = default_provider().signature_verification_algorithms;
        as_an_authority(verify_tls13_signature(message, certificate, signed, &known))
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        let known = default_provider().signature_verification_algorithms;
        known.supported_schemes()
    }
}

/// Only an authority understands the extension of its challenge.
fn as_an_authority(
    verified: Result<HandshakeSignatureValid, rustls::Error>,
) -> Result<HandshakeSignatureValid, rustls::Error> {
    match verified {
        Err(rustls::Error::InvalidCertificate(_)) => Ok(HandshakeSignatureValid::assertion()),
        verified => verified,
    }
}

/// How a client of these protocols speaks TLS. It keeps its tickets.
pub(crate) fn trusting(protocols: &[&str]) -> Arc<ClientConfig> {
    trusting_in(rustls::DEFAULT_VERSIONS, protocols)
}

/// The same, in one of these versions.
pub(crate) fn trusting_in(
    versions: &[&'static SupportedProtocolVersion],
    protocols: &[&str],
) -> Arc<ClientConfig> {
    let mut config = ClientConfig::builder_with_provider(Arc::new(default_provider()))
        .with_protocol_versions(versions)
        .unwrap()
        .dangerous()
        .with_custom_certificate_verifier(Arc::new(Trusting))
        .with_no_client_auth();
    let protocols = protocols.iter();
    config.alpn_protocols = protocols.map(|name| name.as_bytes().to_vec()).collect();
    Arc::new(config)
}

/// A connection that speaks TLS.
pub(crate) type Secure = Client<StreamOwned<ClientConnection, TcpStream>>;

impl Secure {
    /// The certificate that was shown.
    pub(crate) fn shown(&self) -> Vec<u8> {
        self.stream.conn.peer_certificates().unwrap()[0].to_vec()
    }
}

/// Connects and speaks TLS; an address as the name is no name to the server.
pub(crate) fn secure(
    address: SocketAddr,
    config: &Arc<ClientConfig>,
    name: &str,
) -> io::Result<Secure> {
    over(TcpStream::connect(address).unwrap(), config, name)
}

/// Speaks TLS on a connection that is there.
pub(crate) fn over(
    stream: TcpStream,
    config: &Arc<ClientConfig>,
    name: &str,
) -> io::Result<Secure> {
    stream.set_read_timeout(Some(DEADLINE)).unwrap();
    stream.set_nodelay(true).unwrap();
    let name = ServerName::try_from(name.to_owned()).unwrap();
    let connection = ClientConnection::new(Arc::clone(config), name).unwrap();
    let mut stream = StreamOwned::new(connection, stream);
    while stream.conn.is_handshaking() {
        stream.conn.complete_io(&mut stream.sock)?;
    }
    Ok(Client {
        stream,
        buffer: Vec::new(),
    })
}
