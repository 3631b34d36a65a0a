//! Registries that want to know who asks, and registries that fail in a pull:
//! users of the release that serves notice none of it.

use std::fs;
use std::time::Duration;

use anyhow::Context as _;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use cutover_tests::host::host;
use cutover_tests::image::{self, Image};
use cutover_tests::load::RunningLoad;
use cutover_tests::registry::{Door, Mood, OTHER_PASSWORD, PASSWORD, PrivateRegistry, USER};
use cutover_tests::rig::{Ran, Rig, Setup, TABLES};
use cutover_tests::wait::eventually;
use tokio::process::Command;

const DEADLINE: Duration = Duration::from_secs(60);

/// More than the engine takes in one piece.
const LARGE: usize = 2 << 20;

/// Users all the while.
async fn begin(rig: &Rig) -> anyhow::Result<RunningLoad> {
    let load = rig.load()?.users_of_every_kind();
    let load = load.pause(Duration::from_millis(20)).start()?;
    load.more_ok(20, DEADLINE).await?;
    Ok(load)
}

async fn end(load: RunningLoad, versions: &[&str]) -> anyhow::Result<()> {
    load.more_ok(20, DEADLINE).await?;
    let report = load.stop().await?;
    report.ensure_none_failed()?;
    crate::traffic::ensure_in_order(&report, versions)
}

fn check(ran: &Ran, code: i32, told: &[&str]) {
    assert_eq!(ran.code, code, "{}", ran.text);
    for part in told {
        assert!(ran.text.contains(part), "{part:?} is not in:\n{}", ran.text);
    }
}

fn auths(registry: &str, password: &str) -> String {
    let auth = STANDARD.encode(format!("{USER}:{password}"));
    serde_json::json!({ "auths": { registry: { "auth": auth } } }).to_string()
}

#[tokio::test]
async fn a_private_image_is_deployed_with_what_the_host_knows() -> anyhow::Result<()> {
    let folder = host().folder("keyring")?;
    let registry = PrivateRegistry::start(&folder).await?;
    let keyring = folder.join("config.json");
    fs::write(&keyring, auths(&registry.name, PASSWORD))?;
    // It is run, so no other process of this test may have it open for writing.
    let program = folder.join("docker-credential-robot");
    let script = format!(
        "#!/bin/sh\nread -r registry || :\n[ \"$1 $registry\" = 'get {}' ] || exit 7\n\
         echo '{{\"Username\":\"{USER}\",\"Secret\":\"{PASSWORD}\"}}'\n",
        registry.name
    );
    let mut write = Command::new("/bin/sh");
    write.args(["-c", "printf %s \"$1\" >\"$2\" && chmod +x \"$2\"", "write"]);
    assert!(write.arg(script).arg(&program).status().await?.success());
    let setup = Setup {
        registry: Some(registry.name.clone()),
        agent_top: format!("registry_config = {keyring:?}\nregistry_helpers = [{folder:?}]\n"),
        ..Setup::default()
    };
    let rig = Rig::start("known", &setup).await?;
    let build = async |version| -> anyhow::Result<Image> {
        registry.image(&image::build("known", &[("VERSION", version)]).await?)
    };

    rig.must_deploy(&build("1").await?).await?;
    let load = begin(&rig).await?;

    // A program goes before what stands in the file, which is wrong now.
    let mut file: serde_json::Value = serde_json::from_str(&auths(&registry.name, "hunter9"))?;
    file["credHelpers"] = serde_json::json!({ &registry.name: "robot" });
    fs::write(&keyring, file.to_string())?;
    rig.must_deploy(&build("2").await?).await?;

    // Without it, the registry does not take what is left, and says so before the pull.
    let three = build("3").await?;
    let refused = async |text: &str, told: &str, hint: &str| -> anyhow::Result<()> {
        fs::write(&keyring, text)?;
        let ran = rig.deploy(&three).await?;
        check(&ran, 1, &["preflight", told, hint, "v2 serves"]);
        assert!(!ran.text.contains("pull"), "{}", ran.text);
        Ok(())
    };
    let hint = format!("does not take the credentials of {}", keyring.display());
    refused(&auths(&registry.name, "hunter9"), "unauthorized", &hint).await?;
    let hint = format!("keep them in {}", keyring.display());
    refused("{}", "no basic auth credentials", &hint).await?;
    let place = format!("{}: line 1, column", keyring.display());
    refused("{\"auths\": hunter2}", &place, "hint").await?;

    end(load, &["1", "2"]).await?;
    let log = rig.agent().context("it runs")?.log();
    for secret in [PASSWORD, "hunter9"] {
        assert!(!log.contains(secret) && !log.contains(&STANDARD.encode(secret)));
    }
    Ok(())
}

