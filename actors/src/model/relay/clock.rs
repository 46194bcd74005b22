//! What the clock of the stream shows, as far as messages tell. A message can be late, never early; so of all that was seen
//! lately the one that came soonest is the nearest to the truth.

/// How long what was seen counts at least; at most twice as long.
const SPAN_MS: u64 = 60_000;

#[derive(Debug, Default)]
pub(super) struct StreamClock {
    current: Option<Span>,
    before: Option<Span>,
}

#[derive(Clone, Copy, Debug)]
struct Span {
    begun_ms: u64,
    /// What the stream's clock shows when the node's elapsed time is 0.
    at_zero_ms: i64,
}

impl StreamClock {
    /// A message came that was stored at `time_ms` by the stream's clock.
    pub fn seen(&mut self, now_ms: u64, time_ms: u64) {
        let at_zero_ms = time_ms as i64 - now_ms as i64;
        match &mut self.current {
            Some(span) if now_ms < span.begun_ms + SPAN_MS => span.at_zero_ms = span.at_zero_ms.max(at_zero_ms),
            _ => {
                self.before = self.current.take();
                self.current = Some(Span { begun_ms: now_ms, at_zero_ms });
            }
        }
    }

    /// By how much a clock that shows `clock_ms` is before the stream's; none: not known.
    pub fn ahead_ms(&self, now_ms: u64, clock_ms: u64) -> Option<i64> {
        let counts = |span: &Span| now_ms < span.begun_ms + 2 * SPAN_MS;
        let spans = [self.current, self.before].into_iter().flatten().filter(counts);
        let at_zero_ms = spans.map(|span| span.at_zero_ms).max()?;
        Some(clock_ms as i64 - (at_zero_ms + now_ms as i64))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn late_messages_do_not_make_a_clock_look_fast_and_old_ones_are_forgotten() {
        let mut clock = StreamClock::default();
        assert_eq!(clock.ahead_ms(0, 1_000), None);
        clock.seen(0, 1_000);
        clock.seen(50_000, 11_000);
        assert_eq!(clock.ahead_ms(50_000, 51_005), Some(5), "the second one was 40 s late");
        clock.seen(60_000, 21_000);
        assert_eq!(clock.ahead_ms(100_000, 101_000), Some(0));
        assert_eq!(clock.ahead_ms(120_000, 121_000), Some(40_000), "nothing else was seen for a while");
        assert_eq!(clock.ahead_ms(180_000, 181_000), None);
    }
}
