//! A target that keeps every byte it gets and reads it by the strict reader.

use std::io::{Read, Write};
use std::sync::{Arc, Mutex};

use super::reference::{Request, Rest, parse};
use crate::common::Backend;

/// What reached the target.
#[derive(Debug, Default)]
pub(crate) struct Journal {
    /// Whole requests, in their order on a connection.
    pub(crate) requests: Vec<Request>,
    /// What connections held that ended within a request.
    pub(crate) broken: Vec<Vec<u8>>,
    /// All bytes, also of requests that are not whole yet.
    pub(crate) bytes: usize,
    /// What the proxy itself sent and a strict reader refuses.
    pub(crate) faults: Vec<String>,
}

/// Answers each whole request with 200.
pub(crate) fn target() -> (Backend, Arc<Mutex<Journal>>) {
    let journal: Arc<Mutex<Journal>> = Arc::default();
    let kept = Arc::clone(&journal);
    let backend = Backend::raw(move |_, mut client| {
        let mut bytes = Vec::new();
        let mut piece = [0; 16 * 1024];
        while let Ok(count @ 1..) = client.stream.read(&mut piece) {
            bytes.extend_from_slice(&piece[..count]);
            let (requests, rest) = parse(&bytes);
            let mut journal = kept.lock().unwrap();
            journal.bytes += count;
            if let Rest::Fault(fault) = rest {
                let text = String::from_utf8_lossy(&bytes).into_owned();
                journal.faults.push(format!("{fault}: {text:?}"));
                return;
            }
            if rest == Rest::Nothing {
                bytes.clear();
                let answers = "HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n".repeat(requests.len());
                journal.requests.extend(requests);
                drop(journal);
                if client.stream.write_all(answers.as_bytes()).is_err() {
                    return;
                }
            }
        }
        if !bytes.is_empty() {
            kept.lock().unwrap().broken.push(bytes);
        }
    });
    (backend, journal)
}
