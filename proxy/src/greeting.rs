//! What comes before the first request: the header of a balancer, TLS, and
//! which HTTP is spoken.
//!
//! All of it must be over in one deadline. Bytes are looked at in the kernel and
//! taken only up to the end of the header, so TLS and HTTP find theirs untouched.

use std::future::{Future, poll_fn};
use std::io;
use std::net::SocketAddr;
use std::pin::pin;
use std::task::Poll;
use std::time::Duration;

use tokio::io::AsyncReadExt as _;
use tokio::net::TcpStream;
use tokio_rustls::server::TlsStream;

use crate::client::Client;
use crate::door::Kind;
use crate::origin::{Origin, Scheme};
use crate::proxy_protocol::{self, Progress};
use crate::tally::{Event, Form};
use crate::worker::Worker;

/// How long a client may take for the header of its balancer and for TLS.
const DEADLINE_MS: u64 = 10_000;

/// The first bytes of a connection of HTTP/2 (RFC 9113, section 3.4).
const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";

/// How soon the kernel is looked at again when it holds a part of what is waited for.
const BREATHER: Duration = Duration::from_millis(10);

/// Which HTTP is spoken.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Protocol {
    /// HTTP/1.0 or HTTP/1.1.
    Http1,
    /// HTTP/2.
    Http2,
}

/// What a connection has become.
#[derive(Debug)]
pub(crate) enum Greeted {
    /// It speaks in the clear.
    Plain(TcpStream, Protocol),
    /// It speaks over TLS.
    Secure(Box<TlsStream<TcpStream>>, Protocol),
    /// It was a challenge of a certificate authority, and has its answer.
    Done,
}

/// Greets a client, in time or not at all.
pub(crate) async fn greet(
    worker: &Worker,
    client: &Client,
    stream: TcpStream,
    kind: Kind,
) -> io::Result<Greeted> {
    client.greets(DEADLINE_MS);
    let mut greeting = pin!(begin(worker, client, stream, kind));
    let greeted = poll_fn(|cx| {
        client.woken_by(cx.waker());
        match greeting.as_mut().poll(cx) {
            Poll::Pending if client.must_close() => {
                match kind.scheme {
                    Scheme::Http => worker.refused(Form::Slow),
                    Scheme::Https => worker.count(Event::HandshakeFailed),
                }
                Poll::Ready(Err(io::Error::from(io::ErrorKind::TimedOut)))
            }
            told => told,
        }
    })
    .await?;
    client.rests();
    client.set_flushed();
    Ok(greeted)
}

async fn begin(
    worker: &Worker,
    client: &Client,
    mut stream: TcpStream,
    kind: Kind,
) -> io::Result<Greeted> {
    if kind.proxied {
        let source = introduced(&mut stream).await;
        let source = source.inspect_err(|_| worker.refused(Form::ProxyLine))?;
        let scheme = kind.scheme;
        match source {
            Some(source) => {
                client.stays(worker.count_in(source.ip()).ok_or_else(crowded)?);
                client.set_origin(Origin::introduced(source, scheme));
            }
            // The balancer speaks for itself, to see whether we are well.
            None => client.set_origin(Origin::introduced(client.origin().address, scheme)),
        }
    }
    match (kind.scheme, kind.prior_knowledge) {
        (Scheme::Http, false) => Ok(Greeted::Plain(stream, Protocol::Http1)),
        (Scheme::Http, true) => {
            let protocol = by_preface(&stream).await?;
            Ok(Greeted::Plain(stream, protocol))
        }
        (Scheme::Https, _) => {
            let accepted = worker.tls().accept(stream).await;
            let accepted = accepted.inspect_err(|_| worker.count(Event::HandshakeFailed));
            let stream = Box::new(accepted?);
            Ok(match stream.get_ref().1.alpn_protocol() {
                Some(b"h2") => Greeted::Secure(stream, Protocol::Http2),
                Some(b"acme-tls/1") => Greeted::Done,
                _ => Greeted::Secure(stream, Protocol::Http1),
            })
        }
    }
}

fn crowded() -> io::Error {
    io::Error::other("its address has too many connections")
}

/// Takes the header of a balancer; tells for whom it speaks.
async fn introduced(stream: &mut TcpStream) -> io::Result<Option<SocketAddr>> {
    let mut taken = Vec::new();
    let mut bytes = [0; 1024];
    loop {
        let count = stream.peek(&mut bytes).await?;
        if count == 0 {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        let before = taken.len();
        taken.extend_from_slice(&bytes[..count]);
        let (source, count) = match proxy_protocol::parse(&taken) {
            Progress::Fault(fault) => return Err(io::Error::other(fault)),
            Progress::NeedMore => (None, count),
            Progress::Done { source, used, .. } => (Some(source), used.saturating_sub(before)),
        };
        stream.read_exact(&mut bytes[..count]).await?;
        if let Some(source) = source {
            return Ok(source);
        }
    }
}

/// Which HTTP a client speaks that begins without TLS.
async fn by_preface(stream: &TcpStream) -> io::Result<Protocol> {
    let mut bytes = [0; PREFACE.len()];
    loop {
        let count = stream.peek(&mut bytes).await?;
        if count == PREFACE.len() && bytes == *PREFACE {
            return Ok(Protocol::Http2);
        }
        if count == 0 || !PREFACE.starts_with(&bytes[..count]) {
            return Ok(Protocol::Http1);
        }
        tokio::time::sleep(BREATHER).await;
    }
}
