//! What GitHub shows after real deploys: each thing once, in order, and true.

use std::time::Duration;

use anyhow::Context as _;
use cutover_tests::github::{Deployment, GithubModel};
use cutover_tests::image::{self, Image};
use cutover_tests::rig::{Ran, Rig, Setup, TABLES};
use cutover_tests::wait::eventually;
use tokio::task::JoinHandle;

use crate::crash::Chance;

const DEADLINE: Duration = Duration::from_secs(60);

/// A rig whose deploys are called by workflow runs and told to a model.
struct Told {
    rig: Rig,
    model: GithubModel,
    runs: u32,
}

/// How one deploy was told: the words of its states, in order.
const GOOD: [&str; 4] = ["queued", "in_progress", "in_progress", "success"];

impl Told {
    async fn start(app: &str, tables: &str) -> anyhow::Result<Self> {
        let repository = format!("acme/{app}");
        let model = GithubModel::start(&[&repository]).await?;
        let setup = Setup {
            github: Some(model.url()),
            app_tables: Some(tables.to_owned()),
            ..Setup::default()
        };
        let rig = Rig::start(app, &setup).await?;
        Ok(Self {
            rig,
            model,
            runs: 0,
        })
    }

    /// Calls as the step of a workflow run does, with a commit of its own.
    fn begin(&mut self, arguments: &[&str]) -> anyhow::Result<JoinHandle<anyhow::Result<Ran>>> {
        self.runs += 1;
        let app = ["--app", &self.rig.app, "--github", "on"];
        let mut command = self.rig.cutover(&[arguments, &app].concat())?;
        command
            .env("GITHUB_SHA", sha(self.runs))
            .env("GITHUB_SERVER_URL", "https://github.com")
            .env("GITHUB_REPOSITORY", format!("acme/{}", self.rig.app))
            .env("GITHUB_RUN_ID", self.runs.to_string());
        for variable in ["GITHUB_EVENT_PATH", "GITHUB_OUTPUT", "GITHUB_STEP_SUMMARY"] {
            command.env_remove(variable);
        }
        Ok(tokio::spawn(async move {
            Ok(Ran::from(command.output().await?))
        }))
    }

    async fn deploy(&mut self, image: &Image, code: i32) -> anyhow::Result<()> {
        let ran = self.begin(&["deploy", "--image", &image.reference()])?;
        let ran = ran.await??;
        assert_eq!(ran.code, code, "{}", ran.text);
        Ok(())
    }

    /// The deployments, once each has its end and one of them is active.
    async fn settled(&self, count: usize) -> anyhow::Result<Vec<Deployment>> {
        let ends = ["success", "failure", "error", "inactive"];
        let all = eventually("every deployment has its end", DEADLINE, async || {
            let all = self.model.deployments();
            let open = |one: &&Deployment| !one.state().is_some_and(|now| ends.contains(&now));
            let open: Vec<_> = all.iter().filter(open).collect();
            let active = all.iter().filter(|one| one.state() == Some("success"));
            let settled = open.is_empty() && all.len() == count && active.count() == 1;
            anyhow::ensure!(settled, "{all:#?}");
            Ok(all)
        })
        .await?;
        assert_eq!(self.model.violations(), Vec::<String>::new());
        for one in &all {
            for status in one
                .statuses
                .iter()
                .filter(|one| !is_replaced(&one.description))
            {
                let app = &self.rig.app;
                assert_eq!(status.environment_url, format!("http://{app}.test"));
                let run = format!("https://github.com/acme/{app}/actions/runs/");
                assert!(status.log_url.starts_with(&run), "{status:?}");
            }
        }
        Ok(all)
    }
}

fn sha(run: u32) -> String {
    format!("{run:040x}")
}

fn is_replaced(description: &str) -> bool {
    description.starts_with("Replaced")
}

/// The states of a deployment, and its commit.
fn states(deployment: &Deployment) -> Vec<&str> {
    let statuses = deployment.statuses.iter();
    statuses.map(|status| status.state.as_str()).collect()
}

