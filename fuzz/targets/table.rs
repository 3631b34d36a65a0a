//! The routing table: every mistake is found without a panic, and a table
//! without one reads back as it is.
#![no_main]

use cutover_wire::table::Table;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|data: &[u8]| {
    if let Ok(table) = serde_json::from_slice::<Table>(data) {
        let problems = table.problems();
        let _ = table.needs();
        let written = serde_json::to_vec(&table).expect("it was JSON");
        let again: Table = serde_json::from_slice(&written).expect("it was a table");
        assert_eq!(again, table);
        assert_eq!(again.problems(), problems);
    }
});
