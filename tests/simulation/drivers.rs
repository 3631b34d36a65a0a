//! The models of what the engine drives. Each effect goes through [`Sim::effect`],
//! where it can be interrupted.

use std::net::SocketAddr;
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;

use cutover_agent::containers::{
    Container, ContainerError, ContainerErrorKind, ContainerState, Containers, HealthAnswer,
    HookEnd, HookOrder, Room, StartOrder,
};
use cutover_agent::forge::{DeliveryError, Forge, Message};
use cutover_agent::journal::{Acceptance, Journal, JournalError, Record};
use cutover_agent::letter::Letter;
use cutover_agent::traffic::{Knock, Traffic, TrafficError};
use cutover_plan::event::Event;
use cutover_plan::id::{AppName, DeployId, Digest, ImageReference};
use cutover_plan::release::Releases;
use cutover_plan::spec::{AppSpec, Bytes};
use cutover_plan::step::HealthCheck;
use cutover_wire::proxy::{Cut, Drained, Status};
use cutover_wire::request::{RegistryCredentials, Source};
use cutover_wire::statistics::Statistics;
use cutover_wire::table::Table;
use jiff::Timestamp;
use tokio::sync::Notify;
use tokio::time::{Instant, sleep};

use crate::faults::{Fault, Faults};
use crate::scenario::Behaviour;
use crate::world::{Modelled, SUCCESSES, World};

/// How long an answer takes that is not late.
const QUICK: Duration = Duration::from_millis(5);
/// How long a late one takes.
const LATE: Duration = Duration::from_secs(20);

/// The world with its faults; clones see the same world.
#[derive(Clone)]
pub(crate) struct Sim {
    pub(crate) world: Arc<Mutex<World>>,
    pub(crate) journal: Journal,
    state: Arc<Mutex<State>>,
    /// Told when the agent dies.
    pub(crate) crashed: Arc<Notify>,
    pub(crate) begun: Instant,
    /// What the app's file says.
    pub(crate) spec: AppSpec,
}

struct State {
    faults: Faults,
    /// Who makes each effect so far.
    makers: Vec<&'static str>,
    hit: usize,
    /// Until when a maker of effects cannot be reached.
    away: Option<(&'static str, Instant)>,
    story: Vec<String>,
    dead: bool,
}

/// Why an effect was not made, in the model's words.
enum Trouble {
    Refused,
    Unreachable,
}

impl Sim {
    pub(crate) fn new(faults: &Faults, spec: AppSpec) -> Self {
        let state = State {
            faults: faults.clone(),
            makers: Vec::new(),
            hit: 0,
            away: None,
            story: Vec::new(),
            dead: false,
        };
        Self {
            world: Arc::default(),
            journal: Journal::in_memory().unwrap(),
            state: Arc::new(Mutex::new(state)),
            crashed: Arc::default(),
            spec,
            begun: Instant::now(),
        }
    }

    pub(crate) fn world(&self) -> MutexGuard<'_, World> {
        self.world.lock().unwrap()
    }

    pub(crate) fn revive(&self) {
        self.state.lock().unwrap().dead = false;
    }

    pub(crate) fn note(&self, what: impl Into<String>) {
        let at = self.begun.elapsed().as_secs_f64();
        self.state
            .lock()
            .unwrap()
            .story
            .push(format!("{at:>8.3} {}", what.into()));
    }

    /// The makers of the effects, how many faults hit, and the story.
    pub(crate) fn result(&self) -> (Vec<&'static str>, usize, Vec<String>) {
        let state = self.state.lock().unwrap();
        (state.makers.clone(), state.hit, state.story.clone())
    }

    pub(crate) fn now(&self) -> Timestamp {
        let base = Timestamp::from_second(1_780_000_000).unwrap();
        base + self.begun.elapsed()
    }

