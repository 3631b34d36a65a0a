//! The app's file changes while its image stays.

use std::time::Duration;

use cutover_plan::outcome::Outcome;

use super::{Ask, Behaviour, Edit, Meddling, Moment, PLAIN, Scenario};

const THREE: Edit = ("port = 8080", "port = 8080\nreplicas = 3");
const ONE: Edit = ("replicas = 3", "replicas = 1");
const OTHER: Edit = ("port = 8080", "port = 8080\nenv = { COLOUR = \"red\" }");

/// See the module.
pub(super) const SCENARIOS: &[Scenario] = &[
    Scenario {
        name: "another configuration",
        asks: &[
            Ask::Deploy(Behaviour::Good, Outcome::Promoted),
            Ask::Again(Outcome::Promoted),
            Ask::File(&[OTHER]),
            Ask::Again(Outcome::Promoted),
        ],
        serves: Some(1),
        made: Some(2),
        ..PLAIN
    },
    Scenario {
        name: "more and fewer containers",
        asks: &[
            Ask::Deploy(Behaviour::Good, Outcome::Promoted),
            Ask::File(&[THREE]),
            Ask::Again(Outcome::Promoted),
            Ask::File(&[ONE]),
            Ask::Again(Outcome::Promoted),
        ],
        serves: Some(1),
        made: Some(5),
        ..PLAIN
    },
    Scenario {
        name: "more and fewer containers, one by one",
        file: &[("port = 8080", "port = 8080\nstrategy = \"rolling\"")],
        asks: &[
            Ask::Deploy(Behaviour::Good, Outcome::Promoted),
            Ask::File(&[THREE]),
            Ask::Again(Outcome::Promoted),
            Ask::File(&[ONE]),
            Ask::Again(Outcome::Promoted),
        ],
        serves: Some(1),
        made: Some(5),
        ..PLAIN
    },
    Scenario {
        name: "the release that serves gets more and fewer containers",
        asks: &[
            Ask::Deploy(Behaviour::Good, Outcome::Promoted),
            Ask::File(&[THREE]),
            Ask::Wait(Duration::from_secs(60)),
            Ask::File(&[ONE]),
            Ask::Wait(Duration::from_secs(60)),
        ],
        serves: Some(1),
        made: Some(3),
        ..PLAIN
    },
    Scenario {
        name: "a newer image comes while more containers start",
        asks: &[
            Ask::Deploy(
                Behaviour::HealthyAfter(Duration::from_secs(5)),
                Outcome::Promoted,
            ),
            Ask::File(&[THREE]),
            Ask::Wait(Duration::from_secs(4)),
            Ask::Deploy(Behaviour::Good, Outcome::Promoted),
        ],
        serves: Some(2),
        made: Some(6),
        ..PLAIN
    },
    Scenario {
        name: "rolled back while more containers start",
        asks: &[
            Ask::Deploy(Behaviour::Good, Outcome::Promoted),
            Ask::Deploy(
                Behaviour::HealthyAfter(Duration::from_secs(5)),
                Outcome::Promoted,
            ),
            Ask::File(&[THREE]),
            Ask::Wait(Duration::from_secs(4)),
            Ask::Rollback(Outcome::Promoted),
            Ask::Wait(Duration::from_secs(60)),
        ],
        serves: Some(1),
        ..PLAIN
    },
    Scenario {
        name: "somebody removes all that serves",
        file: &[("port = 8080", "port = 8080\nreplicas = 2")],
        asks: &[
            Ask::Deploy(Behaviour::Good, Outcome::Promoted),
            Ask::Meddle(Meddling::Removed),
            // What came back in part is made whole after ten minutes, if a try failed.
            Ask::Wait(Duration::from_secs(660)),
        ],
        serves: Some(1),
        made: Some(4),
        seen: |world| !world.deserted && world.containers.len() == 2,
        ..PLAIN
    },
    Scenario {
        name: "somebody removes all that serves, and an image comes",
        asks: &[
            Ask::Deploy(
                Behaviour::HealthyAfter(Duration::from_secs(5)),
                Outcome::Promoted,
            ),
            Ask::Meddle(Meddling::Removed),
            Ask::Wait(Duration::from_secs(4)),
            Ask::Deploy(Behaviour::Good, Outcome::Promoted),
        ],
        serves: Some(2),
        made: Some(3),
        seen: |world| !world.deserted,
        ..PLAIN
    },
    Scenario {
        name: "another image and more containers",
        asks: &[
            Ask::Deploy(Behaviour::Good, Outcome::Promoted),
            Ask::File(&[THREE]),
            Ask::Deploy(Behaviour::Good, Outcome::Promoted),
        ],
        serves: Some(2),
        made: Some(4),
        ..PLAIN
    },
    Scenario {
        name: "another image and fewer containers, one by one",
        file: &[(
            "port = 8080",
            "port = 8080\nstrategy = \"rolling\"\nreplicas = 3",
        )],
        asks: &[
            Ask::Deploy(Behaviour::Good, Outcome::Promoted),
            Ask::File(&[ONE]),
            Ask::Deploy(Behaviour::Good, Outcome::Promoted),
        ],
        serves: Some(2),
        made: Some(4),
        ..PLAIN
    },
    Scenario {
        // It ends as its plan says, which was made before.
        name: "another file in the middle of a deploy",
        asks: &[
            Ask::Deploy(Behaviour::Good, Outcome::Promoted),
            Ask::Start(Behaviour::Good, Outcome::Promoted),
            Ask::Await(Moment::Watch(1)),
            Ask::File(&[THREE]),
            Ask::Await(Moment::Over),
            Ask::Again(Outcome::Promoted),
        ],
        serves: Some(2),
        made: Some(5),
        ..PLAIN
    },
    Scenario {
        name: "one container of two stays unhealthy",
        file: &[("port = 8080", "port = 8080\nreplicas = 2")],
        asks: &[
            Ask::Deploy(Behaviour::Good, Outcome::Promoted),
            Ask::Deploy(Behaviour::OneGood, Outcome::Failed),
        ],
        serves: Some(1),
        whys: &["was not healthy within"],
        made: Some(4),
        ..PLAIN
    },
    Scenario {
        name: "another strategy",
        asks: &[
            Ask::Deploy(Behaviour::Good, Outcome::Promoted),
            Ask::File(&[("port = 8080", "port = 8080\nstrategy = \"in-place\"")]),
            Ask::Deploy(Behaviour::Good, Outcome::Promoted),
            Ask::File(&[
                ("\"in-place\"", "\"canary\""),
                (
                    "[github]",
                    "[canary]\nweights = [50, 100]\nbake = \"3s\"\n[github]",
                ),
            ]),
            Ask::Deploy(Behaviour::Good, Outcome::Promoted),
        ],
        serves: Some(3),
        ..PLAIN
    },
];
