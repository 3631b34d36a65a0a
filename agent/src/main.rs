//! `cutover-agent`: arguments, configuration, log; then [`cutover_agent::host`].

use std::io::{IsTerminal as _, Write as _};
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::Duration;

use anyhow::Context as _;
use clap::{Parser, Subcommand, ValueEnum};
use cutover_agent::neighbour::Neighbour;
use cutover_agent::{config, host};
use cutover_plan::id::{AppName, ImageReference};
use cutover_wire::agent::PlanView;
use cutover_wire::request::{Change, Query};
use tokio::signal::unix::{SignalKind, signal};
use tracing_subscriber::EnvFilter;

/// How long a plan may take: the agent asks its engine of containers and the proxy,
/// and answers within ten seconds or says why not.
const PLAN: Duration = Duration::from_secs(30);

/// The agent of Cutover: takes signed calls and carries deploys out on this host.
#[derive(Parser)]
#[command(version, about, arg_required_else_help = true)]
struct Arguments {
    #[command(subcommand)]
    command: Command,
    /// The configuration; the apps are in the folder that its key `apps` names.
    #[arg(long, global = true, value_name = "FILE", default_value = config::DEFAULT)]
    config: PathBuf,
    /// How the log is written: for people or for machines.
    #[arg(long, global = true, value_enum, default_value_t = LogFormat::Text, env = "CUTOVER_LOG_FORMAT")]
    log_format: LogFormat,
    /// What is logged, for example `info` or `cutover_agent=debug`.
    #[arg(
        long,
        global = true,
        value_name = "FILTER",
        default_value = "info",
        env = "CUTOVER_LOG"
    )]
    log: String,
}

#[derive(Subcommand)]
enum Command {
    /// Work until SIGTERM. Deploys under way go on with the next start.
    Run,
    /// Read the whole configuration and tell all of its mistakes at once.
    Check,
    /// Show what a deploy would do, as the running agent sees the host; nothing is touched.
    #[command(after_help = "\
Examples:
  cutover-agent plan shop ghcr.io/acme/shop@sha256:4f5e…
  cutover-agent plan shop --rollback

It asks the agent that runs on this host, at the socket that the configuration names: the
plan is the one of `cutover plan`. Files that were changed since the agent was started count
from its next start on.")]
    Plan {
        /// The app
        app: AppName,
        /// The image that would be deployed, pinned: repository@sha256:…
        #[arg(required_unless_present = "rollback", conflicts_with = "rollback")]
        image: Option<ImageReference>,
        /// Show a rollback instead
        #[arg(long)]
        rollback: bool,
    },
}

#[derive(Clone, Copy, ValueEnum)]
enum LogFormat {
    Text,
    Json,
}

fn main() -> ExitCode {
    let arguments = Arguments::parse();
    match run(&arguments) {
        Ok(code) => code,
        Err(error) => {
            // The log may not be there yet, or not be read by who started us.
            let _ = writeln!(std::io::stderr(), "cutover-agent: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn run(arguments: &Arguments) -> anyhow::Result<ExitCode> {
    if let Command::Plan { app, image, .. } = &arguments.command {
        let change = image.clone();
        let change = change.map_or(Change::Rollback {}, |image| Change::Deploy { image });
        return plan(&arguments.config, app.clone(), change);
    }
    let read = config::read(&arguments.config);
    let (config, filter) = match (read, filter(&arguments.log)) {
        (Ok(config), Ok(filter)) => (config, filter),
        (read, filter) => {
            let mut mistakes = read.err().unwrap_or_default();
            mistakes.extend(filter.err());
            return tell(&mistakes);
        }
    };
    let logins = config.keyring.check();
    if matches!(arguments.command, Command::Check) {
        if !logins.is_empty() {
            return tell(&logins);
        }
        let names: Vec<_> = config.apps.keys().map(ToString::to_string).collect();
        let apps = if names.is_empty() {
            "none".to_owned()
        } else {
            names.join(", ")
        };
        writeln!(
            std::io::stdout(),
            "the configuration is in order; apps: {apps}"
        )?;
        return Ok(ExitCode::SUCCESS);
    }
    begin_log(arguments.log_format, filter)?;
    // No reason not to start: what is begun must be ended.
    for mistake in logins {
        tracing::warn!("{mistake}");
    }
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build()
        .context("the runtime cannot be made")?;
    runtime.block_on(async {
        let mut terminate = signal(SignalKind::terminate()).context("SIGTERM cannot be heard")?;
        let mut interrupt = signal(SignalKind::interrupt()).context("SIGINT cannot be heard")?;
        let end = async {
            tokio::select! {
                _ = terminate.recv() => {}
                _ = interrupt.recv() => {}
            }
            tracing::info!("told to end");
        };
        host::run(config, end)
            .await
            .context("the agent ends; traffic is not touched")
    })?;
    Ok(ExitCode::SUCCESS)
}

/// Tells every mistake of the configuration.
fn tell(mistakes: &[String]) -> anyhow::Result<ExitCode> {
    let mut out = std::io::stderr().lock();
    for mistake in mistakes {
        writeln!(out, "{mistake}")?;
    }
    let count = mistakes.len();
    let noun = if count == 1 { "mistake" } else { "mistakes" };
    writeln!(out, "{count} {noun} found")?;
    Ok(ExitCode::FAILURE)
}

/// Asks the agent that runs for a plan, and prints it.
fn plan(config: &Path, app: AppName, change: Change) -> anyhow::Result<ExitCode> {
    let socket = match config::read_socket(config) {
        Ok(socket) => socket,
        Err(mistakes) => return tell(&mistakes),
    };
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .context("the runtime cannot be made")?;
    let query = Query::Plan { app, change };
    let neighbour = Neighbour::at(&socket);
    let answer = runtime.block_on(neighbour.query::<PlanView>(&query, PLAN));
    match answer {
        Ok(plan) => {
            writeln!(std::io::stdout(), "{}", plan.text.trim_end())?;
            Ok(ExitCode::SUCCESS)
        }
        Err(error) => {
            let hint = error.hint();
            let mut out = std::io::stderr().lock();
            writeln!(out, "cutover-agent: {:#}", anyhow::Error::from(error))?;
            if let Some(hint) = hint {
                writeln!(out, "hint: {hint}")?;
            }
            Ok(ExitCode::FAILURE)
        }
    }
}

fn filter(text: &str) -> Result<EnvFilter, String> {
    EnvFilter::try_new(text).map_err(|error| {
        format!("--log (CUTOVER_LOG): {text:?} is no filter: {error} (hint: write info, or cutover_agent=debug)")
    })
}

fn begin_log(format: LogFormat, filter: EnvFilter) -> anyhow::Result<()> {
    let log = tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(std::io::stderr);
    let begun = match format {
        LogFormat::Text => log.with_ansi(std::io::stderr().is_terminal()).try_init(),
        LogFormat::Json => log.json().flatten_event(true).try_init(),
    };
    begun.map_err(|error| anyhow::anyhow!("the log cannot be begun: {error}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_filter_that_is_none_is_a_mistake_with_a_hint() {
        for good in ["info", "cutover_agent=debug", "warn,cutover_agent=trace"] {
            assert!(filter(good).is_ok(), "{good}");
        }
        let mistake = filter("cutover_agent=loud").err().unwrap();
        assert!(mistake.contains("--log"), "{mistake}");
        assert!(mistake.contains("hint: write info"), "{mistake}");
    }
}
