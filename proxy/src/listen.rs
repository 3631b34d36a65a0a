//! Where users come in: addresses we bind, and sockets that systemd holds for us.
//!
//! A socket of systemd outlives this process, so its waiting connections survive
//! a restart; a socket of our own does not.

use std::io;
use std::net::{SocketAddr, TcpListener};
use std::os::fd::OwnedFd;

use rustix::process::{PidfdFlags, PidfdGetfdFlags, getpid, pidfd_getfd, pidfd_open};
use socket2::{Domain, Protocol, Socket, Type};

/// Connections that may wait in the kernel; its own bound (`somaxconn`) is 4096.
const BACKLOG: i32 = 4096;

/// Why there is nothing to listen on.
#[derive(Debug, thiserror::Error)]
pub enum ListenError {
    /// An address could not be bound.
    #[error("could not listen on {address}")]
    Bind {
        /// Which one.
        address: SocketAddr,
        /// Why it failed.
        #[source]
        source: io::Error,
    },
    /// What systemd passed could not be taken.
    #[error("could not take the sockets passed by systemd")]
    Passed(#[source] io::Error),
    /// Neither was given.
    #[error("there is no address to listen on: give --listen, or start by a socket unit")]
    Nothing,
}

/// All listening sockets, not blocking.
pub(crate) fn listeners(addresses: &[SocketAddr]) -> Result<Vec<TcpListener>, ListenError> {
    let mut listeners = passed().map_err(ListenError::Passed)?;
    for &address in addresses {
        let listener = bind(address).map_err(|source| ListenError::Bind { address, source })?;
        listeners.push(listener);
    }
    if listeners.is_empty() {
        return Err(ListenError::Nothing);
    }
    Ok(listeners)
}

fn bind(address: SocketAddr) -> io::Result<TcpListener> {
    let socket = Socket::new(
        Domain::for_address(address),
        Type::STREAM.nonblocking(),
        Some(Protocol::TCP),
    )?;
    // A restart must not wait for connections of the last process to time out.
    socket.set_reuse_address(true)?;
    socket.bind(&address.into())?;
    socket.listen(BACKLOG)?;
    Ok(socket.into())
}

/// The sockets of `LISTEN_FDS`. The kernel duplicates each by its number, which
/// makes an owned descriptor of a bare number without trust in the number.
fn passed() -> io::Result<Vec<TcpListener>> {
    let numbers: Vec<_> = sd_notify::listen_fds()?.collect();
    if numbers.is_empty() {
        return Ok(Vec::new());
    }
    let own = pidfd_open(getpid(), PidfdFlags::empty())?;
    let take = |number| -> io::Result<TcpListener> {
        let fd: OwnedFd = pidfd_getfd(&own, number, PidfdGetfdFlags::empty())?;
        let listener = TcpListener::from(fd);
        // Fails for what is no internet socket, before anybody relies on it.
        listener.local_addr()?;
        listener.set_nonblocking(true)?;
        Ok(listener)
    };
    numbers.into_iter().map(take).collect()
}
