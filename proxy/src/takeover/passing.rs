//! Descriptors that go from one process to another with the bytes of a message.

use std::io::{self, IoSlice, IoSliceMut};
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use rustix::net::{
    RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, ReturnFlags, SendAncillaryBuffer,
    SendAncillaryMessage, SendFlags, recvmsg, sendmsg,
};

use crate::listen::MAX_LISTENERS;

/// Descriptors at most: the lock of the state directory, and the listeners.
const MAX_DESCRIPTORS: usize = 1 + MAX_LISTENERS;

const SPACE: usize = rustix::cmsg_space!(ScmRights(MAX_DESCRIPTORS));

/// Sends descriptors with the first of `bytes`; tells how many bytes went.
pub(super) fn send(
    stream: impl AsFd,
    bytes: &[u8],
    descriptors: &[BorrowedFd<'_>],
) -> io::Result<usize> {
    let mut space = [MaybeUninit::uninit(); SPACE];
    let mut control = SendAncillaryBuffer::new(&mut space);
    let fits = descriptors.len() <= MAX_DESCRIPTORS;
    if !fits || !control.push(SendAncillaryMessage::ScmRights(descriptors)) {
        let told = format!("{} descriptors are too many", descriptors.len());
        return Err(io::Error::new(io::ErrorKind::InvalidInput, told));
    }
    let slices = [IoSlice::new(bytes)];
    Ok(sendmsg(stream, &slices, &mut control, SendFlags::NOSIGNAL)?)
}

/// Receives some bytes and the descriptors that came with the first of them.
pub(super) fn receive(stream: impl AsFd, bytes: &mut [u8]) -> io::Result<(usize, Vec<OwnedFd>)> {
    let mut space = [MaybeUninit::uninit(); SPACE];
    let mut control = RecvAncillaryBuffer::new(&mut space);
    let mut slices = [IoSliceMut::new(bytes)];
    let received = recvmsg(stream, &mut slices, &mut control, RecvFlags::CMSG_CLOEXEC)?;
    let mut descriptors = Vec::new();
    for message in control.drain() {
        if let RecvAncillaryMessage::ScmRights(rights) = message {
            descriptors.extend(rights);
        }
    }
    if received.flags.contains(ReturnFlags::CTRUNC) {
        let told = "more descriptors came than there may be";
        return Err(io::Error::new(io::ErrorKind::InvalidData, told));
    }
    Ok((received.bytes, descriptors))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::net::TcpListener;
    use std::os::unix::net::UnixStream;

    fn check(count: usize, passes: bool) {
        let (here, there) = UnixStream::pair().unwrap();
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let descriptors = vec![listener.as_fd(); count];
        let sent = send(&here, b"four", &descriptors);
        assert_eq!(sent.is_ok(), passes, "{count}");
        if !passes {
            return;
        }
        let mut bytes = [0; 4];
        let (length, received) = receive(&there, &mut bytes).unwrap();
        assert_eq!((length, &bytes, received.len()), (4, b"four", count));
        for fd in received {
            let passed = TcpListener::from(fd).local_addr().unwrap();
            assert_eq!(passed, listener.local_addr().unwrap());
        }
    }

    #[test]
    fn as_many_descriptors_pass_as_there_may_be_and_no_more() {
        check(1, true);
        check(MAX_DESCRIPTORS, true);
        check(MAX_DESCRIPTORS + 1, false);
    }
}
