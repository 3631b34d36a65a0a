//! As much of RFC 6455 as an echo needs: the handshake's answer and whole,
//! unfragmented frames. It negotiates no extension.

use std::io::{Error, ErrorKind};

use base64::Engine as _;
use sha1::{Digest as _, Sha1};
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _};

/// A frame's payload at most; an echo of an id is far below.
const LARGEST_PAYLOAD: u64 = 1 << 20;

/// The text with which the app asks its client to close, once everything the
/// client sent has been echoed. A close frame would forbid those echoes.
pub const GOING_AWAY: &str = "going-away";

/// What a frame is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// A text message.
    Text,
    /// A binary message.
    Binary,
    /// The end of the conversation.
    Close,
    /// A question for a pong.
    Ping,
    /// The answer to a ping.
    Pong,
}

/// One whole message or control frame.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Frame {
    /// What it is.
    pub kind: Kind,
    /// Its content, unmasked.
    pub payload: Vec<u8>,
}

impl Frame {
    /// A text message.
    pub fn text(text: &str) -> Self {
        Self {
            kind: Kind::Text,
            payload: text.as_bytes().to_vec(),
        }
    }

    /// A close frame with a status code of RFC 6455, section 7.4.
    pub fn close(code: u16) -> Self {
        Self {
            kind: Kind::Close,
            payload: code.to_be_bytes().to_vec(),
        }
    }
}

/// The `sec-websocket-accept` that answers a `sec-websocket-key`.
pub fn accept(key: &str) -> String {
    let mut hash = Sha1::new();
    hash.update(key.as_bytes());
    hash.update(b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11");
    base64::engine::general_purpose::STANDARD.encode(hash.finalize())
}

/// Reads one frame; `None` when the peer closed the connection between frames.
///
/// # Errors
///
/// The connection's own, and `InvalidData` for a fragment, an unknown kind or
/// a payload above the limit.
pub async fn read<S: AsyncRead + Unpin>(stream: &mut S) -> Result<Option<Frame>, Error> {
    let mut head = [0; 2];
    if stream.read(&mut head[..1]).await? == 0 {
        return Ok(None);
    }
    stream.read_exact(&mut head[1..]).await?;
    if head[0] & 0xf0 != 0x80 {
        return Err(Error::new(
            ErrorKind::InvalidData,
            "a fragment or extension",
        ));
    }
    let kind = match head[0] & 0x0f {
        1 => Kind::Text,
        2 => Kind::Binary,
        8 => Kind::Close,
        9 => Kind::Ping,
        10 => Kind::Pong,
        _ => {
            return Err(Error::new(
                ErrorKind::InvalidData,
                "an unknown kind of frame",
            ));
        }
    };
    let length = match head[1] & 0x7f {
        126 => u64::from(stream.read_u16().await?),
        127 => stream.read_u64().await?,
        short => u64::from(short),
    };
    if length > LARGEST_PAYLOAD {
        return Err(Error::new(
            ErrorKind::InvalidData,
            "a frame above the limit",
        ));
    }
    let mut mask = [0; 4];
    if head[1] & 0x80 != 0 {
        stream.read_exact(&mut mask).await?;
    }
    let mut payload = vec![0; usize::try_from(length).unwrap_or_default()];
    stream.read_exact(&mut payload).await?;
    apply(mask, &mut payload);
    Ok(Some(Frame { kind, payload }))
}

/// Writes one frame; a client passes a mask, a server none.
///
/// # Errors
///
/// The connection's own.
pub async fn write<S: AsyncWrite + Unpin>(
    stream: &mut S,
    frame: &Frame,
    mask: Option<[u8; 4]>,
) -> Result<(), Error> {
    let kind = match frame.kind {
        Kind::Text => 1,
        Kind::Binary => 2,
        Kind::Close => 8,
        Kind::Ping => 9,
        Kind::Pong => 10,
    };
    let masked = if mask.is_some() { 0x80 } else { 0 };
    let mut bytes = vec![0x80 | kind];
    match frame.payload.len() {
        short @ 0..=125 => bytes.push(masked | short as u8),
        middle @ 126..=0xffff => {
            bytes.push(masked | 126);
            bytes.extend((middle as u16).to_be_bytes());
        }
        long => {
            bytes.push(masked | 127);
            bytes.extend((long as u64).to_be_bytes());
        }
    }
    let mut payload = frame.payload.clone();
    if let Some(mask) = mask {
        bytes.extend(mask);
        apply(mask, &mut payload);
    }
    bytes.extend(payload);
    stream.write_all(&bytes).await?;
    stream.flush().await
}

fn apply(mask: [u8; 4], payload: &mut [u8]) {
    for (position, byte) in payload.iter_mut().enumerate() {
        *byte ^= mask[position % 4];
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_handshake_answers_as_the_rfc_does() {
        assert_eq!(
            accept("dGhlIHNhbXBsZSBub25jZQ=="),
            "s3pPLMBiTxaQ9kYGzzhZRbK+xOo="
        );
    }

    #[tokio::test]
    async fn a_frame_of_each_length_survives_the_way() {
        for length in [0, 1, 125, 126, 0xffff, 0x10000] {
            for mask in [None, Some([1, 2, 3, 4])] {
                let frame = Frame {
                    kind: Kind::Binary,
                    payload: vec![7; length],
                };
                let mut bytes = Vec::new();
                write(&mut bytes, &frame, mask).await.unwrap();
                let mut stream = bytes.as_slice();
                assert_eq!(read(&mut stream).await.unwrap(), Some(frame));
                assert_eq!(read(&mut stream).await.unwrap(), None);
            }
        }
    }
}
