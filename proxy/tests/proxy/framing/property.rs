//! For any bytes: refused and closed, or each request that the target saw is the next
//! one that a strict reader finds in what the client sent.

use std::io::{Read, Write};
use std::net::{Shutdown, TcpStream};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use proptest::prelude::*;
use proptest::test_runner::{Config, TestRunner};

use super::journal::{Journal, target};
use super::reference::{Request, Rest, parse};
use crate::common::{Client, DEADLINE, Proxy, shop};

/// Requests without a fault that the others are made of.
const SOUND: [&str; 12] = [
    "GET /a HTTP/1.1\r\nHost: a\r\n\r\n",
    "GET /b?c=d HTTP/1.1\r\nHost: a.example:80\r\nX-T1: v\r\nCookie: e=f\r\nX-T1:  w \r\n\r\n",
    "GET http://a/c HTTP/1.1\r\nhost: a\r\nX-T2: \r\n\r\n",
    "GET / HTTP/1.0\r\nHost: a\r\nConnection: keep-alive\r\n\r\n",
    "POST /d HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\n\r\nabcde",
    "POST /e HTTP/1.1\r\nContent-Length: 41\r\nHost: a\r\n\r\nGET /evil HTTP/1.1\r\nHost: a\r\nX-Evil: 1\r\n\r",
    "POST /f HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nabcde\r\n0\r\n\r\n",
    "PUT /g HTTP/1.1\r\nHost: a\r\ntransfer-encoding:Chunked\r\n\r\n1;x=y\r\nZ\r\n00A\r\n0123456789\r\n0\r\nX-T3: v\r\n\r\n",
    "POST /h HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n2f\r\n0\r\n\r\nGET /evil HTTP/1.1\r\nHost: a\r\nX-Evil: 1\r\n\r\n\r\n0\r\n\r\n",
    "DELETE /i HTTP/1.1\r\nHost: a\r\nContent-Length: 0\r\n\r\n\r\n",
    "OPTIONS * HTTP/1.1\r\nHost: a\r\nX-T4: \u{e9}\r\n\r\n",
    "GET /j HTTP/1.1\r\nHost: a\r\nTE: trailers\r\nConnection: TE, X-T5\r\nX-T5: v\r\nX-Forwarded-For: 1.2.3.4\r\n\r\n",
];

/// What is put in.
const PIECES: [&[u8]; 44] = [
    b"\r",
    b"\n",
    b"\r\n",
    b"\r\n\r\n",
    b" ",
    b"\t",
    b"\0",
    b"\x0b",
    b"\x7f",
    b"\xa0",
    b"\x85",
    b":",
    b";",
    b",",
    b"0",
    b"1",
    b"5",
    b"f",
    b"0x",
    b"+",
    b"-",
    b"_",
    b"\"",
    b"#",
    b"0\r\n\r\n",
    b"5\r\n",
    b"chunked",
    b"HTTP/1.1",
    b" HTTP/1.0",
    b"Content-Length: 3\r\n",
    b"Content-Length: 0\r\n",
    b"content-length:5\r\n",
    b"Content_Length: 3\r\n",
    b"Transfer-Encoding: chunked\r\n",
    b"transfer-encoding:\tchunked\r\n",
    b"Transfer-Encoding: gzip\r\n",
    b"Host: a\r\n",
    b"Host: b\r\n",
    b" folded\r\n",
    b"X-T6: v\r\n",
    b"Connection: close\r\n",
    b"Expect: x\r\n",
    b"GET /evil HTTP/1.1\r\nHost: a\r\n\r\n",
    b"X: GET /evil HTTP/1.1\r\n",
];

#[derive(Debug, Clone)]
enum Change {
    Insert(usize, usize),
    Remove(usize, usize),
    Double(usize, usize),
    Replace(usize, u8),
    Swap(usize),
}

