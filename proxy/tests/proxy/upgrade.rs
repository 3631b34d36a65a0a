//! One instance takes over from another, and nobody outside notices.

mod successors;

use std::fs;
use std::io::{ErrorKind, Read, Write};
use std::net::{SocketAddr, TcpListener};
use std::os::fd::OwnedFd;
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::{UnixListener, UnixStream};
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::Command;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering::SeqCst};
use std::sync::{Arc, Mutex, mpsc};
use std::thread;
use std::time::{Duration, Instant};

use cutover_wire::proxy::{Call, Refusal, Reply, Request, Status, VERSION, encode};

use crate::common::{Backend, Client, DEADLINE, Proxy, call_on, ok, read_reply, shop, until};

const UPGRADE: &str = "GET /ws HTTP/1.1\r\nHost: a\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\
                       Sec-WebSocket-Key: x\r\nSec-WebSocket-Version: 13\r\n\r\n";

fn status(proxy: &Proxy) -> Status {
    match proxy.call(Request::Status) {
        Reply::Status(status) => status,
        other => panic!("{other:?}"),
    }
}

/// Starts an instance that takes over, and waits until it has.
pub(crate) fn successor(old: &Proxy, options: &[&str]) -> Proxy {
    let mut command = Proxy::command(&old.directory);
    command
        .arg("--takeover")
        .arg(old.directory.join("proxy.sock"))
        .args(options);
    taken_over(old, command)
}

fn taken_over(old: &Proxy, command: Command) -> Proxy {
    let before = status(old).instance;
    let mut new = Proxy::spawn(&old.directory, command);
    until("the new instance has the control socket", || {
        let ended = new.child.try_wait().unwrap();
        assert!(ended.is_none(), "it ended: {}", new.log());
        match new.try_call(Request::Status) {
            Ok(Reply::Status(status)) => status.instance != before,
            Ok(other) => panic!("{other:?}"),
            // A call that the old one had not answered when it ended; but the name
            // is always there.
            Err(error) => {
                // Before it was read, while it was read, or while it was answered.
                let ended = [
                    ErrorKind::BrokenPipe,
                    ErrorKind::ConnectionReset,
                    ErrorKind::UnexpectedEof,
                ];
                assert!(ended.contains(&error.kind()), "{error}");
                false
            }
        }
    });
    new.address = status(&new).listeners[0];
    new
}

fn ends(proxy: &mut Proxy) {
    until("the old instance ends", || {
        let ended = proxy.child.try_wait().unwrap();
        ended.is_some_and(|status| status.code() == Some(0))
    });
}

/// The inode of the socket that listens at an address of IPv4.
fn listening_inode(address: SocketAddr) -> String {
    let port = format!(":{:04X}", address.port());
    let sockets = fs::read_to_string("/proc/net/tcp").unwrap();
    let mut lines = sockets.lines().map(|l| l.split_whitespace().collect());
    let line: Vec<&str> = lines
        .find(|words: &Vec<&str>| words[1].ends_with(&port) && words[3] == "0A")
        .unwrap();
    line[9].to_owned()
}

/// A target that keeps each request until the test lets it go.
fn held() -> (Backend, mpsc::Sender<()>) {
    let (release, gate) = mpsc::channel();
    let gate = Mutex::new(gate);
    let backend = Backend::answering(move |asked| {
        if asked.line.contains("/slow") {
            let _ = gate.lock().unwrap().recv();
        }
        ok("v1")
    });
    (backend, release)
}

/// A target that echoes after a switch of protocols.
fn echo() -> Backend {
    Backend::raw(|_, mut client| {
        client.read().unwrap();
        client.send(
            "HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n",
        );
        let mut bytes = [0; 1024];
        while let Ok(count @ 1..) = client.stream.read(&mut bytes) {
            client.stream.write_all(&bytes[..count]).unwrap();
        }
    })
}

fn echoes(client: &mut Client, text: &str) {
    client.send(text);
    assert_eq!(client.exactly(text.len()).unwrap(), text.as_bytes());
}

