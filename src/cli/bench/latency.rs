//! A histogram of latencies in constant memory, exact to about 3 %.

/// Parts of each power of two.
const PARTS: u64 = 32;
const PART_BITS: u32 = PARTS.trailing_zeros();

/// Counts durations in nanoseconds by size, from 0 to the largest.
pub struct Latencies {
    counts: Vec<u64>,
    total: u64,
    max: u64,
}

impl Latencies {
    pub fn new() -> Latencies {
        Latencies { counts: vec![0; (64 - PART_BITS as usize + 1) * PARTS as usize], total: 0, max: 0 }
    }

    pub fn record(&mut self, ns: u64) {
        self.counts[place(ns)] += 1;
        self.total += 1;
        self.max = self.max.max(ns);
    }

    /// The duration in milliseconds that `part` (0 to 1) of all did not pass; 0 without any.
    pub fn quantile_ms(&self, part: f64) -> f64 {
        let wanted = (self.total as f64 * part).ceil() as u64;
        let mut seen = 0;
        for (at, count) in self.counts.iter().enumerate() {
            seen += count;
            if *count > 0 && seen >= wanted {
                return largest(at).min(self.max) as f64 / 1e6;
            }
        }
        0.0
    }

    pub fn max_ms(&self) -> f64 {
        self.max as f64 / 1e6
    }
}

/// Below `PARTS` each value has a place of its own; above, each power of two has `PARTS` places.
fn place(ns: u64) -> usize {
    let shift = (64 - ns.leading_zeros()).saturating_sub(PART_BITS + 1);
    (u64::from(shift) * PARTS + (ns >> shift)) as usize
}

/// The largest value that has this place.
fn largest(place: usize) -> u64 {
    let place = place as u64;
    let shift = (place / PARTS).saturating_sub(1);
    let first = place - shift * PARTS;
    // the very last place ends with the largest number there is
    (((u128::from(first) + 1) << shift) - 1).min(u128::from(u64::MAX)) as u64
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_duration_has_a_place_whose_largest_is_near() {
        for ns in [0, 1, 31, 32, 33, 63, 64, 65, 1000, 123_456, 9_999_999, u64::MAX / 2, u64::MAX] {
            let largest = largest(place(ns));
            assert!(largest >= ns && largest - ns <= ns / 31, "{ns} {largest}");
            assert!(place(ns) < Latencies::new().counts.len());
        }
    }

    #[test]
    fn quantiles_are_those_of_the_sorted_durations() {
        let mut latencies = Latencies::new();
        assert_eq!(latencies.quantile_ms(0.5), 0.0);
        for ms in 1..=1000u64 {
            latencies.record(ms * 1_000_000);
        }
        for (part, ms) in [(0.5, 500.0), (0.9, 900.0), (0.99, 990.0), (1.0, 1000.0)] {
            let got = latencies.quantile_ms(part);
            assert!((got - ms).abs() <= ms / 30.0, "{part}: {got}");
        }
        assert_eq!(latencies.max_ms(), 1000.0);
    }
}
