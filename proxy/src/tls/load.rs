//! From the table's words and the files they name to what can be served.
//!
//! It reads files, so it runs where blocking is allowed, and it puts nothing in
//! force: a table is loaded before it is stored, and swapped in with its routes.
//! What becomes of a mistake depends on whose it is.
//!
//! ```text
//!  the table names the files anew ──bad──▶ a problem: the table is refused, or, at the
//!                                          start of the process, the name is not served
//!  the table in force names them  ──bad──▶ told loudly; the old certificate stays in service
//! ```
//!
//! Invariant: a file that goes bad later keeps no table out, so it stops neither
//! a deploy nor a way back. Invariant: equal texts keep their pair, so that
//! loading again changes nothing.

use std::collections::{BTreeMap, HashMap};
use std::rc::Rc;
use std::sync::Arc;

use cutover_wire::table::{AcmeAnswers, Certificate, Table, TableProblem};

use super::certificates::Certificates;
use super::challenge::Challenge;
use super::file::{self, Content, Stamp};
use super::pair::{Fault, Pair, Part, digest};
use super::validity;
use crate::store::chain as causes;

/// Problems that are told: as many as of a table's other mistakes.
const MAX_PROBLEMS: usize = 100;

/// What a table names, read and checked, and not in force yet.
pub(crate) struct Loaded {
    pub(super) files: BTreeMap<String, Entry>,
    pub(super) challenges: BTreeMap<String, Challenge>,
}

/// The certificate of one name in the table.
#[derive(Clone)]
pub(super) struct Entry {
    pub(super) paths: Certificate,
    /// What the two files were when they were last read; none when they have to
    /// be read again.
    pub(super) stamps: Option<[Stamp; 2]>,
    /// What is served, if anything ever could be.
    pub(super) pair: Option<Arc<Pair>>,
    /// Why the files as they are now cannot be served.
    pub(super) trouble: Option<TableProblem>,
}

/// Which files are read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Look {
    /// Those that changed since they were read.
    Changed,
    /// All.
    Everything,
}

impl Certificates {
    /// Reads and checks everything that a table names, and tells what is wrong
    /// with what the table in force did not name in the same way. Blocks.
    pub(crate) fn load(&self, table: &Table) -> (Loaded, Vec<TableProblem>) {
        let (before, answered) = {
            let kept = self.kept();
            (kept.files.clone(), kept.challenges.clone())
        };
        let mut problems = Vec::new();
        let mut reader = Reader::new(before.values());
        let mut files = BTreeMap::new();
        for (name, paths) in &table.certificates {
            let known = before.get(name).filter(|entry| entry.paths == *paths);
            let entry = match known {
                Some(known) => reader.look(name, known, Look::Changed),
                None => reader.look(name, &Entry::unread(paths), Look::Everything),
            };
            match (&entry.trouble, known) {
                (Some(trouble), None) => problems.push(trouble.clone()),
                (Some(trouble), Some(_)) => tell(trouble, entry.pair.is_some()),
                (None, _) => {}
            }
            files.insert(name.clone(), entry);
        }
        let challenges = answer(&table.acme, &answered, &mut problems);
        if problems.len() > MAX_PROBLEMS {
            let fault = format!("{} more mistakes", problems.len() - MAX_PROBLEMS);
            problems.truncate(MAX_PROBLEMS);
            problems.push(TableProblem {
                place: "certificates".to_owned(),
                fault,
            });
        }
        (Loaded { files, challenges }, problems)
    }

    /// Looks at the files of the table in force again and serves what is new in
    /// them. Blocks.
    pub(super) fn renew(&self, look: Look) {
        let before = self.kept().files.clone();
        let mut reader = Reader::new(before.values());
        let mut fresh = BTreeMap::new();
        for (name, known) in &before {
            let entry = reader.look(name, known, look);
            if let Some(trouble) = &entry.trouble
                && (look == Look::Everything || known.trouble != entry.trouble)
            {
                tell(trouble, entry.pair.is_some());
            }
            fresh.insert(name, entry);
        }
        let mut kept = self.kept();
        let mut changed = false;
        for (name, entry) in fresh {
            // Another table may have come into force during the reading.
            let current = kept.files.get_mut(name);
            if let Some(current) = current.filter(|current| current.paths == entry.paths) {
                changed |= current.serves() != entry.serves();
                *current = entry;
            }
        }
        if changed {
            self.swap(&kept);
        }
        kept.tell_expired(reader.now);
    }
}

/// Says that a certificate cannot be taken into service.
pub(crate) fn tell(trouble: &TableProblem, served: bool) {
    let TableProblem { place, fault } = trouble;
    if served {
        tracing::error!(place, "{fault}; the certificate before it stays in service");
    } else {
        tracing::error!(place, "{fault}; the name is not served over TLS");
    }
}

