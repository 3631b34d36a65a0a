//! In-place: requests are held while the old release makes room.

use std::time::Duration;

use cutover_plan::outcome::Outcome;

use super::{Ask, Behaviour, Edit, Meddling, Moment, PLAIN, Scenario, Word};

const IN_PLACE: Edit = ("port = 8080", "port = 8080\nstrategy = \"in-place\"");
/// Two gates, and what a late answer adds to them.
const PATIENT: Edit = ("[github]", "[in_place]\npark_deadline = \"90s\"\n[github]");

/// See the module.
pub(super) const SCENARIOS: &[Scenario] = &[
    Scenario {
        name: "in place",
        file: &[IN_PLACE, PATIENT],
        asks: &[
            Ask::Deploy(Behaviour::Good, Outcome::Promoted),
            Ask::Deploy(
                Behaviour::HealthyAfter(Duration::from_secs(1)),
                Outcome::Promoted,
            ),
            Ask::Rollback(Outcome::Promoted),
        ],
        serves: Some(1),
        seen: |world| world.held_in_all >= 15,
        whole: true,
        ..PLAIN
    },
    Scenario {
        name: "in place, bad at its gate",
        file: &[IN_PLACE, PATIENT],
        asks: &[
            Ask::Deploy(Behaviour::Good, Outcome::Promoted),
            Ask::Deploy(Behaviour::NeverHealthy, Outcome::Failed),
        ],
        serves: Some(1),
        seen: |world| world.held_in_all >= 90,
        ..PLAIN
    },
    Scenario {
        name: "in place, bad under traffic",
        file: &[IN_PLACE, PATIENT],
        asks: &[
            Ask::Deploy(Behaviour::Good, Outcome::Promoted),
            Ask::Deploy(Behaviour::FailsUsers, Outcome::RolledBack),
        ],
        serves: Some(1),
        ..PLAIN
    },
    Scenario {
        name: "in place, crashes under traffic",
        file: &[IN_PLACE, PATIENT],
        asks: &[
            Ask::Deploy(Behaviour::Good, Outcome::Promoted),
            Ask::Deploy(
                Behaviour::CrashesAfter(Duration::from_millis(5_500)),
                Outcome::RolledBack,
            ),
        ],
        serves: Some(1),
        ..PLAIN
    },
    Scenario {
        name: "in place, two containers, aborted while it holds",
        file: &[
            (
                "port = 8080",
                "port = 8080\nstrategy = \"in-place\"\nreplicas = 2",
            ),
            PATIENT,
        ],
        asks: &[
            Ask::Deploy(Behaviour::Good, Outcome::Promoted),
            Ask::Start(
                Behaviour::HealthyAfter(Duration::from_secs(4)),
                Outcome::Aborted,
            ),
            Ask::Await(Moment::Parked),
            Ask::Wait(Duration::from_secs(1)),
            Ask::Say(Word::Abort),
        ],
        serves: Some(1),
        ..PLAIN
    },
    Scenario {
        name: "in place, with little room for who waits",
        file: &[
            IN_PLACE,
            (
                "[github]",
                "[in_place]\npark_requests = 5\npark_deadline = \"2s\"\n[github]",
            ),
        ],
        asks: &[
            Ask::Deploy(Behaviour::Good, Outcome::Promoted),
            Ask::Deploy(
                Behaviour::HealthyAfter(Duration::from_secs(4)),
                Outcome::Promoted,
            ),
        ],
        serves: Some(2),
        refuses: true,
        seen: |world| world.refused >= 10,
        ..PLAIN
    },
    Scenario {
        name: "left held",
        file: &[IN_PLACE, PATIENT],
        asks: &[
            Ask::Deploy(Behaviour::Good, Outcome::Promoted),
            Ask::Meddle(Meddling::LeftHeld),
            Ask::Wait(Duration::from_secs(10)),
        ],
        serves: Some(1),
        seen: |world| world.held_in_all >= 1,
        ..PLAIN
    },
    Scenario {
        name: "in place of a broken release",
        file: &[IN_PLACE, PATIENT],
        asks: &[
            Ask::Deploy(Behaviour::Good, Outcome::Promoted),
            Ask::Meddle(Meddling::Sickened),
            Ask::Deploy(Behaviour::NeverHealthy, Outcome::Failed),
            Ask::Deploy(Behaviour::Good, Outcome::Promoted),
        ],
        serves: Some(3),
        ..PLAIN
    },
];
