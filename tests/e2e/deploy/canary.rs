//! Canaries on real parts: who is sent to the new release, who stays there, and what
//! happens when one of the two releases breaks while both have users.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use anyhow::{Context as _, ensure};
use cutover_tests::host::docker;
use cutover_tests::image::{self, Image};
use cutover_tests::load::{Kind, Report, RunningLoad};
use cutover_tests::rig::{Rig, Setup, TABLES};
use cutover_tests::wait::eventually;

use crate::faults::is_of_a_crash;
use crate::traffic::{ensure_in_order, print};

const DEADLINE: Duration = Duration::from_secs(60);

/// Waits until a release has this share of the users, in hundredths of a percent.
pub(crate) async fn has_share(rig: &Rig, release: &str, share: u16) -> anyhow::Result<()> {
    let what = format!("{release} has {share} of the users");
    eventually(&what, DEADLINE, async || {
        let table = rig.table().await?;
        let route = table.apps.get(&rig.app).context("it has no route")?;
        let mut weights = route.serving.weights();
        let weight = weights.find(|(pool, _)| *pool == release);
        ensure!(weight.is_some_and(|(_, one)| one.0 == share), "{weight:?}");
        Ok(())
    })
    .await
}

/// A rig with a canary of these stages, and v1 on it.
async fn rig(app: &str, canary: &str, first: &[(&str, &str)]) -> anyhow::Result<(Rig, Image)> {
    let setup = Setup {
        app_top: "strategy = \"canary\"\n".to_owned(),
        app_tables: Some(format!("{TABLES}{canary}")),
        ..Setup::default()
    };
    let rig = Rig::start(app, &setup).await?;
    let mut environment = vec![("VERSION", "1")];
    environment.extend(first);
    let one = image::build(app, &environment).await?;
    let two = image::build(app, &[("VERSION", "2")]).await?;
    rig.must_deploy(&one).await?;
    Ok((rig, two))
}

fn users(rig: &Rig, count: usize) -> anyhow::Result<RunningLoad> {
    let load = rig.load()?.users(Kind::KeepAlive, count);
    let load = load.users(Kind::Fresh, count);
    load.pause(Duration::from_millis(20)).start()
}

/// The versions that answered, each once.
fn seen(report: &Report) -> BTreeSet<&str> {
    let versions = report.records.iter();
    versions.filter_map(|one| one.version.as_deref()).collect()
}

#[tokio::test]
async fn rules_by_header_and_cookie_send_their_clients_to_the_canary_and_no_others()
-> anyhow::Result<()> {
    let rules = "[canary]\nweights = [0, 50, 100]\nbake = \"5m\"\n\
        [[canary.rules]]\nheader = \"x-beta\"\nequals = \"yes\"\n\
        [[canary.rules]]\ncookie = \"tester\"\nstarts_with = \"t-\"\n";
    let (rig, two) = rig("rules", rules, &[]).await?;
    let load = || -> anyhow::Result<_> {
        let load = rig.load()?.users(Kind::KeepAlive, 1).users(Kind::Fresh, 1);
        Ok(load.users(Kind::Post, 1).pause(Duration::from_millis(10)))
    };
    // Each for a while of its own: what it sees is of this moment.
    let see = async |name: &str, value: &str| -> anyhow::Result<Vec<String>> {
        let load = load()?.header(name, value)?.requests(30).start()?;
        let report = load.finished().await?;
        report.ensure_none_failed()?;
        Ok(seen(&report).into_iter().map(str::to_owned).collect())
    };
    let others = load()?.header("x-beta", "no")?.start()?;
    others.more_ok(10, DEADLINE).await?;
    let chosen = [("x-beta", "yes"), ("cookie", "a=b; tester=t-7")];
    for (name, value) in chosen {
        assert_eq!(see(name, value).await?, ["1"], "before the deploy: {name}");
    }

    let following = rig.begin_deploy(&two)?;
    eventually("the rules hold", DEADLINE, async || {
        let table = rig.table().await?;
        ensure!(table.apps["rules"].rules.len() == 2, "{:#?}", table.apps);
        Ok(())
    })
    .await?;
    for (name, value) in chosen {
        assert_eq!(see(name, value).await?, ["2"], "{name}: {value}");
    }
    for (name, value) in [("x-beta", "yes!"), ("cookie", "a=t-7; tester=x")] {
        assert_eq!(see(name, value).await?, ["1"], "{name}: {value}");
    }
    let report = others.stop().await?;
    report.ensure_none_failed()?;
    assert_eq!(seen(&report), BTreeSet::from(["1"]));

    // They go with the stages.
    let aborted = rig.run(&["abort", "--app", "rules"]).await?;
    assert_eq!(aborted.code, 0, "{}", aborted.text);
    assert_eq!(following.await??.code, 7);
    rig.has_a_plain_route().await?;
    for (name, value) in chosen {
        assert_eq!(see(name, value).await?, ["1"], "after the abort: {name}");
    }
    Ok(())
}

