//! The bodies of calls: what is taken says the same when it is written again.
#![no_main]

use cutover_wire::request::{AbortRequest, DeployRequest, Query};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|body: &[u8]| {
    if let Ok(request) = serde_json::from_slice::<DeployRequest>(body) {
        let problem = request.problem();
        let written = serde_json::to_vec(&request).expect("it was JSON");
        let again: DeployRequest = serde_json::from_slice(&written).expect("it was a request");
        assert_eq!(again, request);
        assert_eq!(again.problem(), problem);
    }
    if let Ok(query) = serde_json::from_slice::<Query>(body) {
        let written = serde_json::to_vec(&query).expect("it was JSON");
        assert_eq!(serde_json::from_slice::<Query>(&written).expect("it was a query"), query);
    }
    let _ = serde_json::from_slice::<AbortRequest>(body);
});
