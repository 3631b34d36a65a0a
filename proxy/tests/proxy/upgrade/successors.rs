//! What a successor finds, and who comes after one that died.

use std::fs;
use std::io::Read as _;
use std::net::TcpListener;
use std::os::unix::net::UnixStream;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering::SeqCst};
use std::thread;
use std::time::Duration;

use cutover_wire::proxy::{KeyText, Refusal, Reply, Request};
use cutover_wire::table::{Affinity, Client as Known, Moves, Split};

use super::{ends, half_taken, held, status, successor, taken_over, with_socket};
use crate::common::{Client, Proxy, call_on, shop, two_releases, until};
use crate::given::Given;
use crate::secure::{secure, trusting};

/// The frame of secrets, which a successor reads before it is ready.
fn read_secrets(stream: &mut UnixStream) -> Vec<u8> {
    let mut length = [0; 4];
    stream.read_exact(&mut length).unwrap();
    let mut secrets = vec![0; u32::from_be_bytes(length) as usize];
    stream.read_exact(&mut secrets).unwrap();
    secrets
}

#[test]
fn after_a_successor_that_died_when_it_had_taken_over_the_next_one_serves() {
    let directory = tempfile::tempdir().unwrap();
    let log = directory.path().join("log");
    let socket = directory.path().join("proxy.sock");
    // Held by a manager of services, as the listeners of the units are.
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    let command = || {
        let mut command = Proxy::command(directory.path());
        command.arg("--takeover").arg(&socket);
        with_socket(&command, &log, &listener, "http")
    };
    let mut old = Proxy::spawn(directory.path(), command());
    let (slow, release) = held();
    let addresses = [slow.address];
    old.apply(shop("v1", &[("v1", &addresses)]));
    let mut open = old.client();
    open.send("GET /slow HTTP/1.1\r\nHost: a\r\n\r\n");
    until("the request is open", || {
        old.statistics("v1").requests_open == 1
    });
    let mut dying = half_taken(&old);
    read_secrets(&mut dying);
    let yielded = call_on(dying, Request::Taken).unwrap();
    assert_eq!(yielded, Reply::Yielded);
    // Nobody accepts now, and the old one still has a request.
    let mut waiting = Client::connect(address);
    waiting.send("GET / HTTP/1.1\r\nHost: a\r\n\r\n");
    let new = taken_over(&old, command());
    assert_eq!(waiting.read().unwrap().text(), "v1");
    // What the first one still has open is no secret to the one that serves now.
    let left = new.drain(&["v1-0"], Duration::from_millis(50));
    assert_eq!(left.requests, 1);
    assert_eq!(new.apply(shop("v1", &[("v1", &addresses)])), 2);
    let second_name = format!("proxy.{}.sock", old.child.id());
    let stream = UnixStream::connect(directory.path().join(second_name)).unwrap();
    let told = call_on(stream, Request::Status).unwrap();
    assert!(matches!(told, Reply::Status(told) if told.generation == 2));
    release.send(()).unwrap();
    assert_eq!(open.read().unwrap().text(), "v1");
    ends(&mut old);
    assert_eq!(status(&new).listeners, [address]);
    assert_eq!(new.apply(shop("v1", &[("v1", &addresses)])), 3);
}

#[test]
fn what_was_drained_gets_nothing_from_the_next_instance() {
    let (old, [v1, v2]) = two_releases(&[]);
    let by = Known::Cookie {
        name: "cutover".to_owned(),
        ttl_ms: 3_600_000,
    };
    old.change_shop(|shop| {
        shop.affinity = Some(Affinity {
            by,
            moves: Moves::NewSessions,
        });
    });
    let ask = |proxy: &Proxy, cookie: &str| {
        let mut client = proxy.client();
        client.ask("shop.example", "/", &[("Cookie", cookie)])
    };
    let first = ask(&old, "a=b");
    let cookie = first.field("set-cookie").unwrap();
    let cookie = cookie.split(';').next().unwrap();
    old.change_shop(|shop| shop.serving = Split::all_to("v2"));
    // A session may stay as long as its release is there, and no longer.
    assert_eq!(ask(&old, cookie).text(), "v1");
    assert!(old.drain(&["v1-0"], Duration::from_secs(5)).is_empty());
    assert_eq!(ask(&old, cookie).text(), "v2");
    let (before, new) = (v1.requests(), successor(&old, &[]));
    for _ in 0..10 {
        assert_eq!(ask(&new, cookie).text(), "v2");
        assert_eq!(ask(&new, "a=b").text(), "v2");
    }
    assert_eq!((v1.requests(), v2.requests()), (before, 21));
    // Until a table gives it requests again.
    new.change_shop(|shop| shop.serving = Split::all_to("v1"));
    assert_eq!(ask(&new, "a=b").text(), "v1");
}

