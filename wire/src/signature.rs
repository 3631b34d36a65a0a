//! Signatures of calls, as the Standard Webhooks specification has them.
//!
//! A call carries `webhook-id`, `webhook-timestamp` (seconds) and
//! `webhook-signature`, a list of `v1,<base64>` over `id.timestamp.body`. Any
//! secret of the receiver's and any signature of the list may match, so
//! secrets can be rotated. The clock is an argument.

use std::fmt::Write as _;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use hmac::{Hmac, Mac as _};
use sha2::{Digest as _, Sha256};

/// The header with the id of the call, which a receiver takes once.
pub const ID_HEADER: &str = "webhook-id";
/// The header with the second in which the call was signed.
pub const TIMESTAMP_HEADER: &str = "webhook-timestamp";
/// The header with the signatures.
pub const SIGNATURE_HEADER: &str = "webhook-signature";

/// How far the two clocks may be apart, in seconds.
pub const TOLERANCE_SECONDS: u64 = 300;

/// The least length of a secret in bytes, as the specification asks.
pub const MIN_SECRET: usize = 24;
/// The greatest length of a secret in bytes: 64 is the specification's, the
/// rest is for secrets that people wrote as plain text.
pub const MAX_SECRET: usize = 256;
/// The longest id that is stored.
pub const MAX_ID: usize = 128;
/// Signatures looked at in one header: a rotation has two.
const MAX_SIGNATURES: usize = 8;

/// A secret that signs calls. It cannot be printed, compared or stored.
#[derive(Clone)]
pub struct Secret(Vec<u8>);

/// Why a text is no secret. It never repeats the text.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum SecretError {
    /// Too short to keep anybody out.
    #[error("the secret has {0} bytes, it must have at least {MIN_SECRET}")]
    Short(usize),
    /// Longer than any secret.
    #[error("the secret has {0} bytes, it may have at most {MAX_SECRET}")]
    Long(usize),
    /// It says that it is base64 and is not.
    #[error("the secret begins with whsec_ but what follows is not base64")]
    Base64,
}

impl Secret {
    /// Reads a secret: `whsec_` and base64 as the specification writes it, or
    /// the bytes of any other text. White space around it is dropped, because
    /// files end with a line feed.
    pub fn parse(text: &str) -> Result<Self, SecretError> {
        let text = text.trim();
        let bytes = match text.strip_prefix("whsec_") {
            Some(encoded) => STANDARD.decode(encoded).map_err(|_| SecretError::Base64)?,
            None => text.as_bytes().to_vec(),
        };
        Self::of(bytes)
    }

    /// Reads a secret whose key is the text itself, `whsec_` or not, as GitHub
    /// takes what a person typed there. White space around it is dropped.
    pub fn parse_verbatim(text: &str) -> Result<Self, SecretError> {
        Self::of(text.trim().as_bytes().to_vec())
    }

    fn of(bytes: Vec<u8>) -> Result<Self, SecretError> {
        match bytes.len() {
            short if short < MIN_SECRET => Err(SecretError::Short(short)),
            long if long > MAX_SECRET => Err(SecretError::Long(long)),
            _ => Ok(Self(bytes)),
        }
    }

    /// The `webhook-signature` of a call.
    pub fn sign(&self, id: &str, timestamp: u64, body: &[u8]) -> String {
        let code = self.mac(id, timestamp, body).finalize().into_bytes();
        format!("v1,{}", STANDARD.encode(code))
    }

    /// A token that only a holder of the secret can make: the capability of
    /// one deploy. `purpose` keeps tokens of different uses apart.
    pub fn token(&self, purpose: &str, subject: &str) -> String {
        let mut mac = self.keyed();
        mac.update(b"cutover-token\0");
        mac.update(purpose.as_bytes());
        mac.update(b"\0");
        mac.update(subject.as_bytes());
        hex(&mac.finalize().into_bytes())
    }

    fn mac(&self, id: &str, timestamp: u64, body: &[u8]) -> Hmac<Sha256> {
        let mut mac = self.keyed();
        mac.update(id.as_bytes());
        mac.update(b".");
        mac.update(timestamp.to_string().as_bytes());
        mac.update(b".");
        mac.update(body);
        mac
    }

    pub(crate) fn keyed(&self) -> Hmac<Sha256> {
        match Hmac::new_from_slice(&self.0) {
            Ok(mac) => mac,
            Err(_) => unreachable!("HMAC takes a key of any length"),
        }
    }
}

