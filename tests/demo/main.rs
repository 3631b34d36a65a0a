//! The demo: deploys that go right and deploys that go wrong, under the load
//! of users who notice everything. It judges itself: its exit status is 1 if
//! a request was lost or a deploy did not end as it should.

mod act;
mod ending;
mod screen;
mod table;

use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use anyhow::Context as _;
use clap::Parser;
use cutover_tests::github::GithubModel;
use cutover_tests::image;
use cutover_tests::load::{Load, RunningLoad};
use cutover_tests::rig::{Rig, Setup};
use tokio::time::Instant;

use crate::act::{Act, Call, Played};
use crate::screen::{Color, Screen};

/// The app, which is also its repository.
const APP: &str = "demo";

/// Waits for what takes a moment; none of them should ever take this long.
const DEADLINE: Duration = Duration::from_secs(30);

/// The watch is long enough to see users arrive, and short for a demo.
const TABLES: &str = "\
[health]\npath = \"/healthz\"\ninterval = \"250ms\"\ntimeout = \"2s\"\ndeadline = \"20s\"\n\
[watch]\nwindow = \"8s\"\nmax_error_rate = \"5%\"\nmin_requests = 50\n";

#[derive(Parser)]
struct Arguments {
    /// Whether to colour what is printed.
    #[arg(long, default_value = "never")]
    color: Color,
    /// Write the exit status to this file and leave everything running.
    #[arg(long)]
    keep: Option<PathBuf>,
}

/// What the acts share.
struct Stage {
    rig: Rig,
    github: GithubModel,
    screen: Screen,
    users: Option<Users>,
}

/// The load, and when it began.
struct Users {
    load: RunningLoad,
    began: Instant,
}

#[tokio::main(flavor = "current_thread")]
async fn main() -> anyhow::Result<ExitCode> {
    let arguments = Arguments::parse();
    let github = GithubModel::start(&["acme/demo"]).await?;
    let setup = Setup {
        app_tables: Some(TABLES.to_owned()),
        github: Some(github.url()),
        ..Setup::default()
    };
    let mut stage = Stage {
        rig: Rig::start(APP, &setup).await?,
        github,
        screen: Screen::new(arguments.color),
        users: None,
    };
    let began = Instant::now();
    let acts = play(&mut stage).await?;
    let users = stage.users.take().context("the load never began")?;
    let report = users.load.stop().await?;
    let good = ending::show(&stage, &acts, &report, began.elapsed())?;
    let code = u8::from(!good);
    if let Some(file) = arguments.keep {
        ending::stay(&stage, &file, code).await?;
    }
    // Dropped, the programs would print their logs; the test host ends them.
    std::mem::forget(stage);
    Ok(ExitCode::from(code))
}

/// Every act, in its order.
async fn play(stage: &mut Stage) -> anyhow::Result<Vec<Played>> {
    stage.screen.title(
        "Cutover: deploys under traffic",
        "A proxy, an agent and a command line on a host of their own; a model of GitHub listens.",
    )?;
    let one = image::build(APP, &[("VERSION", "1")]).await?;
    let two = image::build(APP, &[("VERSION", "2")]).await?;
    let no_start = [
        ("VERSION", "3"),
        ("EXIT_AT_START", "cannot reach the database at db:5432"),
    ];
    let three = image::build(APP, &no_start).await?;
    let goes_bad = [("VERSION", "4"), ("ERRORS_AFTER_S", "3")];
    let four = image::build(APP, &goes_bad).await?;

    let mut played = Vec::new();
    let first = Act {
        name: "v1, the first",
        headline: "The first deploy: nothing serves yet",
        call: Call::Workflow(&one),
        code: 0,
        outcome: "promoted",
        github: "success",
        serves: "1",
    };
    played.push(first.play(stage, 1).await?);

    stage.screen.headline(
        "Users arrive and stay to the end",
        "Kept connections, a new one each time, posts, a WebSocket, event streams. None tries twice.",
    )?;
    let began = Instant::now();
    let load = Load::new(stage.rig.front, &format!("{APP}.test"))?.users_of_every_kind();
    let load = load.pause(Duration::from_millis(10)).start()?;
    load.more_ok(500, DEADLINE).await?;
    stage.users = Some(Users { load, began });
    stage.users_line()?;

    let acts = [
        Act {
            name: "v2, good",
            headline: "A good release takes over, blue-green",
            call: Call::Workflow(&two),
            code: 0,
            outcome: "promoted",
            github: "success",
            serves: "2",
        },
        Act {
            name: "v3, cannot start",
            headline: "A release that cannot start: no user ever meets it",
            call: Call::Workflow(&three),
            code: 1,
            outcome: "failed",
            github: "failure",
            serves: "2",
        },
        Act {
            name: "v4, goes bad",
            headline: "A release that is healthy, and then fails its users: taken back",
            call: Call::Workflow(&four),
            code: 3,
            outcome: "rolled_back",
            github: "failure",
            serves: "2",
        },
        Act {
            name: "back to v1, by hand",
            headline: "A person on the host goes back to v1",
            call: Call::Rollback,
            code: 0,
            outcome: "promoted",
            github: "success",
            serves: "1",
        },
    ];
    for (number, act) in (2..).zip(acts) {
        played.push(act.play(stage, number).await?);
    }
    Ok(played)
}

impl Stage {
    /// One line about the load, while there is one.
    fn users_line(&self) -> anyhow::Result<()> {
        let Some(Users { load, .. }) = &self.users else {
            return Ok(());
        };
        let (failed, errors) = (load.failed(), load.errors_of_app());
        let lost = failed.saturating_sub(errors);
        let sent = screen::grouped(load.ok() + failed);
        let mut line = format!("users: {sent} requests, {lost} lost or broken");
        if errors > 0 {
            line = format!("{line}, {errors} answered 500 by v4 itself");
        }
        self.screen.users(&line, lost > 0)
    }
}
