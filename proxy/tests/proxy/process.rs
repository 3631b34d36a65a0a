//! Start, end and restart of the process, and who may talk to it.

use std::fs;
use std::net::TcpStream;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::os::unix::net::UnixStream;
use std::os::unix::process::CommandExt;
use std::process::{Command, Stdio};
use std::sync::mpsc;
use std::thread;
use std::time::Duration;

use crate::common::{Backend, Client, DEADLINE, Proxy, ok, read_reply, shop, until};
use cutover_wire::proxy::{Refusal, Reply, Request};

#[test]
fn the_stored_table_survives_a_kill_and_a_restart() {
    let directory = tempfile::tempdir().unwrap();
    let backend = Backend::named("v1");
    let addresses = [backend.address];
    let mut proxy = Proxy::start_in(directory.path(), &[]);
    proxy.apply(shop("v1", &[("v1", &addresses)]));
    let Reply::Status(before) = proxy.call(Request::Status) else {
        panic!("no status");
    };
    proxy.signal("KILL");
    proxy.child.wait().unwrap();
    let proxy = Proxy::start_in(directory.path(), &[]);
    assert_eq!(proxy.client().get("/").unwrap().text(), "v1");
    let Reply::Status(after) = proxy.call(Request::Status) else {
        panic!("no status");
    };
    assert_eq!((before.generation, after.generation), (1, 1));
    assert_ne!(before.instance, after.instance);
}

#[test]
fn a_damaged_table_is_set_aside_and_the_one_before_it_served() {
    let directory = tempfile::tempdir().unwrap();
    let (v1, v2) = (Backend::named("v1"), Backend::named("v2"));
    let (a1, a2) = ([v1.address], [v2.address]);
    let mut proxy = Proxy::start_in(directory.path(), &[]);
    proxy.apply(shop("v1", &[("v1", &a1)]));
    proxy.apply(shop("v2", &[("v2", &a2)]));
    proxy.signal("KILL");
    proxy.child.wait().unwrap();
    let table = directory.path().join("state/table");
    let text = fs::read_to_string(&table).unwrap();
    fs::write(&table, &text[..text.len() / 2]).unwrap();
    let proxy = Proxy::start_in(directory.path(), &[]);
    assert_eq!(proxy.client().get("/").unwrap().text(), "v1");
    assert!(directory.path().join("state/table.damaged").exists());
    assert!(proxy.log().contains("ERROR"), "it was not said loudly");
    // And it goes on from there.
    assert_eq!(proxy.apply(shop("v2", &[("v2", &a2)])), 2);
}

#[test]
fn a_table_that_cannot_be_stored_is_refused_and_the_old_one_serves_on() {
    let proxy = Proxy::start(&[]);
    let (v1, v2) = (Backend::named("v1"), Backend::named("v2"));
    let (a1, a2) = ([v1.address], [v2.address]);
    proxy.apply(shop("v1", &[("v1", &a1)]));
    fs::create_dir(proxy.directory.join("state/table.new")).unwrap();
    let table = cutover_wire::table::Table {
        generation: 2,
        apps: shop("v2", &[("v2", &a2)]),
        ..cutover_wire::table::Table::default()
    };
    let request = Request::Apply { expected: 1, table };
    let reply = proxy.call(request.clone());
    assert!(
        matches!(reply, Reply::Refused(Refusal::Storage(_))),
        "{reply:?}"
    );
    assert_eq!(proxy.client().get("/").unwrap().text(), "v1");
    fs::remove_dir(proxy.directory.join("state/table.new")).unwrap();
    assert_eq!(proxy.call(request), Reply::Applied { generation: 2 });
    assert_eq!(proxy.client().get("/").unwrap().text(), "v2");
}

#[test]
fn sigterm_finishes_the_request_in_flight_and_exits_with_zero() {
    let mut proxy = Proxy::start(&["--linger", "300ms"]);
    let (release, gate) = mpsc::channel::<()>();
    let gate = std::sync::Mutex::new(gate);
    let backend = Backend::answering(move |asked| {
        if asked.line.contains("/slow") {
            let _ = gate.lock().unwrap().recv();
        }
        ok("whole")
    });
    let addresses = [backend.address];
    proxy.apply(shop("v1", &[("v1", &addresses)]));
    let mut idle = proxy.client();
    assert_eq!(idle.get("/").unwrap().status(), 200);
    let mut client = proxy.client();
    client.send("GET /slow HTTP/1.1\r\nHost: a\r\n\r\n");
    until("the request is open", || {
        proxy.statistics("v1").requests_open == 1
    });
    proxy.signal("TERM");
    until("the door is closed", || {
        TcpStream::connect(proxy.address).is_err()
    });
    // A client that was idle and asks at this moment gets its answer, and is told to leave.
    let answer = idle.get("/").unwrap();
    assert_eq!(answer.field("connection"), Some("close"));
    assert!(proxy.child.try_wait().unwrap().is_none());
    release.send(()).unwrap();
    let answer = client.read().unwrap();
    assert_eq!(
        (answer.text().as_str(), answer.field("connection")),
        ("whole", Some("close"))
    );
    assert!(client.is_ended());
    assert_eq!(proxy.child.wait().unwrap().code(), Some(0));
    assert!(!proxy.directory.join("proxy.sock").exists());
}

