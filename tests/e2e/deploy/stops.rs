//! An old release that does not stop, and a request on it that does not end: both
//! are ended at their times, and the deploy goes on.

use std::net::SocketAddr;
use std::time::Duration;

use anyhow::ensure;
use cutover_tests::host::docker;
use cutover_tests::image;
use cutover_tests::load::Kind;
use cutover_tests::rig::{Rig, Setup, TABLES};
use cutover_tests::wait::eventually;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;

use crate::traffic::{ensure_in_order, print};

const DEADLINE: Duration = Duration::from_secs(60);

/// The drain and the grace of a rig's app.
const PATIENCE: Duration = Duration::from_secs(10);

/// Posts what takes longer than any deploy, and gives the answer. A GET would be
/// sent again, to the new release.
async fn endless(front: SocketAddr, host: String) -> anyhow::Result<String> {
    let mut stream = TcpStream::connect(front).await?;
    let request = format!(
        "POST /slow?ms=600000 HTTP/1.1\r\nhost: {host}\r\ncontent-length: 0\r\nconnection: close\r\n\r\n"
    );
    stream.write_all(request.as_bytes()).await?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer).await?;
    Ok(answer)
}

async fn is_killed_at_last(app: &str, top: &str, tables: &str) -> anyhow::Result<()> {
    let setup = Setup {
        app_top: top.to_owned(),
        app_tables: Some(format!("{TABLES}{tables}")),
        ..Setup::default()
    };
    let rig = Rig::start(app, &setup).await?;
    let one = image::build(app, &[("VERSION", "1"), ("IGNORE_SIGTERM", "1")]).await?;
    let two = image::build(app, &[("VERSION", "2")]).await?;
    rig.must_deploy(&one).await?;
    let endless = tokio::spawn(endless(rig.front, format!("{app}.test")));
    let load = rig.load()?.users(Kind::KeepAlive, 3).users(Kind::Fresh, 2);
    let load = load.users(Kind::Events, 1).users(Kind::WebSocket, 1);
    let load = load.pause(Duration::from_millis(10)).timeout(DEADLINE);
    let load = load.start()?;
    load.more_ok(50, DEADLINE).await?;

    let begun = tokio::time::Instant::now();
    let ran = rig.deploy(&two).await?;
    let took = begun.elapsed();
    load.more_ok(50, DEADLINE).await?;
    let report = load.stop().await?;
    print(app, &report.summary(&[]));
    ensure!(ran.code == 0, "{}", ran.text);
    ensure!(took > PATIENCE, "it was over after {took:?}");
    let left = "ended at its deadline: 1 requests, 0 streams and 0 tunnels were still open";
    for part in [left, "v2 serves"] {
        ensure!(ran.text.contains(part), "no {part:?} in:\n{}", ran.text);
    }
    // All but the one who would have waited for ever, and is told that it is over; a
    // message may cross the good-bye of a tunnel that is cut.
    for record in report.failed() {
        ensure!(record.is_crossed(), "{record:?}");
    }
    ensure_in_order(&report, &["1", "2"])?;
    let answer = tokio::time::timeout(DEADLINE, endless).await???;
    ensure!(answer.starts_with("HTTP/1.1 502 "), "{answer}");
    assert_eq!(rig.containers().await?, [format!("cutover-{app}-v2-0")]);

    let name = format!("container=cutover-{app}-v1-0");
    let exits = "{{.Actor.Attributes.exitCode}}";
    let died = [
        "--filter",
        "event=die",
        "--filter",
        &name,
        "--format",
        exits,
    ];
    let events = [&["events", "--since", "10m", "--until", "0s"], &died[..]].concat();
    // Killed, and not ended by itself. The client asks by whole seconds, so what was
    // in this one is seen in the next.
    eventually("its end is told", DEADLINE, async || {
        let code = docker(&events).await?;
        ensure!(!code.is_empty(), "not yet");
        assert_eq!(code, "137");
        anyhow::Ok(())
    })
    .await
}

#[tokio::test]
async fn an_old_release_that_does_not_stop_is_killed_and_its_last_request_cut() -> anyhow::Result<()>
{
    let top = "strategy = \"red-black\"\nstandby = \"0s\"\n";
    is_killed_at_last("stubborn", top, "").await
}

#[tokio::test]
async fn in_place_nobody_who_is_held_is_lost_while_the_old_release_does_not_stop()
-> anyhow::Result<()> {
    let top = "strategy = \"in-place\"\n";
    let tables = "[in_place]\npark_deadline = \"30s\"\n";
    is_killed_at_last("stubplace", top, tables).await
}
