//! Every strategy from v1 to v2 and back to v1 under load on real parts. What each
//! does with a release that turns out bad is in `faults`.

use std::time::Duration;

use anyhow::ensure;
use cutover_tests::image;
use cutover_tests::load::Kind;
use cutover_tests::rig::{Rig, Setup, TABLES};

use crate::traffic::{ensure_in_order, print};

const DEADLINE: Duration = Duration::from_secs(60);

/// One strategy and what it needs to be quick.
#[derive(Clone, Copy)]
pub(crate) struct Shape {
    pub(crate) app: &'static str,
    pub(crate) top: &'static str,
    pub(crate) tables: &'static str,
    pub(crate) replicas: usize,
}

pub(crate) const BLUE_GREEN: Shape = Shape {
    app: "bluegreen",
    top: "",
    tables: "",
    replicas: 1,
};

pub(crate) const RED_BLACK: Shape = Shape {
    app: "redblack",
    top: "strategy = \"red-black\"\n",
    tables: "",
    replicas: 1,
};

pub(crate) const CANARY: Shape = Shape {
    app: "canary",
    top: "strategy = \"canary\"\n",
    tables: "[canary]\nweights = [10, 50, 100]\nbake = \"2s\"\n",
    replicas: 1,
};

pub(crate) const ROLLING: Shape = Shape {
    app: "rolling",
    top: "strategy = \"rolling\"\nreplicas = 3\n",
    tables: "[rolling]\nbatch = 1\nbake = \"1s\"\n",
    replicas: 3,
};

pub(crate) const IN_PLACE: Shape = Shape {
    app: "inplace",
    top: "strategy = \"in-place\"\n",
    tables: "[in_place]\npark_deadline = \"20s\"\n",
    replicas: 1,
};

pub(crate) const SHADOW: Shape = Shape {
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
    pub(crate) fn named(self, app: &'static str) -> Self {
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
            .pause(Duration::from_millis(10))
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
    let load = load.pause(Duration::from_millis(10)).start()?;
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
