//! The wall clock and the random source, read only here and handed to the model as arguments.

use std::time::{SystemTime, UNIX_EPOCH};

use crate::model::id::{EventId, IdSource};

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

/// A new ULID, in the order of time to the millisecond.
pub fn fresh_ulid() -> EventId {
    IdSource::after(EventId::ZERO).next(now_ms() as u64, u128::from_le_bytes(random()))
}
