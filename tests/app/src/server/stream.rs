//! Answers that take a while: many bytes, events, a WebSocket.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use futures_util::stream;
use http::{HeaderValue, Request, Response, StatusCode, header};
use http_body_util::{BodyExt as _, Empty, StreamBody};
use hyper::body::{Frame, Incoming};
use hyper_util::rt::TokioIo;
use tokio::time::Instant;

use super::App;
use super::answer::{Body, text};
use crate::log;
use crate::websocket::{self, GOING_AWAY, Kind};

/// How long a stopping app waits for a WebSocket client to say good-bye.
const GOOD_BYE: Duration = Duration::from_secs(5);

static BLOCK: [u8; 64 << 10] = [b'x'; 64 << 10];

/// `count` bytes with their length announced.
pub(super) fn bytes(count: u64) -> Response<Body> {
    let blocks = stream::unfold(count, |left| async move {
        let size = left.min(BLOCK.len() as u64);
        let block = BLOCK.get(..size as usize)?;
        let frame = Frame::data(Bytes::from_static(block));
        (size > 0).then_some((Ok(frame), left - size))
    });
    let mut response = Response::new(StreamBody::new(blocks).boxed_unsync());
    let length = HeaderValue::from(count);
    response
        .headers_mut()
        .insert(header::CONTENT_LENGTH, length);
    response
}

/// Events numbered from `first`; the stream ends cleanly after `count` of them,
/// or before, when the app stops.
pub(super) fn events(app: Arc<App>, first: u64, count: u64, interval: Duration) -> Response<Body> {
    let events = stream::unfold((app, first), move |(app, sequence)| async move {
        if sequence - first == count {
            return None;
        }
        if sequence > first {
            tokio::select! {
                () = app.asked_to_stop() => return None,
                () = tokio::time::sleep(interval) => {}
            }
        }
        let version = &app.behaviour.version;
        let event = format!("id: {sequence}\ndata: {version} {sequence}\n\n");
        let frame = Frame::data(Bytes::from(event));
        Some((Ok(frame), (app, sequence + 1)))
    });
    let mut response = Response::new(StreamBody::new(events).boxed_unsync());
    let headers = response.headers_mut();
    let kind = HeaderValue::from_static("text/event-stream");
    headers.insert(header::CONTENT_TYPE, kind);
    let never = HeaderValue::from_static("no-store");
    headers.insert(header::CACHE_CONTROL, never);
    response
}

/// An echo: each text is journaled as an id and comes back behind the version.
pub(super) fn websocket(app: Arc<App>, mut request: Request<Incoming>) -> Response<Body> {
    let key = request.headers().get(header::SEC_WEBSOCKET_KEY);
    let Some(key) = key.and_then(|key| key.to_str().ok()) else {
        return text(StatusCode::UPGRADE_REQUIRED, "error: not a handshake\n");
    };
    let accept = HeaderValue::from_str(&websocket::accept(key));
    let upgrade = hyper::upgrade::on(&mut request);
    tokio::spawn(async move {
        match upgrade.await {
            Ok(upgraded) => {
                let ended = converse(&app, TokioIo::new(upgraded)).await;
                if let Err(error) = ended {
                    log(&format!("websocket cut off: {error}"));
                }
            }
            Err(error) => log(&format!("websocket not opened: {error}")),
        }
    });
    let mut response = Response::new(Empty::new().boxed_unsync());
    *response.status_mut() = StatusCode::SWITCHING_PROTOCOLS;
    let headers = response.headers_mut();
    headers.insert(header::CONNECTION, HeaderValue::from_static("upgrade"));
    headers.insert(header::UPGRADE, HeaderValue::from_static("websocket"));
    if let Ok(accept) = accept {
        headers.insert(header::SEC_WEBSOCKET_ACCEPT, accept);
    }
    response
}

enum Event {
    Frame(Result<Option<websocket::Frame>, std::io::Error>),
    AskedToStop,
    Deadline,
}

async fn sleep_until(deadline: Option<Instant>) {
    tokio::time::sleep_until(deadline.unwrap_or_else(Instant::now)).await;
}

async fn converse(
    app: &App,
    upgraded: TokioIo<hyper::upgrade::Upgraded>,
) -> Result<(), std::io::Error> {
    let (mut from_client, mut to_client) = tokio::io::split(upgraded);
    let (send, mut received) = tokio::sync::mpsc::channel(16);
    // Reading a frame cannot be broken off half-way, so it has its own task.
    let reader = tokio::spawn(async move {
        loop {
            let frame = websocket::read(&mut from_client).await.transpose();
            let last = !matches!(frame, Some(Ok(_)));
            if send.send(frame).await.is_err() || last {
                return;
            }
        }
    });
    let mut deadline = None::<Instant>;
    let ended = loop {
        let event = tokio::select! {
            frame = received.recv() => Event::Frame(frame.flatten().transpose()),
            () = app.asked_to_stop(), if deadline.is_none() => Event::AskedToStop,
            () = sleep_until(deadline), if deadline.is_some() => Event::Deadline,
        };
        let frame = match event {
            Event::Frame(frame) => frame,
            Event::AskedToStop => {
                deadline = Some(Instant::now() + GOOD_BYE);
                let going = websocket::Frame::text(GOING_AWAY);
                match websocket::write(&mut to_client, &going, None).await {
                    Ok(()) => continue,
                    Err(error) => break Err(error),
                }
            }
            Event::Deadline => {
                break websocket::write(&mut to_client, &websocket::Frame::close(1001), None).await;
            }
        };
        let reply = match frame {
            Err(error) => break Err(error),
            Ok(None) => break Ok(()),
            Ok(Some(frame)) => match frame.kind {
                Kind::Close => break websocket::write(&mut to_client, &frame, None).await,
                Kind::Ping => websocket::Frame {
                    kind: Kind::Pong,
                    ..frame
                },
                Kind::Pong => continue,
                Kind::Text | Kind::Binary => {
                    let id = String::from_utf8_lossy(&frame.payload).into_owned();
                    app.journal.asked(&id);
                    app.served(&id);
                    websocket::Frame::text(&format!("{} {id}", app.behaviour.version))
                }
            },
        };
        if let Err(error) = websocket::write(&mut to_client, &reply, None).await {
            break Err(error);
        }
    };
    reader.abort();
    ended
}
