//! A client of HTTP/2 that sends without end what costs it nothing: the proxy's
//! memory stays bounded, others are served meanwhile, and it all comes back.
//!
//! The proxy has one worker here, so that whoever floods and whoever asks share it.

use std::collections::BTreeSet;
use std::io::{ErrorKind, Read as _, Write as _};
use std::net::{Shutdown, TcpStream};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering::SeqCst};
use std::sync::{Mutex, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use crate::common::{Backend, Proxy, descriptors, memory, ok, shop, until};
use crate::http2::frames::{
    ACK, CONTINUATION, DATA, END_HEADERS, END_STREAM, GOAWAY, HEADERS, PING, PRIORITY, RST_STREAM,
    RawClient, SETTINGS, WINDOW_UPDATE, frame, head, post_head, request,
};

/// How long a flood lasts where nobody ends it.
const FLOOD: Duration = Duration::from_millis(400);

/// How long one lasts that takes its time.
const SLOW_FLOOD: Duration = Duration::from_millis(2_000);

/// What a flood may cost in memory: the windows and buffers of some connections.
const COST: usize = 16 * 1024 * 1024;

/// How long another client may wait meanwhile, on a machine that does other things, too.
const WAIT: Duration = Duration::from_secs(2);

/// Whether a flooding client takes what the proxy says to it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Ears {
    Open,
    Shut,
}

/// What became of a flood.
#[derive(Debug, Default)]
struct Told {
    /// How often the proxy ended a connection of the flood.
    ends: usize,
    /// The codes of its last words, where they were heard.
    codes: BTreeSet<u32>,
    bytes: usize,
    /// What the proxy's memory grew by at most, and after all was over.
    grown: usize,
    kept: usize,
    /// Answers that another client had meanwhile, and the longest wait for one.
    served: usize,
    waited: Duration,
}

/// The code that says that a peer does too much.
const ENHANCE_YOUR_CALM: u32 = 11;

fn proxy_to(target: &Backend) -> Proxy {
    let directory = tempfile::tempdir().unwrap();
    let mut command = Proxy::command(directory.path());
    // At the level of the other tests the library writes a line for each frame.
    command
        .env("CUTOVER_LOG", "info")
        .args(["--listen", "http+h2c=127.0.0.1:0", "--workers", "1"]);
    let proxy = Proxy::spawn_owned(directory, command);
    proxy.apply(shop("v1", &[("v1", &[target.address])]));
    proxy
}

/// Reads what comes and remembers the code of a GOAWAY.
fn listen(mut stream: TcpStream) -> Option<u32> {
    let mut code = None;
    let mut client = |bytes: &mut [u8]| stream.read_exact(bytes);
    loop {
        let mut start = [0; 9];
        if client(&mut start).is_err() {
            return code;
        }
        let length = u32::from_be_bytes([0, start[0], start[1], start[2]]);
        let mut payload = vec![0; length as usize];
        if client(&mut payload).is_err() {
            return code;
        }
        if start[3] == GOAWAY {
            code = Some(u32::from_be_bytes(payload[4..8].try_into().unwrap()));
        }
    }
}

/// Sends pieces until `end`; tells whether the other side ended it.
fn send(
    stream: &mut TcpStream,
    bytes: &AtomicUsize,
    end: Instant,
    make: &impl Fn(u32) -> Vec<u8>,
) -> bool {
    let short = Duration::from_millis(50);
    stream.set_write_timeout(Some(short)).unwrap();
    for number in 0.. {
        if Instant::now() >= end {
            break;
        }
        let piece = make(number);
        let mut left = &piece[..];
        while !left.is_empty() && Instant::now() < end {
            match stream.write(left) {
                Ok(count) => {
                    bytes.fetch_add(count, SeqCst);
                    left = &left[count..];
                }
                // It is held up, which is as good as an end.
                Err(error) if error.kind() == ErrorKind::WouldBlock => {}
                Err(_) => return true,
            }
        }
    }
    false
}

/// Floods a proxy and looks at it meanwhile and afterwards. Whoever is put out comes
/// again at once.
fn check(
    target: &Backend,
    ears: Ears,
    beginning: &[u8],
    make: impl Fn(u32) -> Vec<u8> + Sync,
) -> Told {
    check_for(FLOOD, target, ears, beginning, make)
}

