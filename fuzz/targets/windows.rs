//! Deploy windows: a span, a zone and a moment.
#![no_main]

use cutover_plan::windows::{Span, Timezone, Windows};
use jiff::Timestamp;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|input: (&str, &str, &str, i64)| {
    let (allow, deny, zone, second) = input;
    let (allow, deny) = (Span::parse(allow), Span::parse(deny));
    let zone = Timezone::parse(zone);
    let (Ok(zone), Ok(now)) = (zone, Timestamp::from_second(second)) else {
        return;
    };
    let windows = Windows::new(
        zone,
        allow.into_iter().collect(),
        deny.into_iter().collect(),
    );
    let open = windows.next_open(now);
    match windows.judge(now) {
        Ok(()) => assert_eq!(open, Some(now)),
        Err(closed) => {
            assert_eq!(closed.next_open, open);
            if let Some(open) = open {
                assert!(open > now && windows.judge(open).is_ok());
            }
        }
    }
});