#[tokio::test]
async fn credentials_that_expire_before_the_pull_fail_the_deploy() -> anyhow::Result<()> {
    let registry = PrivateRegistry::start(&host().folder("expired")?).await?;
    let setup = Setup {
        registry: Some(registry.name.clone()),
        app_tables: Some(TABLES.replace("window = \"2s\"", "window = \"6s\"")),
        ..Setup::default()
    };
    let rig = Rig::start("expires", &setup).await?;
    let deploy = async |version: &str| {
        let image = image::build("expires", &[("VERSION", version)]).await?;
        let image = registry.image(&image)?.reference();
        let mut command = rig.local(&["deploy", "--app", "expires", "--image", &image])?;
        command.env("CUTOVER_REGISTRY_USERNAME", USER);
        command.env("CUTOVER_REGISTRY_PASSWORD", PASSWORD);
        anyhow::Ok(command)
    };
    let first = Ran::from(deploy("1").await?.output().await?);
    check(&first, 0, &["v1 serves"]);
    let load = begin(&rig).await?;

    // The second waits for the end of the first, and its pull comes later.
    let (mut first, mut second) = (deploy("2").await?, deploy("3").await?);
    let first = tokio::spawn(async move { first.output().await });
    rig.sees("2", DEADLINE).await?;
    let second = tokio::spawn(async move { second.output().await });
    eventually("the second call waits", DEADLINE, async || {
        let status = rig.status().await?;
        anyhow::ensure!(status["waiting"].is_object(), "{status:#}");
        Ok(())
    })
    .await?;
    registry.take(OTHER_PASSWORD)?;
    check(&Ran::from(first.await??), 0, &["v2 serves"]);
    let second = Ran::from(second.await??);
    let hint = "does not take the credentials of the call";
    check(&second, 1, &["unauthorized", hint, "v2 serves"]);
    let status = rig.status().await?;
    assert_eq!(status["last"]["outcome"], "failed", "{status:#}");
    end(load, &["1", "2"]).await?;
    let log = rig.agent().context("it runs")?.log();
    assert!(!log.contains(PASSWORD) && !second.text.contains(PASSWORD));
    Ok(())
}

#[tokio::test]
async fn credentials_of_a_call_go_with_the_agent_and_the_deploy_says_so() -> anyhow::Result<()> {
    let registry = PrivateRegistry::start(&host().folder("lost")?).await?;
    let setup = Setup {
        registry: Some(registry.name.clone()),
        app_tables: Some(TABLES.replace("window = \"2s\"", "window = \"6s\"")),
        ..Setup::default()
    };
    let mut rig = Rig::start("losescalls", &setup).await?;
    let mut calls = Vec::new();
    for version in ["1", "2"] {
        let image = image::build("losescalls", &[("VERSION", version)]).await?;
        let image = registry.image(&image)?.reference();
        let mut call = rig.local(&["deploy", "--app", "losescalls", "--image", &image])?;
        call.env("CUTOVER_REGISTRY_USERNAME", USER);
        call.env("CUTOVER_REGISTRY_PASSWORD", PASSWORD);
        calls.push(tokio::spawn(async move { call.output().await }));
        if version == "1" {
            rig.sees("1", DEADLINE).await?;
        }
    }
    eventually("the second call waits", DEADLINE, async || {
        let status = rig.status().await?;
        anyhow::ensure!(status["waiting"].is_object(), "{status:#}");
        Ok(())
    })
    .await?;
    let load = begin(&rig).await?;
    rig.kill_agent().await?;
    rig.start_agent().await?;
    let second = Ran::from(calls.remove(1).await??);
    let hint = "what a call brings for the registry goes with the agent that took it";
    check(&second, 1, &[hint, "deploy again", "v1 serves"]);
    check(&Ran::from(calls.remove(0).await??), 0, &["v1 serves"]);
    end(load, &["1"]).await
}

/// A rig whose images are behind a door, with v1 and its users.
async fn behind(door: &Door, app: &str) -> anyhow::Result<(Rig, RunningLoad)> {
    let setup = Setup {
        registry: Some(door.name.clone()),
        ..Setup::default()
    };
    let rig = Rig::start(app, &setup).await?;
    let one = image::build(app, &[("VERSION", "1")]).await?;
    rig.must_deploy(&door.image(&one)?).await?;
    let load = begin(&rig).await?;
    Ok((rig, load))
}

#[tokio::test]
async fn a_registry_that_limits_pulls_is_asked_again_for_a_while() -> anyhow::Result<()> {
    let door = Door::open().await?;
    let (rig, load) = behind(&door, "limited").await?;
    let two = image::build("limited", &[("VERSION", "2")]).await?;
    door.turn(Mood::Limits(2));
    let ran = rig.deploy(&door.image(&two)?).await?;
    check(
        &ran,
        0,
        &["toomanyrequests", "asking again in", "v2 serves"],
    );
    assert_eq!(door.spoilt(), 2);

    let three = image::build("limited", &[("VERSION", "3")]).await?;
    door.turn(Mood::Limits(usize::MAX));
    let ran = rig.deploy(&door.image(&three)?).await?;
    check(
        &ran,
        1,
        &["toomanyrequests", "the registry limits pulls", "v2 serves"],
    );
    assert!(door.spoilt() > 2, "{}", door.spoilt());
    end(load, &["1", "2"]).await
}

#[tokio::test]
async fn a_pull_that_is_cut_in_a_blob_goes_on_by_itself() -> anyhow::Result<()> {
    let door = Door::open().await?;
    let (rig, load) = behind(&door, "cut").await?;
    let two = image::build_apart("cut", &[("VERSION", "2")], LARGE).await?;
    door.turn(Mood::Cuts(1));
    rig.must_deploy(&door.image(&two)?).await?;
    assert_eq!(door.spoilt(), 1);

    let three = image::build_apart("cut", &[("VERSION", "3")], LARGE).await?;
    door.turn(Mood::Cuts(usize::MAX));
    let ran = rig.deploy(&door.image(&three)?).await?;
    check(&ran, 1, &["pulling localhost", "EOF", "v2 serves"]);
    assert!(door.spoilt() > 1, "{}", door.spoilt());
    end(load, &["1", "2"]).await
}
