//! The certificates that no file has, for the process that takes over.
//!
//! These are what was put through the socket, and what is served in place of
//! files that have gone bad since. All else the next process reads itself.
//!
//! ```text
//!  magic, then for each:  kind ─ name ─ [path of chain ─ path of key] ─ chain ─ key
//!                         one byte; every text with its length before it
//! ```

use std::sync::Arc;

use cutover_wire::proxy::MAX_FRAME;
use cutover_wire::table::Certificate;

use super::certificates::{Certificates, Kept, MAX_PUT, MAX_PUT_BYTES};
use super::load::Entry;
use super::pair::Pair;

/// The first bytes of what is handed over, and the version of its form.
const MAGIC: &[u8] = b"cutover-certificates 1\n";

/// A certificate that was put through the socket.
const PUT: u8 = 1;

/// A certificate whose files are bad now.
const FILES: u8 = 2;

/// The most that is handed over: a frame, with room for the names and the keys of
/// session tickets. What may be put is less.
const MAX_EXPORT: usize = MAX_FRAME - 64 * 1024;

const _: () = assert!(MAX_PUT_BYTES + MAX_PUT * 300 < MAX_EXPORT);

/// What was handed over is not understood.
#[derive(Debug, thiserror::Error)]
#[error("the certificates of the other process are not understood")]
pub(crate) struct WrongCertificates;

impl Certificates {
    /// The certificates that the next process cannot find in files, as secret bytes.
    /// Those that were put are bounded, and there is room for all of them; of those
    /// whose files are bad now, as many as fit beside them.
    pub(crate) fn export(&self) -> Vec<u8> {
        let kept = self.kept();
        let mut secret = MAGIC.to_vec();
        for (name, pair) in &kept.put {
            let (chain, key) = pair.texts();
            secret.push(PUT);
            [name.as_bytes(), chain, key]
                .iter()
                .for_each(|text| write(&mut secret, text));
        }
        for (name, entry) in &kept.files {
            let (Some(pair), Some(_)) = (&entry.pair, &entry.trouble) else {
                continue;
            };
            let (chain, key) = pair.texts();
            let paths = [&entry.paths.chain, &entry.paths.key].map(|path| path.as_bytes());
            let before = secret.len();
            secret.push(FILES);
            [name.as_bytes(), paths[0], paths[1], chain, key]
                .iter()
                .for_each(|text| write(&mut secret, text));
            if secret.len() > MAX_EXPORT {
                secret.truncate(before);
                tracing::error!(
                    name,
                    "its files are bad, and it is one too many to be handed over: the name will \
                     not be served over TLS"
                );
            }
        }
        secret
    }

    /// Takes over the certificates of another process. Comes before the first
    /// table is loaded: what that names in the same way and cannot be read is
    /// served as the other process served it.
    pub(crate) fn import(&self, secret: &[u8]) -> Result<(), WrongCertificates> {
        let mut rest = secret.strip_prefix(MAGIC).ok_or(WrongCertificates)?;
        let mut taken = Kept::default();
        while !rest.is_empty() {
            take(&mut rest, &mut taken).ok_or(WrongCertificates)?;
        }
        let mut kept = self.kept();
        kept.put.append(&mut taken.put);
        kept.files.append(&mut taken.files);
        self.swap(&kept);
        Ok(())
    }
}

fn write(secret: &mut Vec<u8>, text: &[u8]) {
    // No text is near four gigabytes: the longest is bounded by what a pair takes.
    let length = u32::try_from(text.len()).unwrap_or(u32::MAX);
    secret.extend(length.to_be_bytes());
    secret.extend(text);
}

/// Reads one certificate. One that cannot be served is told and left out.
fn take(rest: &mut &[u8], taken: &mut Kept) -> Option<()> {
    let (&kind, after) = rest.split_first()?;
    *rest = after;
    let name = name(rest)?;
    let paths = match kind {
        PUT => None,
        FILES => Some(Certificate {
            chain: self::name(rest)?,
            key: self::name(rest)?,
        }),
        _ => return None,
    };
    let (chain, key) = (text(rest)?, text(rest)?);
    let pair = match Pair::parse(chain, key) {
        Ok(pair) => pair,
        Err(fault) => {
            let problem = fault.problem(&name);
            tracing::error!(%problem, "a certificate of the other process is lost");
            return Some(());
        }
    };
    match paths {
        None => {
            if let Err(problems) = taken.admit(&name, pair) {
                for problem in problems {
                    tracing::error!(%problem, "a certificate of the other process is lost");
                }
            }
        }
        Some(paths) => {
            taken
                .files
                .insert(name, Entry::inherited(paths, Arc::new(pair)));
        }
    }
    Some(())
}

fn name(rest: &mut &[u8]) -> Option<String> {
    String::from_utf8(text(rest)?.to_vec()).ok()
}

fn text<'a>(rest: &mut &'a [u8]) -> Option<&'a [u8]> {
    let (length, after) = rest.split_first_chunk()?;
    let length = usize::try_from(u32::from_be_bytes(*length)).ok()?;
    let (text, after) = after.split_at_checked(length)?;
    *rest = after;
    Some(text)
}