#[test]
fn the_grace_bounds_the_end() {
    let mut proxy = Proxy::start(&["--grace", "300ms"]);
    let backend = Backend::raw(|_, mut client| {
        client.read().unwrap();
        client.is_ended();
    });
    let addresses = [backend.address];
    proxy.apply(shop("v1", &[("v1", &addresses)]));
    let mut client = proxy.client();
    client.send("GET / HTTP/1.1\r\nHost: a\r\n\r\n");
    until("the request is open", || {
        proxy.statistics("v1").requests_open == 1
    });
    proxy.signal("INT");
    assert_eq!(proxy.child.wait().unwrap().code(), Some(0));
    assert!(client.is_ended());
}

#[test]
fn sockets_of_systemd_are_served_and_their_queue_survives_a_restart() {
    let directory = tempfile::tempdir().unwrap();
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    let backend = Backend::named("v1");
    let addresses = [backend.address];
    let start = || {
        // The shell puts the socket at number 3 and its own process number, which the
        // proxy takes over by exec, in the environment.
        let proxy = Proxy::command(directory.path());
        let mut shell = Command::new("sh");
        shell
            .arg("-c")
            .arg("exec 3<&0 </dev/null; LISTEN_PID=$$ LISTEN_FDS=1 exec \"$@\"")
            .arg("sh")
            .arg(proxy.get_program())
            .args(proxy.get_args())
            .stdin(std::os::fd::OwnedFd::from(listener.try_clone().unwrap()))
            .stderr(
                fs::File::options()
                    .append(true)
                    .open(directory.path().join("log"))
                    .unwrap(),
            );
        Proxy::spawn(directory.path(), shell)
    };
    let mut proxy = start();
    assert_eq!(proxy.address, address);
    proxy.apply(shop("v1", &[("v1", &addresses)]));
    assert_eq!(proxy.client().get("/").unwrap().text(), "v1");
    proxy.signal("TERM");
    assert_eq!(proxy.child.wait().unwrap().code(), Some(0));
    // Nobody serves now, and still nobody is refused.
    let mut waiting = Client::connect(address);
    waiting.send("GET / HTTP/1.1\r\nHost: a\r\n\r\n");
    let _proxy = start();
    assert_eq!(waiting.read().unwrap().text(), "v1");
}

#[test]
fn the_service_manager_is_told_when_it_is_ready() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("notify");
    let socket = std::os::unix::net::UnixDatagram::bind(&path).unwrap();
    socket.set_read_timeout(Some(DEADLINE)).unwrap();
    let mut command = Proxy::command(directory.path());
    command
        .args(["--listen", "127.0.0.1:0"])
        .env("NOTIFY_SOCKET", &path);
    let proxy = Proxy::spawn(directory.path(), command);
    let told = || {
        let mut bytes = [0; 64];
        let count = socket.recv(&mut bytes).unwrap();
        String::from_utf8(bytes[..count].to_vec()).unwrap()
    };
    assert_eq!(told(), "READY=1\nSTATUS=serving\n");
    proxy.signal("TERM");
    assert_eq!(told(), "STOPPING=1\n");
}

#[test]
fn a_service_manager_that_watches_is_told_again_and_again_that_the_workers_go_on() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("notify");
    let socket = std::os::unix::net::UnixDatagram::bind(&path).unwrap();
    socket.set_read_timeout(Some(DEADLINE)).unwrap();
    let mut command = Proxy::command(directory.path());
    command
        .args(["--listen", "127.0.0.1:0"])
        .env("NOTIFY_SOCKET", &path)
        .env("WATCHDOG_USEC", "40000");
    let _proxy = Proxy::spawn(directory.path(), command);
    let mut beats = 0;
    while beats < 3 {
        let mut bytes = [0; 64];
        let count = socket.recv(&mut bytes).unwrap();
        beats += usize::from(&bytes[..count] == b"WATCHDOG=1\n");
    }
}

