//! The stream as a node follows it: messages come in any order, twice, or not at all, and are handed out in order.
//!
//! What is missing is read from the stream: at the start, where there is a hole, when somebody has named a higher sequence
//! for a while, when nothing at all was heard for a while.

use std::collections::BTreeMap;

use super::protocol::RelayLimits;
use super::rules::{Rule, keeps};
use super::wire::TailMessage;

#[derive(Debug)]
pub(super) struct Tail<R> {
    /// The last sequence that was handed out.
    taken: u64,
    /// The last sequence that the copy holds.
    applied: u64,
    /// The highest sequence that was heard of.
    heard: u64,
    /// Messages behind one that is missing, or for which the copy has no room yet.
    ahead: BTreeMap<u64, TailMessage<R>>,
    /// The leader has told all that there is up to here: what is not `ahead` is gone for good.
    certain_through: u64,
    /// The last sequence that was found to be gone.
    lost_through: u64,
    fetch: Option<Fetch>,
    /// When to read what is missing for a reason that does not show in the other fields.
    fetch_at_ms: Option<u64>,
    /// No read before this, because the last one brought nothing.
    not_before_ms: u64,
    /// What a replica has not got of this part, first to last, the leader is asked for: it may be gone.
    doubted: (u64, u64),
    /// Since when a higher sequence is known than was taken.
    behind_since_ms: Option<u64>,
    /// When a message or a beat came last.
    heard_at_ms: u64,
    /// The end of the stream when it was read first: with that, the copy is complete.
    complete_at: Option<u64>,
}

/// A read that is under way.
#[derive(Clone, Copy, Debug)]
struct Fetch {
    from: u64,
    at_leader: bool,
    asked_ms: u64,
}

/// What comes next in the order of the stream.
#[derive(Debug)]
pub(super) enum Next<R> {
    Message(TailMessage<R>),
    Lost { from: u64, through: u64 },
}

impl<R> Tail<R> {
    pub fn behind(applied: u64, now_ms: u64) -> Tail<R> {
        Tail {
            taken: applied,
            applied,
            heard: applied,
            ahead: BTreeMap::new(),
            certain_through: 0,
            lost_through: 0,
            fetch: None,
            fetch_at_ms: Some(now_ms),
            not_before_ms: 0,
            doubted: (0, 0),
            behind_since_ms: None,
            heard_at_ms: now_ms,
            complete_at: None,
        }
    }

    pub fn taken(&self) -> u64 {
        self.taken
    }

    pub fn applied(&self) -> u64 {
        self.applied
    }

    pub fn heard(&self) -> u64 {
        self.heard
    }

    pub fn lost_through(&self) -> u64 {
        self.lost_through
    }

    /// Whether the copy was complete once.
    pub fn is_complete(&self) -> bool {
        self.complete_at.is_some_and(|end| self.applied >= end)
    }

    /// Whether the copy holds all that was taken, so that a plan can be made by it.
    pub fn is_settled(&self) -> bool {
        self.applied == self.taken
    }

    #[cfg(test)]
    pub fn ahead_len(&self) -> usize {
        self.ahead.len()
    }

    /// A message has come. What there is no room for is read again later.
    pub fn offer(&mut self, message: TailMessage<R>, limits: &RelayLimits) {
        self.heard = self.heard.max(message.sequence);
        if message.sequence <= self.taken {
            return;
        }
        self.ahead.insert(message.sequence, message);
        if self.ahead.len() > limits.ahead_max {
            self.ahead.pop_last();
        }
    }

    /// Somebody is alive, and the stream reaches that far.
    pub fn heard_of(&mut self, sequence: u64, now_ms: u64) {
        self.heard = self.heard.max(sequence);
        self.heard_at_ms = now_ms;
    }

    /// Reads what is missing without waiting.
    pub fn fetch_now(&mut self, now_ms: u64) {
        self.fetch_at_ms = Some(now_ms);
    }

    /// Messages may be missing, and an answer may not come any more.
    pub fn reconnected(&mut self, now_ms: u64) {
        self.fetch = None;
        self.fetch_at_ms = Some(now_ms);
    }

    /// How far the copy reaches.
    pub fn applied_through(&mut self, through: u64) {
        self.applied = self.applied.max(through.min(self.taken));
    }

