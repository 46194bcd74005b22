//! The memory budget: how many bytes the engine may hold for what grows with its load, and how many it holds now.
//!
//! Whoever holds such memory adds it here under its [`Part`] and releases it again; [`Reservation`] does both. Two things
//! come of it. What can be refused is refused when the budget is used up ([`Budget::reserve`]: bodies of requests). What can
//! be given back is given back when the budget is nearly used up ([`Budget::is_under_pressure`]: rings, caches).
//!
//! Counts only, no memory of its own and no lock, so that it may be asked for each batch.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

/// What the memory is held for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Part {
    /// Places in the rings of channels, and chunks that several sessions share.
    Rings,
    /// Events in memory with their encodings and what filters read of them, and pages of the log on their way to a reader.
    Frames,
    /// Keys of requests and events that must not be stored twice.
    Dedupe,
    /// Blocks of the log and of databases that are kept for the next reader.
    Caches,
    /// Bodies of requests that are being received.
    Bodies,
}

impl Part {
    pub const ALL: [Part; 5] = [Part::Rings, Part::Frames, Part::Dedupe, Part::Caches, Part::Bodies];

    /// The name in the metric.
    pub fn name(self) -> &'static str {
        match self {
            Part::Rings => "rings",
            Part::Frames => "frames",
            Part::Dedupe => "dedupe",
            Part::Caches => "caches",
            Part::Bodies => "bodies",
        }
    }
}

#[derive(Debug)]
pub struct Budget {
    limit_bytes: usize,
    /// The sum of the parts, kept beside them so that a reservation is one atomic step.
    used: AtomicUsize,
    parts: [AtomicUsize; Part::ALL.len()],
}

/// Without a limit.
impl Default for Budget {
    fn default() -> Budget {
        Budget::new(usize::MAX)
    }
}

impl Budget {
    pub fn new(limit_bytes: usize) -> Budget {
        Budget { limit_bytes, used: AtomicUsize::new(0), parts: Default::default() }
    }

    /// Takes the bytes unless they would exceed the limit; none: refuse what they were for.
    pub fn reserve(self: &Arc<Self>, part: Part, bytes: usize) -> Option<Reservation> {
        let fits = |used: usize| used.checked_add(bytes).filter(|sum| *sum <= self.limit_bytes);
        self.used.fetch_update(Ordering::Relaxed, Ordering::Relaxed, fits).ok()?;
        self.parts[part as usize].fetch_add(bytes, Ordering::Relaxed);
        Some(Reservation { budget: self.clone(), part, bytes })
    }

    /// Takes the bytes in any case, for what cannot be refused.
    pub fn hold(self: &Arc<Self>, part: Part, bytes: usize) -> Reservation {
        self.add(part, bytes);
        Reservation { budget: self.clone(), part, bytes }
    }

    /// Counts bytes that are held from now on, for whoever releases them by itself.
    pub fn add(&self, part: Part, bytes: usize) {
        self.used.fetch_add(bytes, Ordering::Relaxed);
        self.parts[part as usize].fetch_add(bytes, Ordering::Relaxed);
    }

    /// Counts bytes that are not held any more. They were added before.
    pub fn release(&self, part: Part, bytes: usize) {
        self.used.fetch_sub(bytes, Ordering::Relaxed);
        self.parts[part as usize].fetch_sub(bytes, Ordering::Relaxed);
    }

    /// Whether more than 7/8 of the limit is used: whoever can give memory back does.
    pub fn is_under_pressure(&self) -> bool {
        self.used_bytes() > self.limit_bytes - self.limit_bytes / 8
    }

    pub fn limit_bytes(&self) -> usize {
        self.limit_bytes
    }

    pub fn used_bytes(&self) -> usize {
        self.used.load(Ordering::Relaxed)
    }

    pub fn used_bytes_by(&self, part: Part) -> usize {
        self.parts[part as usize].load(Ordering::Relaxed)
    }
}

/// Bytes of the budget, released when this is dropped.
#[derive(Debug)]
pub struct Reservation {
    budget: Arc<Budget>,
    part: Part,
    bytes: usize,
}

impl Reservation {
    /// Takes this many bytes more unless they would exceed the limit; false: refuse what they were for. What was held stays
    /// held.
    pub fn grow(&mut self, bytes: usize) -> bool {
        let Some(mut more) = self.budget.reserve(self.part, bytes) else { return false };
        self.bytes += std::mem::take(&mut more.bytes);
        true
    }

    /// Changes how many bytes are held, also beyond the limit.
    pub fn resize(&mut self, bytes: usize) {
        match bytes.checked_sub(self.bytes) {
            Some(more) => self.budget.add(self.part, more),
            None => self.budget.release(self.part, self.bytes - bytes),
        }
        self.bytes = bytes;
    }

    pub fn bytes(&self) -> usize {
        self.bytes
    }

    pub fn budget(&self) -> &Arc<Budget> {
        &self.budget
    }
}

impl Drop for Reservation {
    fn drop(&mut self) {
        self.budget.release(self.part, self.bytes);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_does_not_fit_is_refused_and_fits_again_when_something_was_released() {
        let budget = Arc::new(Budget::new(100));
        let first = budget.reserve(Part::Bodies, 60).expect("there is room");
        assert!(budget.reserve(Part::Bodies, 41).is_none());
        assert!(budget.reserve(Part::Bodies, usize::MAX).is_none());
        let second = budget.reserve(Part::Bodies, 40).expect("it fits to the byte");
        drop(first);
        assert!(budget.reserve(Part::Bodies, 60).is_some());
        drop(second);
        assert_eq!((budget.used_bytes(), budget.used_bytes_by(Part::Bodies)), (0, 0));
    }

    #[test]
    fn a_reservation_grows_while_there_is_room_and_is_released_as_a_whole() {
        let budget = Arc::new(Budget::new(100));
        let mut held = budget.hold(Part::Bodies, 0);
        assert!(held.grow(60) && held.grow(40));
        assert!(!held.grow(1));
        assert_eq!((held.bytes(), budget.used_bytes_by(Part::Bodies)), (100, 100));
        drop(held);
        assert_eq!((budget.used_bytes(), budget.used_bytes_by(Part::Bodies)), (0, 0));
    }

    #[test]
    fn what_cannot_be_refused_is_counted_beyond_the_limit() {
        let budget = Arc::new(Budget::new(80));
        let mut held = budget.hold(Part::Rings, 70);
        assert!(!budget.is_under_pressure(), "seven eighths are not beyond seven eighths");
        held.resize(200);
        assert!(budget.is_under_pressure());
        assert_eq!((budget.used_bytes_by(Part::Rings), budget.used_bytes_by(Part::Frames)), (200, 0));
        held.resize(0);
        assert_eq!(budget.used_bytes(), 0);
    }

    #[test]
    fn a_budget_without_a_limit_knows_no_pressure() {
        let budget = Arc::new(Budget::default());
        let _held = budget.hold(Part::Dedupe, usize::MAX / 2);
        assert!(!budget.is_under_pressure());
    }
}
