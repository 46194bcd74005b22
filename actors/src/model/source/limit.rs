//! The rate limit of a source: so many requests in so many seconds, as a sliding window (the generic cell rate algorithm).

use serde::{Deserialize, Serialize};

/// The most that a rate may allow, and the longest time it may look at.
pub const REQUESTS_MAX: u32 = 1_000_000;
pub const SECONDS_MAX: u32 = 86_400;

/// `requests` in each `per_seconds`, and as many at once.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Rate {
    pub requests: u32,
    pub per_seconds: u32,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("must be {{\"requests\": 1 to 1000000, \"perSeconds\": 1 to 86400}}, or a number of requests a minute")]
pub struct BadRate;

impl Rate {
    /// So many requests in so many seconds.
    ///
    /// # Errors
    /// One of the numbers is 0 or larger than allowed.
    pub fn new(requests: u64, per_seconds: u64) -> Result<Rate, BadRate> {
        match (u32::try_from(requests), u32::try_from(per_seconds)) {
            (Ok(requests @ 1..=REQUESTS_MAX), Ok(per_seconds @ 1..=SECONDS_MAX)) => Ok(Rate { requests, per_seconds }),
            _ => Err(BadRate),
        }
    }

    fn window_ns(self) -> u64 {
        u64::from(self.per_seconds) * 1_000_000_000
    }
}

/// How much of a rate is used up.
#[derive(Clone, Copy, Debug, Default)]
pub struct Window {
    /// When the window would be empty if nothing more came, in Unix nanoseconds.
    empty_at_ns: u64,
}

impl Window {
    /// Takes one request at `now_ms`, or says after how many milliseconds the next one may come.
    ///
    /// # Errors
    /// The milliseconds until the next request may come.
    pub fn take(&mut self, rate: Rate, now_ms: u64) -> Result<(), u64> {
        let now = now_ms.saturating_mul(1_000_000);
        let (window, requests) = (rate.window_ns(), u64::from(rate.requests));
        // the clock may have stepped back, or the rate may be a new one: no more than a full window is ever owed
        let empty_at = self.empty_at_ns.clamp(now, now.saturating_add(window));
        self.empty_at_ns = empty_at;
        let after = empty_at + window.div_ceil(requests);
        // a cost that was rounded up must not keep the last request of a window out
        if after - now > window + requests {
            return Err((after - now - window).div_ceil(1_000_000));
        }
        self.empty_at_ns = after;
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn a_window_lets_its_requests_pass_at_once_and_says_when_the_next_may_come() {
        let rate = Rate::new(3, 60).expect("a rate");
        let mut window = Window::default();
        let now = 1_700_000_000_000;
        assert!((0..3).all(|_| window.take(rate, now).is_ok()));
        assert_eq!(window.take(rate, now), Err(20_000));
        assert_eq!(window.take(rate, now + 19_999), Err(1));
        assert_eq!(window.take(rate, now + 20_000), Ok(()));
    }

    #[test]
    fn a_clock_that_steps_back_owes_at_most_one_window() {
        let rate = Rate::new(1, 10).expect("a rate");
        let mut window = Window::default();
        assert_eq!(window.take(rate, 1_000_000_000), Ok(()));
        assert_eq!(window.take(rate, 1_000), Err(10_000));
        assert_eq!(window.take(rate, 11_000), Ok(()));
    }

    #[test]
    fn a_rate_is_within_its_bounds() {
        for (requests, seconds) in [(0, 1), (1, 0), (1_000_001, 1), (1, 86_401), (u64::MAX, u64::MAX)] {
            assert_eq!(Rate::new(requests, seconds), Err(BadRate));
        }
    }

    proptest! {
        #[test]
        fn no_time_sees_more_than_two_windows_allow(
            requests in 1u64..50, seconds in 1u64..30, steps in proptest::collection::vec(0u64..900, 1..300),
        ) {
            let rate = Rate::new(requests, seconds).expect("a rate");
            let mut window = Window::default();
            let (begin, mut now, mut passed) = (1_000_000u64, 1_000_000u64, 0u64);
            for step in steps {
                now += step;
                match window.take(rate, now) {
                    Ok(()) => passed += 1,
                    Err(wait) => {
                        // what it says is true, and not a second too long
                        prop_assert!(wait <= seconds * 1_000 / requests + 1);
                        prop_assert!(window.clone().take(rate, now + wait).is_ok());
                    }
                }
                prop_assert!(passed <= requests + (now - begin) * requests / (seconds * 1_000) + 1);
            }
        }
    }
}
