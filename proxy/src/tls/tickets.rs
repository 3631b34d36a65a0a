//! The keys that session tickets are sealed with.
//!
//! A client keeps its session in a ticket that only we can open, so any worker,
//! and the next process after an upgrade, can resume it. rustls has such keys
//! too, but its own cannot be handed over.
//!
//! ```text
//!  key:   current (seals and opens) ──6 h──▶ previous (opens) ──6 h──▶ forgotten
//! ```
//!
//! A ticket is the key's name, a nonce, and the sealed session with its tag
//! (AES-256-GCM), the name being authenticated with it. Keys are drawn by
//! chance, stay in memory and are printed nowhere; whoever has them can read
//! what was sent in resumed sessions of TLS 1.2, which is why they are forgotten.
//!
//! Invariant: no key opens a ticket more than two periods after it was made.

use std::fmt;
use std::sync::{Arc, Mutex, PoisonError};

use arc_swap::ArcSwap;
use ring::aead::{AES_256_GCM, Aad, LessSafeKey, NONCE_LEN, Nonce, UnboundKey};
use ring::rand::{SecureRandom, SystemRandom};
use rustls::pki_types::UnixTime;
use rustls::server::ProducesTickets;

/// How long a key seals, in seconds: what rustls and most servers take. A busy
/// server seals far fewer than the 2^32 tickets in it that nonces drawn by chance allow.
const PERIOD_S: u64 = 6 * 3_600;

/// What clients are told: after two periods every ticket is worth nothing.
const LIFETIME_S: u32 = 12 * 3_600;

/// The longest session that is sealed and the longest ticket that is looked at:
/// ours have some 200 bytes, clients have no certificate here.
const MAX_TICKET: usize = 4_096;

const NAME_BYTES: usize = 16;
const SECRET_BYTES: usize = 32;

/// The first bytes of what is handed over, and the version of its form.
const MAGIC: &[u8] = b"cutover-tickets 1\n";

/// There was no chance to make a key from.
#[derive(Debug, thiserror::Error)]
#[error("the system gave no random bytes")]
pub struct NoChance;

/// What was handed over is not understood.
#[derive(Debug, thiserror::Error)]
#[error("the ticket keys of the other process are not understood")]
pub(crate) struct WrongKeys;

/// See the module.
pub(crate) struct TicketKeys {
    keys: ArcSwap<Keys>,
    /// Held by the one thread that makes the next key.
    turning: Mutex<()>,
    random: SystemRandom,
}

struct Keys {
    current: Arc<Key>,
    previous: Option<Arc<Key>>,
    /// Seconds since 1970 at which the next key takes over.
    turns_at: u64,
}

struct Key {
    name: [u8; NAME_BYTES],
    secret: [u8; SECRET_BYTES],
    cipher: LessSafeKey,
}

impl TicketKeys {
    /// Fresh keys, which open no ticket of another process.
    pub(crate) fn new() -> Result<Self, NoChance> {
        let random = SystemRandom::new();
        let keys = Keys {
            current: Key::draw(&random)?,
            previous: None,
            turns_at: now() + PERIOD_S,
        };
        Ok(Self::of(keys))
    }

    /// The keys that another process handed over.
    pub(crate) fn import(secret: &[u8]) -> Result<Self, WrongKeys> {
        let keys = Keys::read(secret).ok_or(WrongKeys)?;
        Ok(Self::of(keys))
    }

    /// The keys as secret bytes, for the process that takes over.
    pub(crate) fn export(&self) -> Vec<u8> {
        let keys = self.keys.load();
        let mut secret = MAGIC.to_vec();
        secret.extend(keys.turns_at.to_be_bytes());
        for key in [Some(&keys.current), keys.previous.as_ref()]
            .into_iter()
            .flatten()
        {
            secret.extend(key.name);
            secret.extend(key.secret);
        }
        secret
    }

    fn of(keys: Keys) -> Self {
        Self {
            keys: ArcSwap::from_pointee(keys),
            turning: Mutex::new(()),
            random: SystemRandom::new(),
        }
    }

    /// The keys for this moment; none when it is time for another and there was
    /// no chance to make it, for then no ticket is better than an old key.
    fn at(&self, now: u64) -> Option<Arc<Keys>> {
        let keys = self.keys.load_full();
        if !keys.is_due(now) {
            return Some(keys);
        }
        let turn = self.turning.lock().unwrap_or_else(PoisonError::into_inner);
        let keys = self.keys.load_full();
        if !keys.is_due(now) {
            return Some(keys);
        }
        match keys.turned(now, &self.random) {
            Ok(next) => {
                let next = Arc::new(next);
                self.keys.store(Arc::clone(&next));
                drop(turn);
                Some(next)
            }
            Err(error) => {
                tracing::error!(%error, "no session ticket is made or taken");
                None
            }
        }
    }

