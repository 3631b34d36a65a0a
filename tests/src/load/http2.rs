//! A user of HTTP/2 without TLS: some requests at once on one connection.
//!
//! A server that goes away says so first (GOAWAY) and serves what had been
//! sent. A request that the connection gave back unsent goes on a new one; that
//! is no second try, because nobody has seen it.

use std::net::SocketAddr;

use bytes::Bytes;
use http::{Method, Request, Uri, Version, header};
use http_body_util::Full;
use hyper::client::conn::http2::{SendRequest, handshake};
use hyper_util::rt::{TokioExecutor, TokioIo};
use tokio::net::TcpStream;
use tokio::task::JoinSet;
use tokio::time::Instant;

use super::Progress;
use super::client::{self, Failure, within};
use super::record::{Kind, Phase, Record};
use super::user::{self, User};

/// Streams at once, as many as a page with a few pictures has.
pub const MOST_AT_ONCE: u64 = 4;

/// New connections that one request may need; a server that turns away all of
/// them serves nobody.
const MOST_CONNECTIONS: usize = 3;

type Sender = SendRequest<Full<Bytes>>;

/// One request of a round, and what became of it.
struct Ended {
    id: String,
    began: Instant,
    version: user::Version,
    result: Result<(), Failure>,
}

/// Makes requests until the load is over; see [`User::live`].
pub(super) async fn live(
    mut user: User,
    progress: &Progress,
    end: Option<Instant>,
) -> (Vec<Record>, u64) {
    let mut records = Vec::new();
    let mut connection: Option<Sender> = None;
    loop {
        let wanted = user.chance.between(1, MOST_AT_ONCE);
        let first = records.len();
        let taken = (0..wanted).take_while(|_| progress.take(end)).count();
        if taken == 0 {
            return (records, 0);
        }
        let mut round = JoinSet::new();
        for number in first..first + taken {
            let id = format!("{}-{number}", user.name);
            let began = Instant::now();
            let deadline = client::deadline(user.load.timeout);
            let sender = connect(&mut connection, user.load.address, deadline).await;
            let request = request(&user, &id);
            let (load, kind) = (user.load.clone(), user.kind);
            let content = user.content(&id);
            round.spawn(async move {
                let mut version = None;
                let stream = async {
                    let exchange = Exchange {
                        address: load.address,
                        id: &id,
                        deadline,
                    };
                    let got = exchange.run(sender?, request?, &mut version).await?;
                    if kind == Kind::Http2Post && got != content {
                        return Err(Failure::new(Phase::Content, "the echo differs"));
                    }
                    Ok(())
                };
                let result = stream.await;
                Ended {
                    id,
                    began,
                    version,
                    result,
                }
            });
        }
        while let Some(ended) = round.join_next().await {
            // A panic here is one of the load itself, which then tells of it.
            let Ok(ended) = ended else { break };
            if ended.result.is_err() {
                connection = None;
            }
            let record = user.record(ended.id, ended.began, ended.version, ended.result);
            progress.add(&record);
            records.push(record);
        }
        user.think().await;
    }
}

/// The connection that is there, or a new one in its place.
async fn connect(
    connection: &mut Option<Sender>,
    address: SocketAddr,
    deadline: Instant,
) -> Result<Sender, Failure> {
    if let Some(sender) = connection.as_ref().filter(|sender| !sender.is_closed()) {
        return Ok(sender.clone());
    }
    let sender = open(address, deadline).await?;
    *connection = Some(sender.clone());
    Ok(sender)
}

async fn open(address: SocketAddr, deadline: Instant) -> Result<Sender, Failure> {
    let stream = within(deadline, Phase::Connect, TcpStream::connect(address)).await?;
    let _ = stream.set_nodelay(true);
    let shake = handshake(TokioExecutor::new(), TokioIo::new(stream));
    let (sender, connection) = within(deadline, Phase::Connect, shake).await?;
    tokio::spawn(async move {
        // Its errors reach the requests they belong to.
        let _ = connection.await;
    });
    Ok(sender)
}

