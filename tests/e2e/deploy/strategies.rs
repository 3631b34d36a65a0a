//! What a strategy leaves behind, and when deploys may begin.

use std::time::Duration;

use anyhow::ensure;
use cutover_tests::image;
use cutover_tests::rig::{Rig, Setup};
use cutover_tests::wait::eventually;

const DEADLINE: Duration = Duration::from_secs(60);

#[tokio::test]
async fn red_black_retires_the_old_release_after_its_standby_under_load() -> anyhow::Result<()> {
    let setup = Setup {
        app_top: "strategy = \"red-black\"\nstandby = \"8s\"\n".to_owned(),
        ..Setup::default()
    };
    let rig = Rig::start("redblack", &setup).await?;
    let one = image::build("redblack", &[("VERSION", "1")]).await?;
    let two = image::build("redblack", &[("VERSION", "2")]).await?;
    rig.must_deploy(&one).await?;
    let load = rig.load()?.users_of_every_kind();
    let load = load.pause(Duration::from_millis(10)).start()?;
    load.more_ok(20, DEADLINE).await?;
    rig.must_deploy(&two).await?;
    assert_eq!(rig.containers().await?.len(), 2);
    let last = rig.status().await?["last"].clone();

    // A rollback while it lasts is one shift, and the other one stands by then.
    let ran = rig.run(&["rollback", "--app", "redblack"]).await?;
    ensure!(ran.code == 0, "{}", ran.text);
    assert!(ran.text.contains("is still warm"), "{}", ran.text);
    let rolled_back = rig.status().await?["last"].clone();
    assert_ne!(last["deploy"], rolled_back["deploy"]);

    let only = ["cutover-redblack-v1-0"];
    eventually("the other release is retired", DEADLINE, async || {
        rig.containers().await.is_ok_and(|all| all == only)
    })
    .await?;
    let status = eventually("nothing is under way", DEADLINE, async || {
        let status = rig.status().await?;
        ensure!(status["deploying"].is_null(), "{status:#}");
        Ok(status)
    })
    .await?;
    assert!(status["standby"].is_null(), "{status:#}");
    // What people did last is what is shown.
    assert_eq!(status["last"], rolled_back);
    load.more_ok(50, DEADLINE).await?;
    let report = load.stop().await?;
    report.ensure_none_failed()?;
    crate::traffic::ensure_in_order(&report, &["1", "2", "1"])
}

#[tokio::test]
async fn a_closed_window_refuses_a_deploy_until_somebody_says_why() -> anyhow::Result<()> {
    let always = "[windows]\ntimezone = \"UTC\"\ndeny = [\"2026-01-01..2099-12-31\"]\n";
    let mut rig = Rig::start("closed", &Setup::default()).await?;
    let one = image::build("closed", &[("VERSION", "1")]).await?;
    let two = image::build("closed", &[("VERSION", "2")]).await?;
    rig.must_deploy(&one).await?;
    rig.kill_agent().await?;
    rig.configure(&Setup {
        app_tables: Some(format!("{}{always}", cutover_tests::rig::TABLES)),
        ..Setup::default()
    })?;
    rig.start_agent().await?;

    let ran = rig.deploy(&two).await?;
    assert_eq!(ran.code, 4, "{}", ran.text);
    for part in ["deploys are closed by deny", "--override-window"] {
        assert!(ran.text.contains(part), "{part:?} is not in:\n{}", ran.text);
    }
    let reference = two.reference();
    let ran = rig
        .run(&["plan", "--app", "closed", "--image", &reference])
        .await?;
    assert!(
        ran.text.contains("note: deploys are closed"),
        "{}",
        ran.text
    );

    let why = "the shop is down";
    let deploy = ["deploy", "--app", "closed", "--image", &reference];
    let mut command = rig.cutover(&deploy)?;
    command.args(["--override-window", why]).env("USER", "ada");
    let ran = cutover_tests::rig::Ran::from(command.output().await?);
    assert_eq!(ran.code, 0, "{}", ran.text);
    let asked = format!("by ada to deploy {reference}, whatever the deploy windows say: {why}");
    assert!(ran.text.contains(&asked), "{}", ran.text);
    // No window holds a rollback.
    let ran = rig.run(&["rollback", "--app", "closed"]).await?;
    assert_eq!(ran.code, 0, "{}", ran.text);
    Ok(())
}