#[test]
fn a_listener_of_an_unknown_kind_is_refused_with_what_is_possible() {
    let directory = tempfile::tempdir().unwrap();
    let mut command = Proxy::command(directory.path());
    command.args(["--listen", "gopher=127.0.0.1:70"]);
    let ended = command.stderr(Stdio::piped()).output().unwrap();
    assert_eq!(ended.status.code(), Some(2));
    let told = String::from_utf8(ended.stderr).unwrap();
    assert!(told.contains("http or https"), "{told}");
}

#[test]
fn without_a_listener_it_does_not_begin() {
    let directory = tempfile::tempdir().unwrap();
    let status = Proxy::command(directory.path()).status().unwrap();
    assert_eq!(status.code(), Some(1));
    let log = fs::read_to_string(directory.path().join("log")).unwrap();
    assert!(log.contains("--listen"), "{log}");
}

/// Asks for the status as another user, which only root can become; tells whether
/// there was an answer.
fn ask_as(proxy: &Proxy, uid: u32, gid: u32) -> bool {
    const SCRIPT: &str = "import socket,sys\n\
        s=socket.socket(socket.AF_UNIX);s.settimeout(10);s.connect(sys.argv[1])\n\
        b=b'{\"version\":1,\"request\":\"status\"}'\n\
        s.sendall(len(b).to_bytes(4,'big')+b)\n\
        sys.exit(0 if s.recv(4) else 7)";
    let mut command = Command::new("python3");
    command.args(["-c", SCRIPT]);
    command.arg(proxy.directory.join("proxy.sock"));
    let status = command.stderr(Stdio::null()).uid(uid).gid(gid).status();
    status.unwrap().code() == Some(0)
}

#[test]
fn the_control_socket_is_for_its_owner_and_those_who_are_named() {
    let options = ["--control-uid", "64001", "--control-group", "64002"];
    if !rustix::process::geteuid().is_root() {
        eprintln!("not run: only root can become somebody else to try");
        return;
    }
    let proxy = Proxy::start(&options);
    let path = proxy.directory.join("proxy.sock");
    let found = fs::metadata(&path).unwrap();
    assert_eq!(
        (found.permissions().mode() & 0o777, found.gid()),
        (0o660, 64_002)
    );
    fs::set_permissions(&proxy.directory, fs::Permissions::from_mode(0o755)).unwrap();
    assert!(ask_as(&proxy, 64_009, 64_002), "a member of the group");
    // The mode is opened, so that the credentials alone decide.
    fs::set_permissions(&path, fs::Permissions::from_mode(0o666)).unwrap();
    assert!(ask_as(&proxy, 64_001, 64_009), "a named user");
    assert!(!ask_as(&proxy, 64_009, 64_009), "somebody else");
    assert!(proxy.log().contains("may not use the control socket"));
}

#[test]
fn several_calls_follow_each_other_and_a_wrong_one_is_told() {
    use std::io::Write;
    let proxy = Proxy::start(&[]);
    let mut stream = UnixStream::connect(proxy.directory.join("proxy.sock")).unwrap();
    stream.set_read_timeout(Some(DEADLINE)).unwrap();
    let mut ask = |body: &str| {
        let length = u32::try_from(body.len()).unwrap();
        stream.write_all(&length.to_be_bytes()).unwrap();
        stream.write_all(body.as_bytes()).unwrap();
        read_reply(&mut stream).unwrap()
    };
    let status = r#"{"version":1,"request":"status"}"#;
    assert!(matches!(ask(status), Reply::Status(_)));
    let refused = ask(r#"{"version":9,"request":"status"}"#);
    assert_eq!(refused, Reply::Refused(Refusal::Version(9)));
    let refused = ask(r#"{"version":1,"request":"dance"}"#);
    assert!(matches!(refused, Reply::Refused(Refusal::Malformed(_))));
    assert!(matches!(ask(status), Reply::Status(_)));
}

#[test]
fn requests_in_flight_outlive_many_restarts_of_the_agent() {
    let proxy = Proxy::start(&[]);
    let backend = Backend::named("v1");
    let addresses = [backend.address];
    proxy.apply(shop("v1", &[("v1", &addresses)]));
    thread::scope(|scope| {
        let load = scope.spawn(|| {
            let mut client = proxy.client();
            (0..200).all(|_| client.get("/").is_ok_and(|answer| answer.status() == 200))
        });
        for _ in 0..50 {
            // A talk that is cut in the middle of a frame.
            use std::io::Write;
            let mut stream = UnixStream::connect(proxy.directory.join("proxy.sock")).unwrap();
            stream.write_all(&[0, 0, 1]).unwrap();
            drop(stream);
            thread::sleep(Duration::from_millis(1));
        }
        assert!(load.join().unwrap());
    });
}
