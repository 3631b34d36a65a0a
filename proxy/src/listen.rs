//! Where users come in: addresses we bind, sockets that systemd holds for us, and
//! sockets that a running instance hands over.
//!
//! A socket of systemd outlives this process, so its waiting connections survive
//! a restart; a socket of our own does so only when another instance takes it over.

use std::io;
use std::net::{SocketAddr, TcpListener};
use std::os::fd::OwnedFd;
use std::sync::Arc;
use std::time::Duration;

use rustix::process::{PidfdFlags, PidfdGetfdFlags, getpid, pidfd_getfd, pidfd_open};
use socket2::{Domain, Protocol, SockRef, Socket, Type};

use crate::door::{Door, Kind, KindError};

/// Connections that may wait in the kernel; its own bound (`somaxconn`) is 4096.
const BACKLOG: i32 = 4096;

/// Listeners at most. The kernel passes 253 descriptors in one message; a host
/// with a door of each kind for a dozen of its addresses has fewer than this.
pub(crate) const MAX_LISTENERS: usize = 64;

/// How long accepting may block. A socket is not blocking, but whoever shares it can
/// change that for all: systemd does when it passes the socket to another instance
/// without `NonBlocking=yes`. This bound stays then. It is the kernel's smallest.
const LONGEST_ACCEPT: Duration = Duration::from_millis(1);

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
    /// A socket of systemd has a name that says nothing.
    #[error("the name of a socket passed by systemd (FileDescriptorName=) is wrong")]
    Name(#[from] KindError),
    /// More than we serve.
    #[error("{0} listeners are too many: at most {MAX_LISTENERS} are served")]
    TooMany(usize),
    /// Neither was given.
    #[error("there is no address to listen on: give --listen, or start by a socket unit")]
    Nothing,
}

/// Who holds a listening socket besides this process.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Holder {
    /// Nobody: what waits in it is lost when we close it.
    Nobody,
    /// The service manager: what waits in it is served by the next instance.
    Manager,
}

/// A listening socket, not blocking.
#[derive(Debug)]
pub(crate) struct Listener {
    /// Shared with the offer to a successor, which does not keep it open.
    pub(crate) socket: Arc<TcpListener>,
    pub(crate) door: Door,
    pub(crate) holder: Holder,
}

impl Listener {
    /// A descriptor that somebody gave us; an error if it is no listening socket of
    /// the internet, before anybody relies on it.
    pub(crate) fn of(fd: OwnedFd, kind: Kind, holder: Holder) -> io::Result<Self> {
        let socket = TcpListener::from(fd);
        let address = socket.local_addr()?;
        let sock = SockRef::from(&socket);
        if sock.r#type()? != Type::STREAM || !sock.is_listener()? {
            return Err(io::Error::new(
                io::ErrorKind::InvalidInput,
                format!("the socket at {address} does not listen for streams"),
            ));
        }
        // Each connection inherits it, and need not be told.
        sock.set_tcp_nodelay(true)?;
        socket.set_nonblocking(true)?;
        sock.set_read_timeout(Some(LONGEST_ACCEPT))?;
        let door = Door { kind, address };
        Ok(Self {
            socket: Arc::new(socket),
            door,
            holder,
        })
    }
}

/// All listeners: those of `passed`, and what `doors` names, taken from `handed`
/// where that has it. With neither of the two, all of `handed`.
pub(crate) fn listeners(
    passed: Vec<Listener>,
    doors: &[Door],
    mut handed: Vec<Listener>,
) -> Result<Vec<Listener>, ListenError> {
    let mut listeners = passed;
    if listeners.is_empty() && doors.is_empty() {
        listeners.append(&mut handed);
    }
    for &door in doors {
        let place = |listener: &Listener| listener.door.address == door.address;
        let listener = match handed.iter().position(place) {
            // Its kind is ours to say: what is spoken may change with the program.
            Some(place) => Listener {
                door,
                ..handed.swap_remove(place)
            },
            None => bind(door)?,
        };
        listeners.push(listener);
    }
    let served: Vec<SocketAddr> = listeners.iter().map(|l| l.door.address).collect();
    for left in handed
        .iter()
        .filter(|left| !served.contains(&left.door.address))
    {
        tracing::warn!(door = %left.door, "a listener of the running instance is not taken: nothing names it here");
    }
    match listeners.len() {
        0 => Err(ListenError::Nothing),
        count if count > MAX_LISTENERS => Err(ListenError::TooMany(count)),
        _ => Ok(listeners),
    }
}

