//! The signature of GitHub's own webhooks: `X-Hub-Signature-256`.
//!
//! GitHub signs the bytes of the body and writes `sha256=` and 64 lower-case
//! hexadecimal digits. It signs no id and no time, so a signature says who
//! made a body and nothing about when: whoever takes one remembers deliveries.
//! Any secret of the receiver's may match, so secrets can be rotated.

use hmac::Mac as _;

use crate::signature::{Secret, hex};

/// The header with the signature.
pub const SIGNATURE_HEADER: &str = "x-hub-signature-256";

/// What stands before the digits: the name of the only scheme that is taken.
/// GitHub's older header has `sha1=`.
const SCHEME: &str = "sha256=";

/// Two digits for each byte of a SHA-256 code.
const CODE_BYTES: usize = 32;

/// Why a delivery is not taken. The text is safe to tell the caller: it repeats
/// neither what came nor what was expected.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum GithubError {
    /// The receiver has no secret, so nothing can be taken.
    #[error("no secret for webhooks of GitHub is configured here")]
    NoSecret,
    /// The header is missing: the webhook was made without a secret.
    #[error("the header {SIGNATURE_HEADER} is missing")]
    Missing,
    /// The signature is of another scheme.
    #[error("the header {SIGNATURE_HEADER} does not begin with {SCHEME}")]
    Scheme,
    /// What follows the scheme is not what GitHub writes.
    #[error("the header {SIGNATURE_HEADER} does not hold 64 lower-case hexadecimal digits")]
    Digits,
    /// No secret made this signature for this body.
    #[error("the signature does not match")]
    Mismatch,
}

/// The `X-Hub-Signature-256` of a body, as GitHub would write it.
pub fn sign(secret: &Secret, body: &[u8]) -> String {
    let mut mac = secret.keyed();
    mac.update(body);
    format!("{SCHEME}{}", hex(&mac.finalize().into_bytes()))
}

/// Verifies a body against every secret. All comparisons take the same time
/// whatever the bytes are, and no secret is left out.
pub fn verify(secrets: &[Secret], signature: Option<&str>, body: &[u8]) -> Result<(), GithubError> {
    if secrets.is_empty() {
        return Err(GithubError::NoSecret);
    }
    let signature = signature.ok_or(GithubError::Missing)?;
    let digits = signature.strip_prefix(SCHEME).ok_or(GithubError::Scheme)?;
    let code = code(digits).ok_or(GithubError::Digits)?;
    let mut matched = false;
    for secret in secrets {
        let mut mac = secret.keyed();
        mac.update(body);
        matched |= mac.verify_slice(&code).is_ok();
    }
    if matched {
        Ok(())
    } else {
        Err(GithubError::Mismatch)
    }
}