#[test]
fn no_request_is_refused_lost_or_repeated_over_several_takeovers() {
    let first = Proxy::start(&[]);
    let seen: Arc<Mutex<Vec<String>>> = Arc::default();
    let journal = Arc::clone(&seen);
    let backend = Backend::answering(move |asked| {
        journal.lock().unwrap().push(asked.line.clone());
        ok("v1")
    });
    let addresses = [backend.address];
    first.apply(shop("v1", &[("v1", &addresses)]));
    let inode = listening_inode(first.address);
    let (address, numbers, over) = (first.address, AtomicUsize::new(0), AtomicBool::new(false));
    let next = || numbers.fetch_add(1, SeqCst);
    thread::scope(|scope| {
        let kept = || {
            let mut client = Client::connect(address);
            while !over.load(SeqCst) {
                let path = format!("/{}", next());
                let answer = if path.ends_with('7') {
                    client.post(&path, "body").unwrap()
                } else {
                    client.get(&path).unwrap()
                };
                assert_eq!(answer.status(), 200);
                if answer.field("connection") == Some("close") {
                    client = Client::connect(address);
                }
            }
        };
        let fresh = || {
            while !over.load(SeqCst) {
                let mut client = Client::connect(address);
                assert_eq!(client.get(&format!("/{}", next())).unwrap().status(), 200);
            }
        };
        let load = [
            scope.spawn(kept),
            scope.spawn(kept),
            scope.spawn(fresh),
            scope.spawn(fresh),
        ];
        let served = |more: usize| {
            let goal = numbers.load(SeqCst) + more;
            until("the load goes on", || numbers.load(SeqCst) >= goal);
        };
        let mut proxy = first;
        // The directory is the first instance's, and must outlive it.
        let mut ended = Vec::new();
        for _ in 0..3 {
            served(50);
            let new = successor(&proxy, &[]);
            assert_eq!(new.address, address);
            assert_eq!(listening_inode(address), inode);
            let mut old = std::mem::replace(&mut proxy, new);
            served(50);
            ends(&mut old);
            ended.push(old);
        }
        over.store(true, SeqCst);
        for client in load {
            client.join().unwrap();
        }
        assert_eq!(proxy.apply(shop("v1", &[("v1", &addresses)])), 2);
    });
    let mut seen = seen.lock().unwrap().clone();
    let count = seen.len();
    seen.sort();
    seen.dedup();
    assert_eq!((seen.len(), count), (numbers.load(SeqCst), count));
}

#[test]
fn what_is_open_ends_at_the_old_instance_and_a_kept_connection_is_told_to_leave() {
    let mut old = Proxy::start(&["--linger", "100ms"]);
    let (slow, release) = held();
    let addresses = [slow.address];
    old.apply(shop("v1", &[("v1", &addresses)]));
    let mut kept = old.client();
    assert_eq!(kept.get("/").unwrap().field("connection"), None);
    let mut waiting = old.client();
    waiting.send("GET /slow HTTP/1.1\r\nHost: a\r\n\r\n");
    until("the request is open", || {
        old.statistics("v1").requests_open == 1
    });
    let new = successor(&old, &[]);
    assert_eq!(new.client().get("/").unwrap().text(), "v1");
    // Longer than the linger of a plain end: it may come back whenever it likes.
    thread::sleep(Duration::from_millis(400));
    let answer = kept.get("/").unwrap();
    assert_eq!(
        (answer.text().as_str(), answer.field("connection")),
        ("v1", Some("close"))
    );
    assert!(kept.is_ended());
    assert!(old.child.try_wait().unwrap().is_none());
    release.send(()).unwrap();
    assert_eq!(waiting.read().unwrap().text(), "v1");
    ends(&mut old);
    assert_eq!(status(&new).generation, 1, "its socket was removed");
    let names: Vec<_> = fs::read_dir(&old.directory).unwrap().collect();
    let names = names.into_iter().map(|name| name.unwrap().file_name());
    let sockets = names.filter(|name| name.to_string_lossy().contains("sock"));
    assert_eq!(sockets.collect::<Vec<_>>(), ["proxy.sock"]);
}