    fn seal(&self, session: &[u8], now: u64) -> Option<Vec<u8>> {
        if session.len() > MAX_TICKET - overhead() {
            return None;
        }
        let keys = self.at(now)?;
        let key = &keys.current;
        let mut nonce = [0; NONCE_LEN];
        self.random.fill(&mut nonce).ok()?;
        let mut ticket = Vec::with_capacity(session.len() + overhead());
        ticket.extend(key.name);
        ticket.extend(nonce);
        ticket.extend(session);
        let nonce = Nonce::assume_unique_for_key(nonce);
        let sealed = &mut ticket[NAME_BYTES + NONCE_LEN..];
        let cipher = &key.cipher;
        let tag = cipher.seal_in_place_separate_tag(nonce, Aad::from(key.name), sealed);
        ticket.extend(tag.ok()?.as_ref());
        Some(ticket)
    }

    fn open(&self, ticket: &[u8], now: u64) -> Option<Vec<u8>> {
        if ticket.len() > MAX_TICKET {
            return None;
        }
        let (name, rest) = ticket.split_at_checked(NAME_BYTES)?;
        let (nonce, sealed) = rest.split_at_checked(NONCE_LEN)?;
        let keys = self.at(now)?;
        // Names are public: they stand in every ticket.
        let mut known = [Some(&keys.current), keys.previous.as_ref()]
            .into_iter()
            .flatten();
        let key = known.find(|key| key.name == name)?;
        let nonce = Nonce::try_assume_unique_for_key(nonce).ok()?;
        let mut session = sealed.to_vec();
        let cipher = &key.cipher;
        let opened = cipher.open_in_place(nonce, Aad::from(key.name), &mut session);
        let length = opened.ok()?.len();
        session.truncate(length);
        Some(session)
    }
}

impl ProducesTickets for TicketKeys {
    fn enabled(&self) -> bool {
        true
    }

    fn lifetime(&self) -> u32 {
        LIFETIME_S
    }

    fn encrypt(&self, plain: &[u8]) -> Option<Vec<u8>> {
        self.seal(plain, now())
    }

    fn decrypt(&self, cipher: &[u8]) -> Option<Vec<u8>> {
        self.open(cipher, now())
    }
}

impl fmt::Debug for TicketKeys {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("TicketKeys(…)")
    }
}

impl Keys {
    /// A clock that was put back must not make a key live longer either.
    fn is_due(&self, now: u64) -> bool {
        now >= self.turns_at || self.turns_at - now > PERIOD_S
    }

    fn turned(&self, now: u64, random: &SystemRandom) -> Result<Self, NoChance> {
        let fresh_enough = now < self.turns_at.saturating_add(PERIOD_S);
        Ok(Self {
            current: Key::draw(random)?,
            previous: fresh_enough.then(|| Arc::clone(&self.current)),
            turns_at: now.saturating_add(PERIOD_S),
        })
    }

    fn read(secret: &[u8]) -> Option<Self> {
        let rest = secret.strip_prefix(MAGIC)?;
        let (turns_at, rest) = rest.split_first_chunk()?;
        let (current, rest) = Key::read(rest)?;
        let previous = match rest {
            [] => None,
            rest => {
                let (previous, rest) = Key::read(rest)?;
                rest.is_empty().then_some(Some(previous))?
            }
        };
        Some(Self {
            current,
            previous,
            turns_at: u64::from_be_bytes(*turns_at),
        })
    }
}

impl Key {
    fn draw(random: &SystemRandom) -> Result<Arc<Self>, NoChance> {
        let (mut name, mut secret) = ([0; NAME_BYTES], [0; SECRET_BYTES]);
        random.fill(&mut name).map_err(|_| NoChance)?;
        random.fill(&mut secret).map_err(|_| NoChance)?;
        Self::of(name, secret).ok_or(NoChance)
    }

    fn read(secret: &[u8]) -> Option<(Arc<Self>, &[u8])> {
        let (name, rest) = secret.split_first_chunk()?;
        let (secret, rest) = rest.split_first_chunk()?;
        Some((Self::of(*name, *secret)?, rest))
    }

    fn of(name: [u8; NAME_BYTES], secret: [u8; SECRET_BYTES]) -> Option<Arc<Self>> {
        let cipher = LessSafeKey::new(UnboundKey::new(&AES_256_GCM, &secret).ok()?);
        Some(Arc::new(Self {
            name,
            secret,
            cipher,
        }))
    }
}

