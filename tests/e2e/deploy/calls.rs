//! Signed calls over HTTP: one call is one deploy, and what is not rightly
//! signed leaves no trace.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context as _;
use bytes::Bytes;
use cutover_tests::image::{self, Image};
use cutover_tests::request::{Answer, send};
use cutover_tests::rig::{Rig, SECRET, Setup, TABLES};
use cutover_tests::wait::eventually;
use cutover_wire::agent::DEPLOYS;
use cutover_wire::request::MAX_BODY;
use cutover_wire::signature::{
    ID_HEADER, SIGNATURE_HEADER, Secret, TIMESTAMP_HEADER, TOLERANCE_SECONDS,
};
use http::Request;
use jiff::Timestamp;
use serde_json::Value;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;

const DEADLINE: Duration = Duration::from_secs(60);

/// How often one call is sent.
const REPLAYS: usize = 1_000;

/// A call as it goes over the wire.
#[derive(Clone)]
struct Call {
    id: String,
    timestamp: u64,
    signature: String,
    body: Bytes,
}

fn now() -> u64 {
    u64::try_from(Timestamp::now().as_second()).unwrap_or(0)
}

fn deploy_of(image: &Image, app: &str) -> Bytes {
    let image = image.reference();
    let body = serde_json::json!({"app": app, "change": {"deploy": {"image": image}}});
    Bytes::from(body.to_string())
}

impl Call {
    fn signed(id: &str, timestamp: u64, body: Bytes) -> anyhow::Result<Self> {
        let signature = Secret::parse(SECRET)?.sign(id, timestamp, &body);
        Ok(Self {
            id: id.to_owned(),
            timestamp,
            signature,
            body,
        })
    }

    async fn send(&self, agent: SocketAddr) -> anyhow::Result<Answer> {
        let request = Request::post(DEPLOYS)
            .header("host", agent.to_string())
            .header(ID_HEADER, &self.id)
            .header(TIMESTAMP_HEADER, self.timestamp)
            .header(SIGNATURE_HEADER, &self.signature)
            .body(self.body.clone())?;
        send(agent, request).await
    }
}

fn json(answer: &Answer) -> anyhow::Result<Value> {
    serde_json::from_slice(&answer.body).with_context(|| answer.text())
}

#[tokio::test]
async fn one_call_sent_1000_times_is_one_deploy() -> anyhow::Result<()> {
    let rig = Rig::start("replayed", &Setup::default()).await?;
    let one = image::build("replayed", &[("VERSION", "1")]).await?;
    let call = Call::signed("replayed-call", now(), deploy_of(&one, "replayed"))?;
    let call = Arc::new(call);
    let agent = rig.calls;
    // From several sides at once, from before the deploy until after it.
    let mut senders = Vec::new();
    for _ in 0..8 {
        let call = Arc::clone(&call);
        senders.push(tokio::spawn(async move {
            let mut deploys = Vec::new();
            for _ in 0..REPLAYS / 8 - 1 {
                let answer = call.send(agent).await?;
                anyhow::ensure!(answer.status == 202, "{}", answer.text());
                deploys.push(json(&answer)?["deploy"].clone());
            }
            Ok(deploys)
        }));
    }
    let mut deploys = Vec::new();
    for sender in senders {
        deploys.extend(sender.await??);
    }
    let first = deploys[0].clone();
    assert!(first.is_string());
    let status = eventually("the deploy ends", DEADLINE, async || {
        let status = rig.status().await?;
        anyhow::ensure!(status["last"]["outcome"].is_string(), "{status}");
        Ok(status)
    })
    .await?;
    while deploys.len() < REPLAYS {
        let answer = call.send(agent).await?;
        deploys.push(json(&answer)?["deploy"].clone());
    }
    assert!(deploys.iter().all(|deploy| *deploy == first));
    assert_eq!(status["last"]["deploy"], first);
    assert_eq!(status["serving"]["number"], 1);
    assert_eq!(rig.containers().await?, ["cutover-replayed-v1-0"]);
    // Also after them all, nothing more was done.
    assert_eq!(rig.status().await?, status);
    Ok(())
}

#[tokio::test]
async fn of_two_calls_at_once_one_is_taken_and_one_told_what_is_in_the_way() -> anyhow::Result<()> {
    let setup = Setup {
        app_tables: Some(format!("{TABLES}[supersede]\nbefore_shift = \"reject\"\n")),
        ..Setup::default()
    };
    let rig = Rig::start("busy", &setup).await?;
    let one = image::build("busy", &[("VERSION", "1")]).await?;
    let body = deploy_of(&one, "busy");
    let left = Call::signed("left", now(), body.clone())?;
    let right = Call::signed("right", now(), body)?;
    let (left, right) = tokio::try_join!(left.send(rig.calls), right.send(rig.calls))?;
    let (taken, refused) = match left.status.as_u16() {
        202 => (left, right),
        _ => (right, left),
    };
    assert_eq!(taken.status, 202, "{}", taken.text());
    assert_eq!(refused.status, 409, "{}", refused.text());
    let deploy = json(&taken)?["deploy"].clone();
    let problem = json(&refused)?;
    assert_eq!(problem["code"], "busy");
    assert_eq!(problem["deploy"], deploy);

    let ran = rig.deploy(&one).await?;
    assert_eq!(ran.code, 4, "{}", ran.text);
    let id = deploy.as_str().context("an id")?;
    assert!(ran.text.contains(id), "{}", ran.text);
    rig.sees("1", DEADLINE).await?;
    assert_eq!(rig.containers().await?, ["cutover-busy-v1-0"]);
    Ok(())
}

