//! A piece of an answer on its way to a client.
//!
//! On a connection of HTTP/1.1 the socket tells what the client takes. A stream of
//! HTTP/2 has no socket of its own: the library holds pieces until the client opens
//! its window. So a piece of a stream tells the stream's record when it is taken, or
//! dropped, and how much of it.

use std::rc::Rc;

use bytes::{Buf, Bytes};

use crate::client::Client;

/// See the module.
#[derive(Debug)]
pub(crate) struct Piece {
    bytes: Bytes,
    /// The stream that it is handed over on.
    stream: Option<Rc<Client>>,
}

impl Piece {
    /// A piece of an answer for this client.
    pub(crate) fn new(bytes: Bytes, client: &Rc<Client>) -> Self {
        let stream = client.is_stream().then(|| Rc::clone(client));
        if let Some(stream) = &stream {
            stream.hands(bytes.len());
        }
        Self { bytes, stream }
    }

    /// A piece that nobody asks about: it takes no memory of its client's.
    pub(crate) fn unwatched(bytes: Bytes) -> Self {
        Self {
            bytes,
            stream: None,
        }
    }
}

impl Buf for Piece {
    fn remaining(&self) -> usize {
        self.bytes.len()
    }

    fn chunk(&self) -> &[u8] {
        &self.bytes
    }

    fn advance(&mut self, count: usize) {
        self.bytes.advance(count);
        if let Some(stream) = &self.stream {
            stream.takes(count);
        }
    }
}

impl Drop for Piece {
    fn drop(&mut self) {
        if let Some(stream) = &self.stream {
            stream.lets_go(self.bytes.len());
        }
    }
}
