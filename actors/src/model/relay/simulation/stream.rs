//! The stream with its conditions, as NATS holds it: one write under way at a time, checked against what is there, and
//! whole or absent. Elections end what is under way in one way or the other.

use std::collections::{BTreeMap, BTreeSet};

use super::{Content, Key, START_MS};
use crate::model::id::EventId;
use crate::model::relay::{Body, Claim, ClaimAnswer, Commit, CommitAnswer, Receipt, TailMessage};

/// Which condition the stream does not look at, to see what it is for.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Unchecked {
    pub term: bool,
    pub head: bool,
}

/// What a node wants to append.
#[derive(Clone, Debug)]
pub(super) enum Write {
    Commit(Commit<Content>),
    Claim { previous: u64, claim: Claim },
}

/// What a node is told.
#[derive(Clone, Copy, Debug)]
pub(super) enum Told {
    Commit(u64, CommitAnswer),
    Claim(u64, ClaimAnswer),
}

/// A write that the leader has taken up.
#[derive(Clone, Debug)]
pub(super) struct Proposal {
    pub by: usize,
    pub life: u64,
    pub write: Write,
}

#[derive(Debug, Default)]
pub(super) struct Stream {
    /// Everything that was ever appended; the first has the sequence 1.
    pub log: Vec<TailMessage<Content>>,
    /// What was taken out again.
    pub removed: BTreeSet<u64>,
    pub has_leader: bool,
    pub is_full: bool,
    pub under_way: Option<Proposal>,
    /// The sequence of the newest term.
    pub term: u64,
    pub unchecked: Unchecked,
    /// Every event that was appended, as (request, place in it), with the sequence of its message.
    pub stored: BTreeMap<(u64, u16), u64>,
    /// Where the events of a key are.
    pub keys: BTreeMap<Key, (u64, Receipt)>,
    pub last_id: EventId,
}

impl Stream {
    pub fn end(&self) -> u64 {
        self.log.len() as u64
    }

    /// The process to which the newest term belongs.
    pub fn life(&self) -> Option<u64> {
        let newest = self.log.get(self.term.checked_sub(1)? as usize)?;
        match &newest.body {
            Body::Term(claim) => Some(claim.life),
            Body::Events(_) => None,
        }
    }

    pub fn message(&self, sequence: u64) -> Option<&TailMessage<Content>> {
        let is_there = sequence > 0 && !self.removed.contains(&sequence);
        is_there.then(|| self.log.get(sequence as usize - 1)).flatten()
    }

    /// The newest id up to a sequence.
    pub fn last_id(&self, through: u64) -> EventId {
        let ids = self.log[..through as usize].iter().rev().filter_map(|message| match &message.body {
            Body::Events(events) => Some(events.last_id),
            Body::Term(_) => None,
        });
        ids.into_iter().next().unwrap_or(EventId::ZERO)
    }

    /// Why the leader does not take the write up; none: it does.
    pub fn refuses(&self, write: &Write) -> Option<Told> {
        match write {
            Write::Commit(commit) => {
                let holds = (commit.head == self.end() || self.unchecked.head)
                    && (commit.term == self.term || self.unchecked.term);
                let is_bad = commit.messages.iter().any(|message| message.content.is_bad);
                let answer = match () {
                    () if self.under_way.is_some() => Some(CommitAnswer::Busy),
                    () if !holds => Some(CommitAnswer::Conflict),
                    () if is_bad => Some(CommitAnswer::Refused),
                    () if self.is_full => Some(CommitAnswer::Full),
                    () => None,
                };
                answer.map(|answer| Told::Commit(commit.number, answer))
            }
            Write::Claim { previous, claim } => {
                let answer = match () {
                    () if self.under_way.is_some() => Some(ClaimAnswer::Failed),
                    () if *previous != self.term => Some(ClaimAnswer::Conflict { last: Some(self.term) }),
                    () if self.is_full => Some(ClaimAnswer::Failed),
                    () => None,
                };
                answer.map(|answer| Told::Claim(claim.number, answer))
            }
        }
    }

    /// Appends what the leader has taken up, and holds it against what must be true of the stream.
    pub fn append(&mut self, now_ms: u64, write: &Write) -> Told {
        let time_ms = START_MS + now_ms;
        let push = |log: &mut Vec<_>, body| {
            let sequence = log.len() as u64 + 1;
            log.push(TailMessage { sequence, time_ms, body });
            sequence
        };
        match write {
            Write::Claim { claim, .. } => {
                self.term = push(&mut self.log, Body::Term(claim.clone()));
                Told::Claim(claim.number, ClaimAnswer::Stored { sequence: self.term })
            }
            Write::Commit(commit) => {
                for message in commit.messages.iter() {
                    assert_eq!(message.term, self.term, "a commit of an old term landed");
                    let sequence = push(&mut self.log, Body::Events(message.clone()));
                    for (event, id) in &message.content.events {
                        assert!(*id > self.last_id, "ids do not grow: {id} behind {}", self.last_id);
                        self.last_id = *id;
                        let before = self.stored.insert(*event, sequence);
                        assert!(before.is_none(), "the event {event:?} is stored twice");
                    }
                    for (key, receipt) in &message.content.keys {
                        let before = self.keys.insert(*key, (sequence, receipt.clone()));
                        assert!(before.is_none(), "the events of key {key} are stored twice");
                    }
                }
                Told::Commit(commit.number, CommitAnswer::Stored { last: self.end() })
            }
        }
    }
}
