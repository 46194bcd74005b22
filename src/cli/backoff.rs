//! How long to wait before the same is tried again.

use std::time::Duration;

/// The longest wait, unless the server asks for more.
const CEILING: Duration = Duration::from_secs(30);
/// The longest wait that a server's `Retry-After` can ask for.
const ASKED_MAX: Duration = Duration::from_secs(3600);
/// Before a server has said what it likes.
const BASE: Duration = Duration::from_millis(500);

/// Waits that double, each between half of itself and all of it, so that clients that failed together do not come back
/// together.
#[derive(Debug, Clone)]
pub struct Backoff {
    base: Duration,
    tries: u32,
}

impl Default for Backoff {
    fn default() -> Self {
        Self { base: BASE, tries: 0 }
    }
}

impl Backoff {
    /// The first wait is up to this long from now on.
    pub fn set_base(&mut self, base: Duration) {
        self.base = base.clamp(Duration::from_millis(10), CEILING);
    }

    /// It went well: the next wait is a first one.
    pub fn reset(&mut self) {
        self.tries = 0;
    }

    /// The next wait. `asked`: what the server wants at least; `chance`: drawn from 0 to 1.
    pub fn next(&mut self, asked: Option<Duration>, chance: f64) -> Duration {
        let doubled = self.base.saturating_mul(1 << self.tries.min(16)).min(CEILING);
        self.tries = self.tries.saturating_add(1);
        let wait = doubled.mul_f64(0.5 + chance.clamp(0.0, 1.0) / 2.0);
        wait.max(asked.unwrap_or_default().min(ASKED_MAX))
    }
}

/// A number from 0 to 1. Without a source of chance it is the middle: waits are then alike, which is no reason to fail.
pub fn chance() -> f64 {
    getrandom::u32().map_or(0.5, |drawn| f64::from(drawn) / f64::from(u32::MAX))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn waits_double_up_to_a_ceiling_and_begin_anew_after_a_success() {
        let mut backoff = Backoff::default();
        backoff.set_base(Duration::from_secs(1));
        let waits: Vec<_> = (0..7).map(|_| backoff.next(None, 1.0).as_secs()).collect();
        assert_eq!(waits, [1, 2, 4, 8, 16, 30, 30]);
        backoff.reset();
        assert_eq!(backoff.next(None, 0.0), Duration::from_millis(500), "half of it at least");
    }

    #[test]
    fn a_server_can_ask_for_more_but_not_for_less() {
        let mut backoff = Backoff::default();
        assert_eq!(backoff.next(Some(Duration::from_secs(90)), 0.5), Duration::from_secs(90));
        assert!(backoff.next(Some(Duration::ZERO), 0.5) >= Duration::from_millis(500));
        assert_eq!(backoff.next(Some(Duration::from_secs(1 << 40)), 0.5), ASKED_MAX);
    }
}
