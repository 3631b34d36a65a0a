//! One user: asks, waits, asks again, and never asks twice for the same.

use std::io::Cursor;
use std::sync::Arc;

use base64::Engine as _;
use bytes::{Buf as _, Bytes, BytesMut};
use cutover_demo_app::websocket::{self, Frame, GOING_AWAY};
use cutover_demo_app::{APP_VERSION, LOAD_ID};
use http::{HeaderMap, HeaderName, HeaderValue, Method, Request, StatusCode, header};
use http_body_util::{BodyExt as _, Full};
use hyper::body::Incoming;
use rustix::net::RecvFlags;
use tokio::io::{AsyncReadExt, BufReader, Chain, Join};
use tokio::net::TcpStream;
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};
use tokio::time::Instant;

use super::client::{self, Connection, Failure, within};
use super::record::{Kind, Outcome, Phase, Record};
use super::{IdleClose, Load, Progress, SLOWEST_MS, UPLOAD_BYTES};
use crate::chance::Chance;

/// Any mask will do: nobody between us and the server reads WebSocket frames.
const MASK: [u8; 4] = [0x37, 0xfa, 0x21, 0x3d];

pub(super) struct User {
    pub(super) load: Arc<Load>,
    pub(super) kind: Kind,
    pub(super) name: Arc<str>,
    pub(super) began: Instant,
    pub(super) chance: Chance,
    connection: Option<Connection>,
    socket: Option<Socket>,
    /// When the socket in use was opened.
    opened: Option<Instant>,
    cookies: Vec<(String, String)>,
    last_event: Option<u64>,
    idle_closes: u64,
}

struct Socket {
    stream: BufReader<Join<Chain<Cursor<Bytes>, OwnedReadHalf>, OwnedWriteHalf>>,
    /// The server asked to be left.
    leaving: bool,
}

/// The version that answered, whatever became of the request.
pub(super) type Version = Option<String>;

impl User {
    pub(super) fn new(
        load: Arc<Load>,
        kind: Kind,
        name: String,
        began: Instant,
        chance: Chance,
    ) -> Self {
        Self {
            load,
            kind,
            name: name.into(),
            began,
            chance,
            connection: None,
            socket: None,
            opened: None,
            cookies: Vec::new(),
            last_event: None,
            idle_closes: 0,
        }
    }

    /// Makes requests until the load is over. Gives the records, and how often
    /// a connection was closed while idle.
    pub(super) async fn live(
        mut self,
        progress: &Progress,
        end: Option<Instant>,
    ) -> (Vec<Record>, u64) {
        let mut records: Vec<Record> = Vec::new();
        while progress.take(end) {
            let id = format!("{}-{}", self.name, records.len());
            let began = Instant::now();
            let mut version = None;
            let result = match self.kind {
                Kind::KeepAlive | Kind::Fresh | Kind::Http2 => self.get(&id, &mut version).await,
                Kind::Slow => self.wait(&id, &mut version).await,
                Kind::Post | Kind::Upload | Kind::Http2Post => self.post(&id, &mut version).await,
                Kind::Events => self.events(&id, &mut version, progress).await,
                Kind::WebSocket => self.message(&id, &mut version).await,
            };
            if result.is_err() || self.kind == Kind::Fresh {
                self.connection = None;
            }
            if result.is_err() {
                self.socket = None;
            }
            let record = self.record(id, began, version, result);
            progress.add(&record);
            records.push(record);
            self.think().await;
        }
        if let Some(mut socket) = self.socket.take() {
            let deadline = client::deadline(self.load.timeout);
            // Every message has its answer; the good-bye is mere courtesy.
            let _ = socket.leave(deadline).await;
        }
        (records, self.idle_closes)
    }

    /// A request that has just ended.
    pub(super) fn record(
        &self,
        id: String,
        began: Instant,
        version: Version,
        result: Result<(), Failure>,
    ) -> Record {
        Record {
            id,
            user: Arc::clone(&self.name),
            kind: self.kind,
            began: began - self.began,
            bound: self.opened.unwrap_or(began) - self.began,
            latency: began.elapsed(),
            version,
            outcome: result.map_or_else(Outcome::from, |()| Outcome::Ok),
        }
    }

