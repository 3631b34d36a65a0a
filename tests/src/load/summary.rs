//! A report in numbers, held against the journals of the apps.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::fmt;
use std::io::ErrorKind;
use std::net::SocketAddr;
use std::path::Path;
use std::time::Duration;

use anyhow::Context as _;

use super::record::{Kind, Outcome, Report};
use crate::request::get;

/// The ids that one instance of the app served.
#[derive(Clone, Debug, Default)]
pub struct Journal {
    /// Its ids.
    pub ids: Vec<String>,
}

impl Journal {
    /// Asks a running instance.
    ///
    /// # Errors
    ///
    /// It does not answer, or forgot some because there were too many.
    pub async fn of(address: SocketAddr) -> anyhow::Result<Self> {
        let answer = get(address, "/journal").await?;
        let ids: Vec<_> = answer.text().lines().map(str::to_owned).collect();
        let served: usize = answer.header("x-journal-count").unwrap_or("0").parse()?;
        anyhow::ensure!(
            ids.len() == served,
            "the journal of {address} has {} of {served} ids",
            ids.len()
        );
        Ok(Self { ids })
    }

    /// Reads the file that instances ran with as `JOURNAL=/FILE`; it has every
    /// id that was asked for. One that is not there yet is empty.
    ///
    /// # Errors
    ///
    /// It cannot be read.
    pub fn from_file(path: &Path) -> anyhow::Result<Self> {
        let text = match std::fs::read_to_string(path) {
            Err(error) if error.kind() == ErrorKind::NotFound => String::new(),
            read => read.with_context(|| format!("reading {}", path.display()))?,
        };
        Ok(Self {
            ids: text.lines().map(str::to_owned).collect(),
        })
    }

    /// Reads the log of an instance that ran with `JOURNAL=stdout`.
    pub fn from_log(log: &str) -> Self {
        let ids = log.lines().filter_map(|line| line.strip_prefix("served "));
        Self {
            ids: ids.map(str::to_owned).collect(),
        }
    }
}

/// What became of a load's requests.
#[derive(Clone, Debug, Default)]
pub struct Summary {
    /// Requests, all of them.
    pub sent: usize,
    /// Answered, wholly and rightly.
    pub ok: usize,
    /// Not so, by kind, phase and reason.
    pub failed: BTreeMap<String, usize>,
    /// Answered well, by an app that is in no journal: the journals that were
    /// given are not all, or somebody else answered.
    pub lost: Vec<String>,
    /// In the journals more than once.
    pub duplicated: Vec<String>,
    /// Failed for the user, though an app served them.
    pub served_in_vain: Vec<String>,
    /// Requests by kind.
    pub kinds: BTreeMap<Kind, usize>,
    /// The versions that answered, one entry for each change.
    pub versions: Vec<String>,
    /// Answers by version.
    pub answers: BTreeMap<String, usize>,
    /// Connections closed while idle, unannounced, seen in time.
    pub idle_closes: u64,
    /// Half of the good answers took at most this; event streams left out.
    pub p50: Duration,
    /// So did 99 in 100.
    pub p99: Duration,
    /// The slowest good answer; event streams left out.
    pub slowest: Duration,
    /// How long the load ran.
    pub elapsed: Duration,
}

