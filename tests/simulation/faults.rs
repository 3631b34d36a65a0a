//! What goes wrong, and at which effect.

use std::fmt;

use crate::scenario::Scenario;

/// What happens to one effect.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Fault {
    /// The agent dies just before it.
    CrashBefore,
    /// The agent dies just after it, before it hears of it.
    CrashAfter,
    /// It is made twice.
    Twice,
    /// It is refused for good.
    Fail,
    /// It is not made, as its maker cannot be reached for a while.
    Unavailable,
    /// It is made, but the answer says that its maker could not be reached.
    AnswerLost,
    /// It is made, and the answer comes after twenty seconds.
    Late,
    /// It is made and answered; then its maker answers nothing for twenty seconds.
    StandsStill,
    /// The proxy is another process from then on, whose counts begin anew.
    AnewProxy,
}

const NAMES: [(Fault, &str); 9] = [
    (Fault::CrashBefore, "crash-before"),
    (Fault::CrashAfter, "crash-after"),
    (Fault::Twice, "twice"),
    (Fault::Fail, "fail"),
    (Fault::Unavailable, "unavailable"),
    (Fault::AnswerLost, "answer-lost"),
    (Fault::Late, "late"),
    (Fault::StandsStill, "stands-still"),
    (Fault::AnewProxy, "anew-proxy"),
];

/// The faults of a run, by the number of the effect.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Faults {
    pub(crate) points: Vec<(usize, Fault)>,
}

impl Faults {
    pub(crate) fn one(at: usize, fault: Fault) -> Self {
        Self {
            points: vec![(at, fault)],
        }
    }

    pub(crate) fn two(first: (usize, Fault), second: (usize, Fault)) -> Self {
        Self {
            points: vec![first, second],
        }
    }

    pub(crate) fn at(&self, effect: usize) -> Option<Fault> {
        let mut points = self.points.iter();
        points
            .find(|(at, _)| *at == effect)
            .map(|(_, fault)| *fault)
    }

    /// Whether an effect may end in another way than without faults.
    pub(crate) fn are_visible(&self) -> bool {
        self.points
            .iter()
            .any(|(_, fault)| matches!(fault, Fault::Fail | Fault::Late))
    }

    pub(crate) fn stand_still(&self) -> bool {
        let mut points = self.points.iter();
        points.any(|(_, fault)| *fault == Fault::StandsStill)
    }
}

impl fmt::Display for Faults {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (at, fault) in &self.points {
            let name = NAMES
                .iter()
                .find(|(one, _)| one == fault)
                .map_or("?", |(_, name)| name);
            write!(f, "{at}:{name} ")?;
        }
        Ok(())
    }
}

/// Reads what a failure printed: the scenario's name and its faults.
pub(crate) fn parse(line: &str) -> (&'static Scenario, Faults) {
    let is_point = |word: &&str| word.contains(':');
    let name: Vec<&str> = line
        .split_whitespace()
        .take_while(|word| !is_point(word))
        .collect();
    let points = line.split_whitespace().filter(is_point).map(|word| {
        let (at, name) = word.split_once(':').unwrap();
        let fault = NAMES
            .iter()
            .find(|(_, known)| *known == name)
            .expect("a known fault")
            .0;
        (at.parse().expect("the number of an effect"), fault)
    });
    (
        Scenario::find(&name.join(" ")),
        Faults {
            points: points.collect(),
        },
    )
}
