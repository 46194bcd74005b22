//! Chance that can be had again: a test prints its seed, and `STENTOR_TEST_SEED` gives it one.

use std::time::{SystemTime, UNIX_EPOCH};

use actors::model::splitmix;

/// The same seed gives the same moments.
pub struct Random(pub u64);

impl Random {
    pub fn next(&mut self) -> u64 {
        splitmix::next(&mut self.0)
    }

    pub fn below(&mut self, end: u64) -> u64 {
        self.next() % end
    }
}

/// The seed of this run.
pub fn seed() -> u64 {
    let now = || SystemTime::now().duration_since(UNIX_EPOCH).map_or(1, |since| since.as_nanos() as u64);
    std::env::var("STENTOR_TEST_SEED").map_or_else(|_| now(), |text| text.parse().expect("a number as seed"))
}