    /// The fault of the next effect; a dead agent makes none.
    fn next_fault(&self, maker: &'static str, name: &str) -> Option<Fault> {
        let mut state = self.state.lock().unwrap();
        let number = state.makers.len();
        let fault = state.faults.at(number);
        state.makers.push(maker);
        state.hit += usize::from(fault.is_some());
        if fault == Some(Fault::Unavailable) {
            state.away = Some((maker, Instant::now() + Duration::from_secs(8)));
        }
        drop(state);
        let told = fault.map_or_else(String::new, |fault| format!("  ← {fault:?}"));
        self.note(format!("{number:>4} {name}{told}"));
        fault
    }

    fn is_away(&self, maker: &'static str) -> bool {
        let state = self.state.lock().unwrap();
        state
            .away
            .is_some_and(|(one, until)| one == maker && Instant::now() < until)
    }

    fn die(&self) {
        self.state.lock().unwrap().dead = true;
        self.crashed.notify_one();
    }

    /// Makes an effect, or what the fault says instead.
    async fn effect<A>(
        &self,
        maker: &'static str,
        name: String,
        make: impl Fn(&mut World) -> A,
    ) -> Result<A, Trouble> {
        sleep(QUICK).await;
        if self.is_away(maker) {
            return Err(Trouble::Unreachable);
        }
        let fault = self.next_fault(maker, &name);
        match fault {
            Some(Fault::CrashBefore) => {
                self.die();
                std::future::pending::<()>().await;
            }
            Some(Fault::Fail) => return Err(Trouble::Refused),
            Some(Fault::Unavailable) => return Err(Trouble::Unreachable),
            _ => {}
        }
        let answer = make(&mut self.world());
        match fault {
            Some(Fault::Twice) => return Ok(make(&mut self.world())),
            Some(Fault::AnswerLost) => return Err(Trouble::Unreachable),
            Some(Fault::CrashAfter) => {
                self.die();
                std::future::pending::<()>().await;
            }
            Some(Fault::Late) => sleep(LATE).await,
            _ => {}
        }
        Ok(answer)
    }

    fn show(&self, name: &str, one: &Modelled) -> Container {
        let now = Instant::now();
        let state = match one.runs() {
            true => ContainerState::Running {
                address: one.address,
                since: self.now() - now.duration_since(one.started),
            },
            false => ContainerState::Exited {
                code: 1,
                out_of_memory: false,
                error: None,
            },
        };
        Container {
            id: one.id.clone(),
            name: name.to_owned(),
            app: one.order.app.clone(),
            deploy: one.order.deploy.clone(),
            release: one.order.release,
            replica: one.order.replica,
            slot: one.order.slot,
            image: one.order.image.clone(),
            state,
            restarts: one.restarts(now),
        }
    }
}

fn engine_trouble(trouble: Trouble) -> ContainerError {
    let (kind, reason) = match trouble {
        Trouble::Refused => (ContainerErrorKind::Host, "the engine refused"),
        Trouble::Unreachable => (
            ContainerErrorKind::Unavailable,
            "the engine does not answer",
        ),
    };
    ContainerError {
        kind,
        reason: reason.to_owned(),
        hint: None,
    }
}

impl Containers for Sim {
    async fn preflight(
        &self,
        _: &ImageReference,
        _: Option<Bytes>,
    ) -> Result<String, ContainerError> {
        let made = self.effect("engine", "preflight".into(), |_| {
            "room for one more".to_owned()
        });
        made.await.map_err(engine_trouble)
    }

    async fn room(&self) -> Result<Room, ContainerError> {
        Ok(Room::default())
    }

    async fn pull(
        &self,
        image: &ImageReference,
        _: Option<&RegistryCredentials>,
        progress: &(dyn Fn(String) + Send + Sync),
    ) -> Result<String, ContainerError> {
        progress("half of it".to_owned());
        let digest = &image.digest;
        let made = self.effect(
            "engine",
            format!("pull {}", digest.short()),
            |world| match world.images.get(digest) {
                Some(Behaviour::Missing) | None => None,
                Some(_) => {
                    world.pulled.push(digest.clone());
                    Some("all of it".to_owned())
                }
            },
        );
        made.await
            .map_err(engine_trouble)?
            .ok_or_else(|| ContainerError {
                kind: ContainerErrorKind::Request,
                reason: format!("the registry has no {image}"),
                hint: None,
            })
    }

