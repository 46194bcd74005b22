//! The token bucket of an endpoint with a rate limit: whole numbers only, the time is an argument.

use super::config::RateLimit;

/// What one attempt costs. A bucket gains `per_second` of a thousandth of it each millisecond.
const ATTEMPT: u64 = 1_000;

/// Lets `per_second` attempts pass in the long run and `burst` at once.
#[derive(Clone, Debug)]
pub(super) struct Bucket {
    limit: RateLimit,
    level: u64,
    filled_at_ms: u64,
}

impl Bucket {
    /// A full bucket.
    pub(super) fn new(limit: RateLimit, now_ms: u64) -> Bucket {
        Bucket { limit, level: u64::from(limit.burst) * ATTEMPT, filled_at_ms: now_ms }
    }

    pub(super) fn limit(&self) -> RateLimit {
        self.limit
    }

    /// Takes what one attempt costs, if it is there.
    pub(super) fn take(&mut self, now_ms: u64) -> bool {
        // a clock that stepped back fills nothing and does not take back what was there
        let elapsed_ms = now_ms.saturating_sub(self.filled_at_ms);
        self.filled_at_ms = now_ms;
        let gained = elapsed_ms.saturating_mul(u64::from(self.limit.per_second));
        self.level = self.level.saturating_add(gained).min(u64::from(self.limit.burst) * ATTEMPT);
        let enough = self.level >= ATTEMPT;
        if enough {
            self.level -= ATTEMPT;
        }
        enough
    }

    /// When the next attempt may pass, in Unix milliseconds, if nothing is taken before.
    pub(super) fn ready_at_ms(&self) -> u64 {
        let missing = ATTEMPT.saturating_sub(self.level);
        self.filled_at_ms + missing.div_ceil(u64::from(self.limit.per_second))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn a_bucket_lets_its_burst_pass_and_then_its_rate() {
        let mut bucket = Bucket::new(RateLimit { per_second: 4, burst: 3 }, 1_000);
        assert_eq!((0..5).filter(|_| bucket.take(1_000)).count(), 3);
        assert_eq!(bucket.ready_at_ms(), 1_250);
        assert!(!bucket.take(1_249));
        assert!(bucket.take(1_250));
    }

    proptest! {
        #[test]
        fn no_window_sees_more_than_burst_and_rate(
            per_second in 1u32..50, burst in 1u32..20, steps in proptest::collection::vec(0u64..400, 1..200),
        ) {
            let mut bucket = Bucket::new(RateLimit { per_second, burst }, 0);
            let (mut now, mut passed) = (0, 0u64);
            for step in steps {
                now += step;
                passed += u64::from(bucket.take(now));
                prop_assert!(passed <= u64::from(burst) + now * u64::from(per_second) / 1_000);
                let ready_at = bucket.ready_at_ms();
                prop_assert!(bucket.clone().take(ready_at.max(now)));
            }
        }
    }
}
