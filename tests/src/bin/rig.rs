//! Starts a host of Cutover and runs a command beside it, for tests that are
//! not written in Rust.

use std::ffi::OsString;
use std::process::ExitCode;

use anyhow::Context as _;
use clap::Parser;
use cutover_tests::image;
use cutover_tests::rig::{Rig, SECRET, Setup};
use tokio::process::Command;

/// Starts a proxy, and an agent with one app that was never deployed, and runs
/// COMMAND. Ends with its exit status, and prints what both programs logged.
///
/// COMMAND finds in its environment: `CUTOVER_URL` and `CUTOVER_SECRET` for
/// calls; `RIG_APP`, the app; `RIG_GOOD`, an image of it that serves version 1;
/// `RIG_BAD`, one that ends at its start; `RIG_FRONT`, where users come in, as
/// IP:PORT; `RIG_AGENT`, the process id of the agent.
///
/// Runs inside `tests/host/run`.
#[derive(Parser)]
struct Arguments {
    /// The app's name.
    #[arg(long, default_value = "shop")]
    app: String,
    #[arg(required = true, trailing_var_arg = true, allow_hyphen_values = true)]
    command: Vec<OsString>,
}

#[tokio::main(flavor = "current_thread")]
async fn main() -> anyhow::Result<ExitCode> {
    let Arguments { app, command } = Arguments::parse();
    let rig = Rig::start(&app, &Setup::default()).await?;
    let good = image::build(&app, &[("VERSION", "1")]).await?;
    let bad = image::build(&app, &[("VERSION", "2"), ("EXIT_AT_START", "1")]).await?;
    let agent = rig.agent().context("the agent was started")?;

    let (program, arguments) = command.split_first().context("no command")?;
    let ended = Command::new(program)
        .args(arguments)
        .env("CUTOVER_URL", format!("http://{}", rig.calls))
        .env("CUTOVER_SECRET", SECRET)
        .env("RIG_APP", &app)
        .env("RIG_GOOD", good.reference())
        .env("RIG_BAD", bad.reference())
        .env("RIG_FRONT", rig.front.to_string())
        .env("RIG_AGENT", agent.pid().to_string())
        .kill_on_drop(true)
        .status()
        .await
        .with_context(|| format!("running {}", program.display()))?;
    // A command that a signal ended has no status of its own.
    let code = ended.code().and_then(|code| u8::try_from(code).ok());
    Ok(code.map_or(ExitCode::FAILURE, ExitCode::from))
}
