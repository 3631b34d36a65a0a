//! Memory in which a worker puts bytes together or reads them, for a moment.
//!
//! It belongs to the thread, so a connection that waits holds none of it. Nothing
//! is kept here from one use to the next.

use std::cell::{Cell, RefCell};

use bytes::BytesMut;

/// What is read at once at most.
pub(crate) const READ: usize = 64 * 1024;

/// What is kept for the next use; more is given back.
const MAX_KEPT: usize = 64 * 1024;

thread_local! {
    static READING: RefCell<BytesMut> = RefCell::default();
    static WRITING: Cell<Vec<u8>> = const { Cell::new(Vec::new()) };
}

/// Lends an empty buffer to read into, with room for [`READ`]. What was read may be
/// split off and kept, with the memory.
pub(crate) fn reading<R>(act: impl FnOnce(&mut BytesMut) -> R) -> R {
    READING.with(|kept| {
        let mut bytes = kept.take();
        if bytes.capacity() < READ {
            bytes = BytesMut::with_capacity(READ);
        }
        let told = act(&mut bytes);
        bytes.clear();
        kept.replace(bytes);
        told
    })
}

/// Lends an empty list of bytes to put something together in.
pub(crate) fn writing<R>(act: impl FnOnce(&mut Vec<u8>) -> R) -> R {
    WRITING.with(|kept| {
        let mut bytes = kept.take();
        let told = act(&mut bytes);
        bytes.clear();
        if bytes.capacity() <= MAX_KEPT {
            kept.set(bytes);
        }
        told
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_lent_is_empty_each_time_and_may_be_lent_within() {
        for _ in 0..2 {
            writing(|outer| {
                outer.extend_from_slice(b"outer");
                writing(|inner| {
                    assert!(inner.is_empty());
                    inner.extend_from_slice(b"inner");
                });
                assert_eq!(outer, b"outer");
            });
        }
        reading(|outer| {
            outer.extend_from_slice(b"outer");
            let kept = outer.split();
            reading(|inner| assert_eq!((inner.len(), inner.capacity()), (0, READ)));
            assert_eq!(&kept[..], b"outer");
        });
        reading(|bytes| assert_eq!((bytes.len(), bytes.capacity()), (0, READ)));
        writing(|bytes| bytes.reserve(2 * MAX_KEPT));
        writing(|bytes| assert!(bytes.capacity() <= MAX_KEPT));
    }
}
