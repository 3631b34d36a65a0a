//! Quantities: what is read is written in a form that reads the same.
#![no_main]

use cutover_plan::spec::{Bytes, MilliCpus, Rate, Weight, parse_duration, render_duration};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|text: &str| {
    if let Ok(duration) = parse_duration(text) {
        assert_eq!(parse_duration(&render_duration(duration)), Ok(duration));
    }
    if let Ok(rate) = Rate::parse(text) {
        assert_eq!(Rate::parse(&rate.to_string()), Ok(rate));
    }
    if let Ok(cpus) = MilliCpus::parse(text) {
        assert_eq!(MilliCpus::parse(&cpus.to_string()), Ok(cpus));
    }
    if let Ok(weight) = Weight::parse(text) {
        let written = weight.to_string();
        assert_eq!(Weight::parse(written.trim_end_matches('%')), Ok(weight));
    }
    if let Ok(bytes) = Bytes::parse(text) {
        assert!(!bytes.to_string().is_empty());
    }
});
