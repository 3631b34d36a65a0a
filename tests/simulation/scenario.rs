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
    /// Deploy a good image although the windows are closed.
    Override(Outcome),
    /// Nothing, until so long after the begin of the run.
    Until(Duration),
    /// Nothing, for so long.
    Wait(Duration),
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
    /// What is written into the app's file: what there is, and what instead.
    pub(crate) file: &'static [(&'static str, &'static str)],
    pub(crate) asks: &'static [Ask],
    /// The image that serves at the end, by its number from 1.
    pub(crate) serves: Option<usize>,
    /// What some of its deploys must say of their end.
    pub(crate) whys: &'static [&'static str],
    /// How many containers of releases are made in all, where that tells something.
    pub(crate) made: Option<u16>,
}

const SECOND: Duration = Duration::from_secs(1);

/// Every scenario begins with a first good deploy, but for the last ones.
pub(crate) const SCENARIOS: &[Scenario] = &[
    Scenario {
        name: "deploy",
        file: &[],
        asks: &[
            Ask::Deploy(Behaviour::Good, Outcome::Promoted),
            Ask::Deploy(Behaviour::Good, Outcome::Promoted),
        ],
        serves: Some(2),
        whys: &[],
        made: None,
    },
    Scenario {
        name: "three deploys",
        file: &[],
        asks: &[
            Ask::Deploy(Behaviour::Good, Outcome::Promoted),
            Ask::Deploy(Behaviour::HealthyAfter(SECOND), Outcome::Promoted),
            Ask::Deploy(Behaviour::Good, Outcome::Promoted),
            Ask::Again(Outcome::Promoted),
        ],
        serves: Some(3),
        whys: &[],
        made: None,
    },
    Scenario {
        name: "lost table",
        file: &[],
        asks: &[
            Ask::Deploy(Behaviour::Good, Outcome::Promoted),
            Ask::Meddle(Meddling::Lost),
        ],
        serves: Some(1),
        whys: &[],
        made: None,
    },
    Scenario {
        name: "rollback",
        file: &[],
        asks: &[
            Ask::Deploy(Behaviour::Good, Outcome::Promoted),
            Ask::Deploy(Behaviour::Good, Outcome::Promoted),
            Ask::Rollback(Outcome::Promoted),
            Ask::Rollback(Outcome::Failed),
        ],
        serves: Some(1),
        whys: &[],
        made: None,
    },
    Scenario {
        name: "cold rollback",
        file: &[],
        asks: &[
            Ask::Deploy(Behaviour::Good, Outcome::Promoted),
            Ask::Deploy(Behaviour::Good, Outcome::Promoted),
            Ask::Deploy(Behaviour::ExitsAtStart, Outcome::Failed),
            Ask::Rollback(Outcome::Promoted),
        ],
        serves: Some(1),
        whys: &[],
        made: None,
    },
    Scenario {
        name: "abort of a rollback, then a deploy",
        file: &[],
        asks: &[
            Ask::Deploy(Behaviour::Good, Outcome::Promoted),
            Ask::Deploy(Behaviour::Good, Outcome::Promoted),
            // The users are on v1 by then, and a rollback is never rolled back.
            Ask::AbortRollbackAfter(Duration::from_secs(3), Outcome::Aborted),
            Ask::Deploy(Behaviour::Good, Outcome::Promoted),
        ],
        serves: Some(3),
        whys: &[],
        made: None,
    },
    Scenario {
        name: "exits at start",
        file: &[],
        asks: &[
            Ask::Deploy(Behaviour::Good, Outcome::Promoted),
            Ask::Deploy(Behaviour::ExitsAtStart, Outcome::Failed),
        ],
        serves: Some(1),
        whys: &[],
        made: None,
    },
    Scenario {
        name: "never healthy",
        file: &[],
        asks: &[
            Ask::Deploy(Behaviour::Good, Outcome::Promoted),
            Ask::Deploy(Behaviour::NeverHealthy, Outcome::Failed),
        ],
        serves: Some(1),
        whys: &[],
        made: None,
    },
    Scenario {
        name: "wavers",
        file: &[],
        asks: &[
            Ask::Deploy(Behaviour::Good, Outcome::Promoted),
            Ask::Deploy(Behaviour::Wavers, Outcome::Failed),
        ],
        serves: Some(1),
        whys: &[],
        made: None,
    },
    Scenario {
        name: "no such image",
        file: &[],
        asks: &[
            Ask::Deploy(Behaviour::Good, Outcome::Promoted),
            Ask::Deploy(Behaviour::Missing, Outcome::Failed),
        ],
        serves: Some(1),
        whys: &[],
        made: None,
    },
    Scenario {
        name: "bad under traffic",
        file: &[],
        asks: &[
            Ask::Deploy(Behaviour::Good, Outcome::Promoted),
            Ask::Deploy(Behaviour::FailsUsers, Outcome::RolledBack),
        ],
        serves: Some(1),
        whys: &[],
        made: None,
    },
    Scenario {
        name: "behind another door",
        file: &[],
        asks: &[
            Ask::Deploy(Behaviour::Good, Outcome::Promoted),
            Ask::Deploy(Behaviour::BehindAnotherDoor, Outcome::RolledBack),
        ],
        serves: Some(1),
        whys: &[],
        made: None,
    },
    Scenario {
        name: "crashes under traffic",
        file: &[],
        asks: &[
            Ask::Deploy(Behaviour::Good, Outcome::Promoted),
            // It lives through its gate, even if the agent dies there.
            Ask::Deploy(
                Behaviour::CrashesAfter(Duration::from_millis(5_500)),
                Outcome::RolledBack,
            ),
        ],
        serves: Some(1),
        whys: &[],
        made: None,
    },
    Scenario {
        name: "abort before the shift",
        file: &[],
        asks: &[
            Ask::Deploy(Behaviour::Good, Outcome::Promoted),
            Ask::AbortAfter(Duration::from_millis(300), Outcome::Aborted),
        ],
        serves: Some(1),
        whys: &[],
        made: None,
    },
    Scenario {
        name: "abort under traffic",
        file: &[],
        asks: &[
            Ask::Deploy(Behaviour::Good, Outcome::Promoted),
            Ask::AbortAfter(Duration::from_secs(4), Outcome::Aborted),
        ],
        serves: Some(1),
        whys: &[],
        made: None,
    },
    Scenario {
        name: "hook before the start",
        file: &[(
            "[github]",
            "[hooks.before_start]\ncommand = [\"migrate\"]\ntimeout = \"70s\"\n[github]",
        )],
        asks: &[
            Ask::Deploy(Behaviour::Good, Outcome::Promoted),
            Ask::Deploy(Behaviour::FailsHook, Outcome::Failed),
            Ask::Wait(Duration::from_secs(10)),
            Ask::Deploy(Behaviour::HangsInHook, Outcome::Failed),
            Ask::Wait(Duration::from_secs(10)),
            Ask::Deploy(Behaviour::Good, Outcome::Promoted),
        ],
        serves: Some(4),
        whys: &[
            "the hook before_start exited with 1",
            "did not end within 1m 10s",
        ],
        made: None,
    },
    Scenario {
        name: "hook before the shift",
        file: &[(
            "[github]",
            "[hooks.before_shift]\ncommand = [\"smoke\"]\n[github]",
        )],
        asks: &[
            Ask::Deploy(Behaviour::Good, Outcome::Promoted),
            Ask::Deploy(Behaviour::FailsHook, Outcome::Failed),
            Ask::AbortAfter(Duration::from_millis(900), Outcome::Aborted),
        ],
        serves: Some(1),
        whys: &[],
        made: None,
    },
    Scenario {
        name: "hook after the shift",
        file: &[(
            "[github]",
            "[hooks.after_shift]\ncommand = [\"warm\"]\n[hooks.on_failure]\ncommand = [\"tell\"]\n[github]",
        )],
        asks: &[
            Ask::Deploy(Behaviour::Good, Outcome::Promoted),
            Ask::Deploy(Behaviour::FailsHook, Outcome::RolledBack),
        ],
        serves: Some(1),
        whys: &[],
        made: None,
    },
    Scenario {
        name: "hook after success",
        file: &[(
            "[github]",
            "[hooks.after_success]\ncommand = [\"tell\"]\n[github]",
        )],
        asks: &[
            Ask::Deploy(Behaviour::Good, Outcome::Promoted),
            Ask::Deploy(Behaviour::FailsHook, Outcome::Promoted),
        ],
        serves: Some(2),
        whys: &[],
        made: None,
    },
    Scenario {
        name: "red-black",
        file: &[(
            "port = 8080",
            "port = 8080\nstrategy = \"red-black\"\nstandby = \"20s\"",
        )],
        asks: &[
            Ask::Deploy(Behaviour::Good, Outcome::Promoted),
            Ask::Deploy(Behaviour::Good, Outcome::Promoted),
            Ask::Wait(Duration::from_millis(19_900)),
            Ask::Deploy(Behaviour::Good, Outcome::Promoted),
            Ask::Wait(Duration::from_secs(30)),
        ],
        serves: Some(3),
        whys: &[],
        made: None,
    },
    Scenario {
        name: "red-black, back in time",
        file: &[(
            "port = 8080",
            "port = 8080\nstrategy = \"red-black\"\nstandby = \"60s\"",
        )],
        asks: &[
            Ask::Deploy(Behaviour::Good, Outcome::Promoted),
            Ask::Deploy(Behaviour::Good, Outcome::Promoted),
            Ask::Wait(Duration::from_secs(10)),
            Ask::Rollback(Outcome::Promoted),
            Ask::Wait(Duration::from_secs(70)),
        ],
        serves: Some(1),
        whys: &[],
        made: Some(2),
    },
    Scenario {
        name: "windows",
        // The run begins on a Thursday at 20:26:40.
        file: &[(
            "[github]",
            "[windows]\ntimezone = \"UTC\"\ndeny = [\"thu 20:28-23:00\"]\n[github]",
        )],
        asks: &[
            Ask::Deploy(Behaviour::Good, Outcome::Promoted),
            Ask::Until(Duration::from_secs(75)),
            // It is healthy only once they are closed.
            Ask::Deploy(
                Behaviour::HealthyAfter(Duration::from_secs(7)),
                Outcome::Failed,
            ),
            Ask::Until(Duration::from_secs(100)),
            Ask::Refused("closed"),
            Ask::Override(Outcome::Promoted),
            Ask::Rollback(Outcome::Promoted),
        ],
        serves: Some(1),
        whys: &["the users were not moved"],
        made: None,
    },
    Scenario {
        name: "watched on",
        file: &[(
            "max_error_rate",
            "min_requests = 90\non_no_verdict = \"extend\"\nextend_to = \"40s\"\nmax_error_rate",
        )],
        asks: &[
            Ask::Deploy(Behaviour::Good, Outcome::Promoted),
            Ask::Deploy(Behaviour::Good, Outcome::Promoted),
        ],
        serves: Some(2),
        whys: &[],
        made: None,
    },
    Scenario {
        name: "stalled",
        file: &[
            ("port = 8080", "port = 8080\nprogress_deadline = \"60s\""),
            ("deadline = \"10s\"", "deadline = \"50s\""),
            (
                "[github]",
                "[hooks.before_start]\ncommand = [\"migrate\"]\ntimeout = \"50s\"\n[github]",
            ),
        ],
        asks: &[
            Ask::Deploy(Behaviour::Good, Outcome::Promoted),
            Ask::Deploy(Behaviour::LingersInHook, Outcome::Failed),
        ],
        serves: Some(1),
        whys: &["it got no further for 1m"],
        made: None,
    },
    Scenario {
        name: "superseded",
        file: &[],
        asks: &[
            Ask::Deploy(Behaviour::Good, Outcome::Promoted),
            Ask::Start(Behaviour::NeverHealthy, Outcome::Superseded),
            Ask::Wait(Duration::from_millis(300)),
            Ask::Deploy(Behaviour::Good, Outcome::Promoted),
        ],
        serves: Some(3),
        whys: &["took its place"],
        made: None,
    },
    Scenario {
        name: "queued",
        file: &[(
            "[github]",
            "[supersede]\nbefore_shift = \"queue\"\n[github]",
        )],
        asks: &[
            Ask::Deploy(Behaviour::Good, Outcome::Promoted),
            Ask::Start(Behaviour::NeverHealthy, Outcome::Failed),
            Ask::Start(Behaviour::Good, Outcome::Superseded),
            Ask::Deploy(Behaviour::Good, Outcome::Promoted),
        ],
        serves: Some(4),
        whys: &[],
        made: None,
    },
    Scenario {
        name: "rejected",
        file: &[(
            "[github]",
            "[supersede]\nbefore_shift = \"reject\"\n[github]",
        )],
        asks: &[
            Ask::Start(Behaviour::NeverHealthy, Outcome::Failed),
            Ask::Refused("busy"),
        ],
        serves: None,
        whys: &[],
        made: None,
    },
    Scenario {
        name: "beyond the host",
        file: &[("port = 8080", "port = 8080\nstrategy = \"canary\"")],
        asks: &[Ask::Refused("beyond_host")],
        serves: None,
        whys: &[],
        made: None,
    },
    Scenario {
        name: "first deploy goes bad",
        file: &[],
        asks: &[Ask::Deploy(Behaviour::FailsUsers, Outcome::RolledBack)],
        serves: None,
        whys: &[],
        made: None,
    },
];

/// Not among the others: with a fault in it the agent may put the table right
/// before the deploy comes so far.
pub(crate) const SENT_TO_STANDBY: Scenario = Scenario {
    name: "sent to standby",
    file: &[],
    asks: &[
        Ask::Deploy(Behaviour::Good, Outcome::Promoted),
        Ask::Deploy(Behaviour::Good, Outcome::Promoted),
        Ask::Meddle(Meddling::SentToStandby),
        Ask::Deploy(Behaviour::Good, Outcome::Failed),
    ],
    serves: Some(2),
    whys: &[],
    made: None,
};

impl Scenario {
    /// The asks that are answered.
    pub(crate) fn calls(&self) -> impl Iterator<Item = &'static Ask> {
        self.asks
            .iter()
            .filter(|ask| !matches!(ask, Ask::Meddle(_) | Ask::Wait(_) | Ask::Until(_)))
    }

    pub(crate) fn find(name: &str) -> &'static Self {
        let found = SCENARIOS.iter().find(|scenario| scenario.name == name);
        found.unwrap_or_else(|| panic!("there is no scenario {name:?}"))
    }
}
