//! A client of rustls and a server that talk in memory.

use std::io::{Read, Write};
use std::sync::Arc;

use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::ring::default_provider;
use rustls::crypto::{verify_tls12_signature, verify_tls13_signature};
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::{
    ClientConfig, ClientConnection, DigitallySignedStruct, ServerConfig, ServerConnection,
    SignatureScheme, SupportedProtocolVersion,
};

/// Takes every certificate for good; which one came is what tests look at.
#[derive(Debug)]
pub(crate) struct Trusting;

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
pub(crate) fn as_an_authority(
    verified: Result<HandshakeSignatureValid, rustls::Error>,
) -> Result<HandshakeSignatureValid, rustls::Error> {
    match verified {
        Err(rustls::Error::InvalidCertificate(_)) => Ok(HandshakeSignatureValid::assertion()),
        verified => verified,
    }
}

pub(crate) fn client(
    version: &'static SupportedProtocolVersion,
    protocols: &[&[u8]],
) -> Arc<ClientConfig> {
    let mut config = ClientConfig::builder_with_provider(Arc::new(default_provider()))
        .with_protocol_versions(&[version])
        .unwrap()
        .dangerous()
        .with_custom_certificate_verifier(Arc::new(Trusting))
        .with_no_client_auth();
    config.alpn_protocols = protocols.iter().map(|name| name.to_vec()).collect();
    Arc::new(config)
}

/// Both ends of a connection whose bytes a test carries.
pub(crate) struct Talk {
    pub(crate) client: ClientConnection,
    pub(crate) server: ServerConnection,
}

impl Talk {
    /// A handshake in memory, with the tickets that follow it. An address as the
    /// name is no name to the server.
    pub(crate) fn begin(
        client: &Arc<ClientConfig>,
        server: &Arc<ServerConfig>,
        name: &str,
    ) -> Result<Self, rustls::Error> {
        let name = ServerName::try_from(name.to_owned()).unwrap();
        let mut talk = Self {
            client: ClientConnection::new(Arc::clone(client), name).unwrap(),
            server: ServerConnection::new(Arc::clone(server)).unwrap(),
        };
        talk.carry()?;
        assert!(!talk.client.is_handshaking() && !talk.server.is_handshaking());
        Ok(talk)
    }

    pub(crate) fn carry(&mut self) -> Result<(), rustls::Error> {
        while self.client.wants_write() || self.server.wants_write() {
            let mut wire = Vec::new();
            while self.client.wants_write() {
                self.client.write_tls(&mut wire).unwrap();
            }
            let mut wire = wire.as_slice();
            while !wire.is_empty() {
                self.server.read_tls(&mut wire).unwrap();
                self.server.process_new_packets()?;
            }
            let mut wire = Vec::new();
            while self.server.wants_write() {
                self.server.write_tls(&mut wire).unwrap();
            }
            let mut wire = wire.as_slice();
            while !wire.is_empty() {
                self.client.read_tls(&mut wire).unwrap();
                self.client.process_new_packets()?;
            }
        }
        Ok(())
    }

    /// The certificate that the client was shown.
    pub(crate) fn shown(&self) -> &[u8] {
        &self.client.peer_certificates().unwrap()[0]
    }

    /// Sends a few bytes each way.
    pub(crate) fn exchange(&mut self) {
        let mut heard = [0; 4];
        self.client.writer().write_all(b"ping").unwrap();
        self.carry().unwrap();
        self.server.reader().read_exact(&mut heard).unwrap();
        assert_eq!(&heard, b"ping");
        self.server.writer().write_all(b"pong").unwrap();
        self.carry().unwrap();
        self.client.reader().read_exact(&mut heard).unwrap();
        assert_eq!(&heard, b"pong");
    }
}