    async fn start(&self, order: &StartOrder) -> Result<Container, ContainerError> {
        let name = order.name();
        let made = self.effect("engine", format!("start {name}"), |world| {
            let keep = world
                .containers
                .get(&name)
                .is_some_and(|one| one.order.deploy == order.deploy);
            if !keep {
                if !world.pulled.contains(&order.image.digest) {
                    world.violation(format!("{name} was started without its image"));
                }
                world.made += 1;
                let one = Modelled {
                    id: format!("id{}", world.made),
                    order: order.clone(),
                    address: SocketAddr::from(([127, 0, 0, 1], 10_000 + world.made)),
                    started: Instant::now(),
                    behaviour: world.images[&order.image.digest],
                    asked: 0,
                    good_answers: 0,
                    open: 0,
                };
                world.containers.insert(name.clone(), one);
                world.count_live();
            }
        });
        made.await.map_err(engine_trouble)?;
        let world = self.world();
        Ok(self.show(&name, &world.containers[&name]))
    }

    async fn list(&self, app: &AppName) -> Result<Vec<Container>, ContainerError> {
        sleep(QUICK).await;
        if self.is_away("engine") {
            return Err(engine_trouble(Trouble::Unreachable));
        }
        let world = self.world();
        let of_app = world
            .containers
            .iter()
            .filter(|(_, one)| one.order.app == *app);
        Ok(of_app.map(|(name, one)| self.show(name, one)).collect())
    }

    async fn ask(
        &self,
        container: &Container,
        _: &HealthCheck,
        _: &str,
    ) -> Result<HealthAnswer, ContainerError> {
        sleep(QUICK).await;
        let now = Instant::now();
        let mut world = self.world();
        let Some(one) = world.containers.get_mut(&container.name) else {
            return Ok(HealthAnswer::Bad("connection refused".to_owned()));
        };
        one.asked += 1;
        Ok(match one.is_healthy(now) {
            true => {
                one.good_answers += 1;
                HealthAnswer::Good
            }
            false => {
                // What was enough once stays enough.
                if one.good_answers < SUCCESSES {
                    one.good_answers = 0;
                }
                HealthAnswer::Bad("answered 503".to_owned())
            }
        })
    }

    async fn last_lines(&self, _: &Container, _: usize) -> Result<Vec<String>, ContainerError> {
        Ok(vec!["the app's last line".to_owned()])
    }

    async fn remove(&self, container: &Container, _: Duration) -> Result<(), ContainerError> {
        let name = &container.name;
        let made = self.effect("engine", format!("remove {name}"), |world| {
            let serves = world.table.apps.values().any(|route| {
                let mut serving = route
                    .pools
                    .iter()
                    .filter(|(pool, _)| route.is_served_by(pool));
                serving.any(|(_, pool)| pool.targets.iter().any(|target| target.id == *name))
            });
            if serves {
                world.violation(format!("{name} was told to stop while it serves"));
            }
            let open = world.containers.get(name).map_or(0, |one| one.open);
            if open > 0 {
                world.violation(format!(
                    "{name} was told to stop with {open} requests inside"
                ));
            }
            world.containers.remove(name);
        });
        made.await.map_err(engine_trouble)
    }

    async fn run_hook(
        &self,
        order: &HookOrder,
        progress: &(dyn Fn(String) + Send + Sync),
    ) -> Result<HookEnd, ContainerError> {
        let name = order.name();
        let made = self.effect("engine", format!("hook {name}"), |world| world.hook(order));
        made.await.map_err(engine_trouble)?;
        progress("it has begun".to_owned());
        loop {
            sleep(QUICK).await;
            if self.is_away("engine") {
                return Err(engine_trouble(Trouble::Unreachable));
            }
            let world = self.world();
            let Some(hook) = world.hooks.get(&name) else {
                return Err(engine_trouble(Trouble::Unreachable));
            };
            if let Some(code) = hook.ended(Instant::now()) {
                return Ok(HookEnd {
                    code,
                    out_of_memory: false,
                    lines: vec!["the hook's last line".to_owned()],
                });
            }
        }
    }