/// The user's request with the host where HTTP/2 has it.
fn request(user: &User, id: &str) -> Result<Request<Full<Bytes>>, Failure> {
    let mut request = match user.kind {
        Kind::Http2Post => user.request(Method::POST, "/echo", id, user.content(id))?,
        _ => user.request(Method::GET, &user.load.path, id, Bytes::new())?,
    };
    let host = request.headers_mut().remove(header::HOST);
    let host = host.as_ref().and_then(|host| host.to_str().ok());
    let address = format!("http://{}{}", host.unwrap_or_default(), request.uri());
    *request.uri_mut() = address
        .parse::<Uri>()
        .map_err(|error| Failure::from(Phase::Connect, &error))?;
    *request.version_mut() = Version::HTTP_2;
    Ok(request)
}

struct Exchange<'a> {
    address: SocketAddr,
    id: &'a str,
    deadline: Instant,
}

impl Exchange<'_> {
    /// Sends the request and reads its whole answer.
    async fn run(
        &self,
        mut sender: Sender,
        mut request: Request<Full<Bytes>>,
        version: &mut user::Version,
    ) -> Result<Bytes, Failure> {
        for _ in 0..MOST_CONNECTIONS {
            let sent = async { Ok::<_, hyper::Error>(sender.try_send_request(request).await) };
            let mut refused = match within(self.deadline, Phase::Head, sent).await? {
                Ok(response) => {
                    let (head, body) = response.into_parts();
                    user::check(&head, self.id, version)?;
                    return client::body(body, self.deadline).await;
                }
                Err(refused) => refused,
            };
            let Some(unsent) = refused.take_message() else {
                return Err(Failure::from(Phase::Head, refused.error()));
            };
            request = unsent;
            sender = open(self.address, self.deadline).await?;
        }
        Err(Failure::new(Phase::Head, "no connection takes it"))
    }
}

#[cfg(test)]
mod tests {
    use std::convert::Infallible;
    use std::time::Duration;

    use cutover_demo_app::LOAD_ID;
    use http::Response;
    use hyper::service::service_fn;
    use tokio::net::TcpListener;

    use super::*;
    use crate::load::Load;

    /// Requests to a server that goes away after every tenth answer, the way
    /// the RFC says.
    #[tokio::test]
    async fn a_server_that_goes_away_politely_costs_nothing() {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let server = tokio::spawn(async move {
            loop {
                let (stream, _) = listener.accept().await.unwrap();
                tokio::spawn(async move {
                    let leave = tokio::sync::Notify::new();
                    let served = std::sync::atomic::AtomicUsize::new(0);
                    let service = service_fn(|request: Request<hyper::body::Incoming>| {
                        if served.fetch_add(1, std::sync::atomic::Ordering::Relaxed) == 9 {
                            leave.notify_one();
                        }
                        let id = request.headers()[LOAD_ID].clone();
                        async move {
                            // Some streams are open when it leaves.
                            tokio::time::sleep(Duration::from_millis(1)).await;
                            let answer = Response::builder().header(LOAD_ID, id);
                            Ok::<_, Infallible>(answer.body(Full::new(Bytes::new())).unwrap())
                        }
                    });
                    let connection = hyper::server::conn::http2::Builder::new(TokioExecutor::new())
                        .serve_connection(TokioIo::new(stream), service);
                    let mut connection = std::pin::pin!(connection);
                    tokio::select! {
                        _ = connection.as_mut() => return,
                        () = leave.notified() => connection.as_mut().graceful_shutdown(),
                    }
                    let _ = connection.await;
                });
            }
        });
        let load = Load::new(address, "app").unwrap();
        let load = load.users(Kind::Http2, 2).requests(300);
        let load = load.pause(Duration::from_micros(500));
        let report = load.start().unwrap().finished().await.unwrap();
        server.abort();
        assert_eq!(report.records.len(), 300);
        report.ensure_none_failed().unwrap();
    }
}
