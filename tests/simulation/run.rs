//! One run: the asks of a scenario, one after the other, to an agent that dies
//! and comes back.

use std::collections::BTreeMap;
use std::future::pending;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use cutover_agent::clock::{Clock, Ids};
use cutover_agent::desk::{AppDesk, CallId, Desk, QUEUE, Refusal};
use cutover_agent::engine::{Drivers, Engine, Leases};
use cutover_agent::reporter;
use cutover_plan::id::{AppName, DeployId, ImageReference};
use cutover_plan::outcome::Outcome;
use cutover_plan::spec::{self, AppSpec};
use cutover_wire::agent::DeployView;
use cutover_wire::request::{Change, DeployRequest, Source, WindowOverride};
use tokio::sync::mpsc;
use tokio::task::JoinHandle;
use tokio::time::{Instant, sleep, timeout};

use crate::drivers::Sim;
use crate::faults::Faults;
use crate::scenario::{Ask, Behaviour, Scenario};

/// From one request of a user to the next.
const USERS_EVERY: Duration = Duration::from_millis(100);
/// How long a request stays inside; shorter, so there is one at a time.
const REQUEST_TAKES: Duration = Duration::from_millis(70);
/// From a death of the agent to its next start: systemd's pause.
const DOWN: Duration = Duration::from_secs(2);
/// An ask has ended by then, or never will.
const PATIENCE: Duration = Duration::from_secs(3600);

const SPEC: &str = r#"
image = "ghcr.io/acme/shop"
domains = ["shop.example.com"]
port = 8080
drain_deadline = "5s"

[health]
path = "/healthz"
interval = "200ms"
timeout = "1s"
deadline = "10s"

[watch]
window = "6s"
max_error_rate = "10%"

[github]
repository = "acme/shop"
"#;

/// What is known when a run is over.
pub(crate) struct Report {
    pub(crate) effects: usize,
    /// Who made each effect.
    pub(crate) makers: Vec<&'static str>,
    pub(crate) hit: usize,
    pub(crate) requests: u64,
    pub(crate) story: Vec<String>,
    /// The deploy of each ask, as it is shown, or why it was refused.
    pub(crate) ends: Vec<Result<DeployView, Ended>>,
    pub(crate) sim: Sim,
    pub(crate) images: Vec<ImageReference>,
}

pub(crate) fn app() -> AppName {
    AppName::parse("shop").unwrap()
}

fn spec(scenario: &Scenario) -> AppSpec {
    let mut text = SPEC.to_owned();
    for (there, instead) in scenario.file {
        assert!(text.contains(there), "{there:?} is not in the app's file");
        text = text.replace(there, instead);
    }
    spec::parse("apps/shop.toml", "shop", &text).unwrap_or_else(|mistakes| panic!("{mistakes:#?}"))
}

/// The agent's process: what dies when it dies.
struct Process {
    desk: Desk,
    tasks: Vec<JoinHandle<()>>,
}

impl Process {
    fn start(sim: &Sim, spec: &AppSpec) -> Self {
        let clock: Clock = {
            let sim = sim.clone();
            Arc::new(move || sim.now())
        };
        let chance = AtomicU64::new(0);
        let ids: Ids = Arc::new(move |at| {
            let mut bytes = [0; 10];
            bytes[2..].copy_from_slice(&chance.fetch_add(1, Ordering::Relaxed).to_be_bytes());
            DeployId::new(u64::try_from(at.as_millisecond()).unwrap(), bytes)
        });
        let drivers = Drivers {
            containers: Arc::new(sim.clone()),
            traffic: Arc::new(sim.clone()),
            journal: sim.journal.clone(),
            record: Arc::new(sim.clone()),
            clock: Arc::clone(&clock),
            ids,
        };
        let (commands, inbox) = mpsc::channel(QUEUE);
        let lease = Leases::default().take(&app()).unwrap();
        let mut tasks = Vec::new();
        match Engine::new(lease, spec.clone(), drivers, inbox) {
            Ok(engine) => {
                let sim = sim.clone();
                tasks.push(tokio::spawn(async move {
                    // An engine without its journal ends, and its process with it.
                    if let Err(error) = engine.run().await {
                        sim.note(format!("the agent ends: {error}"));
                        if !format!("{error:?}").contains("the agent is dead") {
                            let chain = anyhow::Error::from(error);
                            sim.world()
                                .violation(format!("the agent cannot go on: {chain:#}"));
                        }
                        sim.crashed.notify_one();
                        pending::<()>().await;
                    }
                }));
            }
            Err(error) => sim
                .world()
                .violation(format!("the agent cannot start: {error}")),
        }
        let (journal, forge) = (sim.journal.clone(), sim.clone());
        tasks.push(tokio::spawn(async move {
            let options = reporter::Options::default();
            reporter::run(journal, forge, clock, options, pending())
                .await
                .unwrap();
        }));
        let desk = AppDesk {
            spec: spec.clone(),
            engine: commands,
        };
        let desk = Desk::new(BTreeMap::from([(app(), desk)]), sim.journal.clone());
        Self { desk, tasks }
    }