fn change() -> impl Strategy<Value = Change> {
    let place = any::<usize>;
    prop_oneof![
        4 => (place(), 0..PIECES.len()).prop_map(|(at, piece)| Change::Insert(at, piece)),
        2 => (place(), 1_usize..20).prop_map(|(at, count)| Change::Remove(at, count)),
        2 => (place(), 1_usize..60).prop_map(|(at, count)| Change::Double(at, count)),
        1 => (place(), any::<u8>()).prop_map(|(at, byte)| Change::Replace(at, byte)),
        1 => place().prop_map(Change::Swap),
    ]
}

/// A place in the bytes; half of them are at the marks that frame.
fn place(bytes: &[u8], at: usize) -> usize {
    let marks: Vec<usize> = (0..bytes.len())
        .filter(|&place| b"\r\n: ;".contains(&bytes[place]) || bytes[place].is_ascii_digit())
        .collect();
    match marks.len() {
        count @ 1.. if at.is_multiple_of(2) => marks[at / 2 % count],
        _ => at % (bytes.len() + 1),
    }
}

fn changed(mut bytes: Vec<u8>, changes: &[Change]) -> Vec<u8> {
    for change in changes {
        match *change {
            Change::Insert(at, piece) => {
                let at = place(&bytes, at);
                bytes.splice(at..at, PIECES[piece].iter().copied());
            }
            Change::Remove(at, count) => {
                let at = place(&bytes, at);
                bytes.drain(at..(at + count).min(bytes.len()));
            }
            Change::Double(at, count) => {
                let at = place(&bytes, at);
                let again = bytes[at..(at + count).min(bytes.len())].to_vec();
                bytes.splice(at..at, again);
            }
            Change::Replace(at, byte) => {
                let at = place(&bytes, at);
                if let Some(place) = bytes.get_mut(at) {
                    *place = byte;
                }
            }
            Change::Swap(at) => {
                let at = place(&bytes, at);
                if at + 1 < bytes.len() {
                    bytes.swap(at, at + 1);
                }
            }
        }
    }
    bytes
}

/// What the client was answered until its connection ended.
fn send(proxy: &Proxy, bytes: &[u8], cuts: &[usize], whole: usize) -> Vec<u16> {
    let mut client = Client::new(TcpStream::connect(proxy.address).unwrap());
    let mut rest = bytes;
    for cut in cuts {
        let (piece, more) = rest.split_at(cut % (rest.len() + 1));
        let _ = client.stream.write_all(piece);
        rest = more;
    }
    let _ = client.stream.write_all(rest);
    let mut statuses = Vec::new();
    while statuses.len() < whole {
        match client.read() {
            Ok(answer) => statuses.push(answer.status()),
            Err(_) => return statuses,
        }
    }
    // Time for what should not come, before the end tells the proxy to leave off.
    let little = Some(Duration::from_millis(20));
    client.stream.set_read_timeout(little).unwrap();
    if let Ok(answer) = client.read() {
        statuses.push(answer.status());
    }
    client.stream.set_read_timeout(Some(DEADLINE)).unwrap();
    let _ = client.stream.shutdown(Shutdown::Write);
    while let Ok(answer) = client.read() {
        statuses.push(answer.status());
    }
    let mut more = Vec::new();
    let _ = client.stream.read_to_end(&mut more);
    statuses
}

/// Fields that are made anew or end at the proxy.
fn is_own(name: &str, nominated: &[String]) -> bool {
    let own = [
        "host",
        "content-length",
        "transfer-encoding",
        "connection",
        "keep-alive",
        "proxy-connection",
        "te",
        "upgrade",
        "forwarded",
        "x-real-ip",
        "expect",
        "x-request-id",
    ];
    own.contains(&name) || name.starts_with("x-forwarded-") || nominated.contains(&name.to_owned())
}