fn bind(door: Door) -> Result<Listener, ListenError> {
    let bound = || -> io::Result<Listener> {
        let address = door.address;
        let socket = Socket::new(
            Domain::for_address(address),
            Type::STREAM.nonblocking(),
            Some(Protocol::TCP),
        )?;
        // A restart must not wait for connections of the last process to time out.
        socket.set_reuse_address(true)?;
        socket.bind(&address.into())?;
        socket.listen(BACKLOG)?;
        Listener::of(socket.into(), door.kind, Holder::Nobody)
    };
    bound().map_err(|source| ListenError::Bind {
        address: door.address,
        source,
    })
}

/// The sockets of `LISTEN_FDS`. The kernel duplicates each by its number, which
/// makes an owned descriptor of a bare number without trust in the number.
pub(crate) fn passed() -> Result<Vec<Listener>, ListenError> {
    let numbers: Vec<_> = sd_notify::listen_fds_with_names()
        .map_err(ListenError::Passed)?
        .collect();
    if numbers.is_empty() {
        return Ok(Vec::new());
    }
    let own = pidfd_open(getpid(), PidfdFlags::empty())
        .map_err(|error| ListenError::Passed(error.into()))?;
    let take = |(number, name): (i32, String)| -> Result<Listener, ListenError> {
        let kind = Kind::of_socket(&name)?;
        pidfd_getfd(&own, number, PidfdGetfdFlags::empty())
            .map_err(io::Error::from)
            .and_then(|fd| Listener::of(fd, kind, Holder::Manager))
            .map_err(ListenError::Passed)
    };
    numbers.into_iter().map(take).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn door(text: &str) -> Door {
        text.parse().unwrap()
    }

    #[test]
    fn a_named_address_is_taken_from_the_hand_over_and_others_are_bound() {
        let handed = listeners(
            Vec::new(),
            &[door("127.0.0.1:0"), door("127.0.0.1:0")],
            Vec::new(),
        )
        .unwrap();
        let [first, second] = [handed[0].door, handed[1].door];
        let kept = Door {
            kind: "http+proxy".parse().unwrap(),
            ..first
        };
        let found = listeners(Vec::new(), &[kept, door("127.0.0.1:0")], handed).unwrap();
        assert_eq!(found[0].door, kept);
        assert!(![first.address, second.address].contains(&found[1].door.address));
        // The one that nothing named is closed, and its port free again.
        bind(second).unwrap();
        assert!(bind(first).is_err());
    }

    #[test]
    fn without_a_name_all_that_is_handed_over_is_served() {
        assert!(matches!(
            listeners(Vec::new(), &[], Vec::new()),
            Err(ListenError::Nothing)
        ));
        let handed = vec![bind(door("http+h2c=127.0.0.1:0")).unwrap()];
        let expected = handed[0].door;
        assert_eq!(
            listeners(Vec::new(), &[], handed).unwrap()[0].door,
            expected
        );
    }

    #[test]
    fn what_does_not_listen_is_no_listener() {
        let of = |socket: Socket| Listener::of(socket.into(), Kind::HTTP, Holder::Nobody);
        let address: SocketAddr = "127.0.0.1:0".parse().unwrap();
        let quiet = Socket::new(Domain::IPV4, Type::STREAM, None).unwrap();
        quiet.bind(&address.into()).unwrap();
        assert!(of(quiet).is_err());
        let datagrams = Socket::new(Domain::IPV4, Type::DGRAM, None).unwrap();
        datagrams.bind(&address.into()).unwrap();
        assert!(of(datagrams).is_err());
        assert!(of(Socket::new(Domain::UNIX, Type::STREAM, None).unwrap()).is_err());
    }

    #[test]
    fn too_many_listeners_are_refused() {
        let doors = vec![door("127.0.0.1:0"); MAX_LISTENERS + 1];
        let refused = listeners(Vec::new(), &doors, Vec::new());
        assert!(matches!(refused, Err(ListenError::TooMany(65))));
    }
}
