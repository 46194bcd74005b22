//! Chance that can be had again: a test prints its seed, and `STENTOR_TEST_SEED` gives it one.

use std::time::{SystemTime, UNIX_EPOCH};

/// SplitMix64: the same seed gives the same moments.
pub struct Random(pub u64);

impl Random {
    pub fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
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
