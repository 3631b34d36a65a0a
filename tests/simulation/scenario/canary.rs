//! Canary: shares, rules, and the comparison with the old release.

use std::time::Duration;

use cutover_plan::outcome::Outcome;

use super::{Ask, Behaviour, Edit, Meddling, Moment, PLAIN, Scenario, Word};

const CANARY: Edit = ("port = 8080", "port = 8080\nstrategy = \"canary\"");
const STAGES: Edit = (
    "[github]",
    "[canary]\nweights = [25, 50, 100]\nbake = \"5s\"\n[github]",
);
/// Ten requests come in a second, so a stage shows a dozen of the new release.
const FEW: Edit = ("max_error_rate", "min_compared = 8\nmax_error_rate");
const APPROVAL: Edit = ("[github]", "[approval]\nbefore = \"full\"\n[github]");

/// See the module.
pub(super) const SCENARIOS: &[Scenario] = &[
    Scenario {
        name: "canary",
        file: &[CANARY, STAGES, FEW],
        asks: &[
            Ask::Deploy(Behaviour::Good, Outcome::Promoted),
            Ask::Deploy(Behaviour::Good, Outcome::Promoted),
        ],
        serves: Some(2),
        // A quarter of fifty and half of fifty, before it had all.
        seen: |world| world.split_to("v2") >= 30 && world.split_to("v1") >= 55,
        whole: true,
        ..PLAIN
    },
    Scenario {
        name: "canary of two, by rules",
        file: &[
            (
                "port = 8080",
                "port = 8080\nstrategy = \"canary\"\nreplicas = 2",
            ),
            (
                "[github]",
                "[canary]\nweights = [0, 50, 100]\nbake = \"5s\"\naffinity = \"none\"\n[[canary.rules]]\ncookie = \"beta\"\nequals = \"yes\"\n[github]",
            ),
            ("max_error_rate", "min_compared = 4\nmax_error_rate"),
        ],
        asks: &[
            Ask::Deploy(Behaviour::Good, Outcome::Promoted),
            Ask::Deploy(Behaviour::Good, Outcome::Promoted),
            Ask::Rollback(Outcome::Promoted),
        ],
        serves: Some(1),
        seen: |world| world.chosen >= 10,
        ..PLAIN
    },
    Scenario {
        name: "canary, bad at its gate",
        file: &[CANARY, STAGES, FEW],
        asks: &[
            Ask::Deploy(Behaviour::Good, Outcome::Promoted),
            Ask::Deploy(Behaviour::NeverHealthy, Outcome::Failed),
        ],
        serves: Some(1),
        ..PLAIN
    },
    Scenario {
        name: "canary, bad for its share",
        file: &[CANARY, STAGES, FEW],
        asks: &[
            Ask::Deploy(Behaviour::Good, Outcome::Promoted),
            Ask::Deploy(Behaviour::FailsUsers, Outcome::RolledBack),
        ],
        serves: Some(1),
        whys: &["v2 failed 8 of 8 requests"],
        ..PLAIN
    },
    Scenario {
        name: "canary, worse than before",
        file: &[CANARY, STAGES, FEW],
        asks: &[
            Ask::Deploy(Behaviour::Good, Outcome::Promoted),
            Ask::Deploy(Behaviour::FailsOneIn(2), Outcome::RolledBack),
        ],
        serves: Some(1),
        whys: &["times likelier if v2 is worse"],
        ..PLAIN
    },
    Scenario {
        name: "canary, crashes under its share",
        file: &[CANARY, STAGES, FEW],
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
        name: "canary, aborted at half",
        file: &[CANARY, STAGES, FEW],
        asks: &[
            Ask::Deploy(Behaviour::Good, Outcome::Promoted),
            Ask::Start(Behaviour::Good, Outcome::Aborted),
            Ask::Await(Moment::Watch(2)),
            Ask::Wait(Duration::from_secs(2)),
            Ask::Say(Word::Abort),
        ],
        serves: Some(1),
        ..PLAIN
    },
    Scenario {
        name: "canary, superseded",
        file: &[
            CANARY,
            STAGES,
            FEW,
            (
                "[github]",
                "[supersede]\nafter_shift = \"supersede\"\n[github]",
            ),
        ],
        asks: &[
            Ask::Deploy(Behaviour::Good, Outcome::Promoted),
            Ask::Start(Behaviour::Good, Outcome::Superseded),
            Ask::Await(Moment::Watch(1)),
            Ask::Deploy(Behaviour::Good, Outcome::Promoted),
        ],
        serves: Some(3),
        whys: &["took its place"],
        ..PLAIN
    },
    Scenario {
        name: "canary, superseded by what serves",
        file: &[
            CANARY,
            STAGES,
            FEW,
            (
                "[github]",
                "[supersede]\nafter_shift = \"supersede\"\n[github]",
            ),
        ],
        asks: &[
            Ask::Deploy(Behaviour::Good, Outcome::Promoted),
            Ask::Start(Behaviour::Good, Outcome::Superseded),
            Ask::Await(Moment::Watch(1)),
            Ask::Earlier(1, Outcome::Promoted),
        ],
        serves: Some(1),
        whys: &["took its place"],
        made: Some(2),
        ..PLAIN
    },
    Scenario {
        name: "canary, and the old release breaks",
        file: &[CANARY, STAGES, FEW],
        asks: &[
            Ask::Deploy(Behaviour::Good, Outcome::Promoted),
            Ask::Start(Behaviour::Good, Outcome::Promoted),
            Ask::Await(Moment::Watch(2)),
            Ask::Meddle(Meddling::OldSickened),
        ],
        serves: Some(2),
        ..PLAIN
    },
    Scenario {
        name: "canary, sent on",
        file: &[CANARY, STAGES, FEW],
        asks: &[
            Ask::Deploy(Behaviour::Good, Outcome::Promoted),
            Ask::Start(Behaviour::Good, Outcome::Promoted),
            Ask::Await(Moment::Watch(1)),
            Ask::Say(Word::Promote { full: false }),
            Ask::Await(Moment::Watch(2)),
            Ask::Say(Word::Promote { full: true }),
        ],
        serves: Some(2),
        ..PLAIN
    },
    Scenario {
        name: "canary, approved for all",
        file: &[CANARY, STAGES, FEW],
        asks: &[
            Ask::Deploy(Behaviour::Good, Outcome::Promoted),
            Ask::File(&[APPROVAL]),
            Ask::Start(Behaviour::Good, Outcome::Promoted),
            Ask::Await(Moment::Held),
            Ask::Wait(Duration::from_secs(3)),
            Ask::Say(Word::Approve),
        ],
        serves: Some(2),
        ..PLAIN
    },
    Scenario {
        name: "canary, refused for all",
        file: &[CANARY, STAGES, FEW],
        asks: &[
            Ask::Deploy(Behaviour::Good, Outcome::Promoted),
            Ask::File(&[APPROVAL]),
            Ask::Start(Behaviour::Good, Outcome::Aborted),
            Ask::Await(Moment::Held),
            Ask::Say(Word::Reject),
        ],
        serves: Some(1),
        whys: &["a person said no"],
        ..PLAIN
    },
];

/// A test that goes on over the stages begins anew when the agent dies, and may
/// then find less: that is no fault, but another end.
pub(super) const WITHOUT_FAULTS: &[Scenario] = &[Scenario {
    name: "canary, bad over two stages",
    file: &[
        CANARY,
        STAGES,
        (
            "max_error_rate = \"10%\"",
            "min_compared = 32\nmax_error_rate = \"50%\"",
        ),
    ],
    asks: &[
        Ask::Deploy(Behaviour::Good, Outcome::Promoted),
        Ask::Deploy(Behaviour::FailsOneIn(4), Outcome::RolledBack),
    ],
    serves: Some(1),
    whys: &["times likelier if v2 is worse"],
    ..PLAIN
}];
