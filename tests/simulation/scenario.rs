//! What is done in a run, and how it must end. The runs themselves stand in one
//! file for each strategy.

mod blue_green;
mod canary;
mod changes;
mod hooks;
mod in_place;
mod people;
mod rolling;
mod shadow;

use std::time::Duration;

use cutover_plan::outcome::Outcome;

use crate::world::World;

/// How an image behaves.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) enum Behaviour {
    /// It answers well.
    Good,
    /// It ends at once.
    ExitsAtStart,
    /// It runs, but never answers well.
    NeverHealthy,
    /// Every other health answer is good.
    Wavers,
    /// Its health is good from here on.
    HealthyAfter(Duration),
    /// It ends so long after its start, each time.
    CrashesAfter(Duration),
    /// It answers its users with errors; its health path is good.
    FailsUsers,
    /// It answers one user in so many with an error; its health path is good.
    FailsOneIn(u32),
    /// Its first container is good, and every other one is never healthy.
    OneGood,
    /// Its health is good, but from the front door nothing comes to it.
    BehindAnotherDoor,
    /// Its hooks exit with 1.
    FailsHook,
    /// Its hooks never end.
    HangsInHook,
    /// Its hooks take forty seconds, and then it is never healthy.
    LingersInHook,
    /// The registry does not have it.
    Missing,
}

/// One thing that is asked of the agent.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) enum Ask {
    /// Deploy an image that behaves so; images are numbered in order.
    Deploy(Behaviour, Outcome),
    /// Deploy the image that was deployed last once more.
    Again(Outcome),
    /// Deploy an image of before once more, by its number from 1, and go on with the
    /// next ask before it has ended.
    Earlier(usize, Outcome),
    /// Deploy a good image, and abort so long after the answer.
    AbortAfter(Duration, Outcome),
    /// Roll back.
    Rollback(Outcome),
    /// Roll back, and abort so long after the answer.
    AbortRollbackAfter(Duration, Outcome),
    /// Deploy, and go on with the next ask before it has ended.
    Start(Behaviour, Outcome),
    /// Deploy, and be refused with this code.
    Refused(&'static str),
    /// Roll back, and be refused with this code.
    RollbackRefused(&'static str),
    /// Deploy a good image although the windows are closed.
    Override(Outcome),
    /// Nothing, until so long after the begin of the run.
    Until(Duration),
    /// Nothing, for so long.
    Wait(Duration),
    /// Nothing, until the deploy that was begun last is so far, or over.
    Await(Moment),
    /// A person says this of the deploy that was begun last.
    Say(Word),
    /// Nothing: the app's file is changed, and the agent started anew.
    File(&'static [Edit]),
    /// Nothing: something is changed behind the agent's back.
    Meddle(Meddling),
}

/// How far a deploy is.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) enum Moment {
    /// It waits for a person.
    Held,
    /// Its watch of this number has begun, from 1.
    Watch(usize),
    /// It holds requests.
    Parked,
    /// It is over.
    Over,
}

/// What a person says.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) enum Word {
    Abort,
    Approve,
    Reject,
    Promote { full: bool },
}

/// What is changed behind the agent's back.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) enum Meddling {
    /// Every container is removed.
    Removed,
    /// The table is lost.
    Lost,
    /// Users are sent to the release that stands by.
    SentToStandby,
    /// What runs answers nobody any more.
    Sickened,
    /// Requests are held, as after a way back on which the proxy refused.
    LeftHeld,
    /// What ran before the newest release answers nobody any more.
    OldSickened,
}

/// What is written into the app's file: what there is, and what instead.
pub(crate) type Edit = (&'static str, &'static str);

