//! A host in memory: containers, the proxy's route and what the journal
//! taught. It carries a deploy out as an engine would, with faults on order.

use std::time::Duration;

use cutover_plan::compile::{self, CompileError, Request};
use cutover_plan::event::{Cursor, Event, Failure, FailureClass, Finding};
use cutover_plan::id::{AppName, Digest, ImageReference, ReleaseNumber, Repository, Slot};
use cutover_plan::observed::{Condition, Observed, ObservedContainer};
use cutover_plan::outcome::Outcome;
use cutover_plan::plan::{Kind, Plan};
use cutover_plan::spec::{self, AppSpec};
use cutover_plan::state::{DeployState, Next};
use cutover_plan::step::Step;
use cutover_plan::{history, lint};
use jiff::Timestamp;

/// What becomes of a step.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Fate {
    /// It is done.
    Done,
    /// It fails, and nothing of it was done.
    Fails(FailureClass),
    /// It fails, although all of it was done: the answer was lost.
    FailsLate(FailureClass),
    /// A person aborts the deploy, where he still can, before anything of it was done.
    Aborted,
    /// The agent dies after it was done, before it could write that down.
    Crash,
    /// The agent dies before anything of it was done.
    Died,
}

/// More steps than any deploy of these tests takes, crashes included.
const MAX_EVENTS: usize = 2_000;

#[derive(Debug, Clone)]
pub(crate) struct Host {
    pub(crate) spec: AppSpec,
    pub(crate) seen: Observed,
    /// Where the proxy sends new requests.
    pub(crate) routed: Option<ReleaseNumber>,
}

/// A deploy that is over.
#[derive(Debug)]
pub(crate) struct Told {
    pub(crate) outcome: Outcome,
    pub(crate) events: Vec<Event>,
    pub(crate) state: DeployState,
}

impl Told {
    /// The steps as they were begun, in the words of the vocabulary.
    pub(crate) fn steps(&self) -> String {
        let mut state = DeployState::begin(&self.events[0]).expect("the first event");
        let mut words = Vec::new();
        for event in &self.events[1..] {
            state = state.apply(event).expect("a legal event");
            if let Event::StepStarted { at, .. } = event {
                let name = state.step(*at).map_or("?", Step::name);
                words.push(match at {
                    Cursor::Forward(_) => name.to_owned(),
                    Cursor::Back(_) => format!("-{name}"),
                });
            }
        }
        words.join(" ")
    }
}

impl Host {
    pub(crate) fn new() -> Self {
        Self {
            spec: spec(),
            seen: Observed::default(),
            routed: None,
        }
    }

    /// The plan of a request; every plan that these tests see is linted.
    pub(crate) fn plan(&self, request: &Request) -> Result<Plan, CompileError> {
        let plan = compile::compile(&self.spec, &self.seen, request)?;
        let violations = lint::lint(&plan, &self.seen);
        assert!(violations.is_empty(), "{plan}{violations:#?}\n{self:#?}");
        Ok(plan)
    }

    pub(crate) fn deploy(&mut self, number: u8) -> Told {
        self.carry_out(&image(number), |_, _| Fate::Done)
    }

    pub(crate) fn rollback(&mut self) -> Told {
        self.carry_out(&Request::Rollback, |_, _| Fate::Done)
    }

    /// A deploy in which every step of this name has this fate.
    pub(crate) fn deploy_but(&mut self, number: u8, name: &str, fate: Fate) -> Told {
        self.carry_out(&image(number), but(name, fate))
    }

    pub(crate) fn rollback_but(&mut self, name: &str, fate: Fate) -> Told {
        self.carry_out(&Request::Rollback, but(name, fate))
    }

    pub(crate) fn carry_out(
        &mut self,
        request: &Request,
        mut fate: impl FnMut(Cursor, &Step) -> Fate,
    ) -> Told {
        let mut events = vec![accepted(request)];
        let mut state = DeployState::begin(&events[0]).expect("the first event");
        loop {
            assert!(events.len() < MAX_EVENTS, "{:#?}", state.phase);
            let event = match state.next() {
                Next::Nothing => break,
                Next::End(outcome) => Event::Ended { outcome },
                Next::Plan => match self.plan(request) {
                    Ok(plan) => Event::Planned {
                        plan: Box::new(plan),
                    },
                    Err(error) => Event::PlanRefused {
                        failure: Failure::new(FailureClass::Request, error.to_string()),
                    },
                },
                Next::GiveUp { at } => Event::StepFailed {
                    at,
                    failure: Failure::new(FailureClass::Host, "died too often"),
                },
                Next::Step { at, step, attempt } => {
                    let step = step.clone();
                    let since = Timestamp::UNIX_EPOCH;
                    let started = Event::StepStarted { at, attempt, since };
                    state = self.take(state, started, &mut events);
                    let fate = match &step {
                        // The step looks, and stops nobody who has users: a shift
                        // may have been done though its answer was lost.
                        Step::Retire { release, .. }
                            if matches!(at, Cursor::Back(_)) && self.routed == Some(*release) =>
                        {
                            Fate::Fails(FailureClass::Host)
                        }
                        _ => fate(at, &step),
                    };
                    if matches!(fate, Fate::Done | Fate::FailsLate(_) | Fate::Crash) {
                        self.perform(&step);
                    }
                    let abort = Event::AbortRequested { by: "ann".into() };
                    match fate {
                        Fate::Aborted if state.clone().apply(&abort).is_ok() => abort,
                        Fate::Aborted | Fate::Done => {
                            self.perform(&step);
                            Event::StepFinished {
                                at,
                                finding: Finding::Done,
                            }
                        }
                        Fate::Fails(class) | Fate::FailsLate(class) => Event::StepFailed {
                            at,
                            failure: Failure::new(class, format!("{} failed", step.name())),
                        },
                        Fate::Crash | Fate::Died => continue,
                    }
                }
            };
            state = self.take(state, event, &mut events);
        }
        Told {
            outcome: state.outcome().expect("it is over"),
            events,
            state,
        }
    }

