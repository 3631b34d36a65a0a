//! A registry that asks for a password: a door before the test host's own.

use std::convert::Infallible;
use std::net::SocketAddr;
use std::time::Duration;

use base64::Engine as _;
use bytes::Bytes;
use cutover_tests::host::host;
use futures_util::StreamExt as _;
use http::{Request, Response, StatusCode, header};
use http_body_util::combinators::UnsyncBoxBody;
use http_body_util::{BodyExt as _, Full, StreamBody};
use hyper::body::{Frame, Incoming};
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use tokio::net::{TcpListener, TcpStream};

type Body = UnsyncBoxBody<Bytes, Infallible>;

/// Opens the door and gives its name as it stands in an image's name. Whoever
/// has the password gets what the real registry has, large things slowly.
pub(crate) async fn open(username: &str, password: &str) -> anyhow::Result<String> {
    let listener = TcpListener::bind("127.0.0.1:0").await?;
    let name = format!("localhost:{}", listener.local_addr()?.port());
    let pair = format!("{username}:{password}");
    let expected = base64::engine::general_purpose::STANDARD.encode(pair);
    let expected = format!("Basic {expected}");
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            let expected = expected.clone();
            let service = service_fn(move |request| answer(request, expected.clone()));
            let connection = hyper::server::conn::http1::Builder::new()
                .serve_connection(TokioIo::new(stream), service);
            tokio::spawn(connection);
        }
    });
    Ok(name)
}

async fn answer(request: Request<Incoming>, expected: String) -> anyhow::Result<Response<Body>> {
    let given = request.headers().get(header::AUTHORIZATION);
    if given.is_none_or(|given| given != expected.as_str()) {
        let body = r#"{"errors":[{"code":"UNAUTHORIZED","message":"authentication required"}]}"#;
        let refusal = Response::builder()
            .status(StatusCode::UNAUTHORIZED)
            .header(header::WWW_AUTHENTICATE, "Basic realm=\"test\"")
            .header(header::CONTENT_TYPE, "application/json")
            .header("docker-distribution-api-version", "registry/2.0")
            .body(Full::new(Bytes::from(body)).boxed_unsync())?;
        return Ok(refusal);
    }
    let port = host()
        .registry
        .rsplit(':')
        .next()
        .unwrap_or("5000")
        .parse()?;
    let stream = TcpStream::connect(SocketAddr::from(([127, 0, 0, 1], port))).await?;
    let (mut sender, connection) =
        hyper::client::conn::http1::handshake(TokioIo::new(stream)).await?;
    tokio::spawn(connection);
    let (head, body) = sender.send_request(request).await?.into_parts();
    let body = body.collect().await?.to_bytes();
    let size = body.len().div_ceil(8).max(64 * 1024);
    let parts: Vec<Bytes> = body.chunks(size).map(Bytes::copy_from_slice).collect();
    let slowly = futures_util::stream::iter(parts)
        .enumerate()
        .then(|(index, part)| async move {
            let pause = if index == 0 {
                Duration::ZERO
            } else {
                Duration::from_millis(250)
            };
            tokio::time::sleep(pause).await;
            Ok(Frame::data(part))
        });
    Ok(Response::from_parts(
        head,
        StreamBody::new(slowly).boxed_unsync(),
    ))
}
