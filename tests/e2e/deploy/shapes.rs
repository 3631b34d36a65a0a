//! Every strategy from v1 to v2 and back to v1 under load on real parts, and what
//! each does with a release that turns out bad.

use std::time::Duration;

use anyhow::ensure;
use cutover_tests::image;
use cutover_tests::load::{Kind, Report};
use cutover_tests::rig::{Rig, Setup, TABLES};

use crate::traffic::{ensure_in_order, print};

const DEADLINE: Duration = Duration::from_secs(60);

/// One strategy and what it needs to be quick.
#[derive(Clone, Copy)]
struct Shape {
    app: &'static str,
    top: &'static str,
    tables: &'static str,
    replicas: usize,
}

const CANARY: Shape = Shape {
    app: "canary",
    top: "strategy = \"canary\"\n",
    tables: "[canary]\nweights = [10, 50, 100]\nbake = \"2s\"\n",
    replicas: 1,
};

const ROLLING: Shape = Shape {
    app: "rolling",
    top: "strategy = \"rolling\"\nreplicas = 3\n",
    tables: "[rolling]\nbatch = 1\nbake = \"1s\"\n",
    replicas: 3,
};

const IN_PLACE: Shape = Shape {
    app: "inplace",
    top: "strategy = \"in-place\"\n",
    tables: "[in_place]\npark_deadline = \"20s\"\n",
    replicas: 1,
};

const SHADOW: Shape = Shape {
    app: "shadow",
    top: "strategy = \"shadow\"\n",
    tables: "[shadow]\nwindow = \"3s\"\n",
    replicas: 1,
};

/// A gate that is given up before a user's patience is.
fn quick() -> String {
    TABLES.replace("deadline = \"20s\"", "deadline = \"4s\"")
}

impl Shape {
    fn named(self, app: &'static str) -> Self {
        Self { app, ..self }
    }

    async fn rig(&self) -> anyhow::Result<Rig> {
        let setup = Setup {
            app_top: self.top.to_owned(),
            app_tables: Some(format!("{}{}", quick(), self.tables)),
            ..Setup::default()
        };
        Rig::start(self.app, &setup).await
    }

    /// Deploys v1, then v2, then rolls back, under a load; nothing is lost.
    async fn there_and_back(self, order: &[&str]) -> anyhow::Result<()> {
        let rig = self.rig().await?;
        let one = image::build(self.app, &[("VERSION", "1")]).await?;
        let two = image::build(self.app, &[("VERSION", "2")]).await?;
        rig.must_deploy(&one).await?;
        assert_eq!(rig.containers().await?.len(), self.replicas);
        let load = rig
            .load()?
            .users(Kind::KeepAlive, 3)
            .users(Kind::Fresh, 2)
            .users(Kind::Post, 2)
            .pause(Duration::from_millis(5))
            .start()?;
        load.more_ok(100, DEADLINE).await?;
        let mut journals = Vec::new();
        for container in rig.containers().await? {
            journals.push(rig.journal(&container).await?);
        }
        rig.must_deploy(&two).await?;
        load.more_ok(200, DEADLINE).await?;
        assert_eq!(rig.version().await?, "2");
        let rollback = rig.run(&["rollback", "--app", self.app]).await?;
        ensure!(rollback.code == 0, "{}", rollback.text);
        load.more_ok(200, DEADLINE).await?;
        assert_eq!(rig.version().await?, "1");
        let report = load.stop().await?;
        print(self.app, &report.summary(&journals));
        report.ensure_none_failed()?;
        if !order.is_empty() {
            ensure_in_order(&report, order)?;
        }
        rig.has_a_plain_route().await
    }

    /// Deploys v1 and a v2 that is bad under traffic; it is taken back for a reason
    /// that is told.
    async fn taken_back(
        self,
        release: &[(&str, &str)],
        code: i32,
        told: &[&str],
    ) -> anyhow::Result<(Rig, Report)> {
        let rig = self.rig().await?;
        let one = image::build(self.app, &[("VERSION", "1")]).await?;
        let mut environment = vec![("VERSION", "2")];
        environment.extend(release);
        let two = image::build(self.app, &environment).await?;
        rig.must_deploy(&one).await?;
        let load = rig
            .load()?
            .users(Kind::KeepAlive, 4)
            .users(Kind::Fresh, 4)
            .pause(Duration::from_millis(2))
            .start()?;
        load.more_ok(100, DEADLINE).await?;
        let ran = rig.deploy(&two).await?;
        assert_eq!(ran.code, code, "{}", ran.text);
        for part in told {
            assert!(ran.text.contains(part), "{part:?} is not in:\n{}", ran.text);
        }
        load.more_ok(100, DEADLINE).await?;
        let report = load.stop().await?;
        assert_eq!(rig.version().await?, "1");
        let status = rig.status().await?;
        assert_eq!(status["serving"]["number"], 1, "{status:#}");
        rig.has_a_plain_route().await?;
        Ok((rig, report))
    }
}

