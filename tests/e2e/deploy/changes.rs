//! Deploys of the image that serves already: with another number of containers, and
//! with another environment. Each is a release with all the care of one.

use std::time::Duration;

use anyhow::ensure;
use cutover_tests::host::docker;
use cutover_tests::image::{self, Image};
use cutover_tests::load::Kind;
use cutover_tests::rig::{Rig, Setup, TABLES};

use crate::shapes::{BLUE_GREEN, ROLLING, Shape};

const DEADLINE: Duration = Duration::from_secs(60);

/// An app whose file changes and whose image does not.
struct Changing {
    shape: Shape,
    /// Tables of the strategy, and whether the release before stays.
    stands_by: bool,
    rig: Rig,
    image: Image,
}

impl Changing {
    async fn start(shape: Shape, top: &str, stands_by: bool) -> anyhow::Result<Self> {
        let rig = Rig::start(shape.app, &setup(&shape, top, "")).await?;
        let image = image::build(shape.app, &[("VERSION", "1")]).await?;
        rig.must_deploy(&image).await?;
        Ok(Self {
            shape,
            stands_by,
            rig,
            image,
        })
    }

    /// Changes the file, and restarts the agent, which alone changes nothing; then
    /// a deploy of the same image makes it so.
    async fn becomes(
        &mut self,
        top: &str,
        env: &str,
        number: usize,
        replicas: [usize; 2],
    ) -> anyhow::Result<()> {
        let before = self.rig.containers().await?;
        self.rig.kill_agent().await?;
        self.rig.configure(&setup(&self.shape, top, env))?;
        self.rig.start_agent().await?;
        assert_eq!(self.rig.containers().await?, before);
        let status = self.rig.status().await?;
        assert_eq!(status["serving"]["number"], number - 1, "{status:#}");

        let ran = self.rig.deploy(&self.image).await?;
        ensure!(ran.code == 0, "{}: {}", ran.code, ran.text);
        let status = self.rig.status().await?;
        assert_eq!(status["serving"]["number"], number, "{status:#}");
        assert_eq!(status["serving"]["standing"], "proven", "{status:#}");
        let names = |release: usize, replicas: usize| {
            (0..replicas).map(move |at| format!("v{release}-{at}"))
        };
        let [old, new] = replicas;
        let old = if self.stands_by { old } else { 0 };
        let mut expected: Vec<_> = names(number - 1, old).chain(names(number, new)).collect();
        expected.sort();
        let prefix = format!("cutover-{}-", self.shape.app);
        let there = self.rig.containers().await?;
        let there: Vec<_> = there
            .iter()
            .filter_map(|name| name.strip_prefix(&prefix))
            .collect();
        assert_eq!(there, expected);
        // Each of them gets its users.
        let table = self.rig.table().await?;
        let pool = &table.apps[self.shape.app].pools[&format!("v{number}")];
        assert_eq!(pool.targets.len(), new, "{pool:#?}");
        self.rig.has_a_plain_route().await
    }

    async fn changes(mut self) -> anyhow::Result<()> {
        let load = self
            .rig
            .load()?
            .users(Kind::KeepAlive, 3)
            .users(Kind::Fresh, 2)
            .users(Kind::Post, 1)
            .pause(Duration::from_millis(10))
            .start()?;
        load.more_ok(50, DEADLINE).await?;
        self.becomes("replicas = 3\n", "", 2, [1, 3]).await?;
        load.more_ok(100, DEADLINE).await?;
        for replica in 0..3 {
            let container = format!("cutover-{}-v2-{replica}", self.shape.app);
            let journal = self.rig.journal(&container).await?;
            assert!(!journal.ids.is_empty(), "{container} served nobody");
        }
        self.becomes("replicas = 2\n", "", 3, [3, 2]).await?;
        load.more_ok(50, DEADLINE).await?;

        let greeting = "GREETING = \"hello\"\n";
        self.becomes("replicas = 2\n", greeting, 4, [2, 2]).await?;
        load.more_ok(50, DEADLINE).await?;
        let report = load.stop().await?;
        report.ensure_none_failed()?;
        assert_eq!(report.versions(), ["1"]);

        let new = format!("cutover-{}-v4-1", self.shape.app);
        let environment = docker(&["inspect", "--format", "{{.Config.Env}}", &new]).await?;
        assert!(environment.contains("GREETING=hello"), "{environment}");
        let label = "{{index .Config.Labels \"cutover.image\"}}";
        let image = docker(&["inspect", "--format", label, &new]).await?;
        assert_eq!(image, self.image.reference());

        // Nothing is left to change.
        let ran = self.rig.deploy(&self.image).await?;
        ensure!(ran.code == 0, "{}", ran.text);
        let status = self.rig.status().await?;
        assert_eq!(status["serving"]["number"], 4, "{status:#}");
        Ok(())
    }
}

fn setup(shape: &Shape, top: &str, env: &str) -> Setup {
    Setup {
        app_top: format!("{}{top}", shape.top),
        app_tables: Some(format!("{TABLES}{}[env]\n{env}", shape.tables)),
        ..Setup::default()
    }
}

#[tokio::test]
async fn blue_green_brings_another_number_of_containers_and_another_environment()
-> anyhow::Result<()> {
    let shape = BLUE_GREEN.named("scaleblue");
    Changing::start(shape, "replicas = 1\n", true)
        .await?
        .changes()
        .await
}

#[tokio::test]
async fn rolling_brings_another_number_of_containers_and_another_environment() -> anyhow::Result<()>
{
    let shape = Shape {
        app: "scaleroll",
        top: "strategy = \"rolling\"\n",
        ..ROLLING
    };
    Changing::start(shape, "replicas = 1\n", false)
        .await?
        .changes()
        .await
}
