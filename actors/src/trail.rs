//! The trail: what is remembered, in memory, of the newest events of the server for whoever asks what became of them:
//! when each became durable, and to how many sessions it was handed.
//!
//! The journal adds one [`Leg`] per commit. Frames carry a [`Mark`] into it, so whoever hands events to sessions counts
//! with one atomic addition per event and group of sessions, and looks nothing up. A restart forgets everything.

use std::collections::VecDeque;
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use crate::model::id::EventId;

#[derive(Debug, Default)]
pub struct Trail {
    /// Events that are remembered at most, save that a commit is remembered as a whole.
    most: usize,
    legs: Mutex<Legs>,
}

#[derive(Debug, Default)]
struct Legs {
    /// The oldest first.
    legs: VecDeque<Arc<Leg>>,
    events: usize,
}

/// The events of one commit.
#[derive(Debug)]
struct Leg {
    durable_ms: i64,
    steps: Box<[Step]>,
}

#[derive(Debug)]
struct Step {
    id: EventId,
    handed: AtomicU32,
}

/// Where an event stands on the trail.
#[derive(Clone, Debug)]
pub struct Mark {
    leg: Arc<Leg>,
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
pub struct Marks(Option<Arc<Leg>>);

impl Trail {
    /// `most` 0: nothing is remembered.
    pub fn new(most: usize) -> Trail {
        Trail { most, legs: Mutex::default() }
    }

    /// Adds a commit. `ids` grow, and lie behind those of every commit before.
    pub fn extend(&self, ids: impl Iterator<Item = EventId>, durable_ms: i64) -> Marks {
        let steps: Box<[Step]> = match self.most {
            0 => Box::default(),
            _ => ids.map(|id| Step { id, handed: AtomicU32::new(0) }).collect(),
        };
        if steps.is_empty() {
            return Marks(None);
        }
        let leg = Arc::new(Leg { durable_ms, steps });
        let mut known = self.legs.lock().unwrap_or_else(PoisonError::into_inner);
        known.events += leg.steps.len();
        known.legs.push_back(leg.clone());
        while known.events > self.most && known.legs.len() > 1 {
            // there is a first one: there are two
            let Some(oldest) = known.legs.pop_front() else { break };
            known.events -= oldest.steps.len();
        }
        Marks(Some(leg))
    }

    /// What is remembered of an event; none when it is too old, or was appended before the server started.
    pub fn find(&self, id: EventId) -> Option<Remembered> {
        let mark = self.marks(std::iter::once(id)).pop()?;
        let step = &mark.leg.steps[mark.at as usize];
        Some(Remembered { durable_ms: mark.leg.durable_ms, sessions: step.handed.load(Ordering::Relaxed) })
    }

    /// The marks of those of the events that are remembered. `ids` grow.
    pub fn marks(&self, ids: impl Iterator<Item = EventId>) -> Vec<Mark> {
        let known = self.legs.lock().unwrap_or_else(PoisonError::into_inner);
        let Some(oldest) = known.legs.front().map(|leg| leg.first()) else { return Vec::new() };
        let mut at = None;
        let mark = |id: EventId| {
            let mut leg = at.unwrap_or_else(|| known.legs.partition_point(|leg| leg.last() < id));
            while known.legs.get(leg)?.last() < id {
                leg += 1;
            }
            at = Some(leg);
            let leg = &known.legs[leg];
            let step = leg.steps.binary_search_by_key(&id, |step| step.id).ok()?;
            Some(Mark { leg: leg.clone(), at: step as u32 })
        };
        ids.filter(|id| *id >= oldest).filter_map(mark).collect()
    }
}

impl Leg {
    fn first(&self) -> EventId {
        self.steps.first().map_or(EventId::ZERO, |step| step.id)
    }

    fn last(&self) -> EventId {
        self.steps.last().map_or(EventId::ZERO, |step| step.id)
    }
}

impl Marks {
    /// The mark of the commit's event number `at`.
    pub fn mark(&self, at: usize) -> Option<Mark> {
        self.0.clone().map(|leg| Mark { leg, at: at as u32 })
    }
}

impl Mark {
    /// Counts sessions that the event was handed to.
    pub fn handed(&self, sessions: u32) {
        self.leg.steps[self.at as usize].handed.fetch_add(sessions, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn id(n: u64) -> EventId {
        EventId::at_time(n)
    }

    fn commit(trail: &Trail, ids: std::ops::Range<u64>, durable_ms: i64) -> Marks {
        trail.extend(ids.map(id), durable_ms)
    }

    #[test]
    fn what_is_counted_by_a_mark_is_found_by_the_id() {
        let trail = Trail::new(100);
        let marks = commit(&trail, 10..13, 5);
        commit(&trail, 20..22, 6);
        marks.mark(1).expect("it is remembered").handed(7);
        for mark in trail.marks([9, 11, 15, 21, 30].into_iter().map(id)) {
            mark.handed(1);
        }
        let of = |n| trail.find(id(n)).map(|found| (found.durable_ms, found.sessions));
        assert_eq!((of(10), of(11), of(21)), (Some((5, 0)), Some((5, 8)), Some((6, 1))));
        assert_eq!((of(9), of(15), of(30)), (None, None, None));
    }

    #[test]
    fn the_oldest_commits_are_forgotten_and_the_newest_never_is() {
        let trail = Trail::new(4);
        commit(&trail, 0..3, 1);
        commit(&trail, 3..5, 2);
        assert_eq!((trail.find(id(2)), trail.find(id(3)).is_some()), (None, true));
        commit(&trail, 5..15, 3);
        assert_eq!((trail.find(id(4)), trail.find(id(5)).is_some()), (None, true));
    }

    #[test]
    fn nothing_is_remembered_where_nothing_is_to_be() {
        let trail = Trail::new(0);
        assert!(commit(&trail, 0..3, 1).mark(0).is_none());
        assert_eq!(trail.find(id(1)), None);
    }
}