    pub(super) async fn think(&mut self) {
        let (least, most) = self.load.pause;
        tokio::time::sleep(self.chance.time(least, most)).await;
    }

    async fn get(&mut self, id: &str, version: &mut Version) -> Result<(), Failure> {
        let deadline = client::deadline(self.load.timeout);
        let mut request = self.request(Method::GET, &self.load.path, id, Bytes::new())?;
        if self.kind == Kind::Fresh {
            let close = HeaderValue::from_static("close");
            request.headers_mut().insert(header::CONNECTION, close);
        }
        let body = self.ask(request, id, version, deadline).await?;
        client::body(body, deadline).await?;
        Ok(())
    }

    /// An order that takes a while, so that some are open at every moment, and
    /// that nobody may send again.
    async fn wait(&mut self, id: &str, version: &mut Version) -> Result<(), Failure> {
        let deadline = client::deadline(self.load.timeout);
        let millis = self.chance.between(1, SLOWEST_MS);
        let path = format!("/slow?ms={millis}");
        let content = Bytes::from(id.to_owned());
        let request = self.request(Method::POST, &path, id, content)?;
        let body = self.ask(request, id, version, deadline).await?;
        client::body(body, deadline).await?;
        Ok(())
    }

    async fn post(&mut self, id: &str, version: &mut Version) -> Result<(), Failure> {
        let deadline = client::deadline(self.load.timeout);
        let sent = self.content(id);
        let request = self.request(Method::POST, "/echo", id, sent.clone())?;
        let body = self.ask(request, id, version, deadline).await?;
        if client::body(body, deadline).await? == sent {
            Ok(())
        } else {
            Err(Failure::new(Phase::Content, "the echo differs"))
        }
    }

    /// What this user posts under an id.
    pub(super) fn content(&self, id: &str) -> Bytes {
        let size = match self.kind {
            Kind::Upload => UPLOAD_BYTES,
            _ => self.load.body_bytes,
        };
        let mut content = Bytes::from(id.repeat(size / id.len() + 1));
        content.truncate(size);
        content
    }

    /// One stream of events, numbered without a gap and ended cleanly. A server
    /// that stops may end it early; it may not break it off. The next stream
    /// goes on where this one ended, if it ended early.
    async fn events(
        &mut self,
        id: &str,
        version: &mut Version,
        progress: &Progress,
    ) -> Result<(), Failure> {
        let (count, interval) = self.load.events;
        let expected = interval.saturating_mul(u32::try_from(count).unwrap_or(u32::MAX));
        let deadline = client::deadline(self.load.timeout.saturating_add(expected));
        let path = format!("/sse?n={count}&interval_ms={}", interval.as_millis());
        let mut request = self.request(Method::GET, &path, id, Bytes::new())?;
        let last = self.last_event.take();
        if let Some(last) = last {
            let name = HeaderName::from_static("last-event-id");
            request.headers_mut().insert(name, HeaderValue::from(last));
        }
        let first = last.map_or(0, |last| last + 1);
        let mut body = self.ask(request, id, version, deadline).await?;
        let mut text = BytesMut::new();
        let mut sequence = first;
        loop {
            if self.load.leaves_streams && progress.is_stopped() && text.is_empty() {
                // A stream that is left cannot carry another request.
                self.connection = None;
                return Ok(());
            }
            let frame = async { body.frame().await.transpose() };
            let Some(frame) = within(deadline, Phase::Body, frame).await? else {
                break;
            };
            if let Ok(data) = frame.into_data() {
                text.extend_from_slice(&data);
            }
            while let Some(end) = text.windows(2).position(|pair| pair == b"\n\n") {
                let expected = format!("id: {sequence}\n");
                if !text.starts_with(expected.as_bytes()) {
                    let reason = format!("event {sequence} is missing");
                    return Err(Failure::new(Phase::Content, reason));
                }
                text.advance(end + 2);
                sequence += 1;
            }
        }
        if text.is_empty() && sequence > first {
            let is_early = sequence - first < count;
            self.last_event = is_early.then(|| sequence - 1);
            Ok(())
        } else {
            Err(Failure::new(Phase::Content, "the last event is cut off"))
        }
    }

