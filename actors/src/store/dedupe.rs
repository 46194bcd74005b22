//! Which dedupe keys were seen lately, in memory: a fingerprint and the segment that has the key. A key that was never
//! seen costs no read; one whose fingerprint is known is looked up in its segment.

use std::collections::{HashMap, VecDeque};

/// About 40 bytes a key.
#[derive(Debug)]
pub struct SeenKeys {
    window_ms: u64,
    most: usize,
    /// By fingerprint: (time_ms, segment) of the newest use.
    segments: HashMap<u64, (u64, u64)>,
    /// (time_ms, fingerprint, segment), oldest first.
    order: VecDeque<(u64, u64, u64)>,
    /// Keys that had to go before their time.
    pub forgotten: u64,
}

impl SeenKeys {
    pub fn new(window_ms: u64, most: usize) -> SeenKeys {
        SeenKeys { window_ms, most, segments: HashMap::new(), order: VecDeque::new(), forgotten: 0 }
    }

    pub fn add(&mut self, time_ms: u64, fingerprint: u64, segment: u64) {
        self.segments.insert(fingerprint, (time_ms, segment));
        self.order.push_back((time_ms, fingerprint, segment));
        while let Some((oldest, fingerprint, segment)) = self.order.front().copied() {
            let expired = oldest.saturating_add(self.window_ms) < time_ms;
            if !expired && self.order.len() <= self.most {
                break;
            }
            self.forgotten += u64::from(!expired);
            self.order.pop_front();
            // a key that was used again after its window stays for its newer use
            if self.segments.get(&fingerprint) == Some(&(oldest, segment)) {
                self.segments.remove(&fingerprint);
            }
        }
    }

    pub fn segment(&self, fingerprint: u64) -> Option<u64> {
        self.segments.get(&fingerprint).map(|(_, segment)| *segment)
    }

    pub fn in_window(&self, time_ms: u64, now_ms: u64) -> bool {
        time_ms.saturating_add(self.window_ms) >= now_ms
    }
}
