//! The proxy dies, loses its table, or finds other addresses: the app's route
//! comes back, by the proxy itself or by the agent.

use std::time::Duration;

use anyhow::{Context as _, ensure};
use cutover_tests::host::docker;
use cutover_tests::image;
use cutover_tests::rig::{Ran, Rig, Setup, TABLES};
use cutover_tests::wait::eventually;

const DEADLINE: Duration = Duration::from_secs(30);

#[tokio::test]
async fn a_proxy_that_died_serves_its_stored_table_without_an_agent() -> anyhow::Result<()> {
    let mut rig = Rig::start("stored", &Setup::default()).await?;
    let one = image::build("stored", &[("VERSION", "1")]).await?;
    let two = image::build("stored", &[("VERSION", "2")]).await?;
    rig.must_deploy(&one).await?;
    rig.kill_agent().await?;
    rig.kill_proxy().await?;
    rig.start_proxy().await?;
    // At once: the table is there before the port is.
    assert_eq!(rig.version().await?, "1");
    rig.start_agent().await?;

    // A deploy waits for a proxy that is away, and goes on with it.
    rig.kill_proxy().await?;
    let following = rig.begin_deploy(&two)?;
    let agent = rig.agent().context("the agent was started")?;
    agent.wait_for_line("asking again", DEADLINE).await?;
    assert!(!following.is_finished());
    rig.start_proxy().await?;
    let ran = following.await??;
    assert_eq!(ran.code, 0, "{}", ran.text);
    assert_eq!(rig.version().await?, "2");
    Ok(())
}

#[tokio::test]
async fn a_lost_table_and_a_moved_container_are_routed_again_and_nobody_takes_an_address()
-> anyhow::Result<()> {
    let mut rig = Rig::start("routed", &Setup::default()).await?;
    let one = image::build("routed", &[("VERSION", "1")]).await?;
    let two = image::build("routed", &[("VERSION", "2")]).await?;
    rig.must_deploy(&one).await?;

    rig.kill_proxy().await?;
    std::fs::remove_dir_all(rig.folder.join("proxy"))?;
    rig.start_proxy().await?;
    rig.sees("1", DEADLINE).await?;

    // Somebody restarts the container by hand, and no other gets its address.
    let container = "cutover-routed-v1-0";
    let address = async || {
        let template = "{{.NetworkSettings.Networks.cutover.IPAddress}}";
        docker(&["inspect", "--format", template, container]).await
    };
    let before = address().await?;
    docker(&["restart", container]).await?;
    rig.sees("1", DEADLINE).await?;
    docker(&["stop", container]).await?;
    let image = two.reference();
    let mut takers = Vec::new();
    for _ in 0..3 {
        let taking = ["run", "--detach", "--network", "cutover", &image];
        takers.push(docker(&taking).await?);
    }
    // Each finds nobody at the address, which takes its time.
    for _ in 0..3 {
        if let Ok(answered) = rig.version().await {
            anyhow::bail!("another container answered: {answered}");
        }
    }
    docker(&["start", container]).await?;
    rig.sees("1", DEADLINE).await?;
    assert_eq!(address().await?, before);

    // Somebody gives it another one.
    docker(&["network", "disconnect", "cutover", container]).await?;
    docker(&["network", "connect", "cutover", container]).await?;
    rig.sees("1", DEADLINE).await?;
    assert_ne!(address().await?, before);
    for taker in &takers {
        docker(&["rm", "--force", taker]).await?;
    }

    rig.must_deploy(&two).await?;
    assert_eq!(rig.version().await?, "2");
    Ok(())
}

/// A deploy whose proxy is away from its watch on until the window is over.
async fn unseen(rig: &mut Rig, on_no_verdict: &str) -> anyhow::Result<Ran> {
    let app = rig.app.clone();
    let one = image::build(&app, &[("VERSION", "1")]).await?;
    let two = image::build(&app, &[("VERSION", "2")]).await?;
    rig.must_deploy(&one).await?;
    rig.kill_agent().await?;
    rig.configure(&Setup {
        app_tables: Some(format!("{TABLES}on_no_verdict = \"{on_no_verdict}\"\n")),
        ..Setup::default()
    })?;
    rig.start_agent().await?;
    let following = rig.begin_deploy(&two)?;
    // Before that it is the host that is at fault: no user could have come.
    let agent = rig.agent().context("the agent was started")?;
    let knocked = "the front door leads to it release=v2";
    agent.wait_for_line(knocked, DEADLINE).await?;
    rig.kill_proxy().await?;
    eventually("the watch is over", DEADLINE, async || {
        let status = rig.local_status().await?;
        let phase = status["deploying"]["phase"].as_str().unwrap_or("nothing");
        ensure!(!phase.starts_with("watch"), "{phase}");
        Ok(())
    })
    .await?;
    assert!(!following.is_finished(), "nobody can have moved the users");
    rig.start_proxy().await?;
    following.await?
}

#[tokio::test]
async fn a_proxy_away_for_a_whole_watch_gives_no_verdict_and_the_old_release_serves()
-> anyhow::Result<()> {
    let mut rig = Rig::start("unseen", &Setup::default()).await?;
    let ran = unseen(&mut rig, "abort").await?;
    assert_eq!(ran.code, 8, "{}", ran.text);
    assert!(ran.text.contains("the proxy"), "{}", ran.text);
    rig.sees("1", DEADLINE).await?;
    let status = rig.status().await?;
    assert_eq!(status["last"]["outcome"], "no_verdict", "{status:#}");
    assert_eq!(status["serving"]["number"], 1, "{status:#}");
    rig.has_a_plain_route().await
}

#[tokio::test]
async fn a_proxy_away_for_a_whole_watch_keeps_the_release_where_the_file_says_so()
-> anyhow::Result<()> {
    let mut rig = Rig::start("trusted", &Setup::default()).await?;
    let ran = unseen(&mut rig, "promote").await?;
    assert_eq!(ran.code, 0, "{}", ran.text);
    assert!(ran.text.contains("no verdict"), "{}", ran.text);
    assert_eq!(rig.version().await?, "2");
    let status = rig.status().await?;
    assert_eq!(status["serving"]["number"], 2, "{status:#}");
    rig.has_a_plain_route().await
}
