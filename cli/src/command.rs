//! Runs what the command line asks and tells the end everywhere it must be
//! told. The only place where a failure becomes an exit status.

use std::time::{Duration, Instant};
use std::{env, fs};

use cutover_wire::exit::Exit;
use cutover_wire::request::{Change, Decision};
use tokio::runtime::{Builder, Runtime};

use crate::arguments::{Arguments, Command, Connection, Format, Switch};
use crate::caller::Caller;
use crate::deploy::{Wanted, deploy};
use crate::ending::{End, Ending, Verb};
use crate::failure::Failure;
use crate::output::{Output, complain};
use crate::{abort, decide, history, look, secret, verify};

/// Runs a command that was understood.
pub(crate) fn run(arguments: Arguments) -> Exit {
    let begun = Instant::now();
    let output = Output::new(arguments.format, arguments.github);
    output.mask(&secrets(&arguments.connection));
    let runtime = match runtime() {
        Ok(runtime) => runtime,
        Err(failure) => return told(&output, &other(End::Unknown(failure), begun.elapsed())),
    };
    let exit = runtime.block_on(carry_out(arguments, &output, begun));
    // A name that is still being looked up must not keep the process.
    runtime.shutdown_background();
    exit
}

/// Tells why a command line was not understood; help and version are answers.
pub(crate) fn misread(error: &clap::Error) -> Exit {
    if !error.use_stderr() {
        complain_if(error.print().err());
        return Exit::Done;
    }
    let output = Output::new(Format::Text, Switch::Auto);
    if output.workflow().is_none() {
        complain_if(error.print().err());
        return Exit::Usage;
    }
    let text = error.render().to_string();
    let text = text.trim().trim_start_matches("error: ");
    let failure =
        Failure::usage(text).hint("see the step's inputs; cutover --help tells each option");
    told(&output, &other(End::Unknown(failure), Duration::ZERO))
}

async fn carry_out(arguments: Arguments, output: &Output, begun: Instant) -> Exit {
    let caller = Caller::new(&arguments.connection);
    let (app, image, override_window, following) = match arguments.command {
        Command::Deploy {
            app,
            image,
            following,
            override_window,
        } => (app, Some(image), override_window, following),
        Command::Rollback { app, following } => (app, None, None, following),
        question => {
            let answered = match caller {
                Ok(caller) => ask(&caller, output, question).await,
                Err(failure) => Err(failure),
            };
            return match answered {
                Ok(()) => {
                    output.answered(&other(End::Answered, begun.elapsed()));
                    Exit::Done
                }
                Err(failure) => told(output, &other(End::Unknown(failure), begun.elapsed())),
            };
        }
    };
    let wanted = Wanted {
        app,
        image,
        override_window,
        following,
    };
    let ending = match caller {
        Ok(caller) => deploy(&caller, output, &wanted).await,
        Err(failure) => wanted.ended(End::Unknown(failure), begun.elapsed()),
    };
    told(output, &ending)
}

async fn ask(caller: &Caller, output: &Output, question: Command) -> Result<(), Failure> {
    match question {
        Command::Plan {
            app,
            image,
            rollback: _,
        } => {
            let change = image.map_or(Change::Rollback {}, |image| Change::Deploy { image });
            look::plan(caller, output, app, change).await
        }
        Command::Status { app } => look::status(caller, output, app).await,
        Command::Abort { which, timeout } => abort::abort(caller, output, &which, timeout).await,
        Command::Approve { which } => {
            decide::decide(caller, output, &which, Decision::Approve {}).await
        }
        Command::Reject { which, why } => {
            decide::decide(caller, output, &which, Decision::Reject { why }).await
        }
        Command::Promote { which, full } => {
            decide::decide(caller, output, &which, Decision::Promote { full }).await
        }
        Command::History { app, limit } => history::history(caller, output, app, limit).await,
        Command::Verify => verify::verify(caller, output).await,
        Command::Deploy { .. } | Command::Rollback { .. } => unreachable!("these are no questions"),
    }
}

fn told(output: &Output, ending: &Ending) -> Exit {
    output.end(ending);
    ending.exit()
}

fn other(end: End, elapsed: Duration) -> Ending {
    Ending {
        verb: Verb::Other,
        app: None,
        image: None,
        deploy: None,
        end,
        view: None,
        elapsed,
    }
}

/// Every secret that this process was given, as it was written.
fn secrets(connection: &Connection) -> Vec<String> {
    let variables = [secret::VARIABLE, secret::REGISTRY_PASSWORD];
    let mut secrets: Vec<_> = variables
        .iter()
        .filter_map(|name| env::var(name).ok())
        .collect();
    secrets.extend(
        connection
            .secret_file
            .as_ref()
            .and_then(|path| fs::read_to_string(path).ok()),
    );
    secrets
}

fn runtime() -> Result<Runtime, Failure> {
    let built = Builder::new_current_thread().enable_all().build();
    built.map_err(|error| {
        Failure::new(Exit::Failed, "this program cannot start")
            .because(&error)
            .hint("the machine may be out of memory or file descriptors")
    })
}

fn complain_if(error: Option<std::io::Error>) {
    if let Some(error) = error {
        complain(&error.to_string());
    }
}