#[tokio::test]
async fn github_shows_how_each_deploy_ended_and_what_is_active() -> anyhow::Result<()> {
    let app = "shown";
    let tables = TABLES.replace("deadline = \"20s\"", "deadline = \"3s\"");
    let mut told = Told::start(app, &tables).await?;
    let one = image::build(app, &[("VERSION", "1")]).await?;
    let failing = image::build(app, &[("VERSION", "2"), ("EXIT_AT_START", "1")]).await?;
    let wrong = image::build(app, &[("VERSION", "3"), ("ERROR_RATE", "1")]).await?;
    let slow = image::build(app, &[("VERSION", "4"), ("SLOW_START_S", "600")]).await?;
    let two = image::build(app, &[("VERSION", "5")]).await?;

    told.deploy(&one, 0).await?;
    told.deploy(&failing, 1).await?;
    let load = told.rig.load()?.users_of_every_kind().start()?;
    told.deploy(&wrong, 3).await?;
    drop(load);
    let aborted = told.begin(&["deploy", "--image", &slow.reference()])?;
    eventually("the deploy is under way", DEADLINE, async || {
        told.rig
            .status()
            .await
            .map(|status| status["deploying"].is_object())
    })
    .await?;
    let abort = told.rig.run(&["abort", "--app", app]).await?;
    assert_eq!(abort.code, 0, "{}", abort.text);
    assert_eq!(aborted.await??.code, 7);
    told.deploy(&two, 0).await?;
    let all = told.settled(5).await?;
    let ends: Vec<_> = all.iter().map(|one| one.state()).collect();
    let expected = ["inactive", "failure", "failure", "error", "success"].map(Some);
    assert_eq!(ends, expected);
    assert_eq!(states(&all[1]), ["queued", "in_progress", "failure"]);
    assert_eq!(
        states(&all[2]),
        ["queued", "in_progress", "in_progress", "failure"]
    );
    assert_eq!(states(&all[4]), GOOD);
    let last = |at: usize| all[at].statuses.last().map(|one| one.description.clone());
    let failed = last(1).context("a status")?;
    // With its code, unless the engine had started it anew before it was looked at.
    assert!(failed.contains("exited"), "{failed}");
    let taken_back = last(2).context("a status")?;
    assert!(taken_back.contains("was taken back"), "{taken_back}");
    let stopped = last(3).context("a status")?;
    assert!(stopped.contains("aborted"), "{stopped}");
    for (run, deployment) in (1..).zip(&all) {
        assert_eq!(deployment.sha, sha(run));
    }

    // A rollback is a deployment of the commit that it goes back to.
    let ran = told.begin(&["rollback"])?.await??;
    assert_eq!(ran.code, 0, "{}", ran.text);
    let all = told.settled(6).await?;
    assert_eq!(all[5].sha, sha(1));
    assert_eq!(all[5].state(), Some("success"));
    assert_eq!(all[4].state(), Some("inactive"));
    Ok(())
}

#[tokio::test]
async fn github_is_told_once_by_an_agent_that_dies_again_and_again() -> anyhow::Result<()> {
    let app = "repeated";
    let mut chance = Chance::new()?;
    let mut told = Told::start(app, TABLES).await?;
    for version in 1..=3 {
        let image = image::build(app, &[("VERSION", &version.to_string())]).await?;
        let following = told.begin(&["deploy", "--image", &image.reference()])?;
        for _ in 0..3 {
            // The moment is what is chosen here; nothing is waited for.
            tokio::time::sleep(chance.below(Duration::from_secs(2))).await;
            told.rig.kill_agent().await?;
            told.rig.start_agent().await?;
        }
        let ran = following.await??;
        assert_eq!(ran.code, 0, "{}", ran.text);
    }
    let all = told.settled(3).await?;
    assert_eq!(states(&all[0]), [&GOOD[..], &["inactive"]].concat());
    assert_eq!(states(&all[1]), [&GOOD[..], &["inactive"]].concat());
    assert_eq!(states(&all[2]), GOOD);
    Ok(())
}

#[tokio::test]
async fn github_away_for_a_whole_deploy_learns_all_of_it_later() -> anyhow::Result<()> {
    let app = "later";
    let mut told = Told::start(app, TABLES).await?;
    let one = image::build(app, &[("VERSION", "1")]).await?;
    let bad = image::build(app, &[("VERSION", "2"), ("EXIT_AT_START", "1")]).await?;
    told.model.go_down();
    told.deploy(&one, 0).await?;
    told.deploy(&bad, 1).await?;
    assert_eq!(told.rig.version().await?, "1");
    assert!(told.model.deployments().is_empty());
    told.model.come_back().await?;
    let all = told.settled(2).await?;
    assert_eq!(states(&all[0]), GOOD);
    assert_eq!(states(&all[1]), ["queued", "in_progress", "failure"]);
    Ok(())
}