    async fn stop_hook(
        &self,
        order: &HookOrder,
        _: Duration,
    ) -> Result<Vec<String>, ContainerError> {
        let name = order.name();
        let made = self.effect("engine", format!("stop hook {name}"), |world| {
            if let Some(hook) = world.hooks.get_mut(&name) {
                hook.stopped = true;
            }
            vec!["the hook's last line".to_owned()]
        });
        made.await.map_err(engine_trouble)
    }

    async fn remove_hooks(&self, app: &AppName, _: Duration) -> Result<(), ContainerError> {
        sleep(QUICK).await;
        if self.is_away("engine") {
            return Err(engine_trouble(Trouble::Unreachable));
        }
        let of_app = |world: &World| world.hooks.values().any(|hook| hook.order.app == *app);
        // A look that finds nothing changes nothing.
        if !of_app(&self.world()) {
            return Ok(());
        }
        let made = self.effect("engine", format!("remove hooks of {app}"), |world| {
            world.hooks.retain(|_, hook| hook.order.app != *app);
        });
        made.await.map_err(engine_trouble)
    }

    async fn prune(&self, _: &str, keep: &[Digest]) -> Result<String, ContainerError> {
        let made = self.effect("engine", "prune".into(), |world| {
            let used: Vec<_> = world
                .containers
                .values()
                .map(|one| one.order.image.digest.clone())
                .collect();
            world
                .pulled
                .retain(|digest| keep.contains(digest) || used.contains(digest));
            "pruned".to_owned()
        });
        made.await.map_err(engine_trouble)
    }
}

fn proxy_trouble(trouble: Trouble) -> TrafficError {
    match trouble {
        Trouble::Refused => TrafficError::Refused("the disk is full".to_owned()),
        Trouble::Unreachable => TrafficError::Unavailable("connection refused".to_owned()),
    }
}

impl Traffic for Sim {
    async fn status(&self) -> Result<Status, TrafficError> {
        let generation = self.table().await?.generation;
        Ok(Status {
            instance: "one".to_owned(),
            program: "model".to_owned(),
            generation,
            listeners: vec![SocketAddr::from(([127, 0, 0, 1], 80))],
            abilities: std::collections::BTreeSet::new(),
        })
    }

    async fn table(&self) -> Result<Table, TrafficError> {
        sleep(QUICK).await;
        if self.is_away("proxy") {
            return Err(proxy_trouble(Trouble::Unreachable));
        }
        Ok(self.world().table.clone())
    }

    async fn apply(&self, expected: u64, table: &Table) -> Result<(), TrafficError> {
        let name = format!("apply table {}", table.generation);
        let made = self.effect("proxy", name, |world| {
            let problems = table.problems();
            if !problems.is_empty() {
                world.violation(format!("a wrong table: {problems:?}"));
            }
            if world.table.generation != expected {
                return Err(TrafficError::Generation(world.table.generation));
            }
            world.table = table.clone();
            Ok(())
        });
        made.await.map_err(proxy_trouble)?
    }

    async fn drain(
        &self,
        app: &AppName,
        targets: &[String],
        deadline: Duration,
        _cut: Option<Cut>,
    ) -> Result<Drained, TrafficError> {
        let made = self.effect("proxy", format!("drain {app} {targets:?}"), |_| ());
        made.await.map_err(proxy_trouble)?;
        let until = Instant::now() + deadline;
        loop {
            let open: u32 = {
                let world = self.world();
                let named = targets.iter().filter_map(|name| world.containers.get(name));
                named.map(|one| one.open).sum()
            };
            if open == 0 || Instant::now() >= until {
                let requests = u64::from(open);
                return Ok(Drained {
                    requests,
                    ..Drained::default()
                });
            }
            sleep(QUICK).await;
        }
    }