#[test]
fn tunnels_stay_until_they_end_or_the_drain_is_over() {
    let mut old = Proxy::start(&["--max-drain", "2s"]);
    let target = echo();
    let addresses = [target.address];
    old.apply(shop("v1", &[("v1", &addresses)]));
    let (mut brief, mut long) = (old.client(), old.client());
    for tunnel in [&mut brief, &mut long] {
        tunnel.send(UPGRADE);
        assert_eq!(tunnel.head().unwrap().status(), 101);
    }
    let _new = successor(&old, &[]);
    echoes(&mut brief, "after the takeover");
    echoes(&mut long, "after the takeover");
    drop(brief);
    assert!(old.child.try_wait().unwrap().is_none());
    echoes(&mut long, "still there");
    assert!(long.is_ended());
    ends(&mut old);
    assert!(old.log().contains("the time to drain is over"));
}

#[test]
fn the_instances_before_follow_the_tables_and_drains_of_the_last_one() {
    let first = Proxy::start(&[]);
    let (v1, release) = held();
    let v2 = Backend::named("v2");
    let tunnel_target = echo();
    let (a1, a2, a3) = ([v1.address], [v2.address], [tunnel_target.address]);
    // The first carries a tunnel, the second a request and an idle connection.
    first.apply(shop("ws", &[("ws", &a3), ("v1", &a1), ("v2", &a2)]));
    let mut tunnel = first.client();
    tunnel.send(UPGRADE);
    assert_eq!(tunnel.head().unwrap().status(), 101);
    let mut early = first.client();
    let second = successor(&first, &[]);
    second.apply(shop("v1", &[("ws", &a3), ("v1", &a1), ("v2", &a2)]));
    let mut kept = second.client();
    assert_eq!(kept.get("/").unwrap().text(), "v1");
    let mut waiting = second.client();
    waiting.send("GET /slow HTTP/1.1\r\nHost: a\r\n\r\n");
    until("the request is open", || {
        second.statistics("v1").requests_open == 1
    });
    let third = successor(&second, &[]);
    third.apply(shop("v2", &[("ws", &a3), ("v1", &a1), ("v2", &a2)]));
    // Connections that the instances before have kept are routed by the last table.
    assert_eq!(kept.get("/").unwrap().text(), "v2");
    assert_eq!(early.get("/").unwrap().text(), "v2");
    // And a drain is not over before it is over there.
    let left = third.drain(&["v1-0"], Duration::from_millis(100));
    assert_eq!((left.requests, left.tunnels), (1, 0));
    let left = third.drain(&["ws-0"], Duration::from_millis(100));
    assert_eq!((left.requests, left.tunnels), (0, 1));
    thread::scope(|scope| {
        let drain = scope.spawn(|| third.drain(&["v1-0", "ws-0"], DEADLINE));
        drop(tunnel);
        assert!(!drain.is_finished());
        release.send(()).unwrap();
        assert_eq!(waiting.read().unwrap().text(), "v1");
        assert!(drain.join().unwrap().is_empty());
    });
    let (mut first, mut second) = (first, second);
    ends(&mut first);
    ends(&mut second);
    assert_eq!(third.apply(shop("v2", &[("v2", &a2)])), 4);
}

/// Asks to take over as a new instance does, and goes no further.
fn half_taken(proxy: &Proxy) -> UnixStream {
    let mut stream = UnixStream::connect(proxy.directory.join("proxy.sock")).unwrap();
    stream.set_read_timeout(Some(DEADLINE)).unwrap();
    let call = Call {
        version: VERSION,
        request: Request::TakeOver,
    };
    stream.write_all(&encode(&call).unwrap()).unwrap();
    let reply = read_reply(&mut stream).unwrap();
    let Reply::HandOver(told) = reply else {
        panic!("{reply:?}");
    };
    assert_eq!(told.doors[0].address, proxy.address);
    stream
}

fn next_table(proxy: &Proxy, addresses: &[SocketAddr]) -> Request {
    let Reply::Table(current) = proxy.call(Request::Table) else {
        panic!("no table");
    };
    let mut table = current;
    let expected = table.generation;
    table.generation += 1;
    table.apps = shop("v1", &[("v1", addresses)]);
    Request::Apply { expected, table }
}

