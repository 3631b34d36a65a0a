//! What people want of a deploy: windows, words, and newer calls.

use std::time::Duration;

use cutover_plan::outcome::Outcome;

use super::{Ask, Behaviour, Edit, Moment, PLAIN, Scenario, Word};

const PREVIEW: Edit = (
    "[github]",
    concat!(
        "[preview]\nsecret_file = \"",
        env!("CARGO_MANIFEST_DIR"),
        "/simulation/preview.secret\"\n[github]"
    ),
);
const APPROVAL: Edit = ("[github]", "[approval]\ndeadline = \"60s\"\n[github]");
const SILENCE_IS_YES: Edit = (
    "[github]",
    "[approval]\ndeadline = \"60s\"\non_timeout = \"promote\"\n[github]",
);
/// No window shows so many requests, so a person is asked.
const HOLD: Edit = (
    "max_error_rate",
    "min_requests = 500\non_no_verdict = \"hold\"\nhold_deadline = \"60s\"\nmax_error_rate",
);

/// See the module.
pub(super) const SCENARIOS: &[Scenario] = &[
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
        whole: true,
        ..PLAIN
    },
    Scenario {
        name: "windows, closed at the very first",
        file: &[(
            "[github]",
            "[windows]\ntimezone = \"UTC\"\ndeny = [\"thu 20:00-20:28\"]\n[github]",
        )],
        asks: &[
            Ask::Refused("closed"),
            Ask::Until(Duration::from_secs(90)),
            Ask::Deploy(Behaviour::Good, Outcome::Promoted),
        ],
        serves: Some(2),
        made: Some(1),
        ..PLAIN
    },
    Scenario {
        name: "aborted, and the same image again",
        asks: &[
            Ask::Deploy(Behaviour::Good, Outcome::Promoted),
            Ask::Start(Behaviour::Good, Outcome::Aborted),
            Ask::Await(Moment::Watch(1)),
            Ask::Say(Word::Abort),
            Ask::Await(Moment::Over),
            Ask::Again(Outcome::Promoted),
        ],
        serves: Some(2),
        made: Some(3),
        ..PLAIN
    },
    Scenario {
        // Also what an older commit is whose call arrives after a newer one's.
        name: "an earlier image in the place of a newer one",
        asks: &[
            Ask::Deploy(Behaviour::Good, Outcome::Promoted),
            Ask::Deploy(Behaviour::Good, Outcome::Promoted),
            Ask::Start(Behaviour::NeverHealthy, Outcome::Superseded),
            Ask::RollbackRefused("busy"),
            Ask::Wait(Duration::from_millis(300)),
            Ask::Earlier(1, Outcome::Promoted),
        ],
        serves: Some(1),
        whys: &["took its place"],
        made: Some(4),
        spared: 2,
        ..PLAIN
    },
    Scenario {
        name: "superseded",
        asks: &[
            Ask::Deploy(Behaviour::Good, Outcome::Promoted),
            Ask::Start(Behaviour::NeverHealthy, Outcome::Superseded),
            Ask::Wait(Duration::from_millis(300)),
            Ask::Deploy(Behaviour::Good, Outcome::Promoted),
        ],
        serves: Some(3),
        whys: &["took its place"],
        whole: true,
        ..PLAIN
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
        ..PLAIN
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
        whole: true,
        ..PLAIN
    },
    Scenario {
        name: "shown before it has users, from the first",
        file: &[PREVIEW, APPROVAL],
        asks: &[
            Ask::Start(Behaviour::Good, Outcome::Promoted),
            Ask::Await(Moment::Held),
            Ask::Wait(Duration::from_secs(2)),
            Ask::Say(Word::Approve),
            Ask::Await(Moment::Over),
            Ask::Start(Behaviour::Good, Outcome::Promoted),
            Ask::Await(Moment::Held),
            Ask::Wait(Duration::from_secs(2)),
            Ask::Say(Word::Approve),
        ],
        serves: Some(2),
        seen: |world| world.guests >= 4 && world.turned_away >= 10,
        whole: true,
        ..PLAIN
    },
    Scenario {
        name: "shown, and refused",
        asks: &[
            Ask::Deploy(Behaviour::Good, Outcome::Promoted),
            Ask::File(&[PREVIEW, APPROVAL]),
            Ask::Start(Behaviour::Good, Outcome::Aborted),
            Ask::Await(Moment::Held),
            Ask::Wait(Duration::from_secs(2)),
            Ask::Say(Word::Reject),
        ],
        serves: Some(1),
        whys: &["a person said no"],
        seen: |world| world.guests >= 2,
        ..PLAIN
    },
    Scenario {
        name: "shown by a rolling deploy",
        file: &[(
            "port = 8080",
            "port = 8080\nstrategy = \"rolling\"\nreplicas = 2",
        )],
        asks: &[
            Ask::Deploy(Behaviour::Good, Outcome::Promoted),
            Ask::File(&[PREVIEW, SILENCE_IS_YES]),
            Ask::Deploy(Behaviour::Good, Outcome::Promoted),
        ],
        serves: Some(2),
        seen: |world| world.guests >= 10,
        ..PLAIN
    },
    Scenario {
        name: "nobody approves",
        asks: &[
            Ask::Deploy(Behaviour::Good, Outcome::Promoted),
            Ask::File(&[APPROVAL]),
            Ask::Deploy(Behaviour::Good, Outcome::Aborted),
        ],
        serves: Some(1),
        whys: &["nobody approved within"],
        ..PLAIN
    },
    Scenario {
        name: "nobody approves, which is a yes",
        asks: &[
            Ask::Deploy(Behaviour::Good, Outcome::Promoted),
            Ask::File(&[SILENCE_IS_YES]),
            Ask::Deploy(Behaviour::Good, Outcome::Promoted),
        ],
        serves: Some(2),
        ..PLAIN
    },
    Scenario {
        name: "held, and let go on",
        asks: &[
            Ask::Deploy(Behaviour::Good, Outcome::Promoted),
            Ask::File(&[HOLD]),
            Ask::Start(Behaviour::Good, Outcome::Promoted),
            Ask::Await(Moment::Held),
            Ask::Wait(Duration::from_secs(2)),
            Ask::Say(Word::Approve),
        ],
        serves: Some(2),
        ..PLAIN
    },
    Scenario {
        name: "held, and refused",
        asks: &[
            Ask::Deploy(Behaviour::Good, Outcome::Promoted),
            Ask::File(&[HOLD]),
            Ask::Start(Behaviour::Good, Outcome::Aborted),
            Ask::Await(Moment::Held),
            Ask::Say(Word::Reject),
        ],
        serves: Some(1),
        ..PLAIN
    },
    Scenario {
        name: "held, and nobody decides",
        asks: &[
            Ask::Deploy(Behaviour::Good, Outcome::Promoted),
            Ask::File(&[HOLD]),
            Ask::Deploy(Behaviour::Good, Outcome::NoVerdict),
        ],
        serves: Some(1),
        whys: &["nobody decided in time"],
        ..PLAIN
    },
    Scenario {
        name: "sent on without approval",
        asks: &[
            Ask::Deploy(Behaviour::Good, Outcome::Promoted),
            Ask::File(&[APPROVAL]),
            Ask::Start(Behaviour::Good, Outcome::Promoted),
            Ask::Await(Moment::Held),
            Ask::Say(Word::Promote { full: true }),
        ],
        serves: Some(2),
        ..PLAIN
    },
];