    fn kill(self) {
        self.tasks.iter().for_each(JoinHandle::abort);
    }
}

pub(crate) fn simulate(scenario: &Scenario, faults: &Faults) -> Report {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_time()
        .start_paused(true)
        .build()
        .unwrap();
    runtime.block_on(run(scenario, faults))
}

async fn run(scenario: &Scenario, faults: &Faults) -> Report {
    let sim = Sim::new(faults, spec(scenario));
    let images = images(scenario, &sim);
    let open = Arc::new(AtomicBool::new(true));
    tokio::spawn(users(sim.clone(), Arc::clone(&open)));
    let mut process = Some(Process::start(&sim, &sim.spec));
    let mut begun = Vec::new();
    let mut ends = Vec::new();
    let mut next_image = 0;
    for (number, ask) in scenario.asks.iter().enumerate() {
        let change = match ask {
            Ask::Deploy(..)
            | Ask::AbortAfter(..)
            | Ask::Start(..)
            | Ask::Refused(_)
            | Ask::Override(_) => {
                next_image += 1;
                Change::Deploy {
                    image: images[next_image - 1].clone(),
                }
            }
            Ask::Again(_) => Change::Deploy {
                image: images[next_image - 1].clone(),
            },
            Ask::Rollback(_) | Ask::AbortRollbackAfter(..) => Change::Rollback {},
            Ask::Wait(_) | Ask::Until(_) => {
                let moment = match ask {
                    Ask::Until(moment) => sim.begun + *moment,
                    Ask::Wait(time) => Instant::now() + *time,
                    _ => unreachable!("they are no others"),
                };
                sim.note(format!("ask {number}: {ask:?}"));
                while Instant::now() < moment {
                    crash_or(&sim, &mut process, tokio::time::sleep_until(moment)).await;
                }
                continue;
            }
            Ask::Meddle(meddling) => {
                sim.note(format!("ask {number}: {ask:?}"));
                sim.world().meddle(*meddling);
                continue;
            }
        };
        sim.note(format!("ask {number}: {ask:?}"));
        let sent = send(&sim, &mut process, number, ask, change);
        let sent = timeout(PATIENCE, sent).await;
        let sent = sent.unwrap_or(Err(Ended::Never));
        begun.push(sent.clone());
        if !matches!(ask, Ask::Start(..)) {
            let _ = timeout(PATIENCE, end(&sim, &mut process, &sent)).await;
        }
    }
    for sent in &begun {
        let end = timeout(PATIENCE, end(&sim, &mut process, sent)).await;
        ends.push(end.unwrap_or(Err(Ended::Never)));
    }
    // What is still to be told, and users after the last deploy.
    let rest = async {
        while sim.journal.undelivered().unwrap() > 0 {
            crash_or(&sim, &mut process, sleep(Duration::from_secs(1))).await;
        }
        // Whole, even if the agent dies in it.
        while crash_or(&sim, &mut process, sleep(Duration::from_secs(20)))
            .await
            .is_none()
        {}
    };
    if timeout(PATIENCE, rest).await.is_err() {
        sim.world()
            .violation("GitHub was not told everything".to_owned());
    }
    open.store(false, Ordering::Relaxed);
    // The last request leaves.
    sleep(Duration::from_secs(1)).await;
    if let Some(process) = process {
        process.kill();
    }
    let (makers, hit, story) = sim.result();
    let requests = sim.world().requests;
    Report {
        effects: makers.len(),
        makers,
        hit,
        requests,
        story,
        ends,
        sim,
        images,
    }
}

/// Why there is no deploy to look at.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Ended {
    /// The call was refused with this code.
    Refused(String),
    /// The agent forgot the deploy.
    Forgotten,
    /// It did not end.
    Never,
}