#[test]
fn a_takeover_that_is_given_up_leaves_the_old_instance_as_it_was() {
    let proxy = Proxy::start(&[]);
    let backend = Backend::named("v1");
    let addresses = [backend.address];
    proxy.apply(shop("v1", &[("v1", &addresses)]));
    let mut kept = proxy.client();
    assert_eq!(kept.get("/").unwrap().text(), "v1");
    let mut stream = half_taken(&proxy);
    let apply = next_table(&proxy, &addresses);
    // Both may think they are the one, so neither changes anything.
    let refused = proxy.call(apply.clone());
    assert_eq!(refused, Reply::Refused(Refusal::HandingOver));
    let refused = proxy.call(Request::TakeOver);
    assert!(matches!(refused, Reply::Refused(Refusal::TakeOver(_))));
    let refused = proxy.call(Request::Taken);
    assert!(matches!(refused, Reply::Refused(Refusal::TakeOver(_))));
    assert_eq!(proxy.client().get("/").unwrap().text(), "v1");
    // It says something else than it must, behind the frame of secrets.
    let mut length = [0; 4];
    stream.read_exact(&mut length).unwrap();
    let mut secrets = vec![0; u32::from_be_bytes(length) as usize];
    assert!(!secrets.is_empty());
    stream.read_exact(&mut secrets).unwrap();
    let refused = call_on(stream, Request::Status).unwrap();
    assert!(matches!(refused, Reply::Refused(Refusal::TakeOver(_))));
    // It leaves.
    drop(half_taken(&proxy));
    until("tables are applied again", || {
        proxy.call(apply.clone()) == Reply::Applied { generation: 2 }
    });
    let answer = kept.get("/").unwrap();
    assert_eq!((answer.status(), answer.field("connection")), (200, None));
    let sockets = fs::read_dir(&proxy.directory).unwrap();
    let sockets = sockets.filter(|name| {
        let name = name.as_ref().unwrap().file_name();
        name.to_string_lossy().contains("sock")
    });
    assert_eq!(sockets.count(), 1);
}

#[test]
fn a_new_instance_that_is_killed_in_the_middle_leaves_the_old_one_serving() {
    let mut old = Proxy::start(&[]);
    let backend = Backend::named("v1");
    let addresses = [backend.address];
    old.apply(shop("v1", &[("v1", &addresses)]));
    // Its table is a pipe into which nobody writes: it hangs where it has the
    // listeners and is not ready.
    let state = old.directory.join("other");
    fs::create_dir(&state).unwrap();
    let made = Command::new("mkfifo").arg(state.join("table")).status();
    assert!(made.unwrap().success());
    let mut command = Proxy::command(&old.directory);
    command
        .arg("--takeover")
        .arg(old.directory.join("proxy.sock"));
    let arguments: Vec<_> = command.get_args().map(ToOwned::to_owned).collect();
    let mut stuck = Command::new(command.get_program());
    stuck.args(arguments.iter().map(|argument| {
        if argument == old.directory.join("state").as_os_str() {
            state.as_os_str()
        } else {
            argument.as_os_str()
        }
    }));
    let mut stuck = stuck.stderr(std::process::Stdio::null()).spawn().unwrap();
    let apply = next_table(&old, &addresses);
    let request = |expected: u64| match apply.clone() {
        Request::Apply { mut table, .. } => {
            table.generation = expected + 1;
            Request::Apply { expected, table }
        }
        other => other,
    };
    // A wrong generation changes nothing, so it can be asked until the word changes.
    until("it is handing over", || {
        old.call(request(90)) == Reply::Refused(Refusal::HandingOver)
    });
    assert_eq!(old.client().get("/").unwrap().text(), "v1");
    stuck.kill().unwrap();
    stuck.wait().unwrap();
    until("tables are applied again", || {
        old.call(apply.clone()) == Reply::Applied { generation: 2 }
    });
    assert_eq!(old.client().get("/").unwrap().text(), "v1");
    assert!(old.log().contains("we serve on"));
    // And the next one takes over.
    let new = successor(&old, &[]);
    ends(&mut old);
    assert_eq!(new.client().get("/").unwrap().text(), "v1");
}