impl Report {
    /// The report in numbers. `journals` are those of every instance that may
    /// have served; without any, nothing is lost or duplicated.
    ///
    /// An event stream is not in a journal more than once, but its id is there
    /// from its beginning.
    pub fn summary(&self, journals: &[Journal]) -> Summary {
        let mut served: HashMap<&str, usize> = HashMap::new();
        for id in journals.iter().flat_map(|journal| &journal.ids) {
            *served.entry(id).or_default() += 1;
        }
        let mut summary = Summary {
            sent: self.records.len(),
            idle_closes: self.idle_closes,
            elapsed: self.elapsed,
            versions: self.versions().into_iter().map(str::to_owned).collect(),
            ..Summary::default()
        };
        let mut latencies = Vec::new();
        let mut own = HashSet::new();
        for record in &self.records {
            own.insert(record.id.as_str());
            *summary.kinds.entry(record.kind).or_default() += 1;
            if let Some(version) = &record.version {
                *summary.answers.entry(version.clone()).or_default() += 1;
            }
            let was_served = served.contains_key(record.id.as_str());
            match &record.outcome {
                Outcome::Ok => {
                    summary.ok += 1;
                    if record.kind != Kind::Events {
                        latencies.push(record.latency);
                    }
                    if !journals.is_empty() && !was_served {
                        summary.lost.push(record.id.clone());
                    }
                }
                Outcome::Failed { phase, reason } => {
                    let why = format!("{:?}, {phase:?}: {reason}", record.kind);
                    *summary.failed.entry(why).or_default() += 1;
                    if was_served {
                        summary.served_in_vain.push(record.id.clone());
                    }
                }
            }
        }
        // Another load's ids may be in the same journals.
        let twice = served
            .iter()
            .filter(|(id, count)| **count > 1 && own.contains(**id));
        summary.duplicated = twice.map(|(id, _)| (*id).to_owned()).collect();
        summary.duplicated.sort();
        latencies.sort();
        let at = |share: f64| {
            let position = (latencies.len() as f64 * share).ceil() as usize;
            let position = position.saturating_sub(1);
            latencies.get(position).copied().unwrap_or_default()
        };
        summary.p50 = at(0.5);
        summary.p99 = at(0.99);
        summary.slowest = at(1.0);
        summary
    }
}

impl fmt::Display for Summary {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let failed: usize = self.failed.values().sum();
        let kinds: Vec<_> = self
            .kinds
            .iter()
            .map(|(kind, count)| format!("{count} {kind:?}"))
            .collect();
        let answers: Vec<_> = self
            .answers
            .iter()
            .map(|(version, count)| format!("{version}: {count}"))
            .collect();
        let mut changes = self.versions.clone();
        // A canary changes with every request.
        if changes.len() > 12 {
            let more = changes.len() - 12;
            changes.truncate(12);
            changes.push(format!("({more} more changes)"));
        }
        let seconds = self.elapsed.as_secs_f64();
        writeln!(formatter, "sent        {} in {seconds:.1} s", self.sent)?;
        writeln!(formatter, "kinds       {}", kinds.join(", "))?;
        writeln!(formatter, "ok          {}", self.ok)?;
        writeln!(formatter, "failed      {failed}")?;
        for (reason, count) in &self.failed {
            writeln!(formatter, "            {count} × {reason}")?;
        }
        writeln!(formatter, "lost        {}", self.lost.len())?;
        writeln!(formatter, "duplicated  {}", self.duplicated.len())?;
        writeln!(formatter, "in vain     {}", self.served_in_vain.len())?;
        writeln!(formatter, "idle closes {}", self.idle_closes)?;
        writeln!(formatter, "answers     {}", answers.join(", "))?;
        writeln!(formatter, "versions    {}", changes.join(" → "))?;
        write!(
            formatter,
            "latency     p50 {:.1?}, p99 {:.1?}, slowest {:.1?}",
            self.p50, self.p99, self.slowest
        )
    }
}

#[cfg(test)]
mod tests {
    use super::super::record::{Phase, Record};
    use super::*;

    #[test]
    fn journals_tell_what_was_lost_doubled_or_in_vain() {
        let record = |id: &str, ok: bool| Record {
            id: id.to_owned(),
            user: "u".into(),
            kind: Kind::Post,
            began: Duration::ZERO,
            bound: Duration::ZERO,
            latency: Duration::from_millis(3),
            version: ok.then(|| "1".to_owned()),
            outcome: if ok {
                Outcome::Ok
            } else {
                Outcome::Failed {
                    phase: Phase::Head,
                    reason: "reset".to_owned(),
                }
            },
        };
        let report = Report {
            records: vec![
                record("good", true),
                record("twice", true),
                record("nowhere", true),
                record("served", false),
                record("refused", false),
            ],
            ..Report::default()
        };
        let blue = Journal::from_log("starting\nserved good\nserved twice\n");
        let green = Journal::from_log("served twice\nserved served\nserved foreign\n");
        let summary = report.summary(&[blue, green]);
        assert_eq!((summary.sent, summary.ok), (5, 3));
        assert_eq!(summary.lost, ["nowhere"]);
        assert_eq!(summary.duplicated, ["twice"]);
        assert_eq!(summary.served_in_vain, ["served"]);
        assert_eq!(summary.failed["Post, Head: reset"], 2);
        assert_eq!(summary.versions, ["1"]);
        assert_eq!(summary.p99, Duration::from_millis(3));
    }
}
