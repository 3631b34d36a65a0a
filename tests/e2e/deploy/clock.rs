//! The agent's clock jumps by an hour in a deploy: nothing that is measured gets
//! longer or shorter for it, and nothing is lost.

use std::time::{Duration, Instant};

use anyhow::ensure;
use cutover_tests::image;
use cutover_tests::load::Kind;
use cutover_tests::rig::{Rig, Setup, TABLES};
use cutover_tests::wait::eventually;

use crate::traffic::ensure_in_order;

const DEADLINE: Duration = Duration::from_secs(60);
const HOUR: i64 = 3_600;
const WINDOW: Duration = Duration::from_secs(4);
const STANDBY: Duration = Duration::from_secs(8);

/// What may be added to these on a machine that is busy; far less than an hour.
const SLACK: Duration = Duration::from_secs(30);

/// From one end of what is measured to the other is what a test sees a little late.
const LATE: Duration = Duration::from_secs(1);

#[tokio::test]
async fn a_clock_that_jumps_by_an_hour_hurries_and_stalls_no_deploy() -> anyhow::Result<()> {
    let setup = Setup {
        app_top: "strategy = \"red-black\"\nstandby = \"8s\"\n".to_owned(),
        app_tables: Some(TABLES.replace("window = \"2s\"", "window = \"4s\"")),
        own_clock: true,
        ..Setup::default()
    };
    let rig = Rig::start("jumps", &setup).await?;
    let one = image::build("jumps", &[("VERSION", "1")]).await?;
    let two = image::build("jumps", &[("VERSION", "2"), ("SLOW_START_S", "3")]).await?;
    let three = image::build("jumps", &[("VERSION", "3"), ("SLOW_START_S", "3")]).await?;
    rig.must_deploy(&one).await?;
    // No WebSocket: what it sends may cross the good-bye of a release that retires.
    let load = rig
        .load()?
        .users(Kind::KeepAlive, 2)
        .users(Kind::Fresh, 1)
        .users(Kind::Post, 1)
        .users(Kind::Events, 1)
        .pause(Duration::from_millis(10))
        .start()?;
    load.more_ok(20, DEADLINE).await?;

    // In the gate by one hour, in the watch by another.
    let following = rig.begin_deploy(&two)?;
    rig.does("gate", DEADLINE).await?;
    rig.set_clock(HOUR)?;
    rig.sees("2", DEADLINE).await?;
    let watched = Instant::now();
    rig.does("watch", DEADLINE).await?;
    rig.set_clock(2 * HOUR)?;
    let ran = following.await??;
    ensure!(ran.code == 0, "{}: {}", ran.code, ran.text);
    let watched = watched.elapsed();
    assert!(watched + LATE >= WINDOW, "{watched:?}");
    assert!(watched < WINDOW + SLACK, "{watched:?}");

    // While the old release stands by.
    let stands_by = Instant::now();
    rig.set_clock(3 * HOUR)?;
    eventually("the old release is retired", STANDBY + SLACK, async || {
        let all = rig.containers().await?;
        ensure!(all == ["cutover-jumps-v2-0"], "{all:?}");
        Ok(())
    })
    .await?;
    let stands_by = stands_by.elapsed();
    assert!(stands_by + 2 * LATE >= STANDBY, "{stands_by:?}");

    // Whoever signs by another clock is told so.
    let ran = rig.run(&["status", "--app", "jumps"]).await?;
    assert_ne!(ran.code, 0);
    assert!(ran.text.contains("clock"), "{}", ran.text);
    let ran = rig.deploy(&three).await?;
    assert_ne!(ran.code, 0);
    assert!(ran.text.contains("clock"), "{}", ran.text);

    // And back, one hour and then the other, to where it is right.
    let reference = three.reference();
    let deploy = ["deploy", "--app", "jumps", "--image", &reference];
    let deploy = rig.run_local(&deploy);
    let turning = async {
        rig.does("gate", DEADLINE).await?;
        rig.set_clock(HOUR)?;
        rig.sees("3", DEADLINE).await?;
        let watched = Instant::now();
        rig.does("watch", DEADLINE).await?;
        rig.set_clock(0)?;
        anyhow::Ok(watched)
    };
    let (ran, watched) = tokio::try_join!(deploy, turning)?;
    ensure!(ran.code == 0, "{}: {}", ran.code, ran.text);
    let watched = watched.elapsed();
    assert!(watched + LATE >= WINDOW, "{watched:?}");
    assert!(watched < WINDOW + SLACK, "{watched:?}");
    assert_eq!(rig.version().await?, "3");
    load.more_ok(50, DEADLINE).await?;
    let report = load.stop().await?;
    report.ensure_none_failed()?;
    ensure_in_order(&report, &["1", "2", "3"])?;
    // The deploy that ended last is the one that is shown, whatever the clock said.
    let status = rig.status().await?;
    assert_eq!(status["last"]["release"], 3, "{status:#}");
    Ok(())
}

