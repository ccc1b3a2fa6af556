//! Waiting for what must come, however busy the machine is.

use std::thread;
use std::time::{Duration, Instant};

/// How long a test waits before it fails.
pub const BOUND: Duration = Duration::from_mins(1);

/// Waits until a condition holds.
///
/// # Panics
/// It does not hold within [`BOUND`]; the message says what was waited for.
pub fn until(what: &str, mut holds: impl FnMut() -> bool) {
    let since = Instant::now();
    while !holds() {
        assert!(since.elapsed() < BOUND, "waited {BOUND:?} for {what}");
        thread::sleep(Duration::from_millis(2));
    }
}
