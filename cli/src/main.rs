//! `cutover`: signs a call, follows the deploy, tells the outcome.
//!
//! What a workflow step runs, and what a person runs on the host or a laptop.
//! It decides nothing about a deploy: it says what the agent says, and ends
//! with the status that [`cutover_wire::exit::Exit`] gives it.
//!
//! In reading order: [`arguments`] become an [`endpoint`] and a [`caller`];
//! [`deploy`] and its siblings call, [`follow`] reads the events, [`ending`]
//! is how it ended, and [`output`] and [`github`] tell it.

mod abort;
mod answer;
mod arguments;
mod backoff;
mod caller;
mod command;
mod connection;
mod decide;
mod deploy;
mod duration;
mod ending;
mod endpoint;
mod failure;
mod follow;
mod github;
mod history;
mod look;
mod output;
mod secret;
mod signals;
mod sse;
mod verify;
mod waiting;

use std::process::ExitCode;

use clap::Parser as _;

fn main() -> ExitCode {
    let exit = match arguments::Arguments::try_parse() {
        Ok(arguments) => command::run(arguments),
        Err(error) => command::misread(&error),
    };
    ExitCode::from(exit.code())
}
