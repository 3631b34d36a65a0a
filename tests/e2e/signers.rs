//! Our signatures and those of independent signers, the `standardwebhooks`
//! packages of npm and PyPI and `@octokit/webhooks-methods` of npm, are the
//! same bytes, and each verifies with ours.
//!
//! `tests/signers/make-vectors` made the vectors and makes them again. The
//! packages sign texts alone, so their bodies are UTF-8 of every plane; bytes
//! that are no text are covered by the property tests of `cutover_wire`.

#![expect(clippy::unwrap_used, reason = "a test ends where its set-up fails")]

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use cutover_wire::github;
use cutover_wire::signature::{Headers, Secret, VerifyError, verify};

const VECTORS: &str = include_str!("../signers/vectors.jsonl");
const OF_GITHUB: &str = include_str!("../signers/github.jsonl");

struct Vector {
    signer: String,
    secret: Secret,
    id: String,
    timestamp: u64,
    body: Vec<u8>,
    signature: String,
}

impl Vector {
    fn parse(line: &str) -> Self {
        let line: serde_json::Value = serde_json::from_str(line).unwrap();
        let text = |name: &str| line[name].as_str().unwrap().to_owned();
        Self {
            signer: text("signer"),
            secret: Secret::parse(&text("secret")).unwrap(),
            id: text("id"),
            timestamp: line["timestamp"].as_u64().unwrap(),
            body: STANDARD.decode(text("body")).unwrap(),
            signature: text("signature"),
        }
    }

    /// Verifies it, in the second in which it was signed.
    fn verify(
        &self,
        id: &str,
        timestamp: &str,
        signature: &str,
        body: &[u8],
    ) -> Result<(), VerifyError> {
        let headers = Headers {
            id: Some(id),
            timestamp: Some(timestamp),
            signature: Some(signature),
        };
        let secrets = std::slice::from_ref(&self.secret);
        verify(secrets, headers, body, self.timestamp).map(drop)
    }
}

fn vectors() -> Vec<Vector> {
    VECTORS.lines().map(Vector::parse).collect()
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

#[test]
fn ours_are_theirs_byte_for_byte_and_theirs_verify() {
    let vectors = vectors();
    for signer in ["npm", "pypi"] {
        let own = vectors.iter().filter(|vector| vector.signer == signer);
        assert_eq!(own.count(), 200, "{signer}");
    }
    for Vector {
        signer,
        secret,
        id,
        timestamp,
        body,
        signature,
    } in &vectors
    {
        assert_eq!(
            secret.sign(id, *timestamp, body),
            *signature,
            "{signer} {id}"
        );
    }
    for vector in &vectors {
        let now = vector.timestamp.to_string();
        let verified = vector.verify(&vector.id, &now, &vector.signature, &vector.body);
        assert_eq!(verified, Ok(()), "{} {}", vector.signer, vector.id);
    }
}

#[test]
fn every_single_bit_change_of_theirs_is_refused() {
    for vector in &vectors() {
        let Vector {
            id,
            signature,
            body,
            ..
        } = vector;
        let now = vector.timestamp.to_string();
        let refused = |changed: Result<(), VerifyError>, what: &str| {
            assert!(changed.is_err(), "{what} of {} {id}", vector.signer);
        };
        for bit in 0..body.len() * 8 {
            let mut changed = body.clone();
            changed[bit / 8] ^= 1 << (bit % 8);
            refused(vector.verify(id, &now, signature, &changed), "body");
        }
        for changed in flips(id) {
            refused(vector.verify(&changed, &now, signature, body), "id");
        }
        for changed in flips(&now) {
            refused(vector.verify(id, &changed, signature, body), "timestamp");
        }
        for changed in flips(signature) {
            refused(vector.verify(id, &now, &changed, body), "signature");
        }
    }
}

#[test]
fn of_githubs_webhooks_we_take_exactly_what_octokit_takes() {
    let (mut taken, mut refused) = (0, 0);
    for line in OF_GITHUB.lines() {
        let vector: serde_json::Value = serde_json::from_str(line).unwrap();
        let text = |name: &str| vector[name].as_str().unwrap();
        let secret = String::from_utf8(STANDARD.decode(text("secret")).unwrap()).unwrap();
        let secret = Secret::parse_verbatim(&secret).unwrap();
        let body = STANDARD.decode(text("body")).unwrap();
        assert_eq!(github::sign(&secret, &body), text("signature"), "{line}");
        let told = github::verify(&[secret], Some(text("sent")), &body);
        let theirs = vector["verified"].as_bool().unwrap();
        assert_eq!(told.is_ok(), theirs, "{told:?} {line}");
        match theirs {
            true => taken += 1,
            false => refused += 1,
        }
    }
    assert_eq!((taken, refused), (20, 220));
}
