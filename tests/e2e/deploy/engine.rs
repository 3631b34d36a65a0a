//! The container engine is restarted in the middle of a deploy, and so is the whole
//! host: the deploy ends rightly, and users are served again by a good release.

use std::time::Duration;

use anyhow::{Context as _, ensure};
use cutover_tests::engine::{Containers, Engine};
use cutover_tests::image::{self, Image};
use cutover_tests::load::Kind;
use cutover_tests::rig::{Ran, Rig, Setup, TABLES};
use cutover_tests::road::Road;

use crate::clock::approve;
use crate::traffic::ensure_in_order;

const DEADLINE: Duration = Duration::from_secs(60);

fn watch_for(window: &str) -> String {
    TABLES.replace("window = \"2s\"", &format!("window = \"{window}\""))
}

#[tokio::test]
async fn an_engine_restarted_in_each_step_loses_no_request_where_containers_live_on()
-> anyhow::Result<()> {
    let mut engine = Engine::start("liveon", Containers::LiveOn).await?;
    let mut road = Road::make().await?;
    let setup = Setup {
        app_tables: Some(format!(
            "{}[approval]\ndeadline = \"2m\"\n",
            watch_for("6s")
        )),
        engine: Some(engine.address()),
        registry: Some(road.registry()),
        ..Setup::default()
    };
    let rig = Rig::start("liveon", &setup).await?;
    let mut one = image::build("liveon", &[("VERSION", "1")]).await?;
    let mut two = image::build("liveon", &[("VERSION", "2"), ("SLOW_START_S", "4")]).await?;
    for image in [&mut one, &mut two] {
        image.repository = format!("{}/liveon", road.registry());
    }
    let following = rig.begin_deploy(&one)?;
    approve(&rig).await?;
    let ran = following.await??;
    ensure!(ran.code == 0, "{}: {}", ran.code, ran.text);
    let load = rig.load()?.users_of_every_kind();
    let load = load.pause(Duration::from_millis(10)).start()?;
    load.more_ok(20, DEADLINE).await?;

    road.close();
    let following = rig.begin_deploy(&two)?;
    road.is_waited_for(DEADLINE).await?;
    rig.does("pull", DEADLINE).await?;
    engine.stop().await?;
    load.more_ok(20, DEADLINE).await?;
    engine.begin().await?;
    road.open();

    rig.does("gate", DEADLINE).await?;
    engine.stop().await?;
    load.more_ok(20, DEADLINE).await?;
    engine.begin().await?;

    // A shift begins while there is no engine, and waits for it.
    rig.does("approve", DEADLINE).await?;
    engine.stop().await?;
    approve(&rig).await?;
    rig.does("shift", DEADLINE).await?;
    load.more_ok(20, DEADLINE).await?;
    engine.begin().await?;

    rig.does("watch", DEADLINE).await?;
    engine.kill().await?;
    load.more_ok(20, DEADLINE).await?;
    engine.begin().await?;
    let ran = following.await??;
    ensure!(ran.code == 0, "{}: {}", ran.code, ran.text);
    assert_eq!(rig.version().await?, "2");
    load.more_ok(50, DEADLINE).await?;
    let report = load.stop().await?;
    report.ensure_none_failed()?;
    ensure_in_order(&report, &["1", "2"])?;
    let expected = ["cutover-liveon-v1-0", "cutover-liveon-v2-0"];
    assert_eq!(rig.containers().await?, expected);
    rig.has_a_plain_route().await
}

#[tokio::test]
async fn an_engine_that_stands_still_at_a_gate_is_not_held_against_the_release()
-> anyhow::Result<()> {
    let engine = Engine::start("still", Containers::LiveOn).await?;
    let setup = Setup {
        app_tables: Some(TABLES.replace("deadline = \"20s\"", "deadline = \"4s\"")),
        engine: Some(engine.address()),
        ..Setup::default()
    };
    let rig = Rig::start("still", &setup).await?;
    let one = image::build("still", &[("VERSION", "1")]).await?;
    rig.must_deploy(&one).await?;

    // Longer than the gate and the last question together.
    let longer = Duration::from_secs(8);
    let good = image::build("still", &[("VERSION", "2"), ("SLOW_START_S", "2")]).await?;
    let following = rig.begin_deploy(&good)?;
    rig.does("gate", DEADLINE).await?;
    engine.stand_still(longer).await?;
    let ran = following.await??;
    ensure!(ran.code == 0, "{}: {}", ran.code, ran.text);

    let bad = [("VERSION", "3"), ("UNHEALTHY", "no database at hand")];
    let bad = image::build("still", &bad).await?;
    let following = rig.begin_deploy(&bad)?;
    rig.does("gate", DEADLINE).await?;
    engine.stand_still(longer).await?;
    let ran = following.await??;
    ensure!(ran.code == 1, "{}: {}", ran.code, ran.text);
    let told = "v3 was not healthy within 4s: GET /healthz: answered 503";
    ensure!(ran.text.contains(told), "{}", ran.text);
    assert_eq!(rig.version().await?, "2");
    rig.has_a_plain_route().await
}

