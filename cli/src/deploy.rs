//! Deploys and rolls back: sends the call, follows it, says how it ended.
//!
//! Invariant: whatever happens, the end says what is known. A call that may
//! have arrived is never told as one that did not.

use std::cell::Cell;
use std::time::Duration;

use cutover_plan::id::{AppName, ImageReference};
use cutover_wire::agent::{Accepted, DEPLOYS};
use cutover_wire::exit::Exit;
use cutover_wire::request::{Change, DeployRequest, RegistryCredentials, Source, WindowOverride};
use tokio::time::{Instant, sleep, timeout_at};

use crate::answer::CallError;
use crate::arguments::Following;
use crate::backoff::Backoff;
use crate::caller::{Call, Caller};
use crate::duration::render;
use crate::ending::{End, Ending, Verb};
use crate::failure::Failure;
use crate::follow::{Follower, Stop};
use crate::output::Output;
use crate::secret::{REGISTRY_PASSWORD, REGISTRY_USERNAME, from_environment};
use crate::signals::Signals;

/// How long the outcome of an abort is waited for: a cancelled workflow gives
/// 7.5 seconds before it asks again, harder.
const GRACE: Duration = Duration::from_secs(5);

/// A deploy or a rollback that was asked for.
pub(crate) struct Wanted {
    pub(crate) app: AppName,
    /// None is a rollback.
    pub(crate) image: Option<ImageReference>,
    /// Why a closed deploy window does not count.
    pub(crate) override_window: Option<String>,
    pub(crate) following: Following,
}

impl Wanted {
    pub(crate) fn verb(&self) -> Verb {
        match self.image {
            Some(_) => Verb::Deploy,
            None => Verb::Rollback,
        }
    }

    /// An ending of it, of which nothing but `end` is known.
    pub(crate) fn ended(&self, end: End, elapsed: Duration) -> Ending {
        Ending {
            verb: self.verb(),
            app: Some(self.app.clone()),
            image: self.image.clone(),
            deploy: None,
            end,
            view: None,
            elapsed,
        }
    }
}

/// Carries it out and returns how it ended; prints the events on the way.
pub(crate) async fn deploy(caller: &Caller, output: &Output, wanted: &Wanted) -> Ending {
    let begun = Instant::now();
    let until = begun + wanted.following.timeout;
    let mut signals = Signals::listen();
    let accepted = match send(caller, output, wanted, until, &mut signals).await {
        Ok(accepted) => accepted,
        Err(failure) => return wanted.ended(End::Unknown(*failure), begun.elapsed()),
    };
    let deploy = accepted.value.deploy.clone();
    let image = wanted.image.as_ref().map(|image| format!(" to {image}"));
    let (noun, app) = (wanted.verb().noun(), &wanted.app);
    output.begin(&format!("{noun} of {app}{}", image.unwrap_or_default()));
    output.accepted(deploy.as_str());
    let mut follower = Follower::new(accepted.value.clone());
    let end = if accepted.interrupted {
        interrupted(caller, output, &mut follower, &accepted.value, &mut signals).await
    } else if wanted.following.detach {
        End::Detached
    } else {
        let stop = tokio::select! {
            stop = follower.follow(caller, output, until) => Some(stop),
            () = signals.next() => None,
        };
        match (follower.outcome(), stop) {
            (Some(outcome), Some(_)) => End::Known(outcome),
            (_, Some(stop)) => End::Unknown(unknown(caller, wanted, &accepted.value, stop)),
            (_, None) => {
                interrupted(caller, output, &mut follower, &accepted.value, &mut signals).await
            }
        }
    };
    let mut ending = wanted.ended(end, begun.elapsed());
    ending.deploy = Some(deploy);
    ending.view = follower.into_view();
    ending
}

struct Taken {
    value: Accepted,
    interrupted: bool,
}