/// The bytes of exactly as many lower-case digits: a second spelling of a
/// signature would be one that GitHub never writes.
fn code(digits: &str) -> Option<[u8; CODE_BYTES]> {
    let digit = |byte: u8| match byte {
        b'0'..=b'9' => Some(byte - b'0'),
        b'a'..=b'f' => Some(byte - b'a' + 10),
        _ => None,
    };
    let digits = digits.as_bytes();
    if digits.len() != 2 * CODE_BYTES {
        return None;
    }
    let mut code = [0; CODE_BYTES];
    for (byte, pair) in code.iter_mut().zip(digits.chunks_exact(2)) {
        *byte = digit(pair[0])? << 4 | digit(pair[1])?;
    }
    Some(code)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// The example of GitHub's documentation.
    const SECRET: &str = "It's a Secret to Everybody";
    const BODY: &[u8] = b"Hello, World!";
    const DIGITS: &str = "757107ea0eb2509fc211221cce984b8a37570b6d7586c22c46f4379c8b043e17";

    fn secret(text: &str) -> Secret {
        Secret::parse_verbatim(text).unwrap()
    }

    fn check(signature: Option<&str>, expected: Result<(), GithubError>) {
        let told = verify(&[secret(SECRET)], signature, BODY);
        assert_eq!(told, expected, "{signature:?}");
    }

    #[test]
    fn the_example_of_githubs_documentation_verifies() {
        let signature = format!("sha256={DIGITS}");
        assert_eq!(sign(&secret(SECRET), BODY), signature);
        check(Some(&signature), Ok(()));
    }

    #[test]
    fn each_fault_has_its_own_error() {
        check(None, Err(GithubError::Missing));
        for scheme in [
            "", "sha1=", "SHA256=", "Sha256=", "sha256:", "sha256", " sha256=",
        ] {
            check(Some(&format!("{scheme}{DIGITS}")), Err(GithubError::Scheme));
        }
        let upper = DIGITS.to_uppercase();
        let (short, long) = (&DIGITS[1..], format!("{DIGITS}0"));
        for digits in [
            "",
            short,
            &long,
            &upper,
            &format!(" {short}"),
            &format!("={short}"),
        ] {
            check(Some(&format!("sha256={digits}")), Err(GithubError::Digits));
        }
        let other = DIGITS.replace('7', "8");
        check(Some(&format!("sha256={other}")), Err(GithubError::Mismatch));
        let signature = format!("sha256={DIGITS}");
        assert_eq!(
            verify(&[], Some(&signature), BODY),
            Err(GithubError::NoSecret)
        );
    }

    #[test]
    fn a_secret_that_looks_like_base64_is_the_text_itself() {
        let text = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw";
        let decoded = Secret::parse(text).unwrap();
        assert_ne!(sign(&decoded, BODY), sign(&secret(text), BODY));
        assert!(Secret::parse_verbatim(" short \n").is_err());
    }

    #[test]
    fn during_a_rotation_either_secret_will_do() {
        let (old, new) = (secret(&"a".repeat(32)), secret(&"b".repeat(32)));
        let both = [old.clone(), new.clone()];
        for one in [&old, &new] {
            assert_eq!(verify(&both, Some(&sign(one, BODY)), BODY), Ok(()));
        }
        let told = verify(&[old], Some(&sign(&new, BODY)), BODY);
        assert_eq!(told, Err(GithubError::Mismatch));
    }

    proptest! {
        #[test]
        fn no_error_tells_the_secret_or_a_signature(text in "[a-z]{30,40}", sent in ".{0,80}") {
            let key = secret(&text);
            let Err(error) = verify(std::slice::from_ref(&key), Some(&sent), BODY) else {
                return Ok(());
            };
            let (told, expected) = (format!("{error} {error:?}"), sign(&key, BODY));
            prop_assert!(!told.contains(&text) && !told.contains(&expected[SCHEME.len()..]));
        }

        #[test]
        fn every_single_bit_change_is_refused(
            body in prop::collection::vec(any::<u8>(), 1..60),
            key in "[!-~]{24,40}",
        ) {
            let keys = [secret(&key)];
            let signature = sign(&keys[0], &body);
            prop_assert_eq!(verify(&keys, Some(&signature), &body), Ok(()));
            for bit in 0..body.len() * 8 {
                let mut changed = body.clone();
                changed[bit / 8] ^= 1 << (bit % 8);
                let told = verify(&keys, Some(&signature), &changed);
                prop_assert_eq!(told, Err(GithubError::Mismatch));
            }
            for changed in flips(&signature) {
                prop_assert!(verify(&keys, Some(&changed), &body).is_err(), "{}", changed);
            }
            for changed in flips(&key) {
                // White space around a secret is dropped: then it is no single change.
                let Ok(other) = Secret::parse_verbatim(&changed) else { continue };
                let told = verify(&[other], Some(&signature), &body);
                prop_assert_eq!(told, Err(GithubError::Mismatch));
            }
        }
    }

    /// Every text that differs from this one in one bit and is still a text.
    fn flips(text: &str) -> impl Iterator<Item = String> {
        let bytes = text.as_bytes().to_vec();
        (0..bytes.len() * 8).filter_map(move |bit| {
            let mut changed = bytes.clone();
            changed[bit / 8] ^= 1 << (bit % 8);
            String::from_utf8(changed).ok()
        })
    }
}
