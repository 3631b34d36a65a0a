//! Hooks: one-shot containers of the new image decide with it.

use std::time::Duration;

use cutover_tests::image;
use cutover_tests::rig::{Ran, Rig, Setup, TABLES};

const DEADLINE: Duration = Duration::from_secs(30);

fn setup(hooks: &str) -> Setup {
    Setup {
        app_tables: Some(format!("{TABLES}{hooks}")),
        ..Setup::default()
    }
}

const MIGRATION: &str =
    "[hooks.before_start]\ncommand = [\"migrate\", \"--now\"]\ntimeout = \"3s\"\n";

fn told(ran: &Ran, code: i32, parts: &[&str]) {
    assert_eq!(ran.code, code, "{}", ran.text);
    for part in parts {
        assert!(ran.text.contains(part), "{part:?} is not in:\n{}", ran.text);
    }
}

#[tokio::test]
async fn hooks_run_at_their_places_with_what_they_need_to_know() -> anyhow::Result<()> {
    let all = format!(
        "{MIGRATION}[hooks.before_shift]\ncommand = [\"smoke\"]\n\
         [hooks.after_shift]\ncommand = [\"warm\"]\n[hooks.after_success]\ncommand = [\"tell\"]\n"
    );
    let rig = Rig::start("hooked", &setup(&all)).await?;
    let one = image::build("hooked", &[("VERSION", "1")]).await?;
    let ran = rig.deploy(&one).await?;
    let said = [
        "hook before_start of hooked v1: migrate --now",
        "hook before_shift of hooked v1: smoke",
        "hook after_shift of hooked v1: warm",
        "hook after_success of hooked v1: tell",
    ];
    told(&ran, 0, &said);
    let places: Vec<_> = said.iter().map(|line| ran.text.find(line)).collect();
    assert!(places.is_sorted(), "{}", ran.text);
    assert_eq!(rig.containers().await?, ["cutover-hooked-v1-0"]);
    Ok(())
}

#[tokio::test]
async fn a_migration_that_fails_leaves_the_old_release_serving() -> anyhow::Result<()> {
    let rig = Rig::start("migrates", &setup(MIGRATION)).await?;
    let one = image::build("migrates", &[("VERSION", "1")]).await?;
    let two = image::build("migrates", &[("VERSION", "2"), ("HOOK_EXIT", "3")]).await?;
    let slow = image::build("migrates", &[("VERSION", "3"), ("HOOK_TAKES_S", "600")]).await?;
    rig.must_deploy(&one).await?;
    let load = rig.load()?.users_of_every_kind();
    let load = load.pause(Duration::from_millis(10)).start()?;
    load.more_ok(20, DEADLINE).await?;

    let failed = [
        "the hook before_start exited with 3",
        "error: relation \"orders\" does not exist",
        "v1 serves",
    ];
    told(&rig.deploy(&two).await?, 1, &failed);
    let killed = [
        "the hook before_start did not end within 3s and was stopped",
        "hook before_start of migrates v3: migrate --now",
        "v1 serves",
    ];
    told(&rig.deploy(&slow).await?, 1, &killed);

    load.more_ok(20, DEADLINE).await?;
    let report = load.stop().await?;
    report.ensure_none_failed()?;
    assert_eq!(report.versions(), ["1"]);
    assert_eq!(rig.containers().await?, ["cutover-migrates-v1-0"]);
    Ok(())
}

#[tokio::test]
async fn a_hook_is_found_again_by_an_agent_that_was_killed() -> anyhow::Result<()> {
    let patient = MIGRATION.replace("3s", "60s");
    let mut rig = Rig::start("refound", &setup(&patient)).await?;
    let one = image::build("refound", &[("VERSION", "1"), ("HOOK_TAKES_S", "6")]).await?;
    let deploying = rig.begin_deploy(&one)?;
    let hook = "cutover-refound-v1-before_start";
    cutover_tests::wait::eventually("the hook runs", DEADLINE, async || {
        rig.containers().await.is_ok_and(|all| all == [hook])
    })
    .await?;
    let id = ["inspect", "--format", "{{.Id}}", hook];
    let before = cutover_tests::host::docker(&id).await?;
    rig.kill_agent().await?;
    rig.start_agent().await?;
    assert_eq!(cutover_tests::host::docker(&id).await?, before);
    let ran = deploying.await??;
    told(&ran, 0, &["again, after a restart of the agent"]);
    let lines = ran.text.matches("hook before_start of refound v1").count();
    assert!(lines >= 1, "{}", ran.text);
    assert_eq!(rig.containers().await?, ["cutover-refound-v1-0"]);
    Ok(())
}
