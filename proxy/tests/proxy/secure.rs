//! Clients that speak TLS, and what they need of certificates.

use std::io;
use std::net::{SocketAddr, TcpStream};
use std::sync::Arc;

use rustls::pki_types::ServerName;
use rustls::{ClientConfig, ClientConnection, StreamOwned, SupportedProtocolVersion};

use crate::common::{Client, DEADLINE};
use crate::given::Given;
use crate::trusting::client_of;

impl Given {
    /// A part of the key that stands nowhere else.
    pub(crate) fn secret(&self) -> &str {
        let line = self.key.lines().nth(1).unwrap();
        &line[line.len() - 40..line.len() - 8]
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
    let protocols: Vec<&[u8]> = protocols.iter().map(|name| name.as_bytes()).collect();
    client_of(versions, &protocols)
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