#[tokio::test]
async fn a_browser_that_keeps_its_cookie_never_goes_back_in_a_whole_canary() -> anyhow::Result<()> {
    let stages = "[canary]\nweights = [20, 50, 80, 100]\nbake = \"2s\"\n";
    let (rig, two) = rig("browser", stages, &[]).await?;
    let load = rig.load()?.keeps_cookies();
    let load = load.users(Kind::KeepAlive, 10).users(Kind::Fresh, 10);
    let load = load.pause(Duration::from_millis(40)).start()?;
    load.more_ok(100, DEADLINE).await?;
    rig.must_deploy(&two).await?;
    load.more_ok(100, DEADLINE).await?;
    let report = load.stop().await?;
    print("browsers", &report.summary(&[]));
    report.ensure_none_failed()?;
    ensure_in_order(&report, &["1", "2"])?;
    // They came over one by one: it is no order that a switch at once would keep.
    let mut first: BTreeMap<&str, Duration> = BTreeMap::new();
    for record in &report.records {
        if record.version.as_deref() == Some("2") {
            first.entry(&record.user).or_insert(record.began);
        }
    }
    assert_eq!(first.len(), 20, "some never came to v2");
    let (earliest, latest) = (first.values().min(), first.values().max());
    let between = latest
        .zip(earliest)
        .map(|(latest, earliest)| *latest - *earliest);
    assert!(between > Some(Duration::from_secs(2)), "{first:?}");
    Ok(())
}

#[tokio::test]
async fn a_canary_whose_container_somebody_removes_is_taken_back() -> anyhow::Result<()> {
    let stages = "[canary]\nweights = [50, 100]\nbake = \"5m\"\n";
    let (rig, two) = rig("byhand", stages, &[]).await?;
    let load = users(&rig, 3)?;
    load.more_ok(50, DEADLINE).await?;
    let following = rig.begin_deploy(&two)?;
    has_share(&rig, "v2", 5_000).await?;
    load.more_ok(100, DEADLINE).await?;
    docker(&["rm", "--force", "cutover-byhand-v2-0"]).await?;
    let ran = tokio::time::timeout(DEADLINE, following).await???;
    load.more_ok(50, DEADLINE).await?;
    let report = load.stop().await?;
    print("a canary that was removed", &report.summary(&[]));
    assert_eq!(ran.code, 3, "{}", ran.text);
    // It is killed before it is removed, and may be seen between.
    let reasons = [
        "the container of v2 is gone",
        "cutover-byhand-v2-0 exited with 137",
    ];
    let is_told = reasons.iter().any(|reason| ran.text.contains(reason));
    assert!(is_told, "{}", ran.text);
    assert!(ran.text.contains("v1 serves"), "{}", ran.text);
    assert!(seen(&report).contains("2"), "nobody saw it");
    for record in report.failed() {
        assert!(is_of_a_crash(record), "{record:?}");
    }
    assert_eq!(rig.containers().await?, ["cutover-byhand-v1-0"]);
    rig.has_a_plain_route().await
}

#[tokio::test]
async fn an_old_release_that_fails_its_share_does_not_hold_the_new_one_up() -> anyhow::Result<()> {
    // It is good for its own deploy, and fails every request from some time on.
    let stages = "[canary]\nweights = [50, 100]\nbake = \"6s\"\n";
    let fails = [("ERRORS_AFTER_S", "7")];
    let (rig, two) = rig("oldfails", stages, &fails).await?;
    let load = users(&rig, 3)?;
    let ran = rig.deploy(&two).await?;
    let failed = load.failed();
    load.more_ok(50, DEADLINE).await?;
    assert_eq!(load.failed(), failed, "requests still fail");
    let report = load.stop().await?;
    print("an old release that fails", &report.summary(&[]));
    assert_eq!(ran.code, 0, "{}", ran.text);
    assert!(report.failed().count() > 0, "the old one did not fail");
    for record in report.failed() {
        let own = record.is_error_of_app() && record.version.as_deref() == Some("1");
        assert!(own, "{record:?}");
    }
    assert_eq!(rig.version().await?, "2");
    rig.has_a_plain_route().await
}

#[tokio::test]
async fn an_old_release_that_is_removed_while_it_shares_the_users_leaves_them_to_the_new_one()
-> anyhow::Result<()> {
    let stages = "[canary]\nweights = [50, 100]\nbake = \"6s\"\n";
    let (rig, two) = rig("oldgone", stages, &[]).await?;
    let load = users(&rig, 3)?;
    load.more_ok(50, DEADLINE).await?;
    let following = rig.begin_deploy(&two)?;
    has_share(&rig, "v2", 5_000).await?;
    load.more_ok(100, DEADLINE).await?;
    docker(&["rm", "--force", "cutover-oldgone-v1-0"]).await?;
    let ran = tokio::time::timeout(DEADLINE, following).await???;
    let failed = load.failed();
    load.more_ok(50, DEADLINE).await?;
    assert_eq!(load.failed(), failed, "requests still fail");
    let report = load.stop().await?;
    print("an old release that was removed", &report.summary(&[]));
    assert_eq!(ran.code, 0, "{}", ran.text);
    for record in report.failed() {
        assert!(is_of_a_crash(record), "{record:?}");
    }
    assert_eq!(rig.version().await?, "2");
    assert_eq!(rig.containers().await?, ["cutover-oldgone-v2-0"]);
    rig.has_a_plain_route().await
}
