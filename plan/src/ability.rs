//! What a plan asks of the host that carries it out, beside starting and
//! stopping one container at a time and sending all users to one release.
//!
//! Which abilities an app needs is known from its file alone, so that a host
//! that lacks one says so before anything is begun.

use std::collections::BTreeSet;
use std::fmt;

use crate::plan::Plan;
use crate::spec::{Affinity, AppSpec, OnNoVerdict, Strategy};
use crate::step::{Step, Undo};
use crate::traffic::{Replicas, Traffic};

/// Something that not every host can do.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Ability {
    /// More than one container of a release.
    Replicas,
    /// Shares of users for two releases at once.
    Weights,
    /// Clients that go to a release whatever the shares.
    Rules,
    /// Clients that stay where they are while shares change.
    Affinity,
    /// Copies of requests.
    Mirror,
    /// Holding requests while no release answers.
    Park,
    /// A release that only those reach who know the app's secret.
    Preview,
    /// Waiting for a person.
    Approval,
}

/// An ability that an app needs, and what in its file asks for it.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Need {
    /// What is needed.
    pub ability: Ability,
    /// The key of the app's file, with its value where that matters.
    pub key: String,
    /// What to write instead.
    pub instead: &'static str,
}

impl Ability {
    /// Every ability.
    pub const ALL: [Self; 8] = [
        Self::Replicas,
        Self::Weights,
        Self::Rules,
        Self::Affinity,
        Self::Mirror,
        Self::Park,
        Self::Preview,
        Self::Approval,
    ];
}

impl fmt::Display for Ability {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Replicas => "several containers of one release",
            Self::Weights => "shares of users for two releases at once",
            Self::Rules => "rules that send clients to a release",
            Self::Affinity => "clients that stay with a release while shares change",
            Self::Mirror => "copies of requests",
            Self::Park => "holding requests while no release answers",
            Self::Preview => "a release that only its people reach",
            Self::Approval => "waiting for a person",
        })
    }
}

impl fmt::Display for Need {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} needs {}", self.key, self.ability)
    }
}

impl AppSpec {
    /// What a deploy of the app may ask of its host. A rollback may ask for
    /// less, which only its plan tells: see [`Plan::needs`].
    pub fn needs(&self) -> BTreeSet<Need> {
        const SIMPLE: &str = "write strategy = \"blue-green\"";
        let mut needs = BTreeSet::new();
        let mut need = |ability, key: &str, instead| {
            needs.insert(Need {
                ability,
                key: key.to_owned(),
                instead,
            });
        };
        let strategy = format!("strategy = \"{}\"", self.strategy);
        match self.strategy {
            Strategy::BlueGreen | Strategy::RedBlack => {}
            Strategy::Canary => {
                need(Ability::Weights, &strategy, SIMPLE);
                if !self.canary.rules.is_empty() {
                    need(Ability::Rules, "canary.rules", "remove canary.rules");
                }
                if self.canary.affinity != Affinity::None || self.canary.new_sessions_only {
                    need(
                        Ability::Affinity,
                        "canary.affinity",
                        "write canary.affinity = \"none\"",
                    );
                }
            }
            Strategy::Rolling => {
                need(Ability::Replicas, &strategy, SIMPLE);
                need(Ability::Weights, &strategy, SIMPLE);
            }
            Strategy::InPlace => need(Ability::Park, &strategy, SIMPLE),
            Strategy::Shadow => need(Ability::Mirror, &strategy, SIMPLE),
        }
        if self.replicas > 1 {
            let key = format!("replicas = {}", self.replicas);
            need(Ability::Replicas, &key, "write replicas = 1");
        }
        if self.preview.is_some() {
            need(Ability::Preview, "[preview]", "remove [preview]");
        }
        if self.approval.is_some() {
            need(Ability::Approval, "[approval]", "remove [approval]");
        }
        if self.watch.on_no_verdict == OnNoVerdict::Hold {
            need(
                Ability::Approval,
                "watch.on_no_verdict = \"hold\"",
                "write watch.on_no_verdict = \"abort\"",
            );
        }
        needs
    }
}

impl Plan {
    /// What its steps ask of the host, on the way there and on the way back.
    pub fn needs(&self) -> BTreeSet<Ability> {
        let mut needs = BTreeSet::new();
        for planned in &self.steps {
            needs.extend(of_step(&planned.step));
            if let Undo::Steps(undo) = &planned.undo {
                needs.extend(undo.iter().flat_map(of_step));
            }
        }
        needs
    }
}

fn of_step(step: &Step) -> BTreeSet<Ability> {
    let several = |replicas: &Replicas| match replicas {
        Replicas::Only(these) if these.len() > 1 => Some(Ability::Replicas),
        Replicas::Only(_) | Replicas::All => None,
    };
    match step {
        Step::Start { replicas, .. } if replicas.len() > 1 => [Ability::Replicas].into(),
        Step::Gate { replicas, .. } => several(replicas).into_iter().collect(),
        Step::Preview { .. } => [Ability::Preview].into(),
        Step::Mirror { .. } => [Ability::Mirror].into(),
        Step::Park { .. } => [Ability::Park].into(),
        Step::Approve { .. } => [Ability::Approval].into(),
        Step::Shift { to, .. } => of_traffic(to),
        // That nobody can say yes to what a watch holds is no harm: its
        // deadline ends it.
        Step::Watch { .. }
        | Step::Start { .. }
        | Step::Preflight { .. }
        | Step::Pull { .. }
        | Step::Hook { .. }
        | Step::Drain { .. }
        | Step::Standby { .. }
        | Step::Retire { .. }
        | Step::Prune { .. } => BTreeSet::new(),
    }
}

fn of_traffic(to: &Traffic) -> BTreeSet<Ability> {
    let whole = |sole| *to == Traffic::all_to(sole);
    let mut needs = BTreeSet::new();
    if !to.sole().is_some_and(whole) && *to != Traffic::none() {
        needs.insert(Ability::Weights);
    }
    if to.chosen.is_some() {
        needs.insert(Ability::Rules);
    }
    needs
}

#[cfg(test)]
mod tests;
