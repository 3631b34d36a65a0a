//! Servers of a few bytes: what they say is written down, whoever asks.

use std::net::SocketAddr;
use std::path::Path;

use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _};
use tokio::net::{TcpListener, UnixListener};

/// What a server does once it has read a request.
#[derive(Clone, Copy)]
pub(crate) enum Says {
    /// These bytes, and then it closes.
    Bytes(&'static str),
    /// These bytes, and then nothing for ever.
    Begins(&'static str),
}

async fn serve(mut stream: impl AsyncRead + AsyncWrite + Unpin, says: Says) {
    let mut request = [0; 4096];
    let _ = stream.read(&mut request).await;
    let (Says::Bytes(bytes) | Says::Begins(bytes)) = says;
    let _ = stream.write_all(bytes.as_bytes()).await;
    if let Says::Begins(_) = says {
        std::future::pending::<()>().await;
    }
}

/// Serves on a port of loopback.
pub(crate) async fn port(says: Says) -> anyhow::Result<SocketAddr> {
    let listener = TcpListener::bind("127.0.0.1:0").await?;
    let address = listener.local_addr()?;
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            tokio::spawn(serve(stream, says));
        }
    });
    Ok(address)
}

/// Serves on a socket.
pub(crate) fn socket(path: &Path, says: Says) -> anyhow::Result<()> {
    let listener = UnixListener::bind(path)?;
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            tokio::spawn(serve(stream, says));
        }
    });
    Ok(())
}
