//! A client of rustls and a server that talk in memory.

use std::io::{Read, Write};
use std::sync::Arc;

use rustls::pki_types::ServerName;
use rustls::{
    ClientConfig, ClientConnection, ServerConfig, ServerConnection, SupportedProtocolVersion,
};

use super::trusting::client_of;

pub(crate) fn client(
    version: &'static SupportedProtocolVersion,
    protocols: &[&[u8]],
) -> Arc<ClientConfig> {
    client_of(&[version], protocols)
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
