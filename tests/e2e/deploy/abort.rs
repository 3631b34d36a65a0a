//! A person stops a deploy: by the command, or by Ctrl-C on the one that follows.

use std::time::Duration;

use anyhow::{Context as _, ensure};
use cutover_tests::image::{self, Image};
use cutover_tests::process::{Process, Signal};
use cutover_tests::rig::{Rig, Setup, TABLES};
use cutover_tests::wait::eventually;

const DEADLINE: Duration = Duration::from_secs(30);

/// Who stops it.
#[derive(Clone, Copy, PartialEq)]
enum Stop {
    Command,
    Interrupt,
}

async fn stops(app: &str, stop: Stop) -> anyhow::Result<()> {
    // Longer than the test: only the abort ends the watch.
    let setup = Setup {
        app_tables: Some(TABLES.replace("window = \"2s\"", "window = \"5m\"")),
        ..Setup::default()
    };
    let quick = Setup::default();
    let mut rig = Rig::start(app, &quick).await?;
    let one = image::build(app, &[("VERSION", "1")]).await?;
    let slow = image::build(app, &[("VERSION", "2"), ("SLOW_START_S", "600")]).await?;
    let good = image::build(app, &[("VERSION", "3")]).await?;
    rig.must_deploy(&one).await?;
    rig.kill_agent().await?;
    rig.configure(&setup)?;
    rig.start_agent().await?;

    let load = rig.load()?.users_of_every_kind();
    let load = load.pause(Duration::from_millis(10)).start()?;
    load.more_ok(20, DEADLINE).await?;

    let following = follow(&rig, &slow)?;
    following.wait_for_line("GET /healthz", DEADLINE).await?;
    ends(&rig, &following, stop).await?;
    assert_eq!(rig.version().await?, "1");

    let following = follow(&rig, &good)?;
    rig.sees("3", DEADLINE).await?;
    load.more_ok(50, DEADLINE).await?;
    ends(&rig, &following, stop).await?;
    assert_eq!(rig.version().await?, "1");

    load.more_ok(20, DEADLINE).await?;
    let report = load.stop().await?;
    report.ensure_none_failed()?;
    crate::traffic::ensure_in_order(&report, &["1", "3", "1"])?;
    assert!(report.versions().contains(&"3"), "no user was on v3");
    Ok(())
}

fn follow(rig: &Rig, image: &Image) -> anyhow::Result<Process> {
    let arguments = ["deploy", "--app", &rig.app, "--image", &image.reference()];
    Process::spawn(rig.cutover(&arguments)?.into_std())
}

/// Stops the deploy; then the one who followed it knows, and nothing is left.
async fn ends(rig: &Rig, following: &Process, stop: Stop) -> anyhow::Result<()> {
    match stop {
        Stop::Command => {
            let aborted = rig.run(&["abort", "--app", &rig.app]).await?;
            assert_eq!(aborted.code, 0, "{}", aborted.text);
            assert!(aborted.text.contains("v1 serves"), "{}", aborted.text);
        }
        Stop::Interrupt => following.signal(Signal::INT)?,
    }
    let ended = following.ended(DEADLINE).await?;
    assert_eq!(ended.code(), Some(7), "{}", following.log());
    // Who was interrupted has a few seconds, and does not claim more than it has seen.
    let last_word = eventually("a last word", DEADLINE, async || {
        let aborted = following.line("(aborted");
        let interrupted = || following.line("the agent takes the deploy back");
        let told = match stop {
            Stop::Command => aborted,
            Stop::Interrupt => aborted.or_else(interrupted),
        };
        told.with_context(|| following.log())
    })
    .await?;
    if !last_word.contains("(aborted") {
        eventually("it is taken back", DEADLINE, async || {
            let status = rig.status().await?;
            ensure!(status["deploying"] == serde_json::Value::Null, "{status:#}");
            Ok(())
        })
        .await?;
    }
    let status = rig.status().await?;
    assert_eq!(status["last"]["outcome"], "aborted", "{status:#}");
    assert_eq!(status["serving"]["number"], 1, "{status:#}");
    assert_eq!(status["deploying"], serde_json::Value::Null);
    let container = format!("cutover-{}-v1-0", rig.app);
    assert_eq!(rig.containers().await?, [container]);
    let again = rig.run(&["abort", "--app", &rig.app]).await?;
    assert!(
        again.text.contains("nothing is being deployed"),
        "{}",
        again.text
    );
    Ok(())
}

#[tokio::test]
async fn an_abort_leaves_the_old_release_serving() -> anyhow::Result<()> {
    stops("aborted", Stop::Command).await
}

#[tokio::test]
async fn an_interrupted_command_line_aborts_its_deploy() -> anyhow::Result<()> {
    stops("interrupted", Stop::Interrupt).await
}