fn answer(
    wanted: &AcmeAnswers,
    before: &BTreeMap<String, Challenge>,
    problems: &mut Vec<TableProblem>,
) -> BTreeMap<String, Challenge> {
    let mut challenges = BTreeMap::new();
    for (domain, digest) in &wanted.tls_alpn {
        let known = before.get(domain).filter(|known| known.digest == *digest);
        let made = match known {
            Some(known) => Ok(known.clone()),
            None => Challenge::make(domain, digest),
        };
        match made {
            Ok(challenge) => {
                challenges.insert(domain.clone(), challenge);
            }
            Err(error) => problems.push(TableProblem {
                place: format!("acme.tls_alpn.{domain}"),
                fault: causes(&error),
            }),
        }
    }
    challenges
}

impl Entry {
    fn unread(paths: &Certificate) -> Self {
        Self {
            paths: paths.clone(),
            stamps: None,
            pair: None,
            trouble: None,
        }
    }

    /// What another process served for these files.
    pub(super) fn inherited(paths: Certificate, pair: Arc<Pair>) -> Self {
        Self {
            pair: Some(pair),
            ..Self::unread(&paths)
        }
    }

    fn serves(&self) -> Option<&[u8; 32]> {
        self.pair.as_ref().map(|pair| pair.digest())
    }
}

/// What two files were when they were read.
struct Read {
    stamps: Option<[Stamp; 2]>,
    pair: Result<Arc<Pair>, Fault>,
    key_readable_by_all: bool,
}

/// One pass over files, in which none is read twice however many names share it.
struct Reader {
    known: HashMap<[u8; 32], Arc<Pair>>,
    /// By the paths of chain and key.
    read: HashMap<(String, String), Rc<Read>>,
    now: i64,
}

impl Reader {
    fn new<'a>(before: impl Iterator<Item = &'a Entry>) -> Self {
        let pairs = before.filter_map(|entry| entry.pair.as_ref());
        Self {
            known: pairs
                .map(|pair| (*pair.digest(), Arc::clone(pair)))
                .collect(),
            read: HashMap::new(),
            now: validity::now(),
        }
    }

    /// The entry of a name after a look at its files.
    fn look(&mut self, name: &str, known: &Entry, look: Look) -> Entry {
        let paths = &known.paths;
        if look == Look::Changed && known.stamps.is_some() && known.stamps == stamps(paths) {
            return known.clone();
        }
        let read = self.read(paths);
        let mut entry = Entry {
            stamps: read.stamps,
            ..known.clone()
        };
        match &read.pair {
            Ok(pair) => {
                entry.trouble = None;
                if entry.serves() != Some(pair.digest()) {
                    self.welcome(name, known, pair, read.key_readable_by_all);
                    entry.pair = Some(Arc::clone(pair));
                }
            }
            Err(fault) => entry.trouble = Some(fault.problem(name)),
        }
        entry
    }

    fn read(&mut self, paths: &Certificate) -> Rc<Read> {
        let place = (paths.chain.clone(), paths.key.clone());
        if let Some(read) = self.read.get(&place) {
            return Rc::clone(read);
        }
        let read = Rc::new(match contents(paths) {
            Ok([chain, key]) => Read {
                stamps: chain.stamp.zip(key.stamp).map(<[Stamp; 2]>::from),
                pair: self.pair(&chain.text, &key.text),
                key_readable_by_all: key.readable_by_all,
            },
            Err(fault) => Read {
                stamps: None,
                pair: Err(fault),
                key_readable_by_all: false,
            },
        });
        self.read.insert(place, Rc::clone(&read));
        read
    }

    fn pair(&mut self, chain: &[u8], key: &[u8]) -> Result<Arc<Pair>, Fault> {
        let digest = digest(chain, key);
        if let Some(pair) = self.known.get(&digest) {
            return Ok(Arc::clone(pair));
        }
        let pair = Arc::new(Pair::parse(chain, key)?);
        self.known.insert(digest, Arc::clone(&pair));
        Ok(pair)
    }

    /// Says what is new in service, and what is doubtful about it.
    fn welcome(&self, name: &str, known: &Entry, pair: &Pair, key_readable_by_all: bool) {
        if known.pair.is_some() {
            tracing::info!(name, until = pair.until(), "a certificate was renewed");
        }
        for doubt in pair.doubts(name, self.now) {
            tracing::warn!(name, chain = known.paths.chain, "{doubt}");
        }
        if key_readable_by_all {
            let key = &known.paths.key;
            tracing::warn!(name, key, "every user of the host can read the private key");
        }
    }
}

fn contents(paths: &Certificate) -> Result<[Content; 2], Fault> {
    let chain = file::read(Part::Chain, &paths.chain)?;
    Ok([chain, file::read(Part::Key, &paths.key)?])
}

fn stamps(paths: &Certificate) -> Option<[Stamp; 2]> {
    Some([file::stamp(&paths.chain)?, file::stamp(&paths.key)?])
}
