//! One act: a call by the real command line, shown as it goes, and judged.

use std::process::Stdio;
use std::time::Duration;

use anyhow::Context as _;
use cutover_tests::image::Image;
use cutover_tests::wait::eventually;
use tokio::io::{AsyncBufReadExt as _, BufReader};
use tokio::process::Command;
use tokio::time::{Instant, MissedTickBehavior, interval, timeout};

use crate::{APP, DEADLINE, Stage};

/// A deploy of the demo takes seconds; one that takes this long hangs.
const LONGEST: Duration = Duration::from_secs(90);

/// How often the users are told of while a deploy goes on.
const USERS_EVERY: Duration = Duration::from_millis(2500);

/// Who calls.
pub(crate) enum Call<'a> {
    /// A workflow step deploys an image.
    Workflow(&'a Image),
    /// A person on the host rolls back, over the agent's socket.
    Rollback,
}

/// What is done, and what must come of it.
pub(crate) struct Act<'a> {
    pub(crate) name: &'static str,
    pub(crate) headline: &'static str,
    pub(crate) call: Call<'a>,
    pub(crate) code: i32,
    pub(crate) outcome: &'static str,
    pub(crate) github: &'static str,
    pub(crate) serves: &'static str,
}

/// What came of it.
pub(crate) struct Played {
    pub(crate) name: &'static str,
    pub(crate) took: Duration,
    pub(crate) code: i32,
    pub(crate) outcome: String,
    pub(crate) serves: String,
    /// From when to when, counted from the beginning of the load.
    pub(crate) span: Option<(Duration, Duration)>,
    /// What was not as expected.
    pub(crate) faults: Vec<String>,
}

impl Act<'_> {
    /// Plays the act of this number; the first is 1.
    pub(crate) async fn play(&self, stage: &Stage, number: usize) -> anyhow::Result<Played> {
        let (command, shown) = self.command(stage, number)?;
        stage
            .screen
            .headline(self.headline, &format!("$ {shown}"))?;
        let began = Instant::now();
        let code = timeout(LONGEST, follow(stage, command)).await;
        let code = code.with_context(|| format!("{} does not end", self.name))??;
        let took = began.elapsed();
        stage.users_line()?;

        let told = self.told_to_github(stage, number).await?;
        let status = stage.rig.status().await?;
        let outcome = status["last"]["outcome"].as_str().unwrap_or("unknown");
        let serves = stage.rig.version().await?;
        let mut faults = Vec::new();
        let mut check = |what: &str, is: &str, expected: &str| {
            if is != expected {
                faults.push(format!("{what} {is} instead of {expected}"));
            }
        };
        check("exit code", &code.to_string(), &self.code.to_string());
        check("outcome", outcome, self.outcome);
        check("serving", &serves, self.serves);
        check("GitHub was told", &told, self.github);
        let users = stage.users.as_ref();
        let span = users.map(|users| (began - users.began, users.began.elapsed()));
        Ok(Played {
            name: self.name,
            took,
            code,
            outcome: outcome.to_owned(),
            serves,
            span,
            faults,
        })
    }

    /// The command, and how a person would write it.
    fn command(&self, stage: &Stage, number: usize) -> anyhow::Result<(Command, String)> {
        let rig = &stage.rig;
        match self.call {
            Call::Workflow(image) => {
                let reference = image.reference();
                let mut command = rig.cutover(&["deploy", "--app", APP, "--image", &reference])?;
                // A workflow that runs the demo has files of its own.
                for name in ["GITHUB_OUTPUT", "GITHUB_STEP_SUMMARY", "GITHUB_EVENT_PATH"] {
                    command.env_remove(name);
                }
                command.envs([
                    ("GITHUB_ACTIONS", "true"),
                    ("GITHUB_SERVER_URL", "https://github.com"),
                    ("GITHUB_REPOSITORY", "acme/demo"),
                    ("GITHUB_TRIGGERING_ACTOR", "dana"),
                    ("GITHUB_RUN_ATTEMPT", "1"),
                    ("GITHUB_RUN_ID", &number.to_string()),
                    ("GITHUB_SHA", &number.to_string().repeat(40)),
                ]);
                let digest = image.digest.get(..19).unwrap_or(&image.digest);
                let repository = &image.repository;
                let shown = format!("cutover deploy --app {APP} --image {repository}@{digest}…");
                Ok((command, shown))
            }
            Call::Rollback => {
                let socket = format!("--socket={}/agent.sock", rig.folder.display());
                let command = rig.cutover(&["rollback", "--app", APP, &socket])?;
                Ok((command, format!("cutover rollback --app {APP}")))
            }
        }
    }

    /// The last word to GitHub, once there is one.
    async fn told_to_github(&self, stage: &Stage, number: usize) -> anyhow::Result<String> {
        let what = format!("GitHub is told the end of {}", self.name);
        let told = eventually(&what, DEADLINE, async || {
            let deployments = stage.github.deployments();
            let deployment = deployments.get(number - 1)?;
            let state = deployment.state()?;
            let over = !matches!(state, "queued" | "pending" | "in_progress");
            over.then(|| state.to_owned())
        });
        told.await
    }
}

/// Runs the command to its end and shows its lines as they come.
async fn follow(stage: &Stage, mut command: Command) -> anyhow::Result<i32> {
    let mut child = command
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()?;
    let output = child.stdout.take().context("it has an output")?;
    let errors = child.stderr.take().context("it has an error output")?;
    let mut output = BufReader::new(output).lines();
    let mut errors = BufReader::new(errors).lines();
    let (mut telling, mut complaining) = (true, true);
    let mut tick = interval(USERS_EVERY);
    tick.set_missed_tick_behavior(MissedTickBehavior::Delay);
    tick.reset();
    while telling || complaining {
        let line = tokio::select! {
            line = output.next_line(), if telling => {
                let line = line?;
                telling = line.is_some();
                line
            }
            line = errors.next_line(), if complaining => {
                let line = line?;
                complaining = line.is_some();
                line
            }
            _ = tick.tick() => {
                stage.users_line()?;
                continue;
            }
        };
        // What begins so is for the runner of a workflow, and not shown there.
        let shown = line.filter(|line| !line.starts_with("::"));
        if let Some(line) = shown {
            stage.screen.told(&line)?;
        }
    }
    Ok(child.wait().await?.code().unwrap_or(-1))
}
