//! The delivery trace: for the newest events of the server, when each became durable and to how many sessions it was handed.
//! Kept in memory.
//!
//! The journal adds one [`TracedCommit`] per commit. Frames carry a [`TraceMark`] into it, so whoever hands events to sessions counts
//! with one atomic addition per event and group of sessions, and looks nothing up. A restart forgets everything.

use parking_lot::Mutex;
use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};

use crate::model::id::EventId;

#[derive(Debug, Default)]
pub struct DeliveryTrace {
    /// Events that are remembered at most, save that a commit is remembered as a whole.
    most: usize,
    commits: Mutex<TracedCommits>,
}

#[derive(Debug, Default)]
struct TracedCommits {
    /// The oldest first.
    commits: VecDeque<Arc<TracedCommit>>,
    events: usize,
}

/// The events of one commit.
#[derive(Debug)]
struct TracedCommit {
    durable_ms: i64,
    events: Box<[TracedEvent]>,
}

#[derive(Debug)]
struct TracedEvent {
    id: EventId,
    handed: AtomicU32,
}

/// Where an event stands on the trace.
#[derive(Clone, Debug)]
pub struct TraceMark {
    commit: Arc<TracedCommit>,
    at: u32,
}

/// What is remembered of an event.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Remembered {
    /// When the commit with the event ended, in Unix milliseconds.
    pub durable_ms: i64,
    /// How often the event was handed to a session.
    pub sessions: u32,
}

/// The marks of one commit, in the order of its events.
#[derive(Debug)]
pub struct TraceMarks(Option<Arc<TracedCommit>>);

impl DeliveryTrace {
    /// `most` 0: nothing is remembered.
    pub fn new(most: usize) -> DeliveryTrace {
        DeliveryTrace { most, commits: Mutex::default() }
    }

    /// Adds a commit. `ids` grow, and lie behind those of every commit before.
    pub fn extend(&self, ids: impl Iterator<Item = EventId>, durable_ms: i64) -> TraceMarks {
        let events: Box<[TracedEvent]> = match self.most {
            0 => Box::default(),
            _ => ids.map(|id| TracedEvent { id, handed: AtomicU32::new(0) }).collect(),
        };
        if events.is_empty() {
            return TraceMarks(None);
        }
        let commit = Arc::new(TracedCommit { durable_ms, events });
        let mut known = self.commits.lock();
        known.events += commit.events.len();
        known.commits.push_back(commit.clone());
        while known.events > self.most && known.commits.len() > 1 {
            // there is a first one: there are two
            let Some(oldest) = known.commits.pop_front() else { break };
            known.events -= oldest.events.len();
        }
        TraceMarks(Some(commit))
    }

    /// What is remembered of an event; none when it is too old, or was appended before the server started.
    pub fn find(&self, id: EventId) -> Option<Remembered> {
        let mark = self.marks(std::iter::once(id)).pop()?;
        let event = &mark.commit.events[mark.at as usize];
        Some(Remembered { durable_ms: mark.commit.durable_ms, sessions: event.handed.load(Ordering::Relaxed) })
    }

    /// The marks of those of the events that are remembered. `ids` grow.
    pub fn marks(&self, ids: impl Iterator<Item = EventId>) -> Vec<TraceMark> {
        let known = self.commits.lock();
        let Some(oldest) = known.commits.front().map(|commit| commit.first()) else { return Vec::new() };
        let mut at = None;
        let mark = |id: EventId| {
            let mut commit = at.unwrap_or_else(|| known.commits.partition_point(|commit| commit.last() < id));
            while known.commits.get(commit)?.last() < id {
                commit += 1;
            }
            at = Some(commit);
            let commit = &known.commits[commit];
            let event = commit.events.binary_search_by_key(&id, |event| event.id).ok()?;
            Some(TraceMark { commit: commit.clone(), at: event as u32 })
        };
        ids.filter(|id| *id >= oldest).filter_map(mark).collect()
    }
}

impl TracedCommit {
    fn first(&self) -> EventId {
        self.events.first().map_or(EventId::ZERO, |event| event.id)
    }

    fn last(&self) -> EventId {
        self.events.last().map_or(EventId::ZERO, |event| event.id)
    }
}

impl TraceMarks {
    /// The mark of the commit's event number `at`.
    pub fn mark(&self, at: usize) -> Option<TraceMark> {
        self.0.clone().map(|commit| TraceMark { commit, at: at as u32 })
    }
}

impl TraceMark {
    /// Counts sessions that the event was handed to.
    pub fn handed(&self, sessions: u32) {
        self.commit.events[self.at as usize].handed.fetch_add(sessions, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn id(n: u64) -> EventId {
        EventId::at_time(n)
    }

    fn commit(trace: &DeliveryTrace, ids: std::ops::Range<u64>, durable_ms: i64) -> TraceMarks {
        trace.extend(ids.map(id), durable_ms)
    }

    #[test]
    fn what_is_counted_by_a_mark_is_found_by_the_id() {
        let trace = DeliveryTrace::new(100);
        let marks = commit(&trace, 10..13, 5);
        commit(&trace, 20..22, 6);
        marks.mark(1).expect("it is remembered").handed(7);
        for mark in trace.marks([9, 11, 15, 21, 30].into_iter().map(id)) {
            mark.handed(1);
        }
        let of = |n| trace.find(id(n)).map(|found| (found.durable_ms, found.sessions));
        assert_eq!((of(10), of(11), of(21)), (Some((5, 0)), Some((5, 8)), Some((6, 1))));
        assert_eq!((of(9), of(15), of(30)), (None, None, None));
    }

    #[test]
    fn the_oldest_commits_are_forgotten_and_the_newest_never_is() {
        let trace = DeliveryTrace::new(4);
        commit(&trace, 0..3, 1);
        commit(&trace, 3..5, 2);
        assert_eq!((trace.find(id(2)), trace.find(id(3)).is_some()), (None, true));
        commit(&trace, 5..15, 3);
        assert_eq!((trace.find(id(4)), trace.find(id(5)).is_some()), (None, true));
    }

    #[test]
    fn nothing_is_remembered_where_nothing_is_to_be() {
        let trace = DeliveryTrace::new(0);
        assert!(commit(&trace, 0..3, 1).mark(0).is_none());
        assert_eq!(trace.find(id(1)), None);
    }
}