async fn send(
    caller: &Caller,
    output: &Output,
    wanted: &Wanted,
    until: Instant,
    signals: &mut Signals,
) -> Result<Taken, Box<Failure>> {
    let request = request(caller, output, wanted)?;
    let call = Call::new(DEPLOYS, &request);
    let noun = wanted.verb().noun();
    let maybe_taken = Cell::new(false);
    let lost = |error: &CallError, pause: Duration| {
        maybe_taken.set(maybe_taken.get() || error.may_have_arrived());
        let failure = error.failure("");
        let cause = failure.causes.first().unwrap_or(&failure.message);
        output.note(&format!("{cause}; trying again in {}", render(pause)));
    };
    let sending = caller.persist::<Accepted>(&call, until, lost);
    tokio::pin!(sending);
    let (answered, interrupted) = tokio::select! {
        answered = &mut sending => (Some(answered), false),
        () = signals.next() => {
            output.note("interrupted: waiting for the agent's answer to the call that is on its way");
            (timeout_at(Instant::now() + GRACE, &mut sending).await.ok(), true)
        }
    };
    let look = look_later(caller, &wanted.app);
    match answered {
        Some(Ok(answer)) => Ok(Taken {
            value: answer,
            interrupted,
        }),
        Some(Err(error)) => {
            let mut failure = error.failure(&format!("for the {noun} of {}", wanted.app));
            let refused = failure.exit == Exit::Refused;
            if !refused && (maybe_taken.get() || error.may_have_arrived()) {
                failure
                    .causes
                    .push("the call may have arrived, so the deploy may be under way".to_owned());
                failure = failure.hint(look);
            } else {
                failure.causes.push("nothing was started".to_owned());
            }
            if let CallError::Refused { problem, .. } = &error
                && let (Some(deploy), None) = (&problem.deploy, &problem.hint)
            {
                failure = failure.hint(format!("deploy {deploy} is in the way: wait for it, or stop it: cutover abort --deploy {deploy}{}", caller.endpoint.options()));
            }
            Err(Box::new(failure))
        }
        None => {
            let message = format!(
                "interrupted before the agent answered the call for the {noun} of {}",
                wanted.app
            );
            let failure = Failure::new(Exit::Unreachable, message);
            Err(Box::new(
                failure.hint(format!("the call may have arrived; {look}")),
            ))
        }
    }
}

fn request(
    caller: &Caller,
    output: &Output,
    wanted: &Wanted,
) -> Result<DeployRequest, Box<Failure>> {
    let source = match output.workflow() {
        Some(workflow) => workflow.source(),
        None => Source {
            actor: from_environment("USER"),
            ..Source::default()
        },
    };
    let change = match &wanted.image {
        Some(image) => Change::Deploy {
            image: image.clone(),
        },
        None => Change::Rollback {},
    };
    let request = DeployRequest {
        app: wanted.app.clone(),
        change,
        source,
        window_override: wanted
            .override_window
            .clone()
            .map(|why| WindowOverride { why }),
        registry: registry(caller)?,
    };
    match request.problem() {
        None => Ok(request),
        Some(problem) => {
            let failure = Failure::usage("the call cannot be made");
            let mut failure = failure
                .hint("look at the environment of this step: it is where these values come from");
            failure.causes.push(problem);
            Err(Box::new(failure))
        }
    }
}

fn registry(caller: &Caller) -> Result<Option<RegistryCredentials>, Box<Failure>> {
    let given = (
        from_environment(REGISTRY_USERNAME),
        from_environment(REGISTRY_PASSWORD),
    );
    let credentials = match given {
        (None, None) => return Ok(None),
        (Some(username), Some(password)) => RegistryCredentials { username, password },
        (Some(_), None) => return Err(half(REGISTRY_USERNAME, REGISTRY_PASSWORD)),
        (None, Some(_)) => return Err(half(REGISTRY_PASSWORD, REGISTRY_USERNAME)),
    };
    if !caller.endpoint.is_private() {
        let failure = Failure::usage("registry credentials are not sent over http://");
        return Err(Box::new(failure.hint(format!(
            "use https://, or unset {REGISTRY_USERNAME} and {REGISTRY_PASSWORD}"
        ))));
    }
    Ok(Some(credentials))
}

