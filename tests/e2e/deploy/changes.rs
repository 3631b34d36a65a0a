//! The app's file changes and its image does not: another number of containers is
//! the same release with more or fewer of them, without a call; another environment
//! is a new release of the same image.

use std::time::Duration;

use anyhow::{Context as _, ensure};
use cutover_tests::host::docker;
use cutover_tests::image::{self, Image};
use cutover_tests::load::Kind;
use cutover_tests::rig::{Rig, Setup, TABLES};
use cutover_tests::wait::eventually;
use serde_json::Value;

use crate::shapes::{BLUE_GREEN, ROLLING, Shape};

const DEADLINE: Duration = Duration::from_secs(60);

/// An app whose file changes and whose image does not.
struct Changing {
    shape: Shape,
    rig: Rig,
    image: Image,
}

impl Changing {
    async fn start(shape: Shape) -> anyhow::Result<Self> {
        let rig = Rig::start(shape.app, &setup(&shape, 1, "")).await?;
        let image = image::build(shape.app, &[("VERSION", "1")]).await?;
        rig.must_deploy(&image).await?;
        Ok(Self { shape, rig, image })
    }

    /// Another file, which the agent reads at its start.
    async fn restarts_with(&mut self, replicas: usize, tables: &str) -> anyhow::Result<()> {
        self.rig.kill_agent().await?;
        self.rig.configure(&setup(&self.shape, replicas, tables))?;
        self.rig.start_agent().await
    }

    /// The containers of a release by their numbers.
    async fn containers_of(&self, release: usize) -> anyhow::Result<Vec<usize>> {
        let prefix = format!("cutover-{}-v{release}-", self.shape.app);
        let all = self.rig.containers().await?;
        let of_release = all.iter().filter_map(|name| name.strip_prefix(&prefix));
        of_release
            .map(|number| number.parse().context("a container's number"))
            .collect()
    }

    /// Waits until the release serves by so many containers and nothing is under way.
    async fn serves_by(&self, release: usize, replicas: usize) -> anyhow::Result<()> {
        let wanted: Vec<_> = (0..replicas).collect();
        let pool = format!("v{release}");
        eventually("the number of containers", DEADLINE, async || {
            let there = self.containers_of(release).await?;
            ensure!(there == wanted, "{there:?} are there");
            let table = self.rig.table().await?;
            let route = table.apps.get(self.shape.app).context("a route")?;
            let targets = route.pools.get(&pool).context("a pool")?.targets.len();
            ensure!(targets == replicas, "{targets} get requests");
            let latest = &self.history().await?[0];
            ensure!(latest["outcome"] == "promoted", "{latest:#}");
            Ok(())
        })
        .await?;
        let status = self.rig.status().await?;
        assert_eq!(status["serving"]["number"], release, "{status:#}");
        assert_eq!(status["serving"]["standing"], "proven", "{status:#}");
        self.rig.has_a_plain_route().await
    }

    async fn deploys_the_same_image(&self) -> anyhow::Result<()> {
        let ran = self.rig.deploy(&self.image).await?;
        ensure!(ran.code == 0, "{}: {}", ran.code, ran.text);
        Ok(())
    }