    fn take(&mut self, state: DeployState, event: Event, events: &mut Vec<Event>) -> DeployState {
        history::fold(&mut self.seen.releases, &state, &event);
        let state = state.apply(&event).expect("a legal event");
        events.push(event);
        state
    }

    /// What a step does to the world, in such a way that it can be done twice.
    fn perform(&mut self, step: &Step) {
        match step {
            Step::Start { release, slot, .. } => {
                let there = self.seen.containers.iter().any(|c| c.release == *release);
                if !there {
                    self.add(release.0, *slot, Condition::Healthy);
                }
            }
            Step::Gate { release, .. } => assert!(self.seen.is_healthy(*release)),
            Step::Shift { to, .. } => {
                if let Some(to) = to {
                    assert!(self.runs(*to), "users are sent to {to}, which does not run");
                }
                self.routed = *to;
            }
            Step::Retire { release, .. } => {
                assert_ne!(self.routed, Some(*release), "{release} has users");
                self.seen.containers.retain(|c| c.release != *release);
            }
            Step::Watch { release, .. } => assert_eq!(self.routed, Some(*release)),
            Step::Standby { release } => assert!(self.runs(*release)),
            Step::Preflight { .. }
            | Step::Pull { .. }
            | Step::Drain { .. }
            | Step::Prune { .. } => {}
        }
    }

    pub(crate) fn runs(&self, release: ReleaseNumber) -> bool {
        let mut of_release = self.seen.containers.iter().filter(|c| c.release == release);
        of_release.any(|c| c.condition != Condition::Stopped)
    }

    pub(crate) fn add(&mut self, release: u32, slot: Slot, condition: Condition) {
        self.seen.containers.push(ObservedContainer {
            id: format!("c{release}"),
            release: ReleaseNumber(release),
            slot,
            condition,
        });
    }

    /// Every container of the release is in this condition from now on.
    pub(crate) fn set(&mut self, release: u32, condition: Condition) {
        let all = self.seen.containers.iter_mut();
        let of_release = all.filter(|c| c.release == ReleaseNumber(release));
        of_release.for_each(|c| c.condition = condition);
    }

    /// Where the users are and what runs, in a line: `v2 serves, v1 stands by; v1 v2 run`.
    pub(crate) fn told(&self) -> String {
        let releases = &self.seen.releases;
        assert_eq!(self.routed, releases.serving, "the journal knows the route");
        let name = |number: Option<ReleaseNumber>| {
            number.map_or_else(|| "nobody".to_owned(), |number| number.to_string())
        };
        let standing = releases.known.values().map(|known| {
            let word = format!("{:?}", known.standing).to_lowercase();
            format!("{} {word}", known.release.number)
        });
        let run: Vec<_> = self.seen.present().iter().map(|n| n.to_string()).collect();
        format!(
            "{} serves, {} stands by; run: {}; {}",
            name(releases.serving),
            name(releases.standby),
            run.join(" "),
            standing.collect::<Vec<_>>().join(", ")
        )
    }
}

fn but(name: &str, fate: Fate) -> impl FnMut(Cursor, &Step) -> Fate {
    let name = name.to_owned();
    move |at, step| match at {
        Cursor::Forward(_) if step.name() == name => fate,
        Cursor::Back(_) if name == format!("-{}", step.name()) => fate,
        Cursor::Forward(_) | Cursor::Back(_) => Fate::Done,
    }
}

pub(crate) fn accepted(request: &Request) -> Event {
    let (kind, image) = match request {
        Request::Deploy { image, .. } => (Kind::Deploy, Some(image.clone())),
        Request::Rollback => (Kind::Rollback, None),
    };
    Event::Accepted {
        app: app(),
        kind,
        image,
        by: None,
    }
}

pub(crate) fn app() -> AppName {
    AppName::parse("shop").expect("a name")
}

pub(crate) fn spec() -> AppSpec {
    let text = "image = \"ghcr.io/acme/shop\"\ndomains = [\"shop.example.com\"]\nport = 8080";
    let mut spec = spec::parse("shop.toml", "shop", text).expect("a good file");
    spec.health.deadline = Duration::from_secs(30);
    spec
}

/// The request to deploy the image of this number.
pub(crate) fn image(number: u8) -> Request {
    Request::Deploy {
        image: reference(number),
        fingerprint: "f1".to_owned(),
        commit: None,
    }
}

pub(crate) fn digest(number: u8) -> Digest {
    Digest::parse(&format!("sha256:{}", format!("{number:02x}").repeat(32))).expect("a digest")
}

pub(crate) fn reference(number: u8) -> ImageReference {
    ImageReference {
        repository: Repository::parse("ghcr.io/acme/shop").expect("a repository"),
        digest: digest(number),
    }
}