    /// One message over the WebSocket, and its echo.
    async fn message(&mut self, id: &str, version: &mut Version) -> Result<(), Failure> {
        let deadline = client::deadline(self.load.timeout);
        if let Some(socket) = self.socket.take_if(|socket| socket.leaving) {
            let mut socket = socket;
            socket.leave(deadline).await?;
        }
        let mut socket = match self.socket.take() {
            Some(socket) => socket,
            None => self.open_socket(version, deadline).await?,
        };
        if socket.is_left(deadline).await? {
            socket = self.open_socket(version, deadline).await?;
        }
        *version = Some(socket.echo(id, deadline).await?);
        self.socket = Some(socket);
        Ok(())
    }

    async fn open_socket(
        &mut self,
        version: &mut Version,
        deadline: Instant,
    ) -> Result<Socket, Failure> {
        self.opened = None;
        let mut connection = Connection::open(&self.load, deadline).await?;
        let key = base64::engine::general_purpose::STANDARD.encode([7_u8; 16]);
        // The handshake is no request of its own: its messages are.
        let mut request = self.request(Method::GET, "/ws", "", Bytes::new())?;
        let headers = request.headers_mut();
        headers.remove(LOAD_ID);
        for (name, value) in [
            (header::CONNECTION, "Upgrade"),
            (header::UPGRADE, "websocket"),
            (header::SEC_WEBSOCKET_VERSION, "13"),
            (header::SEC_WEBSOCKET_KEY, key.as_str()),
        ] {
            headers.insert(name, header_value(value)?);
        }
        let response = connection.head(request, deadline).await?;
        *version = text(response.headers(), APP_VERSION);
        if response.status() != StatusCode::SWITCHING_PROTOCOLS {
            let reason = format!("handshake: {}", response.status());
            return Err(Failure::new(Phase::Status, reason));
        }
        let accept = response.headers().get(header::SEC_WEBSOCKET_ACCEPT);
        if accept.is_none_or(|accept| accept.as_bytes() != websocket::accept(&key).as_bytes()) {
            return Err(Failure::new(Phase::Content, "a wrong handshake"));
        }
        self.remember(response.headers());
        self.opened = Some(Instant::now());
        let (stream, early) = client::upgrade(response, deadline).await?;
        Ok(Socket::new(stream, early))
    }

    pub(super) fn request(
        &self,
        method: Method,
        path: &str,
        id: &str,
        body: Bytes,
    ) -> Result<Request<Full<Bytes>>, Failure> {
        let mut request = Request::new(Full::new(body));
        *request.method_mut() = method;
        *request.uri_mut() = path
            .parse()
            .map_err(|error: http::uri::InvalidUri| Failure::from(Phase::Connect, &error))?;
        let headers = request.headers_mut();
        headers.insert(header::HOST, self.load.host.clone());
        headers.insert(HeaderName::from_static(LOAD_ID), header_value(id)?);
        for (name, value) in &self.load.headers {
            headers.append(name, value.clone());
        }
        if !self.cookies.is_empty() {
            let pairs = self
                .cookies
                .iter()
                .map(|(name, value)| format!("{name}={value}"));
            let cookies = pairs.collect::<Vec<_>>().join("; ");
            headers.insert(header::COOKIE, header_value(&cookies)?);
        }
        Ok(request)
    }

