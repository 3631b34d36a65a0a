//! What is done in a run, and how it must end.

use std::time::Duration;

use cutover_plan::outcome::Outcome;

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
    /// Its health is good, but from the front door nothing comes to it.
    BehindAnotherDoor,
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
    /// Deploy a good image, and abort so long after the answer.
    AbortAfter(Duration, Outcome),
    /// Roll back.
    Rollback(Outcome),
    /// Roll back, and abort so long after the answer.
    AbortRollbackAfter(Duration, Outcome),
    /// Nothing: the table in the proxy becomes another one behind the agent's back.
    Meddle(Meddling),
}

/// What becomes of the table.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) enum Meddling {
    /// It is lost.
    Lost,
    /// Users are sent to the release that stands by.
    SentToStandby,
}

/// A run.
pub(crate) struct Scenario {
    pub(crate) name: &'static str,
    pub(crate) asks: &'static [Ask],
    /// The image that serves at the end, by its number from 1.
    pub(crate) serves: Option<usize>,
}

const SECOND: Duration = Duration::from_secs(1);

/// Every scenario begins with a first good deploy, but for the last ones.
pub(crate) const SCENARIOS: &[Scenario] = &[
    Scenario {
        name: "deploy",
        asks: &[
            Ask::Deploy(Behaviour::Good, Outcome::Promoted),
            Ask::Deploy(Behaviour::Good, Outcome::Promoted),
        ],
        serves: Some(2),
    },
    Scenario {
        name: "three deploys",
        asks: &[
            Ask::Deploy(Behaviour::Good, Outcome::Promoted),
            Ask::Deploy(Behaviour::HealthyAfter(SECOND), Outcome::Promoted),
            Ask::Deploy(Behaviour::Good, Outcome::Promoted),
            Ask::Again(Outcome::Promoted),
        ],
        serves: Some(3),
    },
    Scenario {
        name: "lost table",
        asks: &[
            Ask::Deploy(Behaviour::Good, Outcome::Promoted),
            Ask::Meddle(Meddling::Lost),
        ],
        serves: Some(1),
    },
    Scenario {
        name: "rollback",
        asks: &[
            Ask::Deploy(Behaviour::Good, Outcome::Promoted),
            Ask::Deploy(Behaviour::Good, Outcome::Promoted),
            Ask::Rollback(Outcome::Promoted),
            Ask::Rollback(Outcome::Failed),
        ],
        serves: Some(1),
    },
    Scenario {
        name: "cold rollback",
        asks: &[
            Ask::Deploy(Behaviour::Good, Outcome::Promoted),
            Ask::Deploy(Behaviour::Good, Outcome::Promoted),
            Ask::Deploy(Behaviour::ExitsAtStart, Outcome::Failed),
            Ask::Rollback(Outcome::Promoted),
        ],
        serves: Some(1),
    },
    Scenario {
        name: "abort of a rollback, then a deploy",
        asks: &[
            Ask::Deploy(Behaviour::Good, Outcome::Promoted),
            Ask::Deploy(Behaviour::Good, Outcome::Promoted),
            // The users are on v1 by then, and a rollback is never rolled back.
            Ask::AbortRollbackAfter(Duration::from_secs(3), Outcome::Aborted),
            Ask::Deploy(Behaviour::Good, Outcome::Promoted),
        ],
        serves: Some(3),
    },
    Scenario {
        name: "exits at start",
        asks: &[
            Ask::Deploy(Behaviour::Good, Outcome::Promoted),
            Ask::Deploy(Behaviour::ExitsAtStart, Outcome::Failed),
        ],
        serves: Some(1),
    },
    Scenario {
        name: "never healthy",
        asks: &[
            Ask::Deploy(Behaviour::Good, Outcome::Promoted),
            Ask::Deploy(Behaviour::NeverHealthy, Outcome::Failed),
        ],
        serves: Some(1),
    },
    Scenario {
        name: "wavers",
        asks: &[
            Ask::Deploy(Behaviour::Good, Outcome::Promoted),
            Ask::Deploy(Behaviour::Wavers, Outcome::Failed),
        ],
        serves: Some(1),
    },
    Scenario {
        name: "no such image",
        asks: &[
            Ask::Deploy(Behaviour::Good, Outcome::Promoted),
            Ask::Deploy(Behaviour::Missing, Outcome::Failed),
        ],
        serves: Some(1),
    },
    Scenario {
        name: "bad under traffic",
        asks: &[
            Ask::Deploy(Behaviour::Good, Outcome::Promoted),
            Ask::Deploy(Behaviour::FailsUsers, Outcome::RolledBack),
        ],
        serves: Some(1),
    },
    Scenario {
        name: "behind another door",
        asks: &[
            Ask::Deploy(Behaviour::Good, Outcome::Promoted),
            Ask::Deploy(Behaviour::BehindAnotherDoor, Outcome::RolledBack),
        ],
        serves: Some(1),
    },
    Scenario {
        name: "crashes under traffic",
        asks: &[
            Ask::Deploy(Behaviour::Good, Outcome::Promoted),
            // It lives through its gate, even if the agent dies there.
            Ask::Deploy(
                Behaviour::CrashesAfter(Duration::from_millis(5_500)),
                Outcome::RolledBack,
            ),
        ],
        serves: Some(1),
    },
    Scenario {
        name: "abort before the shift",
        asks: &[
            Ask::Deploy(Behaviour::Good, Outcome::Promoted),
            Ask::AbortAfter(Duration::from_millis(300), Outcome::Aborted),
        ],
        serves: Some(1),
    },
    Scenario {
        name: "abort under traffic",
        asks: &[
            Ask::Deploy(Behaviour::Good, Outcome::Promoted),
            Ask::AbortAfter(Duration::from_secs(4), Outcome::Aborted),
        ],
        serves: Some(1),
    },
    Scenario {
        name: "first deploy goes bad",
        asks: &[Ask::Deploy(Behaviour::FailsUsers, Outcome::RolledBack)],
        serves: None,
    },
];

/// Not among the others: with a fault in it the agent may put the table right
/// before the deploy comes so far.
pub(crate) const SENT_TO_STANDBY: Scenario = Scenario {
    name: "sent to standby",
    asks: &[
        Ask::Deploy(Behaviour::Good, Outcome::Promoted),
        Ask::Deploy(Behaviour::Good, Outcome::Promoted),
        Ask::Meddle(Meddling::SentToStandby),
        Ask::Deploy(Behaviour::Good, Outcome::Failed),
    ],
    serves: Some(2),
};

impl Scenario {
    /// The asks that are answered.
    pub(crate) fn calls(&self) -> impl Iterator<Item = &'static Ask> {
        self.asks
            .iter()
            .filter(|ask| !matches!(ask, Ask::Meddle(_)))
    }

    pub(crate) fn find(name: &str) -> &'static Self {
        let found = SCENARIOS.iter().find(|scenario| scenario.name == name);
        found.unwrap_or_else(|| panic!("there is no scenario {name:?}"))
    }
}
