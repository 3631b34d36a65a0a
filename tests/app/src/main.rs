//! Runs the demo app; its environment says how it behaves.

use std::process::ExitCode;

use cutover_demo_app::behaviour::Behaviour;
use cutover_demo_app::log;
use cutover_demo_app::server::{self, End};

fn main() -> ExitCode {
    let behaviour = match Behaviour::parse(|name| std::env::var(name).ok()) {
        Ok(behaviour) => behaviour,
        Err(error) => {
            log(&format!("error: {error}"));
            return ExitCode::from(2);
        }
    };
    if let Some(reason) = &behaviour.exit_at_start {
        log(&format!("error: {reason}"));
        return ExitCode::FAILURE;
    }
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build();
    let end = runtime.and_then(|runtime| runtime.block_on(server::run(behaviour)));
    match end {
        Ok(End::Stopped) => ExitCode::SUCCESS,
        Ok(End::Crashed) => ExitCode::FAILURE,
        Err(error) => {
            log(&format!("error: {error}"));
            ExitCode::FAILURE
        }
    }
}
