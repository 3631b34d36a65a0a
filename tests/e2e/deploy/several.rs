//! Releases of two containers, of which one never gets well.

use std::time::Duration;

use anyhow::ensure;
use cutover_tests::host::host;
use cutover_tests::image;
use cutover_tests::load::{Kind, Report};
use cutover_tests::rig::{Ran, Rig, Setup, TABLES};
use cutover_tests::wait::eventually;

const DEADLINE: Duration = Duration::from_secs(60);

/// Deploys a release of which the container that starts first is healthy, and the
/// other one is not; gives what users saw. While it is not, nobody sends it on.
async fn one_is_ill(app: &str, top: &str, tables: &str) -> anyhow::Result<(Rig, Ran, Report)> {
    let shared = host().folder(&format!("shared-{app}"))?;
    let volumes = format!("volumes = [\"{}:/shared\"]\n", shared.display());
    let setup = Setup {
        app_top: format!("replicas = 2\n{volumes}{top}"),
        app_tables: Some(format!(
            "{}{tables}",
            TABLES.replace("deadline = \"20s\"", "deadline = \"6s\"")
        )),
        ..Setup::default()
    };
    let rig = Rig::start(app, &setup).await?;
    let one = image::build(app, &[("VERSION", "1")]).await?;
    let two = image::build(app, &[("VERSION", "2"), ("FIRST_IN", "/shared/first")]).await?;
    rig.must_deploy(&one).await?;
    let load = rig.load()?.users(Kind::KeepAlive, 3).users(Kind::Fresh, 2);
    let load = load.pause(Duration::from_millis(10)).start()?;
    load.more_ok(50, DEADLINE).await?;
    let following = rig.begin_deploy(&two)?;
    let why = eventually("one is healthy and one is not", DEADLINE, async || {
        ensure!(shared.join("first").exists(), "none has started");
        ensure!(rig.containers().await?.len() >= 3, "the other has not");
        let status = rig.status().await?;
        let phase = status["deploying"]["phase"].as_str().unwrap_or_default();
        ensure!(phase.starts_with("gate"), "{status:#}");
        Ok(status)
    });
    why.await?;
    let ran = rig.run(&["promote", "--app", app, "--full"]).await?;
    ensure!(ran.code == 4, "{}: {}", ran.code, ran.text);
    let ran = tokio::time::timeout(DEADLINE, following).await???;
    load.more_ok(50, DEADLINE).await?;
    let report = load.stop().await?;
    report.ensure_none_failed()?;
    for part in ["503", "/shared/first", "v1 serves"] {
        ensure!(ran.text.contains(part), "no {part:?} in:\n{}", ran.text);
    }
    let old = [0, 1].map(|replica| format!("cutover-{app}-v1-{replica}"));
    assert_eq!(rig.containers().await?, old);
    rig.has_a_plain_route().await?;
    Ok((rig, ran, report))
}

#[tokio::test]
async fn no_user_sees_a_release_of_which_one_container_is_not_healthy() -> anyhow::Result<()> {
    let (_, ran, report) = one_is_ill("halfblue", "", "").await?;
    assert_eq!(ran.code, 1, "{}", ran.text);
    assert_eq!(report.versions(), ["1"]);
    Ok(())
}

#[tokio::test]
async fn a_rolling_deploy_whose_second_container_is_not_healthy_is_taken_back() -> anyhow::Result<()>
{
    let top = "strategy = \"rolling\"\n";
    let tables = "[rolling]\nbatch = 1\nbake = \"1s\"\n";
    let (_, ran, report) = one_is_ill("halfroll", top, tables).await?;
    assert_eq!(ran.code, 3, "{}", ran.text);
    assert!(report.versions().contains(&"2"), "nobody saw the first");
    Ok(())
}
