//! The replay buffer: the newest frames of one channel, bounded by count and bytes.
//!
//! A ring is complete from its floor on: every event of the channel after the floor and up to the head is in it. So a
//! reader whose cursor is at the floor or later needs no log. When a message was missed the ring starts anew with a
//! higher floor, which is always safe: the log has everything.

use std::collections::VecDeque;
use std::sync::Arc;

use crate::feed::frame::Frame;
use crate::model::id::EventId;

#[derive(Clone, Copy, Debug)]
pub struct RingLimits {
    pub events: usize,
    pub bytes: usize,
}

#[derive(Debug)]
pub struct Ring {
    frames: VecDeque<Arc<Frame>>,
    /// The position of `frames[0]`, counted from the ring's beginning.
    base: u64,
    bytes: usize,
    floor: EventId,
    head: EventId,
    limits: RingLimits,
}

impl Ring {
    /// An empty ring that is complete after `floor`.
    pub fn new(floor: EventId, limits: RingLimits) -> Ring {
        Ring { frames: VecDeque::new(), base: 0, bytes: 0, floor, head: floor, limits }
    }

    /// Takes a batch whose predecessor in the channel was `previous`. Returns whether the ring had to start anew
    /// because something between its head and `previous` is missing.
    pub fn extend(&mut self, frames: &[Arc<Frame>], previous: EventId) -> bool {
        let hole = previous > self.head;
        if hole {
            self.restart(previous);
        }
        for frame in frames.iter().filter(|frame| frame.event.id > self.head) {
            self.bytes += frame.weight();
            self.frames.push_back(frame.clone());
        }
        if let Some(newest) = self.frames.back() {
            self.head = self.head.max(newest.event.id);
        }
        while self.frames.len() > self.limits.events || self.bytes > self.limits.bytes {
            // not empty: an empty ring has no events and no bytes
            let Some(oldest) = self.frames.pop_front() else { break };
            self.bytes -= oldest.weight();
            self.base += 1;
            self.floor = oldest.event.id;
        }
        hole
    }

    /// Forgets everything up to and including `floor`.
    fn restart(&mut self, floor: EventId) {
        // one more than were there: a reader that stood at the end has missed something, so its position must not hold
        self.base = self.end() + 1;
        self.frames.clear();
        self.bytes = 0;
        self.floor = floor;
        self.head = floor;
    }

    pub fn limits(&self) -> RingLimits {
        self.limits
    }

    pub fn floor(&self) -> EventId {
        self.floor
    }

    pub fn head(&self) -> EventId {
        self.head
    }

    /// The position behind the newest frame.
    pub fn end(&self) -> u64 {
        self.base + self.frames.len() as u64
    }

    pub fn is_empty(&self) -> bool {
        self.frames.is_empty()
    }

    /// The position of the first frame after `cursor`; none when the ring does not reach back that far.
    pub fn position_after(&self, cursor: EventId) -> Option<u64> {
        if cursor < self.floor {
            return None;
        }
        Some(self.base + self.frames.partition_point(|frame| frame.event.id <= cursor) as u64)
    }

    /// The frames from a position on; none when they have left the ring.
    pub fn from(&self, position: u64) -> Option<impl Iterator<Item = &Arc<Frame>>> {
        let skip = position.checked_sub(self.base)?;
        Some(self.frames.range((skip as usize).min(self.frames.len())..))
    }

    /// The frame at a position; none when it has left the ring, or is not there yet.
    pub fn get(&self, position: u64) -> Option<&Arc<Frame>> {
        self.frames.get(position.checked_sub(self.base)? as usize)
    }

    pub fn frames(&self) -> Vec<Arc<Frame>> {
        self.frames.iter().cloned().collect()
    }
}

#[cfg(test)]
mod tests;