fn check_for(
    time: Duration,
    target: &Backend,
    ears: Ears,
    beginning: &[u8],
    make: impl Fn(u32) -> Vec<u8> + Sync,
) -> Told {
    // One at a time: a flood takes all that the machine has.
    static TURN: Mutex<()> = Mutex::new(());
    let _turn = TURN.lock().unwrap_or_else(PoisonError::into_inner);
    let proxy = proxy_to(target);
    // What the first requests of all make once is not the flood's.
    for _ in 0..3 {
        assert_eq!(proxy.client().get("/").unwrap().status(), 200);
        let mut client = RawClient::to(&proxy);
        client.send(&request(1));
        client.next_of(HEADERS).unwrap();
    }
    until("they have left", || open(&proxy) == 0);
    let (before, files) = (memory(&proxy), descriptors(&proxy));
    let (bytes, over) = (AtomicUsize::new(0), AtomicBool::new(false));
    let mut told = Told::default();
    thread::scope(|scope| {
        let flooding = scope.spawn(|| {
            let end = Instant::now() + time;
            let (mut ends, mut codes) = (0, BTreeSet::new());
            while Instant::now() < end {
                let mut client = RawClient::to(&proxy);
                let _ = client.stream.write_all(beginning);
                let mut stream = client.stream;
                let ear = stream.try_clone().unwrap();
                let ear = (ears == Ears::Open).then(|| scope.spawn(move || listen(ear)));
                ends += usize::from(send(&mut stream, &bytes, end, &make));
                let _ = stream.shutdown(Shutdown::Both);
                codes.extend(ear.and_then(|ear| ear.join().unwrap()));
            }
            over.store(true, SeqCst);
            (ends, codes)
        });
        while !over.load(SeqCst) {
            let began = Instant::now();
            assert_eq!(proxy.client().get("/").unwrap().status(), 200);
            told.waited = told.waited.max(began.elapsed());
            told.served += 1;
            told.grown = told.grown.max(memory(&proxy).saturating_sub(before));
        }
        (told.ends, told.codes) = flooding.join().unwrap();
    });
    told.bytes = bytes.load(SeqCst);
    until("all have left", || open(&proxy) == 0);
    until("descriptors come back", || descriptors(&proxy) <= files + 2);
    told.kept = memory(&proxy).saturating_sub(before);
    println!("{told:?}");
    assert!(told.grown < COST && told.kept < COST, "{told:?}");
    assert!(told.served > 2 && told.waited < WAIT, "{told:?}");
    told
}

/// The requests that the proxy has open.
fn open(proxy: &Proxy) -> u64 {
    let told = proxy.statistics("v1");
    told.requests_open + told.streams_open + told.tunnels_open
}

/// A target that answers `/` at once.
fn target() -> Backend {
    Backend::named("served")
}

/// A piece of frames on a hundred streams of their own.
fn on_streams(make: impl Fn(u32) -> Vec<u8> + Sync) -> impl Fn(u32) -> Vec<u8> + Sync {
    move |number| {
        let streams = (0..100).map(|place| number * 200 + place * 2 + 1);
        streams.flat_map(&make).collect()
    }
}

#[test]
fn streams_that_are_reset_as_soon_as_they_begin_end_the_connection() {
    // CVE-2023-44487.
    let told = check(
        &target(),
        Ears::Open,
        &[],
        on_streams(|stream| {
            let mut bytes = request(stream);
            bytes.extend(frame(RST_STREAM, 0, stream, &8_u32.to_be_bytes()));
            bytes
        }),
    );
    assert!(told.ends > 0);
    assert!(told.codes.contains(&ENHANCE_YOUR_CALM));
}

#[test]
fn streams_that_are_reset_when_they_are_on_their_way_end_the_connection() {
    let target = Backend::raw(|_, mut client| {
        while let Ok(asked) = client.read() {
            if asked.line.starts_with("POST") {
                client.is_ended();
                return;
            }
            client.send(&ok("served"));
        }
    });
    let told = check_for(SLOW_FLOOD, &target, Ears::Open, &[], |number| {
        // With time in between, so that each is looked at before it is reset.
        thread::sleep(Duration::from_millis(1));
        let stream = number * 2 + 1;
        let flags = END_STREAM | END_HEADERS;
        let mut bytes = frame(HEADERS, flags, stream, &post_head());
        if number >= 4 {
            bytes.extend(frame(RST_STREAM, 0, stream - 8, &8_u32.to_be_bytes()));
        }
        bytes
    });
    println!("connections at the target: {}", target.connections());
    assert!(told.ends > 0);
}

#[test]
fn streams_that_make_the_proxy_reset_them_end_the_connection() {
    // MadeYouReset, CVE-2025-8671: each is reset by the proxy for a fault of its own.
    type Fault = fn(u32) -> Vec<u8>;
    let faults: [(&str, Fault); 4] = [
        ("an update of nothing", |stream| {
            frame(WINDOW_UPDATE, 0, stream, &[0; 4])
        }),
        ("a window that overflows", |stream| {
            frame(WINDOW_UPDATE, 0, stream, &[0x7F, 0xFF, 0xFF, 0xFF])
        }),
        ("a stream that depends on itself", |stream| {
            let mut payload = stream.to_be_bytes().to_vec();
            payload.push(1);
            frame(PRIORITY, 0, stream, &payload)
        }),
        ("data behind the end", |stream| {
            frame(DATA, END_STREAM, stream, b"x").repeat(2)
        }),
    ];
    thread::scope(|scope| {
        for (name, fault) in faults {
            scope.spawn(move || {
                let told = check(
                    &target(),
                    Ears::Open,
                    &[],
                    on_streams(|stream| {
                        let mut bytes = frame(HEADERS, END_HEADERS, stream, &post_head());
                        bytes.extend(fault(stream));
                        bytes
                    }),
                );
                assert!(told.ends > 0, "{name}: {told:?}");
            });
        }
    });
}

