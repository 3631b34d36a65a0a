//! A proxy process, targets and clients for tests, all on the loopback and blocking.
//!
//! Targets and clients speak bytes, not a library's idea of HTTP: a test says
//! what is sent and sees what came.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{ErrorKind, Read, Write};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicUsize, Ordering::SeqCst};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::{Duration, Instant};

use cutover_wire::proxy::{
    Call, Cut, Drained, LENGTH_BYTES, Reply, Request, VERSION, decode, encode, length,
};
use cutover_wire::statistics::{PoolStatistics, Statistics};
use cutover_wire::table::{Limits, Pool, Route, Split, Table, Target, Weight};

/// No wait of a test is longer.
pub(crate) const DEADLINE: Duration = Duration::from_secs(20);

/// Waits until a condition holds, and fails with its name otherwise.
pub(crate) fn until(what: &str, mut condition: impl FnMut() -> bool) {
    let end = Instant::now() + DEADLINE;
    while !condition() {
        assert!(Instant::now() < end, "never came true: {what}");
        thread::sleep(Duration::from_millis(2));
    }
}

/// A proxy process with a state directory of its own.
pub(crate) struct Proxy {
    pub(crate) child: Child,
    pub(crate) address: SocketAddr,
    pub(crate) directory: PathBuf,
    _owned: Option<tempfile::TempDir>,
}

impl Proxy {
    /// Starts one with further options.
    pub(crate) fn start(options: &[&str]) -> Self {
        let directory = tempfile::tempdir().unwrap();
        let mut proxy = Self::start_in(directory.path(), options);
        proxy._owned = Some(directory);
        proxy
    }

    /// Starts one that serves users at `door`, such as `http+h2c=127.0.0.1:0`.
    pub(crate) fn at(door: &str, options: &[&str]) -> Self {
        let directory = tempfile::tempdir().unwrap();
        let mut command = Self::command(directory.path());
        command.args(["--listen", door]).args(options);
        Self::spawn_owned(directory, command)
    }

    /// Starts a command in a directory that ends with the proxy.
    pub(crate) fn spawn_owned(directory: tempfile::TempDir, command: Command) -> Self {
        let mut proxy = Self::spawn(directory.path(), command);
        proxy._owned = Some(directory);
        proxy
    }

    /// Starts one in a directory that another may have used.
    pub(crate) fn start_in(directory: &Path, options: &[&str]) -> Self {
        let mut command = Self::command(directory);
        command.args(["--listen", "127.0.0.1:0"]).args(options);
        Self::spawn(directory, command)
    }

    /// The command without a listener.
    pub(crate) fn command(directory: &Path) -> Command {
        let log = File::options()
            .create(true)
            .append(true)
            .open(directory.join("log"))
            .unwrap();
        let mut command = Command::new(env!("CARGO_BIN_EXE_cutover-proxy"));
        command
            .arg("--control")
            .arg(directory.join("proxy.sock"))
            .arg("--state")
            .arg(directory.join("state"))
            .env("CUTOVER_LOG", "debug")
            .env("NO_COLOR", "1")
            .stdin(Stdio::null())
            .stderr(log);
        command
    }

    /// Starts a command and waits until the proxy answers on its socket.
    pub(crate) fn spawn(directory: &Path, mut command: Command) -> Self {
        let child = command.spawn().unwrap();
        let mut proxy = Self {
            child,
            address: SocketAddr::from(([127, 0, 0, 1], 0)),
            directory: directory.to_owned(),
            _owned: None,
        };
        let pid = proxy.child.id();
        until("the proxy answers on its socket", || {
            // A socket of the process before may still be there.
            match proxy.try_call(Request::Status) {
                Ok(Reply::Status(status)) => {
                    proxy.address = status.listeners[0];
                    true
                }
                _ => {
                    let ended = proxy.child.try_wait().unwrap();
                    assert!(ended.is_none(), "proxy {pid} ended: {}", proxy.log());
                    false
                }
            }
        });
        proxy
    }

    pub(crate) fn log(&self) -> String {
        std::fs::read_to_string(self.directory.join("log")).unwrap_or_default()
    }

    pub(crate) fn try_call(&self, request: Request) -> std::io::Result<Reply> {
        let stream = UnixStream::connect(self.directory.join("proxy.sock"))?;
        call_on(stream, request)
    }

    pub(crate) fn call(&self, request: Request) -> Reply {
        self.try_call(request).unwrap()
    }

    /// Puts the next table in force, whatever the one before is.
    pub(crate) fn apply(&self, apps: BTreeMap<String, Route>) -> u64 {
        let Reply::Table(current) = self.call(Request::Table) else {
            panic!("no table");
        };
        let expected = current.generation;
        let table = Table {
            generation: expected + 1,
            apps,
            ..Table::default()
        };
        match self.call(Request::Apply { expected, table }) {
            Reply::Applied { generation } => generation,
            other => panic!("{other:?}"),
        }
    }