fn sorted(request: &Request) -> Vec<(String, Vec<u8>)> {
    let nominated: Vec<String> = request
        .fields
        .iter()
        .filter(|(name, _)| name == "connection")
        .flat_map(|(_, value)| value.split(|&b| b == b','))
        .map(|name| String::from_utf8_lossy(name.trim_ascii()).to_ascii_lowercase())
        .collect();
    let mut fields: Vec<_> = request
        .fields
        .iter()
        .filter(|(name, _)| !is_own(name, &nominated))
        .cloned()
        .collect();
    fields.sort();
    fields
}

/// Whether the target saw what a strict reader sees in the client's bytes.
fn same(seen: &Request, sent: &Request) -> Result<(), TestCaseError> {
    prop_assert_eq!(&seen.method, &sent.method);
    prop_assert_eq!(&seen.target, &sent.target);
    prop_assert_eq!(&seen.body, &sent.body);
    prop_assert_eq!(sorted(seen), sorted(sent));
    if let Some(host) = sent.field("host") {
        prop_assert_eq!(seen.field("host"), Some(host));
    }
    prop_assert_eq!(seen.field("x-forwarded-for"), Some(&b"127.0.0.1"[..]));
    for trailer in &seen.trailers {
        prop_assert!(sent.trailers.contains(trailer), "{:?}", trailer);
    }
    Ok(())
}

fn check(
    proxy: &Proxy,
    journal: &Mutex<Journal>,
    bytes: &[u8],
    cuts: &[usize],
    sound: bool,
) -> Result<(), TestCaseError> {
    std::mem::take(&mut *journal.lock().unwrap());
    let (sent, rest) = parse(bytes);
    let statuses = send(proxy, bytes, cuts, sent.len());
    let journal = journal.lock().unwrap();
    prop_assert_eq!(
        &journal.faults,
        &Vec::<String>::new(),
        "the proxy sent what a strict reader refuses"
    );
    prop_assert!(
        journal.requests.len() <= sent.len(),
        "more was seen than sent: {:?} {:?}",
        journal.requests,
        rest
    );
    for (seen, sent) in journal.requests.iter().zip(&sent) {
        same(seen, sent)?;
    }
    let served = statuses.iter().take_while(|&&status| status == 200).count();
    prop_assert_eq!(served, journal.requests.len(), "answers {:?}", statuses);
    let refusals = &statuses[served..];
    prop_assert!(
        refusals.len() <= 1,
        "something follows a refusal: {:?}",
        statuses
    );
    prop_assert!(
        refusals.iter().all(|status| (400..500).contains(status)),
        "{:?}",
        statuses
    );
    if sound {
        prop_assert!(!matches!(rest, Rest::Fault(_)), "{:?}", rest);
        prop_assert_eq!(served, sent.len(), "a sound request was lost");
    }
    Ok(())
}

fn strategy() -> impl Strategy<Value = (Vec<usize>, Vec<Change>, Vec<usize>)> {
    (
        proptest::collection::vec(0..SOUND.len(), 1..4),
        proptest::collection::vec(change(), 0..4),
        proptest::collection::vec(any::<usize>(), 0..3),
    )
}

#[test]
fn any_bytes_are_refused_or_the_target_sees_the_very_requests_that_were_sent() {
    let proxy = Proxy::start(&[]);
    let (backend, journal): (_, Arc<Mutex<Journal>>) = target();
    proxy.apply(shop("v1", &[("v1", &[backend.address])]));
    // One process and one target serve all cases, one after the other.
    let config = Config {
        max_shrink_iters: 2000,
        failure_persistence: None,
        ..Config::default()
    };
    let told = TestRunner::new(config).run(&strategy(), |(requests, changes, cuts)| {
        let texts: Vec<&str> = requests.iter().map(|&number| SOUND[number]).collect();
        // HTTP/1.0 keeps its connection; everything else may follow everything.
        let bytes = changed(texts.concat().into_bytes(), &changes);
        check(&proxy, &journal, &bytes, &cuts, changes.is_empty()).map_err(|error| {
            TestCaseError::fail(format!("{error}\n{:?}", String::from_utf8_lossy(&bytes)))
        })
    });
    if let Err(error) = told {
        panic!("{error}");
    }
}