/// All that the agent's journal holds, byte for byte.
fn journal(rig: &Rig) -> anyhow::Result<Vec<Vec<u8>>> {
    let files = ["agent.db", "agent.db-wal"].map(|name| rig.state().join(name));
    let read = files.iter().map(std::fs::read);
    Ok(read.collect::<Result<_, _>>()?)
}

#[tokio::test]
async fn calls_that_are_not_rightly_signed_leave_no_trace() -> anyhow::Result<()> {
    let rig = Rig::start("forged", &Setup::default()).await?;
    let one = image::build("forged", &[("VERSION", "1")]).await?;
    let two = image::build("forged", &[("VERSION", "2")]).await?;
    rig.must_deploy(&one).await?;
    let before = journal(&rig)?;
    let body = deploy_of(&two, "forged");
    let good = Call::signed("a-call", now(), body.clone())?;

    let past = now() - TOLERANCE_SECONDS - 5;
    let future = now() + TOLERANCE_SECONDS + 5;
    let foreign = Secret::parse("another secret of thirty-two bytes")?;
    let mut changed = body.to_vec();
    changed.push(b' ');
    let large = Bytes::from(vec![b' '; MAX_BODY + 1]);
    let calls = [
        ("stale", 401, Call::signed("stale", past, body.clone())?),
        (
            "from the future",
            401,
            Call::signed("early", future, body.clone())?,
        ),
        (
            "forged",
            401,
            Call {
                signature: foreign.sign(&good.id, good.timestamp, &body),
                ..good.clone()
            },
        ),
        (
            "signed for another id",
            401,
            Call {
                id: "another".to_owned(),
                ..good.clone()
            },
        ),
        (
            "signed at another time",
            401,
            Call {
                timestamp: good.timestamp - 1,
                ..good.clone()
            },
        ),
        (
            "changed on the way",
            401,
            Call {
                body: changed.into(),
                ..good.clone()
            },
        ),
        (
            "cut on the way",
            401,
            Call {
                body: body.slice(..body.len() - 1),
                ..good.clone()
            },
        ),
        (
            "unsigned",
            401,
            Call {
                signature: String::new(),
                ..good.clone()
            },
        ),
        ("oversized", 413, Call::signed("large", now(), large)?),
        (
            "signed nonsense",
            400,
            Call::signed("nonsense", now(), Bytes::from_static(b"{}"))?,
        ),
    ];
    for (name, status, call) in calls {
        let answer = call.send(rig.calls).await?;
        assert_eq!(answer.status, status, "{name}: {}", answer.text());
    }
    let bare = Request::post(DEPLOYS).header("host", "agent");
    let answer = send(rig.calls, bare.body(body.clone())?).await?;
    assert_eq!(answer.status, 401, "{}", answer.text());
    truncated(rig.calls, &good).await?;

    assert_eq!(journal(&rig)?, before, "something was stored");
    let status = rig.status().await?;
    assert_eq!(status["serving"]["number"], 1);
    assert_eq!(status["deploying"], Value::Null);
    // None of them used the good call up.
    let answer = good.send(rig.calls).await?;
    assert_eq!(answer.status, 202, "{}", answer.text());
    rig.sees("2", DEADLINE).await
}

/// Promises a whole body and leaves in the middle of it.
async fn truncated(agent: SocketAddr, call: &Call) -> anyhow::Result<()> {
    let mut connection = TcpStream::connect(agent).await?;
    let head = format!(
        "POST {DEPLOYS} HTTP/1.1\r\nhost: agent\r\ncontent-length: {}\r\n{ID_HEADER}: {}\r\n\
         {TIMESTAMP_HEADER}: {}\r\n{SIGNATURE_HEADER}: {}\r\n\r\n",
        call.body.len(),
        call.id,
        call.timestamp,
        call.signature
    );
    connection.write_all(head.as_bytes()).await?;
    connection
        .write_all(&call.body[..call.body.len() / 2])
        .await?;
    connection.shutdown().await?;
    let mut answer = Vec::new();
    let read = connection.read_to_end(&mut answer);
    tokio::time::timeout(DEADLINE, read).await??;
    let answer = String::from_utf8_lossy(&answer);
    assert!(!answer.contains(" 202 "), "{answer}");
    Ok(())
}