    /// Sends a request over the connection, or a new one, and checks the head
    /// of its answer.
    async fn ask(
        &mut self,
        request: Request<Full<Bytes>>,
        id: &str,
        version: &mut Version,
        deadline: Instant,
    ) -> Result<Incoming, Failure> {
        if let Some(connection) = &mut self.connection
            && connection.is_closed(deadline).await
        {
            self.idle_closes += 1;
            self.connection = None;
            if self.load.idle_closes == IdleClose::Failure {
                let reason = "the idle connection was closed without notice";
                return Err(Failure::new(Phase::Head, reason));
            }
        }
        let mut connection = match self.connection.take() {
            Some(connection) => connection,
            None => Connection::open(&self.load, deadline).await?,
        };
        let response = connection.head(request, deadline).await?;
        let (head, body) = response.into_parts();
        self.remember(&head.headers);
        check(&head, id, version)?;
        if !client::announces_close(&head.headers) {
            self.connection = Some(connection);
        }
        Ok(body)
    }

    fn remember(&mut self, headers: &HeaderMap) {
        if !self.load.keeps_cookies {
            return;
        }
        for value in headers.get_all(header::SET_COOKIE) {
            let pair = value.to_str().ok().and_then(|text| text.split(';').next());
            let Some((name, value)) = pair.and_then(|pair| pair.split_once('=')) else {
                continue;
            };
            let (name, value) = (name.trim().to_owned(), value.trim().to_owned());
            self.cookies.retain(|(known, _)| *known != name);
            self.cookies.push((name, value));
        }
    }
}

/// Notes who answered, and checks that it is a good answer to this request.
pub(super) fn check(
    head: &http::response::Parts,
    id: &str,
    version: &mut Version,
) -> Result<(), Failure> {
    *version = text(&head.headers, APP_VERSION);
    if head.status != StatusCode::OK {
        let reason = head.status.as_u16().to_string();
        return Err(Failure::new(Phase::Status, reason));
    }
    if text(&head.headers, LOAD_ID).as_deref() != Some(id) {
        let reason = "the answer to another request";
        return Err(Failure::new(Phase::Content, reason));
    }
    Ok(())
}

/// Whether a close frame says that the server goes away, or starts anew.
fn is_good_bye(close: &Frame) -> bool {
    let code = close.payload.first_chunk().copied().map(u16::from_be_bytes);
    matches!(code, Some(1001 | 1012))
}

impl Socket {
    fn new(stream: TcpStream, early: Bytes) -> Self {
        let (reader, writer) = stream.into_split();
        let reader = AsyncReadExt::chain(Cursor::new(early), reader);
        Self {
            stream: BufReader::new(tokio::io::join(reader, writer)),
            leaving: false,
        }
    }

    /// Whether there is something to read. The kernel is asked: on the loopback,
    /// what the server has sent is there at once.
    fn has_news(&self) -> bool {
        let writer: &TcpStream = self.stream.get_ref().writer().as_ref();
        let flags = RecvFlags::PEEK | RecvFlags::DONTWAIT;
        let told = rustix::net::recv(writer, &mut [0_u8; 1][..], flags);
        !self.stream.buffer().is_empty() || told != Err(rustix::io::Errno::AGAIN)
    }

    /// Whether the server has said good-bye since the last echo; its close is
    /// answered then. Every message has its echo here, so nothing is lost by it.
    async fn is_left(&mut self, deadline: Instant) -> Result<bool, Failure> {
        loop {
            // The start of a frame means the whole soon.
            if !self.has_news() {
                return Ok(false);
            }
            let frame = self.frame(deadline).await?;
            match frame.kind {
                websocket::Kind::Close if is_good_bye(&frame) => {
                    // The server may be gone before it reads the answer.
                    let _ = self.send(&frame, deadline).await;
                    return Ok(true);
                }
                websocket::Kind::Close => {
                    let reason = format!("closed with {:?}", frame.payload);
                    return Err(Failure::new(Phase::Head, reason));
                }
                websocket::Kind::Ping => {
                    let kind = websocket::Kind::Pong;
                    self.send(&Frame { kind, ..frame }, deadline).await?;
                }
                websocket::Kind::Text if frame.payload == GOING_AWAY.as_bytes() => {
                    self.leave(deadline).await?;
                    return Ok(true);
                }
                websocket::Kind::Pong => {}
                websocket::Kind::Text | websocket::Kind::Binary => {
                    return Err(Failure::new(Phase::Content, "an echo of nothing"));
                }
            }
        }
    }