/// The headers of a signed call, as they came.
#[derive(Debug, Clone, Copy, Default)]
pub struct Headers<'a> {
    /// [`ID_HEADER`].
    pub id: Option<&'a str>,
    /// [`TIMESTAMP_HEADER`].
    pub timestamp: Option<&'a str>,
    /// [`SIGNATURE_HEADER`].
    pub signature: Option<&'a str>,
}

/// A call whose signature was right.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Verified {
    /// Its id, to be taken once.
    pub id: String,
    /// When it was signed.
    pub timestamp: u64,
}

/// Why a call is not taken. The text is safe to tell the caller: it says
/// nothing that the caller did not send.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum VerifyError {
    /// A header is missing.
    #[error("the header {0} is missing")]
    Missing(&'static str),
    /// A header has a form that no signer writes.
    #[error("the header {0} is malformed")]
    Malformed(&'static str),
    /// It was signed too long ago, or is from the future.
    #[error("the call was signed {0} seconds from now, more than {TOLERANCE_SECONDS}")]
    Stale(u64),
    /// No secret and signature match.
    #[error("the signature does not match")]
    Mismatch,
}

/// Verifies a call against every secret. All comparisons take the same time
/// whatever the bytes are, and every signature is compared.
pub fn verify(
    secrets: &[Secret],
    headers: Headers<'_>,
    body: &[u8],
    now: u64,
) -> Result<Verified, VerifyError> {
    let id = headers.id.ok_or(VerifyError::Missing(ID_HEADER))?;
    let timestamp = headers
        .timestamp
        .ok_or(VerifyError::Missing(TIMESTAMP_HEADER))?;
    let signatures = headers
        .signature
        .ok_or(VerifyError::Missing(SIGNATURE_HEADER))?;
    // A full stop in the id would let two different calls have the same bytes.
    let plain = |b: u8| b.is_ascii_alphanumeric() || b"_-".contains(&b);
    if id.is_empty() || id.len() > MAX_ID || !id.bytes().all(plain) {
        return Err(VerifyError::Malformed(ID_HEADER));
    }
    let digits = timestamp.bytes().all(|b| b.is_ascii_digit());
    let canonical = digits && !timestamp.starts_with('0');
    let seconds: u64 = match timestamp.parse() {
        Ok(seconds) if canonical => seconds,
        _ => return Err(VerifyError::Malformed(TIMESTAMP_HEADER)),
    };
    let mut matched = false;
    for signature in signatures.split(' ').take(MAX_SIGNATURES) {
        let Some(encoded) = signature.strip_prefix("v1,") else {
            continue;
        };
        let Ok(code) = STANDARD.decode(encoded) else {
            continue;
        };
        for secret in secrets {
            let mac = secret.mac(id, seconds, body);
            matched |= mac.verify_slice(&code).is_ok();
        }
    }
    if !matched {
        return Err(VerifyError::Mismatch);
    }
    // After the signature, so that a stranger learns nothing of our clock.
    let apart = now.abs_diff(seconds);
    if apart > TOLERANCE_SECONDS {
        return Err(VerifyError::Stale(apart));
    }
    Ok(Verified {
        id: id.to_owned(),
        timestamp: seconds,
    })
}

/// Whether two tokens are the same, in a time that tells nothing of them.
pub fn same_token(left: &str, right: &str) -> bool {
    // Comparing digests of equal length leaks neither content nor length.
    let digest = |text: &str| Sha256::digest(text.as_bytes());
    let pairs = digest(left).into_iter().zip(digest(right));
    pairs.fold(0, |seen, (a, b)| seen | (a ^ b)) == 0
}

pub(crate) fn hex(bytes: &[u8]) -> String {
    bytes
        .iter()
        .fold(String::with_capacity(bytes.len() * 2), |mut text, byte| {
            // Writing to a string cannot fail.
            let _ = write!(text, "{byte:02x}");
            text
        })
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const NOW: u64 = 1_700_000_000;

    fn secret(text: &str) -> Secret {
        Secret::parse(text).unwrap()
    }

    fn check(
        secrets: &[Secret],
        id: &str,
        timestamp: &str,
        signature: &str,
        body: &[u8],
    ) -> Result<Verified, VerifyError> {
        let headers = Headers {
            id: Some(id),
            timestamp: Some(timestamp),
            signature: Some(signature),
        };
        verify(secrets, headers, body, NOW)
    }

    #[test]
    fn the_specifications_own_example_verifies() {
        let secrets = [secret("whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw")];
        let headers = Headers {
            id: Some("msg_p5jXN8AQM9LWM0D4loKWxJek"),
            timestamp: Some("1614265330"),
            signature: Some("v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE="),
        };
        let verified = verify(&secrets, headers, br#"{"test": 2432232314}"#, 1_614_265_330);
        assert_eq!(verified.unwrap().id, "msg_p5jXN8AQM9LWM0D4loKWxJek");
    }

    #[test]
    fn secrets_that_keep_nobody_out_are_refused() {
        assert_eq!(Secret::parse("").err(), Some(SecretError::Short(0)));
        assert_eq!(Secret::parse("whsec_").err(), Some(SecretError::Short(0)));
        assert_eq!(Secret::parse("whsec_!!").err(), Some(SecretError::Base64));
        assert_eq!(Secret::parse("short").err(), Some(SecretError::Short(5)));
    }

    #[test]
    fn during_a_rotation_either_secret_and_either_signature_will_do() {
        let (old, new) = (secret(&"a".repeat(32)), secret(&"b".repeat(32)));
        let (by_old, by_new) = (old.sign("i", NOW, b"x"), new.sign("i", NOW, b"x"));
        let both = [old.clone(), new.clone()];
        let now = NOW.to_string();
        assert!(check(&both, "i", &now, &by_old, b"x").is_ok());
        assert!(check(&both, "i", &now, &by_new, b"x").is_ok());
        assert!(check(&[new], "i", &now, &format!("{by_old} {by_new}"), b"x").is_ok());
        assert_eq!(
            check(&[old], "i", &now, &by_new, b"x"),
            Err(VerifyError::Mismatch)
        );
        assert_eq!(
            check(&[], "i", &now, &by_new, b"x"),
            Err(VerifyError::Mismatch)
        );
    }

    #[test]
    fn five_minutes_either_way_and_not_a_second_more() {
        let key = secret(&"a".repeat(32));
        for (apart, taken) in [(-301_i64, false), (-300, true), (300, true), (301, false)] {
            let signed = NOW.checked_add_signed(apart).unwrap();
            let signature = key.sign("i", signed, b"x");
            let result = check(
                std::slice::from_ref(&key),
                "i",
                &signed.to_string(),
                &signature,
                b"x",
            );
            assert_eq!(result.is_ok(), taken, "{apart}");
        }
    }

    #[test]
    fn forms_that_no_signer_writes_are_refused() {
        let keys = [secret(&"a".repeat(32))];
        let now = NOW.to_string();
        let good = keys[0].sign("i", NOW, b"x");
        assert!(check(&keys, "", &now, &good, b"x").is_err());
        assert!(check(&keys, "a.b", &now, &good, b"x").is_err());
        assert!(check(&keys, "i", &format!("0{now}"), &good, b"x").is_err());
        assert!(check(&keys, "i", &format!("+{now}"), &good, b"x").is_err());
        assert!(check(&keys, "i", &now, good.strip_prefix("v1,").unwrap(), b"x").is_err());
        assert!(check(&keys, "i", &now, &good.replace("v1,", "v2,"), b"x").is_err());
        assert!(check(&keys, "i", &now, &good[..good.len() - 4], b"x").is_err());
        assert!(check(&keys, &"i".repeat(MAX_ID + 1), &now, &good, b"x").is_err());
    }

    #[test]
    fn tokens_are_bound_to_their_subject() {
        let key = secret(&"a".repeat(32));
        assert!(same_token(
            &key.token("deploy", "d1"),
            &key.token("deploy", "d1")
        ));
        assert!(!same_token(
            &key.token("deploy", "d1"),
            &key.token("deploy", "d2")
        ));
        assert!(!same_token(
            &key.token("deploy", "d1"),
            &key.token("other", "d1")
        ));
    }

    proptest! {
        #[test]
        fn every_single_bit_change_is_refused(
            body in prop::collection::vec(any::<u8>(), 1..60),
            id in "[a-zA-Z0-9_-]{1,20}",
        ) {
            let keys = [secret(&"a".repeat(32))];
            let signature = keys[0].sign(&id, NOW, &body);
            prop_assert!(check(&keys, &id, &NOW.to_string(), &signature, &body).is_ok());
            for bit in 0..body.len() * 8 {
                let mut changed = body.clone();
                changed[bit / 8] ^= 1 << (bit % 8);
                prop_assert!(check(&keys, &id, &NOW.to_string(), &signature, &changed).is_err());
            }
            for (place, byte) in signature.bytes().enumerate() {
                for bit in 0..7 {
                    let changed = byte ^ (1 << bit);
                    let mut text = signature.clone().into_bytes();
                    text[place] = changed;
                    let Ok(text) = String::from_utf8(text) else { continue };
                    prop_assert!(check(&keys, &id, &NOW.to_string(), &text, &body).is_err(), "{text}");
                }
            }
        }
    }
}
