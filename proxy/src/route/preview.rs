//! Shows a pool to those who know a secret.
//!
//! Only the digest of the secret is known here. Digests are compared in the
//! same time wherever they differ.

use std::sync::Arc;

use cutover_wire::table;
use http::{HeaderMap, HeaderName};
use sha2::{Digest as _, Sha256};

use super::pool::Pool;

/// See the module.
#[derive(Debug)]
pub(super) struct Preview {
    header: HeaderName,
    digest: [u8; 32],
    pool: Arc<Pool>,
}

impl Preview {
    /// None where the table names no header and digest that can be; such a table is refused.
    pub(super) fn of(preview: &table::Preview, pool: Arc<Pool>) -> Option<Self> {
        let mut digest = [0; 32];
        let digits = preview.sha256.as_bytes();
        if digits.len() != 2 * digest.len() || !preview.sha256.is_ascii() {
            return None;
        }
        for (byte, digits) in digest.iter_mut().zip(digits.chunks_exact(2)) {
            let digits = std::str::from_utf8(digits).ok()?;
            *byte = u8::from_str_radix(digits, 16).ok()?;
        }
        Some(Self {
            header: HeaderName::from_bytes(preview.header.as_bytes()).ok()?,
            digest,
            pool,
        })
    }

    /// The header that brings the secret.
    pub(super) fn header(&self) -> &HeaderName {
        &self.header
    }

    /// Whether who knows the secret of one knows that of the other.
    pub(super) fn has_secret_of(&self, other: &Self) -> bool {
        self.header == other.header && self.digest == other.digest
    }

    /// What is shown.
    pub(super) fn pool(&self) -> &Arc<Pool> {
        &self.pool
    }

    /// The pool, for a request that brings the secret.
    pub(super) fn shown_to(&self, headers: &HeaderMap) -> Option<&Arc<Pool>> {
        let digest = Sha256::digest(headers.get(&self.header)?.as_bytes());
        let bytes = digest.iter().zip(&self.digest);
        let differing = bytes.fold(0, |all, (one, other)| all | (one ^ other));
        (differing == 0).then_some(&self.pool)
    }
}

#[cfg(test)]
mod tests {
    use super::super::pool::tests::pool;
    use super::*;
    use http::HeaderValue;

    #[test]
    fn the_pool_is_shown_to_the_secret_alone() {
        let preview = table::Preview::new("x-preview", "open sesame", "v2");
        let preview = Preview::of(&preview, Arc::new(pool("v2", 1))).unwrap();
        let check = |header: &'static str, value: &'static str, expected: bool| {
            let headers = HeaderMap::from_iter([(
                HeaderName::from_static(header),
                HeaderValue::from_static(value),
            )]);
            assert_eq!(preview.shown_to(&headers).is_some(), expected, "{value}");
        };
        check("x-preview", "open sesame", true);
        check("x-preview", "open sesamE", false);
        check("x-preview", "", false);
        check("x-other", "open sesame", false);
        assert!(preview.shown_to(&HeaderMap::new()).is_none());
    }

    #[test]
    fn what_is_no_digest_is_no_preview() {
        let sound = table::Preview::new("x-preview", "open sesame", "v2");
        let check = |change: fn(&mut table::Preview), expected: bool| {
            let mut preview = sound.clone();
            change(&mut preview);
            let made = Preview::of(&preview, Arc::new(pool("v2", 1)));
            assert_eq!(made.is_some(), expected, "{preview:?}");
        };
        check(|_| {}, true);
        check(|preview| preview.sha256.truncate(62), false);
        check(|preview| preview.sha256 = "z".repeat(64), false);
        check(|preview| preview.sha256 = "é".repeat(32), false);
        check(|preview| preview.header = "x y".to_owned(), false);
    }
}