fn half(given: &str, missing: &str) -> Box<Failure> {
    let failure = Failure::usage(format!("{given} is set and {missing} is not"));
    Box::new(failure.hint("set both, or none where the registry lets everybody pull"))
}

/// What is known when following stopped without an outcome.
fn unknown(caller: &Caller, wanted: &Wanted, accepted: &Accepted, stop: Stop) -> Failure {
    let (noun, app) = (wanted.verb().noun(), &wanted.app);
    let message = format!("how the {noun} of {app} ends is not known");
    let failure = Failure::new(Exit::Unreachable, message);
    let mut failure = match stop {
        Stop::Barred(error) => failure.because(&error),
        Stop::Over | Stop::Late => failure,
    };
    if failure.causes.is_empty() {
        let limit = render(wanted.following.timeout);
        failure.causes.push(format!(
            "it was not over, or the agent was not reached, within {limit} (--timeout)"
        ));
    }
    let (deploy, options) = (&accepted.deploy, caller.endpoint.options());
    failure.hint(format!(
        "the agent goes on without us; {}; to stop it: cutover abort --deploy {deploy}{options}",
        look_later(caller, app)
    ))
}

fn look_later(caller: &Caller, app: &AppName) -> String {
    format!(
        "look with: cutover status --app {app}{}",
        caller.endpoint.options()
    )
}

/// A signal came: asks for the abort and waits a little for the outcome.
async fn interrupted(
    caller: &Caller,
    output: &Output,
    follower: &mut Follower,
    accepted: &Accepted,
    signals: &mut Signals,
) -> End {
    output.note("interrupted: asking the agent to abort");
    let until = Instant::now() + GRACE;
    let work = async {
        let asked = ask_abort(caller, accepted, until).await;
        if asked.is_ok() {
            follower.follow(caller, output, until).await;
        }
        asked
    };
    let asked = tokio::select! {
        asked = work => Some(asked),
        () = signals.next() => None,
    };
    if let Some(outcome) = follower.outcome() {
        return End::Known(outcome);
    }
    let (deploy, options) = (&accepted.deploy, caller.endpoint.options());
    let failure = match asked {
        Some(Ok(())) => Failure::new(
            Exit::Aborted,
            "interrupted: the agent takes the deploy back",
        )
        .hint(format!("see how it ends with: cutover status{options}")),
        Some(Err(error)) => error
            .failure("that the deploy must be aborted")
            .hint(format!(
                "the deploy goes on; stop it with: cutover abort --deploy {deploy}{options}"
            )),
        None => Failure::new(
            Exit::Unreachable,
            "interrupted twice: whether the agent aborts is not known",
        )
        .hint(format!(
            "make sure with: cutover abort --deploy {deploy}{options}"
        )),
    };
    let exit = match failure.exit {
        Exit::Aborted => Exit::Aborted,
        // Whatever kept the abort from being asked, the outcome is not known.
        _ => Exit::Unreachable,
    };
    End::Unknown(Failure { exit, ..failure })
}

async fn ask_abort(caller: &Caller, accepted: &Accepted, until: Instant) -> Result<(), CallError> {
    let mut backoff = Backoff::new();
    loop {
        let asked = caller.abort(&accepted.deploy, Some(&accepted.token), None, until);
        let error = match timeout_at(until, asked).await {
            Ok(Ok(())) => return Ok(()),
            Ok(Err(error)) => error,
            Err(_) => CallError::Silent(GRACE),
        };
        let pause = backoff.pause();
        if !error.may_pass() || Instant::now() + pause >= until {
            return Err(error);
        }
        sleep(pause).await;
    }
}
