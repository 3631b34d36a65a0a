//! An app's file: any text, as its owner may have written it.
#![no_main]

use cutover_plan::spec;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|text: &str| {
    if let Err(mistakes) = spec::parse("shop.toml", "shop", text) {
        assert!(!mistakes.is_empty());
        for mistake in mistakes {
            assert!(!mistake.to_string().is_empty());
        }
    }
});