    /// Puts the table in force that comes of a change to the one before.
    pub(crate) fn change(&self, change: impl FnOnce(&mut Table)) {
        let Reply::Table(mut table) = self.call(Request::Table) else {
            panic!("no table");
        };
        let expected = table.generation;
        let generation = expected + 1;
        table.generation = generation;
        change(&mut table);
        let reply = self.call(Request::Apply { expected, table });
        assert_eq!(reply, Reply::Applied { generation });
    }

    /// The same, of the app `shop` alone.
    pub(crate) fn change_shop(&self, change: impl FnOnce(&mut Route)) {
        self.change(|table| change(table.apps.get_mut("shop").unwrap()));
    }

    /// The address of a listener by its place among the options; the plain one is 0.
    pub(crate) fn listener(&self, place: usize) -> SocketAddr {
        match self.call(Request::Status) {
            Reply::Status(status) => status.listeners[place],
            other => panic!("{other:?}"),
        }
    }

    /// All that was counted.
    pub(crate) fn counts(&self) -> Statistics {
        match self.call(Request::Statistics) {
            Reply::Statistics(statistics) => statistics,
            other => panic!("{other:?}"),
        }
    }

    pub(crate) fn drain(&self, targets: &[&str], deadline: Duration) -> Drained {
        self.drain_and_cut(targets, deadline, None)
    }

    pub(crate) fn drain_and_cut(
        &self,
        targets: &[&str],
        deadline: Duration,
        cut: Option<Cut>,
    ) -> Drained {
        let request = Request::Drain {
            app: "shop".to_owned(),
            targets: targets.iter().map(|&id| id.to_owned()).collect(),
            deadline_ms: deadline.as_millis() as u64,
            cut,
            of_successor: false,
        };
        match self.call(request) {
            Reply::Drained(drained) => drained,
            other => panic!("{other:?}"),
        }
    }

    pub(crate) fn statistics(&self, pool: &str) -> PoolStatistics {
        match self.call(Request::Statistics) {
            Reply::Statistics(statistics) => statistics
                .apps
                .get("shop")
                .and_then(|pools| pools.get(pool))
                .cloned()
                .unwrap_or_default(),
            other => panic!("{other:?}"),
        }
    }

    pub(crate) fn client(&self) -> Client {
        Client::connect(self.address)
    }

    pub(crate) fn signal(&self, name: &str) {
        let pid = self.child.id().to_string();
        let status = Command::new("kill").args(["-s", name, &pid]).status();
        assert!(status.unwrap().success());
    }
}

impl Drop for Proxy {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
        if thread::panicking() {
            eprintln!("the proxy's log:\n{}", self.log());
        }
    }
}

/// The bytes of memory that a proxy has.
pub(crate) fn memory(proxy: &Proxy) -> usize {
    let path = format!("/proc/{}/status", proxy.child.id());
    let status = std::fs::read_to_string(path).unwrap();
    let line = status.lines().find(|line| line.starts_with("VmRSS:"));
    let kilobytes: usize = line
        .and_then(|line| line.split_whitespace().nth(1))
        .unwrap()
        .parse()
        .unwrap();
    kilobytes * 1024
}

/// The descriptors that a proxy has open.
pub(crate) fn descriptors(proxy: &Proxy) -> usize {
    let path = format!("/proc/{}/fd", proxy.child.id());
    std::fs::read_dir(path).unwrap().count()
}

/// One call on an open control connection.
pub(crate) fn call_on(mut stream: UnixStream, request: Request) -> std::io::Result<Reply> {
    let call = Call {
        version: VERSION,
        request,
    };
    stream.write_all(&encode(&call).unwrap())?;
    read_reply(&mut stream)
}

pub(crate) fn read_reply(stream: &mut UnixStream) -> std::io::Result<Reply> {
    let mut head = [0; LENGTH_BYTES];
    stream.read_exact(&mut head)?;
    let mut body = vec![0; length(head).unwrap()];
    stream.read_exact(&mut body)?;
    Ok(decode(&body).unwrap())
}

/// The app `shop` for every host, with these pools of one target each or more.
pub(crate) fn shop(serving: &str, pools: &[(&str, &[SocketAddr])]) -> BTreeMap<String, Route> {
    shop_with(serving, pools, Limits::default())
}

pub(crate) fn shop_with(
    serving: &str,
    pools: &[(&str, &[SocketAddr])],
    limits: Limits,
) -> BTreeMap<String, Route> {
    let pool = |&(name, addresses): &(&str, &[SocketAddr])| {
        let targets = addresses.iter().enumerate();
        let targets = targets.map(|(place, &address)| Target {
            id: format!("{name}-{place}"),
            address,
        });
        (name.to_owned(), Pool::of(targets.collect()))
    };
    let (hosts, pools) = (vec!["*".to_owned()], pools.iter().map(pool).collect());
    let route = Route {
        limits,
        ..Route::new(hosts, "/", Split::all_to(serving), pools)
    };
    BTreeMap::from([("shop".to_owned(), route)])
}

