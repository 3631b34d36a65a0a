//! One user: asks, waits, asks again, and never asks twice for the same.

use std::sync::Arc;

use base64::Engine as _;
use bytes::{Buf as _, Bytes, BytesMut};
use cutover_demo_app::websocket::{self, Frame, GOING_AWAY};
use cutover_demo_app::{APP_VERSION, LOAD_ID};
use http::{HeaderMap, HeaderName, HeaderValue, Method, Request, StatusCode, header};
use http_body_util::{BodyExt as _, Full};
use hyper::body::Incoming;
use hyper::upgrade::Upgraded;
use hyper_util::rt::TokioIo;
use tokio::time::Instant;

use super::client::{self, Connection, Failure, within};
use super::record::{Kind, Outcome, Phase, Record};
use super::{Load, Progress};

/// Any mask will do: nobody between us and the server reads WebSocket frames.
const MASK: [u8; 4] = [0x37, 0xfa, 0x21, 0x3d];

pub(super) struct User {
    load: Arc<Load>,
    kind: Kind,
    name: Arc<str>,
    began: Instant,
    connection: Option<Connection>,
    socket: Option<Socket>,
    cookies: Vec<(String, String)>,
    idle_closes: u64,
}

struct Socket {
    stream: TokioIo<Upgraded>,
    /// The server asked to be left.
    leaving: bool,
}

/// The version that answered, whatever became of the request.
type Version = Option<String>;

impl User {
    pub(super) fn new(load: Arc<Load>, kind: Kind, name: String, began: Instant) -> Self {
        Self {
            load,
            kind,
            name: name.into(),
            began,
            connection: None,
            socket: None,
            cookies: Vec::new(),
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
                Kind::KeepAlive | Kind::Fresh => self.get(&id, &mut version).await,
                Kind::Post => self.post(&id, &mut version).await,
                Kind::Events => self.events(&id, &mut version).await,
                Kind::WebSocket => self.message(&id, &mut version).await,
            };
            let latency = began.elapsed();
            if result.is_err() || self.kind == Kind::Fresh {
                self.connection = None;
            }
            if result.is_err() {
                self.socket = None;
            }
            let outcome = result.map_or_else(Outcome::from, |()| Outcome::Ok);
            let record = Record {
                id,
                user: Arc::clone(&self.name),
                kind: self.kind,
                began: began - self.began,
                latency,
                version,
                outcome,
            };
            progress.add(&record);
            records.push(record);
            tokio::time::sleep(self.load.pause).await;
        }
        if let Some(mut socket) = self.socket.take() {
            let deadline = client::deadline(self.load.timeout);
            // Every message has its answer; the good-bye is mere courtesy.
            let _ = socket.leave(deadline).await;
        }
        (records, self.idle_closes)
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

    async fn post(&mut self, id: &str, version: &mut Version) -> Result<(), Failure> {
        let deadline = client::deadline(self.load.timeout);
        let sent = id.repeat(self.load.body_bytes / id.len() + 1);
        let mut sent = Bytes::from(sent);
        sent.truncate(self.load.body_bytes);
        let request = self.request(Method::POST, "/echo", id, sent.clone())?;
        let body = self.ask(request, id, version, deadline).await?;
        if client::body(body, deadline).await? == sent {
            Ok(())
        } else {
            Err(Failure::new(Phase::Content, "the echo differs"))
        }
    }

    /// One stream of events, numbered from 0 and ended cleanly. A server that
    /// stops may end it early; it may not break it off.
    async fn events(&mut self, id: &str, version: &mut Version) -> Result<(), Failure> {
        let (count, interval) = self.load.events;
        let expected = interval.saturating_mul(u32::try_from(count).unwrap_or(u32::MAX));
        let deadline = client::deadline(self.load.timeout.saturating_add(expected));
        let path = format!("/sse?n={count}&interval_ms={}", interval.as_millis());
        let request = self.request(Method::GET, &path, id, Bytes::new())?;
        let mut body = self.ask(request, id, version, deadline).await?;
        let mut text = BytesMut::new();
        let mut sequence = 0;
        loop {
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
        if text.is_empty() && sequence > 0 {
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
        *version = Some(socket.echo(id, deadline).await?);
        self.socket = Some(socket);
        Ok(())
    }

    async fn open_socket(
        &mut self,
        version: &mut Version,
        deadline: Instant,
    ) -> Result<Socket, Failure> {
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
        Ok(Socket {
            stream: client::upgrade(response, deadline).await?,
            leaving: false,
        })
    }

    fn request(
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
        }
        let mut connection = match self.connection.take() {
            Some(connection) => connection,
            None => Connection::open(&self.load, deadline).await?,
        };
        let response = connection.head(request, deadline).await?;
        let (head, body) = response.into_parts();
        *version = text(&head.headers, APP_VERSION);
        self.remember(&head.headers);
        if head.status != StatusCode::OK {
            let reason = head.status.as_u16().to_string();
            return Err(Failure::new(Phase::Status, reason));
        }
        if text(&head.headers, LOAD_ID).as_deref() != Some(id) {
            let reason = "the answer to another request";
            return Err(Failure::new(Phase::Content, reason));
        }
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

impl Socket {
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
