//! The program `cutover-proxy`: command line, log, run or check.

use std::io::{self, IsTerminal as _, Write as _};
use std::path::PathBuf;
use std::process::ExitCode;

use clap::{Parser, Subcommand};
use cutover_proxy::{Options, check, run};
use mimalloc::MiMalloc;
use tracing_subscriber::EnvFilter;

/// With 512 connections a request took 8 % less processor time than with the system's
/// in our benchmark; an idle connection costs some kilobytes more.
#[global_allocator]
static ALLOCATOR: MiMalloc = MiMalloc;

/// Runs the proxy, unless a command says otherwise.
#[derive(Debug, Parser)]
#[command(
    name = "cutover-proxy",
    version,
    about,
    args_conflicts_with_subcommands = true
)]
struct CommandLine {
    #[command(subcommand)]
    command: Option<Command>,
    #[command(flatten)]
    options: Options,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Says what is wrong with a routing table, and what it needs of a proxy.
    ///
    /// Ends with 0 when this proxy can serve the table, with 1 when it or some app of
    /// it is wrong or needs more than this proxy can, and with 2 when the file cannot
    /// be read or is no table.
    Check {
        /// A table as JSON, as the control socket tells it, or a file of the state directory.
        #[arg(value_name = "FILE")]
        file: PathBuf,
    },
}

fn main() -> ExitCode {
    let line = CommandLine::parse();
    let filter = EnvFilter::try_from_env("CUTOVER_LOG").unwrap_or_else(|_| EnvFilter::new("info"));
    tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_ansi(io::stderr().is_terminal())
        .with_writer(io::stderr)
        .init();
    let ended = match line.command {
        None => run(line.options)
            .map(|()| ExitCode::SUCCESS)
            .map_err(anyhow::Error::from),
        Some(Command::Check { file }) => {
            let mut out = io::stdout().lock();
            check(&file, &mut out)
                .and_then(|checked| out.flush().map(|()| checked.into()))
                .map_err(|error| anyhow::Error::from(error).context("could not write the result"))
        }
    };
    ended.unwrap_or_else(|error| {
        tracing::error!("{error:#}");
        ExitCode::FAILURE
    })
}