#[test]
fn an_instance_with_another_state_directory_does_not_take_over() {
    let old = Proxy::start(&[]);
    let backend = Backend::named("v1");
    let addresses = [backend.address];
    old.apply(shop("v1", &[("v1", &addresses)]));
    let output = Command::new(env!("CARGO_BIN_EXE_cutover-proxy"))
        .arg("--takeover")
        .arg(old.directory.join("proxy.sock"))
        .arg("--control")
        .arg(old.directory.join("proxy.sock"))
        .arg("--state")
        .arg(old.directory.join("another"))
        .env("NO_COLOR", "1")
        .output()
        .unwrap();
    assert_eq!(output.status.code(), Some(1));
    let told = String::from_utf8(output.stderr).unwrap();
    assert!(told.contains("the same --state"), "{told}");
    until("tables are applied again", || {
        matches!(
            old.call(next_table(&old, &addresses)),
            Reply::Applied { .. }
        )
    });
}

#[test]
fn only_the_same_user_and_root_take_over() {
    if !rustix::process::geteuid().is_root() {
        eprintln!("not run: only root can become somebody else to try");
        return;
    }
    let old = Proxy::start(&["--control-uid", "64001", "--control-group", "64002"]);
    let open = fs::Permissions::from_mode(0o755);
    fs::set_permissions(&old.directory, open).unwrap();
    let control = old.directory.join("proxy.sock");
    // Both may apply tables; the listeners and secrets are another matter.
    for (uid, gid) in [(64_001, 64_002), (64_009, 64_002)] {
        const SCRIPT: &str = "import socket,sys,json\n\
            s=socket.socket(socket.AF_UNIX);s.settimeout(10);s.connect(sys.argv[1])\n\
            b=b'{\"version\":1,\"request\":\"take_over\"}'\n\
            s.sendall(len(b).to_bytes(4,'big')+b)\n\
            d,f,_,_=socket.recv_fds(s,65536,64)\n\
            print(len(f),d[4:].decode())";
        let mut command = Command::new("python3");
        let output = command.args(["-c", SCRIPT]).arg(&control).uid(uid).gid(gid);
        let told = String::from_utf8(output.output().unwrap().stdout).unwrap();
        assert!(told.starts_with("0 "), "{told}");
        assert!(told.contains("only user 0 and root may"), "{told}");
    }
    let backend = Backend::named("v1");
    let addresses = [backend.address];
    assert_eq!(old.apply(shop("v1", &[("v1", &addresses)])), 1);
}

#[test]
fn where_nobody_runs_it_starts_plainly_with_listeners_and_not_without() {
    let directory = tempfile::tempdir().unwrap();
    let socket = directory.path().join("proxy.sock");
    let command = || {
        let mut command = Proxy::command(directory.path());
        command.arg("--takeover").arg(&socket);
        command
    };
    assert_eq!(command().status().unwrap().code(), Some(1));
    // The name of a process that was killed is nobody, too.
    drop(UnixListener::bind(&socket).unwrap());
    let mut listening = command();
    listening.args(["--listen", "127.0.0.1:0"]);
    let proxy = Proxy::spawn(directory.path(), listening);
    assert!(proxy.log().contains("no instance runs there"));
}

#[test]
fn a_proxy_from_before_there_were_takeovers_is_left_alone() {
    let directory = tempfile::tempdir().unwrap();
    let socket = directory.path().join("proxy.sock");
    let listener = UnixListener::bind(&socket).unwrap();
    let old = thread::spawn(move || {
        let (mut stream, _) = listener.accept().unwrap();
        let mut bytes = [0; 1024];
        assert!(stream.read(&mut bytes).unwrap() > 0);
        let refusal = Refusal::Malformed("unknown variant `take_over`".to_owned());
        let reply = encode(&Reply::Refused(refusal)).unwrap();
        stream.write_all(&reply).unwrap();
    });
    let mut command = Proxy::command(directory.path());
    command.args(["--listen", "127.0.0.1:0", "--takeover"]);
    assert_eq!(command.arg(&socket).status().unwrap().code(), Some(1));
    old.join().unwrap();
    let log = fs::read_to_string(directory.path().join("log")).unwrap();
    assert!(log.contains("restart it instead"), "{log}");
}

