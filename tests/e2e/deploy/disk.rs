//! No room: for the journal, and nothing is done that could not be remembered;
//! for an image, and the deploy fails and says so.

use std::fs::File;
use std::io::Write as _;
use std::path::Path;
use std::time::Duration;

use anyhow::Context as _;
use cutover_tests::engine::{Containers, Engine};
use cutover_tests::image;
use cutover_tests::registry::{Door, Mood};
use cutover_tests::rig::{Rig, Setup};
use cutover_tests::wait::eventually;

const DEADLINE: Duration = Duration::from_secs(30);

/// Takes all the room of a file system.
fn fill(path: &Path) -> anyhow::Result<()> {
    let mut file = File::create(path)?;
    for size in [1 << 16, 1 << 10, 1] {
        // The error is what is wanted: there is no room left.
        while file.write_all(&vec![1; size]).is_ok() {}
    }
    Ok(())
}

#[tokio::test]
async fn a_full_disk_stops_a_deploy_and_no_user() -> anyhow::Result<()> {
    let setup = Setup {
        state_size: Some("4m".to_owned()),
        ..Setup::default()
    };
    let mut rig = Rig::start("full", &setup).await?;
    let one = image::build("full", &[("VERSION", "1")]).await?;
    let two = image::build("full", &[("VERSION", "2")]).await?;
    rig.must_deploy(&one).await?;
    let load = rig.load()?.users_of_every_kind();
    let load = load.pause(Duration::from_millis(10)).start()?;
    load.more_ok(20, DEADLINE).await?;

    // The agent gives up rather than do what it could not remember.
    let filler = rig.state().join("filler");
    fill(&filler)?;
    let mut following = rig.begin_deploy(&two)?;
    let agent = rig.agent().context("the agent was started")?;
    let gave_up = tokio::select! {
        ended = agent.ended(DEADLINE) => ended?,
        ran = &mut following => {
            let ran = ran??;
            anyhow::bail!("it found room: {}: {}", ran.code, ran.text);
        }
    };
    assert!(!gave_up.success());
    assert!(!following.is_finished(), "the command line must insist");
    load.more_ok(50, DEADLINE).await?;

    std::fs::remove_file(&filler)?;
    rig.start_agent().await?;
    let ran = following.await??;
    assert_eq!(ran.code, 0, "{}", ran.text);
    assert_eq!(rig.version().await?, "2");
    load.more_ok(20, DEADLINE).await?;
    let report = load.stop().await?;
    report.ensure_none_failed()?;
    crate::traffic::ensure_in_order(&report, &["1", "2"])?;
    let status = rig.status().await?;
    assert_eq!(status["serving"]["number"], 2, "{status:#}");
    assert_eq!(rig.containers().await?.len(), 2);
    Ok(())
}

#[tokio::test]
async fn a_disk_that_fills_in_a_pull_fails_the_deploy_and_no_user() -> anyhow::Result<()> {
    let engine = Engine::start("small", Containers::EndToo).await?;
    let door = Door::open().await?;
    let setup = Setup {
        engine: Some(engine.address()),
        registry: Some(door.name.clone()),
        ..Setup::default()
    };
    let rig = Rig::start("roomless", &setup).await?;
    let one = image::build("roomless", &[("VERSION", "1")]).await?;
    let two = image::build_apart("roomless", &[("VERSION", "2")], 8 << 20).await?;
    let two = door.image(&two)?;
    rig.must_deploy(&door.image(&one)?).await?;
    let load = rig.load()?.users_of_every_kind();
    let load = load.pause(Duration::from_millis(10)).start()?;
    load.more_ok(20, DEADLINE).await?;

    // The preflight found room. While the engine waits before it takes up what
    // was cut, somebody else takes it.
    door.turn(Mood::Cuts(1));
    let following = rig.begin_deploy(&two)?;
    eventually("the pull is under way", DEADLINE, async || {
        door.spoilt() == 1
    })
    .await?;
    engine.leave_room(1024)?;
    let ran = following.await??;
    assert_eq!(ran.code, 1, "{}", ran.text);
    for part in ["pulling localhost", "no space left on device", "v1 serves"] {
        assert!(ran.text.contains(part), "{part:?} is not in:\n{}", ran.text);
    }
    load.more_ok(20, DEADLINE).await?;

    // Now the preflight sees it, before anything is begun.
    let ran = rig.deploy(&two).await?;
    assert_eq!(ran.code, 1, "{}", ran.text);
    for part in ["of disk are free in", "docker system prune", "v1 serves"] {
        assert!(ran.text.contains(part), "{part:?} is not in:\n{}", ran.text);
    }

    engine.leave_room(1200 << 10)?;
    rig.must_deploy(&two).await?;
    load.more_ok(20, DEADLINE).await?;
    let report = load.stop().await?;
    report.ensure_none_failed()?;
    crate::traffic::ensure_in_order(&report, &["1", "2"])
}
