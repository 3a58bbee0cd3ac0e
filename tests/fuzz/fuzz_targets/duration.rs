//! Durations as Gateway API and gRPC write them.
#![no_main]

use std::time::{Duration, Instant};

use inmesh::policy::timeout::{Deadlines, Timeouts, parse_duration, parse_grpc_timeout};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|text: &str| {
    if let Ok(duration) = parse_duration(text) {
        assert!(duration <= Duration::from_secs(4 * 99_999 * 3600));
    }
    let Some(asked) = parse_grpc_timeout(text) else {
        return;
    };
    assert!(asked <= Duration::from_secs(99_999_999 * 3600));
    let now = Instant::now();
    let deadlines = Deadlines::new(&Timeouts::default(), Some(asked), now);
    let _ = (
        deadlines.end(),
        deadlines.attempt(now),
        deadlines.allow_pause(now, asked),
    );
});
