//! An app that speaks HTTP/2 and nothing else, as servers of gRPC do, from deploy to
//! deploy, and to a release that speaks HTTP/1.1.

use std::time::Duration;

use anyhow::ensure;
use cutover_tests::image;
use cutover_tests::load::Kind;
use cutover_tests::rig::{Rig, Setup};
use cutover_wire::table::Protocol;

use crate::traffic::ensure_in_order;

const DEADLINE: Duration = Duration::from_secs(60);

const APP: &str = "speakstwo";

fn setup(protocol: &str) -> Setup {
    Setup {
        app_top: format!("protocol = \"{protocol}\"\n"),
        ..Setup::default()
    }
}

#[tokio::test]
async fn an_app_of_http2_is_deployed_and_comes_back_to_http1_under_load() -> anyhow::Result<()> {
    let mut rig = Rig::start(APP, &setup("h2c")).await?;
    let one = image::build(APP, &[("VERSION", "1"), ("H2C", "1")]).await?;
    rig.must_deploy(&one).await?;
    let users = |load: cutover_tests::load::Load| {
        load.users(Kind::KeepAlive, 2)
            .users(Kind::Fresh, 1)
            .users(Kind::Post, 1)
            .pause(Duration::from_millis(10))
    };
    let load = users(rig.load()?).start()?;
    let of_http2 = rig.load_of_http2()?;
    let of_http2 = of_http2
        .users(Kind::Http2, 2)
        .users(Kind::Http2Post, 2)
        .pause(Duration::from_millis(10))
        .start()?;
    load.more_ok(50, DEADLINE).await?;
    of_http2.more_ok(50, DEADLINE).await?;
    let two = image::build(APP, &[("VERSION", "2"), ("H2C", "1")]).await?;
    rig.must_deploy(&two).await?;
    let pool = rig.table().await?.apps[APP].pools["v2"].clone();
    assert_eq!(pool.protocol, Protocol::H2c);

    // What is spoken belongs to a release: both are in the table of the switch.
    rig.kill_agent().await?;
    rig.configure(&setup("http1"))?;
    rig.start_agent().await?;
    let three = image::build(APP, &[("VERSION", "3")]).await?;
    rig.must_deploy(&three).await?;
    let pools = rig.table().await?.apps[APP].pools.clone();
    assert_eq!(pools["v3"].protocol, Protocol::Http1);
    load.more_ok(50, DEADLINE).await?;
    let ran = rig.run(&["rollback", "--app", APP]).await?;
    ensure!(ran.code == 0, "{}", ran.text);
    of_http2.more_ok(50, DEADLINE).await?;
    for report in [load.stop().await?, of_http2.stop().await?] {
        report.ensure_none_failed()?;
        ensure_in_order(&report, &["1", "2", "3", "2"])?;
    }
    Ok(())
}

/// The file says HTTP/2, and the image speaks HTTP/1.1: nobody is sent there.
#[tokio::test]
async fn an_image_that_speaks_something_else_than_its_file_fails_with_a_word() -> anyhow::Result<()>
{
    let mut setup = setup("h2c");
    let tables = cutover_tests::rig::TABLES.replace("deadline = \"20s\"", "deadline = \"3s\"");
    setup.app_tables = Some(tables);
    let rig = Rig::start("speaksone", &setup).await?;
    let image = image::build("speaksone", &[("VERSION", "1")]).await?;
    let ran = rig.deploy(&image).await?;
    assert_eq!(ran.code, 1, "{}", ran.text);
    assert!(
        ran.text.contains("it gave no answer of HTTP/2"),
        "{}",
        ran.text
    );
    Ok(())
}
