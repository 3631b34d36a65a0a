//! The frames of the proxy's socket, in both directions.
#![no_main]

use cutover_wire::proxy::{self, Call, Reply};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|data: &[u8]| {
    if let Some((announced, body)) = data.split_first_chunk() {
        if let Ok(length) = proxy::length(*announced) {
            let _ = proxy::decode::<Call>(&body[..length.min(body.len())]);
        }
    }
    let _ = proxy::decode::<Call>(data);
    let _ = proxy::decode::<Reply>(data);
});
