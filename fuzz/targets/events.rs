//! The stream of events: whatever a newer agent tells is kept and can be told on.
#![no_main]

use cutover_wire::event::Told;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|data: &[u8]| {
    if let Ok(told) = serde_json::from_slice::<Told>(data) {
        let written = serde_json::to_vec(&told).expect("it was JSON");
        assert_eq!(serde_json::from_slice::<Told>(&written).expect("it was an event"), told);
    }
});
