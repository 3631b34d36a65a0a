//! Names of things: what is read is written as it reads.
#![no_main]

use std::str::FromStr;

use cutover_plan::id::{AppName, DeployId, Digest, ImageReference, Repository};
use libfuzzer_sys::fuzz_target;

fn same<T: FromStr + ToString + PartialEq + std::fmt::Debug>(text: &str)
where
    T::Err: std::fmt::Debug,
{
    if let Ok(name) = text.parse::<T>() {
        assert_eq!(name.to_string().parse::<T>().expect("it was a name"), name);
    }
}

fuzz_target!(|text: &str| {
    same::<AppName>(text);
    same::<DeployId>(text);
    same::<Digest>(text);
    same::<Repository>(text);
    same::<ImageReference>(text);
});
