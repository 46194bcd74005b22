//! The wall clock and the random source, read only here and handed to the model as arguments.

use std::time::{SystemTime, UNIX_EPOCH};

/// Unix milliseconds.
pub fn now_ms() -> i64 {
    // a clock before 1970 counts as 1970: ids grow all the same
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_millis() as i64)
}

/// Random bytes of the operating system.
///
/// # Panics
/// When the operating system has none, which on Linux does not happen once it has booted.
pub fn random<const N: usize>() -> [u8; N] {
    let mut bytes = [0; N];
    getrandom::fill(&mut bytes).expect("the operating system has random bytes");
    bytes
}
