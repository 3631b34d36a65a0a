//! What people say to a canary that waits: on by a stage, yes, on to all, no.

use std::time::Duration;

use cutover_tests::image::{self, Image};
use cutover_tests::load::Kind;
use cutover_tests::rig::{Ran, Rig, Setup, TABLES};
use cutover_tests::wait::eventually;
use tokio::task::JoinHandle;

use crate::canary::has_share;

const DEADLINE: Duration = Duration::from_secs(60);

/// Stages that last longer than the test: nobody but a person ends them.
const STAGES: &str = "[canary]\nweights = [10, 50, 100]\nbake = \"5m\"\n\
     [approval]\nbefore = \"full\"\ndeadline = \"10m\"\n";

type Following = JoinHandle<anyhow::Result<Ran>>;

async fn says(rig: &Rig, word: &[&str]) -> anyhow::Result<Ran> {
    let mut command = rig.cutover(word)?;
    command.args(["--app", &rig.app]).env("USER", "ada");
    let ran = Ran::from(command.output().await?);
    anyhow::ensure!(ran.code == 0, "{word:?}: {}", ran.text);
    Ok(ran)
}

/// Deploys it, and waits for its first users.
async fn begins(rig: &Rig, image: &Image, release: &str) -> anyhow::Result<Following> {
    let following = rig.begin_deploy(image)?;
    has_share(rig, release, 1_000).await?;
    is_watched(rig).await?;
    Ok(following)
}

async fn is_watched(rig: &Rig) -> anyhow::Result<()> {
    eventually("the stage is watched", DEADLINE, async || {
        let status = rig.status().await.unwrap_or_default();
        let phase = status["deploying"]["phase"].as_str().unwrap_or_default();
        phase.starts_with("watch")
    })
    .await
}

async fn waits(rig: &Rig) -> anyhow::Result<()> {
    eventually("the deploy waits for a person", DEADLINE, async || {
        let status = rig.status().await?;
        anyhow::ensure!(status["deploying"]["waits"].is_object(), "{status:#}");
        Ok(())
    })
    .await
}

async fn to_the_question(rig: &Rig, image: &Image, release: &str) -> anyhow::Result<Following> {
    let following = begins(rig, image, release).await?;
    says(rig, &["promote"]).await?;
    has_share(rig, release, 5_000).await?;
    is_watched(rig).await?;
    says(rig, &["promote"]).await?;
    waits(rig).await?;
    // It has got no more users meanwhile.
    has_share(rig, release, 5_000).await?;
    Ok(following)
}

async fn ends(following: Following, code: i32, told: &[&str]) -> anyhow::Result<()> {
    let ran = tokio::time::timeout(DEADLINE, following).await???;
    assert_eq!(ran.code, code, "{}", ran.text);
    let mut rest = ran.text.as_str();
    for part in told {
        let Some(at) = rest.find(part) else {
            anyhow::bail!(
                "{part:?} is not there, or not in its place, in:\n{}",
                ran.text
            );
        };
        rest = &rest[at + part.len()..];
    }
    Ok(())
}

#[tokio::test]
async fn a_person_sends_a_canary_on_by_a_stage_and_to_all_lets_it_through_and_refuses_it()
-> anyhow::Result<()> {
    let setup = Setup {
        app_top: "strategy = \"canary\"\n".to_owned(),
        app_tables: Some(format!("{TABLES}{STAGES}")),
        ..Setup::default()
    };
    let rig = Rig::start("people", &setup).await?;
    let mut images = Vec::new();
    for version in ["1", "2", "3", "4"] {
        images.push(image::build("people", &[("VERSION", version)]).await?);
    }
    // The first has no stages, and is asked for all the same.
    let following = rig.begin_deploy(&images[0])?;
    waits(&rig).await?;
    says(&rig, &["approve"]).await?;
    ends(following, 0, &["approved by ada", "v1 serves"]).await?;
    let load = rig.load()?.users(Kind::KeepAlive, 3).users(Kind::Fresh, 2);
    let load = load.users(Kind::Post, 1).pause(Duration::from_millis(10));
    let load = load.start()?;
    load.more_ok(50, DEADLINE).await?;

    let following = to_the_question(&rig, &images[1], "v2").await?;
    says(&rig, &["approve"]).await?;
    let stage = "ada did not wait for the end of this step";
    // The watch under all users is not left out.
    let told = [
        stage,
        stage,
        "approved by ada",
        "requests failed in 2s",
        "v2 serves",
    ];
    ends(following, 0, &told).await?;
    assert_eq!(rig.version().await?, "2");

    // To all at once, without the stages between and without a question.
    let following = begins(&rig, &images[2], "v3").await?;
    says(&rig, &["promote", "--full"]).await?;
    let told = [
        "ada sends all users on",
        "requests failed in 2s",
        "v3 serves",
    ];
    ends(following, 0, &told).await?;
    assert_eq!(rig.version().await?, "3");

    let following = to_the_question(&rig, &images[3], "v4").await?;
    says(&rig, &["reject", "--why", "the banner is missing"]).await?;
    let told = ["rejected by ada: the banner is missing", "v3 serves"];
    ends(following, 7, &told).await?;
    let status = rig.status().await?;
    assert_eq!(status["last"]["outcome"], "aborted", "{status:#}");
    assert_eq!(status["serving"]["number"], 3, "{status:#}");
    has_share(&rig, "v3", 10_000).await?;
    rig.has_a_plain_route().await?;

    load.more_ok(50, DEADLINE).await?;
    let report = load.stop().await?;
    report.ensure_none_failed()?;
    let last = report.versions();
    assert_eq!(last.last(), Some(&"3"));
    assert!(last.contains(&"4"), "nobody saw v4");
    Ok(())
}