/// A pair with so many further bytes in its chain.
fn long_pair(name: &str, more: usize) -> Given {
    let mut given = Given::of(&[name]);
    let line = "x".repeat(99) + "\n";
    given.chain.insert_str(0, &line.repeat(more / line.len()));
    given
}

fn put(proxy: &Proxy, name: &str, given: &Given) -> std::io::Result<Reply> {
    proxy.try_call(Request::PutCertificate {
        name: name.to_owned(),
        chain: given.chain.clone(),
        key: KeyText(given.key.clone()),
    })
}

fn with_tls(directory: &tempfile::TempDir) -> Proxy {
    let mut command = Proxy::command(directory.path());
    command.args(["--listen", "127.0.0.1:0", "--listen", "https=127.0.0.1:0"]);
    Proxy::spawn(directory.path(), command)
}

#[test]
fn a_certificate_that_is_put_during_a_take_over_is_refused_or_served_by_the_next_instance() {
    let directory = tempfile::tempdir().unwrap();
    let old = with_tls(&directory);
    let door = old.listener(1);
    let given = long_pair("a.example", 100 * 1024);
    // While it is handed over nothing is taken that could be lost.
    let stream = half_taken(&old);
    let refused = put(&old, "a.example", &given).unwrap();
    assert_eq!(refused, Reply::Refused(Refusal::HandingOver));
    drop(stream);
    let over = AtomicBool::new(false);
    let begun = AtomicUsize::new(0);
    thread::scope(|scope| {
        let putting = scope.spawn(|| {
            let mut taken = Vec::new();
            while !over.load(SeqCst) && taken.len() < 40 {
                let name = format!("n{}.example", taken.len());
                // A call that the old one had not answered when it ended is asked again.
                if matches!(put(&old, &name, &given), Ok(Reply::CertificatePut)) {
                    taken.push(name);
                }
                begun.fetch_add(1, SeqCst);
            }
            taken
        });
        until("some are put", || begun.load(SeqCst) > 5);
        let new = successor(&old, &[]);
        over.store(true, SeqCst);
        for name in putting.join().unwrap() {
            let client = secure(door, &trusting(&[]), &name);
            assert!(client.unwrap().shown() == given.der, "{name}");
        }
        drop(new);
    });
}

#[test]
fn what_was_put_is_handed_over_however_much_else_there_is() {
    const LONG: usize = 120 * 1024;
    let (directory, files) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let old = with_tls(&directory);
    let door = old.listener(1);
    // Served in place of files that went bad: with what is put, more than one frame.
    let listed = long_pair("listed.example", LONG).write(files.path());
    let names: Vec<String> = (0..60).map(|number| format!("f{number}.example")).collect();
    old.change(|table| {
        let named = names.iter().map(|name| (name.clone(), listed.clone()));
        table.certificates = named.collect();
    });
    fs::write(&listed.key, "half a").unwrap();
    old.signal("HUP");
    let problems = || old.log().matches("the certificate before it stays").count();
    until("they are found to be bad", || problems() >= names.len());
    let given = long_pair("put.example", LONG);
    let mut taken = Vec::new();
    let refused = loop {
        let name = format!("p{}.example", taken.len());
        match put(&old, &name, &given).unwrap() {
            Reply::CertificatePut => taken.push(name),
            refused => break refused,
        }
    };
    assert!(matches!(refused, Reply::Refused(Refusal::Certificate(_))));
    assert!(taken.len() >= 40, "{}", taken.len());
    let new = successor(&old, &[]);
    for name in &taken {
        let client = secure(door, &trusting(&[]), name);
        assert!(client.unwrap().shown() == given.der, "{name}");
    }
    // Of the others as many as fit; who is left out is told.
    let served = |name: &&String| secure(door, &trusting(&[]), name).is_ok();
    let kept = names.iter().filter(served).count();
    assert!((1..names.len()).contains(&kept), "{kept}");
    let told = old.log().matches("one too many to be handed over").count();
    assert_eq!(kept + told, names.len());
    drop(new);
}