/// A proxy with the app `shop` and two releases that answer with their names; all
/// requests go to the first.
pub(crate) fn two_releases(options: &[&str]) -> (Proxy, [Backend; 2]) {
    let proxy = Proxy::start(options);
    let backends = ["v1", "v2"].map(Backend::named);
    let addresses = [[backends[0].address], [backends[1].address]];
    proxy.apply(shop("v1", &[("v1", &addresses[0]), ("v2", &addresses[1])]));
    (proxy, backends)
}

/// A split by weights in hundredths of a percent.
pub(crate) fn split(weights: &[(&str, u16)]) -> Split {
    let weights = weights.iter();
    Split::of(
        weights
            .map(|&(pool, weight)| (pool.to_owned(), Weight(weight)))
            .collect(),
    )
}

/// An address on which nobody listens.
pub(crate) fn nobody() -> SocketAddr {
    // Bound and not listening, so that nobody else gets the port meanwhile.
    static KEPT: Mutex<Vec<socket2::Socket>> = Mutex::new(Vec::new());
    let socket = socket2::Socket::new(socket2::Domain::IPV4, socket2::Type::STREAM, None).unwrap();
    let any = SocketAddr::from(([127, 0, 0, 1], 0));
    socket.bind(&any.into()).unwrap();
    let address = socket.local_addr().unwrap().as_socket().unwrap();
    KEPT.lock().unwrap().push(socket);
    address
}

/// A message that came: its first line, fields in lower case, and body.
#[derive(Debug, Clone, Default)]
pub(crate) struct Message {
    pub(crate) line: String,
    pub(crate) fields: Vec<(String, String)>,
    pub(crate) body: Vec<u8>,
}

impl Message {
    pub(crate) fn status(&self) -> u16 {
        self.line.split(' ').nth(1).unwrap().parse().unwrap()
    }

    pub(crate) fn field(&self, name: &str) -> Option<&str> {
        let mut fields = self.fields.iter();
        fields.find(|(n, _)| n == name).map(|(_, v)| v.as_str())
    }

    pub(crate) fn text(&self) -> String {
        String::from_utf8_lossy(&self.body).into_owned()
    }
}

/// A connection that reads messages.
pub(crate) struct Client<S = TcpStream> {
    pub(crate) stream: S,
    pub(crate) buffer: Vec<u8>,
}

impl Client {
    pub(crate) fn connect(address: SocketAddr) -> Self {
        Self::new(TcpStream::connect(address).unwrap())
    }

    pub(crate) fn new(stream: TcpStream) -> Self {
        stream.set_read_timeout(Some(DEADLINE)).unwrap();
        stream.set_nodelay(true).unwrap();
        Self {
            stream,
            buffer: Vec::new(),
        }
    }
}

impl<S: Read + Write> Client<S> {
    pub(crate) fn send(&mut self, text: &str) {
        self.stream.write_all(text.as_bytes()).unwrap();
    }

    /// A GET on this connection and its whole answer.
    pub(crate) fn get(&mut self, path: &str) -> std::io::Result<Message> {
        let text = format!("GET {path} HTTP/1.1\r\nHost: shop.example\r\n\r\n");
        self.stream.write_all(text.as_bytes())?;
        self.read()
    }

    /// A GET for a host with further fields, and its whole answer.
    pub(crate) fn ask(&mut self, host: &str, path: &str, fields: &[(&str, &str)]) -> Message {
        let fields = fields.iter();
        let lines: String = fields.map(|(n, v)| format!("{n}: {v}\r\n")).collect();
        self.send(&format!(
            "GET {path} HTTP/1.1\r\nHost: {host}\r\n{lines}\r\n"
        ));
        self.read().unwrap()
    }

    pub(crate) fn post(&mut self, path: &str, body: &str) -> std::io::Result<Message> {
        let length = body.len();
        let text = format!(
            "POST {path} HTTP/1.1\r\nHost: shop.example\r\nContent-Length: {length}\r\n\r\n{body}"
        );
        self.stream.write_all(text.as_bytes())?;
        self.read()
    }

    fn more(&mut self) -> std::io::Result<usize> {
        let mut bytes = [0; 16 * 1024];
        let count = self.stream.read(&mut bytes)?;
        self.buffer.extend_from_slice(&bytes[..count]);
        Ok(count)
    }

    fn need(&mut self) -> std::io::Result<()> {
        match self.more()? {
            0 => Err(ErrorKind::UnexpectedEof.into()),
            _ => Ok(()),
        }
    }

