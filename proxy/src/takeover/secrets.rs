//! Secrets that outlive an instance: they are handed to the one that takes over.
//!
//! They are bytes under a name, and what they mean is known to whoever put them
//! here. They are on no disk and in no log: nothing here can be shown.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use cutover_wire::proxy::{LENGTH_BYTES, MAX_FRAME};

/// Bytes of a name: a word for what it is, and a host where there is one for each.
const MAX_NAME: usize = 300;

/// Bytes of all secrets in the form they are handed over in: one frame.
const MAX_TOTAL: usize = MAX_FRAME;

/// Why a secret is not kept.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub(crate) enum SecretError {
    /// Its name has no length that it may have.
    #[error("the name of a secret must have 1 to {MAX_NAME} bytes")]
    Name,
    /// There would be too much to hand over.
    #[error("all secrets together may have {MAX_TOTAL} bytes")]
    TooMuch,
    /// What came is not what [`Secrets::encode`] makes.
    #[error("the secrets that were handed over cannot be read")]
    Form,
}

/// See the module. Clones are the same secrets.
#[derive(Clone, Default)]
pub(crate) struct Secrets {
    kept: Arc<Mutex<BTreeMap<String, Arc<[u8]>>>>,
}

impl fmt::Debug for Secrets {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Secrets").finish_non_exhaustive()
    }
}

impl Secrets {
    fn kept(&self) -> MutexGuard<'_, BTreeMap<String, Arc<[u8]>>> {
        self.kept.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Keeps a secret in place of the one of the same name.
    pub(crate) fn put(&self, name: &str, secret: &[u8]) -> Result<(), SecretError> {
        if name.is_empty() || name.len() > MAX_NAME {
            return Err(SecretError::Name);
        }
        let mut kept = self.kept();
        let others = kept.iter().filter(|(other, _)| other.as_str() != name);
        let total: usize = others.map(|(name, secret)| size(name, secret)).sum();
        if total.saturating_add(size(name, secret)) > MAX_TOTAL {
            return Err(SecretError::TooMuch);
        }
        kept.insert(name.to_owned(), Arc::from(secret));
        Ok(())
    }

    /// The secret of a name.
    pub(crate) fn find(&self, name: &str) -> Option<Arc<[u8]>> {
        self.kept().get(name).cloned()
    }

    /// All of them as bytes: for each the length of its name, the name, its own
    /// length and itself; lengths have four bytes, big end first.
    pub(super) fn encode(&self) -> Vec<u8> {
        let mut bytes = Vec::new();
        for (name, secret) in self.kept().iter() {
            for part in [name.as_bytes(), secret] {
                // Both are bounded by `put`.
                let length = u32::try_from(part.len()).unwrap_or(u32::MAX);
                bytes.extend_from_slice(&length.to_be_bytes());
                bytes.extend_from_slice(part);
            }
        }
        bytes
    }

    /// What [`Secrets::encode`] made.
    pub(super) fn decode(mut bytes: &[u8]) -> Result<Self, SecretError> {
        let secrets = Self::default();
        while !bytes.is_empty() {
            let name = part(&mut bytes)?;
            let secret = part(&mut bytes)?;
            let name = str::from_utf8(name).map_err(|_| SecretError::Form)?;
            secrets.put(name, secret)?;
        }
        Ok(secrets)
    }
}

fn size(name: &str, secret: &[u8]) -> usize {
    let bytes = name.len().saturating_add(secret.len());
    bytes.saturating_add(2 * LENGTH_BYTES)
}

fn part<'a>(bytes: &mut &'a [u8]) -> Result<&'a [u8], SecretError> {
    let (length, rest) = bytes.split_first_chunk().ok_or(SecretError::Form)?;
    let length = usize::try_from(u32::from_be_bytes(*length)).map_err(|_| SecretError::Form)?;
    let (part, rest) = rest.split_at_checked(length).ok_or(SecretError::Form)?;
    *bytes = rest;
    Ok(part)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn secrets_read_back_and_clones_are_the_same() {
        let secrets = Secrets::default();
        let same = secrets.clone();
        same.put("ticket-keys", &[1, 2, 3]).unwrap();
        same.put("ticket-keys", &[4]).unwrap();
        same.put("empty", &[]).unwrap();
        let read = Secrets::decode(&secrets.encode()).unwrap();
        assert_eq!(read.find("ticket-keys").as_deref(), Some(&[4][..]));
        assert_eq!(read.find("empty").as_deref(), Some(&[][..]));
        assert_eq!(read.find("never"), None);
        assert_eq!(format!("{read:?}"), "Secrets { .. }");
    }

    #[test]
    fn what_does_not_fit_into_a_hand_over_is_refused_and_the_old_stays() {
        let secrets = Secrets::default();
        assert_eq!(secrets.put("", b"x"), Err(SecretError::Name));
        secrets.put("a", b"small").unwrap();
        let large = vec![0; MAX_TOTAL];
        assert_eq!(secrets.put("a", &large), Err(SecretError::TooMuch));
        assert_eq!(secrets.find("a").as_deref(), Some(&b"small"[..]));
        let just = vec![0; MAX_TOTAL - size("a", &[])];
        secrets.put("a", &just).unwrap();
        assert_eq!(secrets.put("b", b""), Err(SecretError::TooMuch));
        assert_eq!(secrets.encode().len(), MAX_TOTAL);
    }

    proptest! {
        #[test]
        fn no_bytes_make_a_panic(bytes in prop::collection::vec(any::<u8>(), 0..100)) {
            let _ = Secrets::decode(&bytes);
        }
    }
}
