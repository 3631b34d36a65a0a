//! Takes connections and hands each to the worker with the fewest clients.
//!
//! One accepting thread balances better than one listening socket per worker,
//! where the kernel hashes a few busy clients on one of them, and needs one
//! descriptor per address when a listener is handed over. It does nothing else, so
//! that nobody who connects waits while a large table is read and made.

use std::io;
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::thread;
use std::time::Duration;

use arc_swap::ArcSwap;
use rustix::net::{SocketFlags, acceptfrom_with};
use tokio::io::unix::AsyncFd;
use tokio::runtime::Builder;
use tokio::sync::{oneshot, watch};
use tokio::task::JoinSet;

use crate::crowd::Crowd;
use crate::door::Kind;
use crate::listen::{Holder, Listener};
use crate::route::Snapshot;
use crate::tally::{Event, Tally};
use crate::worker::{Arrival, Mailbox, Message};

/// How long to wait for a place or a descriptor before looking again.
const BREATHER: Duration = Duration::from_millis(10);

/// Whether connections are accepted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Doors {
    /// They are.
    Open,
    /// Not any more, and nobody else does.
    Closed,
    /// Not here any more, but by the instance that took over.
    Yielded,
}

/// What all acceptors share.
#[derive(Debug, Clone)]
pub(crate) struct Lobby {
    /// Who gets the connections.
    pub(crate) workers: Vec<Mailbox>,
    /// How many there may be.
    pub(crate) max: usize,
    /// Set while no further connection can be taken.
    pub(crate) full: Arc<AtomicBool>,
    /// Where they are counted by address.
    pub(crate) crowd: Arc<Crowd>,
    /// Says how many an address may have.
    pub(crate) snapshot: Arc<ArcSwap<Snapshot>>,
    /// Counts those that are refused.
    pub(crate) tally: Arc<Tally>,
}

/// The thread that accepts.
#[derive(Debug)]
pub(crate) struct Reception {
    begin: oneshot::Sender<()>,
    ended: oneshot::Receiver<()>,
}

impl Reception {
    /// Makes all that may fail. Nothing is accepted yet; dropping it ends it.
    pub(crate) async fn new(
        listeners: Vec<Listener>,
        lobby: Lobby,
        doors: watch::Receiver<Doors>,
    ) -> io::Result<Self> {
        let (made, is_made) = oneshot::channel();
        let (begin, begun) = oneshot::channel();
        let (end, ended) = oneshot::channel();
        let receive = move || receive(listeners, &lobby, &doors, made, begun, end);
        thread::Builder::new()
            .name("accept".to_owned())
            .spawn(receive)?;
        is_made.await.unwrap_or_else(|_| {
            let text = "the thread that accepts has ended";
            Err(io::Error::other(text))
        })?;
        Ok(Self { begin, ended })
    }

    /// From here on connections are accepted, while the doors are open. The receiver
    /// hears when none is any more.
    pub(crate) fn begin(self) -> oneshot::Receiver<()> {
        let _ = self.begin.send(());
        self.ended
    }
}

/// What the thread does.
fn receive(
    listeners: Vec<Listener>,
    lobby: &Lobby,
    doors: &watch::Receiver<Doors>,
    made: oneshot::Sender<io::Result<()>>,
    begun: oneshot::Receiver<()>,
    end: oneshot::Sender<()>,
) {
    let runtime = match Builder::new_current_thread().enable_all().build() {
        Ok(runtime) => runtime,
        Err(error) => {
            let _ = made.send(Err(error));
            return;
        }
    };
    runtime.block_on(async {
        let acceptors = listeners.into_iter();
        let acceptors = acceptors.map(|listener| Acceptor::new(listener, lobby.clone()));
        let acceptors = match acceptors.collect::<io::Result<Vec<Acceptor>>>() {
            Ok(acceptors) => acceptors,
            Err(error) => {
                let _ = made.send(Err(error));
                return;
            }
        };
        let _ = made.send(Ok(()));
        if begun.await.is_err() {
            return;
        }
        let mut running = JoinSet::new();
        for acceptor in acceptors {
            running.spawn(acceptor.run(doors.clone()));
        }
        while running.join_next().await.is_some() {}
        let _ = end.send(());
    });
}

/// The acceptor of one listening socket.
#[derive(Debug)]
struct Acceptor {
    listener: AsyncFd<Arc<TcpListener>>,
    kind: Kind,
    holder: Holder,
    lobby: Lobby,
}

impl Acceptor {
    #[expect(
        deprecated,
        reason = "the safe form is unsound for types whose descriptor changes; a listener's does not"
    )]
    fn new(listener: Listener, lobby: Lobby) -> io::Result<Self> {
        Ok(Self {
            listener: AsyncFd::new(listener.socket)?,
            kind: listener.door.kind,
            holder: listener.holder,
            lobby,
        })
    }

    /// Accepts while the doors are open, and then what waits in the kernel already,
    /// unless somebody else holds the socket and serves that.
    async fn run(self, mut doors: watch::Receiver<Doors>) {
        while *doors.borrow() == Doors::Open {
            tokio::select! {
                biased;
                changed = doors.changed() => if changed.is_err() { break },
                () = self.accept_ready() => {}
            }
        }
        let lost_otherwise = *doors.borrow() == Doors::Closed && self.holder == Holder::Nobody;
        while lost_otherwise && self.has_place() && self.accept().is_ok() {}
    }

    async fn accept_ready(&self) {
        if !self.has_place() {
            self.lobby.full.store(true, Relaxed);
            tokio::time::sleep(BREATHER).await;
            return;
        }
        self.lobby.full.store(false, Relaxed);
        let Ok(mut ready) = self.listener.readable().await else {
            return;
        };
        match self.accept() {
            Ok(()) => {}
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                ready.clear_ready();
                // Who shares the socket may have made it blocking; then this took longer.
                let _ = self.listener.get_ref().set_nonblocking(true);
            }
            Err(error) => {
                // Out of descriptors, or a client that left in the queue.
                tracing::warn!(%error, "a connection could not be accepted");
                tokio::time::sleep(BREATHER).await;
            }
        }
    }

    fn has_place(&self) -> bool {
        let lobby = &self.lobby;
        lobby.workers.iter().map(Mailbox::load).sum::<usize>() < lobby.max
    }

    fn accept(&self) -> io::Result<()> {
        let flags = SocketFlags::NONBLOCK | SocketFlags::CLOEXEC;
        let (stream, address) = acceptfrom_with(self.listener.get_ref(), flags)?;
        let address = address.map(SocketAddr::try_from).transpose()?;
        let address = address.ok_or(io::ErrorKind::AddrNotAvailable)?;
        let stream = TcpStream::from(stream);
        let lobby = &self.lobby;
        // Behind a balancer the worker counts, when it knows the client.
        let stay = if self.kind.proxied {
            None
        } else {
            let most = lobby.snapshot.load().most_from(address.ip());
            let Some(stay) = lobby.crowd.enter(address.ip(), most) else {
                lobby
                    .tally
                    .count(lobby.tally.accepting_lane(), Event::OverCap);
                // Dropped, and so closed.
                return Ok(());
            };
            Some(stay)
        };
        let idlest = lobby.workers.iter().min_by_key(|worker| worker.load());
        if let Some(worker) = idlest {
            worker.post(Message::Client(Arrival {
                stream,
                address,
                kind: self.kind,
                stay,
            }));
        }
        Ok(())
    }
}
