//! Frames of the talk on a control socket, read and written with deadlines.
//!
//! It knows no call and no reply; see `cutover_wire::proxy` for the form.

use std::io;
use std::time::Duration;

use cutover_wire::proxy::{FrameError, LENGTH_BYTES, encode, length};
use serde::Serialize;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::UnixStream;
use tokio::time::timeout;

/// How long the rest of a frame, or the reading of one of ours, may take.
pub(crate) const FRAME_DEADLINE: Duration = Duration::from_secs(10);

/// Why a talk ended before its time.
#[derive(Debug, thiserror::Error)]
pub enum TalkError {
    /// The connection failed.
    #[error("could not read or write")]
    Socket(#[from] io::Error),
    /// A frame took too long.
    #[error("the peer was too slow")]
    Slow(#[from] tokio::time::error::Elapsed),
    /// What came is no frame, or what goes does not fit into one.
    #[error("a frame is wrong")]
    Frame(#[from] FrameError),
}

/// The body of the next frame, or none when the peer ended before it. The first
/// byte may take as long as the peer has nothing to say.
pub(crate) async fn next(stream: &mut UnixStream) -> Result<Option<Vec<u8>>, TalkError> {
    let mut head = [0; LENGTH_BYTES];
    match stream.read(&mut head[..1]).await {
        Ok(0) => return Ok(None),
        Ok(_) => {}
        Err(error) if error.kind() == io::ErrorKind::ConnectionReset => return Ok(None),
        Err(error) => return Err(error.into()),
    }
    timeout(FRAME_DEADLINE, stream.read_exact(&mut head[1..])).await??;
    let size = length(head)?;
    let mut body = Vec::new();
    let mut rest = stream.take(size as u64);
    timeout(FRAME_DEADLINE, rest.read_to_end(&mut body)).await??;
    if body.len() < size {
        return Err(io::Error::from(io::ErrorKind::UnexpectedEof).into());
    }
    Ok(Some(body))
}

/// Writes a message as a frame.
pub(crate) async fn send<T: Serialize>(
    stream: &mut UnixStream,
    message: &T,
) -> Result<(), TalkError> {
    send_bytes(stream, &encode(message)?).await
}

/// Writes a whole frame.
pub(crate) async fn send_bytes(stream: &mut UnixStream, frame: &[u8]) -> Result<(), TalkError> {
    Ok(timeout(FRAME_DEADLINE, stream.write_all(frame)).await??)
}
