//! The bytes of client connections: however they are cut, the scanner tells the same,
//! and the header of a balancer is read within its bound.
#![no_main]

use libfuzzer_sys::fuzz_target;

// The proxy's readers are its own; they are taken as they stand.
#[path = "../../proxy/src"]
#[expect(dead_code, unused_imports, reason = "not all of what the proxy asks is asked here")]
mod proxy {
    pub(crate) mod framing;
    pub(crate) mod proxy_protocol;
}

use proxy::framing::{Fault, Scanner};
use proxy::proxy_protocol::{MAX_HEADER, Progress, parse};

fn told(pieces: &[&[u8]]) -> (Option<Fault>, u64, bool, bool) {
    let mut scanner = Scanner::new();
    pieces.iter().for_each(|piece| scanner.feed(piece));
    (
        scanner.fault(),
        scanner.heads(),
        scanner.in_head(),
        scanner.in_body(),
    )
}

fuzz_target!(|data: &[u8]| {
    let Some((&cut, bytes)) = data.split_first() else {
        return;
    };
    let (left, right) = bytes.split_at(usize::from(cut).min(bytes.len()));
    let single: Vec<&[u8]> = bytes.chunks(1).collect();
    assert_eq!(told(&[bytes]), told(&[left, right]));
    assert_eq!(told(&[bytes]), told(&single));
    match parse(bytes) {
        Progress::Done { used, .. } => {
            assert!(used <= bytes.len().min(MAX_HEADER));
            assert_eq!(parse(&bytes[..used - 1]), Progress::NeedMore);
        }
        Progress::NeedMore => assert!(bytes.len() < MAX_HEADER),
        Progress::Fault(_) => {}
    }
});