    /// All that was done, the newest first.
    async fn history(&self) -> anyhow::Result<Vec<Value>> {
        let history = ["history", "--app", self.shape.app, "--format", "json"];
        let ran = self.rig.run(&history).await?;
        serde_json::from_str(&ran.text).context(ran.text)
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
        self.restarts_with(3, "").await?;
        self.serves_by(1, 3).await?;
        load.more_ok(100, DEADLINE).await?;
        for replica in 0..3 {
            let container = format!("cutover-{}-v1-{replica}", self.shape.app);
            let journal = self.rig.journal(&container).await?;
            assert!(!journal.ids.is_empty(), "{container} served nobody");
        }
        self.restarts_with(2, "").await?;
        self.serves_by(1, 2).await?;
        load.more_ok(50, DEADLINE).await?;
        let history = self.history().await?;
        let kinds: Vec<_> = history.iter().map(|one| one["kind"].clone()).collect();
        assert_eq!(kinds, ["scale", "scale", "deploy"]);

        let greeting = "[env]\nGREETING = \"hello\"\n";
        self.restarts_with(2, greeting).await?;
        self.deploys_the_same_image().await?;
        self.serves_by(2, 2).await?;
        load.more_ok(50, DEADLINE).await?;
        let new = format!("cutover-{}-v2-1", self.shape.app);
        let environment = docker(&["inspect", "--format", "{{.Config.Env}}", &new]).await?;
        assert!(environment.contains("GREETING=hello"), "{environment}");
        let label = "{{index .Config.Labels \"cutover.image\"}}";
        let image = docker(&["inspect", "--format", label, &new]).await?;
        assert_eq!(image, self.image.reference());
        // Nothing is left to change.
        self.deploys_the_same_image().await?;
        self.serves_by(2, 2).await?;

        // Both at once is one release, which a call brings.
        self.restarts_with(3, &greeting.replace("hello", "good day"))
            .await?;
        let agent = self.rig.agent().context("it runs")?;
        let told = "the configuration of v2 was changed beside the number of its containers";
        eventually("a word about it", DEADLINE, async || {
            agent.log().contains(told)
        })
        .await?;
        self.serves_by(2, 2).await?;
        self.deploys_the_same_image().await?;
        self.serves_by(3, 3).await?;
        load.more_ok(50, DEADLINE).await?;
        let report = load.stop().await?;
        report.ensure_none_failed()?;
        assert_eq!(report.versions(), ["1"]);

        // What somebody's hand took away comes back.
        docker(&["rm", "--force", &format!("cutover-{}-v3-1", self.shape.app)]).await?;
        eventually("a mended number", DEADLINE, async || {
            let latest = &self.history().await?[0];
            ensure!(latest["kind"] == "scale", "{latest:#}");
            Ok(())
        })
        .await?;
        self.serves_by(3, 3).await?;

        // Also where it took all, and the image with them.
        let tries = self.history().await?.len();
        let all: Vec<_> = (0..3)
            .map(|replica| format!("cutover-{}-v3-{replica}", self.shape.app))
            .collect();
        let mut remove = vec!["rm", "--force"];
        remove.extend(all.iter().map(String::as_str));
        self.rig.kill_agent().await?;
        docker(&remove).await?;
        docker(&["image", "rm", "--force", &self.image.reference()]).await?;
        self.rig.start_agent().await?;
        self.rig.sees("1", DEADLINE).await?;
        eventually("the end of it", DEADLINE, async || {
            let history = self.history().await?;
            ensure!(history.len() == tries + 1, "{history:#?}");
            ensure!(history[0]["outcome"] == "promoted", "{history:#?}");
            Ok(())
        })
        .await?;
        self.serves_by(3, 3).await?;
        let agent = self.rig.agent().context("it runs")?;
        let told = "no container of v3 is left, which should serve";
        ensure!(agent.log().contains(told), "{}", agent.log());
        Ok(())
    }
}

fn setup(shape: &Shape, replicas: usize, tables: &str) -> Setup {
    Setup {
        app_top: format!("{}replicas = {replicas}\n", shape.top),
        app_tables: Some(format!("{TABLES}{}{tables}", shape.tables)),
        ..Setup::default()
    }
}

#[tokio::test]
async fn blue_green_release_gets_more_and_fewer_containers_and_another_environment()
-> anyhow::Result<()> {
    Changing::start(BLUE_GREEN.named("scaleblue"))
        .await?
        .changes()
        .await
}

#[tokio::test]
async fn rolling_release_gets_more_and_fewer_containers_and_another_environment()
-> anyhow::Result<()> {
    let shape = Shape {
        app: "scaleroll",
        top: "strategy = \"rolling\"\n",
        ..ROLLING
    };
    Changing::start(shape).await?.changes().await
}

/// Its containers go again, what served serves, and the reason is told.
#[tokio::test]
async fn containers_that_never_answer_are_not_kept() -> anyhow::Result<()> {
    let mut app = Changing::start(BLUE_GREEN.named("scalebad")).await?;
    let load = app.rig.load()?.users(Kind::KeepAlive, 2).start()?;
    load.more_ok(20, DEADLINE).await?;
    app.rig.kill_agent().await?;
    let bad = setup(&app.shape, 2, "");
    let bad = Setup {
        app_tables: bad.app_tables.map(|tables| {
            tables
                .replace("/healthz", "/nowhere")
                .replace("deadline = \"20s\"", "deadline = \"2s\"")
        }),
        ..bad
    };
    app.rig.configure(&bad)?;
    app.rig.start_agent().await?;
    let failed = eventually("an end", DEADLINE, async || {
        let latest = app.history().await?.swap_remove(0);
        let ended = latest["kind"] == "scale" && latest["outcome"] != Value::Null;
        ensure!(ended, "{latest:#}");
        Ok(latest)
    })
    .await?;
    assert_eq!(failed["outcome"], "failed", "{failed:#}");
    let reason = failed["reason"].as_str().unwrap_or_default();
    assert!(reason.contains("was not healthy within 2s"), "{failed:#}");
    assert_eq!(app.containers_of(1).await?, [0]);
    load.more_ok(20, DEADLINE).await?;
    load.stop().await?.ensure_none_failed()?;
    Ok(())
}
