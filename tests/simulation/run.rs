//! One run: the asks of a scenario, one after the other, to an agent that dies
//! and comes back.

use std::collections::BTreeMap;
use std::future::pending;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use cutover_agent::clock::{Clock, Ids};
use cutover_agent::desk::{AppDesk, Desk, QUEUE};
use cutover_agent::engine::{Drivers, Engine, Leases};
use cutover_agent::reporter;
use cutover_plan::id::{AppName, DeployId, ImageReference};
use cutover_plan::spec::{self, AppSpec};
use cutover_wire::agent::DeployView;
use cutover_wire::request::Change;
use tokio::sync::mpsc;
use tokio::task::JoinHandle;
use tokio::time::{Instant, sleep, timeout};

use crate::call::{end, say, send, until, until_moment};
use crate::check;
use crate::drivers::Sim;
use crate::faults::Faults;
use crate::scenario::{Ask, Edit, Scenario};
use crate::users::REQUEST_TAKES;

/// From one request of a user to the next.
const USERS_EVERY: Duration = Duration::from_millis(100);
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
    /// Those of the asks at its begin in which no fault is tried.
    pub(crate) first: usize,
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

/// Writes into the app's file, and reads what it says then.
fn edit(text: &mut String, edits: &[Edit]) -> AppSpec {
    for (there, instead) in edits {
        assert!(text.contains(there), "{there:?} is not in the app's file");
        *text = text.replace(there, instead);
    }
    spec::parse("apps/shop.toml", "shop", text).unwrap_or_else(|mistakes| panic!("{mistakes:#?}"))
}

/// The agent's process: what dies when it dies.
pub(crate) struct Process {
    pub(crate) desk: Desk,
    tasks: Vec<JoinHandle<()>>,
}

impl Process {
    fn start(sim: &Sim) -> Self {
        let spec = sim.spec();
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
            spec,
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
    let mut file = SPEC.to_owned();
    let spec = edit(&mut file, scenario.file);
    let sim = Sim::new(scenario, faults, spec);
    let images = images(scenario, &sim);
    let open = Arc::new(AtomicBool::new(true));
    tokio::spawn(users(sim.clone(), Arc::clone(&open)));
    let mut process = Some(Process::start(&sim));
    let mut begun: Vec<Result<DeployId, Ended>> = Vec::new();
    let mut ends = Vec::new();
    let mut next_image = 0;
    let mut first = 0;
    for (number, ask) in scenario.asks.iter().enumerate() {
        sim.note(format!("ask {number}: {ask:?}"));
        if number == scenario.spared {
            first = sim.effects();
        }
        let newest = begun.last().and_then(|sent| sent.as_ref().ok());
        next_image += usize::from(ask.brings().is_some());
        let change = match ask {
            Ask::Rollback(_) | Ask::RollbackRefused(_) | Ask::AbortRollbackAfter(..) => {
                Change::Rollback {}
            }
            Ask::Earlier(number, _) => Change::Deploy {
                image: images[number - 1].clone(),
            },
            Ask::Wait(time) => {
                until(&sim, &mut process, Instant::now() + *time).await;
                continue;
            }
            Ask::Until(moment) => {
                until(&sim, &mut process, sim.begun + *moment).await;
                continue;
            }
            Ask::Await(moment) => {
                let so_far = until_moment(&sim, &mut process, newest, *moment);
                let _ = timeout(PATIENCE, so_far).await;
                continue;
            }
            Ask::Say(word) => {
                let said = say(&sim, &mut process, newest, *word);
                let said = timeout(PATIENCE, said).await.unwrap_or_default();
                if let Some(refusal) = said.filter(|_| faults.points.is_empty()) {
                    let what = format!("{word:?} was refused: {}", refusal.problem.message);
                    sim.world().violation(what);
                }
                continue;
            }
            Ask::File(edits) => {
                sim.write_file(edit(&mut file, edits));
                if let Some(process) = process.take() {
                    process.kill();
                }
                process = Some(Process::start(&sim));
                continue;
            }
            Ask::Meddle(meddling) => {
                sim.world().meddle(*meddling);
                continue;
            }
            _ => Change::Deploy {
                image: images[next_image - 1].clone(),
            },
        };
        let sent = send(&sim, &mut process, number, ask, change);
        let sent = timeout(PATIENCE, sent).await;
        let sent = sent.unwrap_or(Err(Ended::Never));
        begun.push(sent.clone());
        if !matches!(ask, Ask::Start(..) | Ask::Earlier(..)) {
            let _ = timeout(PATIENCE, end(&sim, &mut process, &sent)).await;
            look_behind(&sim, faults);
        }
    }
    for sent in &begun {
        let end = timeout(PATIENCE, end(&sim, &mut process, sent)).await;
        ends.push(end.unwrap_or(Err(Ended::Never)));
    }
    look_behind(&sim, faults);
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
    sim.world().tick("shop", Instant::now());
    if let Some(process) = process {
        process.kill();
    }
    let (makers, hit, story) = sim.result();
    let requests = sim.world().requests;
    Report {
        effects: makers.len(),
        first,
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

/// Waits for something while the agent may die; nothing came of it then, and
/// the agent was started again.
pub(crate) async fn crash_or<A>(
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
            sim.revive().await;
            sim.note("the agent starts");
            *process = Some(Process::start(sim));
            None
        }
        answer = what => Some(answer),
    }
}

/// What a deploy put beside the users is gone with its end, and not only once the
/// idle engine looks at the route, unless the proxy refused that.
fn look_behind(sim: &Sim, faults: &Faults) {
    if faults.are_visible() || !sim.journal.unfinished(&app()).unwrap().is_empty() {
        return;
    }
    let mut world = sim.world();
    let route = world.table.apps.get("shop").cloned();
    for what in route.iter().flat_map(check::leftovers) {
        world.violation(format!("{what} was left behind by a deploy"));
    }
}

/// Users come, one after the other, while it is open.
async fn users(sim: Sim, open: Arc<AtomicBool>) {
    while open.load(Ordering::Relaxed) {
        sleep(USERS_EVERY - REQUEST_TAKES).await;
        sim.world().arrive("shop", Instant::now());
        sleep(REQUEST_TAKES).await;
        sim.world().tick("shop", Instant::now());
    }
}

fn images(scenario: &Scenario, sim: &Sim) -> Vec<ImageReference> {
    let behaviours = scenario.asks.iter().filter_map(Ask::brings);
    let numbered = behaviours.enumerate().map(|(index, behaviour)| {
        let text = format!("ghcr.io/acme/shop@sha256:{:064x}", index + 1);
        let image = ImageReference::parse(&text).unwrap();
        sim.world().images.insert(image.digest.clone(), behaviour);
        image
    });
    numbered.collect()
}
