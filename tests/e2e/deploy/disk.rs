//! No room for the journal: nothing is done that could not be remembered, and
//! the call that was sent goes on once there is room.

use std::fs::File;
use std::io::Write as _;
use std::path::Path;
use std::time::Duration;

use anyhow::Context as _;
use cutover_tests::image;
use cutover_tests::rig::{Rig, Setup};

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
