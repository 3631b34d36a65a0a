//! Hooks at every place of a deploy.

use std::time::Duration;

use cutover_plan::outcome::Outcome;

use super::{Ask, Behaviour, PLAIN, Scenario};

/// See the module.
pub(super) const SCENARIOS: &[Scenario] = &[
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
        whole: true,
        ..PLAIN
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
        whole: true,
        ..PLAIN
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
        whole: true,
        ..PLAIN
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
        whole: true,
        ..PLAIN
    },
];
