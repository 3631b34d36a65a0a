//! Takes connections and hands each to the worker with the fewest clients.
//!
//! One accepting thread balances better than one listening socket per worker,
//! where the kernel hashes a few busy clients on one of them, and needs one
//! descriptor per address when a listener is handed over.

use std::io;
use std::net::TcpListener;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::time::Duration;

use tokio::io::unix::AsyncFd;
use tokio::sync::watch;

use crate::worker::{Mailbox, Message};

/// How long to wait for a place or a descriptor before looking again.
const BREATHER: Duration = Duration::from_millis(10);

/// The acceptor of one listening socket.
#[derive(Debug)]
pub(crate) struct Acceptor {
    listener: AsyncFd<TcpListener>,
    workers: Vec<Mailbox>,
    max: usize,
    full: Arc<AtomicBool>,
}

impl Acceptor {
    #[expect(
        deprecated,
        reason = "the safe form is unsound for types whose descriptor changes; a listener's does not"
    )]
    pub(crate) fn new(
        listener: TcpListener,
        workers: Vec<Mailbox>,
        max: usize,
        full: Arc<AtomicBool>,
    ) -> io::Result<Self> {
        Ok(Self {
            listener: AsyncFd::new(listener)?,
            workers,
            max,
            full,
        })
    }

    /// Accepts until `stop`, and then what waits in the kernel already.
    pub(crate) async fn run(self, mut stop: watch::Receiver<bool>) {
        while !*stop.borrow() {
            tokio::select! {
                biased;
                _ = stop.changed() => break,
                () = self.accept_ready() => {}
            }
        }
        while self.has_place() && self.accept().is_ok() {}
    }

    async fn accept_ready(&self) {
        if !self.has_place() {
            self.full.store(true, Relaxed);
            tokio::time::sleep(BREATHER).await;
            return;
        }
        self.full.store(false, Relaxed);
        let Ok(mut ready) = self.listener.readable().await else {
            return;
        };
        match self.accept() {
            Ok(()) => {}
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => ready.clear_ready(),
            Err(error) => {
                // Out of descriptors, or a client that left in the queue.
                tracing::warn!(%error, "a connection could not be accepted");
                tokio::time::sleep(BREATHER).await;
            }
        }
    }

    fn has_place(&self) -> bool {
        self.workers.iter().map(Mailbox::load).sum::<usize>() < self.max
    }

    fn accept(&self) -> io::Result<()> {
        let (stream, address) = self.listener.get_ref().accept()?;
        stream.set_nonblocking(true)?;
        let idlest = self.workers.iter().min_by_key(|worker| worker.load());
        if let Some(worker) = idlest {
            worker.post(Message::Client(stream, address));
        }
        Ok(())
    }
}