    async fn statistics(&self) -> Result<Statistics, TrafficError> {
        sleep(QUICK).await;
        if self.is_away("proxy") {
            return Err(proxy_trouble(Trouble::Unreachable));
        }
        Ok(self.world().counted.clone())
    }

    async fn knock(&self, _: SocketAddr, _: &str, _: &str) -> Result<Knock, TrafficError> {
        sleep(QUICK).await;
        let now = Instant::now();
        let world = self.world();
        let route = world.table.apps.values().next();
        Ok(match route {
            None => Knock {
                status: 404,
                pool: None,
            },
            Some(route) => {
                let serving = route.serving.sole().unwrap();
                let target = &route.pools[serving].targets[0];
                let one = world.containers.get(&target.id);
                let behind = |one: &Modelled| one.behaviour != Behaviour::BehindAnotherDoor;
                let answers =
                    one.is_some_and(|one| one.runs() && one.is_healthy(now) && behind(one));
                let pool = answers.then(|| serving.to_owned());
                Knock {
                    status: if answers { 200 } else { 502 },
                    pool,
                }
            }
        })
    }
}

impl Forge for Sim {
    async fn deliver(&self, message: &Message, attempt: u32) -> Result<(), DeliveryError> {
        let name = format!("tell GitHub {:?}", message.state);
        // Made twice means that it is delivered once more, which looks first.
        let attempt = AtomicU32::new(attempt);
        let made = self.effect("github", name, |world| {
            if attempt.fetch_add(1, Ordering::Relaxed) == 1 || !world.told.contains(message) {
                world.told.push(message.clone());
            }
        });
        made.await.map_err(|trouble| match trouble {
            // GitHub refuses for good only what is malformed, which is another
            // test's business: here it comes back.
            Trouble::Refused | Trouble::Unreachable => DeliveryError::Later {
                reason: "502".to_owned(),
                after_seconds: None,
            },
        })
    }
}

impl Sim {
    /// The disk: a crash before a write, after it, or a write that fails ends
    /// the engine, which must not go on without its journal.
    fn write<A>(
        &self,
        name: String,
        write: impl Fn() -> Result<A, JournalError>,
    ) -> Result<A, JournalError> {
        let dead = || JournalError::Write {
            what: "anything",
            source: "the agent is dead".into(),
        };
        if self.state.lock().unwrap().dead {
            return Err(dead());
        }
        match self.next_fault("disk", &name) {
            Some(Fault::CrashBefore | Fault::Fail | Fault::Unavailable) => {
                self.die();
                Err(dead())
            }
            Some(Fault::CrashAfter | Fault::AnswerLost) => {
                let written = write();
                self.die();
                written.and(Err(dead()))
            }
            // An append is one transaction, which nothing makes twice.
            Some(Fault::Twice | Fault::Late) | None => write(),
        }
    }
}

impl Record for Sim {
    fn accept(
        &self,
        call: Option<&str>,
        deploy: &DeployId,
        at: Timestamp,
        event: &Event,
        source: &Source,
        messages: &[Letter],
    ) -> Result<Acceptance, JournalError> {
        self.write("write Accepted".to_owned(), || {
            self.journal
                .accept(call, deploy, at, event, source, messages)
        })
    }

    fn append(
        &self,
        deploy: &DeployId,
        at: Timestamp,
        event: &Event,
        releases: &Releases,
        messages: &[Letter],
    ) -> Result<u64, JournalError> {
        let name = format!("write {}", cutover_agent::texts::told(event, None));
        self.write(name, || {
            self.journal.append(deploy, at, event, releases, messages)
        })
    }

    fn append_called(
        &self,
        call: &str,
        deploy: &DeployId,
        at: Timestamp,
        event: &Event,
        releases: &Releases,
        messages: &[Letter],
    ) -> Result<u64, JournalError> {
        let name = format!("write {}", cutover_agent::texts::told(event, None));
        self.write(name, || {
            self.journal
                .append_called(call, deploy, at, event, releases, messages)
        })
    }
}
