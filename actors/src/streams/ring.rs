//! The replay buffer: the newest frames of one channel, bounded by count and bytes.
//!
//! A ring is complete from its floor on: every event of the channel after the floor and up to the head is in it. So a
//! reader whose cursor is at the floor or later needs no log. When a batch was missed the ring starts anew with a
//! higher floor, which is always safe: the log has everything.
//!
//! Frames are shared with other rings and count themselves in the memory budget; a ring counts its own entries. While the
//! budget is nearly used up, rings keep only [`RingLimits::UNDER_PRESSURE`].

use std::collections::VecDeque;
use std::sync::Arc;

use crate::budget::{Budget, Part, Reservation};
use crate::feed::frame::Frame;
use crate::model::id::EventId;
use crate::streams::limits::RingLimits;

/// Frames grow as encodings are made. With each batch, as many frames as came with it and this many more are weighed
/// again, going round, so that a ring's bytes follow what its frames hold at a bounded cost.
const WEIGHED_AGAIN: usize = 16;

#[derive(Debug)]
pub struct Ring {
    entries: VecDeque<Entry>,
    /// The position of `entries[0]`, counted from the ring's beginning.
    base: u64,
    /// The sum of the entries.
    bytes: usize,
    floor: EventId,
    head: EventId,
    limits: RingLimits,
    /// The position of the frame that is weighed again next.
    weigh_next: u64,
    /// What the entries themselves take up.
    held: Reservation,
}

#[derive(Debug)]
struct Entry {
    frame: Arc<Frame>,
    /// What the frame held when it was weighed last.
    bytes: usize,
}

impl Ring {
    /// An empty ring that is complete after `floor`.
    pub fn new(floor: EventId, limits: RingLimits, budget: &Arc<Budget>) -> Ring {
        let held = budget.hold(Part::Rings, 0);
        Ring { entries: VecDeque::new(), base: 0, bytes: 0, floor, head: floor, limits, weigh_next: 0, held }
    }

    /// Takes a batch whose predecessor in the channel was `previous`. Returns whether the ring had to start anew
    /// because something between its head and `previous` is missing.
    pub fn extend(&mut self, frames: &[Arc<Frame>], previous: EventId) -> bool {
        let hole = previous > self.head;
        if hole {
            self.restart(previous);
        }
        for frame in frames.iter().filter(|frame| frame.event.id > self.head) {
            let bytes = frame.held_bytes();
            self.bytes += bytes;
            self.entries.push_back(Entry { frame: frame.clone(), bytes });
        }
        if let Some(newest) = self.entries.back() {
            self.head = self.head.max(newest.frame.event.id);
        }
        self.weigh_some(frames.len() + WEIGHED_AGAIN);
        if !self.shrink_under_pressure() {
            self.shrink_to(self.limits);
        }
        hole
    }

    /// Gives memory back while the budget is nearly used up. Returns whether it is.
    pub fn shrink_under_pressure(&mut self) -> bool {
        let is_under_pressure = self.held.budget().is_under_pressure();
        if is_under_pressure {
            self.shrink_to(self.limits.and(RingLimits::UNDER_PRESSURE));
            self.entries.shrink_to_fit();
            self.count_entries();
        }
        is_under_pressure
    }

    /// Gives back all memory. Readers at the head go on where they are.
    pub fn clear(&mut self) {
        self.shrink_to(RingLimits::NOTHING);
        self.floor = self.head;
        self.entries = VecDeque::new();
        self.count_entries();
    }

    /// Lets the oldest frames go until the rest is within the limits.
    fn shrink_to(&mut self, limits: RingLimits) {
        while self.entries.len() > limits.events || self.bytes > limits.bytes {
            // not empty: an empty ring has no events and no bytes
            let Some(oldest) = self.entries.pop_front() else { break };
            self.bytes -= oldest.bytes;
            self.base += 1;
            self.floor = oldest.frame.event.id;
        }
        self.count_entries();
    }

    fn count_entries(&mut self) {
        let bytes = self.entries.capacity() * size_of::<Entry>();
        if bytes != self.held.bytes() {
            self.held.resize(bytes);
        }
    }

    fn weigh_some(&mut self, count: usize) {
        for _ in 0..count.min(self.entries.len()) {
            if !(self.base..self.end()).contains(&self.weigh_next) {
                self.weigh_next = self.base;
            }
            let entry = &mut self.entries[(self.weigh_next - self.base) as usize];
            let bytes = entry.frame.held_bytes();
            self.bytes = self.bytes - entry.bytes + bytes;
            entry.bytes = bytes;
            self.weigh_next += 1;
        }
    }

    /// Forgets everything up to and including `floor`.
    fn restart(&mut self, floor: EventId) {
        // one more than were there: a reader that stood at the end has missed something, so its position must not hold
        self.base = self.end() + 1;
        self.entries.clear();
        self.bytes = 0;
        self.floor = floor;
        self.head = floor;
    }

    pub fn floor(&self) -> EventId {
        self.floor
    }

    pub fn head(&self) -> EventId {
        self.head
    }

    /// The position behind the newest frame.
    pub fn end(&self) -> u64 {
        self.base + self.entries.len() as u64
    }

    pub fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }

    pub fn len(&self) -> usize {
        self.entries.len()
    }

    /// The position of the first frame after `cursor`; none when the ring does not reach back that far.
    pub fn position_after(&self, cursor: EventId) -> Option<u64> {
        if cursor < self.floor {
            return None;
        }
        Some(self.base + self.entries.partition_point(|entry| entry.frame.event.id <= cursor) as u64)
    }

    /// The frames from a position on; none when they have left the ring.
    pub fn frames_from(&self, position: u64) -> Option<impl Iterator<Item = &Arc<Frame>>> {
        let skip = position.checked_sub(self.base)?;
        let skip = (skip as usize).min(self.entries.len());
        Some(self.entries.range(skip..).map(|entry| &entry.frame))
    }

    /// The frame at a position; none when it has left the ring, or is not there yet.
    pub fn get(&self, position: u64) -> Option<&Arc<Frame>> {
        let entry = self.entries.get(position.checked_sub(self.base)? as usize)?;
        Some(&entry.frame)
    }

    pub fn frames(&self) -> Vec<Arc<Frame>> {
        self.entries.iter().map(|entry| entry.frame.clone()).collect()
    }

    /// Bytes that the frames hold, as far as they were weighed.
    pub fn bytes(&self) -> usize {
        self.bytes
    }
}

#[cfg(test)]
mod tests;
