//! A newer call while a deploy is under way: it takes its place, or waits.

use std::time::Duration;

use cutover_tests::image;
use cutover_tests::rig::{Rig, Setup, TABLES};
use cutover_tests::wait::eventually;

const DEADLINE: Duration = Duration::from_secs(30);

async fn is_deploying(rig: &Rig, phase: &str) -> anyhow::Result<()> {
    eventually("the deploy is under way", DEADLINE, async || {
        let status = rig.status().await.unwrap_or_default();
        let now = status["deploying"]["phase"].as_str().unwrap_or_default();
        now.starts_with(phase)
    })
    .await
}

#[tokio::test]
async fn a_newer_deploy_takes_the_place_of_one_that_has_no_users() -> anyhow::Result<()> {
    let rig = Rig::start("newer", &Setup::default()).await?;
    let one = image::build("newer", &[("VERSION", "1")]).await?;
    let slow = image::build("newer", &[("VERSION", "2"), ("SLOW_START_S", "600")]).await?;
    let three = image::build("newer", &[("VERSION", "3")]).await?;
    rig.must_deploy(&one).await?;
    let load = rig.load()?.users_of_every_kind();
    let load = load.pause(Duration::from_millis(10)).start()?;
    let older = rig.begin_deploy(&slow)?;
    is_deploying(&rig, "gate").await?;
    rig.must_deploy(&three).await?;
    let ran = older.await??;
    assert_eq!(ran.code, 6, "{}", ran.text);
    assert!(ran.text.contains("takes its place"), "{}", ran.text);
    load.more_ok(20, DEADLINE).await?;
    let report = load.stop().await?;
    report.ensure_none_failed()?;
    crate::traffic::ensure_in_order(&report, &["1", "3"])
}

#[tokio::test]
async fn a_newer_deploy_waits_for_the_end_of_one_that_has_users() -> anyhow::Result<()> {
    let setup = Setup {
        app_tables: Some(TABLES.replace("window = \"2s\"", "window = \"6s\"")),
        ..Setup::default()
    };
    let mut rig = Rig::start("waits", &setup).await?;
    let mut images = Vec::new();
    for version in ["1", "2", "3"] {
        images.push(image::build("waits", &[("VERSION", version)]).await?);
    }
    let first = rig.begin_deploy(&images[0])?;
    is_deploying(&rig, "watch").await?;
    let second = rig.begin_deploy(&images[1])?;
    // The second is durable, also for an agent that knows nothing else of it.
    eventually("the second call waits", DEADLINE, async || {
        let status = rig.status().await?;
        anyhow::ensure!(status["waiting"].is_object(), "{status:#}");
        Ok(())
    })
    .await?;
    rig.kill_agent().await?;
    rig.start_agent().await?;
    let third = rig.begin_deploy(&images[2])?;
    let [first, second, third] = [first.await??, second.await??, third.await??];
    assert_eq!(first.code, 0, "{}", first.text);
    assert_eq!(second.code, 6, "{}", second.text);
    assert_eq!(third.code, 0, "{}", third.text);
    assert_eq!(rig.version().await?, "3");
    Ok(())
}
