//! When a token was last used. Each request that a token makes notes that, so it costs a comparison of an atomic number, and a store
//! once a second; who writes it out seldom is told what is new.

use std::sync::atomic::{AtomicI64, Ordering};

/// When a token was last used, in Unix seconds; 0: never, or nobody knows.
#[derive(Debug, Default)]
pub struct LastUse {
    at_s: AtomicI64,
    /// What of it is written.
    written_s: AtomicI64,
}

impl LastUse {
    /// The token is used now.
    pub fn note(&self, now_s: i64) {
        // read first: requests on several threads then share the line of the cache, and one a second takes it
        if self.at_s.load(Ordering::Relaxed) != now_s {
            self.at_s.store(now_s, Ordering::Relaxed);
        }
    }

    /// In Unix seconds; none where that is not known.
    pub fn at_s(&self) -> Option<i64> {
        Some(self.at_s.load(Ordering::Relaxed)).filter(|at_s| *at_s != 0)
    }

    /// What is not written yet, in Unix seconds.
    pub fn unwritten_s(&self) -> Option<i64> {
        self.at_s().filter(|at_s| *at_s != self.written_s.load(Ordering::Relaxed))
    }

    /// That use is written now.
    pub fn written(&self, at_s: i64) {
        self.written_s.store(at_s, Ordering::Relaxed);
    }

    /// A use that was written before the server started; one that was noted since then stays.
    pub fn restore(&self, at_s: i64) {
        self.written(at_s);
        // lost only to a use that is newer
        let _ = self.at_s.compare_exchange(0, at_s, Ordering::Relaxed, Ordering::Relaxed);
    }
}