/// What a ticket has around the session.
fn overhead() -> usize {
    NAME_BYTES + NONCE_LEN + AES_256_GCM.tag_len()
}

fn now() -> u64 {
    UnixTime::now().as_secs()
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const SESSION: &[u8] = b"a session";

    /// Whether a ticket that was sealed now is opened so much later.
    fn check(later: u64, opened: bool) {
        let (keys, now) = (TicketKeys::new().unwrap(), now());
        let ticket = keys.seal(SESSION, now).unwrap();
        let found = keys.open(&ticket, now + later);
        assert_eq!(found.as_deref(), opened.then_some(SESSION), "{later}");
    }

    #[test]
    fn a_ticket_is_opened_for_two_periods_at_most() {
        check(0, true);
        check(PERIOD_S - 10, true);
        check(PERIOD_S + 10, true);
        check(2 * PERIOD_S - 10, true);
        check(2 * PERIOD_S + 10, false);
        check(10 * PERIOD_S, false);
    }

    #[test]
    fn keys_turn_one_by_one() {
        let (keys, now) = (TicketKeys::new().unwrap(), now());
        let tickets: Vec<_> = (0..4)
            .map(|turn| keys.seal(SESSION, now + turn * PERIOD_S + turn).unwrap())
            .collect();
        let opened: Vec<bool> = tickets
            .iter()
            .map(|ticket| keys.open(ticket, now + 3 * PERIOD_S + 3).is_some())
            .collect();
        assert_eq!(opened, [false, false, true, true]);
    }

    #[test]
    fn a_clock_that_was_put_back_does_not_keep_a_key() {
        let (keys, now) = (TicketKeys::new().unwrap(), now());
        let before = keys.export();
        assert!(keys.seal(SESSION, now - 10 * PERIOD_S).is_some());
        assert_ne!(keys.export(), before);
        let turned = keys.export();
        assert!(keys.seal(SESSION, now - 10 * PERIOD_S).is_some());
        assert_eq!(keys.export(), turned, "once is enough");
    }

    #[test]
    fn handed_over_keys_open_the_tickets_of_both_periods_and_turn_when_those_do() {
        let (old, now) = (TicketKeys::new().unwrap(), now());
        let first = old.seal(SESSION, now).unwrap();
        let second = old.seal(SESSION, now + PERIOD_S).unwrap();
        let new = TicketKeys::import(&old.export()).unwrap();
        let later = now + PERIOD_S + 5;
        assert!(new.open(&first, later).is_some() && new.open(&second, later).is_some());
        let third = new.seal(SESSION, later).unwrap();
        assert!(old.open(&third, later).is_some(), "and the other way");
        let later = now + 2 * PERIOD_S + 5;
        assert!(new.open(&first, later).is_none() && new.open(&second, later).is_some());
    }

    #[test]
    fn wrong_keys_are_refused_and_fresh_ones_open_nothing() {
        let (keys, now) = (TicketKeys::new().unwrap(), now());
        let secret = keys.export();
        for length in 0..secret.len() {
            assert!(TicketKeys::import(&secret[..length]).is_err(), "{length}");
        }
        let longer = [secret.as_slice(), b"x"].concat();
        assert!(TicketKeys::import(&longer).is_err());
        let other = TicketKeys::new().unwrap();
        assert!(other.open(&keys.seal(SESSION, now).unwrap(), now).is_none());
        let printed = format!("{keys:?}");
        assert_eq!(printed, "TicketKeys(…)");
    }

    #[test]
    fn a_session_over_the_bound_is_not_sealed() {
        let (keys, now) = (TicketKeys::new().unwrap(), now());
        let most = MAX_TICKET - overhead();
        let ticket = keys.seal(&vec![0; most], now).unwrap();
        assert!(keys.open(&ticket, now).is_some());
        assert!(keys.seal(&vec![0; most + 1], now).is_none());
    }

    proptest! {
        #[test]
        fn no_changed_ticket_is_opened(at in any::<prop::sample::Index>(), bit in 0..8_u32) {
            let (keys, now) = (TicketKeys::new().unwrap(), now());
            let mut ticket = keys.seal(SESSION, now).unwrap();
            let at = at.index(ticket.len());
            ticket[at] ^= 1_u8 << bit;
            prop_assert!(keys.open(&ticket, now).is_none());
            prop_assert!(keys.open(&ticket[..at], now).is_none());
        }
    }
}