#[tokio::test]
async fn a_canary_goes_there_and_back_and_loses_nothing() -> anyhow::Result<()> {
    // Whoever brings no cookie back may be sent to either release meanwhile.
    CANARY.there_and_back(&[]).await
}

#[tokio::test]
async fn a_rolling_deploy_goes_there_and_back_and_loses_nothing() -> anyhow::Result<()> {
    ROLLING.there_and_back(&[]).await
}

#[tokio::test]
async fn a_deploy_in_place_goes_there_and_back_and_loses_nothing() -> anyhow::Result<()> {
    IN_PLACE.there_and_back(&["1", "2", "1"]).await
}

#[tokio::test]
async fn a_shadow_goes_on_to_all_users_and_back_and_loses_nothing() -> anyhow::Result<()> {
    SHADOW.there_and_back(&["1", "2", "1"]).await
}

#[tokio::test]
async fn a_canary_that_fails_its_share_is_taken_back_before_most_users_saw_it() -> anyhow::Result<()>
{
    let shape = CANARY.named("badcanary");
    let (_, report) = shape
        .taken_back(&[("ERROR_RATE", "0.5")], 3, &["failed", "likelier"])
        .await?;
    let all = report.records.len();
    let failed = report.failed().count();
    assert!(failed > 0, "nobody was at the canary");
    assert!(failed * 10 < all, "{failed} of {all} requests failed");
    Ok(())
}

#[tokio::test]
async fn a_canary_that_crashes_under_its_share_is_taken_back() -> anyhow::Result<()> {
    CANARY
        .named("diesbird")
        .taken_back(&[("CRASH_IN_USE_S", "0.5")], 3, &["exited with 1"])
        .await?;
    Ok(())
}

#[tokio::test]
async fn a_rolling_deploy_whose_first_replica_is_bad_is_taken_back() -> anyhow::Result<()> {
    let (rig, _) = ROLLING
        .named("badroll")
        .taken_back(&[("ERROR_RATE", "1")], 3, &["failed"])
        .await?;
    let expected = [
        "cutover-badroll-v1-0",
        "cutover-badroll-v1-1",
        "cutover-badroll-v1-2",
    ];
    assert_eq!(rig.containers().await?, expected);
    Ok(())
}

#[tokio::test]
async fn a_bad_release_in_place_gives_its_place_back_and_no_request_is_lost() -> anyhow::Result<()>
{
    let (_, report) = IN_PLACE
        .named("badplace")
        .taken_back(&[("UNHEALTHY", "no database")], 1, &["no database"])
        .await?;
    // It never had a user, and who came meanwhile waited for the old one.
    report.ensure_none_failed()?;
    assert_eq!(report.versions(), ["1"]);
    Ok(())
}

#[tokio::test]
async fn a_shadow_that_answers_otherwise_is_taken_back_and_no_user_saw_it() -> anyhow::Result<()> {
    let (_, report) = SHADOW
        .named("badshade")
        .taken_back(&[("ERROR_RATE", "1")], 1, &["copies", "another status"])
        .await?;
    report.ensure_none_failed()?;
    assert_eq!(report.versions(), ["1"]);
    Ok(())
}

#[tokio::test]
async fn a_shadow_that_only_compares_ends_with_its_report() -> anyhow::Result<()> {
    let shape = Shape {
        app: "onlyshade",
        tables: "[shadow]\nwindow = \"3s\"\nthen = \"stop\"\n",
        ..SHADOW
    };
    let rig = shape.rig().await?;
    let one = image::build(shape.app, &[("VERSION", "1")]).await?;
    let two = image::build(shape.app, &[("VERSION", "2")]).await?;
    rig.must_deploy(&one).await?;
    let load = rig.load()?.users(Kind::KeepAlive, 4);
    let load = load.pause(Duration::from_millis(5)).start()?;
    load.more_ok(50, DEADLINE).await?;
    let ran = rig.deploy(&two).await?;
    load.more_ok(50, DEADLINE).await?;
    let report = load.stop().await?;
    ensure!(ran.code == 0, "{}", ran.text);
    for part in ["copies", "another status", "p99"] {
        assert!(ran.text.contains(part), "{part:?} is not in:\n{}", ran.text);
    }
    report.ensure_none_failed()?;
    assert_eq!(report.versions(), ["1"]);
    assert_eq!(rig.containers().await?, ["cutover-onlyshade-v1-0"]);
    rig.has_a_plain_route().await
}