    async fn echo(&mut self, id: &str, deadline: Instant) -> Result<String, Failure> {
        self.send(&Frame::text(id), deadline).await?;
        loop {
            let frame = self.frame(deadline).await?;
            match frame.kind {
                websocket::Kind::Ping => {
                    let kind = websocket::Kind::Pong;
                    self.send(&Frame { kind, ..frame }, deadline).await?;
                }
                websocket::Kind::Pong => {}
                websocket::Kind::Close if is_good_bye(&frame) => {
                    let reason = "a good-bye in place of the echo";
                    return Err(Failure::new(Phase::Crossed, reason));
                }
                websocket::Kind::Close => {
                    return Err(Failure::new(Phase::Head, "closed before the echo"));
                }
                websocket::Kind::Text | websocket::Kind::Binary => {
                    if frame.payload == GOING_AWAY.as_bytes() {
                        self.leaving = true;
                        continue;
                    }
                    let answer = String::from_utf8_lossy(&frame.payload);
                    return match answer.split_once(' ') {
                        Some((version, echoed)) if echoed == id => Ok(version.to_owned()),
                        _ => Err(Failure::new(Phase::Content, "the echo differs")),
                    };
                }
            }
        }
    }

    /// Closes it as the RFC says, and waits for the server's close.
    async fn leave(&mut self, deadline: Instant) -> Result<(), Failure> {
        self.send(&Frame::close(1000), deadline).await?;
        loop {
            if self.frame(deadline).await?.kind == websocket::Kind::Close {
                return Ok(());
            }
        }
    }

    async fn frame(&mut self, deadline: Instant) -> Result<Frame, Failure> {
        let frame = within(deadline, Phase::Head, websocket::read(&mut self.stream)).await?;
        frame.ok_or_else(|| Failure::new(Phase::Head, "the connection ended"))
    }

    async fn send(&mut self, frame: &Frame, deadline: Instant) -> Result<(), Failure> {
        let send = websocket::write(&mut self.stream, frame, Some(MASK));
        within(deadline, Phase::Head, send).await
    }
}

fn text(headers: &HeaderMap, name: &str) -> Option<String> {
    Some(headers.get(name)?.to_str().ok()?.to_owned())
}

fn header_value(text: &str) -> Result<HeaderValue, Failure> {
    HeaderValue::from_str(text).map_err(|error| Failure::from(Phase::Connect, &error))
}

#[cfg(test)]
mod tests {
    use std::fmt::Write as _;
    use std::time::Duration;

    use tokio::io::AsyncWriteExt as _;
    use tokio::net::TcpListener;

    use super::*;
    use crate::load::Report;

    /// Six requests of one user to a server that gives each connection to `serve`,
    /// with the head of its request.
    async fn check<S>(kind: Kind, serve: S) -> Report
    where
        S: AsyncFn(TcpStream, String),
    {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let load = Load::new(address, "app").unwrap();
        let load = load.users(kind, 1).requests(6);
        // Long enough for a good-bye to arrive.
        let load = load.pause(Duration::from_millis(20));
        let load = load.events(10, Duration::from_millis(1));
        let running = load.start().unwrap();
        let server = async {
            loop {
                let (mut connection, _) = listener.accept().await.unwrap();
                // A good-bye must not wait for the acknowledgement of an echo.
                connection.set_nodelay(true).unwrap();
                let mut head = Vec::new();
                while !head.ends_with(b"\r\n\r\n") {
                    head.push(connection.read_u8().await.unwrap());
                }
                serve(connection, String::from_utf8(head).unwrap()).await;
            }
        };
        tokio::select! {
            report = running.finished() => report.unwrap(),
            () = server => unreachable!("the server ended"),
        }
    }