/// A command that finds a listener as systemd passes it, with its name.
fn with_socket(command: &Command, log: &Path, listener: &TcpListener, name: &str) -> Command {
    let mut shell = Command::new("sh");
    shell
        .arg("-c")
        .arg("exec 3<&0 </dev/null; LISTEN_PID=$$ LISTEN_FDS=1 exec \"$@\"")
        .arg("sh")
        .arg(command.get_program())
        .args(command.get_args())
        .env("LISTEN_FDNAMES", name)
        .env("CUTOVER_LOG", "debug")
        .stdin(OwnedFd::from(listener.try_clone().unwrap()))
        .stderr(fs::File::options().append(true).open(log).unwrap());
    shell
}

#[test]
fn two_instances_share_a_socket_of_systemd_and_one_after_the_other_serves() {
    let directory = tempfile::tempdir().unwrap();
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    let inode = listening_inode(address);
    let command = |name: &str| {
        let mut command = Proxy::command(directory.path());
        command
            .arg("--takeover")
            .arg(directory.path().join("proxy.sock"));
        with_socket(&command, &directory.path().join("log"), &listener, name)
    };
    let backend = Backend::named("v1");
    let addresses = [backend.address];
    let mut first = Proxy::spawn(directory.path(), command("http"));
    assert_eq!(first.address, address);
    first.apply(shop("v1", &[("v1", &addresses)]));
    let mut kept = first.client();
    assert_eq!(kept.get("/").unwrap().text(), "v1");
    let mut second = taken_over(&first, command("cutover-http.socket"));
    assert_eq!(second.address, address);
    let answer = kept.get("/").unwrap();
    assert_eq!(answer.field("connection"), Some("close"));
    ends(&mut first);
    for _ in 0..20 {
        assert_eq!(second.client().get("/").unwrap().text(), "v1");
    }
    // When it is killed, what comes waits for the next one.
    second.signal("KILL");
    second.child.wait().unwrap();
    let mut waiting = Client::connect(address);
    waiting.send("GET / HTTP/1.1\r\nHost: a\r\n\r\n");
    let third = Proxy::spawn(directory.path(), command("http"));
    assert_eq!(waiting.read().unwrap().text(), "v1");
    assert_eq!(listening_inode(address), inode);
    drop(third);
    // A name that says nothing is no guess.
    assert_eq!(command("admin").status().unwrap().code(), Some(1));
}

#[test]
fn a_socket_that_is_made_blocking_by_who_shares_it_does_not_stop_the_proxy() {
    let directory = tempfile::tempdir().unwrap();
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let log = directory.path().join("log");
    let command = with_socket(&Proxy::command(directory.path()), &log, &listener, "http");
    let proxy = Proxy::spawn(directory.path(), command);
    for _ in 0..20 {
        // As systemd does with what it passes to another instance.
        listener.set_nonblocking(false).unwrap();
        assert_eq!(proxy.client().get("/").unwrap().status(), 404);
        let stream = UnixStream::connect(directory.path().join("proxy.sock")).unwrap();
        stream.set_read_timeout(Some(DEADLINE)).unwrap();
        call_on(stream, Request::Status).unwrap();
    }
}

#[test]
fn of_two_instances_that_start_at_the_same_moment_one_serves() {
    let directory = tempfile::tempdir().unwrap();
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let log = directory.path().join("log");
    let mut command = Proxy::command(directory.path());
    command
        .arg("--takeover")
        .arg(directory.path().join("proxy.sock"));
    for _ in 0..5 {
        let start = || {
            with_socket(&command, &log, &listener, "http")
                .spawn()
                .unwrap()
        };
        let mut both = [start(), start()];
        until("one has taken over and the other has ended", || {
            both.iter_mut().any(|one| {
                let ended = one.try_wait().unwrap();
                ended.is_some_and(|status| status.code() == Some(0))
            })
        });
        let mut left = both.into_iter().filter_map(|mut one| {
            let ended = one.try_wait().unwrap();
            ended.is_none().then_some(one)
        });
        let mut left = left.next().unwrap();
        left.kill().unwrap();
        left.wait().unwrap();
    }
}

