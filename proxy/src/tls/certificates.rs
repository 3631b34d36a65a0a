//! The certificates in service, found by the name that a client asks for.
//!
//! Three sources are kept apart: files of the table, what was put through the
//! control socket, and answers to challenges. For the same name, what was put
//! wins over the table, so that a certificate can be exchanged at once.
//!
//! ```text
//!  asked name ─▶ exact ─▶ wildcard of one label ─▶ `*` ─▶ none: the handshake is refused
//!  no name ─────────────────────────────────────▶ `*` ─▶ none
//! ```
//!
//! Invariant: the lock is held while something changes and never while a file is
//! read; a handshake takes no lock.

use std::collections::{BTreeMap, HashMap};
use std::fmt;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use arc_swap::ArcSwap;
use cutover_wire::table::{ANY_HOST, Certificate, TableProblem};
use rustls::server::{ClientHello, ResolvesServerCert};
use rustls::sign::CertifiedKey;

use super::challenge::{self, Challenge};
use super::load::{Entry, Loaded};
use super::pair::Pair;
use super::validity;

/// Certificates that may be put through the socket: one for each app there may be.
pub(super) const MAX_PUT: usize = 1_000;

/// Bytes of their texts together. A chain with its key has some 6 KiB, so this is
/// reached by mistakes only. They must fit into the frame of a hand-over, with room.
pub(super) const MAX_PUT_BYTES: usize = 6 * 1024 * 1024;

/// See the module.
#[derive(Default)]
pub(crate) struct Certificates {
    live: ArcSwap<Live>,
    kept: Mutex<Kept>,
}

/// What is served, by source.
#[derive(Default)]
pub(super) struct Kept {
    /// By name, the files of the table in force.
    pub(super) files: BTreeMap<String, Entry>,
    /// By name, what was put.
    pub(super) put: BTreeMap<String, Arc<Pair>>,
    /// By domain, the answers of the table in force.
    pub(super) challenges: BTreeMap<String, Challenge>,
    /// Seconds since 1970 up to which expired certificates were told.
    told_until: Option<i64>,
}

/// What handshakes look at.
#[derive(Default)]
struct Live {
    exact: HashMap<Box<str>, Arc<CertifiedKey>>,
    /// By what stands behind `*.`.
    wildcard: HashMap<Box<str>, Arc<CertifiedKey>>,
    any: Option<Arc<CertifiedKey>>,
    challenges: HashMap<Box<str>, Arc<CertifiedKey>>,
}

impl Certificates {
    /// Serves what was loaded, in place of all that an earlier table named.
    pub(crate) fn put_in_force(&self, loaded: Loaded) {
        let mut kept = self.kept();
        kept.files = loaded.files;
        kept.challenges = loaded.challenges;
        self.swap(&kept);
    }

    /// Serves a certificate for a name from now on, from memory alone.
    pub(crate) fn put(&self, name: &str, chain: &str, key: &str) -> Result<(), Vec<TableProblem>> {
        let problems = Certificate::name_problems(name);
        if !problems.is_empty() {
            return Err(problems);
        }
        let pair = Pair::parse(chain.as_bytes(), key.as_bytes())
            .map_err(|fault| vec![fault.problem(name)])?;
        let mut kept = self.kept();
        let doubts = pair.doubts(name, validity::now());
        kept.admit(name, pair)?;
        self.swap(&kept);
        drop(kept);
        tracing::info!(name, "a certificate was put");
        for doubt in doubts {
            tracing::warn!(name, "{doubt}");
        }
        Ok(())
    }

    /// Serves what the table says for a name again.
    pub(crate) fn drop_put(&self, name: &str) {
        let mut kept = self.kept();
        if kept.put.remove(name).is_some() {
            self.swap(&kept);
            drop(kept);
            tracing::info!(name, "a certificate that was put is dropped");
        }
    }

    /// When the certificate in service of each name expires, in seconds since 1970.
    pub(crate) fn expiries(&self) -> BTreeMap<String, i64> {
        let kept = self.kept();
        let pairs = kept.pairs();
        pairs
            .map(|(name, pair)| (name.to_owned(), pair.until()))
            .collect()
    }

    /// Makes handshakes see what is kept now.
    pub(super) fn swap(&self, kept: &Kept) {
        self.live.store(Arc::new(Live::of(kept)));
    }

    /// A thread that panicked left nothing half done: what is kept is always whole.
    pub(super) fn kept(&self) -> MutexGuard<'_, Kept> {
        self.kept.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl ResolvesServerCert for Certificates {
    fn resolve(&self, hello: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        let live = self.live.load();
        // rustls gives names in lower case and without a full stop behind them.
        let name = hello.server_name();
        if challenge::is_asked(&hello) {
            return live.challenges.get(name?).cloned();
        }
        live.find(name).cloned()
    }
}

impl fmt::Debug for Certificates {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Certificates(…)")
    }
}

impl Kept {
    /// Takes a certificate that was put, within the bounds.
    pub(super) fn admit(&mut self, name: &str, pair: Pair) -> Result<(), Vec<TableProblem>> {
        let others = self.put.iter().filter(|(other, _)| *other != name);
        let (count, bytes) = others.fold((1, pair.size()), |(count, bytes), (_, other)| {
            (count + 1, bytes + other.size())
        });
        if count > MAX_PUT || bytes > MAX_PUT_BYTES {
            return Err(vec![TableProblem {
                place: Certificate::place(name),
                fault: format!(
                    "more than {MAX_PUT} certificates or {MAX_PUT_BYTES} bytes of them cannot be \
                     put; name files in the table, or drop some"
                ),
            }]);
        }
        self.put.insert(name.to_owned(), Arc::new(pair));
        Ok(())
    }

    /// Says once of each certificate that its time is over.
    pub(super) fn tell_expired(&mut self, now: i64) {
        // What had expired before the first look was told when it was loaded.
        let since = self.told_until.replace(now).unwrap_or(now);
        for (name, pair) in self.pairs() {
            if (since..now).contains(&pair.until()) {
                tracing::error!(name, "the certificate has expired and is still in service");
            }
        }
    }

    /// By name what is served: of the table, but where one was put, that.
    pub(super) fn pairs(&self) -> impl Iterator<Item = (&str, &Arc<Pair>)> {
        let of_files = self.files.iter().filter_map(|(name, entry)| {
            let pair = entry.pair.as_ref()?;
            (!self.put.contains_key(name)).then_some((name.as_str(), pair))
        });
        let put = self.put.iter().map(|(name, pair)| (name.as_str(), pair));
        of_files.chain(put)
    }
}

impl Live {
    fn of(kept: &Kept) -> Self {
        let mut live = Self::default();
        for (name, pair) in kept.pairs() {
            let certified = Arc::clone(pair.certified());
            if name == ANY_HOST {
                live.any = Some(certified);
            } else if let Some(rest) = name.strip_prefix("*.") {
                live.wildcard.insert(rest.into(), certified);
            } else {
                live.exact.insert(name.into(), certified);
            }
        }
        for (domain, challenge) in &kept.challenges {
            let certified = Arc::clone(&challenge.certified);
            live.challenges.insert(domain.as_str().into(), certified);
        }
        live
    }

    fn find(&self, name: Option<&str>) -> Option<&Arc<CertifiedKey>> {
        let named = name.and_then(|name| {
            let rest = || self.wildcard.get(name.split_once('.')?.1);
            self.exact.get(name).or_else(rest)
        });
        named.or(self.any.as_ref())
    }
}
