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
    if std::env::args().nth(1).as_deref() == Some("ready") {
        return ready(&behaviour);
    }
    if let Ok(point) = std::env::var("CUTOVER_HOOK") {
        return hook(&point);
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

/// As `/app ready`, it says whether the app in this container is well.
fn ready(behaviour: &Behaviour) -> ExitCode {
    let Some(reason) = &behaviour.unhealthy else {
        return ExitCode::SUCCESS;
    };
    log(&format!("error: {reason}"));
    ExitCode::FAILURE
}

/// As a hook of a deploy, it serves nobody: it says what it was given, takes
/// `HOOK_TAKES_S`, and ends with `HOOK_EXIT`.
fn hook(point: &str) -> ExitCode {
    let variable = |name: &str| std::env::var(name).unwrap_or_default();
    let given: Vec<_> = std::env::args().skip(1).collect();
    let [app, release] = ["CUTOVER_APP", "CUTOVER_RELEASE"].map(variable);
    log(&format!(
        "hook {point} of {app} {release}: {}",
        given.join(" ")
    ));
    let takes = variable("HOOK_TAKES_S").parse().unwrap_or(0);
    std::thread::sleep(std::time::Duration::from_secs(takes));
    match variable("HOOK_EXIT").parse() {
        Ok(0) | Err(_) => ExitCode::SUCCESS,
        Ok(code) => {
            log("error: relation \"orders\" does not exist");
            ExitCode::from(code)
        }
    }
}
