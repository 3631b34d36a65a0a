//! Shadow: a release is compared on copies of requests.

use std::time::Duration;

use cutover_plan::outcome::Outcome;

use super::{Ask, Behaviour, Edit, Moment, PLAIN, Scenario, Word};

const SHADOW: Edit = ("port = 8080", "port = 8080\nstrategy = \"shadow\"");
const WINDOW: Edit = ("[github]", "[shadow]\nwindow = \"4s\"\n[github]");
const HALF_AND_STOP: Edit = (
    "[github]",
    "[shadow]\nwindow = \"8s\"\nshare = \"50%\"\nthen = \"stop\"\n[github]",
);
const FEW: Edit = ("max_error_rate", "min_compared = 8\nmax_error_rate");

/// See the module.
pub(super) const SCENARIOS: &[Scenario] = &[
    Scenario {
        name: "shadow",
        file: &[SHADOW, WINDOW, FEW],
        asks: &[
            Ask::Deploy(Behaviour::Good, Outcome::Promoted),
            Ask::Deploy(Behaviour::Good, Outcome::Promoted),
        ],
        serves: Some(2),
        seen: |world| world.copied() >= 25,
        whole: true,
        ..PLAIN
    },
    Scenario {
        name: "shadow, and stop",
        file: &[SHADOW, HALF_AND_STOP, FEW],
        asks: &[
            Ask::Deploy(Behaviour::Good, Outcome::Promoted),
            Ask::Deploy(Behaviour::Good, Outcome::Shadowed),
            Ask::Deploy(Behaviour::FailsUsers, Outcome::Failed),
        ],
        serves: Some(1),
        seen: |world| world.copied() >= 25 && world.copied() <= 80,
        ..PLAIN
    },
    Scenario {
        name: "shadow, bad at its gate",
        file: &[SHADOW, WINDOW, FEW],
        asks: &[
            Ask::Deploy(Behaviour::Good, Outcome::Promoted),
            Ask::Deploy(Behaviour::Wavers, Outcome::Failed),
        ],
        serves: Some(1),
        ..PLAIN
    },
    Scenario {
        name: "shadow, bad for copies",
        file: &[SHADOW, WINDOW, FEW],
        asks: &[
            Ask::Deploy(Behaviour::Good, Outcome::Promoted),
            Ask::Deploy(Behaviour::FailsOneIn(2), Outcome::Failed),
        ],
        serves: Some(1),
        whys: &["times likelier if v2 is worse"],
        seen: |world| world.users_of("v2") == 0,
        ..PLAIN
    },
    Scenario {
        name: "shadow, crashes under copies",
        file: &[SHADOW, WINDOW, FEW],
        asks: &[
            Ask::Deploy(Behaviour::Good, Outcome::Promoted),
            Ask::Deploy(
                Behaviour::CrashesAfter(Duration::from_millis(4_200)),
                Outcome::Failed,
            ),
        ],
        serves: Some(1),
        ..PLAIN
    },
    Scenario {
        name: "shadow, aborted under copies",
        file: &[SHADOW, WINDOW, FEW],
        asks: &[
            Ask::Deploy(Behaviour::Good, Outcome::Promoted),
            Ask::Start(Behaviour::Good, Outcome::Aborted),
            Ask::Await(Moment::Watch(1)),
            Ask::Wait(Duration::from_secs(1)),
            Ask::Say(Word::Abort),
        ],
        serves: Some(1),
        ..PLAIN
    },
];
