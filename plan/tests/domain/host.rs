//! A host in memory: containers, the proxy's route and what the journal
//! taught. It carries a deploy out as an engine would, with faults on order.

use std::time::Duration;

use cutover_plan::compile::{self, CompileError, Request};
use cutover_plan::event::{Cursor, Event, Failure, FailureClass, Finding, Promotion};
use cutover_plan::id::{
    AppName, DeployId, Digest, ImageReference, ReleaseNumber, Replica, Repository, Slot,
};
use cutover_plan::observed::{Condition, Observed, ObservedContainer};
use cutover_plan::outcome::Outcome;
use cutover_plan::plan::{Kind, Plan};
use cutover_plan::spec::{self, AppSpec, Strategy};
use cutover_plan::state::{DeployState, Next};
use cutover_plan::step::{SeenBy, Step};
use cutover_plan::traffic::{Replicas, Traffic};
use cutover_plan::verdict::{Figures, Verdict};
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
    /// A newer deploy takes its place, where it still can.
    Superseded,
    /// A person does not wait for its end, where it bides its time.
    Hurried(Promotion),
    /// It waits for a person, where it can, who says no.
    Rejected,
    /// It waits for a person, where it can, and nobody comes.
    Unanswered,
    /// It gets no further until the deploy is late, where that counts.
    Stalled,
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
    pub(crate) routed: Traffic,
    /// Whether the proxy holds them.
    pub(crate) parked: bool,
    /// Whether a good release served when the deploy began.
    began_good: bool,
}

/// A deploy that is over.
#[derive(Debug)]
pub(crate) struct Told {
    pub(crate) outcome: Outcome,
    pub(crate) events: Vec<Event>,
    pub(crate) state: DeployState,
}

