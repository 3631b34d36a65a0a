//! The models of what the engine drives. Each effect goes through [`Sim::effect`],
//! where it can be interrupted.

mod host;
mod outside;
mod switch;

use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;

use cutover_agent::journal::Journal;
use cutover_plan::spec::{AppSpec, Strategy};
use jiff::Timestamp;
use tokio::sync::Notify;
use tokio::time::{Instant, sleep};

use crate::faults::{Fault, Faults};
use crate::scenario::Scenario;
use crate::world::World;

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
}

struct State {
    /// What the app's file says.
    spec: AppSpec,
    faults: Faults,
    /// Who makes each effect so far.
    makers: Vec<&'static str>,
    hit: usize,
    /// Until when a maker of effects cannot be reached.
    away: Option<(&'static str, Instant)>,
    /// Until when one answers nothing.
    still: Option<(&'static str, Instant)>,
    story: Vec<String>,
    dead: bool,
}

/// Why an effect was not made, in the model's words.
enum Trouble {
    Refused,
    Unreachable,
}

impl Sim {
    pub(crate) fn new(scenario: &Scenario, faults: &Faults, spec: AppSpec) -> Self {
        // In place means that there is no room for two; what could not be removed
        // is left in it.
        let lonely = spec.strategy == Strategy::InPlace && !faults.are_visible();
        let world = World {
            may_refuse: scenario.refuses,
            replicas: spec.replicas,
            most_live: if lonely { 1 } else { 2 },
            ..World::default()
        };
        let state = State {
            spec,
            faults: faults.clone(),
            makers: Vec::new(),
            hit: 0,
            away: None,
            still: None,
            story: Vec::new(),
            dead: false,
        };
        Self {
            world: Arc::new(Mutex::new(world)),
            journal: Journal::in_memory().unwrap(),
            state: Arc::new(Mutex::new(state)),
            crashed: Arc::default(),
            begun: Instant::now(),
        }
    }

    /// What the app's file says.
    pub(crate) fn spec(&self) -> AppSpec {
        self.state.lock().unwrap().spec.clone()
    }

    /// Somebody writes another file of the app.
    pub(crate) fn write_file(&self, spec: AppSpec) {
        self.world().replicas = spec.replicas;
        self.state.lock().unwrap().spec = spec;
    }

    pub(crate) fn world(&self) -> MutexGuard<'_, World> {
        self.world.lock().unwrap()
    }

    /// Whatever told of the last death tells of no other.
    pub(crate) async fn revive(&self) {
        self.state.lock().unwrap().dead = false;
        tokio::select! {
            biased;
            () = self.crashed.notified() => {}
            () = std::future::ready(()) => {}
        }
    }

    pub(crate) fn note(&self, what: impl Into<String>) {
        let at = self.begun.elapsed().as_secs_f64();
        self.state
            .lock()
            .unwrap()
            .story
            .push(format!("{at:>8.3} {}", what.into()));
    }

    /// How many effects were made so far.
    pub(crate) fn effects(&self) -> usize {
        self.state.lock().unwrap().makers.len()
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

    /// The time that an answer of a maker takes.
    async fn answers(&self, maker: &'static str) {
        sleep(QUICK).await;
        let still = self.state.lock().unwrap().still;
        if let Some((_, until)) = still.filter(|(one, _)| *one == maker) {
            tokio::time::sleep_until(until).await;
        }
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
        self.answers(maker).await;
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
        if fault == Some(Fault::AnewProxy) {
            self.world().count_anew();
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
            Some(Fault::StandsStill) => {
                self.state.lock().unwrap().still = Some((maker, Instant::now() + LATE));
            }
            _ => {}
        }
        Ok(answer)
    }
}