/// How a deploy ended that the host disturbed: the truth is told, and the users are
/// where it is told that they are.
async fn ended_truly(rig: &Rig, ran: &Ran, old: &str, new: &str) -> anyhow::Result<()> {
    println!("{}: {}", ran.code, ran.text);
    let version = match ran.code {
        0 => new,
        _ => old,
    };
    rig.sees(version, DEADLINE).await?;
    let status = rig.status().await?;
    assert_eq!(
        status["serving"]["number"].to_string(),
        version,
        "{status:#}"
    );
    assert_eq!(status["serving"]["standing"], "proven", "{status:#}");
    if ran.code != 0 {
        assert!(status["last"]["reason"].is_string(), "{status:#}");
    }
    rig.has_a_plain_route().await
}

#[tokio::test]
async fn an_engine_that_takes_its_containers_with_it_is_served_again_without_a_hand()
-> anyhow::Result<()> {
    let mut engine = Engine::start("endtoo", Containers::EndToo).await?;
    let setup = Setup {
        app_tables: Some(watch_for("6s")),
        engine: Some(engine.address()),
        ..Setup::default()
    };
    let rig = Rig::start("endtoo", &setup).await?;
    let one = image::build("endtoo", &[("VERSION", "1")]).await?;
    let two = image::build("endtoo", &[("VERSION", "2")]).await?;
    let three = image::build("endtoo", &[("VERSION", "3"), ("SLOW_START_S", "4")]).await?;
    rig.must_deploy(&one).await?;

    // While nothing is deployed.
    engine.stop().await?;
    engine.begin().await?;
    rig.sees("1", DEADLINE).await?;

    // In a watch, where the users of either release have nobody to answer them.
    let following = rig.begin_deploy(&two)?;
    rig.sees("2", DEADLINE).await?;
    rig.does("watch", DEADLINE).await?;
    let load = rig.load()?.users(Kind::Fresh, 2);
    let load = load.pause(Duration::from_millis(20)).start()?;
    load.more_ok(20, DEADLINE).await?;
    engine.stop().await?;
    engine.begin().await?;
    load.more_ok(50, DEADLINE).await?;
    let ran = following.await??;
    ended_truly(&rig, &ran, "1", "2").await?;
    load.stop().await?;
    let serving = rig.version().await?;

    // In a gate: no container is judged by what its engine did.
    let following = rig.begin_deploy(&three)?;
    rig.does("gate", DEADLINE).await?;
    engine.stop().await?;
    engine.begin().await?;
    let ran = following.await??;
    ended_truly(&rig, &ran, &serving, "3").await?;
    ensure!(ran.code == 0, "{}: {}", ran.code, ran.text);

    // Nothing of it is left.
    let load = rig.load()?.users_of_every_kind().requests(100).start()?;
    load.finished().await?.ensure_none_failed()
}

/// What a host starts when it has power again.
#[derive(Debug, Clone, Copy)]
enum Part {
    Engine,
    Proxy,
    Agent,
}

/// A deploy whose host loses its power in the watch, and starts its parts in an order.
async fn loses_power(
    rig: &mut Rig,
    engine: &mut Engine,
    image: &Image,
    version: &str,
    order: [Part; 3],
) -> anyhow::Result<Ran> {
    let following = rig.begin_deploy(image)?;
    rig.sees(version, DEADLINE).await?;
    rig.does("watch", DEADLINE).await?;
    rig.kill_agent().await?;
    rig.kill_proxy().await?;
    engine.lose_power().await?;
    for part in order {
        match part {
            Part::Engine => engine.begin().await?,
            Part::Proxy => rig.start_proxy().await?,
            Part::Agent => rig.start_agent().await?,
        }
    }
    let ran = tokio::time::timeout(2 * DEADLINE, following).await;
    ran.context("the command line did not end")??
}

#[tokio::test]
async fn a_host_restarted_in_a_watch_ends_its_deploy_whatever_starts_first() -> anyhow::Result<()> {
    let mut engine = Engine::start("power", Containers::EndToo).await?;
    let setup = Setup {
        app_tables: Some(watch_for("6s")),
        engine: Some(engine.address()),
        ..Setup::default()
    };
    let mut rig = Rig::start("power", &setup).await?;
    let mut images = Vec::new();
    for version in ["1", "2", "3", "4"] {
        images.push(image::build("power", &[("VERSION", version)]).await?);
    }
    rig.must_deploy(&images[0]).await?;
    let orders = [
        [Part::Engine, Part::Proxy, Part::Agent],
        [Part::Agent, Part::Proxy, Part::Engine],
        [Part::Proxy, Part::Agent, Part::Engine],
    ];
    for (image, order) in images[1..].iter().zip(orders) {
        println!("--- {order:?}");
        let old = rig.version().await?;
        let new = (old.parse::<u32>()? + 1).to_string();
        let ran = loses_power(&mut rig, &mut engine, image, &new, order).await?;
        ended_truly(&rig, &ran, &old, &new).await?;
    }
    Ok(())
}