/// A run.
#[derive(Clone, Copy)]
pub(crate) struct Scenario {
    pub(crate) name: &'static str,
    pub(crate) file: &'static [Edit],
    pub(crate) asks: &'static [Ask],
    /// The image that serves at the end, by its number from 1.
    pub(crate) serves: Option<usize>,
    /// What some of its deploys must say of their end.
    pub(crate) whys: &'static [&'static str],
    /// How many containers of releases are made in all, where that tells something.
    pub(crate) made: Option<u16>,
    /// Whether faults are tried in its first deploy as well, which is the same
    /// in all scenarios of a strategy.
    pub(crate) whole: bool,
    /// Otherwise, how many asks at its begin are without: more than one where the
    /// next is the same as elsewhere, too.
    pub(crate) spared: usize,
    /// Whether the app's file lets some requests be refused while others are held.
    pub(crate) refuses: bool,
    /// What its users must have seen.
    pub(crate) seen: fn(&World) -> bool,
}

/// A scenario with nothing special about it.
const PLAIN: Scenario = Scenario {
    name: "",
    file: &[],
    asks: &[],
    serves: None,
    whys: &[],
    made: None,
    whole: false,
    spared: 1,
    refuses: false,
    seen: |_| true,
};

/// Every scenario that is run with faults. Nearly all begin with a good deploy.
pub(crate) fn all() -> impl Iterator<Item = &'static Scenario> {
    let files = [
        blue_green::SCENARIOS,
        hooks::SCENARIOS,
        people::SCENARIOS,
        canary::SCENARIOS,
        rolling::SCENARIOS,
        in_place::SCENARIOS,
        shadow::SCENARIOS,
        changes::SCENARIOS,
    ];
    files.into_iter().flatten()
}

/// Those whose end a fault may rightly change.
pub(crate) fn without_faults() -> impl Iterator<Item = &'static Scenario> {
    blue_green::WITHOUT_FAULTS
        .iter()
        .chain(canary::WITHOUT_FAULTS)
}

impl Scenario {
    /// The asks that are answered.
    pub(crate) fn calls(&self) -> impl Iterator<Item = &'static Ask> {
        self.asks.iter().filter(|ask| ask.is_call())
    }

    pub(crate) fn find(name: &str) -> &'static Self {
        let found = all()
            .chain(without_faults())
            .find(|scenario| scenario.name == name);
        found.unwrap_or_else(|| panic!("there is no scenario {name:?}"))
    }
}

impl Ask {
    fn is_call(&self) -> bool {
        match self {
            Self::Deploy(..)
            | Self::Again(_)
            | Self::Earlier(..)
            | Self::AbortAfter(..)
            | Self::Rollback(_)
            | Self::AbortRollbackAfter(..)
            | Self::Start(..)
            | Self::Refused(_)
            | Self::RollbackRefused(_)
            | Self::Override(_) => true,
            Self::Until(_)
            | Self::Wait(_)
            | Self::Await(_)
            | Self::Say(_)
            | Self::File(_)
            | Self::Meddle(_) => false,
        }
    }

    /// How it ends; none where it is refused.
    pub(crate) fn expected(&self) -> Option<Outcome> {
        match self {
            Self::Override(outcome)
            | Self::Start(_, outcome)
            | Self::Deploy(_, outcome)
            | Self::Again(outcome)
            | Self::Earlier(_, outcome)
            | Self::AbortAfter(_, outcome)
            | Self::AbortRollbackAfter(_, outcome)
            | Self::Rollback(outcome) => Some(*outcome),
            Self::Refused(_)
            | Self::RollbackRefused(_)
            | Self::Meddle(_)
            | Self::Wait(_)
            | Self::Until(_)
            | Self::Await(_)
            | Self::Say(_)
            | Self::File(_) => None,
        }
    }

    /// How the image behaves that it brings; none where it brings no new one.
    pub(crate) fn brings(&self) -> Option<Behaviour> {
        match self {
            Self::Deploy(behaviour, _) | Self::Start(behaviour, _) => Some(*behaviour),
            Self::AbortAfter(..) | Self::Refused(_) | Self::Override(_) => Some(Behaviour::Good),
            Self::Again(_)
            | Self::Earlier(..)
            | Self::Rollback(_)
            | Self::RollbackRefused(_)
            | Self::AbortRollbackAfter(..)
            | Self::Wait(_)
            | Self::Until(_)
            | Self::Await(_)
            | Self::Say(_)
            | Self::File(_)
            | Self::Meddle(_) => None,
        }
    }
}