#[test]
fn a_head_that_never_ends_ends_the_connection() {
    // Without bytes, and with fields that are right as far as they go.
    for size in [0, 1, 16_384] {
        let begun = frame(HEADERS, END_STREAM, 1, &head());
        let told = check(&target(), Ears::Open, &begun, |_| {
            frame(CONTINUATION, 0, 1, &vec![0x82; size])
        });
        assert!(told.ends > 0, "{size}: {told:?}");
    }
}

#[test]
fn a_value_that_never_ends_ends_the_connection() {
    let mut block = head();
    // A new name of one letter, and a value of a quarter of a gigabyte.
    block.extend([0x00, 0x01, b'x', 0x7F, 0x81, 0xFF, 0xFF, 0x7F]);
    let begun = frame(HEADERS, END_STREAM, 1, &block);
    let told = check(&target(), Ears::Open, &begun, |_| {
        frame(CONTINUATION, 0, 1, &[b'x'; 16_384])
    });
    assert!(told.ends > 0);
}

#[test]
fn questions_for_a_sign_of_life_without_end_end_the_connection() {
    for ears in [Ears::Open, Ears::Shut] {
        let told = check(&target(), ears, &[], |_| {
            frame(PING, 0, 0, &[7; 8]).repeat(500)
        });
        // Whoever hears nothing is not read from either, in the end.
        assert!(told.ends > 0 || ears == Ears::Shut, "{told:?}");
    }
}

#[test]
fn settings_that_change_all_the_time_end_the_connection() {
    for ears in [Ears::Open, Ears::Shut] {
        let told = check(&target(), ears, &[], |number| {
            let settings = (0..200).map(|place| {
                let size = (number * 200 + place) % 4096;
                let mut payload = vec![0, 1];
                payload.extend(size.to_be_bytes());
                payload.extend([0, 4]);
                payload.extend((65_535 + size).to_be_bytes());
                frame(SETTINGS, 0, 0, &payload)
            });
            settings.flatten().collect()
        });
        assert!(told.ends > 0 || ears == Ears::Shut, "{told:?}");
    }
}

#[test]
fn acknowledgements_of_nothing_end_the_connection() {
    for ack in [frame(PING, ACK, 0, &[1; 8]), frame(SETTINGS, ACK, 0, &[])] {
        let told = check(&target(), Ears::Open, &[], |_| ack.repeat(200));
        assert!(told.ends > 0);
    }
}

#[test]
fn data_without_data_ends_the_connection() {
    let begun = frame(HEADERS, END_HEADERS, 1, &post_head());
    let told = check(&target(), Ears::Open, &begun, |_| {
        frame(DATA, 0, 1, &[]).repeat(500)
    });
    assert!(told.ends > 0);
}

#[test]
fn data_in_single_bytes_that_no_target_takes_is_bounded() {
    let target = Backend::raw(|_, mut client| {
        while let Ok(asked) = client.head() {
            if asked.line.starts_with("POST") {
                // It takes nothing of the body while the flood lasts.
                thread::sleep(FLOOD + Duration::from_millis(500));
                return;
            }
            client.send(&ok("served"));
        }
    });
    let begun = frame(HEADERS, END_HEADERS, 1, &post_head());
    let told = check(&target, Ears::Open, &begun, |_| {
        let mut bytes = frame(DATA, 0, 1, b"x");
        // The same with three bytes of padding.
        bytes.extend(frame(DATA, 8, 1, &[3, b'x', 0, 0, 0]));
        bytes.repeat(200)
    });
    assert!(told.ends > 0);
}

#[test]
fn fields_that_grow_when_they_are_unpacked_are_bounded() {
    // A field of nearly the whole table, and then its number, one byte each time.
    let mut block = head();
    block.extend([0x40, 0x01, b'x', 0x7F, 0xA1, 0x1E]);
    block.extend([b'x'; 4_000]);
    let begun = frame(HEADERS, END_STREAM | END_HEADERS, 1, &block);
    let told = check(&target(), Ears::Open, &begun, |number| {
        let mut block = head();
        block.extend([0xBE; 15_000]);
        let flags = END_STREAM | END_HEADERS;
        frame(HEADERS, flags, number * 2 + 3, &block)
    });
    assert!(told.ends > 0, "{told:?}");
}

#[test]
fn priorities_and_frames_of_no_kind_end_the_connection() {
    let told = check(&target(), Ears::Open, &[], |number| {
        let streams = (0..200).map(|place| (number * 400 + place * 2 + 1) & 0x7FFF_FFFF);
        streams
            .flat_map(|stream| {
                let mut bytes = frame(PRIORITY, 0, stream, &[0, 0, 0, 0, 9]);
                bytes.extend(frame(0xEE, 0, stream, b"nothing"));
                bytes
            })
            .collect()
    });
    assert!(told.ends > 0);
}

#[test]
fn updates_of_windows_without_end_are_harmless() {
    check(&target(), Ears::Open, &[], |_| {
        frame(WINDOW_UPDATE, 0, 0, &[0, 0, 0, 1]).repeat(500)
    });
}