    fn has_room(&self, limits: &RelayLimits) -> bool {
        self.taken - self.applied < limits.unapplied_max as u64
    }

    /// The next one in order, if it is there and the copy can take it.
    pub fn next(&mut self, limits: &RelayLimits) -> Option<Next<R>> {
        if !self.has_room(limits) {
            return None;
        }
        let first = self.ahead.first_key_value().map(|(sequence, _)| *sequence);
        let from = self.taken + 1;
        if self.certain_through >= from && first.is_none_or(|first| first > from) {
            let through = first.map_or(self.certain_through, |first| self.certain_through.min(first - 1));
            (self.taken, self.lost_through) = (through, through);
            return Some(Next::Lost { from, through });
        }
        if first? != from && keeps(Rule::TakeInOrder) {
            return None;
        }
        self.taken = first?;
        self.behind_since_ms = None;
        self.ahead.pop_first().map(|(_, message)| Next::Message(message))
    }

    /// The stream was read from `from` on.
    pub fn fetched(
        &mut self,
        now_ms: u64,
        (from, at_leader): (u64, bool),
        messages: Vec<TailMessage<R>>,
        end: u64,
        limits: &RelayLimits,
    ) {
        let heard_before = self.heard;
        self.heard = self.heard.max(end);
        let last = messages.last().map(|message| message.sequence);
        let brought = last.is_some_and(|last| last > self.taken);
        for message in messages {
            self.offer(message, limits);
        }
        if self.fetch.is_none_or(|fetch| (fetch.from, fetch.at_leader) != (from, at_leader)) {
            return;
        }
        self.fetch = None;
        self.heard_at_ms = now_ms;
        if self.complete_at.is_none() {
            self.complete_at = Some(end);
        }
        let is_missing = from == self.taken + 1 && from <= end && !self.ahead.contains_key(&from);
        // when there were too many to keep, the last ones have gone, and are read again
        let kept = self.ahead.last_key_value().map_or(end, |(sequence, _)| *sequence);
        if at_leader {
            self.certain_through = last.unwrap_or(end).min(kept);
        } else {
            self.doubted = (from, last.unwrap_or(from).min(kept));
        }
        if is_missing && !at_leader {
            self.fetch_at_ms = Some(now_ms);
        } else if !is_missing && !brought && heard_before > self.taken {
            self.not_before_ms = now_ms + limits.behind_ms;
        }
    }

    pub fn fetch_failed(&mut self, now_ms: u64, from: u64, limits: &RelayLimits) {
        if self.fetch.is_some_and(|fetch| fetch.from == from) {
            self.fetch = None;
            self.not_before_ms = now_ms + limits.retry_ms;
            self.fetch_at_ms = Some(self.not_before_ms);
        }
    }

    /// When something is to be read, unless something comes before: at any time up to `now_ms` means now.
    pub fn fetch_due_ms(&mut self, now_ms: u64, limits: &RelayLimits) -> Option<u64> {
        if self.heard <= self.taken {
            self.behind_since_ms = None;
        } else if self.behind_since_ms.is_none() {
            self.behind_since_ms = Some(now_ms);
        }
        if !self.has_room(limits) {
            return None;
        }
        if let Some(fetch) = self.fetch {
            return Some(fetch.asked_ms + limits.fetch_ms);
        }
        // whatever is here and cannot be taken lies behind something that is missing
        let hole = (!self.ahead.is_empty()).then_some(now_ms);
        let behind = self.behind_since_ms.map(|since| since + limits.behind_ms);
        let quiet = Some(self.heard_at_ms + limits.quiet_ms);
        let due = [hole, behind, quiet, self.fetch_at_ms].into_iter().flatten().min();
        due.map(|due| due.max(self.not_before_ms))
    }

    /// Begins a read: from where, and whether the leader is to be asked.
    pub fn begin_fetch(&mut self, now_ms: u64) -> (u64, bool) {
        let from = self.taken + 1;
        let at_leader = (self.doubted.0..=self.doubted.1).contains(&from);
        self.fetch = Some(Fetch { from, at_leader, asked_ms: now_ms });
        self.fetch_at_ms = None;
        (from, at_leader)
    }
}
