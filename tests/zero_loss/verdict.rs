//! What became of every request of a run.

use std::collections::{BTreeMap, HashMap};
use std::fmt;
use std::time::Duration;

use cutover_tests::front::Talk;
use cutover_tests::load::{Journal, Kind, Outcome, Record, Report};

use crate::kill::{Kill, Victims};

/// Losses that are shown one by one.
const SHOWN: usize = 5;

/// Messages of a run that may cross a good-bye. The user looks at its socket right
/// before it sends, and the proxy waits for the echo of what it has read, so only
/// a message that was sent in the moment of the good-bye can. It cannot be none: nothing
/// stands still between a look and a write. Whether a target was asked does not tell
/// such a message from a lost one, as the proxy passes on what comes behind
/// its good-bye, for those who want no answer.
const MOST_CROSSED: usize = 1;

/// Answers of each kind, without which a run shows nothing.
const FEWEST: usize = 3;

/// What the scenario itself found, and did.
#[derive(Default)]
pub(crate) struct Found {
    /// The kinds that took part, and those that did not.
    pub(crate) kinds: Vec<Kind>,
    pub(crate) without: Vec<Kind>,
    /// No target fails in this scenario.
    pub(crate) is_sound: bool,
    /// What must not be.
    pub(crate) troubles: Vec<String>,
    /// The targets that were killed.
    pub(crate) kills: Vec<Kill>,
}

/// What instances of the proxy say that they sent twice.
#[derive(Default)]
pub(crate) struct Declared {
    talks: Vec<Talk>,
    retries: BTreeMap<String, u64>,
}

impl Declared {
    /// Asks an instance now, and again at the end if it lives.
    pub(crate) async fn listen(&mut self, mut talk: Talk) -> anyhow::Result<()> {
        self.ask(&mut talk).await?;
        self.talks.push(talk);
        Ok(())
    }

    async fn ask(&mut self, talk: &mut Talk) -> anyhow::Result<()> {
        let statistics = talk.statistics().await?;
        let pools = statistics.apps.values().flat_map(BTreeMap::values);
        let retries = pools.map(|pool| pool.retries).sum();
        self.retries.insert(statistics.instance, retries);
        Ok(())
    }

    /// All of them together.
    pub(crate) async fn retries(&mut self) -> u64 {
        for mut talk in std::mem::take(&mut self.talks) {
            // One that has ended said before what it had declared.
            let _ = self.ask(&mut talk).await;
        }
        self.retries.values().sum()
    }
}

/// See the module.
pub(crate) struct Verdict {
    found: Found,
    elapsed: Duration,
    /// Requests by kind, and those of them that were answered well.
    counts: BTreeMap<Kind, (usize, usize)>,
    lost: Vec<String>,
    /// Requests that a killed target had.
    killed: BTreeMap<Kind, usize>,
    /// Messages that a good-bye crossed.
    crossed: usize,
    repeated: u64,
    declared: u64,
    doubled: Vec<String>,
}

impl Verdict {
    /// Holds the clients' records against the targets' journals.
    pub(crate) fn of(report: Report, journals: &[Journal], declared: u64, found: Found) -> Self {
        let mut seen: HashMap<&str, u64> = HashMap::new();
        for id in journals.iter().flat_map(|journal| &journal.ids) {
            *seen.entry(id).or_default() += 1;
        }
        let mut victims = Victims::of(&found.kills, journals, &report);
        let mut verdict = Self {
            found,
            elapsed: report.elapsed,
            counts: BTreeMap::new(),
            lost: Vec::new(),
            killed: BTreeMap::new(),
            crossed: 0,
            repeated: 0,
            declared,
            doubled: Vec::new(),
        };
        for record in &report.records {
            let times = seen.get(record.id.as_str()).copied().unwrap_or(0);
            verdict.add(record, times, &mut victims);
        }
        verdict
    }

    fn add(&mut self, record: &Record, times: u64, victims: &mut Victims) {
        let (sent, ok) = self.counts.entry(record.kind).or_default();
        *sent += 1;
        *ok += usize::from(record.is_ok());
        let at = |what: &str| {
            let (kind, id) = (record.kind, &record.id);
            let (began, ended) = (record.began, record.ended());
            format!("{kind:?} {id} from {began:.3?} to {ended:.3?}: {what}")
        };
        match &record.outcome {
            Outcome::Ok if times == 0 => self.lost.push(at("answered, and no target was asked")),
            Outcome::Ok => {}
            Outcome::Failed { .. } if record.is_crossed() && self.crossed < MOST_CROSSED => {
                self.crossed += 1;
            }
            Outcome::Failed { phase, reason } => {
                if victims.take(record, times) {
                    *self.killed.entry(record.kind).or_default() += 1;
                } else {
                    let asked = format!("{phase:?}: {reason} (targets were asked {times} times)");
                    self.lost.push(at(&asked));
                }
            }
        }
        if times > 1 {
            if is_idempotent(record.kind) {
                self.repeated += times - 1;
            } else {
                self.doubled
                    .push(at(&format!("targets were asked {times} times")));
            }
        }
    }

    /// Everything that must not be, one sentence each.
    pub(crate) fn problems(&self) -> impl Iterator<Item = String> {
        let mut problems = self.found.troubles.clone();
        let count = self.lost.len();
        if count > 0 {
            problems.push(format!("{count} requests were lost"));
        }
        problems.extend(self.lost.iter().take(SHOWN).cloned());
        problems.extend(self.doubled.iter().take(SHOWN).cloned());
        let (repeated, declared) = (self.repeated, self.declared);
        if repeated > declared {
            let what = format!("{repeated} repeats, of which the proxy declared {declared}");
            problems.push(what);
        }
        if declared > 0 && self.found.is_sound {
            // Who is drained and left in order has nothing that needs a second try.
            let what = format!("the proxy tried {declared} times again, and no target failed");
            problems.push(what);
        }
        for kind in &self.found.kinds {
            let (_, ok) = self.counts.get(kind).copied().unwrap_or_default();
            if ok < FEWEST {
                problems.push(format!("{ok} requests of {kind:?} were answered: too few"));
            }
        }
        problems.into_iter()
    }
}

pub(crate) fn is_idempotent(kind: Kind) -> bool {
    match kind {
        Kind::KeepAlive | Kind::Fresh | Kind::Http2 | Kind::Events => true,
        Kind::Slow | Kind::Post | Kind::Upload | Kind::Http2Post | Kind::WebSocket => false,
    }
}

impl fmt::Display for Verdict {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (kind, (sent, _)) in &self.counts {
            write!(f, "{kind:?} {sent}, ")?;
        }
        let (lost, doubled) = (self.lost.len(), self.doubled.len());
        let (repeated, declared) = (self.repeated, self.declared);
        write!(
            f,
            "lost {lost}, doubled {doubled}, repeated {repeated} of {declared} declared"
        )?;
        if self.crossed > 0 {
            write!(f, ", crossed a good-bye {}", self.crossed)?;
        }
        for (kind, count) in &self.killed {
            write!(f, ", with a killed target {kind:?} {count}")?;
        }
        if !self.found.without.is_empty() {
            write!(f, ", WITHOUT {:?}", self.found.without)?;
        }
        write!(f, ", {:.1} s", self.elapsed.as_secs_f64())
    }
}
