//! Signatures of calls and of GitHub's webhooks: nothing but the true one is taken.
#![no_main]

use cutover_wire::github;
use cutover_wire::signature::{self, Headers, Secret};
use libfuzzer_sys::fuzz_target;

/// A clock that a timestamp of the corpus can name.
const NOW: u64 = 1_000;
const SECRET: &str = "a secret of the fuzz target, long enough";

fuzz_target!(|input: (&str, &str, &str, &[u8])| {
    let (id, timestamp, claimed, body) = input;
    let _ = Secret::parse(claimed);
    let secrets = [Secret::parse(SECRET).expect("a good secret")];
    let taken = github::verify(&secrets, Some(claimed), body).is_ok();
    assert_eq!(taken, claimed == github::sign(&secrets[0], body));
    let headers = Headers {
        id: Some(id),
        timestamp: Some(timestamp),
        signature: Some(claimed),
    };
    if let Ok(verified) = signature::verify(&secrets, headers, body, NOW) {
        let true_one = secrets[0].sign(&verified.id, verified.timestamp, body);
        assert!(claimed.contains(&true_one));
    }
});
