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
    /// What this makes of a request and its number, from 0.
    Script(fn(&str, usize) -> String),
}

/// An answer of a container engine that closes the connection.
pub(crate) fn answer(status: u16, json: &str) -> String {
    let size = json.len();
    format!("HTTP/1.1 {status} S\r\nContent-Length: {size}\r\nConnection: close\r\n\r\n{json}")
}

async fn serve(mut stream: impl AsyncRead + AsyncWrite + Unpin, says: Says, number: usize) {
    let mut request = [0; 4096];
    let size = stream.read(&mut request).await.unwrap_or(0);
    let bytes = match says {
        Says::Bytes(bytes) | Says::Begins(bytes) => bytes.to_owned(),
        Says::Script(script) => script(&String::from_utf8_lossy(&request[..size]), number),
    };
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
        let mut number = 0;
        while let Ok((stream, _)) = listener.accept().await {
            tokio::spawn(serve(stream, says, number));
            number += 1;
        }
    });
    Ok(address)
}

/// Serves on a socket.
pub(crate) fn socket(path: &Path, says: Says) -> anyhow::Result<()> {
    let listener = UnixListener::bind(path)?;
    tokio::spawn(async move {
        let mut number = 0;
        while let Ok((stream, _)) = listener.accept().await {
            tokio::spawn(serve(stream, says, number));
            number += 1;
        }
    });
    Ok(())
}
