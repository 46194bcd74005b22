//! A worker for tests of what stands above the journal: it commits changes of documents when it is told to, or fails.

use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use super::plan::Plan;
use super::{Answer, AppendError, DocumentChanges, Journal, JournalLimits, Load, Order, Queue, Shown};
use crate::documents::{Change, Documents};

/// A request's answer, and where it goes.
type Answered = (Answer<()>, Result<(), AppendError>);

pub(crate) struct StandIn {
    queue: Queue,
    documents: Arc<Documents>,
    waiting: VecDeque<(DocumentChanges, Load, Answer<()>)>,
}

impl StandIn {
    pub fn new(limits: &JournalLimits, documents: Arc<Documents>) -> (Journal, StandIn) {
        let (journal, queue) = Journal::new(limits);
        (journal, StandIn { queue, documents, waiting: VecDeque::new() })
    }

    /// How many requests wait. Publishing is not stood in for.
    pub fn waiting(&mut self) -> usize {
        while let Ok(order) = self.queue.orders.try_recv() {
            match order {
                Order::Change(changes, load, answer) => self.waiting.push_back((changes, load, answer)),
                Order::Append(..) | Order::Snapshot(_) | Order::Wake | Order::Stop => {}
            }
        }
        self.waiting.len()
    }

    /// Makes the oldest `count` requests one commit; `applied` is called as the worker would. Returns its changes.
    pub fn commit(&mut self, count: usize, applied: impl FnOnce(&[Change])) -> Vec<Change> {
        let (plan, answers) = self.plan(count);
        if !plan.changes.is_empty() {
            self.documents.apply(&plan.changes, 0);
            applied(&plan.changes);
        }
        answers.into_iter().for_each(|(answer, result)| drop(answer.send(result)));
        plan.changes
    }

    /// The same, and the commit fails.
    pub fn fail(&mut self, count: usize) {
        let (plan, answers) = self.plan(count);
        if !plan.changes.is_empty() {
            self.move_epoch_on();
        }
        for (answer, result) in answers {
            drop(answer.send(result.and(Err(AppendError::Store("it is a test".into())))));
        }
    }

    /// As when something took effect that was not queued here: what was computed before is refused.
    pub fn move_epoch_on(&self) {
        self.shown().epoch.fetch_add(1, Ordering::AcqRel);
    }

    /// The disk is full from now on, or has room again.
    pub fn set_full(&self, is_full: bool) {
        self.shown().full.store(is_full, Ordering::Relaxed);
    }

    fn shown(&self) -> &Shown {
        &self.queue.shown
    }

    fn plan(&mut self, count: usize) -> (Plan, Vec<Answered>) {
        let count = count.min(self.waiting());
        let epoch = self.shown().epoch.load(Ordering::Acquire);
        let mut plan = Plan::default();
        let mut answers = Vec::new();
        for (request, load, answer) in self.waiting.drain(..count) {
            self.queue.shown.subtract(load);
            let result = match request.epoch {
                Some(computed_in) if computed_in != epoch => Err(AppendError::Conflict),
                _ if plan.change(&request, &self.documents) => Ok(()),
                _ => Err(AppendError::Gone),
            };
            answers.push((answer, result));
        }
        (plan, answers)
    }
}
