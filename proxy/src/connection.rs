//! One client connection from accept to end.

use std::future::poll_fn;
use std::pin::Pin;
use std::rc::Rc;
use std::task::Poll;

use hyper::server::conn::http1::Builder;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use tokio::net::TcpStream;

use crate::forward::forward;
use crate::socket::ClientSocket;
use crate::worker::Seat;

/// The largest head of a request; four times what common servers send back as cookies.
const MAX_HEAD: usize = 16 * 1024;

/// Fields of a request's head, the same bound as Apache's.
const MAX_FIELDS: usize = 100;

/// The bytes of one connection that are held at most in each direction.
const MAX_BUFFER: usize = 64 * 1024;

/// Serves a client until its connection ends.
pub(crate) async fn serve(seat: Seat, stream: TcpStream) {
    let (worker, client) = (Rc::clone(seat.worker()), Rc::clone(seat.client()));
    let address = client.address;
    let socket = ClientSocket::new(stream, Rc::clone(&client));
    let service = service_fn(|request| forward(Rc::clone(&worker), Rc::clone(&client), request));
    let mut connection = Builder::new()
        .max_headers(MAX_FIELDS)
        .max_header_size(MAX_HEAD)
        .max_buf_size(MAX_BUFFER)
        .header_read_timeout(None)
        .serve_connection(TokioIo::new(socket), service);
    let ended = poll_fn(|cx| {
        client.woken_by(cx.waker());
        match Pin::new(&mut connection).poll(cx) {
            Poll::Pending if client.must_close() => Poll::Ready(None),
            Poll::Pending => Poll::Pending,
            Poll::Ready(ended) => Poll::Ready(Some(ended)),
        }
    })
    .await;
    match ended {
        None => tracing::debug!(%address, phase = ?client.phase(), "a client was too slow"),
        Some(Err(error)) => tracing::debug!(%address, %error, "a client's connection failed"),
        Some(Ok(())) => {
            let tunnel = client.tunnel.borrow_mut().take();
            if let Some(tunnel) = tunnel {
                let parts = connection.into_parts();
                let socket = parts.io.into_inner();
                tunnel.run(Rc::clone(&client), socket, parts.read_buf).await;
            }
        }
    }
}
