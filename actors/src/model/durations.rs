//! How long things took, counted in classes, so that percentiles of any time can be told from those of its parts.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::sparse::SparseNumbers;

/// Two classes for each power of two of microseconds, up to 2^27 us (134 s); everything longer is in the last one. A percentile
/// is told to within a third of its value.
pub const CLASSES: usize = 54;

/// The class of a duration.
pub fn class_of(took: Duration) -> usize {
    let us = u64::try_from(took.as_micros()).unwrap_or(u64::MAX).max(1);
    let exponent = us.ilog2();
    let upper_half = exponent.checked_sub(1).map_or(0, |shift| (us >> shift) & 1);
    (2 * exponent as usize + upper_half as usize).min(CLASSES - 1)
}

/// The durations of a class in microseconds: from, and up to.
fn bounds_us(class: usize) -> (f64, f64) {
    let base = f64::from(1_u32 << (class / 2).min(31));
    if class.is_multiple_of(2) { (base, 1.5 * base) } else { (1.5 * base, 2.0 * base) }
}

/// How many durations were in each class.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct DurationCounts(SparseNumbers);

impl DurationCounts {
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// More durations of a class.
    pub fn add(&mut self, class: usize, count: u64) {
        // there are few classes
        self.0.update(class as u8, |counted| counted.unwrap_or(0).saturating_add(count));
    }

    pub fn absorb(&mut self, other: &DurationCounts) {
        other.0.iter().for_each(|(class, count)| self.add(usize::from(class), count));
    }

    /// The duration in milliseconds that this share of them does not exceed; none of no durations.
    pub fn percentile_ms(&self, share: f64) -> Option<f64> {
        let total: u64 = self.0.iter().map(|(_, count)| count).sum();
        let rank = share * total as f64;
        let mut before = 0.0;
        let mut found = None;
        for (class, count) in self.0.iter().filter(|(_, count)| *count > 0) {
            let (from, to) = bounds_us(usize::from(class));
            let within = ((rank - before) / count as f64).clamp(0.0, 1.0);
            found = Some((from + (to - from) * within) / 1_000.0);
            before += count as f64;
            if before >= rank {
                break;
            }
        }
        found
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn nothing_has_no_percentile() {
        assert_eq!(DurationCounts::default().percentile_ms(0.5), None);
    }

    proptest! {
        #[test]
        fn a_percentile_is_within_a_third_of_the_true_one(mut durations in prop::collection::vec(1_u64..60_000_000, 1..200)) {
            let mut counts = DurationCounts::default();
            durations.iter().for_each(|us| counts.add(class_of(Duration::from_micros(*us)), 1));
            durations.sort_unstable();
            for share in [0.5, 0.95, 0.99, 1.0] {
                let rank = ((share * durations.len() as f64).ceil() as usize).clamp(1, durations.len());
                let truth = durations[rank - 1] as f64 / 1_000.0;
                let told = counts.percentile_ms(share).expect("there are some");
                prop_assert!(told >= truth / 1.5 && told <= truth * 1.5, "{share}: {told} for {truth}");
            }
        }

        #[test]
        fn the_percentiles_of_a_whole_are_those_of_its_parts_together(parts in prop::collection::vec(prop::collection::vec(1_u64..1_000_000, 0..20), 1..5)) {
            let of = |durations: &[u64]| {
                let mut counts = DurationCounts::default();
                durations.iter().for_each(|us| counts.add(class_of(Duration::from_micros(*us)), 1));
                counts
            };
            let mut together = DurationCounts::default();
            parts.iter().for_each(|part| together.absorb(&of(part)));
            prop_assert_eq!(together, of(&parts.concat()));
        }
    }
}