#[tokio::test]
async fn a_clock_that_jumps_by_an_hour_ends_no_bake_no_wait_and_no_drain() -> anyhow::Result<()> {
    let waits = "[approval]\nbefore = \"full\"\ndeadline = \"1m\"\non_timeout = \"promote\"\n";
    let bakes = "[canary]\nweights = [50, 100]\nbake = \"4s\"\n";
    let mut setup = Setup {
        app_top: "strategy = \"canary\"\n".to_owned(),
        app_tables: Some(format!("{TABLES}{waits}{bakes}")),
        own_clock: true,
        ..Setup::default()
    };
    let mut rig = Rig::start("jumping", &setup).await?;
    let one = image::build("jumping", &[("VERSION", "1")]).await?;
    let two = image::build("jumping", &[("VERSION", "2")]).await?;
    let three = image::build("jumping", &[("VERSION", "3")]).await?;
    let following = rig.begin_deploy(&one)?;
    approve(&rig).await?;
    let ran = following.await??;
    ensure!(ran.code == 0, "{}: {}", ran.code, ran.text);
    let load = rig
        .load()?
        .users(Kind::KeepAlive, 3)
        .users(Kind::Post, 2)
        .users(Kind::Events, 2)
        .pause(Duration::from_millis(10))
        .start()?;
    load.more_ok(20, DEADLINE).await?;

    let following = rig.begin_deploy(&two)?;
    rig.does("watch", DEADLINE).await?;
    let baked = Instant::now();
    rig.set_clock(HOUR)?;
    rig.does("approve", DEADLINE).await?;
    assert!(baked.elapsed() + LATE >= WINDOW, "{:?}", baked.elapsed());
    rig.set_clock(2 * HOUR)?;
    // Longer than the agent takes to look at its clock again.
    let waited = Instant::now();
    while waited.elapsed() < Duration::from_secs(4) {
        rig.does("approve", Duration::from_millis(500)).await?;
    }
    approve(&rig).await?;
    let ran = following.await??;
    ensure!(ran.code == 0, "{}: {}", ran.code, ran.text);

    // In a drain, while requests are held.
    rig.kill_agent().await?;
    rig.set_clock(0)?;
    setup.app_top = "strategy = \"in-place\"\n".to_owned();
    setup.app_tables = None;
    rig.configure(&setup)?;
    rig.start_agent().await?;
    let following = rig.begin_deploy(&three)?;
    // The events of its users go on, and are cut in the middle of its time.
    rig.does("drain", DEADLINE).await?;
    rig.set_clock(HOUR)?;
    rig.does("watch", DEADLINE).await?;
    rig.set_clock(-HOUR)?;
    let ran = following.await??;
    ensure!(ran.code == 0, "{}: {}", ran.code, ran.text);
    load.more_ok(50, DEADLINE).await?;
    let report = load.stop().await?;
    report.ensure_none_failed()?;
    assert_eq!(rig.version().await?, "3");
    rig.has_a_plain_route().await
}

/// Answers the deploy that waits for a person.
pub(crate) async fn approve(rig: &Rig) -> anyhow::Result<()> {
    rig.does("approve", DEADLINE).await?;
    let ran = rig.run_local(&["approve", "--app", &rig.app]).await?;
    ensure!(ran.code == 0, "{}", ran.text);
    Ok(())
}