    pub(crate) fn exactly(&mut self, count: usize) -> std::io::Result<Vec<u8>> {
        while self.buffer.len() < count {
            self.need()?;
        }
        Ok(self.buffer.drain(..count).collect())
    }

    pub(crate) fn line(&mut self) -> std::io::Result<String> {
        loop {
            if let Some(end) = self.buffer.windows(2).position(|w| w == b"\r\n") {
                let line: Vec<u8> = self.buffer.drain(..end + 2).collect();
                return Ok(String::from_utf8_lossy(&line[..end]).into_owned());
            }
            self.need()?;
        }
    }

    /// The head of a message alone.
    pub(crate) fn head(&mut self) -> std::io::Result<Message> {
        let mut message = Message {
            line: self.line()?,
            ..Message::default()
        };
        loop {
            let line = self.line()?;
            if line.is_empty() {
                return Ok(message);
            }
            let (name, value) = line.split_once(':').unwrap();
            let field = (name.to_ascii_lowercase(), value.trim().to_owned());
            message.fields.push(field);
        }
    }

    pub(crate) fn chunk(&mut self) -> std::io::Result<Vec<u8>> {
        let line = self.line()?;
        let size = usize::from_str_radix(line.split(';').next().unwrap(), 16).unwrap();
        let data = self.exactly(size)?;
        self.exactly(2)?;
        Ok(data)
    }

    /// A whole message with its body.
    pub(crate) fn read(&mut self) -> std::io::Result<Message> {
        let mut message = self.head()?;
        if message.field("transfer-encoding") == Some("chunked") {
            loop {
                let chunk = self.chunk()?;
                if chunk.is_empty() {
                    break;
                }
                message.body.extend(chunk);
            }
        } else if let Some(length) = message.field("content-length") {
            let length = length.parse().unwrap();
            message.body = self.exactly(length)?;
        } else if message.line.starts_with("HTTP/") && ![101, 204, 304].contains(&message.status())
        {
            while self.more()? > 0 {}
            message.body = std::mem::take(&mut self.buffer);
        }
        Ok(message)
    }

    /// Whether the other side ends the connection without another byte.
    pub(crate) fn is_ended(&mut self) -> bool {
        let ended = match self.more() {
            Ok(count) => count == 0,
            Err(error) => error.kind() == ErrorKind::ConnectionReset,
        };
        ended && self.buffer.is_empty()
    }
}

/// A target whose connections are served by a function each.
pub(crate) struct Backend {
    pub(crate) address: SocketAddr,
    connections: Arc<AtomicUsize>,
    pub(crate) seen: Arc<Mutex<Vec<Message>>>,
}

impl Backend {
    /// Each connection is served by `serve`, which is told its number from 0.
    pub(crate) fn raw(serve: impl Fn(usize, Client) + Send + Sync + 'static) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let connections = Arc::new(AtomicUsize::new(0));
        let count = Arc::clone(&connections);
        let serve = Arc::new(serve);
        thread::spawn(move || {
            for stream in listener.incoming() {
                let Ok(stream) = stream else { return };
                let number = count.fetch_add(1, SeqCst);
                let serve = Arc::clone(&serve);
                thread::spawn(move || serve(number, Client::new(stream)));
            }
        });
        Self {
            address,
            connections,
            seen: Arc::default(),
        }
    }

    /// Answers each request by a function, on connections that are kept.
    pub(crate) fn answering(answer: impl Fn(&Message) -> String + Send + Sync + 'static) -> Self {
        let seen: Arc<Mutex<Vec<Message>>> = Arc::default();
        let journal = Arc::clone(&seen);
        let mut backend = Self::raw(move |_, mut client| {
            while let Ok(message) = client.read() {
                let answer = answer(&message);
                journal.lock().unwrap().push(message);
                if client.stream.write_all(answer.as_bytes()).is_err() {
                    return;
                }
            }
        });
        backend.seen = seen;
        backend
    }

    /// Answers each request with its name.
    pub(crate) fn named(name: &str) -> Self {
        let name = name.to_owned();
        Self::answering(move |_| ok(&name))
    }

    pub(crate) fn connections(&self) -> usize {
        self.connections.load(SeqCst)
    }

    pub(crate) fn requests(&self) -> usize {
        self.seen.lock().unwrap().len()
    }
}

/// A whole answer 200.
pub(crate) fn ok(body: &str) -> String {
    let length = body.len();
    format!("HTTP/1.1 200 OK\r\nContent-Length: {length}\r\n\r\n{body}")
}

/// Ends a connection with a reset.
pub(crate) fn reset(client: &Client) {
    let socket = socket2::SockRef::from(&client.stream);
    socket.set_linger(Some(Duration::ZERO)).unwrap();
    let _ = client.stream.shutdown(Shutdown::Both);
}
