//! Rolling: containers are replaced a few at a time.

use std::time::Duration;

use cutover_plan::outcome::Outcome;

use super::{Ask, Behaviour, Edit, Moment, PLAIN, Scenario, Word};

const ROLLING: Edit = (
    "port = 8080",
    "port = 8080\nstrategy = \"rolling\"\nreplicas = 3",
);
const BAKED: Edit = ("[github]", "[rolling]\nbake = \"4s\"\n[github]");
const PAIRS: Edit = ("[github]", "[rolling]\nbatch = 2\n[github]");
const FEW: Edit = ("max_error_rate", "min_compared = 8\nmax_error_rate");

/// See the module.
pub(super) const SCENARIOS: &[Scenario] = &[
    Scenario {
        name: "rolling",
        file: &[ROLLING],
        asks: &[
            Ask::Deploy(Behaviour::Good, Outcome::Promoted),
            Ask::Deploy(Behaviour::Good, Outcome::Promoted),
        ],
        serves: Some(2),
        made: Some(6),
        whole: true,
        ..PLAIN
    },
    Scenario {
        name: "rolling by pairs, and back",
        file: &[ROLLING, PAIRS],
        asks: &[
            Ask::Deploy(Behaviour::Good, Outcome::Promoted),
            Ask::Deploy(Behaviour::Good, Outcome::Promoted),
            Ask::Rollback(Outcome::Promoted),
        ],
        serves: Some(1),
        ..PLAIN
    },
    Scenario {
        name: "rolling, bad at its gate",
        file: &[ROLLING],
        asks: &[
            Ask::Deploy(Behaviour::Good, Outcome::Promoted),
            Ask::Deploy(Behaviour::NeverHealthy, Outcome::Failed),
        ],
        serves: Some(1),
        ..PLAIN
    },
    Scenario {
        name: "rolling, bad for its share",
        file: &[ROLLING, BAKED, FEW],
        asks: &[
            Ask::Deploy(Behaviour::Good, Outcome::Promoted),
            Ask::Deploy(Behaviour::FailsUsers, Outcome::RolledBack),
        ],
        serves: Some(1),
        ..PLAIN
    },
    Scenario {
        name: "rolling, bad for all",
        file: &[ROLLING],
        asks: &[
            Ask::Deploy(Behaviour::Good, Outcome::Promoted),
            Ask::Deploy(Behaviour::FailsOneIn(3), Outcome::RolledBack),
        ],
        serves: Some(1),
        ..PLAIN
    },
    Scenario {
        name: "rolling, crashes under its share",
        file: &[ROLLING, BAKED, FEW],
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
        name: "rolling, aborted in the middle",
        file: &[ROLLING, BAKED, FEW],
        asks: &[
            Ask::Deploy(Behaviour::Good, Outcome::Promoted),
            Ask::Start(Behaviour::Good, Outcome::Aborted),
            Ask::Await(Moment::Watch(2)),
            Ask::Wait(Duration::from_secs(1)),
            Ask::Say(Word::Abort),
        ],
        serves: Some(1),
        ..PLAIN
    },
];