impl Told {
    /// Whether the old release could not be started again on the way back.
    pub(crate) fn is_stranded(&self) -> bool {
        let mut state = DeployState::begin(&self.events[0]).expect("the first event");
        let mut stranded = false;
        for event in &self.events[1..] {
            if let Event::StepFailed { at, .. } = event {
                let back = matches!(at, Cursor::Back(_));
                let step = state.step(*at);
                stranded |= back
                    && matches!(
                        step,
                        Some(Step::Start { .. } | Step::Gate { .. } | Step::Shift { .. })
                    )
                    && matches!(state.plan.as_deref(), Some(plan) if plan.strategy == Strategy::InPlace);
            }
            state = state.apply(event).expect("a legal event");
        }
        stranded
    }

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
            routed: Traffic::none(),
            parked: false,
            began_good: false,
        }
    }

    /// The plan of a request; every plan that these tests see is linted.
    pub(crate) fn plan(&self, request: &Request) -> Result<Plan, CompileError> {
        let seen = Observed {
            traffic: Some(self.routed.clone()),
            ..self.seen.clone()
        };
        let plan = compile::compile(&self.spec, &seen, request)?;
        let violations = lint::lint(&plan, &seen);
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
        self.began_good = self.serves_good();
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
                Next::Wait { until, .. } => Event::HoldExpired { time: until },
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
                        Step::Retire {
                            release, replicas, ..
                        } if matches!(at, Cursor::Back(_))
                            && self.has_users(*release, replicas) =>
                        {
                            Fate::Fails(FailureClass::Host)
                        }
                        // It asks also those that were there before.
                        Step::Gate {
                            release, replicas, ..
                        } if state.kind == Kind::Scale && !self.answer(*release, replicas) => {
                            Fate::Fails(FailureClass::Release)
                        }
                        _ => fate(at, &step),
                    };
                    if matches!(fate, Fate::Done | Fate::FailsLate(_) | Fate::Crash) {
                        self.perform(&step);
                    }
                    // An approval ends by a word and not otherwise.
                    let yes = || {
                        let asks = matches!(step, Step::Approve { .. });
                        let dies = matches!(
                            fate,
                            Fate::Crash | Fate::Died | Fate::Fails(_) | Fate::FailsLate(_)
                        );
                        (asks && !dies).then(|| self.said(&state, at, &step, Fate::Done))
                    };
                    let said = self.said(&state, at, &step, fate);
                    let said = said.or_else(|| yes().flatten());
                    match fate {
                        _ if let Some(said) = said => {
                            let (last, before) = said.split_last().expect("an event");
                            for event in before {
                                state = self.take(state, event.clone(), &mut events);
                            }
                            last.clone()
                        }
                        Fate::Done
                        | Fate::Aborted
                        | Fate::Superseded
                        | Fate::Hurried(_)
                        | Fate::Rejected
                        | Fate::Unanswered
                        | Fate::Stalled => {
                            self.perform(&step);
                            Event::StepFinished {
                                at,
                                finding: finding(&step),
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

    /// What people say to a running step, if it may be said there.
    fn said(&self, state: &DeployState, at: Cursor, step: &Step, fate: Fate) -> Option<Vec<Event>> {
        let time = Timestamp::UNIX_EPOCH;
        let until = Timestamp::MAX;
        let by = "ann".to_owned();
        let held = Event::Held {
            at,
            because: "a person should see it".to_owned(),
            until,
        };
        let events = match fate {
            Fate::Done if matches!(step, Step::Approve { .. }) => {
                vec![held, Event::Approved { by, time }]
            }
            Fate::Rejected => vec![held, Event::Rejected { by, why: None }],
            Fate::Unanswered => vec![held, Event::HoldExpired { time: until }],
            Fate::Aborted => vec![Event::AbortRequested { by }],
            Fate::Superseded => vec![Event::SupersedeRequested {
                by: DeployId::new(1, [0; 10]),
            }],
            Fate::Hurried(how) => vec![Event::PromoteRequested { by, how, time }],
            Fate::Stalled => vec![Event::Stalled {
                time: state.progress_deadline()?,
            }],
            Fate::Done | Fate::Fails(_) | Fate::FailsLate(_) | Fate::Crash | Fate::Died => {
                return None;
            }
        };
        let mut state = state.clone();
        for event in &events {
            state = state.apply(event).ok()?;
        }
        Some(events)
    }

    fn take(&mut self, state: DeployState, event: Event, events: &mut Vec<Event>) -> DeployState {
        history::fold(&mut self.seen.releases, &state, &event);
        let state = state.apply(&event).expect("a legal event");
        events.push(event);
        state
    }

    /// What a step does to the world, in such a way that it can be done twice.
    /// No step makes a third release live, or leaves the users of a good one alone.
    fn perform(&mut self, step: &Step) {
        let live = self.seen.present().len();
        self.perform_alone(step);
        let now = self.seen.present().len();
        assert!(now <= live.max(2), "{now} releases are live after {step}");
        let nobody = self.routed.releases().is_empty();
        assert!(
            !nobody || self.parked || !self.began_good,
            "nobody serves after {step}"
        );
    }

    fn serves_good(&self) -> bool {
        let mut serving = self.routed.releases().into_iter().peekable();
        let known = |n: ReleaseNumber| self.seen.releases.find(n).is_some();
        serving.peek().is_some() && serving.all(|n| known(n) && self.answers(n))
    }

    fn perform_alone(&mut self, step: &Step) {
        match step {
            Step::Start {
                release,
                slot,
                replicas,
                ..
            } => {
                // What stands under the name and does not run makes room.
                self.seen.containers.retain(|c| {
                    let meant = c.release == *release && replicas.contains(&c.replica);
                    !meant || c.condition != Condition::Stopped
                });
                for replica in replicas {
                    let mut all = self.seen.containers.iter();
                    if !all.any(|c| c.release == *release && c.replica == *replica) {
                        self.add_replica(release.0, *replica, *slot, Condition::Healthy);
                    }
                }
            }
            Step::Gate { release, .. } => assert!(self.seen.is_healthy(*release)),
            Step::Park { .. } => self.parked = true,
            Step::Shift { to, .. } => {
                for to in to.releases() {
                    assert!(self.runs(to), "users are sent to {to}, which does not run");
                }
                self.routed = to.clone();
                self.parked = false;
            }
            Step::Retire {
                release, replicas, ..
            } => {
                assert!(!self.has_users(*release, replicas), "{release} has users");
                self.seen
                    .containers
                    .retain(|c| c.release != *release || !replicas.contains(c.replica));
            }
            Step::Watch { release, rule, .. } => {
                let copies = rule.beside.is_some_and(|b| b.seen_by == SeenBy::Nobody);
                assert!(copies || self.routed.reaches(*release));
            }
            Step::Standby { release, .. } => assert!(self.runs(*release)),
            Step::Preflight { .. }
            | Step::Pull { .. }
            | Step::Hook { .. }
            | Step::Preview { .. }
            | Step::Mirror { .. }
            | Step::Approve { .. }
            | Step::Drain { .. }
            | Step::Prune { .. } => {}
        }
    }

    /// Whether a container of these gets requests.
    fn has_users(&self, release: ReleaseNumber, replicas: &Replicas) -> bool {
        let mut these = self.seen.containers.iter();
        let has = |c: &ObservedContainer| {
            c.release == release
                && replicas.contains(c.replica)
                && self.routed.includes(release, c.replica)
        };
        !self.parked && these.any(has)
    }

    /// Whether one that users get to answers.
    pub(crate) fn answers(&self, release: ReleaseNumber) -> bool {
        self.seen.without_idle().0.is_healthy(release)
    }

    fn answer(&self, release: ReleaseNumber, replicas: &Replicas) -> bool {
        let healthy = self.seen.healthy_replicas_of(release);
        match replicas {
            Replicas::All => !healthy.is_empty(),
            Replicas::Only(these) => these.is_subset(&healthy),
        }
    }

    pub(crate) fn runs(&self, release: ReleaseNumber) -> bool {
        let mut of_release = self.seen.containers.iter().filter(|c| c.release == release);
        of_release.any(|c| c.condition != Condition::Stopped)
    }

    /// One more container of a release.
    pub(crate) fn add(&mut self, release: u32, slot: Slot, condition: Condition) {
        let there = self.seen.replicas_of(ReleaseNumber(release)).len();
        let replica = Replica(u16::try_from(there).expect("a few"));
        self.add_replica(release, replica, slot, condition);
    }

    fn add_replica(&mut self, release: u32, replica: Replica, slot: Slot, condition: Condition) {
        self.seen.containers.push(ObservedContainer {
            id: format!("c{release}-{replica}"),
            release: ReleaseNumber(release),
            replica,
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
        assert_eq!(self.routed, releases.traffic, "the journal knows the route");
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

/// What a step finds where all is well.
pub(crate) fn finding(step: &Step) -> Finding {
    match step {
        Step::Watch { .. } => Finding::Judged {
            verdict: Verdict::Good {
                because: "0 of 100 requests failed".to_owned(),
                figures: Figures::default(),
            },
        },
        _ => Finding::Done,
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

/// That the release that serves has as many containers as the file says.
pub(crate) fn scale() -> Request {
    Request::Scale {
        fingerprint: "f1".to_owned(),
    }
}

pub(crate) fn accepted(request: &Request) -> Event {
    let (kind, image) = match request {
        Request::Deploy { image, .. } => (Kind::Deploy, Some(image.clone())),
        Request::Rollback | Request::RetireStandby | Request::Scale { .. } => {
            (request.kind(), None)
        }
    };
    Event::Accepted {
        app: app(),
        kind,
        image,
        by: None,
        window_override: None,
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
