//! A client connection of HTTP/2.
//!
//! Each stream is a task of its own on the worker of its connection, and has a
//! record of its own. When the proxy is told to leave, the connection says so
//! in two steps, so that streams that are on their way are still served.

use std::cell::RefCell;
use std::future::{Future, poll_fn};
use std::pin::pin;
use std::rc::Rc;
use std::task::Poll;

use hyper::rt::Executor;
use hyper::server::conn::http2::Builder;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;

mod budget;

pub(crate) use budget::Budget;

use crate::client::{Client, Phase};
use crate::connection::MAX_HEAD;
use crate::forward::forward;
use crate::socket::{Carrier, ClientSocket};
use crate::worker::Worker;

/// Streams of one connection at once; what nginx and envoy's users have.
const MAX_STREAMS: u32 = 128;

/// What a client may send ahead on one stream.
const STREAM_WINDOW: u32 = 64 * 1024;

/// What a client may send ahead on one connection: some uploads at once. It
/// bounds the memory that a connection takes with bodies that no target reads, and
/// is what envoy's users are told to set at the edge.
const CONNECTION_WINDOW: u32 = 1024 * 1024;

/// What is held of an answer that a client does not take, per stream.
const MAX_HELD: usize = 64 * 1024;

/// Streams that were reset before they were looked at; a browser resets a page's worth.
const MAX_RESETS: usize = 32;

/// Resets that we make ourselves for a client's faults, until the connection ends.
const MAX_FAULTS: usize = 128;

/// How long a client may take for our last word: what is still on its way to it, and
/// its answer to the question behind the word, in some slow round trips.
const LAST_WORD_MS: u64 = 3_000;

/// Where the tasks of a connection's streams run: on its worker.
#[derive(Debug, Clone, Default)]
struct OnWorker {
    /// The stream whose task comes next: the library calls the service and then
    /// this, in one go.
    next: Rc<RefCell<Option<Rc<Client>>>>,
}

impl<F: Future<Output = ()> + 'static> Executor<F> for OnWorker {
    fn execute(&self, task: F) {
        match self.next.take() {
            Some(client) => tokio::task::spawn_local(guarded(client, task)),
            None => tokio::task::spawn_local(task),
        };
    }
}

/// Runs a stream's task, and drops it, which resets the stream, when the client is too slow.
async fn guarded(client: Rc<Client>, task: impl Future<Output = ()>) {
    let mut task = pin!(task);
    poll_fn(|cx| {
        client.woken_by(cx.waker());
        match task.as_mut().poll(cx) {
            Poll::Pending if client.must_close() => {
                let (address, phase) = (client.origin().address, client.phase());
                tracing::debug!(%address, ?phase, "a client's stream was too slow");
                Poll::Ready(())
            }
            told => told,
        }
    })
    .await;
}

/// Serves a connection until it ends.
pub(crate) async fn serve<S: Carrier>(worker: Rc<Worker>, client: Rc<Client>, stream: S) {
    client.is_no_http();
    client.rests();
    let mut socket = ClientSocket::new(stream, Rc::clone(&client));
    socket.spend(Budget::new(client.now()));
    let tasks = OnWorker::default();
    let next = Rc::clone(&tasks.next);
    let service = service_fn(|request| {
        let stream = worker.stream(&client);
        next.replace(Some(Rc::clone(&stream)));
        forward(Rc::clone(&worker), stream, request)
    });
    let connection = Builder::new(tasks)
        .max_concurrent_streams(MAX_STREAMS)
        .initial_stream_window_size(STREAM_WINDOW)
        .initial_connection_window_size(CONNECTION_WINDOW)
        .max_header_list_size(MAX_HEAD as u32)
        .max_send_buf_size(MAX_HELD)
        .max_pending_accept_reset_streams(MAX_RESETS)
        .max_local_error_reset_streams(MAX_FAULTS)
        .enable_connect_protocol()
        .serve_connection(TokioIo::new(socket), service);
    let mut connection = Box::pin(connection);
    let mut leaving = false;
    let ended = poll_fn(|cx| {
        client.woken_by(cx.waker());
        let idle_too_long = client.must_close() && client.phase() == Phase::Idle;
        if !leaving && (worker.is_closing() || idle_too_long) {
            leaving = true;
            connection.as_mut().graceful_shutdown();
        }
        if idle_too_long {
            // A stream that crosses the word is served, and then there is as much
            // time again: a client that says nothing more is not waited for.
            client.greets(LAST_WORD_MS);
        }
        match connection.as_mut().poll(cx) {
            Poll::Ready(ended) => Poll::Ready(Some(ended)),
            Poll::Pending if client.must_close() && client.phase() != Phase::Idle => {
                Poll::Ready(None)
            }
            Poll::Pending => Poll::Pending,
        }
    })
    .await;
    let address = client.origin().address;
    match ended {
        Some(Ok(())) => {}
        Some(Err(error)) => tracing::debug!(%address, %error, "a client's connection failed"),
        None => tracing::debug!(%address, "a client's connection did not end by itself"),
    }
}