/// Sends one call, as the command line does, until it is answered.
async fn send(
    sim: &Sim,
    process: &mut Option<Process>,
    number: usize,
    ask: &Ask,
    change: Change,
) -> Result<DeployId, Ended> {
    let request = DeployRequest {
        app: app(),
        change,
        source: Source {
            sha: Some("a".repeat(40)),
            actor: Some("ada".to_owned()),
            ..Source::default()
        },
        window_override: matches!(ask, Ask::Override(_)).then(|| WindowOverride {
            why: "the shop is down".to_owned(),
        }),
        registry: None,
    };
    let asked = Instant::now();
    let deploy = loop {
        let desk = desk(process);
        let call = CallId(format!("call-{number}"));
        let answer = desk.deploy(call, request.clone());
        match crash_or(sim, process, answer).await {
            Some(Ok(deploy)) => break deploy,
            Some(Err(refusal)) if refusal.status == 503 => {
                crash_or(sim, process, sleep(Duration::from_millis(100))).await;
            }
            Some(Err(Refusal { problem, .. })) => return Err(Ended::Refused(problem.code)),
            None => {}
        }
    };
    if let Ask::AbortAfter(after, _) | Ask::AbortRollbackAfter(after, _) = ask {
        let moment = asked + *after;
        while Instant::now() < moment {
            crash_or(sim, process, tokio::time::sleep_until(moment)).await;
        }
        loop {
            let desk = desk(process);
            let abort = desk.abort(deploy.clone(), "a person".to_owned());
            match crash_or(sim, process, abort).await {
                Some(Err(refusal)) if refusal.status == 503 => {
                    crash_or(sim, process, sleep(Duration::from_millis(100))).await;
                }
                Some(_) => break,
                None => {}
            }
        }
    }
    Ok(deploy)
}

/// Waits for the end of a deploy.
async fn end(
    sim: &Sim,
    process: &mut Option<Process>,
    sent: &Result<DeployId, Ended>,
) -> Result<DeployView, Ended> {
    let deploy = sent.clone()?;
    loop {
        // Whether it is over is cheap to know; the view is folded once.
        let record = sim.journal.deploy(&deploy).unwrap();
        match record.map(|record| record.ended_at) {
            Some(Some(_)) => {
                let view = desk(process).view(&deploy);
                let view = view.map_err(|refusal| Ended::Refused(refusal.problem.code))?;
                return view.ok_or(Ended::Forgotten);
            }
            Some(None) => {
                crash_or(sim, process, sleep(Duration::from_millis(500))).await;
            }
            None => return Err(Ended::Forgotten),
        }
    }
}

fn desk(process: &Option<Process>) -> Desk {
    process
        .as_ref()
        .map(|process| process.desk.clone())
        .unwrap()
}

/// Waits for something while the agent may die; nothing came of it then, and
/// the agent was started again.
async fn crash_or<A>(
    sim: &Sim,
    process: &mut Option<Process>,
    what: impl Future<Output = A>,
) -> Option<A> {
    tokio::select! {
        biased;
        () = sim.crashed.notified() => {
            if let Some(process) = process.take() {
                process.kill();
            }
            sim.note("the agent is dead");
            sleep(DOWN).await;
            sim.revive();
            sim.note("the agent starts");
            *process = Some(Process::start(sim, &sim.spec));
            None
        }
        answer = what => Some(answer),
    }
}

/// Users come from the first release on, one after the other, while it is open.
async fn users(sim: Sim, open: Arc<AtomicBool>) {
    while open.load(Ordering::Relaxed) {
        sleep(USERS_EVERY - REQUEST_TAKES).await;
        let taken = {
            let mut world = sim.world();
            let name = world.arrive("shop", Instant::now());
            name.and_then(|name| {
                let id = world.containers.get(&name)?.id.clone();
                Some((name, id))
            })
        };
        sleep(REQUEST_TAKES).await;
        if let Some((name, id)) = taken {
            sim.world().leave(&name, &id);
        }
    }
}

fn images(scenario: &Scenario, sim: &Sim) -> Vec<ImageReference> {
    let behaviours = scenario.asks.iter().filter_map(|ask| match ask {
        Ask::Deploy(behaviour, _) | Ask::Start(behaviour, _) => Some(*behaviour),
        Ask::AbortAfter(..) | Ask::Refused(_) | Ask::Override(_) => Some(Behaviour::Good),
        Ask::Again(_)
        | Ask::Rollback(_)
        | Ask::AbortRollbackAfter(..)
        | Ask::Wait(_)
        | Ask::Until(_)
        | Ask::Meddle(_) => None,
    });
    let numbered = behaviours.enumerate().map(|(index, behaviour)| {
        let text = format!("ghcr.io/acme/shop@sha256:{:064x}", index + 1);
        let image = ImageReference::parse(&text).unwrap();
        sim.world().images.insert(image.digest.clone(), behaviour);
        image
    });
    numbered.collect()
}

impl Ask {
    /// How it ends; none where it is refused.
    pub(crate) fn expected(&self) -> Option<Outcome> {
        match self {
            Self::Refused(_) => None,
            Self::Override(outcome)
            | Self::Start(_, outcome)
            | Self::Deploy(_, outcome)
            | Self::Again(outcome)
            | Self::AbortAfter(_, outcome)
            | Self::AbortRollbackAfter(_, outcome)
            | Self::Rollback(outcome) => Some(*outcome),
            Self::Meddle(_) | Self::Wait(_) | Self::Until(_) => unreachable!("it is no call"),
        }
    }
}
