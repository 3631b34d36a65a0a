//! An upgraded connection: bytes both ways until both sides have ended.
//!
//! A tunnel begins only after the target answered 101. Bytes that came early,
//! on either side, go first. It stays with its target through a switch.

use std::future::poll_fn;
use std::pin::pin;
use std::rc::Rc;
use std::task::Poll;

use bytes::Bytes;
use tokio::io::{AsyncWriteExt, copy_bidirectional};

use crate::client::Client;
use crate::socket::{ClientSocket, TargetSocket};
use crate::ticket::Ticket;

/// The target's side of a tunnel, kept until the client's side is free.
#[derive(Debug)]
pub(crate) struct Tunnel {
    pub(crate) target: TargetSocket,
    /// What the target sent right behind its answer.
    pub(crate) early: Bytes,
    /// Holds the target's count of open tunnels.
    pub(crate) ticket: Ticket,
    pub(crate) idle_ms: u64,
}

impl Tunnel {
    /// Carries bytes until both sides have ended, one has failed, or both were
    /// silent too long.
    pub(crate) async fn run(mut self, client: Rc<Client>, mut socket: ClientSocket, early: Bytes) {
        client.is_no_http();
        client.moves(self.idle_ms);
        let carried = async {
            self.target.write_all(&early).await?;
            socket.write_all(&self.early).await?;
            copy_bidirectional(&mut socket, &mut self.target).await
        };
        let mut carried = pin!(carried);
        let ended = poll_fn(|cx| {
            client.woken_by(cx.waker());
            match carried.as_mut().poll(cx) {
                Poll::Pending if client.must_close() => Poll::Ready(None),
                Poll::Pending => Poll::Pending,
                Poll::Ready(ended) => Poll::Ready(Some(ended)),
            }
        })
        .await;
        if let Some(Err(error)) = ended {
            tracing::debug!(%error, "a tunnel broke");
        }
        drop(self.ticket);
    }
}
