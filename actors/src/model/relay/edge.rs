//! The requests that a node has got itself and not answered yet.

use std::collections::{BTreeMap, BTreeSet};

use super::protocol::{Outcome, Refusal, RelayLimits};
use super::rules::{Rule, keeps};
use super::wire::{Load, Receipt};

#[derive(Debug)]
pub(super) struct Edge<D> {
    /// By number. The answer's timeout is the same for all, so the first is also the first that is due.
    requests: BTreeMap<u64, Pending<D>>,
    load: Load,
    last_number: u64,
    /// (when to ask for it again, number).
    due: BTreeSet<(u64, u64)>,
    /// (sequence up to which the copy must hold the log, number).
    landed: BTreeSet<(u64, u64)>,
}

#[derive(Debug)]
pub(super) struct Pending<D> {
    pub ticket: u64,
    pub draft: D,
    pub load: Load,
    pub deadline_ms: u64,
    pub stage: Stage,
    /// The end of the stream, as far as it was heard of, when it was sent first: it landed behind that, if at all.
    sent_at: Option<u64>,
    /// It may have landed in a part of the stream that is lost. It must not be sent to another writer.
    is_doubtful: bool,
    due_ms: Option<u64>,
}

impl<D> Pending<D> {
    pub fn was_sent(&self) -> bool {
        self.sent_at.is_some()
    }
}

/// How far a request has come.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Stage {
    /// There is nobody to send it to.
    Waiting,
    /// Sent to the writer of this term.
    Sent { term: u64 },
    /// The writer of this term has queued it.
    Queued { term: u64 },
    /// It is in the log up to this sequence.
    Landed { through: u64, receipt: Receipt, repeated: bool },
}

impl Stage {
    fn term(&self) -> Option<u64> {
        match self {
            Stage::Sent { term } | Stage::Queued { term } => Some(*term),
            Stage::Waiting | Stage::Landed { .. } => None,
        }
    }
}

/// An answer that is to be given.
pub(super) type Answer = (u64, Outcome);

impl<D> Edge<D> {
    pub fn new() -> Edge<D> {
        Edge {
            requests: BTreeMap::new(),
            load: Load::default(),
            last_number: 0,
            due: BTreeSet::new(),
            landed: BTreeSet::new(),
        }
    }

    pub fn len(&self) -> usize {
        self.requests.len()
    }

    pub fn is_empty(&self) -> bool {
        self.requests.is_empty()
    }

    /// Whether something is not in the log yet.
    pub fn has_work(&self) -> bool {
        self.requests.len() > self.landed.len()
    }

    #[cfg(test)]
    pub fn load(&self) -> Load {
        self.load
    }

    /// Takes a request and gives it its number.
    ///
    /// # Errors
    /// Too much waits already.
    pub fn admit(
        &mut self,
        now_ms: u64,
        ticket: u64,
        load: Load,
        draft: D,
        limits: &RelayLimits,
    ) -> Result<u64, Refusal> {
        if !self.load.has_room(load, limits) {
            return Err(Refusal::QueueFull);
        }
        self.load.add(load);
        self.last_number += 1;
        let deadline_ms = now_ms + limits.answer_timeout_ms;
        let pending = Pending {
            ticket,
            draft,
            load,
            deadline_ms,
            stage: Stage::Waiting,
            sent_at: None,
            is_doubtful: false,
            due_ms: None,
        };
        self.requests.insert(self.last_number, pending);
        Ok(self.last_number)
    }

    pub fn get(&self, number: u64) -> Option<&Pending<D>> {
        self.requests.get(&number)
    }

    /// Every request with a lower number is answered.
    pub fn settled_below(&self) -> u64 {
        self.requests.first_key_value().map_or(self.last_number + 1, |(number, _)| *number)
    }

    /// Moves a request that is not in the log on; it is asked for again at `due_ms`.
    pub fn set(&mut self, number: u64, stage: Stage, due_ms: Option<u64>) {
        let Some(pending) = self.requests.get_mut(&number) else { return };
        if let Some(before) = pending.due_ms {
            self.due.remove(&(before, number));
        }
        pending.due_ms = due_ms;
        self.due.extend(due_ms.map(|due| (due, number)));
        pending.stage = stage;
    }

    /// A request is sent to a writer for the first time, or again. `heard`: how far the stream goes at least.
    pub fn sent(&mut self, number: u64, term: u64, heard: u64, due_ms: Option<u64>) {
        self.set(number, Stage::Sent { term }, due_ms);
        if let Some(pending) = self.requests.get_mut(&number) {
            pending.sent_at.get_or_insert(heard);
        }
    }

