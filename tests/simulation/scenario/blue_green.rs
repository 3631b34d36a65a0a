//! All users at once: blue-green, red-black, and what every deploy has.

use std::time::Duration;

use cutover_plan::outcome::Outcome;

use super::{Ask, Behaviour, Meddling, PLAIN, Scenario};

/// See the module.
pub(super) const SCENARIOS: &[Scenario] = &[
    Scenario {
        name: "deploy",
        asks: &[
            Ask::Deploy(Behaviour::Good, Outcome::Promoted),
            Ask::Deploy(Behaviour::Good, Outcome::Promoted),
        ],
        serves: Some(2),
        whole: true,
        ..PLAIN
    },
    Scenario {
        name: "three deploys",
        asks: &[
            Ask::Deploy(Behaviour::Good, Outcome::Promoted),
            Ask::Deploy(
                Behaviour::HealthyAfter(Duration::from_secs(1)),
                Outcome::Promoted,
            ),
            Ask::Deploy(Behaviour::Good, Outcome::Promoted),
            Ask::Again(Outcome::Promoted),
        ],
        serves: Some(3),
        ..PLAIN
    },
    Scenario {
        name: "lost table",
        asks: &[
            Ask::Deploy(Behaviour::Good, Outcome::Promoted),
            Ask::Meddle(Meddling::Lost),
        ],
        serves: Some(1),
        ..PLAIN
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
        ..PLAIN
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
        ..PLAIN
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
        ..PLAIN
    },
    Scenario {
        name: "exits at start",
        asks: &[
            Ask::Deploy(Behaviour::Good, Outcome::Promoted),
            Ask::Deploy(Behaviour::ExitsAtStart, Outcome::Failed),
        ],
        serves: Some(1),
        ..PLAIN
    },
    Scenario {
        name: "never healthy",
        asks: &[
            Ask::Deploy(Behaviour::Good, Outcome::Promoted),
            Ask::Deploy(Behaviour::NeverHealthy, Outcome::Failed),
        ],
        serves: Some(1),
        ..PLAIN
    },
    Scenario {
        name: "wavers",
        asks: &[
            Ask::Deploy(Behaviour::Good, Outcome::Promoted),
            Ask::Deploy(Behaviour::Wavers, Outcome::Failed),
        ],
        serves: Some(1),
        ..PLAIN
    },
    Scenario {
        name: "no such image",
        asks: &[
            Ask::Deploy(Behaviour::Good, Outcome::Promoted),
            Ask::Deploy(Behaviour::Missing, Outcome::Failed),
        ],
        serves: Some(1),
        ..PLAIN
    },
    Scenario {
        name: "bad under traffic",
        asks: &[
            Ask::Deploy(Behaviour::Good, Outcome::Promoted),
            Ask::Deploy(Behaviour::FailsUsers, Outcome::RolledBack),
        ],
        serves: Some(1),
        ..PLAIN
    },
    Scenario {
        name: "behind another door",
        asks: &[
            Ask::Deploy(Behaviour::Good, Outcome::Promoted),
            Ask::Deploy(Behaviour::BehindAnotherDoor, Outcome::RolledBack),
        ],
        serves: Some(1),
        ..PLAIN
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
        ..PLAIN
    },
    Scenario {
        name: "abort before the shift",
        asks: &[
            Ask::Deploy(Behaviour::Good, Outcome::Promoted),
            Ask::AbortAfter(Duration::from_millis(300), Outcome::Aborted),
        ],
        serves: Some(1),
        ..PLAIN
    },
    Scenario {
        name: "abort under traffic",
        asks: &[
            Ask::Deploy(Behaviour::Good, Outcome::Promoted),
            Ask::AbortAfter(Duration::from_secs(4), Outcome::Aborted),
        ],
        serves: Some(1),
        ..PLAIN
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
        whole: true,
        ..PLAIN
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
        made: Some(2),
        ..PLAIN
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
        ..PLAIN
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
        ..PLAIN
    },
    Scenario {
        name: "first deploy goes bad",
        asks: &[Ask::Deploy(Behaviour::FailsUsers, Outcome::RolledBack)],
        whole: true,
        ..PLAIN
    },
];

/// Not among the others: with a fault in it the agent may put the table right
/// before the deploy comes so far.
pub(super) const WITHOUT_FAULTS: &[Scenario] = &[Scenario {
    name: "sent to standby",
    asks: &[
        Ask::Deploy(Behaviour::Good, Outcome::Promoted),
        Ask::Deploy(Behaviour::Good, Outcome::Promoted),
        Ask::Meddle(Meddling::SentToStandby),
        Ask::Deploy(Behaviour::Good, Outcome::Failed),
    ],
    serves: Some(2),
    ..PLAIN
}];