#[test]
fn a_second_instance_on_the_same_state_is_refused_unless_it_takes_over() {
    let first = Proxy::start(&[]);
    let mut second = Proxy::command(&first.directory);
    second.args(["--listen", "127.0.0.1:0"]);
    assert_eq!(second.status().unwrap().code(), Some(1));
    assert!(first.log().contains("give --takeover"), "{}", first.log());
    let backend = Backend::named("v1");
    let addresses = [backend.address];
    assert_eq!(first.apply(shop("v1", &[("v1", &addresses)])), 1);
}

#[test]
fn listeners_are_added_and_kept_by_a_takeover() {
    let mut old = Proxy::start(&[]);
    let backend = Backend::named("v1");
    let addresses = [backend.address];
    old.apply(shop("v1", &[("v1", &addresses)]));
    let inode = listening_inode(old.address);
    let same = format!("http+h2c={}", old.address);
    let new = successor(&old, &["--listen", &same, "--listen", "127.0.0.1:0"]);
    ends(&mut old);
    let told = status(&new).listeners;
    assert_eq!((told.len(), told[0]), (2, old.address));
    assert_eq!(listening_inode(told[0]), inode);
    for address in told {
        assert_eq!(Client::connect(address).get("/").unwrap().text(), "v1");
    }
}

#[test]
fn a_signal_shortens_the_drain_to_the_grace() {
    let mut old = Proxy::start(&["--grace", "200ms"]);
    let (slow, _release) = held();
    let addresses = [slow.address];
    old.apply(shop("v1", &[("v1", &addresses)]));
    let mut waiting = old.client();
    waiting.send("GET /slow HTTP/1.1\r\nHost: a\r\n\r\n");
    until("the request is open", || {
        old.statistics("v1").requests_open == 1
    });
    let new = successor(&old, &[]);
    old.signal("TERM");
    ends(&mut old);
    assert!(waiting.is_ended());
    assert_eq!(new.client().get("/").unwrap().text(), "v1");
}

#[test]
fn an_instance_before_that_is_stuck_holds_up_one_table_and_no_question() {
    let old = Proxy::start(&[]);
    let (slow, release) = held();
    let v2 = Backend::named("v2");
    let addresses = [[slow.address], [v2.address]];
    let pools: [(&str, &[SocketAddr]); 2] = [("v1", &addresses[0]), ("v2", &addresses[1])];
    old.apply(shop("v1", &pools));
    let mut client = old.client();
    client.send("GET /slow HTTP/1.1\r\nHost: a\r\n\r\n");
    until("the old instance has a request", || {
        old.statistics("v1").requests_open == 1
    });
    let new = successor(&old, &[]);
    old.signal("STOP");
    let swap = |serving: &str| {
        let began = Instant::now();
        new.apply(shop(serving, &pools));
        began.elapsed()
    };
    let (stuck, asked) = thread::scope(|scope| {
        let applied = scope.spawn(|| swap("v2"));
        until("the table is routed by", || {
            Client::connect(old.address).get("/").unwrap().text() == "v2"
        });
        let began = Instant::now();
        status(&new);
        new.counts();
        let asked = began.elapsed();
        assert!(!applied.is_finished(), "it waited for nobody");
        (applied.join().unwrap(), asked)
    });
    assert!(stuck > asked && asked < Duration::from_secs(1), "{asked:?}");
    // It is known to be stuck by now.
    assert!(swap("v1") < stuck / 2, "{stuck:?}");
    // What it holds is not known, so it is not empty.
    let left = new.drain(&["v2-0"], Duration::from_millis(100));
    assert!(!left.is_empty());
    old.signal("CONT");
    release.send(()).unwrap();
    assert_eq!(client.read().unwrap().text(), "v1");
    until("it has ended, and nothing is left", || {
        new.drain(&["v2-0"], DEADLINE).is_empty()
    });
}