    /// A part of the stream up to here is lost, and with it what may have been said about requests.
    pub fn lost(&mut self, through: u64) {
        for pending in self.requests.values_mut() {
            pending.is_doubtful |= pending.sent_at.is_some_and(|end| end < through) && keeps(Rule::ResendWhatIsNotLost);
        }
    }

    /// A newer term has come: nothing that was sent and has not landed can land any more. Gives what is to be sent again.
    pub fn recall(&mut self) -> Vec<u64> {
        let is_open = |pending: &Pending<D>| !matches!(pending.stage, Stage::Landed { .. });
        let open = self.requests.iter().filter(|(_, pending)| is_open(pending));
        let open: Vec<(u64, bool)> = open.map(|(number, pending)| (*number, pending.is_doubtful)).collect();
        open.iter().for_each(|(number, _)| self.set(*number, Stage::Waiting, None));
        open.into_iter().filter(|(_, is_doubtful)| !is_doubtful).map(|(number, _)| number).collect()
    }

    /// Whether an answer of this term's writer about this request is to be heeded.
    pub fn awaits(&self, number: u64, term: u64) -> bool {
        self.get(number).is_some_and(|pending| pending.stage.term() == Some(term))
    }

    /// A request that is due to be asked for again at `now_ms`.
    pub fn pop_due(&mut self, now_ms: u64) -> Option<u64> {
        let (due_ms, number) = *self.due.first()?;
        if due_ms > now_ms {
            return None;
        }
        self.due.pop_first();
        if let Some(pending) = self.requests.get_mut(&number) {
            pending.due_ms = None;
        }
        Some(number)
    }

    /// When [`Edge::pop_due`] or [`Edge::expire`] has something next.
    pub fn wake_at_ms(&self) -> Option<u64> {
        let deadline = self.requests.first_key_value().map(|(_, pending)| pending.deadline_ms);
        self.due.first().map(|(due, _)| *due).into_iter().chain(deadline).min()
    }

    /// Removes a request that gets its answer.
    pub fn remove(&mut self, number: u64) -> Option<Pending<D>> {
        let pending = self.requests.remove(&number)?;
        self.load.subtract(pending.load);
        if let Some(due) = pending.due_ms {
            self.due.remove(&(due, number));
        }
        if let Stage::Landed { through, .. } = pending.stage {
            self.landed.remove(&(through, number));
        }
        Some(pending)
    }

    /// A request is in the log; it is answered when the copy reaches `through`.
    pub fn land(&mut self, number: u64, through: u64, receipt: Receipt, repeated: bool) {
        let Some(pending) = self.requests.get(&number) else { return };
        if matches!(pending.stage, Stage::Landed { .. }) {
            return;
        }
        self.set(number, Stage::Landed { through, receipt, repeated }, None);
        self.landed.insert((through, number));
    }

    /// Answers what the copy holds.
    pub fn answer_through(&mut self, applied: u64, answers: &mut Vec<Answer>) {
        while let Some((through, number)) = self.landed.first().copied() {
            if through > applied {
                break;
            }
            self.answer(number, answers);
        }
    }

    /// Answers what is past its deadline.
    pub fn expire(&mut self, now_ms: u64, answers: &mut Vec<Answer>) {
        if !keeps(Rule::AnswerInTime) {
            return;
        }
        while let Some((number, pending)) = self.requests.first_key_value() {
            if pending.deadline_ms > now_ms {
                break;
            }
            self.answer(*number, answers);
        }
    }

    fn answer(&mut self, number: u64, answers: &mut Vec<Answer>) {
        let Some(pending) = self.remove(number) else { return };
        let outcome = match pending.stage {
            Stage::Landed { receipt, repeated, .. } => Outcome::Stored { receipt, repeated },
            Stage::Waiting | Stage::Sent { .. } | Stage::Queued { .. } => Outcome::Unknown,
        };
        answers.push((pending.ticket, outcome));
    }
}

impl Load {
    /// Whether a queue that holds this much may take more. An empty one takes anything, so that what is larger than
    /// the queue is not refused for ever.
    pub(super) fn has_room(self, more: Load, limits: &RelayLimits) -> bool {
        let fits = self.events + more.events <= limits.queue_events && self.bytes + more.bytes <= limits.queue_bytes;
        self.events == 0 || fits || !keeps(Rule::QueuesAreBounded)
    }

    pub(super) fn add(&mut self, more: Load) {
        self.events += more.events;
        self.bytes += more.bytes;
    }

    pub(super) fn subtract(&mut self, less: Load) {
        self.events -= less.events;
        self.bytes -= less.bytes;
    }
}
