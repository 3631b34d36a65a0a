//! One client connection from accept to end.
//!
//! ```text
//!  accept ─▶ (header of a balancer) ─▶ (TLS) ─▶ HTTP/1.1: wait ─▶ serve ─▶ idle: shed ─▶ wait …
//!                                          └──▶ HTTP/2, see `http2`
//! ```
//!
//! A connection that is idle for a while gives back all that the HTTP library
//! holds for it, and waits for the next byte with its socket alone.

use std::future::poll_fn;
use std::io;
use std::pin::Pin;
use std::rc::Rc;
use std::task::Poll;

use hyper::body::Incoming;
use hyper::server::conn::http1::{Builder, Connection};
use hyper::service::{HttpService, service_fn};
use hyper_util::rt::TokioIo;
use tokio::net::TcpStream;

use crate::answer::AnswerBody;
use crate::client::{Client, Phase};
use crate::door::Kind;
use crate::forward::{Broken, forward};
use crate::framing::Fault;
use crate::greeting::{Greeted, Protocol, greet};
use crate::http2;
use crate::socket::{Carrier, ClientSocket};
use crate::tally::Form;
use crate::worker::Worker;

/// The largest head of a request; four times what common servers send back as cookies.
pub(crate) const MAX_HEAD: usize = 16 * 1024;

/// Fields of a request's head, the same bound as Apache's.
pub(crate) const MAX_FIELDS: usize = 100;

/// The bytes of one connection that are held at most in each direction.
const MAX_BUFFER: usize = 64 * 1024;

/// Serves a client until its connection ends.
pub(crate) async fn serve(worker: Rc<Worker>, client: Rc<Client>, stream: TcpStream, kind: Kind) {
    if kind == Kind::HTTP {
        return http1(worker, client, stream).await;
    }
    // In a box, so that a connection that needs none of it does not carry its size.
    let greeted = match Box::pin(greet(&worker, &client, stream, kind)).await {
        Ok(greeted) => greeted,
        Err(error) => {
            let address = client.origin().address;
            return tracing::debug!(%address, %error, "a connection was not begun");
        }
    };
    match greeted {
        Greeted::Plain(stream, Protocol::Http1) => http1(worker, client, stream).await,
        Greeted::Plain(stream, Protocol::Http2) => {
            Box::pin(http2::serve(worker, client, stream)).await
        }
        Greeted::Secure(stream, Protocol::Http1) => Box::pin(http1(worker, client, stream)).await,
        Greeted::Secure(stream, Protocol::Http2) => {
            Box::pin(http2::serve(worker, client, stream)).await
        }
        Greeted::Done => {}
    }
}

/// What became of a connection.
enum Ended {
    /// It stopped, well or not.
    Over(hyper::Result<()>),
    /// It was too slow, or idle for too long.
    Late,
    /// It is idle, and may wait without buffers.
    Idle,
}

/// What serves a connection's requests.
trait Forwards: HttpService<Incoming, ResBody = AnswerBody, Error = Broken> {}

impl<T: HttpService<Incoming, ResBody = AnswerBody, Error = Broken>> Forwards for T {}

async fn http1<S: Carrier>(worker: Rc<Worker>, client: Rc<Client>, stream: S) {
    let mut socket = ClientSocket::new(stream, Rc::clone(&client));
    while wait(&client, &mut socket).await.is_ok() {
        let mut connection = begin(&worker, &client, socket);
        client.set_shed(false);
        let ended = poll_fn(|cx| {
            client.woken_by(cx.waker());
            match Pin::new(&mut *connection).poll(cx) {
                Poll::Ready(ended) => Poll::Ready(Ended::Over(ended)),
                Poll::Pending if client.must_close() => Poll::Ready(Ended::Late),
                Poll::Pending if client.may_shed() => Poll::Ready(Ended::Idle),
                Poll::Pending => Poll::Pending,
            }
        })
        .await;
        match ended {
            Ended::Idle => {
                let parts = connection.into_parts();
                socket = parts.io.into_inner();
                if !parts.read_buf.is_empty() {
                    client.begins();
                }
                socket.put_back(parts.read_buf);
                client.set_shed(true);
            }
            Ended::Late => {
                let (address, phase) = (client.origin().address, client.phase());
                if phase == Phase::Head {
                    worker.refused(Form::Slow);
                }
                return tracing::debug!(%address, ?phase, "a client was too slow");
            }
            Ended::Over(Err(error)) => {
                // What the library refuses by itself no service has seen.
                if error.is_parse_too_large() {
                    worker.refused(Form::HeadSize);
                } else if error.is_parse() {
                    worker.refused(client.fault().map_or(Form::Head, Fault::form));
                }
                let address = client.origin().address;
                return tracing::debug!(%address, %error, "a client's connection failed");
            }
            Ended::Over(Ok(())) => {
                let tunnel = client.tunnel.borrow_mut().take();
                if let Some(tunnel) = tunnel {
                    let parts = connection.into_parts();
                    client.is_no_http();
                    let mut socket = parts.io.into_inner();
                    socket.parts_halves();
                    Box::pin(tunnel.run(&client, socket, parts.read_buf)).await;
                }
                return;
            }
        }
    }
}

/// The library's part of a connection, while it is not idle. It is made here and not
/// in the task, which would keep room for it also while it is idle.
fn begin<S: Carrier>(
    worker: &Rc<Worker>,
    client: &Rc<Client>,
    socket: ClientSocket<S>,
) -> Box<Connection<TokioIo<ClientSocket<S>>, impl Forwards>> {
    let (worker, client) = (Rc::clone(worker), Rc::clone(client));
    let service =
        service_fn(move |request| forward(Rc::clone(&worker), Rc::clone(&client), request));
    let connection = Builder::new()
        .max_headers(MAX_FIELDS)
        .max_header_size(MAX_HEAD)
        .max_buf_size(MAX_BUFFER)
        .header_read_timeout(None)
        .serve_connection(TokioIo::new(socket), service);
    Box::new(connection)
}

/// Waits for a byte, as long as the client may be idle.
async fn wait<S: Carrier>(client: &Client, socket: &mut ClientSocket<S>) -> io::Result<()> {
    poll_fn(|cx| {
        client.woken_by(cx.waker());
        match socket.poll_readable(cx) {
            Poll::Pending if client.must_close() => {
                Poll::Ready(Err(io::Error::from(io::ErrorKind::TimedOut)))
            }
            readable => readable,
        }
    })
    .await
}