    fn field<'a>(head: &'a str, name: &str) -> Option<&'a str> {
        let mut lines = head.lines().filter_map(|line| line.split_once(": "));
        lines
            .find(|(field, _)| *field == name)
            .map(|(_, value)| value)
    }

    /// An echo for two messages; then `good_bye`, before or instead of the third.
    async fn talk(mut connection: TcpStream, head: &str, good_bye: Frame, waits: bool) {
        let accept = websocket::accept(field(head, "sec-websocket-key").unwrap());
        let answer = format!(
            "HTTP/1.1 101 Switching Protocols\r\nconnection: upgrade\r\nupgrade: websocket\r\n\
             sec-websocket-accept: {accept}\r\n\r\n"
        );
        connection.write_all(answer.as_bytes()).await.unwrap();
        for _ in 0..2 {
            let Some(message) = websocket::read(&mut connection).await.unwrap() else {
                return;
            };
            let id = String::from_utf8(message.payload).unwrap();
            let echo = Frame::text(&format!("v1 {id}"));
            websocket::write(&mut connection, &echo, None)
                .await
                .unwrap();
        }
        if waits {
            websocket::read(&mut connection).await.unwrap();
        }
        websocket::write(&mut connection, &good_bye, None)
            .await
            .unwrap();
        let _ = websocket::read(&mut connection).await;
    }

    #[tokio::test]
    async fn a_good_bye_between_two_messages_costs_nothing() {
        for code in [1001, 1012] {
            let serve = async |connection, head: String| {
                talk(connection, &head, Frame::close(code), false).await;
            };
            let report = check(Kind::WebSocket, serve).await;
            assert_eq!(report.records.len(), 6);
            report.ensure_none_failed().unwrap();
        }
    }

    #[tokio::test]
    async fn a_good_bye_in_place_of_an_echo_is_told_apart() {
        let serve = async |connection, head: String| {
            talk(connection, &head, Frame::close(1001), true).await;
        };
        let report = check(Kind::WebSocket, serve).await;
        let crossed = report.failed().filter(|record| record.is_crossed());
        assert_eq!((report.failed().count(), crossed.count()), (2, 2));
    }

    #[tokio::test]
    async fn a_good_bye_is_seen_as_soon_as_it_was_sent() {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let (client, server) = tokio::join!(TcpStream::connect(address), listener.accept());
        let (client, (mut server, _)) = (client.unwrap(), server.unwrap());
        let mut socket = Socket::new(client, Bytes::new());
        let deadline = client::deadline(Duration::from_secs(10));
        assert!(!socket.is_left(deadline).await.unwrap());
        let good_bye = Frame::close(1012);
        websocket::write(&mut server, &good_bye, None)
            .await
            .unwrap();
        assert!(socket.is_left(deadline).await.unwrap());
    }

    #[tokio::test]
    async fn any_other_close_is_a_loss() {
        let serve = async |connection, head: String| {
            talk(connection, &head, Frame::close(1011), false).await;
        };
        let report = check(Kind::WebSocket, serve).await;
        let crossed = report.failed().filter(|record| record.is_crossed());
        assert_eq!((report.failed().count(), crossed.count()), (2, 0));
    }

    #[tokio::test]
    async fn a_stream_that_ends_early_is_gone_on_with() {
        let asked = std::sync::Mutex::new(Vec::new());
        let serve = async |mut connection: TcpStream, head: String| {
            let last = field(&head, "last-event-id").map(|last| last.parse::<u64>().unwrap());
            asked.lock().unwrap().push(last);
            let first = last.map_or(0, |last| last + 1);
            let mut answer = format!(
                "HTTP/1.1 200 OK\r\nconnection: close\r\nx-load-id: {}\r\n\r\n",
                field(&head, LOAD_ID).unwrap()
            );
            for sequence in first..first + 4 {
                write!(answer, "id: {sequence}\ndata: x\n\n").unwrap();
            }
            connection.write_all(answer.as_bytes()).await.unwrap();
        };
        let report = check(Kind::Events, serve).await;
        report.ensure_none_failed().unwrap();
        let asked = asked.into_inner().unwrap();
        assert_eq!(asked[..3], [None, Some(3), Some(7)]);
    }
}
